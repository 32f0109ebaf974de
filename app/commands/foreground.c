#include "app/commands/foreground.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "app/volume/volume.h"
#include "app/volume_name.h"
#include "app/worker/volume_server.h"
#include "platform/log.h"
#include "platform/notify.h"
#include "platform/process.h"

/* Everything of the words that can be wrong, before any secret is at hand. */
static enum status take_words(struct message_worker_start *start, const struct arguments *arguments,
			      const char *disk_path)
{
	const char *socket_path = arguments->values[OPTION_NBD];

	*start = (struct message_worker_start){
		.data_path = socket_path != NULL ? DATA_PATH_NBD_SOCKET : DATA_PATH_UBLK,
		.queue_count = arguments->config.queue_count,
		.allows_discards = arguments->config.allow_discards,
	};
	if (!message_text_set(start->disk_path, sizeof(start->disk_path), disk_path))
		return FAIL_DISK_ABSENT;
	if (socket_path != NULL &&
	    !message_text_set(start->socket_path, sizeof(start->socket_path), socket_path))
		return FAIL_NBD_SOCKET;
	return data_path_probe((enum data_path_kind)start->data_path);
}

static enum status unlock(struct message_worker_start *start, const struct arguments *arguments,
			  const void *passphrase, size_t passphrase_size)
{
	static struct volume volume;
	SECRET_SCOPE struct secret volume_key = {0};
	struct luks2_layout layout;
	const bool is_read_only = arguments->values[OPTION_READ_ONLY] != NULL;

	TRY(is_read_only ? volume_load_unrepaired(&volume, start->disk_path)
			 : volume_load(&volume, start->disk_path));
	TRY(volume_check_policy(&layout, &volume));
	TRY(volume_unlock(&volume_key, &volume, VOLUME_ANY_KEYSLOT, passphrase, passphrase_size));
	start->sector_size = layout.sector_size;
	start->data_offset_bytes = layout.data_offset_bytes;
	start->data_size_bytes = layout.data_size_bytes;
	start->first_unit = layout.first_unit;
	start->is_read_only = volume.is_read_only || is_read_only;
	/* The label is only what clients are shown; a disk that cryptsetup made may have none. */
	if (volume_name_check(volume.header.label) == OK)
		snprintf(start->name, sizeof(start->name), "%s", volume.header.label);
	CHECK(volume_key.size == sizeof(start->volume_key));
	memcpy(start->volume_key, volume_key.bytes, sizeof(start->volume_key));
	return OK;
}

static enum status wait_for_end(int signal_fd, const struct volume_server *server)
{
	struct pollfd polls[] = {
		{.fd = signal_fd, .events = POLLIN},
		{.fd = data_path_ended_fd(&server->path), .events = POLLIN},
	};

	while (poll(polls, ARRAY_COUNT(polls), -1) < 0)
		CHECK(errno == EINTR);
	return polls[0].revents != 0 ? OK : FAIL_SYSTEM;
}

enum status foreground_serve(struct arguments *arguments, const char *disk_path,
			     struct secret_memory *passphrase, size_t passphrase_size)
{
	static struct volume_server server;
	static struct message_worker_start start;
	enum status status, closed;
	int signal_fd;

	arguments_set_object(arguments, "%s", disk_path);
	TRY(take_words(&start, arguments, disk_path));
	TRY(process_catch_signals(&signal_fd, false));
	status = unlock(&start, arguments, passphrase->bytes, passphrase_size);
	secret_memory_close(passphrase);
	if (status == OK)
		status = volume_server_open(&server, &start);
	secret_wipe_bytes(start.volume_key, sizeof(start.volume_key));
	if (status == FAIL_NBD_SOCKET)
		arguments_set_object(arguments, "%s", start.socket_path);
	TRY(status);
	log_info("%s is unlocked: %s", disk_path, data_path_where(&server.path));
	notify_send("READY=1\nSTATUS=%s is unlocked", disk_path);
	status = wait_for_end(signal_fd, &server);
	notify_send("STOPPING=1");
	closed = volume_server_close(&server);
	close(signal_fd);
	return status != OK ? status : closed;
}

#include "app/worker/volume_server.h"

#include <stdio.h>
#include <string.h>

#include "platform/lockdown.h"

static enum status expand_key(struct volume_server *server,
			      const struct message_worker_start *start)
{
	struct aes_xts_key *key;

	TRY(secret_memory_open_hidden(&server->key_memory, sizeof(*key)));
	key = (struct aes_xts_key *)(void *)server->key_memory.bytes;
	return aes_xts_key_init(key, start->volume_key, start->sector_size);
}

/* Where an NBD socket will stand; NULL without one. */
static const char *folder_of(char folder[static MESSAGE_TEXT_SIZE], const char *socket_path)
{
	char *slash;

	if (socket_path[0] == '\0')
		return NULL;
	snprintf(folder, MESSAGE_TEXT_SIZE, "%s", socket_path);
	slash = strrchr(folder, '/');
	if (slash == NULL)
		return ".";
	slash[slash == folder ? 1 : 0] = '\0';
	return folder;
}

static enum status open_all(struct volume_server *server, const struct message_worker_start *start)
{
	char folder[MESSAGE_TEXT_SIZE];
	const enum data_path_kind kind = (enum data_path_kind)start->data_path;
	const struct data_path_options options = {
		.name = start->name,
		.uuid = start->uuid,
		.socket_path = start->socket_path,
		.queue_count = start->queue_count,
		.mark = start->mark,
		.volume_key = start->volume_key,
	};

	TRY(expand_key(server, start));
	TRY(backing_disk_open(&server->disk, start->disk_path,
			      data_path_disk_claim(kind, start->is_read_only != 0)));
	if (start->sector_size < server->disk.logical_block_size)
		return FAIL_DISK_GEOMETRY;
	if (start->data_offset_bytes + start->data_size_bytes > server->disk.size_bytes)
		return FAIL_SEGMENT_OUTSIDE;
	server->volume = (struct block_volume){
		.disk = &server->disk,
		.data_offset_bytes = start->data_offset_bytes,
		.size_bytes = start->data_size_bytes,
		.first_unit = start->first_unit,
		.cipher = {.encrypt = aes_xts_encrypt_opaque,
			   .decrypt = aes_xts_decrypt_opaque,
			   .key = server->key_memory.bytes,
			   .sector_size = start->sector_size},
		.is_read_only = start->is_read_only != 0,
		.allows_discard = start->allows_discards != 0,
	};
	TRY(data_path_prepare_process(&server->path, kind, &options, &server->volume));
	TRY(lockdown_disk_role(folder_of(folder, start->socket_path)));
	return data_path_open(&server->path, &options, &server->volume);
}

enum status volume_server_open(struct volume_server *server,
			       const struct message_worker_start *start)
{
	enum status status;

	*server = (struct volume_server){.disk = {.fd = -1}};
	status = open_all(server, start);
	/* A recovery that failed half way may have queues that go on until the process ends: they
	 * must keep the key and the disk. */
	if (status == OK || start->mark != 0)
		return status;
	/* Nothing was served, so there is nothing to lose in ending it. */
	if (volume_server_close(server) != OK)
		return status;
	return status;
}

enum status volume_server_close(struct volume_server *server)
{
	enum status status = data_path_close(&server->path);

	/* A path that did not end may still use key and disk: they then live until the process
	 * ends. */
	if (server->path.state != NULL)
		return status;
	secret_memory_close(&server->key_memory);
	backing_disk_close(&server->disk);
	return status;
}

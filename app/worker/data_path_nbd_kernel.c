/* The kernel's NBD client, on sockets that this process serves: for kernels without ublk, where
 * byok's own cipher is wished for. */
#include <stdio.h>
#include <stdlib.h>

#include "app/features.h"
#include "app/worker/data_path.h"
#include "app/worker/server_thread.h"
#include "io/nbd_kernel.h"
#include "io/ublk_process.h"

/* One connection. The kernel reads the answers of each in a work item that never ends, and while
 * memory or time is short it gives all of a device's items to one thread, which then only ever
 * comes to the first: answers to the others are not read (seen with 6.1). And a request that has
 * taken too long on one connection would be sent again over another, while the disk may still be at
 * it. */
#define CONNECTIONS 1

struct connected {
	struct nbd_kernel kernel;
	struct server_thread *thread; /* NULL before it serves */
	int fds[NBD_KERNEL_CONNECTIONS_MAX];
};

static enum status probe(void)
{
	struct nbd_kernel kernel;

	TRY(nbd_kernel_open(&kernel));
	nbd_kernel_close(&kernel);
	return OK;
}

static enum status begin(void **state, const struct data_path_options *options,
			 const struct block_volume *volume)
{
	struct connected *connected = calloc(1, sizeof(*connected));
	enum status status;

	(void)options;
	(void)volume;
	if (connected == NULL)
		return FAIL_OUT_OF_MEMORY;
	status = nbd_kernel_open(&connected->kernel);
	if (status == OK)
		*state = connected;
	else
		free(connected);
	return status;
}

static void reserve(unsigned queue_count)
{
	(void)queue_count;
	buffer_pool_reserve(feature_request_size_max_bytes(), feature_queue_depth(), 1);
}

static void make_identifier(char identifier[static NBD_KERNEL_IDENTIFIER_SIZE],
			    const struct data_path_options *options)
{
	snprintf(identifier, NBD_KERNEL_IDENTIFIER_SIZE, "byok-%.36s-%016llx", options->uuid,
		 (unsigned long long)options->mark);
}

static enum status remove_remains(const struct data_path_options *options)
{
	char identifier[NBD_KERNEL_IDENTIFIER_SIZE];

	make_identifier(identifier, options);
	return nbd_kernel_remove_remains(identifier);
}

static enum status open_device(void **state, const struct data_path_options *options,
			       const struct block_volume *volume)
{
	struct connected *connected = *state;
	char identifier[NBD_KERNEL_IDENTIFIER_SIZE];
	unsigned count = CONNECTIONS;

	make_identifier(identifier, options);
	TRY(nbd_kernel_connect(&connected->kernel,
			       &(struct nbd_kernel_volume){
				       .identifier = identifier,
				       .size_bytes = volume->size_bytes,
				       .sector_size = volume->cipher.sector_size,
				       .is_read_only = volume->is_read_only,
				       .is_rotational = volume->disk->is_rotational,
				       .has_write_cache = volume->disk->has_write_cache,
				       .can_trim = block_engine_can_discard(volume),
			       },
			       connected->fds, &count));
	/* If this fails, the device's users go on waiting, for the next process. */
	TRY(server_thread_start(&connected->thread,
				&(struct nbd_server_options){
					.export_name = options->name,
					.connected_fds = connected->fds,
					.connected_count = count,
					.connections_max = count,
					.queue_depth = feature_queue_depth(),
					.request_size_max = feature_request_size_max_bytes(),
				},
				volume));
	return nbd_kernel_limit_requests(&connected->kernel, feature_request_size_max_bytes());
}

/* The kernel says goodbye on every connection, and with the last of them the server ends. */
static enum status close_device(void **state)
{
	struct connected *connected = *state;
	enum status status = OK, served = OK;

	if (connected->thread != NULL) {
		status = nbd_kernel_disconnect(&connected->kernel);
		served = server_thread_stop(&connected->thread);
	}
	nbd_kernel_close(&connected->kernel);
	free(connected);
	*state = NULL;
	return status != OK ? status : served;
}

static const char *where(const void *state)
{
	return ((const struct connected *)state)->kernel.path;
}

static int ended_fd(const void *state)
{
	return server_thread_ended_fd(((const struct connected *)state)->thread);
}

static bool is_in_use(const void *state)
{
	return nbd_kernel_is_in_use(&((const struct connected *)state)->kernel);
}

const struct data_path_calls data_path_nbd_kernel = {
	.kind = DATA_PATH_NBD_KERNEL,
	.probe = probe,
	.reserve = reserve,
	.prepare_process = ublk_process_prepare,
	.begin = begin,
	.open = open_device,
	.close = close_device,
	.where = where,
	.ended_fd = ended_fd,
	.is_in_use = is_in_use,
	.remove_remains = remove_remains,
};

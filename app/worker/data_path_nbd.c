/* NBD on a unix socket: for any kernel and any NBD client. */
#include <stdlib.h>

#include "app/features.h"
#include "app/worker/data_path.h"
#include "app/worker/server_thread.h"

#define CONNECTIONS_MAX 16

/* Clients may ask for more at once than the block layer does, and not all heed the limit that they
 * are told: 1 MiB is what copying programs like. */
#define REQUEST_SIZE_LEAST (1024 * 1024)

struct served {
	struct server_thread *thread;
	const char *socket_path;
};

static enum status probe(void)
{
	return OK;
}

static uint32_t buffer_size(void)
{
	return MAXIMUM(feature_request_size_max_bytes(), REQUEST_SIZE_LEAST);
}

static void reserve(unsigned queue_count)
{
	(void)queue_count;
	buffer_pool_reserve(buffer_size(), feature_queue_depth(), 1);
}

static enum status prepare_process(void)
{
	return OK;
}

static enum status open_server(void **state, const struct data_path_options *options,
			       const struct block_volume *volume)
{
	struct served *served = calloc(1, sizeof(*served));
	enum status status;

	if (served == NULL)
		return FAIL_OUT_OF_MEMORY;
	served->socket_path = options->socket_path;
	status = server_thread_start(&served->thread,
				     &(struct nbd_server_options){
					     .socket_path = options->socket_path,
					     .export_name = options->name,
					     .connections_max = CONNECTIONS_MAX,
					     .queue_depth = feature_queue_depth(),
					     .request_size_max = buffer_size(),
				     },
				     volume);
	if (status != OK) {
		free(served);
		return status;
	}
	*state = served;
	return OK;
}

static enum status close_server(void **state)
{
	struct served *served = *state;
	enum status status = server_thread_stop(&served->thread);

	free(served);
	*state = NULL;
	return status;
}

static const char *where(const void *state)
{
	return ((const struct served *)state)->socket_path;
}

static int ended_fd(const void *state)
{
	return server_thread_ended_fd(((const struct served *)state)->thread);
}

/* A client that is told of the end reconnects or gives up; the socket itself holds nothing. */
static bool is_in_use(const void *state)
{
	(void)state;
	return false;
}

const struct data_path_calls data_path_nbd = {
	.kind = DATA_PATH_NBD_SOCKET,
	.probe = probe,
	.reserve = reserve,
	.prepare_process = prepare_process,
	.open = open_server,
	.close = close_server,
	.where = where,
	.ended_fd = ended_fd,
	.is_in_use = is_in_use,
};

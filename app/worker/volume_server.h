/* Serves one unlocked volume from this process: claims the disk, expands the key into secret
 * memory, joins the cipher of crypto/ to the engine of io/, and opens the data path. Used by the
 * worker, and by commands that serve in the foreground. */
#ifndef APP_WORKER_VOLUME_SERVER_H
#define APP_WORKER_VOLUME_SERVER_H

#include "app/worker/data_path.h"
#include "crypto/aes_xts.h"

struct volume_server {
	struct backing_disk disk;
	struct block_volume volume;
	struct secret_memory key_memory;
	struct data_path path;
};

/* Keeps `server` and the strings of `start`; copies the volume key, which the caller wipes. Locks
 * the process down as a disk role on the way. After a failure a process that had a mark must end,
 * and the kernel clears what it holds. */
MUST_CHECK enum status volume_server_open(struct volume_server *server,
					  const struct message_worker_start *start);

/* Finishes what is under way, flushes, wipes the key. FAIL_DISK_IO if the flush fails. */
MUST_CHECK enum status volume_server_close(struct volume_server *server);

#endif

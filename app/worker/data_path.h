/* How a decrypted volume reaches its users, behind one interface: a block device through ublk, the
 * kernel's dm-crypt or its NBD client, or NBD on a unix socket. Each has a file of its own and a
 * row in the table; features that are off have none. The same disk can be served by any of them,
 * one after the other.
 */
#ifndef APP_WORKER_DATA_PATH_H
#define APP_WORKER_DATA_PATH_H

#include "app/config.h"
#include "app/messages.h"
#include "io/block_engine.h"

struct data_path_options {
	const char *name;
	const char *uuid;          /* of the volume */
	const char *socket_path;   /* of an NBD socket */
	unsigned queue_count;      /* 0: one per CPU */
	uint64_t mark;             /* finds what a process that died left; 0 if nobody will */
	const uint8_t *volume_key; /* 64 bytes, read by data_path_prepare_process only */
};

/* A path in use. Only for the files that implement one, and through the calls below. */
struct data_path {
	const struct data_path_calls *calls;
	void *state; /* the implementation's */
};

struct data_path_calls {
	enum data_path_kind kind;
	/* Whether this machine can, told before anything is begun. */
	enum status (*probe)(void);
	/* When only the count of queues is known: takes their buffers; NULL: it has none. */
	void (*reserve)(unsigned queue_count);
	/* When the disk is open, before the process has threads, rings or a lockdown. */
	enum status (*prepare_process)(void);
	/* At the same time, what only a process with all its rights can do; NULL: nothing. */
	enum status (*begin)(void **state, const struct data_path_options *options,
			     const struct block_volume *volume);
	/* Serves, from here on. */
	enum status (*open)(void **state, const struct data_path_options *options,
			    const struct block_volume *volume);
	enum status (*close)(void **state);
	const char *(*where)(const void *state);
	int (*ended_fd)(const void *state); /* -1: it never ends by itself */
	bool (*is_in_use)(const void *state);

	/* Of a path whose device outlives the process, if it had a mark: its users wait until
	 * another process opens it with the same mark. Else NULL. */
	enum status (*remove_remains)(const struct data_path_options *options);
};

extern const struct data_path_calls data_path_ublk;
extern const struct data_path_calls data_path_dm_crypt;
extern const struct data_path_calls data_path_nbd_kernel;
extern const struct data_path_calls data_path_nbd;

/* The path that the settings ask for; "auto" is the first that this kernel has of ublk, dm-crypt
 * and the kernel's NBD client (ublk if it has none of them). May load drivers. */
enum data_path_kind data_path_choose(const struct config *config);

const char *data_path_word(enum data_path_kind kind); /* as the setting calls it: "dm-crypt" */

/* FAIL_FEATURE_OFF, FAIL_NOT_ROOT, FAIL_UBLK_ABSENT, FAIL_DM_CRYPT_ABSENT, FAIL_NBD_KERNEL_ABSENT,
 * FAIL_IO_URING_ABSENT. */
MUST_CHECK enum status data_path_probe(enum data_path_kind kind);

/* For a service, once, at its start: probes the path that the settings ask for, and says in the log
 * when "auto" is another one than ublk. */
MUST_CHECK enum status data_path_settle(const struct config *config);

/* How the disk is to be opened: where the kernel serves, the kernel claims it. */
enum backing_disk_claim data_path_disk_claim(enum data_path_kind kind, bool is_read_only);

/* May be called before all others, by a process that has time: takes the buffers that
 * data_path_open needs. */
void data_path_reserve(enum data_path_kind kind, unsigned queue_count);

/* Call data_path_prepare_process before lockdown, data_path_open after it, and data_path_close even
 * if they failed. `volume` and the options' strings are kept until the close. FAIL_FEATURE_OFF,
 * and the failures of ublk_device_start, dm_crypt_open, nbd_kernel_open or nbd_server_open. */
MUST_CHECK enum status data_path_prepare_process(struct data_path *path, enum data_path_kind kind,
						 const struct data_path_options *options,
						 const struct block_volume *volume);
MUST_CHECK enum status data_path_open(struct data_path *path,
				      const struct data_path_options *options,
				      const struct block_volume *volume);

/* Finishes the requests under way and flushes the disk. Harmless if it was never prepared. */
MUST_CHECK enum status data_path_close(struct data_path *path);

const char *data_path_where(const struct data_path *path); /* "/dev/ublkb0" or the socket's path */
int data_path_ended_fd(const struct data_path *path);      /* readable: it has ended by itself */
bool data_path_is_in_use(const struct data_path *path);

/* Whether the users of such a path wait, rather than get errors, between two processes. */
bool data_path_outlives_process(enum data_path_kind kind);

/* Removes what a process that died left with that mark, if anything: its users get errors.
 * FAIL_NAME_TAKEN if the process lives. */
MUST_CHECK enum status data_path_remove_remains(enum data_path_kind kind,
						const struct data_path_options *options);

#endif

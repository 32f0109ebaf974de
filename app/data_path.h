/* How a decrypted volume reaches its users, behind one interface: a ublk block device, or NBD on a
 * unix socket. Each has a file of its own and a row in the table; features that are off have none.
 */
#ifndef APP_DATA_PATH_H
#define APP_DATA_PATH_H

#include "app/config.h"
#include "app/messages.h"
#include "io/block_engine.h"

struct data_path_options {
	const char *name;
	const char *socket_path; /* of an NBD socket */
	unsigned queue_count;    /* 0: one per CPU */
	uint64_t mark;           /* finds what a process that died left; 0 if nobody will */
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
	/* When the disk is open, before the process has threads, rings or a lockdown. */
	enum status (*prepare_process)(void);
	enum status (*open)(void **state, const struct data_path_options *options,
			    const struct block_volume *volume);
	enum status (*close)(void **state);
	const char *(*where)(const void *state);
	int (*ended_fd)(const void *state);
	bool (*is_in_use)(const void *state);

	/* Of a path whose device outlives the process, if it had a mark: its users wait until
	 * another process opens it with the same mark. Else NULL. */
	enum status (*remove_remains)(uint64_t mark);
};

extern const struct data_path_calls data_path_ublk;
extern const struct data_path_calls data_path_nbd;

/* The path that the settings ask for; "auto" is ublk. */
enum data_path_kind data_path_choose(const struct config *config);

/* FAIL_FEATURE_OFF, FAIL_UBLK_ABSENT, FAIL_IO_URING_ABSENT, FAIL_NOT_ROOT. */
MUST_CHECK enum status data_path_probe(enum data_path_kind kind);

/* Call data_path_prepare_process first. `volume` and the options' strings are kept until the close;
 * FAIL_FEATURE_OFF, and the failures of ublk_device_start or nbd_server_open. */
MUST_CHECK enum status data_path_prepare_process(enum data_path_kind kind);
MUST_CHECK enum status data_path_open(struct data_path *path, enum data_path_kind kind,
				      const struct data_path_options *options,
				      const struct block_volume *volume);

/* Finishes the requests under way and flushes the disk. Harmless if it failed to open. */
MUST_CHECK enum status data_path_close(struct data_path *path);

const char *data_path_where(const struct data_path *path); /* "/dev/ublkb0" or the socket's path */
int data_path_ended_fd(const struct data_path *path);      /* readable: it has ended by itself */
bool data_path_is_in_use(const struct data_path *path);

/* Whether the users of such a path wait, rather than get errors, between two processes. */
bool data_path_outlives_process(enum data_path_kind kind);

/* Removes what a process that died left with that mark, if anything: its users get errors.
 * FAIL_NAME_TAKEN if the process lives. */
MUST_CHECK enum status data_path_remove_remains(enum data_path_kind kind, uint64_t mark);

#endif

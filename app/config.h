/* The settings: /etc/byok/byok.conf, lines of "key = value", each key also a flag
 * (--vault-connect-to for vault_connect_to) that wins over the file. Nothing secret is ever a
 * setting. */
#ifndef APP_CONFIG_H
#define APP_CONFIG_H

#include "platform/log.h"
#include "platform/status.h"

#define CONFIG_FILE_DEFAULT "/etc/byok/byok.conf"
#define CONFIG_TEXT_SIZE 256

enum config_data_path {
	CONFIG_DATA_PATH_AUTO,
	CONFIG_DATA_PATH_UBLK,
	CONFIG_DATA_PATH_DM_CRYPT,
	CONFIG_DATA_PATH_NBD_KERNEL,
	CONFIG_DATA_PATH_NBD
};

struct config {
	char key[CONFIG_TEXT_SIZE];                  /* key URL that format and check use */
	char identity[CONFIG_TEXT_SIZE];             /* client id of the managed identity */
	char federated_token_file[CONFIG_TEXT_SIZE]; /* empty: managed identity */
	char tenant[CONFIG_TEXT_SIZE];               /* a GUID; for the federated token */
	char authority_host[CONFIG_TEXT_SIZE];       /* https://HOST; empty: the vault's cloud's */
	char ca_file[CONFIG_TEXT_SIZE];              /* empty: the built-in roots */
	char imds_endpoint[CONFIG_TEXT_SIZE];        /* http://ADDRESS[:PORT] */
	char vault_connect_to[CONFIG_TEXT_SIZE];     /* HOST:PORT; empty: the vault's own name */
	char proxy[CONFIG_TEXT_SIZE];                /* http://HOST:PORT; empty: none */
	char run_directory[CONFIG_TEXT_SIZE];
	char agent_user[CONFIG_TEXT_SIZE];
	uint32_t require_key;      /* serve no disk that is under another key than `key` */
	uint32_t expected_volumes; /* not ready before as many are served */
	uint32_t fleet_size;       /* machines that share the vault */
	uint32_t data_path;        /* enum config_data_path */
	uint32_t allow_discards;   /* what a file system does not use is given back to the disk */
	uint32_t queue_count;      /* of each volume; 0: one per CPU, up to the build's limit */
	uint32_t attempt_timeout_s;
	uint32_t operation_deadline_s;
	uint32_t retry_cap_s;       /* longest wait between two tries to get a key */
	uint32_t probe_interval_s;  /* from one look at a key that is well to the next */
	uint32_t probe_retry_s;     /* and at one that is not */
	uint32_t follow_interval_s; /* from one question for the newest version to the next */
	uint32_t lock_after_s;      /* on_key_loss: how long a key is lost first; 0: never */
	char on_key_change[CONFIG_TEXT_SIZE];    /* a program to run; empty: none */
	char backup_directory[CONFIG_TEXT_SIZE]; /* for copies of headers; "none": no copies */
	uint32_t log_priority;                   /* enum log_priority */
	char provision_disks[CONFIG_TEXT_SIZE];  /* a path with one '*'; empty: none */
	char provision_name[CONFIG_TEXT_SIZE];   /* a name with one '*' */
	uint32_t provision_size_min_gib;
	uint32_t provision_size_max_gib; /* 0: no limit */
	uint32_t provision_check;        /* enum disk_blank_care */
	uint32_t user_data;              /* it may say what file and command line do not */

	uint64_t given; /* by file or command line: bits, in the order of the table */
};

void config_init(struct config *config); /* the defaults */

/* Reads the file over what is there. A file that is not there is fine if `path` is the default one.
 * FAIL_CONFIG is logged with the line's number. */
MUST_CHECK enum status config_load(struct config *config, const char *path);

/* Sets one key by its name; dashes count as underscores. FAIL_CONFIG (logged) for an unknown key or
 * a value that it cannot have. */
MUST_CHECK enum status config_set(struct config *config, const char *key, const char *value);

MUST_CHECK bool config_has_key(const char *key);

/* Whether file or command line have set it. */
MUST_CHECK bool config_is_given(const struct config *config, const char *key);

/* Takes what the VM's user data says, lines of "key = value", and forgets what it said before. Only
 * some settings may come from there, and file and command line win over it. FAIL_CONFIG (logged
 * without the text, which may be anybody's), and then nothing is changed. */
#define CONFIG_USER_DATA_SIZE 2048
MUST_CHECK enum status config_take_user_data(struct config *config, const char *text);

/* The same with what `byok provision` has kept in the run directory since the machine's start, if
 * the setting user_data is on. */
#define CONFIG_USER_DATA_FILE "user-data"
MUST_CHECK enum status config_load_user_data(struct config *config);

/* For help: calls `say` with each key, what it takes, and what it is for. */
void config_describe(void (*say)(const char *key, const char *takes, const char *purpose));

#endif

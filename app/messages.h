/* What the roles say to each other over SOCK_SEQPACKET socketpairs: one packet is one message, of a
 * fixed size that its type determines. Every message is checked as if it came from an enemy: the
 * vault agent may be taken over by what it parses, and must gain nothing by that.
 *
 *   supervisor -> vault agent    AGENT_CONFIGURE once, then any number of AGENT_REQUESTs, each
 *                                answered by one AGENT_ANSWER with the same id, in any order
 *   supervisor -> worker         WORKER_PREPARE at most once; WORKER_START once -> WORKER_STATE...;
 * WORKER_STOP -> WORKER_STATE; WORKER_LEAVE -> its end. A supervisor that did not start it begins
 *                                with HANDOVER_REQUEST -> HANDOVER
 *   byok command -> supervisor   CONTROL_REQUEST -> CONTROL_VOLUME... -> CONTROL_DONE
 */
#ifndef APP_MESSAGES_H
#define APP_MESSAGES_H

#include "platform/secret.h"

#define MESSAGE_VERSION 1

/* A supervisor and a worker may be of binaries of different age. MESSAGE_VERSION, the header,
 * HANDOVER_REQUEST and the place of `version` in HANDOVER are for ever; so are all numbers of enums
 * here. Whoever has to change anything else that the two say to each other raises this, and the
 * worker of the other version is left alone. */
#define HANDOVER_VERSION 0
#define MESSAGE_TEXT_SIZE 256 /* a path, name or URL with its NUL */
#define MESSAGE_WORKER_PATH_SIZE 108
#define MESSAGE_SETTINGS_SIZE 2048
#define MESSAGE_WRAPPED_SIZE 704 /* base64url of 512 bytes (RSA-4096) is 683 */

enum message_type {
	MESSAGE_AGENT_CONFIGURE = 1,
	MESSAGE_AGENT_REQUEST,
	MESSAGE_AGENT_ANSWER,
	MESSAGE_WORKER_START,
	MESSAGE_WORKER_STOP,
	MESSAGE_WORKER_STATE,
	MESSAGE_CONTROL_REQUEST,
	MESSAGE_CONTROL_VOLUME,
	MESSAGE_CONTROL_DONE,
	MESSAGE_HANDOVER_REQUEST,
	MESSAGE_HANDOVER,
	MESSAGE_WORKER_LEAVE,
	MESSAGE_WORKER_PREPARE,
	MESSAGE_TYPES
};

struct message_header {
	uint32_t version;
	uint32_t type; /* enum message_type */
	uint32_t size; /* of the whole message, this header included */
	uint32_t id;   /* of a request and its answer; 0 where there is no pair */
};

struct message_agent_configure {
	struct message_header header;
	char imds_endpoint[MESSAGE_TEXT_SIZE];
	char vault_connect_to[MESSAGE_TEXT_SIZE]; /* HOST:PORT, or empty */
	char ca_file[MESSAGE_TEXT_SIZE];          /* a PEM file, or empty for the built-in roots */
	char proxy[MESSAGE_TEXT_SIZE];            /* http://HOST:PORT, or empty */
	char federated_token_file[MESSAGE_TEXT_SIZE]; /* empty: managed identity */
	char tenant[MESSAGE_TEXT_SIZE];
	char authority_host[MESSAGE_TEXT_SIZE]; /* https://HOST, or empty */
	uint32_t attempt_timeout_ms;
	uint32_t operation_deadline_ms; /* for one request, retries included */
	uint32_t connection_count; /* requests worked on at a time; at most the build's limit */
};

enum agent_operation {
	AGENT_GET_KEY = 1,
	AGENT_WRAP,
	AGENT_UNWRAP,
	AGENT_TOKEN,
	AGENT_USER_DATA,
	AGENT_OPERATIONS
};

struct message_agent_request {
	struct message_header header;
	uint32_t operation;                /* enum agent_operation */
	char client_id[MESSAGE_TEXT_SIZE]; /* of the managed identity; empty: the VM's only one */
	char key_url[MESSAGE_TEXT_SIZE];
	char algorithm[32];
	char wrapped[MESSAGE_WRAPPED_SIZE]; /* UNWRAP: base64url */
	uint8_t secret[32];                 /* WRAP: the slot secret */
	uint32_t secret_size;
};

/* GET_KEY fills the attributes, WRAP `kid` and `wrapped`, UNWRAP the secret, USER_DATA what of the
 * VM's user data is for byok, as lines. On failure `status`
 * says what, `detail` what the other side said (printable text, no secret), and the rest is empty.
 */
struct message_agent_answer {
	struct message_header header;
	uint32_t status; /* enum status */
	uint32_t operation;
	char detail[MESSAGE_TEXT_SIZE];
	char kid[MESSAGE_TEXT_SIZE]; /* of the version that was used */
	char wrapped[MESSAGE_WRAPPED_SIZE];
	uint8_t secret[32];
	uint32_t secret_size;
	uint32_t key_bits;
	int64_t not_before_s; /* 0: none */
	int64_t expires_s;    /* 0: none */
	uint32_t enabled;
	uint32_t has_expired; /* by this machine's clock: unwraps still, must not wrap */
	uint32_t retry_after_ms;
	uint32_t attempts;  /* made at the vault and IMDS */
	uint32_t waited_ms; /* of the operation, spent waiting for answers of others */
	char settings[MESSAGE_SETTINGS_SIZE]; /* anybody's text */
};

enum data_path_kind {
	DATA_PATH_UBLK = 1,
	DATA_PATH_NBD_SOCKET,
	DATA_PATH_DM_CRYPT,
	DATA_PATH_NBD_KERNEL,
	DATA_PATH_KINDS
};

enum worker_purpose {
	WORKER_SERVES,
	WORKER_REMOVES_REMAINS, /* of a device whose worker died, and ends */
	WORKER_PURPOSES
};

/* Also WORKER_PREPARE, which says what is known while there is no key yet: the data path and its
 * queues. Lives in secret memory at both ends. Comes as it is from a worker of an older or newer
 * binary, in a HANDOVER: a new field takes room from `reserved`, and 0 must mean what was before
 * it; else raise HANDOVER_VERSION. */
struct message_worker_start {
	struct message_header header;
	char disk_path[MESSAGE_TEXT_SIZE];
	char name[64];
	char socket_path[MESSAGE_TEXT_SIZE]; /* NBD_SOCKET only */
	uint32_t data_path;                  /* enum data_path_kind */
	uint32_t sector_size;
	uint64_t data_offset_bytes;
	uint64_t data_size_bytes;
	uint64_t first_unit; /* iv_tweak */
	uint32_t is_read_only;
	uint32_t queue_count; /* 0: as many as CPUs, up to the build's limit */
	uint8_t volume_key[64];
	uint32_t purpose;                           /* enum worker_purpose */
	char worker_path[MESSAGE_WORKER_PATH_SIZE]; /* where the worker can be found */
	char uuid[40];                              /* of the disk */
	uint64_t mark;                              /* by which its device is found */
	uint32_t allows_discards;
	uint8_t reserved[244];
};

enum worker_state {
	WORKER_STARTING = 1,
	WORKER_SERVING,
	WORKER_STOPPED,
	WORKER_FAILED,
	WORKER_STATES
};

struct message_worker_stop {
	struct message_header header;
	uint32_t force; /* also while the device is open */
};

/* To end without a word to the device's users, who wait for the next worker. */
struct message_worker_leave {
	struct message_header header;
	uint32_t reserved;
};

struct message_worker_state {
	struct message_header header;
	uint32_t state;       /* enum worker_state */
	uint32_t status;      /* enum status */
	char device_path[64]; /* "/dev/ublkb0" once SERVING a block device */
};

struct message_handover_request {
	struct message_header header;
	uint32_t reserved;
};

/* Which file a process was started from. */
struct program_identity {
	uint64_t device;
	uint64_t inode;
	uint64_t changed_ns; /* since 1970 */
};

/* Everything by which another worker can be put in this one's place. */
struct message_handover {
	struct message_header header;
	uint32_t state; /* enum worker_state */
	char device_path[64];
	uint32_t version; /* HANDOVER_VERSION of the worker */
	struct program_identity program;
	struct message_worker_start start;
};

enum control_operation {
	CONTROL_STATUS = 1,
	CONTROL_LOCK,
	CONTROL_RECOVER,
	CONTROL_LOOK, /* at headers and keys, now: somebody has changed them */
	CONTROL_OPERATIONS
};

struct message_control_request {
	struct message_header header;
	uint32_t operation;             /* enum control_operation */
	char target[MESSAGE_TEXT_SIZE]; /* a name or disk; empty: all */
	uint32_t force;
	char uuid[40];          /* RECOVER: of the disk that the key was proved on */
	uint8_t volume_key[64]; /* RECOVER */
};

struct message_control_volume {
	struct message_header header;
	char name[64];
	char uuid[40];
	char disk_path[MESSAGE_TEXT_SIZE];
	char device_path[64]; /* "/dev/byok/NAME" while serving */
	char kid[MESSAGE_TEXT_SIZE];
	uint32_t state;  /* enum volume_state */
	uint32_t status; /* the cause of the state; enum status */
	char detail[MESSAGE_TEXT_SIZE];
	uint32_t worker_pid;  /* 0: none */
	uint64_t since_ms;    /* in this state */
	uint64_t next_try_ms; /* from now; 0: none planned */
	uint32_t key_state;   /* enum key_state */
	uint32_t key_status;  /* what the last look at the key came to */
	char key_detail[MESSAGE_TEXT_SIZE];
	uint64_t key_since_ms;    /* in this state */
	uint64_t key_proved_ms;   /* since the last good look; UINT64_MAX: none yet */
	uint32_t rotation_status; /* why the newest version is not taken */
	uint32_t is_rotating;     /* an older wrapping is still beside the present one */
};

struct message_control_done {
	struct message_header header;
	uint32_t status; /* enum status */
	uint32_t supervisor_pid;
	uint32_t agent_pid;
	uint32_t volume_count;
	char detail[MESSAGE_TEXT_SIZE];
	char followed[MESSAGE_TEXT_SIZE]; /* the key whose newest version is followed; or empty */
	char newest[MESSAGE_TEXT_SIZE];   /* that version, if it is known and can be used */
	uint32_t follow_status;           /* why not */
};

/* The size that a message of that type must have; 0 for a type that does not exist. */
size_t message_size(enum message_type type);

/* Sends one message, filling in version, type, size and id of its header. FAIL_ROLE_DIED if the
 * other end is gone. Blocks while the other end's queue is full. */
MUST_CHECK enum status message_send(int fd, enum message_type type, uint32_t id, void *message);

/* Receives one message of any type into `message` (of `message_size_max` bytes, as large as the
 * largest type that this end accepts). FAIL_ROLE_DIED at the end of the stream, FAIL_MESSAGE if
 * version, type or size do not agree with each other; every char array is then known to end with a
 * NUL only where message_text_is_valid says so. */
MUST_CHECK enum status message_receive(int fd, struct message_header *message,
				       size_t message_size_max);

/* What a worker can be started with; whether it makes sense for the disk, the worker finds out. */
MUST_CHECK bool message_start_is_valid(const struct message_worker_start *start);

/* Copies a text into a message's char array. False if it does not fit or is not printable ASCII. */
MUST_CHECK bool message_text_set(char *target, size_t size, const char *text);

/* True if the array holds a NUL and nothing but printable ASCII before it. */
MUST_CHECK bool message_text_is_valid(const char *text, size_t size);

#endif

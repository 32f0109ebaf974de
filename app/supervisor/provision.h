/* Which blank disks of this machine become volumes by themselves, and under which names. Knows
 * nothing of the vault. Only reads, until provision_format.
 *
 * The rule is in the settings: provision_disks is a path whose last part has one '*', which stands
 * for letters and digits and gives the '*' of provision_name. What is a volume of byok already
 * stays as it is, and what is not proved to be blank is left alone, so it can be done again and
 * again; a format that was cut short is one of a disk that was blank. */
#ifndef APP_SUPERVISOR_PROVISION_H
#define APP_SUPERVISOR_PROVISION_H

#include "app/config.h"
#include "app/volume/volume.h"

#define PROVISION_DISKS_MAX 64

enum provision_state {
	PROVISION_PASSED_OVER, /* the rule is not for it; `detail` says why */
	PROVISION_KEPT,        /* a volume under a vault's key, of whatever name */
	PROVISION_LEFT_ALONE,  /* `status` and `detail` say why */
	PROVISION_BLANK,       /* to be formatted */
	PROVISION_FORMATTED,
	PROVISION_STATES
};

struct provision_disk {
	char path[VOLUME_PATH_SIZE];
	char name[VOLUME_NAME_SIZE];
	uint64_t place[2]; /* tells it from others */
	uint64_t size_bytes;
	enum provision_state state;
	enum status status;
	char detail[256];
};

struct provision_list {
	struct provision_disk disks[PROVISION_DISKS_MAX]; /* in the order of their paths */
	size_t count;
	size_t blank_count;
};

/* Looks at every disk that provision_disks names; those that may be blank are read at once, each by
 * a thread of its own, with a bar on a terminal. FAIL_CONFIG (logged) for a rule that is none. */
MUST_CHECK enum status provision_find(struct provision_list *list, const struct config *config);

/* Makes a volume of a blank disk and opens it once, as an unlock will. The disk is claimed, and
 * looked at once more before anything is written: FAIL_DISK_NOT_BLANK, and the failures of
 * volume_create and volume_unlock. Brings state, status and detail up to date. */
void provision_format(struct provision_disk *disk, const struct vault_token *token,
		      const struct secret *passphrase);

const char *provision_state_word(enum provision_state state); /* "left alone" */

#endif

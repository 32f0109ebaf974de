/* Moving one disk to another version of its key, or to another key: design §6. In three steps, so
 * that many disks can be proved before the first is changed:
 *
 *   prepare  old key unwraps, new key wraps and unwraps the same; nothing is written
 *   commit   the token names the new key, and keeps the old wrapping as `previous`
 *   finish   what stands on the disk now is unwrapped and opened; only then `previous` goes
 *
 * Cut anywhere, the disk opens by its token, and the same three steps complete it. Only the header
 * is changed, so the disk may be served meanwhile. */
#ifndef APP_VOLUME_ROTATION_H
#define APP_VOLUME_ROTATION_H

#include "app/volume/vault_slot.h"

enum rotation_state {
	ROTATION_PREPARED,  /* to be committed */
	ROTATION_COMMITTED, /* to be finished; also one that was cut short before that */
	ROTATION_DONE,      /* also a disk that was under that key already */
};

struct rotation {
	char disk_path[VOLUME_PATH_SIZE];
	char uuid[LUKS2_UUID_SIZE];
	enum rotation_state state;
	struct vault_token old; /* as it stands on the disk */
	struct vault_token new;
	char detail[MESSAGE_TEXT_SIZE]; /* on failure: what the other side said */
};

/* `target` is a key URL, without version for the newest one; empty for the newest version of the
 * disk's own key. The failures of volume_load, vault_slot_open and key_preflight. */
MUST_CHECK enum status rotation_prepare(struct rotation *rotation, struct agent_session *session,
					const struct config *config, const char *disk_path,
					const char *target);

/* The failures of volume_load and volume_commit; FAIL_HEADER_CHANGED if somebody else has changed
 * the token since rotation_prepare. */
MUST_CHECK enum status rotation_commit(struct rotation *rotation);

/* The last part of rotation_finish, for whoever has had what stands on the disk proved already. */
MUST_CHECK enum status rotation_drop_previous(struct rotation *rotation);

/* The failures of vault_slot_prove and volume_commit: the disk is then under the new key, and keeps
 * the old wrapping too. */
MUST_CHECK enum status rotation_finish(struct rotation *rotation, struct agent_session *session,
				       const struct config *config);

#endif

#include "io/kernel_key.h"

#include <errno.h>
#include <linux/keyctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "platform/log.h"

enum status kernel_key_add(struct kernel_key *key, const char *description, const uint8_t *bytes,
			   size_t size)
{
	long serial = syscall(SYS_add_key, "logon", description, bytes, size,
			      (long)KEY_SPEC_THREAD_KEYRING);

	if (serial > 0) {
		key->serial = (int32_t)serial;
		return OK;
	}
	log_errno(LOG_PRIORITY_ERROR, errno, "adding a key to the kernel's keyring");
	return errno == EDQUOT || errno == ENOMEM ? FAIL_OUT_OF_MEMORY : FAIL_SYSTEM;
}

void kernel_key_forget(struct kernel_key *key)
{
	if (key->serial == 0)
		return;
	if (syscall(SYS_keyctl, (long)KEYCTL_UNLINK, (long)key->serial,
		    (long)KEY_SPEC_THREAD_KEYRING) != 0)
		log_errno(LOG_PRIORITY_WARNING, errno,
			  "a key stays in the kernel's keyring until this process ends");
	key->serial = 0;
}

/* The one list of failures: a name for the code, an exit status for scripts, a word for JSON, a
 * sentence for people, and what to do. The exit statuses are a promise to scripts: never renumber.
 *
 * Who first sees a system error logs it, once, with errno and object; pure code only returns;
 * nobody logs on the way up; the command says one sentence, "OBJECT: SENTENCE; ADVICE".
 */
#ifndef PLATFORM_STATUS_H
#define PLATFORM_STATUS_H

#include "platform/base.h"

/* STATUS(name, exit status, word, sentence about the object, what to do) */
#define STATUS_LIST(STATUS)                                                                       \
	STATUS(OK, 0, "ok", "done",                                                               \
	       "")                                                                                \
	/* 2-19: how byok was called, and the machine it runs on */                               \
	STATUS(FAIL_USAGE, 2, "usage", "the command line is wrong",                               \
	       "see byok help")                                                                   \
	STATUS(FAIL_CONFIG, 3, "config", "the configuration is wrong",                            \
	       "correct what the line above or the journal names")                                \
	STATUS(FAIL_NOT_ROOT, 4, "not-root", "this needs root",                                   \
	       "run it as root")                                                                  \
	STATUS(FAIL_OUT_OF_MEMORY, 5, "out-of-memory", "there is not enough (lockable) memory",   \
	       "free memory or raise the locked-memory limit")                                    \
	STATUS(FAIL_SYSTEM, 6, "system", "the operating system refused a call",                   \
	       "see the line above or the journal")                                               \
	STATUS(FAIL_FEATURE_OFF, 7, "feature-off",                                                \
	       "this build of byok was made without that feature",                                \
	       "build with the Kconfig option that byok version lists as off")                    \
	STATUS(FAIL_SERVICE_ABSENT, 8, "service-absent", "no byok serve is running here",         \
	       "start it: systemctl start byok")                                                  \
	STATUS(FAIL_SERVICE_RUNNING, 9, "service-running", "another byok serve is running here",  \
	       "use it, or stop it first")                                                        \
	STATUS(FAIL_MESSAGE, 10, "message",                                                       \
	       "another process of byok sent a message that is not valid",                        \
	       "restart the service and report this")                                             \
	STATUS(FAIL_ROLE_DIED, 11, "role-died", "a process of byok ended unexpectedly",           \
	       "see the journal")                                                                 \
	STATUS(FAIL_SELFTEST, 12, "selftest", "the self-test of the ciphers failed",              \
	       "do not use this machine or this build for data")                                  \
	STATUS(FAIL_SERVICE_BUSY, 13, "service-busy",                                             \
	       "byok serve stops, exchanges a worker, or has too many unanswered commands",       \
	       "try again in a moment")                                                           \
	STATUS(FAIL_FILE, 14, "file", "the file cannot be read or written",                       \
	       "check its path and permissions")                                                  \
	STATUS(FAIL_FILE_EXISTS, 15, "file-exists",                                               \
	       "the file exists already, and is not overwritten",                                 \
	       "choose another path, or move it away")                                            \
	STATUS(FAIL_FILE_TOO_LARGE, 16, "file-too-large", "the file is larger than it can be",    \
	       "check that it is the right file")                                                 \
	STATUS(FAIL_NAME, 17, "name", "the name is not valid",                                    \
	       "use 1 to 32 of the characters a-z A-Z 0-9 . _ - and begin with a letter or digit") \
	STATUS(FAIL_NAME_TAKEN, 18, "name-taken", "a volume of that name is served already",      \
	       "lock it first, or format with another name")                                      \
	STATUS(FAIL_VOLUME_UNKNOWN, 19, "volume-unknown",                                         \
	       "byok serves no volume or disk of that name",                                      \
	       "see byok status")                                                                 \
	/* 20-39: the disk */                                                                     \
	STATUS(FAIL_DISK_ABSENT, 20, "disk-absent", "there is no such disk",                      \
	       "check the path")                                                                  \
	STATUS(FAIL_DISK_KIND, 21, "disk-kind",                                                   \
	       "this is neither a block device nor a regular file",                               \
	       "check the path")                                                                  \
	STATUS(FAIL_DISK_IN_USE, 22, "disk-in-use",                                               \
	       "the disk is in use by another program or device",                                 \
	       "stop what uses it (lsblk, lsof), then try again")                                 \
	STATUS(FAIL_DISK_MOUNTED, 23, "disk-mounted", "the disk is mounted",                      \
	       "unmount it first")                                                                \
	STATUS(FAIL_DISK_READ_ONLY, 24, "disk-read-only", "the disk is read-only",                \
	       "make it writable, or check that it is the right disk")                            \
	STATUS(FAIL_DISK_TOO_SMALL, 25, "disk-too-small",                                         \
	       "the disk is too small for a LUKS2 volume",                                        \
	       "use a disk of more than 16 MiB")                                                  \
	STATUS(FAIL_DISK_HAS_FILE_SYSTEM, 26, "disk-has-file-system",                             \
	       "the disk holds a file system",                                                    \
	       "nothing was written; --force destroys it")                                        \
	STATUS(FAIL_DISK_HAS_PARTITIONS, 27, "disk-has-partitions",                               \
	       "the disk holds a partition table",                                                \
	       "nothing was written; --force destroys it")                                        \
	STATUS(FAIL_DISK_HAS_LUKS, 28, "disk-has-luks", "the disk holds a LUKS volume",           \
	       "nothing was written; --force destroys it and all data in it")                     \
	STATUS(FAIL_DISK_HAS_SIGNATURE, 29, "disk-has-signature",                                 \
	       "the disk holds data of another kind (swap, LVM, RAID or the like)",               \
	       "nothing was written; --force destroys it")                                        \
	STATUS(FAIL_DISK_IO, 30, "disk-io", "the disk failed to read or write",                   \
	       "see the kernel's log")                                                            \
	STATUS(FAIL_DISK_FULL, 31, "disk-full", "there is no space left for the write",           \
	       "free some space, then try again")                                                 \
	STATUS(FAIL_DISK_GEOMETRY, 32, "disk-geometry",                                           \
	       "the sector size does not fit the disk's block size",                              \
	       "use --sector-size 4096")                                                          \
	STATUS(FAIL_HEADER_LOCKED, 33, "header-locked",                                           \
	       "another program (cryptsetup or byok) is changing the header",                     \
	       "try again when it has ended")                                                     \
	STATUS(FAIL_NOT_SERVED, 34, "not-served", "the volume is not served at this moment",      \
	       "see byok status")                                                                 \
	STATUS(FAIL_KEYSLOT_LAST, 35, "keyslot-last",                                             \
	       "no other keyslot would be left to open the volume",                               \
	       "add one first: byok recovery add, or byok adopt")                                 \
	STATUS(FAIL_NO_RECOVERY_KEY, 36, "no-recovery-key", "the volume has no recovery key",     \
	       "byok recovery add makes one")                                                     \
	STATUS(FAIL_BACKUP_FOREIGN, 37, "backup-foreign",                                         \
	       "the header backup is of another volume or layout than the disk's",                \
	       "nothing was written; find the backup of this disk")                               \
	STATUS(FAIL_BACKUP_OLDER, 38, "backup-older",                                             \
	       "the header backup is older than the disk's header, which is whole",               \
	       "nothing was written; --force brings back its keys, removed ones too")             \
	STATUS(FAIL_VAULT_TOKEN_EXISTS, 39, "vault-token-exists",                                 \
	       "the volume has a byok vault token already",                                       \
	       "byok rotate moves it to another key")                                             \
	/* 40-69: the LUKS2 volume on it */                                                       \
	STATUS(FAIL_NOT_LUKS, 40, "not-luks", "this is not a LUKS disk",                          \
	       "check the path; byok format makes a new one")                                     \
	STATUS(FAIL_LUKS_VERSION, 41, "luks-version", "this is LUKS, but not version 2",          \
	       "convert it with cryptsetup convert --type luks2")                                 \
	STATUS(FAIL_HEADER_TRUNCATED, 42, "header-truncated", "the LUKS2 header is cut short",    \
	       "check that the whole disk or image is there")                                     \
	STATUS(FAIL_HEADER_DAMAGED, 43, "header-damaged",                                         \
	       "both copies of the LUKS2 header are damaged",                                     \
	       "restore a header backup; the data behind it is untouched")                        \
	STATUS(FAIL_HEADER_FIELDS, 44, "header-fields",                                           \
	       "the LUKS2 header has a field with an impossible value",                           \
	       "restore a header backup; the data behind it is untouched")                        \
	STATUS(FAIL_HEADER_CHANGED, 45, "header-changed",                                         \
	       "the LUKS2 header was changed by another program in the meantime",                 \
	       "nothing was written; try again")                                                  \
	STATUS(FAIL_METADATA_SYNTAX, 46, "metadata-syntax",                                       \
	       "the LUKS2 metadata is not valid JSON",                                            \
	       "restore a header backup")                                                         \
	STATUS(FAIL_METADATA_SHAPE, 47, "metadata-shape",                                         \
	       "the LUKS2 metadata is JSON but not what the LUKS2 format asks for",               \
	       "restore a header backup")                                                         \
	STATUS(FAIL_METADATA_FULL, 48, "metadata-full",                                           \
	       "the LUKS2 metadata area has no room left",                                        \
	       "remove tokens or keyslots that are no longer needed")                             \
	STATUS(FAIL_REQUIREMENT, 49, "requirement",                                               \
	       "the volume has a mandatory requirement that byok does not know",                  \
	       "use a cryptsetup that knows it")                                                  \
	STATUS(FAIL_REENCRYPTION, 50, "reencryption",                                             \
	       "a re-encryption of the volume is in progress",                                    \
	       "finish it with cryptsetup reencrypt, then try again")                             \
	STATUS(FAIL_CIPHER_NULL, 51, "cipher-null", "the volume asks for no encryption at all",   \
	       "do not trust this disk: its header was probably tampered with")                   \
	STATUS(FAIL_CIPHER, 52, "cipher",                                                         \
	       "the volume's cipher is not aes-xts-plain64 with a 512-bit key",                   \
	       "use cryptsetup for this volume")                                                  \
	STATUS(FAIL_SEGMENT_OUTSIDE, 53, "segment-outside",                                       \
	       "the volume's data would end past the end of the disk",                            \
	       "check that the whole disk is there")                                              \
	STATUS(FAIL_SEGMENT, 54, "segment",                                                       \
	       "the volume's data layout is one that byok does not serve",                        \
	       "use cryptsetup for this volume")                                                  \
	STATUS(FAIL_KEYSLOT_LAYOUT, 55, "keyslot-layout",                                         \
	       "a keyslot area overlaps another one or lies outside its place",                   \
	       "restore a header backup")                                                         \
	STATUS(FAIL_KEYSLOT_KIND, 56, "keyslot-kind",                                             \
	       "the keyslot uses a method that this byok does not have",                          \
	       "use another keyslot, or a byok built with CONFIG_ARGON2ID")                       \
	STATUS(FAIL_KEYSLOTS_FULL, 57, "keyslots-full", "there is no room for another keyslot",   \
	       "remove one that is no longer needed")                                             \
	STATUS(FAIL_NO_VAULT_TOKEN, 58, "no-vault-token",                                         \
	       "this is a LUKS2 disk, but has no byok vault token",                               \
	       "open it with --key-file or the recovery key")                                     \
	STATUS(FAIL_WRONG_KEY, 59, "wrong-key", "the key opens no keyslot of this disk",          \
	       "check that key and disk belong together")                                         \
	STATUS(FAIL_WRONG_RECOVERY_KEY, 60, "wrong-recovery-key",                                 \
	       "the recovery key opens no keyslot of this disk",                                  \
	       "check that recovery key and disk belong together")                                \
	STATUS(FAIL_RECOVERY_KEY_TYPO, 61, "recovery-key-typo",                                   \
	       "the recovery key has a typing error",                                             \
	       "compare that group with the paper")                                               \
	STATUS(FAIL_WRAPPED_MISMATCH, 62, "wrapped-mismatch",                                     \
	       "the vault unwrapped the disk's secret to something that does not open it",        \
	       "check that the vault holds the very key of this disk; use the recovery key")      \
	STATUS(FAIL_TOKEN, 63, "token", "the byok token in the LUKS2 header is malformed",        \
	       "restore a header backup, or use the recovery key")                                \
	STATUS(FAIL_KDF_COST, 64, "kdf-cost",                                                     \
	       "the keyslot asks for an absurd amount of memory or time",                         \
	       "do not trust this disk: its header was probably tampered with")                   \
	STATUS(FAIL_DIGEST, 65, "digest",                                                         \
	       "the volume key does not agree with the volume's digest",                          \
	       "restore a header backup")                                                         \
	STATUS(FAIL_KEY_HALVES_EQUAL, 66, "key-halves-equal",                                     \
	       "the two halves of the volume key are the same",                                   \
	       "do not use this volume: its key was not made at random")                          \
	STATUS(FAIL_METADATA_TOO_LARGE, 67, "metadata-too-large",                                 \
	       "the LUKS2 metadata are larger than byok can hold",                                \
	       "remove tokens of other programs that are no longer needed")                       \
	STATUS(FAIL_HEADER_AMBIGUOUS, 68, "header-ambiguous",                                     \
	       "a copy of the LUKS2 header is damaged, and the disk shows another signature too", \
	       "nothing was written; if the LUKS2 volume is the right one: cryptsetup repair")    \
	STATUS(FAIL_KEY_FOREIGN, 69, "key-foreign",                                               \
	       "the disk is under another key than the settings demand",                          \
	       "do not trust this disk, or correct key in byok.conf")                             \
	/* 70-83: the customer's key */                                                           \
	STATUS(FAIL_KEY_URL, 70, "key-url", "the key URL is malformed",                           \
	       "write https://NAME.vault.azure.net/keys/KEY/VERSION")                             \
	STATUS(FAIL_KEY_URL_SCHEME, 71, "key-url-scheme",                                         \
	       "the key URL does not begin with https://",                                        \
	       "write https://NAME.vault.azure.net/keys/KEY/VERSION")                             \
	STATUS(FAIL_KEY_URL_HOST, 72, "key-url-host",                                             \
	       "the key URL's host is not an Azure Key Vault",                                    \
	       "no token was sent; check the URL")                                                \
	STATUS(FAIL_KEY_URL_SUFFIX, 73, "key-url-suffix",                                         \
	       "the key URL's host is in no Azure cloud that byok knows",                         \
	       "no token was sent; check the URL")                                                \
	STATUS(FAIL_KEY_URL_VERSIONLESS, 74, "key-url-versionless", "the key URL has no version", \
	       "append the version; without one it belongs into byok.conf, and is followed")      \
	STATUS(FAIL_KEY_DISABLED, 75, "key-disabled", "the key is disabled",                      \
	       "enable it in the vault")                                                          \
	STATUS(FAIL_KEY_GONE, 76, "key-gone", "the vault has no such key",                        \
	       "if it was deleted, recover it; else check the URL")                               \
	STATUS(FAIL_KEY_EXPIRED, 77, "key-expired", "the key has expired",                        \
	       "use a newer version, or move its expiry date")                                    \
	STATUS(FAIL_KEY_NOT_YET_VALID, 78, "key-not-yet-valid", "the key is not valid yet",       \
	       "wait, move its activation date, or set this machine's clock")                     \
	STATUS(FAIL_KEY_PURGEABLE, 79, "key-purgeable",                                           \
	       "the key can be purged: its vault lacks soft delete or purge protection",          \
	       "turn on purge protection for the vault")                                          \
	STATUS(FAIL_KEY_TYPE, 80, "key-type", "the key is not of a kind that byok can use",       \
	       "use RSA of 2048, 3072 or 4096 bits, or AES of 256 bits in a managed HSM")         \
	STATUS(FAIL_KEY_OPERATIONS, 81, "key-operations", "the key may not wrap and unwrap",      \
	       "allow wrapKey and unwrapKey in its permitted operations")                         \
	STATUS(FAIL_KEY_MISMATCH, 82, "key-mismatch",                                             \
	       "the vault did not give back what it had wrapped",                                 \
	       "do not use this key; report it to the vault's operator")                          \
	STATUS(FAIL_KEY_ID, 83, "key-id",                                                         \
	       "the vault answered for another key or version than asked",                        \
	       "check the URL and whatever stands between this machine and the vault")            \
	/* 84-92: the managed identity */                                                         \
	STATUS(FAIL_IDENTITY_NONE, 84, "identity-none",                                           \
	       "this VM does not have that managed identity",                                     \
	       "assign the identity to the VM, or correct its client id")                         \
	STATUS(FAIL_IDENTITY_AMBIGUOUS, 85, "identity-ambiguous",                                 \
	       "this VM has several managed identities",                                          \
	       "name one by its client id: --identity, or identity = in byok.conf")               \
	STATUS(FAIL_IMDS_UNREACHABLE, 86, "imds-unreachable",                                     \
	       "the instance metadata service does not answer",                                   \
	       "check the route to 169.254.169.254, and that this is an Azure VM")                \
	STATUS(FAIL_IMDS_TIMEOUT, 87, "imds-timeout",                                             \
	       "the instance metadata service is too slow",                                       \
	       "try again")                                                                       \
	STATUS(FAIL_IMDS_UPDATING, 88, "imds-updating",                                           \
	       "the instance metadata service is being updated",                                  \
	       "it is back within 70 seconds")                                                    \
	STATUS(FAIL_IMDS_THROTTLED, 89, "imds-throttled",                                         \
	       "the instance metadata service has too many requests",                             \
	       "find what asks it so often on this VM")                                           \
	STATUS(FAIL_IMDS_ERROR, 90, "imds-error",                                                 \
	       "the instance metadata service has an error of its own",                           \
	       "try again")                                                                       \
	STATUS(FAIL_IMDS_REFUSED, 91, "imds-refused",                                             \
	       "the instance metadata service refused the request",                               \
	       "see what it answered")                                                            \
	STATUS(FAIL_IMDS_ANSWER, 92, "imds-answer",                                               \
	       "the instance metadata service answered nonsense",                                 \
	       "check what answers at 169.254.169.254")                                           \
	/* 93-118: the vault and the way to it */                                                 \
	STATUS(FAIL_VAULT_UNAUTHORIZED, 93, "vault-unauthorized",                                 \
	       "the vault does not accept this VM's token",                                       \
	       "check that identity and vault are in the same tenant")                            \
	STATUS(FAIL_VAULT_RBAC, 94, "vault-rbac", "the identity has no role for this key",        \
	       "give it Key Vault Crypto Service Encryption User; this takes minutes to work")    \
	STATUS(FAIL_VAULT_POLICY, 95, "vault-policy",                                             \
	       "the vault's access policy does not let the identity use this key",                \
	       "allow get, wrapKey and unwrapKey")                                                \
	STATUS(FAIL_VAULT_FIREWALL, 96, "vault-firewall",                                         \
	       "the vault's firewall does not let this VM in",                                    \
	       "add the VM's subnet or address to the vault's network rules")                     \
	STATUS(FAIL_VAULT_PRIVATE_LINK, 97, "vault-private-link",                                 \
	       "the vault can only be reached by private link",                                   \
	       "check the private endpoint and that its DNS name resolves to it")                 \
	STATUS(FAIL_VAULT_FORBIDDEN, 98, "vault-forbidden", "the vault refused the operation",    \
	       "see what it answered")                                                            \
	STATUS(FAIL_VAULT_NOT_FOUND, 99, "vault-not-found",                                       \
	       "there is no such vault or route at that address",                                 \
	       "check the URL, and whether the vault was deleted")                                \
	STATUS(FAIL_VAULT_THROTTLED, 100, "vault-throttled", "the vault has too many requests",   \
	       "try again later")                                                                 \
	STATUS(FAIL_VAULT_UNAVAILABLE, 101, "vault-unavailable",                                  \
	       "the vault has an error of its own",                                               \
	       "try again later")                                                                 \
	STATUS(FAIL_VAULT_CONFLICT, 102, "vault-conflict",                                        \
	       "the key is being deleted or recovered at this moment",                            \
	       "try again in a minute")                                                           \
	STATUS(FAIL_VAULT_REQUEST, 103, "vault-request",                                          \
	       "the vault cannot make sense of the request",                                      \
	       "the wrapped secret may be corrupt; see what it answered")                         \
	STATUS(FAIL_VAULT_REDIRECT, 104, "vault-redirect",                                        \
	       "the vault's address answered with a redirect",                                    \
	       "no token was sent on; check whatever stands between this machine and the vault")  \
	STATUS(FAIL_VAULT_NAME, 105, "vault-name", "the vault's host name cannot be resolved",    \
	       "check DNS and the vault's name")                                                  \
	STATUS(FAIL_VAULT_UNREACHABLE, 106, "vault-unreachable", "no connection to the vault",    \
	       "check network, route and firewall")                                               \
	STATUS(FAIL_VAULT_TIMEOUT, 107, "vault-timeout", "the vault did not answer in time",      \
	       "try again later")                                                                 \
	STATUS(FAIL_TLS_NAME, 108, "tls-name", "the vault's certificate is for another name",     \
	       "check what stands between this machine and the vault")                            \
	STATUS(FAIL_TLS_AUTHORITY, 109, "tls-authority",                                          \
	       "the vault's certificate comes from an authority that is not trusted",             \
	       "check what stands between this machine and the vault, or ca_file")                \
	STATUS(FAIL_TLS_DATE, 110, "tls-date",                                                    \
	       "the vault's certificate has expired or is not valid yet",                         \
	       "check this machine's clock first")                                                \
	STATUS(FAIL_TLS, 111, "tls", "the TLS connection to the vault failed",                    \
	       "check what stands between this machine and the vault")                            \
	STATUS(FAIL_ANSWER_TOO_LARGE, 112, "answer-too-large",                                    \
	       "the answer is larger than any valid one",                                         \
	       "check what answers at that address")                                              \
	STATUS(FAIL_ANSWER_CUT, 113, "answer-cut", "the answer was cut short",                    \
	       "try again")                                                                       \
	STATUS(FAIL_ANSWER_SYNTAX, 114, "answer-syntax", "the answer is not JSON",                \
	       "check what answers at that address")                                              \
	STATUS(FAIL_ANSWER_SHAPE, 115, "answer-shape", "the answer lacks what it must contain",   \
	       "check what answers at that address")                                              \
	STATUS(FAIL_DISK_NOT_BLANK, 116, "disk-not-blank", "the disk is not blank",               \
	       "nothing was written; if nobody needs it: byok format, or blkdiscard --zeroout")   \
	/* 117-125: the data path */                                                              \
	STATUS(FAIL_UBLK_ABSENT, 117, "ublk-absent", "this kernel has no ublk",                   \
	       "load ublk_drv (Linux 6.12 or newer), or serve with --nbd")                        \
	STATUS(FAIL_UBLK, 118, "ublk", "the kernel's ublk driver refused a command",              \
	       "see the line above or the journal")                                               \
	STATUS(FAIL_NBD_SOCKET, 119, "nbd-socket", "the NBD socket cannot be made",               \
	       "check its path and permissions")                                                  \
	STATUS(FAIL_DM_CRYPT_ABSENT, 120, "dm-crypt-absent", "this kernel has no dm-crypt",       \
	       "load dm_crypt, or choose another data_path in byok.conf")                         \
	STATUS(FAIL_IO_URING_ABSENT, 121, "io-uring-absent",                                      \
	       "this kernel does not allow io_uring",                                             \
	       "allow it: sysctl kernel.io_uring_disabled=0")                                     \
	STATUS(FAIL_DEVICE_IN_USE, 122, "device-in-use", "the device is mounted or open",         \
	       "unmount it first")                                                                \
	STATUS(FAIL_DM_CRYPT, 123, "dm-crypt", "the kernel's device mapper refused a command",    \
	       "see the line above or the journal")                                               \
	STATUS(FAIL_NBD_KERNEL_ABSENT, 124, "nbd-kernel-absent", "this kernel has no NBD driver", \
	       "load nbd, or choose another data_path in byok.conf")                              \
	STATUS(FAIL_NBD_KERNEL, 125, "nbd-kernel", "the kernel's NBD driver refused a command",   \
	       "see the line above or the journal")                                               \
	/* 193-198: the proxy; shells have use for what is between */                             \
	STATUS(FAIL_PROXY_UNREACHABLE, 193, "proxy-unreachable", "no connection to the proxy",    \
	       "check the setting proxy, and network and firewall on the way to it")              \
	STATUS(FAIL_PROXY_TIMEOUT, 194, "proxy-timeout", "the proxy did not answer in time",      \
	       "try again later")                                                                 \
	STATUS(FAIL_PROXY_PASSWORD, 195, "proxy-password",                                        \
	       "the proxy asks for a password, and byok has none for it",                         \
	       "let this machine through without one")                                            \
	STATUS(FAIL_PROXY_REFUSED, 196, "proxy-refused", "the proxy refused to connect",          \
	       "allow CONNECT to the host named above, port 443")                                 \
	STATUS(FAIL_PROXY_ERROR, 197, "proxy-error", "the proxy could not connect",               \
	       "check its own network, DNS and firewall")                                         \
	STATUS(FAIL_PROXY_ANSWER, 198, "proxy-answer", "the proxy answered nonsense",             \
	       "check that the setting proxy names an HTTP proxy")                                \
	/* 199-208: Entra ID, where a federated token file takes the managed identity's place */  \
	STATUS(FAIL_LOGIN_TOKEN_FILE, 199, "login-token-file",                                    \
	       "the federated token file cannot be read or holds no token",                       \
	       "check federated_token_file, and that agent_user may read it")                     \
	STATUS(FAIL_LOGIN_UNREACHABLE, 200, "login-unreachable", "no connection to Entra ID",     \
	       "check network, DNS, firewall and proxy")                                          \
	STATUS(FAIL_LOGIN_TIMEOUT, 201, "login-timeout", "Entra ID did not answer in time",       \
	       "try again later")                                                                 \
	STATUS(FAIL_LOGIN_TLS, 202, "login-tls", "no TLS with Entra ID that can be trusted",      \
	       "check this machine's clock, ca_file, and what stands between")                    \
	STATUS(FAIL_LOGIN_THROTTLED, 203, "login-throttled", "Entra ID has too many requests",    \
	       "try again later")                                                                 \
	STATUS(FAIL_LOGIN_ERROR, 204, "login-error", "Entra ID has an error of its own",          \
	       "try again later")                                                                 \
	STATUS(FAIL_LOGIN_ASSERTION, 205, "login-assertion",                                      \
	       "Entra ID does not accept the federated token",                                    \
	       "compare its issuer, subject, audience and dates with the federated credential")   \
	STATUS(FAIL_LOGIN_CLIENT, 206, "login-client",                                            \
	       "Entra ID has no such client id in that tenant",                                   \
	       "check identity and tenant")                                                       \
	STATUS(FAIL_LOGIN_REFUSED, 207, "login-refused", "Entra ID refused the request",          \
	       "look up the code in its answer")                                                  \
	STATUS(FAIL_LOGIN_ANSWER, 208, "login-answer", "Entra ID answered nonsense",              \
	       "check what answers at that address")

/* Each is its own exit status, so that its number never changes: binaries of different age tell
 * each other what failed. Some numbers below STATUS_COUNT are no status. */
enum status {
#define STATUS_ENUM(name, exit_code, word, sentence, advice) name = (exit_code),
	STATUS_LIST(STATUS_ENUM)
#undef STATUS_ENUM
	STATUS_COUNT = 256 /* 126 to 192 a shell would take for its own or a signal's */
};

/* Leaves the function with the failure of `expression`, if it fails. Secrets and descriptors that
 * must end on that way out carry a cleanup attribute. */
#define TRY(expression)                                                                            \
	do {                                                                                       \
		enum status try_status = (expression);                                             \
		if (try_status != OK)                                                              \
			return try_status;                                                         \
	} while (0)

const char *status_word(enum status status);     /* for JSON and metrics: "vault-firewall" */
const char *status_sentence(enum status status); /* without the object: "the disk is mounted" */
const char *status_advice(enum status status);   /* may be empty */

/* False if `value`, from another process, names no status. */
MUST_CHECK bool status_from_number(enum status *status, uint32_t value);

#endif

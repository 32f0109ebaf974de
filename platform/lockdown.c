#include "platform/lockdown.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "platform/log.h"

#define NOBODY_ID 65534

void lockdown_begin(void)
{
	const struct rlimit none = {0, 0};

	(void)setrlimit(RLIMIT_CORE, &none);
	(void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	umask(077);
	clearenv();
	/* A descriptor that is closed here would be given to the next file opened, and a stray line
	 * for standard error would then land in a disk. */
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd)
			_exit(1);
}

void lockdown_memory(void)
{
	const struct rlimit all = {RLIM_INFINITY, RLIM_INFINITY};

	/* Raised first, so that the limit also holds after the right to ignore it is given up. */
	(void)setrlimit(RLIMIT_MEMLOCK, &all);
	if (geteuid() == 0 && mlockall(MCL_CURRENT | MCL_FUTURE) == 0)
		return;
	log_warning(
		"memory cannot be locked as a whole (not root?): parts of it may be swapped out");
}

static enum status refused(const char *step)
{
	log_errno(LOG_PRIORITY_ERROR, errno, "cannot give up rights: %s", step);
	return FAIL_SYSTEM;
}

static enum status become(const char *user)
{
	const struct passwd *entry = getpwnam(user);
	uid_t uid = entry == NULL ? NOBODY_ID : entry->pw_uid;
	gid_t gid = entry == NULL ? NOBODY_ID : entry->pw_gid;

	if (geteuid() != 0)
		return OK; /* nothing to give up */
	if (setgroups(0, NULL) != 0 || setresgid(gid, gid, gid) != 0 ||
	    setresuid(uid, uid, uid) != 0)
		return refused("changing the user");
	/* Changing the user makes a process dumpable again. */
	(void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	return OK;
}

static bool allow_reading(int ruleset_fd, const char *folder)
{
	struct landlock_path_beneath_attr rule = {
		.allowed_access = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR,
		.parent_fd = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC),
	};
	bool done;

	if (rule.parent_fd < 0)
		return false;
	done = syscall(SYS_landlock_add_rule, ruleset_fd, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) ==
	       0;
	close(rule.parent_fd);
	return done;
}

/* systemd-resolved and others keep resolv.conf in a folder of their own below /run, replace it
 * there, and leave a link in /etc. */
static bool allow_reading_resolver(int ruleset_fd)
{
	char path[PATH_MAX];
	char *name;

	if (realpath("/etc/resolv.conf", path) == NULL)
		return true;
	name = strrchr(path, '/');
	if (name == path)
		return true;
	*name = '\0';
	return allow_reading(ruleset_fd, path);
}

/* Landlock (Linux 5.13): every kind of file access is handled, and only reading below /etc, and
 * where the resolver's settings are, is allowed. */
static enum status restrict_files(void)
{
	const struct landlock_ruleset_attr ruleset = {
		/* The 13 rights of the first version of Landlock's ABI. */
		.handled_access_fs = (LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1,
	};
	int fd = (int)syscall(SYS_landlock_create_ruleset, &ruleset, sizeof(ruleset), 0);
	bool done;

	if (fd < 0) {
		log_debug("this kernel has no Landlock");
		return OK;
	}
	done = allow_reading(fd, "/etc") && allow_reading_resolver(fd) &&
	       syscall(SYS_landlock_restrict_self, fd, 0) == 0;
	close(fd);
	return done ? OK : refused("Landlock");
}

/* What neither role ever calls, and what a hijacked one would want. */
static const uint32_t forbidden_calls[] = {
	SYS_execve,
	SYS_execveat,
	SYS_ptrace,
	SYS_process_vm_readv,
	SYS_process_vm_writev,
	SYS_mount,
	SYS_umount2,
	SYS_pivot_root,
	SYS_chroot,
	SYS_init_module,
	SYS_finit_module,
	SYS_delete_module,
	SYS_kexec_load,
	SYS_kexec_file_load,
	SYS_bpf,
	SYS_perf_event_open,
	SYS_open_by_handle_at,
	SYS_setns,
	SYS_unshare,
	SYS_add_key,
	SYS_request_key,
	SYS_keyctl,
	SYS_userfaultfd,
	SYS_reboot,
	SYS_swapon,
	SYS_iopl,
	SYS_ioperm,
	SYS_personality,
	SYS_pidfd_getfd,
	SYS_move_mount,
	SYS_fsopen,
	SYS_open_tree,
};

#define BPF_LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define BPF_ANSWER(action) BPF_STMT(BPF_RET | BPF_K, action)

/* `unix_only`: socket() for any other family is refused as well. */
static enum status restrict_calls(bool unix_only)
{
	struct sock_filter filter[16 + ARRAY_COUNT(forbidden_calls) * 2];
	struct sock_fprog program = {.filter = filter};
	unsigned short n = 0;

	filter[n++] = (struct sock_filter)BPF_LOAD(arch);
	filter[n++] =
		(struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0);
	filter[n++] = (struct sock_filter)BPF_ANSWER(SECCOMP_RET_KILL_PROCESS);
	filter[n++] = (struct sock_filter)BPF_LOAD(nr);
	/* The x32 numbers are a second way to every call. */
	filter[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 0x40000000, 0, 1);
	filter[n++] = (struct sock_filter)BPF_ANSWER(SECCOMP_RET_KILL_PROCESS);
	for (size_t i = 0; i < ARRAY_COUNT(forbidden_calls); i++) {
		filter[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K,
							   forbidden_calls[i], 0, 1);
		filter[n++] = (struct sock_filter)BPF_ANSWER(SECCOMP_RET_ERRNO | EPERM);
	}
	if (unix_only) {
		filter[n++] =
			(struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_socket, 0, 3);
		filter[n++] = (struct sock_filter)BPF_LOAD(args[0]);
		filter[n++] =
			(struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_UNIX, 1, 0);
		filter[n++] = (struct sock_filter)BPF_ANSWER(SECCOMP_RET_ERRNO | EPERM);
	}
	filter[n++] = (struct sock_filter)BPF_ANSWER(SECCOMP_RET_ALLOW);
	CHECK(n <= ARRAY_COUNT(filter));
	program.len = n;
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) != 0)
		return errno == EINVAL ? OK : refused("seccomp");
	return OK;
}

enum status lockdown_network_role(const char *user)
{
	TRY(become(user));
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		return refused("no_new_privs");
	TRY(restrict_files());
	return restrict_calls(false);
}

enum status lockdown_disk_role(void)
{
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		return refused("no_new_privs");
	return restrict_calls(true);
}

#include "platform/lockdown.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <pwd.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "platform/file.h"
#include "platform/log.h"

#define NOBODY_ID 65534

void lockdown_begin(void)
{
	const struct rlimit none = {0, 0};

	(void)setrlimit(RLIMIT_CORE, &none);
	(void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	umask(077);
	clearenv();
	/* Whoever reads standard error may leave; a process that serves a disk must not. */
	(void)signal(SIGPIPE, SIG_IGN);
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

size_t lockdown_memory_left(void)
{
	static const char name[] = "\nVmLck:";
	char text[4096];
	struct rlimit limit;
	const char *line;
	size_t size, locked;

	if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY ||
	    file_read_text(text, sizeof(text), &size, "/proc/self/status") != OK)
		return SIZE_MAX;
	line = strstr(text, name);
	if (line == NULL)
		return SIZE_MAX;
	locked = strtoul(line + strlen(name), NULL, 10) * 1024;
	return limit.rlim_cur > locked ? limit.rlim_cur - locked : 0;
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

/* The 13 rights of the first version of Landlock's ABI (Linux 5.13). */
#define ALL_FILE_RIGHTS ((LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1)
#define READING (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define WRITING (READING | LANDLOCK_ACCESS_FS_WRITE_FILE)
#define KEEPING_A_SOCKET (WRITING | LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_REMOVE_FILE)

struct allowance {
	const char *folder; /* NULL: none */
	uint64_t rights;
};

static bool allow(int ruleset_fd, const struct allowance *allowance)
{
	struct landlock_path_beneath_attr rule = {
		.allowed_access = allowance->rights,
		.parent_fd = open(allowance->folder, O_PATH | O_DIRECTORY | O_CLOEXEC),
	};
	bool done;

	if (rule.parent_fd < 0)
		return false;
	done = syscall(SYS_landlock_add_rule, ruleset_fd, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) ==
	       0;
	close(rule.parent_fd);
	return done;
}

/* From now on nothing but these can be done to files; what is open stays open. A process under
 * Landlock can also no longer look into others that are not. */
static enum status restrict_files(const struct allowance *allowances, size_t count)
{
	const struct landlock_ruleset_attr ruleset = {.handled_access_fs = ALL_FILE_RIGHTS};
	int fd = (int)syscall(SYS_landlock_create_ruleset, &ruleset, sizeof(ruleset), 0);
	bool done = true;

	if (fd < 0) {
		log_debug("this kernel has no Landlock");
		return OK;
	}
	for (size_t i = 0; i < count; i++)
		done = done && (allowances[i].folder == NULL || allow(fd, &allowances[i]));
	done = done && syscall(SYS_landlock_restrict_self, fd, 0) == 0;
	close(fd);
	return done ? OK : refused("Landlock");
}

/* systemd-resolved and others keep resolv.conf in a folder of their own below /run, replace it
 * there, and leave a link in /etc. NULL if there is none. */
static const char *folder_of_resolver(char path[static PATH_MAX])
{
	char *name;

	if (realpath("/etc/resolv.conf", path) == NULL)
		return NULL;
	name = strrchr(path, '/');
	if (name == path)
		return NULL;
	*name = '\0';
	return path;
}

/* A worker is root, for its devices' sake; these are all the rights of root that it has use for. */
static enum status keep_disk_capabilities(void)
{
	static const uint64_t kept = 1ull << CAP_SYS_ADMIN |    /* ublk's commands */
				     1ull << CAP_SYS_RESOURCE | /* PR_SET_IO_FLUSHER */
				     1ull << CAP_IPC_LOCK |     /* buffers */
				     1ull << CAP_SYS_NICE |     /* process_run_first */
				     1ull << CAP_DAC_OVERRIDE;  /* its socket's folder */
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2];

	if (syscall(SYS_capget, &header, data) != 0)
		return refused("reading capabilities");
	for (unsigned i = 0; i < ARRAY_COUNT(data); i++) {
		data[i].permitted &= (uint32_t)(kept >> 32 * i);
		data[i].effective = data[i].permitted;
		data[i].inheritable = 0;
	}
	return syscall(SYS_capset, &header, data) == 0 ? OK : refused("dropping capabilities");
}

/* Sockets are also made through io_uring, which seccomp does not see; in an empty network namespace
 * they lead nowhere. */
static enum status leave_network(void)
{
	if (unshare(CLONE_NEWNET) == 0 || errno == EPERM || errno == EINVAL)
		return OK;
	return refused("leaving the network");
}

/* What neither role ever calls, and what a hijacked one would want. The last ones are only the disk
 * role's to call. */
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
	SYS_fsconfig,
	SYS_fsmount,
	__NR_mount_setattr,
	SYS_mknod,
	SYS_mknodat,
	SYS_io_uring_setup,
	SYS_io_uring_enter,
	SYS_io_uring_register,
};

#define FORBIDDEN_TO_DISK_ROLE (ARRAY_COUNT(forbidden_calls) - 3)

#define BPF_LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define BPF_ANSWER(action) BPF_STMT(BPF_RET | BPF_K, action)

/* A disk role may use io_uring, and make unix sockets only. */
static enum status restrict_calls(bool is_disk_role)
{
	const size_t forbidden_count =
		is_disk_role ? FORBIDDEN_TO_DISK_ROLE : ARRAY_COUNT(forbidden_calls);
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
	for (size_t i = 0; i < forbidden_count; i++) {
		filter[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K,
							   forbidden_calls[i], 0, 1);
		filter[n++] = (struct sock_filter)BPF_ANSWER(SECCOMP_RET_ERRNO | EPERM);
	}
	if (is_disk_role) {
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

static enum status forbid_new_rights(void)
{
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 ? OK : refused("no_new_privs");
}

enum status lockdown_network_role(const char *user, const char *folder)
{
	char resolver[PATH_MAX];
	const struct allowance allowances[] = {
		{"/etc", READING},
		{folder_of_resolver(resolver), READING},
		{folder, READING},
	};

	TRY(become(user));
	TRY(forbid_new_rights());
	TRY(restrict_files(allowances, ARRAY_COUNT(allowances)));
	return restrict_calls(false);
}

enum status lockdown_disk_role(const char *socket_folder)
{
	const struct allowance allowances[] = {
		{"/dev", WRITING},
		{"/sys", WRITING},
		{socket_folder, KEEPING_A_SOCKET},
	};

	TRY(leave_network());
	TRY(keep_disk_capabilities());
	TRY(forbid_new_rights());
	TRY(restrict_files(allowances, ARRAY_COUNT(allowances)));
	return restrict_calls(true);
}

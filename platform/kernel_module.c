#include "platform/kernel_module.h"

#include <errno.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

bool kernel_module_is_there(const char *module, const char *sign)
{
	char *arguments[] = {"modprobe", "-q", (char *)module, NULL};
	char *environment[] = {NULL};
	pid_t pid;

	if (access(sign, F_OK) == 0)
		return true;
	if (posix_spawn(&pid, "/sbin/modprobe", NULL, NULL, arguments, environment) != 0)
		return false;
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	return access(sign, F_OK) == 0;
}

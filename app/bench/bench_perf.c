#include "app/bench/bench_perf.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define WATCHED_WORKLOAD 1
#define RUN_TIME_NS 300000000u

static void run_perf(char *const *words, int output_fd)
{
	char *const environment[] = {NULL};
	const int nowhere = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (dup2(nowhere, STDIN_FILENO) >= 0 && dup2(output_fd, STDOUT_FILENO) >= 0 &&
	    dup2(nowhere, STDERR_FILENO) >= 0)
		execve("/usr/bin/perf", words, environment);
	_exit(1);
}

static pid_t start_perf(char *const *words, int output_fd)
{
	pid_t pid = fork();

	if (pid == 0)
		run_perf(words, output_fd);
	return pid;
}

/* Watches this process, or the whole machine where others do the work, until perf has seen enough:
 * on a slow machine it begins late. */
static bool record(const struct bench_table *table, char *data)
{
	static struct bench_result result;
	const struct bench_path *path = &table->paths[table->path_count - 1];
	char whom[24] = "--all-cpus";
	char *const words[] = {"perf",      "record", "-q",  "-B",    "-e",
			       "cpu-clock", "-F",     "999", "-g",    "-o",
			       data,        whom,     "--",  "sleep", table->is_quick ? "0.3" : "2",
			       NULL};
	enum status status = OK;
	int state = 0;
	pid_t pid, ended;

	if (!path->is_served_elsewhere)
		snprintf(whom, sizeof(whom), "--pid=%d", getpid());
	pid = start_perf(words, STDERR_FILENO);
	while ((ended = waitpid(pid, &state, status == OK ? WNOHANG : 0)) == 0)
		status = bench_disk_run(&result, &table->workloads[WATCHED_WORKLOAD], path,
					RUN_TIME_NS);
	return pid > 0 && ended == pid && state == 0 && status == OK;
}

static void report(char *data, bench_perf_take *take, void *context)
{
	char *const words[] = {"perf",    "report",
			       "-i",      data,
			       "--stdio", "--no-children",
			       "-s",      "comm",
			       "-g",      "folded,0.5,caller,function,count",
			       NULL};
	char text[4096];
	ssize_t size;
	int ends[2];
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC) != 0)
		return;
	pid = start_perf(words, ends[1]);
	close(ends[1]);
	while ((size = read(ends[0], text, sizeof(text))) > 0)
		for (ssize_t i = 0; i < size; i++)
			take(context, text[i]);
	close(ends[0]);
	(void)waitpid(pid, NULL, 0);
}

void bench_perf_watch(const struct bench_table *table, bench_perf_take *take, void *context)
{
	const int fd = memfd_create("perf", 0); /* inherited, and gone with us */
	char data[32];

	if (fd < 0)
		return;
	snprintf(data, sizeof(data), "/proc/self/fd/%d", fd);
	if (record(table, data))
		report(data, take, context);
	close(fd);
}

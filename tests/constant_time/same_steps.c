/* Proves what valgrind cannot run (VAES): a process encrypts and decrypts under one secret, and is
 * stopped after every single instruction; its general registers, flags and instruction pointer are
 * noted. Under other secrets all of them must be the same at every step: so no secret has come near
 * a branch or an address. Addresses that stand in vector registers (gathers) are not seen; those
 * that compilers make here read unit numbers, which are no secrets.
 *
 * That differences would be noticed is shown with a table look-up and a branch. Run by
 * tests/constant_time/run for each compiler. Exit status 0 if all steps were the same.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "crypto/aes_xts_implementation.h"

enum { SECRETS = 3, SECTORS_MAX = 11, SECTOR_SIZE_MAX = 4096 };

static struct {
	uint8_t key_bytes[AES_XTS_KEY_SIZE];
	uint8_t sectors[SECTORS_MAX * SECTOR_SIZE_MAX];
	struct aes_xts_key key;
} secret;

static struct {
	enum aes_xts_implementation implementation;
	size_t sector_size;
	bool shifts_beside_aes;
	unsigned seed;
} choice;

static volatile unsigned sink;

__attribute__((noinline)) static void fill(void)
{
	uint64_t state = choice.seed + UINT64_C(1);
	uint8_t *bytes = (uint8_t *)&secret;

	for (size_t i = 0; i < sizeof(secret); i++) {
		state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
		bytes[i] = (uint8_t)(state >> 56);
	}
	/* Expanding is checked under valgrind. */
	if (aes_xts_key_init_for(&secret.key, choice.implementation, secret.key_bytes,
				 choice.sector_size) != OK)
		_exit(2);
	secret.key.shifts_beside_aes = choice.shifts_beside_aes;
}

static void cipher(void)
{
	/* So many that each implementation takes several batches of tweaks. */
	size_t count = choice.sector_size == 512 ? SECTORS_MAX : 6;
	struct sector_run run = {1, secret.sectors, secret.sectors, count * choice.sector_size};

	aes_xts_encrypt(&secret.key, &run, 1);
	aes_xts_decrypt(&secret.key, &run, 1);
}

static void branch_on_a_secret(void)
{
	if (secret.sectors[0] > 127)
		sink++;
}

static void look_up_a_secret(void)
{
	static volatile uint8_t table[256];

	sink += table[secret.sectors[0]];
}

struct trace {
	uint64_t steps;
	uint64_t hash; /* FNV-1a of all registers of all steps */
};

/* Not on the stack: its address would stand in a register of the traced process. */
static struct trace trace;

static void note(const struct user_regs_struct *registers)
{
	const uint8_t *bytes = (const uint8_t *)registers;

	for (size_t i = 0; i < sizeof(*registers); i++)
		trace.hash = (trace.hash ^ bytes[i]) * UINT64_C(0x100000001b3);
	trace.steps++;
}

/* What filling in the secret has left in registers is not what is looked for. */
#define FORGET_REGISTERS                                                                       \
	__asm__ volatile("xor %%eax, %%eax\n\txor %%ecx, %%ecx\n\txor %%edx, %%edx\n\t"        \
			 "xor %%ebx, %%ebx\n\txor %%esi, %%esi\n\txor %%edi, %%edi\n\t"        \
			 "xor %%r8d, %%r8d\n\txor %%r9d, %%r9d\n\txor %%r10d, %%r10d\n\t"      \
			 "xor %%r11d, %%r11d\n\txor %%r12d, %%r12d\n\txor %%r13d, %%r13d\n\t"  \
			 "xor %%r14d, %%r14d\n\txor %%r15d, %%r15d"                            \
			 :                                                                     \
			 :                                                                     \
			 : "rax", "rcx", "rdx", "rbx", "rsi", "rdi", "r8", "r9", "r10", "r11", \
			   "r12", "r13", "r14", "r15", "cc")

/* The traced process stops itself before and after. */
__attribute__((noinline)) static bool trace_work(void (*work)(void), unsigned seed)
{
	struct user_regs_struct registers;
	int status;
	pid_t pid;

	choice.seed = seed;
	pid = fork();
	if (pid == 0) {
		fill();
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		FORGET_REGISTERS;
		__asm__ volatile("int3");
		work();
		__asm__ volatile("int3");
		_exit(0);
	}
	trace = (struct trace){0, UINT64_C(0xcbf29ce484222325)};
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status))
		return false;
	for (;;) {
		siginfo_t signal;

		if (ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) != 0 ||
		    waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status) ||
		    ptrace(PTRACE_GETREGS, pid, NULL, &registers) != 0 ||
		    ptrace(PTRACE_GETSIGINFO, pid, NULL, &signal) != 0)
			return false;
		if (signal.si_code == SI_KERNEL)
			break;
		note(&registers);
	}
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	return true;
}

/* Whether all secrets take the same steps. */
static bool same_steps(void (*work)(void), uint64_t *steps)
{
	struct trace first;
	bool same = true;

	if (!trace_work(work, 0))
		_exit(3);
	first = trace;
	for (unsigned seed = 1; seed < SECRETS; seed++) {
		if (!trace_work(work, seed))
			_exit(3);
		same = same && first.hash == trace.hash && first.steps == trace.steps;
	}
	*steps = first.steps;
	return same;
}

static bool check(const char *name, void (*work)(void), bool expected)
{
	uint64_t steps;
	bool passed = same_steps(work, &steps) == expected;

	printf("%s %s (%zu-byte sectors%s): %llu steps\n", passed ? "passed " : "FAILED ", name,
	       choice.sector_size, choice.shifts_beside_aes ? ", by shifts" : "",
	       (unsigned long long)steps);
	return passed;
}

int main(void)
{
	static const size_t sector_sizes[] = {512, 4096};
	bool passed;

	choice.sector_size = 512;
	passed = check("a branch on a secret is noticed", branch_on_a_secret, false) &&
		 check("an address from a secret is noticed", look_up_a_secret, false);
	for (unsigned i = AES_XTS_VAES256; i < AES_XTS_IMPLEMENTATIONS; i++) {
		if (!aes_xts_implementation_available(i))
			continue;
		choice.implementation = i;
		for (unsigned j = 0; j < ARRAY_COUNT(sector_sizes) * 2; j++) {
			choice.sector_size = sector_sizes[j / 2];
			choice.shifts_beside_aes = j % 2 == 0;
			passed = check(aes_xts_implementation_name(i), cipher, true) && passed;
		}
	}
	return passed ? 0 : 1;
}

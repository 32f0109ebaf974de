/* The harness's machinery and main; see test.h. */
#include "tests/unit/test.h"

#include <ctype.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static struct test_case *first_test;
static struct test_case **next_place = &first_test;
static const struct test_case *running_test;
static jmp_buf test_end;
static pid_t child;
static char folder[64];

enum verdict { PASSED, FAILED, SKIPPED, VERDICTS };

void test_register(struct test_case *test)
{
	*next_place = test;
	next_place = &test->next;
}

void test_skip(const char *reason)
{
	printf("SKIPPED %s: %s\n", running_test->name, reason);
	longjmp(test_end, SKIPPED);
}

static void say_failed(struct test_place place)
{
	printf("FAILED  %s\n        %s:%d: %s\n", running_test->name, place.file, place.line,
	       place.text);
}

__attribute__((noreturn)) static void end_failed(void)
{
	longjmp(test_end, FAILED);
}

void test_expect_bool(struct test_place place, bool actual, bool expected)
{
	if (actual == expected)
		return;
	say_failed(place);
	printf("        is %s\n", actual ? "true" : "false");
	end_failed();
}

struct test_number test_number_signed(long long value)
{
	uint64_t magnitude = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;

	return (struct test_number){.magnitude = magnitude, .negative = value < 0};
}

struct test_number test_number_unsigned(unsigned long long value)
{
	return (struct test_number){.magnitude = value};
}

struct test_number test_number_pointer(const volatile void *value)
{
	return (struct test_number){.magnitude = (uintptr_t)value, .pointer = true};
}

static void print_number(const char *label, struct test_number number)
{
	if (number.pointer)
		printf("        %s 0x%" PRIx64 "\n", label, number.magnitude);
	else if (number.negative)
		printf("        %s -%" PRIu64 "\n", label, number.magnitude);
	else
		printf("        %s %" PRIu64 " (0x%" PRIx64 ")\n", label, number.magnitude,
		       number.magnitude);
}

static bool numbers_equal(struct test_number a, struct test_number b)
{
	return a.magnitude == b.magnitude && a.negative == b.negative;
}

void test_expect_equal(struct test_place place, struct test_number actual,
		       struct test_number expected)
{
	if (numbers_equal(actual, expected))
		return;
	say_failed(place);
	print_number("is       ", actual);
	print_number("should be", expected);
	end_failed();
}

void test_expect_not_equal(struct test_place place, struct test_number actual,
			   struct test_number unexpected)
{
	if (!numbers_equal(actual, unexpected))
		return;
	say_failed(place);
	print_number("should not be", actual);
	end_failed();
}

static void print_text(const char *label, const char *text)
{
	if (text)
		printf("        %s \"%s\"\n", label, text);
	else
		printf("        %s NULL\n", label);
}

void test_expect_text(struct test_place place, const char *actual, const char *expected)
{
	if (actual == expected || (actual && expected && strcmp(actual, expected) == 0))
		return;
	say_failed(place);
	print_text("is       ", actual);
	print_text("should be", expected);
	end_failed();
}

void test_expect_text_contains(struct test_place place, const char *actual, const char *part)
{
	if (actual && strstr(actual, part))
		return;
	say_failed(place);
	print_text("is            ", actual);
	print_text("should contain", part);
	end_failed();
}

static void print_bytes(const char *label, const uint8_t *bytes, size_t size)
{
	printf("        %s", label);
	for (size_t i = 0; i < size; i++)
		printf(" %02x", bytes[i]);
	printf("\n");
}

void test_expect_bytes(struct test_place place, const void *actual, const void *expected,
		       size_t size)
{
	const uint8_t *is = actual;
	const uint8_t *should_be = expected;

	for (size_t i = 0; i < size; i++) {
		if (is[i] == should_be[i])
			continue;
		size_t from = i - i % 16;
		size_t shown = MINIMUM(size - from, (size_t)32);
		say_failed(place);
		printf("        first difference at byte %zu of %zu; from byte %zu on\n", i, size,
		       from);
		print_bytes("is       ", is + from, shown);
		print_bytes("should be", should_be + from, shown);
		end_failed();
	}
}

void test_expect_status(struct test_place place, enum status actual, enum status expected)
{
	if (actual == expected)
		return;
	say_failed(place);
	printf("        is        %s (%s)\n", status_word(actual), status_sentence(actual));
	printf("        should be %s (%s)\n", status_word(expected), status_sentence(expected));
	end_failed();
}

bool test_child_starts(void)
{
	fflush(stdout);
	child = fork();
	if (child != 0)
		return false;
	/* What the child says of its death is expected, and would look like a failure. */
	int quiet = open("/dev/null", O_WRONLY);
	dup2(quiet, STDERR_FILENO);
	return true;
}

void test_child_survived(void)
{
	_exit(0);
}

void test_expect_child_aborted(struct test_place place)
{
	int status = 0;

	if (child < 0 || waitpid(child, &status, 0) != child) {
		say_failed(place);
		printf("        the child process could not be run\n");
		end_failed();
	}
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT)
		return;
	say_failed(place);
	printf("        should abort; wait status is 0x%x\n", (unsigned int)status);
	end_failed();
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)tolower((unsigned char)c);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

size_t test_from_hex(uint8_t *target, size_t target_size, const char *hex)
{
	size_t digits = 0;

	for (const char *c = hex; *c; c++) {
		if (isspace((unsigned char)*c))
			continue;
		int digit = hex_digit(*c);
		if (digit < 0 || digits / 2 >= target_size) {
			printf("FAILED  %s\n        test_from_hex: %s at \"%.32s\"\n",
			       running_test->name, digit < 0 ? "not hexadecimal" : "too long", c);
			end_failed();
		}
		uint8_t *byte = &target[digits / 2];
		*byte = (uint8_t)(digits % 2 ? (*byte << 4) | digit : digit);
		digits++;
	}
	return digits / 2;
}

static int remove_entry(const char *path, const struct stat *stat, int type, struct FTW *walk)
{
	(void)stat;
	(void)type;
	(void)walk;
	return remove(path);
}

static void remove_folder(void)
{
	nftw(folder, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

const char *test_folder(void)
{
	if (folder[0])
		return folder;
	snprintf(folder, sizeof(folder), "/tmp/byok-unit-XXXXXX");
	if (!mkdtemp(folder)) {
		perror("test_folder");
		exit(2);
	}
	return folder;
}

/* SplitMix64: any seed will do, and no state is kept. */
void test_fill(void *target, size_t size, uint64_t seed)
{
	uint8_t *bytes = target;

	for (size_t i = 0; i < size; i++) {
		uint64_t mixed = seed + (i / 8 + 1) * UINT64_C(0x9e3779b97f4a7c15);
		mixed = (mixed ^ (mixed >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
		mixed = (mixed ^ (mixed >> 27)) * UINT64_C(0x94d049bb133111eb);
		mixed ^= mixed >> 31;
		bytes[i] = (uint8_t)(mixed >> (i % 8 * 8));
	}
}

static enum verdict run_test(const struct test_case *test)
{
	running_test = test;
	int end = setjmp(test_end);
	if (end)
		return (enum verdict)end;
	test->run();
	return PASSED;
}

int main(int argc, char **argv)
{
	bool verbose = argc > 1 && strcmp(argv[1], "-v") == 0;
	const char *part = argc > 1 + verbose ? argv[1 + verbose] : "";
	unsigned int counts[VERDICTS] = {0};

	/* A crash must not swallow what was said before it. */
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (const struct test_case *test = first_test; test; test = test->next) {
		if (!strstr(test->name, part))
			continue;
		enum verdict verdict = run_test(test);
		counts[verdict]++;
		if (verbose && verdict == PASSED)
			printf("passed  %s\n", test->name);
	}
	if (folder[0])
		remove_folder();
	printf("%u passed, %u failed, %u skipped\n", counts[PASSED], counts[FAILED],
	       counts[SKIPPED]);
	return counts[FAILED] ? 1 : 0;
}

/* The harness of the unit tests. One file tests/unit/test_NAME.c is one program: it includes this
 * header, and what it tests, and holds TESTs whose names are sentences about behaviour.
 *
 *	TEST(a_short_header_is_refused)
 *	{
 *		EXPECT_STATUS(thing_decode(&thing, bytes, 3), FAIL_HEADER_CUT);
 *	}
 *
 * A test ends at its first failed expectation, which prints both values; the next test goes on.
 * Expectations work in helper functions too. Arguments are evaluated once, the actual value first.
 *
 * Programs are linked against an archive of all of byok but main. Whatever a test file defines or
 * #includes itself (a fake_disk.c that has the functions of backing_disk.h) takes the place of the
 * archive's object, provided that it defines everything that anybody uses of that object.
 * Other files tests/unit/NAME.c (without test_) are linked where they are used.
 *
 * Usage of a program: test_NAME [-v] [PART-OF-A-TEST'S-NAME]
 */
#ifndef TESTS_UNIT_TEST_H
#define TESTS_UNIT_TEST_H

#include "platform/base.h"
#include "platform/status.h"

struct test_case {
	const char *name;
	void (*run)(void);
	struct test_case *next;
};

struct test_place {
	const char *file;
	int line;
	const char *text; /* of the actual value's expression */
};

/* Any whole number or pointer, so that signed and unsigned compare as numbers do. */
struct test_number {
	uint64_t magnitude;
	bool negative;
	bool pointer;
};

#define TEST(sentence)                                                                             \
	static void test_that_##sentence(void);                                                    \
	__attribute__((constructor)) static void register_##sentence(void)                         \
	{                                                                                          \
		static struct test_case test = {#sentence, test_that_##sentence, NULL};            \
		test_register(&test);                                                              \
	}                                                                                          \
	static void test_that_##sentence(void)

/* Ends the test without a verdict: for what this machine cannot do. */
#define SKIP(reason) test_skip(reason)

#define EXPECT_TRUE(actual)  test_expect_bool(TEST_PLACE(actual), (actual), true)
#define EXPECT_FALSE(actual) test_expect_bool(TEST_PLACE(actual), (actual), false)
#define EXPECT_EQUAL(actual, expected)                                                             \
	test_expect_equal(TEST_PLACE(actual), TEST_NUMBER(actual), TEST_NUMBER(expected))
#define EXPECT_NOT_EQUAL(actual, unexpected)                                                       \
	test_expect_not_equal(TEST_PLACE(actual), TEST_NUMBER(actual), TEST_NUMBER(unexpected))
/* NUL-terminated texts; NULL equals only NULL. */
#define EXPECT_TEXT(actual, expected) test_expect_text(TEST_PLACE(actual), (actual), (expected))
#define EXPECT_TEXT_CONTAINS(actual, part)                                                         \
	test_expect_text_contains(TEST_PLACE(actual), (actual), (part))
#define EXPECT_BYTES(actual, expected, size)                                                       \
	test_expect_bytes(TEST_PLACE(actual), (actual), (expected), (size))
#define EXPECT_STATUS(actual, expected)                                                            \
	test_expect_status(TEST_PLACE(actual), (actual), (expected))
#define EXPECT_OK(actual) EXPECT_STATUS(actual, OK)
/* For CHECKs: the statement must end the program with SIGABRT. It runs in a child process. */
#define EXPECT_ABORT(statement)                                                                    \
	do {                                                                                       \
		if (test_child_starts()) {                                                         \
			statement;                                                                 \
			test_child_survived();                                                     \
		}                                                                                  \
		test_expect_child_aborted(TEST_PLACE(statement));                                  \
	} while (0)

/* Decodes hexadecimal text, spaces ignored; the test fails if it is not that or does not fit.
 * Gives the number of bytes. */
size_t test_from_hex(uint8_t *target, size_t target_size, const char *hex);

/* A folder of this program's own, removed with all that is in it when the program ends. */
const char *test_folder(void);

/* Bytes that look random and are the same in every run. */
void test_fill(void *target, size_t size, uint64_t seed);

/* --- what the macros stand on --- */

#define TEST_PLACE(text) ((struct test_place){__FILE__, __LINE__, #text})
#define TEST_NUMBER(value)                                                                         \
	_Generic((value),                                                                          \
		char: test_number_signed, signed char: test_number_signed,                         \
		short: test_number_signed, int: test_number_signed,                                \
		long: test_number_signed, long long: test_number_signed,                           \
		bool: test_number_unsigned, unsigned char: test_number_unsigned,                   \
		unsigned short: test_number_unsigned, unsigned int: test_number_unsigned,          \
		unsigned long: test_number_unsigned, unsigned long long: test_number_unsigned,     \
		default: test_number_pointer)(value)

struct test_number test_number_signed(long long value);
struct test_number test_number_unsigned(unsigned long long value);
struct test_number test_number_pointer(const volatile void *value);

void test_register(struct test_case *test);
__attribute__((noreturn)) void test_skip(const char *reason);
void test_expect_bool(struct test_place place, bool actual, bool expected);
void test_expect_equal(struct test_place place, struct test_number actual,
		       struct test_number expected);
void test_expect_not_equal(struct test_place place, struct test_number actual,
			   struct test_number unexpected);
void test_expect_text(struct test_place place, const char *actual, const char *expected);
void test_expect_text_contains(struct test_place place, const char *actual, const char *part);
void test_expect_bytes(struct test_place place, const void *actual, const void *expected,
		       size_t size);
void test_expect_status(struct test_place place, enum status actual, enum status expected);
bool test_child_starts(void);
__attribute__((noreturn)) void test_child_survived(void);
void test_expect_child_aborted(struct test_place place);

#endif

/* The self-test on a machine whose base64 gives wrong answers: the two functions below take the
 * place of crypto/base64.c. */
#include <string.h>

#include "crypto/base64.h"
#include "crypto/selftest.h"
#include "tests/unit/test.h"

size_t base64_encode(char *text, const void *bytes, size_t size, enum base64_form form)
{
	(void)bytes;
	(void)size;
	(void)form;
	strcpy(text, "Zm9vYmF=");
	return 8;
}

bool base64_decode(void *bytes, size_t *size, size_t capacity, const char *text, size_t text_length,
		   enum base64_form form)
{
	(void)bytes;
	(void)size;
	(void)capacity;
	(void)text;
	(void)text_length;
	(void)form;
	return false;
}

static void note(void *context, const char *name, const char *implementation, bool passed)
{
	unsigned *failed = context;

	(void)implementation;
	EXPECT_EQUAL(passed, strcmp(name, "base64") != 0);
	*failed += !passed;
}

TEST(one_wrong_answer_fails_the_start)
{
	EXPECT_STATUS(selftest_run(), FAIL_SELFTEST);
}

TEST(the_whole_selftest_goes_on_after_a_failure_and_names_it)
{
	unsigned failed = 0;

	EXPECT_STATUS(selftest_run_all(note, &failed), FAIL_SELFTEST);
	EXPECT_EQUAL(failed, 1);
}

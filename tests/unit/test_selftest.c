#include "crypto/selftest.h"

#include <string.h>

#include "crypto/aes_xts.h"
#include "tests/unit/test.h"

struct seen {
	unsigned count;
	unsigned passed;
	unsigned ciphers;
};

static void note(void *context, const char *name, const char *implementation, bool passed)
{
	struct seen *seen = context;
	enum aes_xts_implementation cipher;

	seen->count++;
	seen->passed += passed;
	if (strncmp(name, "aes-xts", 7) == 0 &&
	    aes_xts_implementation_from_name(&cipher, implementation) &&
	    aes_xts_implementation_available(cipher))
		seen->ciphers++;
}

TEST(this_machine_passes)
{
	EXPECT_OK(selftest_run());
}

TEST(each_available_cipher_is_reported_for_both_sector_sizes)
{
	struct seen seen = {0};
	unsigned available = 0;

	for (enum aes_xts_implementation i = 0; i < AES_XTS_IMPLEMENTATIONS; i++)
		available += aes_xts_implementation_available(i);
	EXPECT_OK(selftest_run_all(note, &seen));
	EXPECT_EQUAL(seen.passed, seen.count);
	EXPECT_EQUAL(seen.ciphers, 2 * available);
	EXPECT_TRUE(seen.count > seen.ciphers);
}

/* Which implementation is taken on which CPU: the function below takes the place of platform/cpu.c.
 */
#include "crypto/aes_xts.h"
#include "platform/cpu.h"
#include "tests/unit/test.h"

static struct cpu_features pretended;

void cpu_detect(struct cpu_features *features)
{
	*features = pretended;
}

TEST(a_cpu_without_aes_gets_the_portable_implementation)
{
	pretended = (struct cpu_features){0};
	EXPECT_EQUAL(aes_xts_implementation_best(), AES_XTS_PORTABLE);
	EXPECT_FALSE(aes_xts_implementation_available(AES_XTS_AESNI));
	EXPECT_FALSE(aes_xts_implementation_available(AES_XTS_VAES512));
}

TEST(the_widest_vectors_that_the_cpu_has_are_taken)
{
	pretended = (struct cpu_features){.aes_ni = true};
	EXPECT_EQUAL(aes_xts_implementation_best(), AES_XTS_AESNI);
	pretended.vaes256 = true;
	EXPECT_EQUAL(aes_xts_implementation_best(), AES_XTS_VAES256);
	EXPECT_FALSE(aes_xts_implementation_available(AES_XTS_VAES512));
	pretended.vaes512 = true;
	EXPECT_EQUAL(aes_xts_implementation_best(), AES_XTS_VAES512);
}

TEST(a_cpu_that_slows_down_under_512_bits_gets_256_but_may_be_asked_for_512)
{
	pretended = (struct cpu_features){
		.aes_ni = true, .vaes256 = true, .vaes512 = true, .avoid_zmm = true};
	EXPECT_EQUAL(aes_xts_implementation_best(), AES_XTS_VAES256);
	EXPECT_TRUE(aes_xts_implementation_available(AES_XTS_VAES512));
	pretended = (struct cpu_features){.aes_ni = true, .avoid_zmm = true};
	EXPECT_EQUAL(aes_xts_implementation_best(), AES_XTS_AESNI);
}

TEST(an_implementation_that_the_cpu_lacks_stops_the_program)
{
	uint8_t bytes[AES_XTS_KEY_SIZE] = {1};
	struct aes_xts_key key;

	pretended = (struct cpu_features){0};
	EXPECT_ABORT((void)(aes_xts_key_init_for(&key, AES_XTS_AESNI, bytes, 512) == OK));
}

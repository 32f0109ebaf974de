#include "crypto/argon2id.h"

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "tests/unit/test.h"

/* Version 1.3 vectors of the Argon2 reference implementation's own test program; RFC 9106's use a
 * secret and associated data, which LUKS2 has not. All of "password" and "somesalt". */
static const struct {
	enum argon2id_variant variant;
	struct argon2id_cost cost;
	const char *output;
} vectors[] = {
	{ARGON2ID_ID,
	 {.time = 2, .memory_kib = 65536, .lanes = 1},
	 "09316115d5cf24ed5a15a31a3ba326e5cf32edc24702987c02b6566f61913cf7"},
	{ARGON2ID_ID,
	 {.time = 2, .memory_kib = 256, .lanes = 1},
	 "9dfeb910e80bad0311fee20f9c0e2b12c17987b4cac90c2ef54d5b3021c68bfe"},
	{ARGON2ID_ID,
	 {.time = 2, .memory_kib = 256, .lanes = 2},
	 "6d093c501fd5999645e0ea3bf620d7b8be7fd2db59c20d9fff9539da2bf57037"},
	{ARGON2ID_I,
	 {.time = 2, .memory_kib = 65536, .lanes = 1},
	 "c1628832147d9720c5bd1cfd61367078729f6dfb6f8fea9ff98158e0d7816ed0"},
	{ARGON2ID_I,
	 {.time = 2, .memory_kib = 256, .lanes = 1},
	 "89e9029f4637b295beb027056a7336c414fadd43f6b208645281cb214a56452f"},
	{ARGON2ID_I,
	 {.time = 2, .memory_kib = 256, .lanes = 2},
	 "4ff5ce2769a1d7f4c8a491df09d41a9fbe90e5eb02155a13e4c01e20cd4eab61"},
};

TEST(the_vectors_of_the_reference_implementation_come_out)
{
	for (size_t i = 0; i < ARRAY_COUNT(vectors); i++) {
		uint8_t output[32], expected[32];

		EXPECT_EQUAL(test_from_hex(expected, sizeof(expected), vectors[i].output), 32);
		EXPECT_OK(argon2id_derive(vectors[i].variant, output, sizeof(output), "password", 8,
					  "somesalt", 8, &vectors[i].cost));
		EXPECT_BYTES(output, expected, sizeof(output));
	}
}

TEST(costs_and_sizes_that_rfc_9106_excludes_are_refused)
{
	static const struct argon2id_cost wrong[] = {
		{.time = 0, .memory_kib = 64, .lanes = 1},
		{.time = 1, .memory_kib = 7, .lanes = 1},
		{.time = 1, .memory_kib = 15, .lanes = 2},
		{.time = 1, .memory_kib = 64, .lanes = 0},
		{.time = 1, .memory_kib = UINT32_MAX, .lanes = UINT32_MAX},
	};
	static const struct argon2id_cost right = {.time = 1, .memory_kib = 64, .lanes = 1};
	uint8_t output[32];

	for (size_t i = 0; i < ARRAY_COUNT(wrong); i++)
		EXPECT_STATUS(argon2id_derive(ARGON2ID_ID, output, 32, "password", 8, "somesalt", 8,
					      &wrong[i]),
			      FAIL_KDF_COST);
	EXPECT_STATUS(argon2id_derive(ARGON2ID_ID, output, 3, "password", 8, "somesalt", 8, &right),
		      FAIL_KDF_COST);
	EXPECT_STATUS(argon2id_derive(ARGON2ID_ID, output, 32, "password", 8, "somesal", 7, &right),
		      FAIL_KDF_COST);
	EXPECT_OK(argon2id_derive(ARGON2ID_ID, output, 4, "", 0, "somesalt", 8, &right));
}

TEST(memory_that_cannot_be_had_is_reported_and_nothing_is_left_mapped)
{
	static const struct argon2id_cost cost = {
		.time = 1, .memory_kib = 2048u * 1024 * 1024, .lanes = 1};
	struct rlimit before, tight;
	uint8_t output[32];
	enum status status;

	EXPECT_EQUAL(getrlimit(RLIMIT_DATA, &before), 0);
	tight = before;
	tight.rlim_cur = 1u << 30;
	EXPECT_EQUAL(setrlimit(RLIMIT_DATA, &tight), 0);
	status = argon2id_derive(ARGON2ID_ID, output, 32, "password", 8, "somesalt", 8, &cost);
	EXPECT_EQUAL(setrlimit(RLIMIT_DATA, &before), 0);
	EXPECT_STATUS(status, FAIL_OUT_OF_MEMORY);
}

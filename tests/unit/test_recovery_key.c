#include "crypto/recovery_key.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "tests/unit/test.h"

static const char symbols[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

static struct secret encoded(uint64_t seed)
{
	struct secret text;
	uint8_t key[RECOVERY_KEY_SIZE];

	test_fill(key, sizeof(key), seed);
	recovery_key_encode(&text, key);
	EXPECT_EQUAL(text.size, RECOVERY_KEY_TEXT_LENGTH);
	return text;
}

static void expect_canonical(const char *typed, size_t size, const struct secret *text)
{
	struct secret canonical;
	unsigned wrong_group = 99;

	EXPECT_OK(recovery_key_normalise(&canonical, &wrong_group, typed, size));
	EXPECT_EQUAL(canonical.size, text->size);
	EXPECT_BYTES(canonical.bytes, text->bytes, text->size);
	EXPECT_EQUAL(wrong_group, 99);
}

/* Expects a typing error, in this very group. */
static void expect_typo(const void *typed, size_t size, unsigned group)
{
	struct secret canonical = {.size = 77};
	unsigned wrong_group = 0;

	EXPECT_STATUS(recovery_key_normalise(&canonical, &wrong_group, typed, size),
		      FAIL_RECOVERY_KEY_TYPO);
	EXPECT_EQUAL(wrong_group, group);
	EXPECT_EQUAL(canonical.size, 77);
}

TEST(a_key_becomes_13_groups_of_5_symbols)
{
	for (uint64_t seed = 0; seed < 50; seed++) {
		struct secret text = encoded(seed);

		for (size_t i = 0; i < text.size; i++) {
			if (i % 6 == 5)
				EXPECT_EQUAL(text.bytes[i], '-');
			else
				EXPECT_TRUE(strchr(symbols, text.bytes[i]) != NULL);
		}
		expect_canonical((const char *)text.bytes, text.size, &text);
	}
}

/* The first groups worked out by hand from the header's description: 0x00 0x44 0x32 0x14 is
 * 00000 00001 00010 00011 | 00100 00101 00100 00000; checks are 2a + 3b + 4c + 5d + place. */
TEST(the_encoding_is_what_it_always_was)
{
	static const uint8_t key[RECOVERY_KEY_SIZE] = {0x00, 0x44, 0x32, 0x14, 0x80};
	static const uint8_t ones[RECOVERY_KEY_SIZE] = {
		255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
		255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255};
	struct secret text;

	recovery_key_encode(&text, key);
	EXPECT_BYTES(
		text.bytes,
		"01235-4540N-00003-00004-00005-00006-00007-00008-00009-0000A-0000B-0000C-0000D",
		RECOVERY_KEY_TEXT_LENGTH);
	recovery_key_encode(&text, ones);
	EXPECT_BYTES(
		text.bytes,
		"ZZZZ1-ZZZZ2-ZZZZ3-ZZZZ4-ZZZZ5-ZZZZ6-ZZZZ7-ZZZZ8-ZZZZ9-ZZZZA-ZZZZB-ZZZZC-ZZZGV",
		RECOVERY_KEY_TEXT_LENGTH);
}

TEST(different_keys_have_different_texts)
{
	uint8_t key[RECOVERY_KEY_SIZE];
	struct secret text = encoded(1);

	for (size_t bit = 0; bit < RECOVERY_KEY_SIZE * 8; bit++) {
		struct secret other;

		test_fill(key, sizeof(key), 1);
		key[bit / 8] ^= (uint8_t)(1 << bit % 8);
		recovery_key_encode(&other, key);
		EXPECT_TRUE(memcmp(other.bytes, text.bytes, text.size) != 0);
	}
}

TEST(lower_case_look_alikes_and_free_separators_are_understood)
{
	for (uint64_t seed = 0; seed < 50; seed++) {
		struct secret text = encoded(seed);
		char typed[8 * RECOVERY_KEY_TEXT_LENGTH];
		size_t size = 0;

		typed[size++] = '\n';
		for (size_t i = 0; i < text.size; i++) {
			char c = (char)text.bytes[i];

			if (c == '-' && seed % 3 == 0)
				continue;
			if (c == '0')
				c = "0Oo"[i % 3];
			if (c == '1')
				c = "1IiLl"[i % 5];
			typed[size++] = (char)(seed % 2 == 0 ? tolower((unsigned char)c) : c);
			if (seed % 5 == 0)
				typed[size++] = " -\t"[i % 3];
		}
		typed[size++] = '\r';
		typed[size++] = '\n';
		expect_canonical(typed, size, &text);
	}
}

TEST(every_single_wrong_symbol_is_found_in_its_group)
{
	struct secret text = encoded(2);

	for (size_t i = 0; i < text.size; i++) {
		if (text.bytes[i] == '-')
			continue;
		for (size_t j = 0; j < 32; j++) {
			struct secret typed = text;

			if (symbols[j] == text.bytes[i])
				continue;
			typed.bytes[i] = (uint8_t)symbols[j];
			expect_typo(typed.bytes, typed.size, (unsigned)(i / 6 + 1));
		}
	}
}

TEST(every_swap_of_two_symbols_within_a_group_is_found)
{
	for (uint64_t seed = 0; seed < 20; seed++) {
		struct secret text = encoded(seed);

		for (size_t i = 0; i < text.size; i++) {
			for (size_t j = i + 1; j / 6 == i / 6 && j % 6 != 5; j++) {
				struct secret typed = text;

				if (text.bytes[i] == text.bytes[j])
					continue;
				typed.bytes[i] = text.bytes[j];
				typed.bytes[j] = text.bytes[i];
				expect_typo(typed.bytes, typed.size, (unsigned)(i / 6 + 1));
			}
		}
	}
}

TEST(every_swap_of_two_groups_is_found)
{
	struct secret text = encoded(3);

	for (size_t i = 0; i < RECOVERY_KEY_GROUPS; i++) {
		for (size_t j = i + 1; j < RECOVERY_KEY_GROUPS; j++) {
			struct secret typed = text;

			memcpy(typed.bytes + 6 * i, text.bytes + 6 * j, 5);
			memcpy(typed.bytes + 6 * j, text.bytes + 6 * i, 5);
			expect_typo(typed.bytes, typed.size, (unsigned)(i + 1));
		}
	}
}

TEST(a_foreign_character_is_found_in_its_group)
{
	static const char foreign[] = "Uu!@#*+=_.,/:;<>?[]{}~`'\"\\|\x80\xff\x01";
	struct secret text = encoded(4);

	for (size_t i = 0; i < text.size; i++) {
		if (text.bytes[i] == '-')
			continue;
		for (size_t j = 0; j < sizeof(foreign); j++) { /* its NUL too */
			struct secret typed = text;

			typed.bytes[i] = (uint8_t)foreign[j];
			expect_typo(typed.bytes, typed.size, (unsigned)(i / 6 + 1));
		}
	}
}

TEST(a_text_cut_short_is_reported_where_it_ends)
{
	struct secret text = encoded(5);

	for (size_t size = 0; size < text.size; size++)
		expect_typo(text.bytes, size, (unsigned)((size + 1) / 6 + 1));
}

TEST(a_missing_group_is_reported_at_its_place)
{
	struct secret text = encoded(6);

	for (size_t group = 0; group + 1 < RECOVERY_KEY_GROUPS; group++) {
		struct secret typed = text;

		memmove(typed.bytes + 6 * group, text.bytes + 6 * (group + 1),
			text.size - 6 * (group + 1));
		typed.size -= 6;
		expect_typo(typed.bytes, typed.size, (unsigned)(group + 1));
	}
}

TEST(anything_behind_the_last_group_is_refused)
{
	static const char *const behind[] = {"0", "-0", " Z", "!", "\x01"};
	struct secret text = encoded(7);

	for (size_t i = 0; i < ARRAY_COUNT(behind); i++) {
		struct secret typed = text;

		memcpy(typed.bytes + typed.size, behind[i], strlen(behind[i]));
		typed.size += strlen(behind[i]);
		expect_typo(typed.bytes, typed.size, RECOVERY_KEY_GROUPS);
	}
}

TEST(spare_bits_of_the_last_symbol_must_be_zero)
{
	struct secret typed = encoded(8);
	unsigned accepted = 0;

	/* With any of the 32 symbols there, and any check symbol behind it: one text is right. */
	for (size_t i = 0; i < 32 * 32; i++) {
		struct secret canonical;
		unsigned wrong_group;

		typed.bytes[typed.size - 2] = (uint8_t)symbols[i % 32];
		typed.bytes[typed.size - 1] = (uint8_t)symbols[i / 32];
		accepted += recovery_key_normalise(&canonical, &wrong_group, typed.bytes,
						   typed.size) == OK;
	}
	EXPECT_EQUAL(accepted, 2); /* the one bit of the key in that symbol */
}

#include "crypto/recovery_key.h"

#include "crypto/constant_time.h"

/* 52 symbols carry the 256 bits of the key, the first bit first, and four zero bits at the end. */
#define GROUP_SYMBOLS 5
#define GROUP_DATA 4
#define SYMBOL_BITS 5
#define SYMBOLS (RECOVERY_KEY_GROUPS * GROUP_SYMBOLS)
#define SPARE_BITS (RECOVERY_KEY_GROUPS * GROUP_DATA * SYMBOL_BITS - RECOVERY_KEY_SIZE * 8)

_Static_assert(SPARE_BITS >= 0 && SPARE_BITS < SYMBOL_BITS, "the key fills all groups");
_Static_assert(RECOVERY_KEY_TEXT_LENGTH <= SECRET_SIZE_MAX, "the text is a secret");

/* '0'-'9', then the letters without I, L, O and U. */
static char symbol_to_character(uint32_t symbol)
{
	return (char)('0' + symbol + 7 * constant_time_at_least(symbol, 10) +
		      constant_time_at_least(symbol, 18) + constant_time_at_least(symbol, 20) +
		      constant_time_at_least(symbol, 22) + constant_time_at_least(symbol, 27));
}

static uint32_t is_character(uint32_t character, char wanted)
{
	return constant_time_between(character, (uint32_t)wanted, (uint32_t)wanted);
}

/* 32 or more for a foreign character. */
static uint32_t symbol_from_character(uint32_t character)
{
	uint32_t letter, digit, value;

	character -= constant_time_between(character, 'a', 'z') & ('a' - 'A');
	character -= is_character(character, 'O') & ('O' - '0');
	character -= is_character(character, 'I') & ('I' - '1');
	character -= is_character(character, 'L') & ('L' - '1');
	digit = constant_time_between(character, '0', '9');
	letter = constant_time_between(character, 'A', 'Z') & ~is_character(character, 'U');
	value = (digit & (character - '0')) | (letter & (character - '0' - 7));
	value -= letter &
		 (constant_time_at_least(character, 'J') + constant_time_at_least(character, 'M') +
		  constant_time_at_least(character, 'P') + constant_time_at_least(character, 'V'));
	return value | (~(digit | letter) & 32);
}

/* In GF(32) by x^5 + x^2 + 1; `factor` is no secret. */
static uint32_t multiply(uint32_t symbol, uint32_t factor)
{
	uint32_t product = 0;

	for (; factor != 0; factor >>= 1) {
		if (factor & 1)
			product ^= symbol;
		symbol = symbol << 1 ^ ((0 - (symbol >> 4)) & 0x25);
	}
	return product;
}

/* 2a + 3b + 4c + 5d + place. The check symbol itself counts once: so no two symbols of a group have
 * the same factor, and none has 0, which is what finds wrong and swapped ones. */
static uint32_t check_symbol(const uint8_t data[static GROUP_DATA], uint32_t group)
{
	uint32_t sum = group + 1;

	for (uint32_t i = 0; i < GROUP_DATA; i++)
		sum ^= multiply(data[i], i + 2);
	return sum;
}

static void write_text(struct secret *text, const uint8_t symbols[static SYMBOLS])
{
	text->size = 0;
	for (size_t i = 0; i < SYMBOLS; i++) {
		if (i > 0 && i % GROUP_SYMBOLS == 0)
			text->bytes[text->size++] = '-';
		text->bytes[text->size++] = (uint8_t)symbol_to_character(symbols[i]);
	}
	CHECK(text->size == RECOVERY_KEY_TEXT_LENGTH);
}

void recovery_key_encode(struct secret *text, const uint8_t key[static RECOVERY_KEY_SIZE])
{
	uint8_t symbols[SYMBOLS];
	uint32_t bits = 0;
	unsigned bit_count = 0;
	size_t taken = 0;

	for (size_t i = 0; i < SYMBOLS; i++) {
		if (i % GROUP_SYMBOLS == GROUP_DATA) {
			symbols[i] = (uint8_t)check_symbol(symbols + i - GROUP_DATA,
							   (uint32_t)(i / GROUP_SYMBOLS));
			continue;
		}
		if (bit_count < SYMBOL_BITS) {
			bits = bits << 8 | (taken < RECOVERY_KEY_SIZE ? key[taken] : 0u);
			taken++;
			bit_count += 8;
		}
		bit_count -= SYMBOL_BITS;
		symbols[i] = bits >> bit_count & 31;
	}
	write_text(text, symbols);
	secret_wipe_bytes(symbols, sizeof(symbols));
}

static bool separates(uint8_t character)
{
	return character == '-' || character == ' ' || (character >= '\t' && character <= '\r');
}

/* False at the first character that is foreign or one too many; `count` symbols stand before it. */
static bool read_symbols(uint8_t symbols[static SYMBOLS], size_t *count, const uint8_t *typed,
			 size_t typed_size)
{
	*count = 0;
	for (size_t i = 0; i < typed_size; i++) {
		uint32_t symbol;

		if (separates(typed[i]))
			continue;
		symbol = symbol_from_character(typed[i]);
		if (symbol >= 32 || *count == SYMBOLS)
			return false;
		symbols[(*count)++] = (uint8_t)symbol;
	}
	return true;
}

/* The first group, from 0, of the `count` whole ones that is not as it was printed; `count` if all
 * are. */
static uint32_t first_wrong_group(const uint8_t symbols[static SYMBOLS], uint32_t count)
{
	uint32_t first = count;

	for (uint32_t group = count; group-- > 0;) {
		const uint8_t *data = symbols + group * GROUP_SYMBOLS;
		uint32_t wrong = check_symbol(data, group) ^ data[GROUP_DATA];

		if (group == RECOVERY_KEY_GROUPS - 1)
			wrong |= data[GROUP_DATA - 1] & ((1u << SPARE_BITS) - 1);
		if (wrong != 0)
			first = group;
	}
	return first;
}

enum status recovery_key_normalise(struct secret *canonical, unsigned *wrong_group,
				   const void *typed, size_t typed_size)
{
	uint8_t symbols[SYMBOLS] = {0};
	size_t count;
	bool clean = read_symbols(symbols, &count, typed, typed_size);
	uint32_t wrong = first_wrong_group(symbols, (uint32_t)count / GROUP_SYMBOLS);
	bool right = clean && wrong == RECOVERY_KEY_GROUPS;

	if (right)
		write_text(canonical, symbols);
	else
		*wrong_group = MINIMUM(wrong, RECOVERY_KEY_GROUPS - 1u) + 1;
	secret_wipe_bytes(symbols, sizeof(symbols));
	return right ? OK : FAIL_RECOVERY_KEY_TYPO;
}

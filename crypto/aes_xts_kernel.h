/* The XTS loop over vectors of AES blocks. Each implementation with AES instructions includes this
 * once, after it has said what a vector is:
 *
 *   TARGET            the instructions it needs, as a function attribute
 *   VECTOR, LANES     its type, and how many blocks it holds
 *   V_LOAD, V_STORE   at any alignment
 *   V_BROADCAST       one block into all lanes
 *   V_XOR, V_XOR3     of two, of three
 *   V_LEFT            shifts each lane by bytes
 *   V_OUT_LEFT, V_OUT_RIGHT   shift the halves of each lane left by the place in its group that the
 *                     lane has in vector i; and right, so that what fell out on the left remains
 *   V_CARRIES         into the upper half of each lane, 32 bits apart, the LANES highest bytes of
 *                     the same lane of its two arguments
 *   V_WORD_0, V_WORD_1   that 32-bit word of each lane, as a number
 *   V_MULTIPLY        carry-less, of the halves of each lane that its last argument names
 *   V_ENCRYPT, V_ENCRYPT_LAST, V_DECRYPT, V_DECRYPT_LAST   one round of AES
 *   TWEAK_VECTORS, EACH_TWEAK_VECTOR   how many vectors of first tweaks are encrypted together
 *
 * and gets kernel_run. Eight vectors at a time hide the latency of a round. Rounds and vectors are
 * written out by macro, because compilers keep arrays of vectors in memory.
 */
#ifndef CRYPTO_AES_XTS_KERNEL_H
#define CRYPTO_AES_XTS_KERNEL_H

#include <immintrin.h>
#include <string.h>

#include "crypto/aes_xts_implementation.h"
#include "platform/secret.h"

#define INLINE static inline __attribute__((always_inline)) TARGET

#define EACH_VECTOR(STEP) STEP(0) STEP(1) STEP(2) STEP(3) STEP(4) STEP(5) STEP(6) STEP(7)
#define EACH_MIDDLE_ROUND(STEP) \
	STEP(1)                 \
	STEP(2)                 \
	STEP(3) STEP(4) STEP(5) STEP(6) STEP(7) STEP(8) STEP(9) STEP(10) STEP(11) STEP(12) STEP(13)

enum {
	GROUP_BLOCKS = 8 * LANES,
	GROUP_SIZE = 16 * GROUP_BLOCKS,
	BATCH_SECTORS = TWEAK_VECTORS * LANES,
	LAST_ROUND = AES_XTS_ROUND_KEYS - 1,
	PREFETCH_DISTANCE = 6 * 1024, /* asked for later, data from memory arrive too late */
	CACHE_LINE_SIZE = 64,
};

_Static_assert(AES_XTS_SECTOR_SIZE_MIN % (2 * GROUP_SIZE) == 0, "sectors are pairs of groups");
_Static_assert(GROUP_SIZE / CACHE_LINE_SIZE <= LAST_ROUND - 1, "one line per round is prefetched");

/* What stays the same over all groups. Tweaks are carried "white", with the last round key added:
 * so the last round of AES adds both, and XTS's second addition costs nothing. */
struct constants {
	VECTOR polynomial;
	VECTOR first; /* first and last round key together: the last one leaves a white tweak */
	VECTOR last;  /* the last round key */
	VECTOR step;  /* makes good what a step does to the last round key in a white tweak */
};

/* A pair of tweaks from one group to the next: times x^(8 * LANES), a shift by whole bytes. What
 * falls out comes back in, times the polynomial. As a product takes slots of AES on AMD, one is
 * made for both: the bytes that fall out stand 32 bits apart, and so do their short products. */
INLINE void step_tweaks(VECTOR *a, VECTOR *b, VECTOR polynomial, VECTOR correction)
{
	VECTOR carries = V_MULTIPLY(V_CARRIES(*a, *b), polynomial, 0x01);

	*a = V_XOR3(V_LEFT(*a, LANES), V_WORD_0(carries), correction);
	*b = V_XOR3(V_LEFT(*b, LANES), V_WORD_1(carries), correction);
}

INLINE struct constants prepare(const uint8_t rounds[static AES_XTS_ROUND_KEYS][64])
{
	static const uint64_t polynomial[2] = {AES_XTS_POLYNOMIAL, 0};
	struct constants constants = {.polynomial = V_BROADCAST(polynomial)};
	VECTOR unused = constants.polynomial;

	constants.last = V_LOAD(rounds[LAST_ROUND]);
	constants.first = V_XOR(V_LOAD(rounds[0]), constants.last);
	constants.step = constants.last;
	step_tweaks(&constants.step, &unused, constants.polynomial, constants.last);
	return constants;
}

/* The white tweaks of vector i of a sector's first group: each lane times x^place, the place of its
 * block. What falls out of the lower half goes into the upper one; what falls out of that comes
 * back in, times the polynomial. Shifts cost no slots of AES on AMD, where a product costs two. */
#define START_TWEAK(i, first_tweak, constants)                                                \
	V_XOR(V_XOR3(V_OUT_LEFT(first_tweak, i), V_LEFT(V_OUT_RIGHT(first_tweak, i), 8),      \
		     V_MULTIPLY(V_OUT_RIGHT(first_tweak, i), (constants)->polynomial, 0x01)), \
	      (constants)->last)

/* Replaces the unit numbers of a batch by the first tweaks of its sectors. Rare enough to be shared
 * by both directions. */
AES_XTS_CLEARS_REGISTERS __attribute__((noinline)) TARGET static void
encrypt_tweaks(uint8_t tweaks[static BATCH_SECTORS][16],
	       const uint8_t rounds[static AES_XTS_ROUND_KEYS][64])
{
	VECTOR round_key = V_LOAD(rounds[0]);

#define BEGIN(i) VECTOR tweak##i = V_XOR(V_LOAD(tweaks[i * LANES]), round_key);
#define MIDDLE(i) tweak##i = V_ENCRYPT(tweak##i, round_key);
#define MIDDLE_ROUND(r)                \
	round_key = V_LOAD(rounds[r]); \
	EACH_TWEAK_VECTOR(MIDDLE)
#define FINISH(i) V_STORE(tweaks[i * LANES], V_ENCRYPT_LAST(tweak##i, round_key));

	EACH_TWEAK_VECTOR(BEGIN)
	EACH_MIDDLE_ROUND(MIDDLE_ROUND)
	round_key = V_LOAD(rounds[LAST_ROUND]);
	EACH_TWEAK_VECTOR(FINISH)

#undef BEGIN
#undef MIDDLE
#undef MIDDLE_ROUND
#undef FINISH
}

/* The tweaks of the group in hand, and of the next one; in memory, as there are not enough
 * registers for them, which wide vectors would not notice but these do. */
struct tweaks {
	_Alignas(64) uint8_t of_groups[2][8][sizeof(VECTOR)];
};

/* The tweaks of the first group of a sector. */
INLINE void start_sector(struct tweaks *tweaks, const uint8_t first_tweak[static 16],
			 const struct constants *constants)
{
	uint8_t(*next)[sizeof(VECTOR)] = tweaks->of_groups[0];
	VECTOR first = V_BROADCAST(first_tweak);

#define START(i) V_STORE(next[i], START_TWEAK(i, first, constants));
	EACH_VECTOR(START)
#undef START
}

/* Begins with the tweaks of its first group in hand, and leaves those of the next sector's.
 * `ahead` is where to prefetch from, and is never read otherwise. Between the rounds of a group,
 * the tweaks of the next one are made, so that AES has something to do all the time; KEEP_ORDER
 * holds compilers to that. */
INLINE void transform_sector(const struct aes_xts_sector *sector, size_t sector_size,
			     const uint8_t next_first_tweak[static 16], struct tweaks *tweaks,
			     const uint8_t rounds[static AES_XTS_ROUND_KEYS][64],
			     const struct constants *constants, bool encrypt, uintptr_t ahead)
{
	const uint8_t *source = sector->source;
	uint8_t *target = sector->target;
	uint8_t(*now)[sizeof(VECTOR)] = tweaks->of_groups[0];
	uint8_t(*next)[sizeof(VECTOR)] = tweaks->of_groups[1];
	VECTOR round_key;

#define BEGIN(i) \
	VECTOR block##i = V_XOR3(V_LOAD(source + 16 * LANES * i), V_LOAD(now[i]), constants->first);
#define MIDDLE(i) \
	block##i = encrypt ? V_ENCRYPT(block##i, round_key) : V_DECRYPT(block##i, round_key);
#define IN_PLACE(i) "+x"(block##i)
#define KEEP_ORDER                                                                          \
	__asm__ volatile(""                                                                 \
			 : IN_PLACE(0), IN_PLACE(1), IN_PLACE(2), IN_PLACE(3), IN_PLACE(4), \
			   IN_PLACE(5), IN_PLACE(6), IN_PLACE(7)                            \
			 :                                                                  \
			 : "memory");
#define STEP_PAIR(r, i)                                                      \
	if (r == 3 + i) {                                                    \
		VECTOR a = V_LOAD(now[i]), b = V_LOAD(now[i + 1]);           \
                                                                             \
		step_tweaks(&a, &b, constants->polynomial, constants->step); \
		V_STORE(next[i], a);                                         \
		V_STORE(next[i + 1], b);                                     \
	}
#define STEP(r) STEP_PAIR(r, 0) STEP_PAIR(r, 2) STEP_PAIR(r, 4) STEP_PAIR(r, 6)
#define START_ONE(r, i) \
	if (r == 3 + i) \
		V_STORE(next[i], START_TWEAK(i, V_BROADCAST(next_first_tweak), constants));
#define START(r)                                                                        \
	START_ONE(r, 0)                                                                 \
	START_ONE(r, 1) START_ONE(r, 2) START_ONE(r, 3) START_ONE(r, 4) START_ONE(r, 5) \
		START_ONE(r, 6) START_ONE(r, 7)
#define MIDDLE_ROUND(r, MAKE_TWEAKS)                                                          \
	round_key = V_LOAD(rounds[r]);                                                        \
	if ((r - 1) * CACHE_LINE_SIZE < GROUP_SIZE)                                           \
		_mm_prefetch((const char *)(ahead + (r - 1) * CACHE_LINE_SIZE), _MM_HINT_T0); \
	MAKE_TWEAKS(r) EACH_VECTOR(MIDDLE) KEEP_ORDER
#define ROUND_AND_STEP(r) MIDDLE_ROUND(r, STEP)
#define ROUND_AND_START(r) MIDDLE_ROUND(r, START)
#define FINISH(i)                                                                      \
	round_key = V_LOAD(now[i]);                                                    \
	V_STORE(target + 16 * LANES * i, encrypt ? V_ENCRYPT_LAST(block##i, round_key) \
						 : V_DECRYPT_LAST(block##i, round_key));

	for (size_t left = sector_size - GROUP_SIZE; left > 0; left -= GROUP_SIZE) {
		uint8_t(*spare)[sizeof(VECTOR)] = now;

		EACH_VECTOR(BEGIN)
		EACH_MIDDLE_ROUND(ROUND_AND_STEP)
		EACH_VECTOR(FINISH)
		now = next;
		next = spare;
		source += GROUP_SIZE;
		target += GROUP_SIZE;
		ahead += GROUP_SIZE;
	}
	/* Sectors have an even number of groups: the last one's tweaks stand where the next
	 * sector's first do not. */
	EACH_VECTOR(BEGIN)
	EACH_MIDDLE_ROUND(ROUND_AND_START)
	EACH_VECTOR(FINISH)

#undef BEGIN
#undef MIDDLE
#undef STEP_PAIR
#undef STEP
#undef START_ONE
#undef START
#undef MIDDLE_ROUND
#undef ROUND_AND_STEP
#undef ROUND_AND_START
#undef FINISH
}

INLINE void kernel_run(const struct aes_xts_key *key, const struct sector_run *runs,
		       size_t run_count, const uint8_t data_rounds[static AES_XTS_ROUND_KEYS][64],
		       bool encrypt)
{
	struct aes_xts_cursor cursor = {runs, run_count, 0};
	struct aes_xts_sector sectors[BATCH_SECTORS];
	_Alignas(64) uint8_t tweaks[BATCH_SECTORS][16] = {0};
	struct tweaks group_tweaks;
	struct constants constants = prepare(data_rounds);
	size_t sector_size = key->sector_size;
	size_t sectors_ahead = (PREFETCH_DISTANCE + sector_size - 1) / sector_size;
	size_t count;

	while ((count = aes_xts_cursor_take(&cursor, sectors, BATCH_SECTORS, sector_size)) != 0) {
		for (size_t i = 0; i < count; i++) {
			const uint64_t counter[2] = {sectors[i].unit, 0};

			memcpy(tweaks[i], counter, 16);
		}
		encrypt_tweaks(tweaks, key->rounds.tweak);
		start_sector(&group_tweaks, tweaks[0], &constants);
		for (size_t i = 0; i < count; i++) {
			/* Behind the batch, the run most likely goes on. */
			uintptr_t ahead = i + sectors_ahead < count
						  ? (uintptr_t)sectors[i + sectors_ahead].source
						  : (uintptr_t)sectors[i].source +
							    sectors_ahead * sector_size;

			transform_sector(&sectors[i], sector_size,
					 tweaks[MINIMUM(i + 1, count - 1)], &group_tweaks,
					 data_rounds, &constants, encrypt, ahead);
		}
	}
	secret_wipe_bytes(tweaks, sizeof(tweaks));
	secret_wipe_bytes(&group_tweaks, sizeof(group_tweaks));
	secret_wipe_bytes(&constants, sizeof(constants));
}

#endif

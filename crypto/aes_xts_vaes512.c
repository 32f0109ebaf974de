/* AES-XTS with 512-bit VAES: four blocks per instruction. Round keys come from
 * aes_xts_aesni_expand. Made so that the AES units are never idle:
 *
 * Tweaks are windows. Divide the first tweak of a sector by XTS's polynomial x^128 + x^7 + x^2 + x
 * + 1, as a series in 1/x, and call the bits of the result s. The tweak of block i is then the 128
 * bits of s from bit i on, with g(highest byte) added to its lowest byte, where g(b) is b >> 1 ^
 * b >> 6 ^ b >> 7. And s goes on by itself: every bit is the sum of those 121, 126, 127 and 128
 * before it. So a sector gets its first tweak and as much of s as its blocks need, 128 bits at a
 * time; from there on a tweak is a load from the right byte, a shift by up to seven bits, and g.
 *
 * What runs beside AES is not the same everywhere. On AMD (measured on Zen 5) shifts cost nothing,
 * but a carry-less product takes two slots of AES and a multishift one; on Intel shifts take slots
 * and the others are free. Hence `by_shifts`.
 *
 * Two groups of eight vectors are on their way together, as eight alone cannot fill two AES units
 * of latency four. Whatever else there is to do stands between their rounds: the tweaks of the next
 * two groups, which wait in memory for their turn, and the first tweaks of sectors further on. A
 * burst of other instructions between groups would let AES run dry. KEEP_ORDER holds compilers to
 * that, which like to gather equal instructions.
 */
#include <immintrin.h>

#include "crypto/aes_xts_implementation.h"
#include "platform/bytes.h"

#define TARGET                                                                          \
	__attribute__((target("aes,avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,vaes," \
			      "vpclmulqdq")))
#define INLINE static inline __attribute__((always_inline)) TARGET

enum {
	VECTOR_SIZE = 64,
	CACHE_LINE_SIZE = 64,
	GROUP_SIZE = 8 * VECTOR_SIZE,
	LAST_ROUND = AES_XTS_ROUND_KEYS - 1,
	PREFETCH_DISTANCE = 8 * 1024, /* asked for later, data from memory arrive too late */

	BATCH_SECTORS = 4, /* whose first tweaks are encrypted together */
	SECTORS_AHEAD = 8, /* that have their bits, or get them now */
	SECTORS = 16,      /* room for them and the ones in hand */

	/* The bits of one sector. They begin at the top of the 16 bytes at WINDOW_OFFSET, the first
	 * window, and go on downwards. */
	SERIES_SIZE = 64,
	WINDOW_OFFSET = 40,
	BLOCKS_PER_BYTE = 8,
};

_Static_assert(AES_XTS_SECTOR_SIZE_MIN % GROUP_SIZE == 0, "sectors are whole groups");

#define EACH_OF_4(STEP) STEP(0) STEP(1) STEP(2) STEP(3)
#define EACH_OF_8(STEP) EACH_OF_4(STEP) STEP(4) STEP(5) STEP(6) STEP(7)
#define EACH_OF_16(STEP) \
	EACH_OF_8(STEP)  \
	STEP(8) STEP(9) STEP(10) STEP(11) STEP(12) STEP(13) STEP(14) STEP(15)
#define EACH_MIDDLE_ROUND(STEP) \
	STEP(1)                 \
	STEP(2)                 \
	STEP(3) STEP(4) STEP(5) STEP(6) STEP(7) STEP(8) STEP(9) STEP(10) STEP(11) STEP(12) STEP(13)

#define LOAD(aligned) _mm512_load_si512(aligned)
#define STORE(aligned, vector) _mm512_store_si512(aligned, vector)
#define XOR(a, b) _mm512_xor_si512(a, b)
#define XOR3(a, b, c) _mm512_ternarylogic_epi64(a, b, c, 0x96)
#define XOR_AND(a, b, c) _mm512_ternarylogic_epi64(a, b, c, 0x78) /* a ^ (b & c) */
#define MULTIPLY(a, b, halves) _mm512_clmulepi64_epi128(a, b, halves)
#define MULTISHIFT(positions, a) _mm512_multishift_epi64_epi8(positions, a)
#define ROUND(block, round_key) _mm512_aesenc_epi128(block, round_key)

/* How much of the stack a transform may use for vectors: clang keeps constants there that hold
 * round keys. A test looks for what is left. */
#ifdef __clang__
#define STACK_USED_MAX 768
#else
#define STACK_USED_MAX 256
#endif

/* Everything that a call leaves in memory is in here, and is wiped at its end. */
struct workspace {
	_Alignas(VECTOR_SIZE) uint8_t series[SECTORS][SERIES_SIZE];
	uint8_t first_tweaks[VECTOR_SIZE]; /* on their way from the numbers of sectors */
	uint8_t tweaks[2][2 * GROUP_SIZE]; /* of two groups, with the last round key added */
	uint8_t nowhere[GROUP_SIZE];       /* the target beside the last group of an odd number */
	size_t series_count;
	unsigned last_turn; /* whose tweaks are left */
	bool nowhere_used;
};

/* Lane i holds blocks at bit i of a byte, or i + 4 ("wide"); or one half of it each ("narrow"). */
#define WIDE(word, i)                                                                      \
	word(i), word(i), word(i + 1), word(i + 1), word(i + 2), word(i + 2), word(i + 3), \
		word(i + 3)
#define NARROW(word) word(0), word(4), word(1), word(5), word(2), word(6), word(3), word(7)
#define COUNT(i) (i)
#define EACH_BYTE UINT64_C(0x0101010101010101)
/* Where multishift takes its bytes from to shift left by i. The lowest byte is taken from a source
 * one byte further down. */
#define POSITIONS(i) (UINT64_C(0x3830282018100808) - (i)*EACH_BYTE)
struct constants {
	_Alignas(VECTOR_SIZE) uint64_t shift_wide[2][8];
	uint64_t shift_narrow[8];
	uint64_t positions_wide[2][8];
	uint64_t positions_narrow[8];
	uint64_t series[8];  /* see series_finish */
	uint64_t masks_g[3]; /* last, as it is no vector */
};

static const struct constants all_constants = {
	.shift_wide = {{WIDE(COUNT, 0)}, {WIDE(COUNT, 4)}},
	.shift_narrow = {NARROW(COUNT)},
	.positions_wide = {{WIDE(POSITIONS, 0)}, {WIDE(POSITIONS, 4)}},
	.positions_narrow = {NARROW(POSITIONS)},
	.masks_g = {0x7f * EACH_BYTE, 0x03 * EACH_BYTE, 0x01 * EACH_BYTE},
	.series = {0, 8, 9, 0, 1, 8, 9, 0},
};

INLINE __m512i load_wide(const uint8_t bytes[static 16])
{
	return _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)bytes));
}

INLINE __m512i load_narrow(const uint8_t bytes[static 8])
{
	return _mm512_broadcastq_epi64(_mm_loadl_epi64((const __m128i *)bytes));
}

/* --- tweaks of a group, from the window of its first block --- */

/* Index 0: of blocks at bits 0 to 3 of a byte; 1: at bits 4 to 7. `above` holds the windows without
 * their two lowest bytes, which lead `below`; then come the lowest bytes of the next windows. */
struct windows {
	__m512i above[2];
	__m512i below[2];
	__m512i below_with_g[2];
};

/* The bytes from which windows are cut, at their distance from the window of the first block. */
struct pieces {
	__m512i wide_2, wide_1, wide_minus_6;
	__m512i narrow_9, narrow_minus_6;
};

INLINE struct pieces load_pieces(const uint8_t *window)
{
	return (struct pieces){load_wide(window + 2), load_wide(window + 1), load_wide(window - 6),
			       load_narrow(window + 9), load_narrow(window - 6)};
}

INLINE __m512i windows_above(const struct pieces *pieces, unsigned half,
			     const struct constants *constants, bool by_shifts)
{
	__m512i positions;

	if (by_shifts)
		return _mm512_or_si512(
			_mm512_sllv_epi64(pieces->wide_2, LOAD(constants->shift_wide[half])),
			_mm512_srlv_epi64(pieces->wide_minus_6,
					  _mm512_sub_epi64(_mm512_set1_epi64(64),
							   LOAD(constants->shift_wide[half]))));
	positions = LOAD(constants->positions_wide[half]);
	return _mm512_mask_multishift_epi64_epi8(MULTISHIFT(positions, pieces->wide_2), EACH_BYTE,
						 positions, pieces->wide_1);
}

/* Of halves shifted left as NARROW says, then right by some bits. */
INLINE __m512i shift_right(__m512i halves, int bits, const struct constants *constants)
{
	return MULTISHIFT(
		_mm512_add_epi8(LOAD(constants->positions_narrow), _mm512_set1_epi8((char)bits)),
		halves);
}

/* g of each window's highest byte, where its lowest one stands in `below`. */
INLINE __m512i windows_g(__m512i top, const struct constants *constants, bool by_shifts)
{
	__m512i by_1, by_6, by_7;

	if (by_shifts) {
		top = _mm512_sllv_epi64(top, LOAD(constants->shift_narrow));
		by_1 = _mm512_srli_epi64(top, 1);
		by_6 = _mm512_srli_epi64(top, 6);
		by_7 = _mm512_srli_epi64(top, 7);
	} else {
		by_1 = shift_right(top, 1, constants);
		by_6 = shift_right(top, 6, constants);
		by_7 = shift_right(top, 7, constants);
	}
	by_1 = _mm512_and_si512(by_1, _mm512_set1_epi64((long long)constants->masks_g[0]));
	by_1 = XOR_AND(by_1, by_6, _mm512_set1_epi64((long long)constants->masks_g[1]));
	return XOR_AND(by_1, by_7, _mm512_set1_epi64((long long)constants->masks_g[2]));
}

INLINE struct windows windows_of(struct pieces pieces, const struct constants *constants,
				 bool by_shifts)
{
	__m512i below = pieces.narrow_minus_6;
	struct windows windows;

	below = by_shifts ? _mm512_sllv_epi64(below, LOAD(constants->shift_narrow))
			  : MULTISHIFT(LOAD(constants->positions_narrow), below);
	windows.above[0] = windows_above(&pieces, 0, constants, by_shifts);
	windows.above[1] = windows_above(&pieces, 1, constants, by_shifts);
	windows.below[0] = _mm512_bslli_epi128(below, 8);
	windows.below[1] = below;
	below = XOR(below, windows_g(pieces.narrow_9, constants, by_shifts));
	windows.below_with_g[0] = _mm512_bslli_epi128(below, 8);
	windows.below_with_g[1] = below;
	return windows;
}

/* Vector i of a group's tweaks, or zeros if the mask is 0. */
#define LOWEST_BYTE(i) (UINT64_C(0x0001000100010001) << (14 - i / 2))
#define TWEAK(i, windows, last_round_key, mask)                                                 \
	_mm512_maskz_xor_epi64(                                                                 \
		mask,                                                                           \
		_mm512_alignr_epi8((windows).above[i % 2],                                      \
				   _mm512_mask_mov_epi8((windows).below[i % 2], LOWEST_BYTE(i), \
							(windows).below_with_g[i % 2]),         \
				   14 - i / 2),                                                 \
		last_round_key)

INLINE void make_tweaks(uint8_t tweaks[static GROUP_SIZE], struct pieces pieces,
			__m512i last_round_key, bool by_shifts)
{
	struct windows windows = windows_of(pieces, &all_constants, by_shifts);

#define MAKE_TWEAK(i) STORE(tweaks + VECTOR_SIZE * i, TWEAK(i, windows, last_round_key, 0xff));
	EACH_OF_8(MAKE_TWEAK)
#undef MAKE_TWEAK
}

/* --- the series of four sectors, in three steps that run between the rounds of two groups --- */

static __attribute__((noinline)) bool take_units_of_many_runs(uint8_t units[static VECTOR_SIZE],
							      struct aes_xts_cursor *cursor,
							      size_t sector_size)
{
	struct aes_xts_sector sectors[BATCH_SECTORS];
	size_t count = aes_xts_cursor_take(cursor, sectors, BATCH_SECTORS, sector_size);

	for (size_t i = 0; i < BATCH_SECTORS; i++) {
		bytes_store_le64(units + 16 * i, i < count ? sectors[i].unit : 0);
		bytes_store_le64(units + 16 * i + 8, 0);
	}
	return count != 0;
}

/* The numbers of the next sectors, each in 128 bits; behind the end of the last run, of sectors
 * that nobody asks for. False if there are none left. */
INLINE bool take_units(uint8_t units[static VECTOR_SIZE], struct aes_xts_cursor *cursor,
		       size_t sector_size)
{
	size_t batch_size = BATCH_SECTORS * sector_size;
	size_t left = cursor->runs_left == 0 ? 0 : cursor->run->size - cursor->offset;
	uint64_t first;
	__m128i steps;

	if (cursor->runs_left > 1 && left < batch_size)
		return take_units_of_many_runs(units, cursor, sector_size);
	if (left == 0)
		return false;
	first = cursor->run->first_unit + cursor->offset / SECTOR_UNIT_SIZE;
	steps = _mm_cvtsi32_si128(__builtin_ctz((unsigned)sector_size / SECTOR_UNIT_SIZE));
	STORE(units, _mm512_maskz_add_epi64(
			     0x55, _mm512_set1_epi64((long long)first),
			     _mm512_sll_epi64(_mm512_set_epi64(0, 3, 0, 2, 0, 1, 0, 0), steps)));
	cursor->offset += MINIMUM(left, batch_size);
	return true;
}

INLINE __m512i series_begin(__m512i units, const uint8_t rounds[static AES_XTS_ROUND_KEYS][64])
{
	__m512i tweaks = XOR(units, LOAD(rounds[0]));

#define TWEAK_ROUND(r) tweaks = ROUND(tweaks, LOAD(rounds[1 + r]));
	EACH_OF_8(TWEAK_ROUND)
#undef TWEAK_ROUND
	return tweaks;
}

INLINE __m512i series_encrypt(__m512i tweaks, const uint8_t rounds[static AES_XTS_ROUND_KEYS][64])
{
#define TWEAK_ROUND(r) tweaks = ROUND(tweaks, LOAD(rounds[9 + r]));
	EACH_OF_4(TWEAK_ROUND)
	TWEAK_ROUND(4)
#undef TWEAK_ROUND
	return _mm512_aesenclast_epi128(tweaks, LOAD(rounds[LAST_ROUND]));
}

/* The first window; g undoes itself, as it leaves the highest byte as it is. */
INLINE __m512i series_window(__m512i tweaks, bool by_shifts)
{
	__m512i top = _mm512_bsrli_epi128(tweaks, 15);

	if (by_shifts)
		return XOR(XOR3(tweaks, _mm512_srli_epi64(top, 1), _mm512_srli_epi64(top, 6)),
			   _mm512_srli_epi64(top, 7));
	return XOR(tweaks, _mm512_bsrli_epi128(MULTIPLY(top, _mm512_set1_epi64(0x86), 0x00), 1));
}

/* The lower and the upper 64 bits of each half's product with the polynomial. */
INLINE __m512i product_low(__m512i halves)
{
	return XOR(XOR3(halves, _mm512_slli_epi64(halves, 1), _mm512_slli_epi64(halves, 2)),
		   _mm512_slli_epi64(halves, 7));
}

INLINE __m512i product_high(__m512i halves)
{
	return XOR3(_mm512_srli_epi64(halves, 63), _mm512_srli_epi64(halves, 62),
		    _mm512_srli_epi64(halves, 57));
}

/* The next 128 bits behind a window. */
INLINE __m512i series_next(__m512i window, bool by_shifts)
{
	const __m512i polynomial = _mm512_set1_epi64(AES_XTS_POLYNOMIAL);
	__m512i next, carry;

	if (by_shifts) {
		next = product_low(window);
		carry = _mm512_bslli_epi128(product_high(window), 8);
		next = XOR(next, carry);
		carry = product_high(next);
	} else {
		next = MULTIPLY(window, polynomial, 0x00);
		carry = _mm512_bslli_epi128(MULTIPLY(window, polynomial, 0x01), 8);
		next = XOR(next, carry);
		carry = MULTIPLY(next, polynomial, 0x01);
	}
	return XOR(next, _mm512_bsrli_epi128(carry, 8));
}

/* The same where only the first 57 bits matter. */
INLINE __m512i series_next_short(__m512i window, bool by_shifts)
{
	if (by_shifts)
		return product_low(window);
	return _mm512_bslli_epi128(MULTIPLY(window, _mm512_set1_epi64(AES_XTS_POLYNOMIAL), 0x01),
				   8);
}

/* Of the halves of a sector's series. They fit the first windows, what follows and the last bits
 * alike: they are counted through `next` and what stands beside it. */
#define PLACES(i) _mm512_add_epi64(LOAD(constants->series), _mm512_set1_epi64(2 * i))

/* Gives the first windows and what follows, which it also stores, as the series of each sector. */
INLINE void series_finish(__m512i *first, __m512i *following, struct workspace *workspace,
			  __m512i tweaks, size_t first_sector, size_t sector_size,
			  const struct constants *constants, bool by_shifts)
{
	uint8_t(*series)[SERIES_SIZE] = workspace->series + first_sector % SECTORS;
	__m512i window = series_window(tweaks, by_shifts);
	__m512i next, last;

	*first = window;
	if (sector_size == GROUP_SIZE) {
		*following = next = series_next_short(window, by_shifts);
#define STORE_SERIES(i) STORE(series[i], _mm512_permutex2var_epi64(next, PLACES(i), window));
		EACH_OF_4(STORE_SERIES)
#undef STORE_SERIES
		return;
	}
	*following = next = series_next(window, by_shifts);
	last = series_next(next, by_shifts);
#define STORE_SERIES(i)                                                                       \
	STORE(series[i],                                                                      \
	      _mm512_mask_permutexvar_epi64(_mm512_permutex2var_epi64(next, PLACES(i), last), \
					    0x60, PLACES(i), window));
	EACH_OF_4(STORE_SERIES)
#undef STORE_SERIES
}

/* --- two groups --- */

struct group {
	const uint8_t *source;
	uint8_t *target;
	const uint8_t *window; /* of its first block, in the series of its sector */
};

struct pair {
	struct group groups[2];
	const uint8_t *next_windows[2];
	__mmask8 next_mask;   /* 0 if there is no next pair: its room is wiped at once */
	const char *ahead[2]; /* to be prefetched, and never read otherwise */
	const uint8_t *tweaks;
	uint8_t *next_tweaks;

	/* Sectors whose series are made meanwhile, if `is_due`; their numbers are in the workspace.
	 */
	size_t first_sector;
	bool is_due;
};

INLINE void transform_pair(const struct pair *pair, struct workspace *workspace,
			   const struct aes_xts_key *key,
			   const uint8_t rounds[static AES_XTS_ROUND_KEYS][64],
			   const struct constants *constants, bool encrypt, bool by_shifts)
{
	const __m512i first = XOR(LOAD(rounds[0]), LOAD(rounds[LAST_ROUND]));
	uint8_t *on_its_way = workspace->first_tweaks;
	struct windows windows;
	__m512i round_key, unused;

#define BEGIN(i)                                                                                  \
	__m512i block##i =                                                                        \
		XOR3(_mm512_loadu_si512(pair->groups[i / 8].source + i % 8 * VECTOR_SIZE), first, \
		     LOAD(pair->tweaks + VECTOR_SIZE * i));
#define MIDDLE(i)                                                      \
	block##i = encrypt ? _mm512_aesenc_epi128(block##i, round_key) \
			   : _mm512_aesdec_epi128(block##i, round_key);
#define FINISH(i)                                                                   \
	round_key = LOAD(pair->tweaks + VECTOR_SIZE * i);                           \
	_mm512_storeu_si512(pair->groups[i / 8].target + i % 8 * VECTOR_SIZE,       \
			    encrypt ? _mm512_aesenclast_epi128(block##i, round_key) \
				    : _mm512_aesdeclast_epi128(block##i, round_key));
#define IN_PLACE(i) "+v"(block##i)
#define KEEP_ORDER                                                                             \
	__asm__ volatile(""                                                                    \
			 : IN_PLACE(0), IN_PLACE(1), IN_PLACE(2), IN_PLACE(3), IN_PLACE(4),    \
			   IN_PLACE(5), IN_PLACE(6), IN_PLACE(7)                               \
			 :                                                                     \
			 : "memory");                                                          \
	__asm__ volatile(""                                                                    \
			 : IN_PLACE(8), IN_PLACE(9), IN_PLACE(10), IN_PLACE(11), IN_PLACE(12), \
			   IN_PLACE(13), IN_PLACE(14), IN_PLACE(15)                            \
			 :                                                                     \
			 : "memory");
#define NEXT_TWEAK(i, group)                                              \
	STORE(pair->next_tweaks + GROUP_SIZE * group + VECTOR_SIZE * (i), \
	      TWEAK((i), windows, LOAD(rounds[LAST_ROUND]), pair->next_mask));
#define NEXT_GROUP(r, group)                                                                      \
	if (r == 0)                                                                               \
		windows =                                                                         \
			windows_of(load_pieces(pair->next_windows[group]), constants, by_shifts); \
	if (r == 2) {                                                                             \
		NEXT_TWEAK(0, group) NEXT_TWEAK(1, group)                                         \
	}                                                                                         \
	if (r == 3) {                                                                             \
		NEXT_TWEAK(2, group) NEXT_TWEAK(3, group)                                         \
	}                                                                                         \
	if (r == 4) {                                                                             \
		NEXT_TWEAK(4, group) NEXT_TWEAK(5, group)                                         \
	}                                                                                         \
	if (r == 5) {                                                                             \
		NEXT_TWEAK(6, group) NEXT_TWEAK(7, group)                                         \
	}
#define NEXT_SERIES(r)                                                                           \
	if (r == 2 && pair->is_due)                                                              \
		STORE(on_its_way, series_begin(LOAD(on_its_way), key->rounds.tweak));            \
	if (r == 8 && pair->is_due)                                                              \
		STORE(on_its_way, series_encrypt(LOAD(on_its_way), key->rounds.tweak));          \
	if (r == 13 && pair->is_due)                                                             \
		series_finish(&unused, &unused, workspace, LOAD(on_its_way), pair->first_sector, \
			      key->sector_size, constants, by_shifts);
#define PREFETCH(line)                                                                             \
	_mm_prefetch(                                                                              \
		(const char *)((uintptr_t)pair->ahead[(line) / 8] + (line) % 8 * CACHE_LINE_SIZE), \
		_MM_HINT_T0);
#define MIDDLE_ROUND(r)                 \
	round_key = LOAD(rounds[r]);    \
	PREFETCH(r)                     \
	if (r <= 3)                     \
		PREFETCH((r + 13) % 16) \
	NEXT_SERIES(r)                  \
	NEXT_GROUP(r - 1, 0)            \
	NEXT_GROUP(r - 7, 1)            \
	EACH_OF_16(MIDDLE)              \
	KEEP_ORDER

	EACH_OF_16(BEGIN)
	EACH_MIDDLE_ROUND(MIDDLE_ROUND)
	EACH_OF_16(FINISH)
#undef BEGIN
#undef MIDDLE
#undef FINISH
}

/* --- a list of runs --- */

struct walk {
	struct aes_xts_cursor groups; /* to be transformed next */
	struct aes_xts_cursor ahead;  /* to be prefetched next */
	size_t sector;                /* number of the sector of `groups` in the list */
	bool is_list;
};

/* False at the end of the list. */
INLINE bool take_group(struct group *group, struct walk *walk, const struct workspace *workspace,
		       size_t sector_size)
{
	struct aes_xts_cursor *cursor = &walk->groups;
	size_t offset_in_sector;

	while (cursor->offset == cursor->run->size) {
		if (cursor->runs_left == 1)
			return false;
		cursor->run++;
		cursor->runs_left--;
		cursor->offset = 0;
	}
	offset_in_sector = cursor->offset & (sector_size - 1);
	group->source = cursor->run->source + cursor->offset;
	group->target = cursor->run->target + cursor->offset;
	group->window = workspace->series[walk->sector % SECTORS] + WINDOW_OFFSET -
			offset_in_sector / (16 * BLOCKS_PER_BYTE);
	cursor->offset += GROUP_SIZE;
	walk->sector += offset_in_sector + GROUP_SIZE == sector_size;
	return true;
}

/* A single run most likely goes on behind its end; a list does not, and its runs are in other
 * places than those of the list before. */
static inline __attribute__((always_inline)) const char *take_ahead(struct walk *walk)
{
	struct aes_xts_cursor *cursor = &walk->ahead;
	const struct sector_run *run;

	while (cursor->offset >= cursor->run->size && cursor->runs_left > 1) {
		cursor->offset -= cursor->run->size;
		cursor->run++;
		cursor->runs_left--;
	}
	run = cursor->run;
	cursor->offset += GROUP_SIZE;
	if (walk->is_list && cursor->offset > run->size)
		return (const char *)run->source;
	return (const char *)((uintptr_t)run->source + cursor->offset - GROUP_SIZE);
}

/* A list begins at a place that nothing could foresee. */
static void prefetch_first(const struct sector_run *runs, size_t run_count)
{
	struct walk walk = {.ahead = {runs, run_count, 0}, .is_list = true};

	for (size_t i = 0; i < PREFETCH_DISTANCE / GROUP_SIZE; i++) {
		const char *ahead = take_ahead(&walk);

		for (size_t line = 0; line < GROUP_SIZE; line += CACHE_LINE_SIZE)
			_mm_prefetch((const char *)((uintptr_t)ahead + line), _MM_HINT_T0);
	}
}

/* Bytes of the window and what follows it, so that byte 0 of the result is byte `at`. */
#define BYTES_FROM(at, window, following)                                      \
	(at >= 0 ? _mm512_alignr_epi8(_mm512_setzero_si512(), window, (at)&15) \
		 : _mm512_alignr_epi8(window, following, (16 + (at)) & 15))
#define NARROW_FROM(at, window, following) \
	_mm512_unpacklo_epi64(BYTES_FROM(at, window, following), BYTES_FROM(at, window, following))
#define PIECES_FROM(at, window, following)                                                    \
	(struct pieces)                                                                       \
	{                                                                                     \
		BYTES_FROM(at + 2, window, following), BYTES_FROM(at + 1, window, following), \
			BYTES_FROM(at - 6, window, following),                                \
			NARROW_FROM(at + 9, window, following),                               \
			NARROW_FROM(at - 6, window, following)                                \
	}
#define IN_ALL_LANES(vector, lane) _mm512_shuffle_i32x4(vector, vector, lane * 0x55)

/* The series of the first sectors, and the tweaks of the first two groups. Nobody else has anything
 * to do meanwhile; so these do not take the way through memory, which is long where bytes are read
 * that were just written in other pieces. */
INLINE void start(struct workspace *workspace, struct aes_xts_cursor *units,
		  const struct aes_xts_key *key, const uint8_t last_round_key[static VECTOR_SIZE],
		  bool by_shifts)
{
	__m512i window, following, first_window, first_following;
	struct pieces pieces;

	(void)take_units(workspace->first_tweaks, units, key->sector_size);
	series_finish(&window, &following, workspace,
		      series_encrypt(series_begin(LOAD(workspace->first_tweaks), key->rounds.tweak),
				     key->rounds.tweak),
		      0, key->sector_size, &all_constants, by_shifts);
	workspace->series_count = BATCH_SECTORS;
	first_window = IN_ALL_LANES(window, 0);
	first_following = IN_ALL_LANES(following, 0);
	make_tweaks(workspace->tweaks[0], PIECES_FROM(0, first_window, first_following),
		    LOAD(last_round_key), by_shifts);
	if (key->sector_size == GROUP_SIZE) {
		first_window = IN_ALL_LANES(window, 1);
		first_following = IN_ALL_LANES(following, 1);
		pieces = PIECES_FROM(0, first_window, first_following);
	} else {
		pieces = PIECES_FROM(-4, first_window, first_following);
	}
	make_tweaks(workspace->tweaks[0] + GROUP_SIZE, pieces, LOAD(last_round_key), by_shifts);
}

/* Once for both directions. */
#define START(name, by_shifts)                                                                   \
	__attribute__((noinline)) TARGET static void name(                                       \
		struct workspace *workspace, struct aes_xts_cursor *units,                       \
		const struct aes_xts_key *key, const uint8_t last_round_key[static VECTOR_SIZE]) \
	{                                                                                        \
		start(workspace, units, key, last_round_key, by_shifts);                         \
	}

START(start_by_shifts, true)
START(start_by_bytes, false)

/* The next sectors without a series, once those that have one are few. */
INLINE void choose_sectors(struct pair *pair, struct workspace *workspace,
			   struct aes_xts_cursor *units, size_t sector_in_hand, size_t sector_size)
{
	pair->first_sector = workspace->series_count;
	pair->is_due = workspace->series_count < sector_in_hand + SECTORS_AHEAD &&
		       take_units(workspace->first_tweaks, units, sector_size);
	if (!pair->is_due)
		return;
	workspace->series_count += BATCH_SECTORS;
}

INLINE void transform_list(struct workspace *workspace, const struct aes_xts_key *key,
			   const struct sector_run *runs, size_t run_count,
			   const uint8_t rounds[static AES_XTS_ROUND_KEYS][64], bool encrypt,
			   bool by_shifts)
{
	struct walk walk = {
		.groups = {runs, run_count, 0},
		.ahead = {runs, run_count, PREFETCH_DISTANCE},
		.is_list = run_count > 1,
	};
	struct aes_xts_cursor units = {runs, run_count, 0}; /* whose series come next */
	const struct constants *constants = &all_constants;
	size_t sector_size = key->sector_size;
	struct pair pair;
	struct group next[2];
	bool is_last = false, is_odd;
	unsigned turn = 0;

	/* The constants of multishifts are too many for registers: they stay in memory. */
	if (!by_shifts)
		__asm__ volatile("" : "+r"(constants));
	if (!take_group(&pair.groups[0], &walk, workspace, sector_size))
		return;
	pair.groups[1] = pair.groups[0];
	is_odd = !take_group(&pair.groups[1], &walk, workspace, sector_size);
	(by_shifts ? start_by_shifts : start_by_bytes)(workspace, &units, key, rounds[LAST_ROUND]);
	while (!is_last) {
		choose_sectors(&pair, workspace, &units, walk.sector, sector_size);
		if (is_odd) {
			pair.groups[1].target = workspace->nowhere;
			workspace->nowhere_used = true;
		}
		next[0] = pair.groups[0];
		is_last = is_odd || !take_group(&next[0], &walk, workspace, sector_size);
		next[1] = next[0];
		is_odd = is_last || !take_group(&next[1], &walk, workspace, sector_size);
		pair.next_mask = is_last ? 0 : 0xff;
		pair.next_windows[0] = next[0].window;
		pair.next_windows[1] = next[1].window;
		pair.ahead[0] = take_ahead(&walk);
		pair.ahead[1] = take_ahead(&walk);
		pair.tweaks = workspace->tweaks[turn];
		pair.next_tweaks = workspace->tweaks[turn ^ 1];
		transform_pair(&pair, workspace, key, rounds, constants, encrypt, by_shifts);
		pair.groups[0] = next[0];
		pair.groups[1] = next[1];
		workspace->last_turn = turn;
		turn ^= 1;
	}
}

#define TRANSFORM(name, schedule, encrypt, by_shifts)                                          \
	__attribute__((noinline)) TARGET static void name(                                     \
		struct workspace *workspace, const struct aes_xts_key *key,                    \
		const struct sector_run *runs, size_t run_count)                               \
	{                                                                                      \
		transform_list(workspace, key, runs, run_count, key->rounds.schedule, encrypt, \
			       by_shifts);                                                     \
	}

TRANSFORM(encrypt_by_shifts, data_encrypt, true, true)
TRANSFORM(encrypt_by_bytes, data_encrypt, true, false)
TRANSFORM(decrypt_by_shifts, data_decrypt, false, true)
TRANSFORM(decrypt_by_bytes, data_decrypt, false, false)

/* As memset would, which some C libraries make slower than the cipher. */
INLINE void wipe(uint8_t *aligned, size_t size)
{
	for (size_t i = 0; i < size; i += VECTOR_SIZE) {
		STORE(aligned + i, _mm512_setzero_si512());
		__asm__ volatile("" : : "r"(aligned) : "memory");
	}
}

/* Wipes the workspace, the stack where compilers may have put registers, and the registers. */
__attribute__((noinline)) TARGET static void leave_nothing(struct workspace *workspace)
{
	_Alignas(VECTOR_SIZE) uint8_t used_stack[STACK_USED_MAX];

	wipe(used_stack, sizeof(used_stack));
	wipe(workspace->series[0], MINIMUM(workspace->series_count, SECTORS) * SERIES_SIZE);
	wipe(workspace->first_tweaks, sizeof(workspace->first_tweaks));
	wipe(workspace->tweaks[workspace->last_turn], sizeof(workspace->tweaks[0]));
	if (workspace->nowhere_used)
		wipe(workspace->nowhere, sizeof(workspace->nowhere));
	__asm__ volatile(".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,"
			 "25,26,27,28,29,30,31\n\tvpxord %%xmm\\n, %%xmm\\n, %%xmm\\n\n\t.endr"
			 :
			 :
			 : "memory");
	_mm256_zeroupper();
}

typedef void transform(struct workspace *workspace, const struct aes_xts_key *key,
		       const struct sector_run *runs, size_t run_count);

static void transform_runs(transform *transform, const struct aes_xts_key *key,
			   const struct sector_run *runs, size_t run_count)
{
	struct workspace workspace;

	workspace.series_count = 0;
	workspace.last_turn = 0;
	workspace.nowhere_used = false;
	if (run_count == 0)
		return;
	if (run_count > 1)
		prefetch_first(runs, run_count);
	transform(&workspace, key, runs, run_count);
	leave_nothing(&workspace);
}

void aes_xts_vaes512_encrypt(const struct aes_xts_key *key, const struct sector_run *runs,
			     size_t run_count)
{
	transform_runs(key->shifts_beside_aes ? encrypt_by_shifts : encrypt_by_bytes, key, runs,
		       run_count);
}

void aes_xts_vaes512_decrypt(const struct aes_xts_key *key, const struct sector_run *runs,
			     size_t run_count)
{
	transform_runs(key->shifts_beside_aes ? decrypt_by_shifts : decrypt_by_bytes, key, runs,
		       run_count);
}

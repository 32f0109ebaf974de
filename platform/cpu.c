#include "platform/cpu.h"

#include <cpuid.h>
#include <string.h>

enum { XCR0_AVX = 0x6, XCR0_AVX512 = 0xe6 };

static uint64_t enabled_register_state(void)
{
	uint32_t low, high;

	__asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
	return (uint64_t)high << 32 | low;
}

/* Skylake-X, Ice Lake and Tiger Lake lower their clock under 512-bit work: the same list that the
 * Linux kernel keeps for its AES code (block-facts.md section 3.3). */
static bool model_slows_under_zmm(uint32_t signature)
{
	static const uint8_t models[] = {0x55, 0x6a, 0x6c, 0x7d, 0x7e, 0x8c, 0x8d};
	uint32_t family = (signature >> 8 & 0xf) + (signature >> 20 & 0xff);
	uint32_t model = (signature >> 4 & 0xf) | (signature >> 12 & 0xf0);

	if (family != 6)
		return false;
	for (size_t i = 0; i < ARRAY_COUNT(models); i++)
		if (models[i] == model)
			return true;
	return false;
}

static bool vendor_is_amd(void)
{
	uint32_t a = 0, b = 0, c = 0, d = 0;

	return __get_cpuid(0, &a, &b, &c, &d) && b == signature_AMD_ebx && c == signature_AMD_ecx &&
	       d == signature_AMD_edx;
}

static void read_model(char model[static 64])
{
	uint32_t words[12];

	if ((unsigned)__get_cpuid_max(0x80000000, NULL) < 0x80000004)
		return;
	for (unsigned i = 0; i < 3; i++)
		__cpuid(0x80000002 + i, words[4 * i], words[4 * i + 1], words[4 * i + 2],
			words[4 * i + 3]);
	memcpy(model, words, sizeof(words));
}

void cpu_detect(struct cpu_features *features)
{
	uint32_t a, b, c, d;
	uint32_t b7 = 0, c7 = 0;
	uint64_t state = 0;

	*features = (struct cpu_features){0};
	read_model(features->model);
	if (!__get_cpuid(1, &a, &b, &c, &d))
		return;
	features->avoid_zmm = model_slows_under_zmm(a);
	features->shifts_beside_aes = vendor_is_amd();
	features->aes_ni = (c & bit_AES) && (c & bit_SSE4_1) && (c & bit_PCLMUL);
	if (c & bit_OSXSAVE)
		state = enabled_register_state();
	if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) {
		b7 = b;
		c7 = c;
	}
	features->vaes256 = features->aes_ni && (state & XCR0_AVX) == XCR0_AVX && (b7 & bit_AVX2) &&
			    (c7 & bit_VAES) && (c7 & bit_VPCLMULQDQ);
	features->vaes512 = features->vaes256 && (state & XCR0_AVX512) == XCR0_AVX512 &&
			    (b7 & bit_AVX512F) && (b7 & bit_AVX512BW) && (b7 & bit_AVX512VL) &&
			    (b7 & bit_AVX512DQ) && (c7 & bit_AVX512VBMI);
}

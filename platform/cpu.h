/* Which AES instructions this CPU and operating system offer. */
#ifndef PLATFORM_CPU_H
#define PLATFORM_CPU_H

#include "platform/base.h"

struct cpu_features {
	bool aes_ni;      /* AES, SSE4.1, PCLMULQDQ */
	bool vaes256;     /* VAES, VPCLMULQDQ, AVX2, with the registers enabled by the system */
	bool vaes512;     /* the same with AVX-512 F, BW, VL, DQ, VBMI */
	bool avoid_zmm;   /* models on which 512-bit work lowers the clock */
	/* AMD: vector shifts run beside AES rounds, products and multishifts displace them. Intel:
	 * the other way round. */
	bool shifts_beside_aes;
	char model[64];   /* the brand string, for reports; empty if the CPU has none */
};

void cpu_detect(struct cpu_features *features);

#endif

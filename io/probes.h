/* The points at which perf and bpftrace can watch a request: USDT probes of the provider "byok", in
 * the form of ELF notes that the tracers read. Until one of them is attached, a probe is a single
 * nop: what it shows must already stand in a register or in memory where it is placed.
 *
 * The engine and the offset (of the request, or of a piece of a large one) say which request it is;
 * a piece's number is its request's tag times the pieces per request, plus its place.
 */
#ifndef IO_PROBES_H
#define IO_PROBES_H

/* Each format is "BYTES@OPERAND", negative for signed. The base tells a tracer how far the linker
 * or a loader has moved the program since the note was written. */
#define PROBES_NOTE(name, formats)                                                                 \
	"990:	nop\n"                                                                             \
	"	.pushsection .note.stapsdt, \"?\", \"note\"\n"                                     \
	"	.balign 4\n"                                                                       \
	"	.4byte 992f - 991f, 994f - 993f, 3\n"                                              \
	"991:	.asciz \"stapsdt\"\n"                                                              \
	"992:	.balign 4\n"                                                                       \
	"993:	.8byte 990b, _.stapsdt.base, 0\n"                                                  \
	"	.asciz \"byok\"\n"                                                                 \
	"	.asciz \"" name "\"\n"                                                             \
	"	.asciz \"" formats "\"\n"                                                          \
	"994:	.balign 4\n"                                                                       \
	"	.popsection\n"                                                                     \
	"	.ifndef _.stapsdt.base\n"                                                          \
	"	.pushsection .stapsdt.base, \"aG\", \"progbits\", .stapsdt.base, comdat\n"         \
	"	.weak _.stapsdt.base\n"                                                            \
	"	.hidden _.stapsdt.base\n"                                                          \
	"_.stapsdt.base:	.space 1\n"                                                        \
	"	.size _.stapsdt.base, 1\n"                                                         \
	"	.popsection\n"                                                                     \
	"	.endif\n"

/* A front end has handed in a request. */
#define PROBES_REQUEST_START(engine, tag, command)                                                 \
	__asm__ volatile(PROBES_NOTE("request_start", "8@%0 4@%1 4@%2 8@%3 8@%4")                  \
			 :                                                                         \
			 : "r"(engine), "r"(tag), "m"((command)->operation),                       \
			   "m"((command)->offset_bytes), "m"((command)->size))

/* The disk has answered for a piece: a count of bytes, or -errno. */
#define PROBES_DISK_DONE(engine, number, piece, result)                                            \
	__asm__ volatile(PROBES_NOTE("disk_done", "8@%0 4@%1 8@%2 -4@%3")                          \
			 :                                                                         \
			 : "r"(engine), "r"(number), "m"((piece)->offset_bytes), "r"(result))

/* A piece is encrypted or decrypted. */
#define PROBES_CIPHER_DONE(engine, number, piece)                                                  \
	__asm__ volatile(PROBES_NOTE("cipher_done", "8@%0 4@%1 8@%2 8@%3")                         \
			 :                                                                         \
			 : "r"(engine), "r"(number), "m"((piece)->offset_bytes),                   \
			   "m"((piece)->size))

/* The front end is told the outcome: 0 or a positive errno. */
#define PROBES_COMMIT(engine, tag, command, error)                                                 \
	__asm__ volatile(PROBES_NOTE("commit", "8@%0 4@%1 8@%2 -4@%3")                             \
			 :                                                                         \
			 : "r"(engine), "r"(tag), "m"((command)->offset_bytes), "m"(error))

#endif

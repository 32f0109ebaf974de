/* The request path of one queue: read and decrypt, encrypt and write, in place in the request's own
 * buffer. A front end (ublk_queue, nbd_server) hands in commands by tag and is told the outcome;
 * one ring carries the front end's operations and the disk's.
 *
 * The front end's loop, in the thread that opened the ring:
 *
 *     while (...) {
 *             TRY(ring_turn(&ring, !block_engine_has_work(&engine)));
 *             block_engine_advance(&engine);
 *     }
 *
 * ring_turn runs handlers, which only note what happened (block_engine_submit may be called there);
 * block_engine_advance gives the cipher everything that waits as one list, starts the writes, and
 * tells outcomes. So nothing calls itself, and the work of a turn is bounded.
 *
 * Order: none is promised between requests under way at once, as in the block layer. A flush covers
 * what was told as done before it was submitted.
 */
#ifndef IO_BLOCK_ENGINE_H
#define IO_BLOCK_ENGINE_H

#include "io/backing_disk.h"
#include "io/block_request.h"
#include "io/buffer_pool.h"
#include "io/ring.h"
#include "platform/sector_run.h"

/* Given by app, so that io knows no cipher. `source` and `target` of every run are equal. */
struct block_cipher {
	void (*encrypt)(const void *key, const struct sector_run *runs, size_t run_count);
	void (*decrypt)(const void *key, const struct sector_run *runs, size_t run_count);
	const void *key;
	uint32_t sector_size; /* 512 to 4096 */
};

/* A decrypted view of a part of a disk. Shared by all queues; kept for as long as any serves. */
struct block_volume {
	const struct backing_disk *disk;
	uint64_t data_offset_bytes; /* on the disk; a multiple of the sector size */
	uint64_t size_bytes;        /* a multiple of the sector size */
	uint64_t first_unit; /* tweak of the first sector (LUKS2: iv_tweak); 512-byte units */
	struct block_cipher cipher;
	bool is_read_only;
	bool allows_discard; /* the operator's wish; needs a disk that can */
};

struct block_engine_options {
	unsigned tag_count; /* requests at once */

	/* Larger reads and writes go to the disk in pieces of this many bytes, so that disk and
	 * cipher overlap. A multiple of 4096; 0: always whole, which was never slower: 1 MiB at
	 * depths 1, 2 and 16 through NBD, in pieces of 128 and 512 KiB, from buffers of huge pages.
	 * On a disk of 3.5 GB/s reads lost 0 to 7 % and writes 4 %; only from a file in memory did
	 * reads win, 3 to 9 %. */
	uint32_t piece_size;

	/* What the cipher takes in one turn, before the loop looks for new completions; 0:
	 * BLOCK_ENGINE_CIPHER_SIZE. */
	uint32_t cipher_size;
};

/* From 64 KiB to 4 MiB there was no difference above the spread of 3 %, with 1 MiB at depth 16 and
 * 4 KiB at depth 32, read and written; this is a tenth of a millisecond. */
#define BLOCK_ENGINE_CIPHER_SIZE (1024 * 1024)

/* How many operations on the ring the disk may have under way, and which slot among the ring's
 * files is taken (BACKING_DISK_SLOT): what the front end adds to its own for struct ring_options.
 */
unsigned block_engine_operations_max(const struct block_engine_options *options,
				     const struct buffer_pool *pool);

/* Runs within block_engine_advance. `error` is 0 or a positive errno. For a good READ the tag's
 * buffer holds plaintext. May submit again, the same tag too. */
typedef void block_engine_complete(void *context, unsigned tag, int error);

struct block_engine; /* made of memory taken in block_engine_open */

/* Keeps `volume`, `ring` (open; its files count at least 1) and `pool` (buffer `tag` belongs to
 * request `tag`), registers the pool with the ring and attaches the disk. */
MUST_CHECK enum status block_engine_open(struct block_engine **engine,
					 const struct block_engine_options *options,
					 const struct block_volume *volume, struct ring *ring,
					 struct buffer_pool *pool, block_engine_complete *complete,
					 void *context);

/* Close the ring first. Sets *engine to NULL; harmless if it is. */
void block_engine_close(struct block_engine **engine);

/* Whether discards may be offered for it. */
bool block_engine_can_discard(const struct block_volume *volume);

const struct block_limits *block_engine_limits(const struct block_engine *engine);

/* `tag` must not be under way. For a WRITE its buffer holds the plaintext, which is encrypted where
 * it lies; until the outcome is told, the buffer is the engine's. A command that
 * block_request_judge refuses is answered with that error, in block_engine_advance like any other.
 */
void block_engine_submit(struct block_engine *engine, unsigned tag,
			 const struct block_command *command);

void block_engine_advance(struct block_engine *engine);

/* True if block_engine_advance has something to do now, so that the ring must not sleep. */
bool block_engine_has_work(const struct block_engine *engine);

/* True if no request is under way. */
bool block_engine_is_idle(const struct block_engine *engine);

#endif

#include "app/bench/bench_disk.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "app/bench/bench_table.h"
#include "crypto/aes_xts.h"
#include "platform/entropy.h"

#define CIPHER_RUN_SIZE 4096
#define CIPHER_LAPS 2
#define CIPHER_RUNS 16384

struct bench {
	struct bench_table table;
	struct backing_disk disk;
	struct aes_xts_key key;
	struct sector_run runs[CIPHER_RUNS];
};

/* The one disk, raw and through the engine. */
static enum status prepare(struct bench *bench, struct arguments *arguments)
{
	struct bench_table *table = &bench->table;
	uint8_t bytes[AES_XTS_KEY_SIZE];

	TRY(bench_table_claim(table, &bench->disk, arguments->operands[1], arguments));
	entropy_fill(bytes, sizeof(bytes)); /* of no use to anybody */
	TRY(aes_xts_key_init(&bench->key, bytes, AES_XTS_SECTOR_SIZE_MAX));
	table->cipher = aes_xts_implementation_name(bench->key.implementation);
	table->paths[0].name = "raw";
	table->paths[1] = table->paths[0];
	table->paths[1].name = "byok";
	table->paths[1].has_engine = true;
	table->paths[1].volume.cipher =
		(struct block_cipher){.encrypt = aes_xts_encrypt_opaque,
				      .decrypt = aes_xts_decrypt_opaque,
				      .key = &bench->key,
				      .sector_size = AES_XTS_SECTOR_SIZE_MAX};
	table->path_count = 2;
	return OK;
}

static double cpu_seconds(void)
{
	struct timespec time;

	CHECK(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time) == 0);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* The cipher alone, over memory that no cache holds, as what a disk has just filled is not. */
static enum status measure_cipher(struct bench *bench)
{
	struct sector_run *runs = bench->runs;
	double *seconds = bench->table.cipher_seconds_per_gib;
	struct buffer_pool pool = {0};
	double began;

	TRY(buffer_pool_open(&pool, CIPHER_RUN_SIZE * CIPHER_RUNS, 1));
	for (size_t i = 0; i < CIPHER_RUNS; i++)
		runs[i] = (struct sector_run){.first_unit = i * 8,
					      .source = pool.arena + i * CIPHER_RUN_SIZE,
					      .target = pool.arena + i * CIPHER_RUN_SIZE,
					      .size = CIPHER_RUN_SIZE};
	began = cpu_seconds();
	for (size_t i = 0; i < CIPHER_LAPS; i++)
		aes_xts_decrypt(&bench->key, runs, CIPHER_RUNS);
	seconds[BLOCK_READ] = (cpu_seconds() - began) * 8;
	began = cpu_seconds();
	for (size_t i = 0; i < CIPHER_LAPS; i++)
		aes_xts_encrypt(&bench->key, runs, CIPHER_RUNS);
	seconds[BLOCK_WRITE] = (cpu_seconds() - began) * 8;
	buffer_pool_close(&pool);
	return OK;
}

_Static_assert(8u * CIPHER_LAPS * CIPHER_RUN_SIZE * CIPHER_RUNS == 1u << 30,
	       "the laps are an eighth of a GiB");

enum status bench_disk(struct arguments *arguments)
{
	/* Not calloc: it aligns less than the key wants. */
	struct bench *bench = aligned_alloc(_Alignof(struct bench), sizeof(*bench));
	enum status status;

	if (bench == NULL)
		return FAIL_OUT_OF_MEMORY;
	memset(bench, 0, sizeof(*bench));
	bench->disk.fd = -1;
	status = bench_table_open(&bench->table, "disk", arguments);
	if (status == OK)
		status = prepare(bench, arguments);
	if (status == OK)
		status = measure_cipher(bench);
	if (status == OK)
		status = bench_table_measure(&bench->table);
	if (status == OK)
		status = bench_table_tell(&bench->table, arguments);
	bench_table_close(&bench->table);
	backing_disk_close(&bench->disk);
	free(bench);
	return status;
}

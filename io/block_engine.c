#include "io/block_engine.h"

#include <stdlib.h>
#include <string.h>

#include "io/probes.h"

/* Numbers in the order they came. Never full: a number is in it at most once. */
struct queue {
	uint32_t *numbers;
	unsigned capacity;
	unsigned first;
	unsigned count;
};

/* A front end's request: one or several pieces at work on one command. */
struct tag {
	struct block_command command;
	uint64_t begun_size; /* how much of it pieces have begun: less than all for long zeroing */
	unsigned piece_count;
	unsigned pieces_open; /* of them, not DONE yet */
	int error;            /* the first of any piece */
};

struct block_engine {
	const struct block_volume *volume;
	struct block_limits limits;
	struct ring *ring;
	struct buffer_pool *pool;
	block_engine_complete *complete;
	void *context;
	unsigned handler;

	unsigned tag_count;
	unsigned tags_open; /* submitted and not told */
	struct tag *tags;

	uint64_t piece_size;
	uint64_t cipher_size;
	unsigned pieces_per_tag;
	unsigned piece_count;
	struct block_request *pieces; /* those of a tag stand together */
	struct sector_run *runs;      /* as many */

	struct queue to_decrypt; /* pieces */
	struct queue to_encrypt; /* pieces */
	struct queue to_tell;    /* tags */

	unsigned pieces_in_state[REQUEST_STATES];
	unsigned pieces_with_disk;
};

static void push(struct queue *queue, uint32_t number)
{
	CHECK(queue->count < queue->capacity);
	queue->numbers[(queue->first + queue->count) % queue->capacity] = number;
	queue->count++;
}

static uint32_t pop(struct queue *queue)
{
	uint32_t number = queue->numbers[queue->first];

	CHECK(queue->count > 0);
	queue->first = (queue->first + 1) % queue->capacity;
	queue->count--;
	return number;
}

static void step(struct block_engine *engine, struct block_request *piece, enum request_event event)
{
	engine->pieces_in_state[piece->state]--;
	block_request_step(piece, event);
	engine->pieces_in_state[piece->state]++;
}

static void note_done(struct block_engine *engine, uint32_t index)
{
	unsigned number = index / engine->pieces_per_tag;
	struct tag *tag = &engine->tags[number];

	CHECK(tag->pieces_open > 0);
	if (tag->error == 0)
		tag->error = engine->pieces[index].error;
	if (--tag->pieces_open == 0)
		push(&engine->to_tell, number);
}

/* What a state asks for when a piece has come into it. */
static void act(struct block_engine *engine, uint32_t index)
{
	struct block_request *piece = &engine->pieces[index];
	const struct backing_disk *disk = engine->volume->disk;
	uint64_t token = ring_token(engine->handler, index);
	uint64_t disk_offset =
		engine->volume->data_offset_bytes + piece->offset_bytes + piece->done_size;
	uint64_t left = piece->size - piece->done_size;

	switch (piece->state) {
	case REQUEST_READING:
		engine->pieces_with_disk++;
		backing_disk_start_read(disk, engine->ring, token, piece->buffer + piece->done_size,
					left, disk_offset);
		break;
	case REQUEST_WRITING:
		engine->pieces_with_disk++;
		backing_disk_start_write(disk, engine->ring, token,
					 piece->buffer + piece->done_size, left, disk_offset,
					 piece->is_durable);
		break;
	case REQUEST_FLUSHING:
		engine->pieces_with_disk++;
		backing_disk_start_flush(disk, engine->ring, token);
		break;
	case REQUEST_DISCARDING:
		engine->pieces_with_disk++;
		backing_disk_start_discard(disk, engine->ring, token, disk_offset, left);
		break;
	case REQUEST_DECRYPTING: push(&engine->to_decrypt, index); break;
	case REQUEST_ENCRYPTING: push(&engine->to_encrypt, index); break;
	case REQUEST_DONE: note_done(engine, index); break;
	case REQUEST_IDLE:
	case REQUEST_BROKEN:
	case REQUEST_STATES: CHECK(false);
	}
}

static void handle_disk(void *context, uint32_t index, int32_t result)
{
	struct block_engine *engine = context;
	struct block_request *piece;

	CHECK(index < engine->piece_count && engine->pieces_with_disk > 0);
	piece = &engine->pieces[index];
	engine->pieces_with_disk--;
	PROBES_DISK_DONE(engine, index, piece, result);
	step(engine, piece,
	     block_request_take_result(piece, result, engine->volume->disk->logical_block_size));
	act(engine, index);
}

static void begin_piece(struct block_engine *engine, unsigned number, struct block_request request,
			enum request_event event)
{
	struct tag *tag = &engine->tags[number];
	uint32_t index = number * engine->pieces_per_tag + tag->piece_count;

	CHECK(tag->piece_count < engine->pieces_per_tag);
	CHECK(engine->pieces[index].state == REQUEST_IDLE);
	tag->piece_count++;
	tag->pieces_open++;
	request.state = REQUEST_IDLE;
	engine->pieces[index] = request;
	step(engine, &engine->pieces[index], event);
	act(engine, index);
}

/* Without data: one piece does all of it. */
static void begin_whole(struct block_engine *engine, unsigned number, enum request_event event,
			int error)
{
	const struct block_command *command = &engine->tags[number].command;

	engine->tags[number].begun_size = command->size;
	begin_piece(engine, number,
		    (struct block_request){.error = error,
					   .offset_bytes = command->offset_bytes,
					   .size = command->size},
		    event);
}

/* With data: the next `size` bytes, cut into pieces of the tag's buffer. */
static void begin_transfer(struct block_engine *engine, unsigned number, uint64_t size,
			   enum request_event event)
{
	struct tag *tag = &engine->tags[number];
	uint8_t *buffer = buffer_pool_at(engine->pool, number);

	for (uint64_t done = 0; done < size; done += engine->piece_size)
		begin_piece(
			engine, number,
			(struct block_request){
				.is_durable = tag->command.is_durable,
				.offset_bytes = tag->command.offset_bytes + tag->begun_size + done,
				.size = MINIMUM(engine->piece_size, size - done),
				.buffer = buffer + done,
			},
			event);
	tag->begun_size += size;
}

/* The range may be far larger than the buffer: it is written one bufferful after the other. */
static void begin_zeroing(struct block_engine *engine, unsigned number)
{
	struct tag *tag = &engine->tags[number];
	uint64_t size = MINIMUM(tag->command.size - tag->begun_size, engine->pool->buffer_size);

	memset(buffer_pool_at(engine->pool, number), 0, size);
	begin_transfer(engine, number, size, REQUEST_ASKED_WRITE);
}

void block_engine_submit(struct block_engine *engine, unsigned number,
			 const struct block_command *command)
{
	struct tag *tag;
	int error = block_request_judge(&engine->limits, command);

	CHECK(number < engine->tag_count);
	tag = &engine->tags[number];
	CHECK(tag->piece_count == 0);
	PROBES_REQUEST_START(engine, number, command);
	*tag = (struct tag){.command = *command};
	engine->tags_open++;
	if (error != 0) {
		begin_whole(engine, number, REQUEST_REFUSED, error);
		return;
	}
	switch (command->operation) {
	case BLOCK_READ: begin_transfer(engine, number, command->size, REQUEST_ASKED_READ); break;
	case BLOCK_WRITE: begin_transfer(engine, number, command->size, REQUEST_ASKED_WRITE); break;
	case BLOCK_WRITE_ZEROES: begin_zeroing(engine, number); break;
	case BLOCK_FLUSH: begin_whole(engine, number, REQUEST_ASKED_FLUSH, 0); break;
	case BLOCK_DISCARD:
		/* Durable or not is the same: what the range holds afterwards is of no use. */
		begin_whole(engine, number, REQUEST_ASKED_DISCARD, 0);
		break;
	case BLOCK_OPERATIONS: CHECK(false);
	}
}

/* Gives the cipher as one list what waits, up to its share of a turn. */
static void transform(struct block_engine *engine, struct queue *queue,
		      void (*cipher)(const void *key, const struct sector_run *runs,
				     size_t run_count))
{
	unsigned count = 0;
	uint64_t size = 0;

	for (; count < queue->count && size < engine->cipher_size; count++) {
		uint32_t index = queue->numbers[(queue->first + count) % queue->capacity];
		const struct block_request *piece = &engine->pieces[index];

		engine->runs[count] = (struct sector_run){
			.first_unit =
				engine->volume->first_unit + piece->offset_bytes / SECTOR_UNIT_SIZE,
			.source = piece->buffer,
			.target = piece->buffer,
			.size = piece->size,
		};
		size += piece->size;
	}
	if (count == 0)
		return;
	cipher(engine->volume->cipher.key, engine->runs, count);
	for (unsigned i = 0; i < count; i++) {
		uint32_t index = pop(queue);

		PROBES_CIPHER_DONE(engine, index, &engine->pieces[index]);
		step(engine, &engine->pieces[index], REQUEST_TRANSFORMED);
		act(engine, index);
	}
}

static void release_pieces(struct block_engine *engine, unsigned number)
{
	struct tag *tag = &engine->tags[number];

	CHECK(tag->pieces_open == 0);
	for (unsigned i = 0; i < tag->piece_count; i++)
		step(engine, &engine->pieces[number * engine->pieces_per_tag + i], REQUEST_TOLD);
	tag->piece_count = 0;
}

static void tell(struct block_engine *engine)
{
	for (unsigned count = engine->to_tell.count; count > 0; count--) {
		unsigned number = pop(&engine->to_tell);
		struct tag *tag = &engine->tags[number];

		release_pieces(engine, number);
		if (tag->error == 0 && tag->begun_size < tag->command.size) {
			begin_zeroing(engine, number);
			continue;
		}
		engine->tags_open--;
		PROBES_COMMIT(engine, number, &tag->command, tag->error);
		engine->complete(engine->context, number, tag->error);
	}
}

/* Every piece is in exactly one place. */
static void check_places(const struct block_engine *engine)
{
	const unsigned *in_state = engine->pieces_in_state;

	CHECK(in_state[REQUEST_DECRYPTING] == engine->to_decrypt.count);
	CHECK(in_state[REQUEST_ENCRYPTING] == engine->to_encrypt.count);
	CHECK(in_state[REQUEST_READING] + in_state[REQUEST_WRITING] + in_state[REQUEST_FLUSHING] +
		      in_state[REQUEST_DISCARDING] ==
	      engine->pieces_with_disk);
	CHECK(in_state[REQUEST_IDLE] + in_state[REQUEST_DONE] + engine->to_decrypt.count +
		      engine->to_encrypt.count + engine->pieces_with_disk ==
	      engine->piece_count);
	CHECK(engine->tags_open >= engine->to_tell.count);
}

void block_engine_advance(struct block_engine *engine)
{
	transform(engine, &engine->to_encrypt, engine->volume->cipher.encrypt);
	transform(engine, &engine->to_decrypt, engine->volume->cipher.decrypt);
	tell(engine);
	check_places(engine);
}

bool block_engine_has_work(const struct block_engine *engine)
{
	return engine->to_encrypt.count + engine->to_decrypt.count + engine->to_tell.count > 0;
}

bool block_engine_is_idle(const struct block_engine *engine)
{
	return engine->tags_open == 0;
}

bool block_engine_can_discard(const struct block_volume *volume)
{
	return volume->allows_discard && volume->disk->discard_granularity > 0;
}

const struct block_limits *block_engine_limits(const struct block_engine *engine)
{
	return &engine->limits;
}

static unsigned count_pieces_per_tag(const struct block_engine_options *options,
				     const struct buffer_pool *pool)
{
	CHECK(options->piece_size % BACKING_DISK_ALIGNMENT == 0);
	if (options->piece_size == 0)
		return 1;
	return (unsigned)((pool->buffer_size + options->piece_size - 1) / options->piece_size);
}

unsigned block_engine_operations_max(const struct block_engine_options *options,
				     const struct buffer_pool *pool)
{
	return options->tag_count * count_pieces_per_tag(options, pool);
}

/* A volume that the disk cannot hold or cannot address. */
static enum status judge_volume(const struct block_volume *volume)
{
	uint32_t sector_size = volume->cipher.sector_size;
	const struct backing_disk *disk = volume->disk;

	CHECK(sector_size >= 512 && sector_size <= BACKING_DISK_ALIGNMENT);
	CHECK((sector_size & (sector_size - 1)) == 0);
	if (volume->data_offset_bytes > disk->size_bytes ||
	    volume->size_bytes > disk->size_bytes - volume->data_offset_bytes)
		return FAIL_SEGMENT_OUTSIDE;
	if (sector_size % disk->logical_block_size != 0 ||
	    volume->data_offset_bytes % sector_size != 0 || volume->size_bytes % sector_size != 0)
		return FAIL_DISK_GEOMETRY;
	return OK;
}

static bool allocate(struct block_engine *engine)
{
	struct queue *queues[] = {&engine->to_decrypt, &engine->to_encrypt, &engine->to_tell};
	bool all = true;

	engine->tags = calloc(engine->tag_count, sizeof(*engine->tags));
	engine->pieces = calloc(engine->piece_count, sizeof(*engine->pieces));
	engine->runs = calloc(engine->piece_count, sizeof(*engine->runs));
	for (size_t i = 0; i < ARRAY_COUNT(queues); i++) {
		queues[i]->capacity = engine->piece_count;
		queues[i]->numbers = calloc(engine->piece_count, sizeof(*queues[i]->numbers));
		all = all && queues[i]->numbers != NULL;
	}
	return all && engine->tags != NULL && engine->pieces != NULL && engine->runs != NULL;
}

enum status block_engine_open(struct block_engine **engine_out,
			      const struct block_engine_options *options,
			      const struct block_volume *volume, struct ring *ring,
			      struct buffer_pool *pool, block_engine_complete *complete,
			      void *context)
{
	struct block_engine *engine;

	CHECK(options->tag_count > 0 && options->tag_count <= pool->buffer_count);
	TRY(judge_volume(volume));
	TRY(ring_register_memory(ring, pool->arena, pool->arena_size));
	TRY(backing_disk_attach(volume->disk, ring));
	engine = calloc(1, sizeof(*engine));
	if (engine == NULL)
		return FAIL_OUT_OF_MEMORY;
	*engine = (struct block_engine){
		.volume = volume,
		.limits = {.size_bytes = volume->size_bytes,
			   .sector_size = volume->cipher.sector_size,
			   .transfer_size_max = pool->buffer_size,
			   .is_writable = volume->disk->is_writable && !volume->is_read_only,
			   .can_discard = block_engine_can_discard(volume)},
		.ring = ring,
		.pool = pool,
		.complete = complete,
		.context = context,
		.tag_count = options->tag_count,
		.piece_size = options->piece_size == 0 ? pool->buffer_size : options->piece_size,
		.cipher_size =
			options->cipher_size == 0 ? BLOCK_ENGINE_CIPHER_SIZE : options->cipher_size,
		.pieces_per_tag = count_pieces_per_tag(options, pool),
	};
	engine->piece_count = engine->tag_count * engine->pieces_per_tag;
	if (!allocate(engine)) {
		block_engine_close(&engine);
		return FAIL_OUT_OF_MEMORY;
	}
	for (unsigned i = 0; i < engine->piece_count; i++)
		engine->pieces[i].state = REQUEST_IDLE;
	engine->pieces_in_state[REQUEST_IDLE] = engine->piece_count;
	engine->handler = ring_add_handler(ring, handle_disk, engine);
	*engine_out = engine;
	return OK;
}

void block_engine_close(struct block_engine **engine)
{
	if (*engine == NULL)
		return;
	free((*engine)->tags);
	free((*engine)->pieces);
	free((*engine)->runs);
	free((*engine)->to_decrypt.numbers);
	free((*engine)->to_encrypt.numbers);
	free((*engine)->to_tell.numbers);
	free(*engine);
	*engine = NULL;
}

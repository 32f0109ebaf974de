/* The kernel's dm-crypt: it moves the data and holds the key, this process looks after the device
 * and takes it away at the end. */
#include <stdlib.h>
#include <sys/stat.h>

#include "app/worker/data_path.h"
#include "io/dm_crypt.h"

struct handed_over {
	struct dm_crypt device;
	const struct block_volume *volume;
};

static enum status remove_remains(const struct data_path_options *options)
{
	return dm_crypt_remove_remains(options->name);
}

static enum status prepare_process(void)
{
	return OK;
}

static enum status begin(void **state, const struct data_path_options *options,
			 const struct block_volume *volume)
{
	struct handed_over *handed_over;
	struct stat disk;
	enum status status;

	if (!volume->disk->is_block_device)
		return FAIL_DISK_KIND;
	if (fstat(volume->disk->fd, &disk) != 0)
		return FAIL_SYSTEM;
	handed_over = calloc(1, sizeof(*handed_over));
	if (handed_over == NULL)
		return FAIL_OUT_OF_MEMORY;
	handed_over->volume = volume;
	status = dm_crypt_open(&handed_over->device,
			       &(struct dm_crypt_volume){
				       .name = options->name,
				       .uuid = options->uuid,
				       .disk = disk.st_rdev,
				       .data_offset_bytes = volume->data_offset_bytes,
				       .size_bytes = volume->size_bytes,
				       .first_unit = volume->first_unit,
				       .sector_size = volume->cipher.sector_size,
				       .is_read_only = volume->is_read_only,
				       .allows_discard = volume->allows_discard,
			       },
			       options->volume_key);
	if (status != OK) {
		free(handed_over);
		return status;
	}
	*state = handed_over;
	return OK;
}

static enum status open_device(void **state, const struct data_path_options *options,
			       const struct block_volume *volume)
{
	(void)state;
	(void)options;
	(void)volume;
	return OK;
}

static enum status close_device(void **state)
{
	struct handed_over *handed_over = *state;
	enum status status = dm_crypt_close(&handed_over->device);

	if (status == OK && !handed_over->volume->is_read_only)
		status = backing_disk_flush(handed_over->volume->disk);
	free(handed_over);
	*state = NULL;
	return status;
}

static const char *where(const void *state)
{
	return ((const struct handed_over *)state)->device.path;
}

static int ended_fd(const void *state)
{
	(void)state;
	return -1;
}

static bool is_in_use(const void *state)
{
	return dm_crypt_is_in_use(&((const struct handed_over *)state)->device);
}

const struct data_path_calls data_path_dm_crypt = {
	.kind = DATA_PATH_DM_CRYPT,
	.probe = dm_crypt_probe,
	.prepare_process = prepare_process,
	.begin = begin,
	.open = open_device,
	.close = close_device,
	.where = where,
	.ended_fd = ended_fd,
	.is_in_use = is_in_use,
	.remove_remains = remove_remains,
};

#include "app/worker/data_path.h"

#include "generated/config.h"
#include "platform/kernel_module.h"
#include "platform/log.h"

struct driver {
	const char *module;
	const char *sign; /* the file that is there with it */
};

/* In the order in which "auto" tries them. */
static const struct data_path_calls *const paths[] = {
#if CONFIG_UBLK
	&data_path_ublk,
#endif
#if CONFIG_DM_CRYPT
	&data_path_dm_crypt,
#endif
#if CONFIG_NBD_KERNEL
	&data_path_nbd_kernel,
#endif
#if CONFIG_NBD_SOCKET
	&data_path_nbd,
#endif
	NULL,
};

static const struct {
	const char *word;
	struct driver driver; /* empty: it needs none */
} kinds[DATA_PATH_KINDS] = {
	[DATA_PATH_UBLK] = {"ublk", {"ublk_drv", "/dev/ublk-control"}},
	[DATA_PATH_DM_CRYPT] = {"dm-crypt", {"dm_crypt", "/dev/mapper/control"}},
	[DATA_PATH_NBD_KERNEL] = {"nbd-kernel", {"nbd", "/sys/module/nbd"}},
	[DATA_PATH_NBD_SOCKET] = {"nbd", {0}},
};

static const enum data_path_kind asked_for[] = {
	[CONFIG_DATA_PATH_AUTO] = DATA_PATH_UBLK,
	[CONFIG_DATA_PATH_UBLK] = DATA_PATH_UBLK,
	[CONFIG_DATA_PATH_DM_CRYPT] = DATA_PATH_DM_CRYPT,
	[CONFIG_DATA_PATH_NBD_KERNEL] = DATA_PATH_NBD_KERNEL,
	[CONFIG_DATA_PATH_NBD] = DATA_PATH_NBD_SOCKET,
};

static const struct data_path_calls *find(enum data_path_kind kind)
{
	for (size_t i = 0; paths[i] != NULL; i++)
		if (paths[i]->kind == kind)
			return paths[i];
	return NULL;
}

static bool has_driver(enum data_path_kind kind)
{
	const struct driver *driver = &kinds[kind].driver;

	return driver->module == NULL || kernel_module_is_there(driver->module, driver->sign);
}

enum data_path_kind data_path_choose(const struct config *config)
{
	if (config->data_path != CONFIG_DATA_PATH_AUTO)
		return asked_for[config->data_path];
	/* A socket is no block device: nobody gets one for want of better. What has no driver is
	 * not probed, which would be said in the log. */
	for (size_t i = 0; paths[i] != NULL; i++)
		if (paths[i]->kind != DATA_PATH_NBD_SOCKET && has_driver(paths[i]->kind) &&
		    paths[i]->probe() == OK)
			return paths[i]->kind;
	return DATA_PATH_UBLK;
}

const char *data_path_word(enum data_path_kind kind)
{
	return kinds[kind].word;
}

enum status data_path_probe(enum data_path_kind kind)
{
	const struct data_path_calls *calls = find(kind);

	if (calls == NULL)
		return FAIL_FEATURE_OFF;
	(void)!has_driver(kind);
	return calls->probe();
}

enum status data_path_settle(const struct config *config)
{
	enum data_path_kind kind = data_path_choose(config);

	TRY(data_path_probe(kind));
	if (config->data_path == CONFIG_DATA_PATH_AUTO && kind != DATA_PATH_UBLK)
		log_warning("this kernel has no ublk that byok can use: %s serves the disks",
			    data_path_word(kind));
	return OK;
}

enum backing_disk_claim data_path_disk_claim(enum data_path_kind kind, bool is_read_only)
{
	if (kind == DATA_PATH_DM_CRYPT)
		return BACKING_DISK_LOOK;
	return is_read_only ? BACKING_DISK_SERVE_READ_ONLY : BACKING_DISK_SERVE;
}

void data_path_reserve(enum data_path_kind kind, unsigned queue_count)
{
	const struct data_path_calls *calls = find(kind);

	if (calls != NULL && calls->reserve != NULL)
		calls->reserve(queue_count);
}

enum status data_path_prepare_process(struct data_path *path, enum data_path_kind kind,
				      const struct data_path_options *options,
				      const struct block_volume *volume)
{
	*path = (struct data_path){.calls = find(kind)};
	if (path->calls == NULL)
		return FAIL_FEATURE_OFF;
	TRY(path->calls->prepare_process());
	return path->calls->begin == NULL ? OK : path->calls->begin(&path->state, options, volume);
}

enum status data_path_open(struct data_path *path, const struct data_path_options *options,
			   const struct block_volume *volume)
{
	enum status status = path->calls->open(&path->state, options, volume);

	buffer_pool_end_reserve();
	return status;
}

enum status data_path_close(struct data_path *path)
{
	return path->state == NULL ? OK : path->calls->close(&path->state);
}

const char *data_path_where(const struct data_path *path)
{
	return path->calls->where(path->state);
}

int data_path_ended_fd(const struct data_path *path)
{
	return path->calls->ended_fd(path->state);
}

bool data_path_is_in_use(const struct data_path *path)
{
	return path->calls->is_in_use(path->state);
}

bool data_path_outlives_process(enum data_path_kind kind)
{
	const struct data_path_calls *calls = find(kind);

	return calls != NULL && calls->remove_remains != NULL;
}

enum status data_path_remove_remains(enum data_path_kind kind,
				     const struct data_path_options *options)
{
	return data_path_outlives_process(kind) ? find(kind)->remove_remains(options) : OK;
}

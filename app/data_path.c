#include "app/data_path.h"

#include "generated/config.h"

static const struct data_path_calls *const paths[] = {
#if CONFIG_UBLK
	&data_path_ublk,
#endif
#if CONFIG_NBD_SOCKET
	&data_path_nbd,
#endif
	NULL,
};

static const struct data_path_calls *find(enum data_path_kind kind)
{
	for (size_t i = 0; paths[i] != NULL; i++)
		if (paths[i]->kind == kind)
			return paths[i];
	return NULL;
}

enum data_path_kind data_path_choose(const struct config *config)
{
	return config->data_path == CONFIG_DATA_PATH_NBD ? DATA_PATH_NBD_SOCKET : DATA_PATH_UBLK;
}

enum status data_path_probe(enum data_path_kind kind)
{
	const struct data_path_calls *calls = find(kind);

	return calls == NULL ? FAIL_FEATURE_OFF : calls->probe();
}

enum status data_path_prepare_process(enum data_path_kind kind)
{
	const struct data_path_calls *calls = find(kind);

	return calls == NULL ? FAIL_FEATURE_OFF : calls->prepare_process();
}

enum status data_path_open(struct data_path *path, enum data_path_kind kind,
			   const struct data_path_options *options,
			   const struct block_volume *volume)
{
	*path = (struct data_path){.calls = find(kind)};
	if (path->calls == NULL)
		return FAIL_FEATURE_OFF;
	return path->calls->open(&path->state, options, volume);
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

enum status data_path_remove_remains(enum data_path_kind kind, uint64_t mark)
{
	return data_path_outlives_process(kind) ? find(kind)->remove_remains(mark) : OK;
}

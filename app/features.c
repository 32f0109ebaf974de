#include "app/features.h"

#include "generated/config.h"

static const struct {
	const char *name;
	bool is_on;
} features[FEATURES] = {
	[FEATURE_VAULT] = {"CONFIG_VAULT", CONFIG_VAULT},
	[FEATURE_WORKLOAD_IDENTITY] = {"CONFIG_WORKLOAD_IDENTITY", CONFIG_WORKLOAD_IDENTITY},
	[FEATURE_CA_BUNDLE] = {"CONFIG_CA_BUNDLE", CONFIG_CA_BUNDLE},
	[FEATURE_UBLK] = {"CONFIG_UBLK", CONFIG_UBLK},
	[FEATURE_DM_CRYPT] = {"CONFIG_DM_CRYPT", CONFIG_DM_CRYPT},
	[FEATURE_NBD_KERNEL] = {"CONFIG_NBD_KERNEL", CONFIG_NBD_KERNEL},
	[FEATURE_NBD_SOCKET] = {"CONFIG_NBD_SOCKET", CONFIG_NBD_SOCKET},
	[FEATURE_ARGON2ID] = {"CONFIG_ARGON2ID", CONFIG_ARGON2ID},
	[FEATURE_AES_NI] = {"CONFIG_AES_NI", CONFIG_AES_NI},
	[FEATURE_VAES] = {"CONFIG_VAES", CONFIG_VAES},
	[FEATURE_PROVISION] = {"CONFIG_PROVISION", CONFIG_PROVISION},
	[FEATURE_METRICS] = {"CONFIG_METRICS", CONFIG_METRICS},
	[FEATURE_BENCH] = {"CONFIG_BENCH", CONFIG_BENCH},
};

bool feature_is_on(enum feature feature)
{
	return features[feature].is_on;
}

const char *feature_name(enum feature feature)
{
	return features[feature].name;
}

uint32_t feature_queue_depth(void)
{
	return CONFIG_QUEUE_DEPTH;
}

uint32_t feature_queues_max(void)
{
	return CONFIG_QUEUES_MAX;
}

uint32_t feature_request_size_max_bytes(void)
{
	return CONFIG_REQUEST_KIB_MAX * 1024;
}

uint32_t feature_vault_connections_max(void)
{
	return CONFIG_VAULT_CONNECTIONS_MAX;
}

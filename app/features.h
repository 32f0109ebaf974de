/* What this build was made with (Kconfig): the one place that reads the generated configuration. */
#ifndef APP_FEATURES_H
#define APP_FEATURES_H

#include "platform/base.h"

enum feature {
	FEATURE_VAULT,
	FEATURE_WORKLOAD_IDENTITY,
	FEATURE_CA_BUNDLE,
	FEATURE_UBLK,
	FEATURE_DM_CRYPT,
	FEATURE_NBD_KERNEL,
	FEATURE_NBD_SOCKET,
	FEATURE_ARGON2ID,
	FEATURE_AES_NI,
	FEATURE_VAES,
	FEATURE_PROVISION,
	FEATURE_METRICS,
	FEATURE_BENCH,
	FEATURES
};

MUST_CHECK bool feature_is_on(enum feature feature);
const char *feature_name(enum feature feature); /* its Kconfig option: "CONFIG_VAULT" */

/* Limits of the data path, for each volume. */
uint32_t feature_queue_depth(void);
uint32_t feature_queues_max(void);
uint32_t feature_request_size_max_bytes(void);

uint32_t feature_vault_connections_max(void); /* 0 in a build without vault */

#endif

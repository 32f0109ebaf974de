#include "app/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "platform/file.h"

#define FILE_SIZE_MAX 16384

enum value_kind { TEXT, NUMBER, WORD, LOSS };

struct setting {
	const char *key;
	enum value_kind kind;
	size_t offset;
	bool may_be_user_data; /* hurts nobody who has not asked for it, whatever it says */
	uint32_t minimum;      /* of a NUMBER */
	uint32_t maximum;
	const char *takes;     /* a WORD's words, with '|' between them */
	const uint8_t *values; /* of the words; NULL: 0, 1, 2 ... */
	const char *purpose;
};

static const uint8_t log_priorities[] = {LOG_PRIORITY_ERROR, LOG_PRIORITY_WARNING,
					 LOG_PRIORITY_INFO, LOG_PRIORITY_DEBUG};

_Static_assert(CONFIG_DATA_PATH_UBLK == 1 && CONFIG_DATA_PATH_DM_CRYPT == 2 &&
		       CONFIG_DATA_PATH_NBD_KERNEL == 3 && CONFIG_DATA_PATH_NBD == 4,
	       "as the words stand");

static const struct setting settings[] = {
	{.key = "key",
	 .kind = TEXT,
	 .offset = offsetof(struct config, key),
	 .may_be_user_data = true,
	 .takes = "URL",
	 .purpose = "the customer's key, https://NAME.vault.azure.net/keys/KEY[/VERSION]"},
	{.key = "identity",
	 .kind = TEXT,
	 .offset = offsetof(struct config, identity),
	 .may_be_user_data = true,
	 .takes = "CLIENT_ID",
	 .purpose = "the user-assigned managed identity that may use the key"},
	{.key = "federated_token_file",
	 .kind = TEXT,
	 .offset = offsetof(struct config, federated_token_file),
	 .takes = "FILE",
	 .purpose = "a token for Entra ID (AKS), instead of managed identity"},
	{.key = "tenant",
	 .kind = TEXT,
	 .offset = offsetof(struct config, tenant),
	 .takes = "TENANT_ID",
	 .purpose = "where Entra ID knows the identity of that token"},
	{.key = "authority_host",
	 .kind = TEXT,
	 .offset = offsetof(struct config, authority_host),
	 .takes = "URL",
	 .purpose = "Entra ID's, if not that of the vault's cloud"},
	{.key = "ca_file",
	 .kind = TEXT,
	 .offset = offsetof(struct config, ca_file),
	 .takes = "FILE",
	 .purpose = "PEM roots to trust instead of the built-in ones"},
	{.key = "imds_endpoint",
	 .kind = TEXT,
	 .offset = offsetof(struct config, imds_endpoint),
	 .takes = "URL",
	 .purpose = "where managed identity answers; only 169.254.169.254 and loopback"},
	{.key = "vault_connect_to",
	 .kind = TEXT,
	 .offset = offsetof(struct config, vault_connect_to),
	 .takes = "HOST:PORT",
	 .purpose = "connect here for the vault, which must still prove its name"},
	{.key = "proxy",
	 .kind = TEXT,
	 .offset = offsetof(struct config, proxy),
	 .takes = "URL",
	 .purpose = "reach the vault through http://HOST:PORT, by CONNECT"},
	{.key = "run_directory",
	 .kind = TEXT,
	 .offset = offsetof(struct config, run_directory),
	 .takes = "DIRECTORY",
	 .purpose = "for the control socket (default /run/byok)"},
	{.key = "agent_user",
	 .kind = TEXT,
	 .offset = offsetof(struct config, agent_user),
	 .takes = "USER",
	 .purpose = "whom the vault agent runs as (default byok, else nobody)"},
	{.key = "data_path",
	 .kind = WORD,
	 .offset = offsetof(struct config, data_path),
	 .takes = "auto|ublk|dm-crypt|nbd-kernel|nbd",
	 .purpose = "how volumes are served; nbd: by sockets in run_directory"},
	{.key = "require_key",
	 .kind = WORD,
	 .offset = offsetof(struct config, require_key),
	 .may_be_user_data = true,
	 .takes = "no|yes",
	 .purpose = "serve no disk that is under another key than key (default no)"},
	{.key = "expected_volumes",
	 .kind = NUMBER,
	 .offset = offsetof(struct config, expected_volumes),
	 .may_be_user_data = true,
	 .maximum = 64,
	 .takes = "N",
	 .purpose = "ready only when as many volumes are served (default 0)"},
	{.key = "fleet_size",
	 .kind = NUMBER,
	 .offset = offsetof(struct config, fleet_size),
	 .minimum = 1,
	 .maximum = 1000000,
	 .takes = "N",
	 .purpose = "machines that use the same vault (default 1)"},
	{.key = "allow_discards",
	 .kind = WORD,
	 .offset = offsetof(struct config, allow_discards),
	 .takes = "no|yes",
	 .purpose = "tell the disk which blocks are free (default no)"},
	{.key = "queue_count",
	 .kind = NUMBER,
	 .offset = offsetof(struct config, queue_count),
	 .maximum = 32,
	 .takes = "N",
	 .purpose = "queues of each volume; 0: one per CPU (default 0)"},
	{.key = "attempt_timeout",
	 .kind = NUMBER,
	 .offset = offsetof(struct config, attempt_timeout_s),
	 .minimum = 1,
	 .maximum = 300,
	 .takes = "SECONDS",
	 .purpose = "for one exchange with the vault or IMDS (default 10)"},
	{.key = "operation_deadline",
	 .kind = NUMBER,
	 .offset = offsetof(struct config, operation_deadline_s),
	 .minimum = 1,
	 .maximum = 3600,
	 .takes = "SECONDS",
	 .purpose = "for one operation of a command, retries included (default 60)"},
	{.key = "retry_cap",
	 .kind = NUMBER,
	 .offset = offsetof(struct config, retry_cap_s),
	 .minimum = 1,
	 .maximum = 3600,
	 .takes = "SECONDS",
	 .purpose = "longest wait before serve tries again (default 30)"},
	{.key = "probe_interval",
	 .kind = NUMBER,
	 .offset = offsetof(struct config, probe_interval_s),
	 .minimum = 1,
	 .maximum = 86400,
	 .takes = "SECONDS",
	 .purpose = "between two looks at a key that is well (default 600)"},
	{.key = "probe_retry",
	 .kind = NUMBER,
	 .offset = offsetof(struct config, probe_retry_s),
	 .minimum = 1,
	 .maximum = 86400,
	 .takes = "SECONDS",
	 .purpose = "between two looks at a key that is not (default 60)"},
	{.key = "follow_interval",
	 .kind = NUMBER,
	 .offset = offsetof(struct config, follow_interval_s),
	 .minimum = 1,
	 .maximum = 86400,
	 .takes = "SECONDS",
	 .purpose = "between two questions for a newer version of key (default 60)"},
	{.key = "on_key_loss",
	 .kind = LOSS,
	 .offset = offsetof(struct config, lock_after_s),
	 .takes = "warn|lock-after=DURATION",
	 .purpose = "when a key is lost (default warn); DURATION: 90s, 30m, 12h or 7d"},
	{.key = "on_key_change",
	 .kind = TEXT,
	 .offset = offsetof(struct config, on_key_change),
	 .takes = "PROGRAM",
	 .purpose = "is run with NAME STATE CAUSE KEY when a key's state changes"},
	{.key = "backup_directory",
	 .kind = TEXT,
	 .offset = offsetof(struct config, backup_directory),
	 .takes = "DIRECTORY|none",
	 .purpose = "where serve keeps copies of headers (default /var/lib/byok)"},
	{.key = "log_level",
	 .kind = WORD,
	 .offset = offsetof(struct config, log_priority),
	 .takes = "error|warning|info|debug",
	 .values = log_priorities,
	 .purpose = "what is logged (default info)"},
	{.key = "provision_disks",
	 .kind = TEXT,
	 .offset = offsetof(struct config, provision_disks),
	 .may_be_user_data = true,
	 .takes = "PATTERN",
	 .purpose = "blank disks to format: a path with one *, /dev/disk/azure/scsi1/lun*"},
	{.key = "provision_name",
	 .kind = TEXT,
	 .offset = offsetof(struct config, provision_name),
	 .may_be_user_data = true,
	 .takes = "PATTERN",
	 .purpose = "their names: what the * of the path stands for (default data*)"},
	{.key = "provision_size_min",
	 .kind = NUMBER,
	 .offset = offsetof(struct config, provision_size_min_gib),
	 .may_be_user_data = true,
	 .maximum = 65536,
	 .takes = "GIB",
	 .purpose = "pass over smaller ones (default 0)"},
	{.key = "provision_size_max",
	 .kind = NUMBER,
	 .offset = offsetof(struct config, provision_size_max_gib),
	 .may_be_user_data = true,
	 .maximum = 65536,
	 .takes = "GIB",
	 .purpose = "pass over larger ones; 0: no limit (default 0)"},
	{.key = "provision_check",
	 .kind = WORD,
	 .offset = offsetof(struct config, provision_check),
	 .takes = "sample|whole",
	 .purpose = "how much is read to prove that a disk is blank (default sample)"},
	{.key = "user_data",
	 .kind = WORD,
	 .offset = offsetof(struct config, user_data),
	 .takes = "no|yes",
	 .purpose = "the VM's user data may set what this file does not (default no)"},
};

void config_init(struct config *config)
{
	*config = (struct config){
		.imds_endpoint = "http://169.254.169.254",
		.run_directory = "/run/byok",
		.backup_directory = "/var/lib/byok",
		.agent_user = "byok",
		.fleet_size = 1,
		.attempt_timeout_s = 10,
		.operation_deadline_s = 60,
		.retry_cap_s = 30,
		.probe_interval_s = 600,
		.probe_retry_s = 60,
		.follow_interval_s = 60,
		.log_priority = LOG_PRIORITY_INFO,
		.provision_name = "data*",
	};
}

/* "vault-connect-to" is vault_connect_to. */
static bool same_key(const char *key, const char *given)
{
	for (; *key != '\0'; key++, given++)
		if (*key != (*given == '-' ? '_' : *given))
			return false;
	return *given == '\0';
}

static const struct setting *find_setting(const char *key)
{
	for (size_t i = 0; i < ARRAY_COUNT(settings); i++)
		if (same_key(settings[i].key, key))
			return &settings[i];
	return NULL;
}

bool config_has_key(const char *key)
{
	return find_setting(key) != NULL;
}

static uint64_t bit_of(const struct setting *setting)
{
	_Static_assert(ARRAY_COUNT(settings) <= 64, "a bit for each");
	return (uint64_t)1 << (setting - settings);
}

bool config_is_given(const struct config *config, const char *key)
{
	return (config->given & bit_of(find_setting(key))) != 0;
}

static bool set_text(char target[static CONFIG_TEXT_SIZE], const char *value)
{
	size_t length = strlen(value);

	if (length >= CONFIG_TEXT_SIZE)
		return false;
	for (size_t i = 0; i < length; i++)
		if (value[i] <= ' ' || value[i] > '~')
			return false;
	memcpy(target, value, length + 1);
	return true;
}

static bool set_number(uint32_t *target, const char *value, const struct setting *setting)
{
	char *end;
	unsigned long number;

	if (value[0] < '0' || value[0] > '9')
		return false;
	number = strtoul(value, &end, 10);
	if (*end != '\0' || number < setting->minimum || number > setting->maximum)
		return false;
	*target = (uint32_t)number;
	return true;
}

static bool set_word(uint32_t *target, const char *value, const struct setting *setting)
{
	const char *word = setting->takes;
	const size_t length = strlen(value);

	for (uint32_t i = 0;; i++) {
		const size_t word_length = strcspn(word, "|");

		if (word_length == length && strncmp(word, value, length) == 0) {
			*target = setting->values == NULL ? i : setting->values[i];
			return true;
		}
		if (word[word_length] == '\0')
			return false;
		word += word_length + 1;
	}
}

/* "90s", "30m", "12h", "7d"; at most ten years. */
static bool set_duration(uint32_t *target_s, const char *value)
{
	static const struct {
		char letter;
		uint32_t seconds;
	} units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}};
	char *end;
	unsigned long number = value[0] >= '0' && value[0] <= '9' ? strtoul(value, &end, 10) : 0;

	if (number == 0 || number > 315360000)
		return false;
	for (size_t i = 0; i < ARRAY_COUNT(units); i++)
		if (end[0] == units[i].letter && end[1] == '\0' &&
		    number <= 315360000 / units[i].seconds) {
			*target_s = (uint32_t)number * units[i].seconds;
			return true;
		}
	return false;
}

static bool set_loss(uint32_t *target_s, const char *value)
{
	static const char prefix[] = "lock-after=";

	if (strncmp(value, prefix, sizeof(prefix) - 1) == 0)
		return set_duration(target_s, value + sizeof(prefix) - 1);
	*target_s = 0;
	return strcmp(value, "warn") == 0;
}

static bool set_value(struct config *config, const struct setting *setting, const char *value)
{
	void *target = (char *)config + setting->offset;

	switch (setting->kind) {
	case TEXT: return set_text(target, value);
	case NUMBER: return set_number(target, value, setting);
	case WORD: return set_word(target, value, setting);
	case LOSS: return set_loss(target, value);
	default: return false;
	}
}

enum status config_set(struct config *config, const char *key, const char *value)
{
	const struct setting *setting = find_setting(key);

	if (setting == NULL) {
		log_error("there is no setting named %s", key);
		return FAIL_CONFIG;
	}
	if (set_value(config, setting, value)) {
		config->given |= bit_of(setting);
		return OK;
	}
	log_error("%s cannot be \"%s\"; it takes %s", setting->key, value, setting->takes);
	return FAIL_CONFIG;
}

static char *trim(char *text)
{
	char *end = text + strlen(text);

	while (end > text && (end[-1] == ' ' || end[-1] == '\t' || end[-1] == '\r'))
		*--end = '\0';
	return text + strspn(text, " \t");
}

static bool split_line(char *line, char **key, char **value)
{
	char *equals = strchr(line, '=');

	if (equals == NULL)
		return false;
	*equals = '\0';
	*key = trim(line);
	*value = trim(equals + 1);
	return true;
}

/* Sets what one line says; empty lines and those that begin with '#' say nothing. */
static enum status set_line(struct config *config, char *line)
{
	char *key, *value;

	line = trim(line);
	if (*line == '\0' || *line == '#')
		return OK;
	if (split_line(line, &key, &value))
		return config_set(config, key, value);
	log_error("\"%s\" is not of the form key = value", line);
	return FAIL_CONFIG;
}

enum status config_load(struct config *config, const char *path)
{
	char text[FILE_SIZE_MAX];
	char *line, *rest = text;
	size_t size;
	unsigned number = 0;

	if (strcmp(path, CONFIG_FILE_DEFAULT) == 0 && !file_exists(path))
		return OK;
	TRY(file_read_text(text, sizeof(text), &size, path));
	if (strlen(text) != size) {
		log_error("%s holds a zero byte", path);
		return FAIL_CONFIG;
	}
	while ((line = strsep(&rest, "\n")) != NULL) {
		enum status status = set_line(config, line);

		number++;
		if (status != OK) {
			log_error("%s line %u is wrong", path, number);
			return status;
		}
	}
	return OK;
}

static void forget_user_data(struct config *config)
{
	struct config initial;

	config_init(&initial);
	for (size_t i = 0; i < ARRAY_COUNT(settings); i++) {
		const struct setting *setting = &settings[i];

		if (setting->may_be_user_data && (config->given & bit_of(setting)) == 0)
			memcpy((char *)config + setting->offset, (char *)&initial + setting->offset,
			       setting->kind == TEXT ? CONFIG_TEXT_SIZE : sizeof(uint32_t));
	}
}

static bool take_line(struct config *config, char *line)
{
	const struct setting *setting;
	char *key, *value;

	if (!split_line(line, &key, &value))
		return false;
	setting = find_setting(key);
	if (setting == NULL || !setting->may_be_user_data)
		return false;
	return (config->given & bit_of(setting)) != 0 || set_value(config, setting, value);
}

enum status config_take_user_data(struct config *config, const char *text)
{
	char copy[CONFIG_USER_DATA_SIZE];
	char *line, *rest = copy;
	struct config taken = *config;
	unsigned number = 0;

	if (strlen(text) >= sizeof(copy))
		return FAIL_CONFIG;
	strcpy(copy, text);
	forget_user_data(&taken);
	while ((line = strsep(&rest, "\n")) != NULL) {
		number++;
		if (*line == '\0' || take_line(&taken, line))
			continue;
		log_error("setting %u of the user data, %s: wrong, or it may not come from there",
			  number, line);
		return FAIL_CONFIG;
	}
	*config = taken;
	return OK;
}

enum status config_load_user_data(struct config *config)
{
	char path[CONFIG_TEXT_SIZE + sizeof(CONFIG_USER_DATA_FILE)];
	char text[CONFIG_USER_DATA_SIZE];
	size_t size;

	snprintf(path, sizeof(path), "%s/" CONFIG_USER_DATA_FILE, config->run_directory);
	if (config->user_data == 0 || !file_exists(path))
		return OK;
	TRY(file_read_text(text, sizeof(text), &size, path));
	return config_take_user_data(config, text);
}

void config_describe(void (*say)(const char *key, const char *takes, const char *purpose))
{
	for (size_t i = 0; i < ARRAY_COUNT(settings); i++)
		say(settings[i].key, settings[i].takes, settings[i].purpose);
}

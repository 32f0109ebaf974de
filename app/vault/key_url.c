#include "app/vault/key_url.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#define SCHEME "https://"

/* A name of a vault or managed HSM. */
#define VAULT_NAME_LENGTH_MIN 3
#define VAULT_NAME_LENGTH_MAX 24

struct cloud {
	const char *suffix;
	const char *resource;
};

#define CLOUD(suffix)                 \
	{                             \
		suffix, SCHEME suffix \
	}

static const struct cloud clouds[] = {
	CLOUD("vault.azure.net"),         CLOUD("vault.azure.cn"),
	CLOUD("vault.usgovcloudapi.net"), CLOUD("managedhsm.azure.net"),
	CLOUD("managedhsm.azure.cn"),     CLOUD("managedhsm.usgovcloudapi.net"),
};

_Static_assert(VAULT_NAME_LENGTH_MAX + sizeof(".managedhsm.usgovcloudapi.net") <= KEY_URL_HOST_SIZE,
	       "every host must fit");
_Static_assert(sizeof(SCHEME "/keys//") + KEY_URL_HOST_SIZE + KEY_URL_NAME_SIZE +
			       KEY_URL_VERSION_LENGTH <=
		       KEY_URL_TEXT_SIZE,
	       "every key's URL must fit");

/* Without the locale's opinions. */
static bool is_letter_or_digit(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

static char to_lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

/* How many characters at the start of `text` can be in a name. */
static size_t name_length(const char *text)
{
	size_t length = 0;

	while (is_letter_or_digit(text[length]) || text[length] == '-')
		length++;
	return length;
}

/* `host` is lower case and ends with a NUL. */
static enum status find_cloud(struct key_url *url)
{
	size_t length = name_length(url->host);
	const char *suffix = url->host + length + 1;

	if (length < VAULT_NAME_LENGTH_MIN || length > VAULT_NAME_LENGTH_MAX ||
	    url->host[length] != '.')
		return FAIL_KEY_URL_HOST;
	for (size_t i = 0; i < ARRAY_COUNT(clouds); i++) {
		size_t suffix_length = strlen(clouds[i].suffix);

		if (strncmp(suffix, clouds[i].suffix, suffix_length) != 0)
			continue;
		/* With something behind it is a host that only pretends. */
		if (suffix[suffix_length] != '\0')
			return FAIL_KEY_URL_HOST;
		url->resource = clouds[i].resource;
		return OK;
	}
	/* Azure has had other clouds, and may get new ones. */
	if (strncmp(suffix, "vault.", 6) == 0 || strncmp(suffix, "managedhsm.", 11) == 0)
		return FAIL_KEY_URL_SUFFIX;
	return FAIL_KEY_URL_HOST;
}

/* Reads HOST[:443] at *next and moves it to the slash behind. */
static enum status read_host(struct key_url *url, const char **next)
{
	size_t length = strcspn(*next, ":/?#@\\");
	const char *end = *next + length;

	if (length == 0)
		return FAIL_KEY_URL;
	for (size_t i = 0; i < length; i++)
		if (!is_letter_or_digit((*next)[i]) && (*next)[i] != '-' && (*next)[i] != '.')
			return FAIL_KEY_URL;
	if (strncmp(end, ":443", 4) == 0)
		end += 4;
	if (*end != '/')
		return FAIL_KEY_URL;
	if (length >= sizeof(url->host))
		return FAIL_KEY_URL_HOST;
	for (size_t i = 0; i < length; i++)
		url->host[i] = to_lower((*next)[i]);
	*next = end;
	return find_cloud(url);
}

/* Reads /keys/NAME[/VERSION], all that is left. */
static enum status read_path(struct key_url *url, const char *path)
{
	size_t length;

	if (strncasecmp(path, "/keys/", 6) != 0)
		return FAIL_KEY_URL;
	path += 6;
	length = name_length(path);
	if (length == 0 || length >= sizeof(url->name))
		return FAIL_KEY_URL;
	memcpy(url->name, path, length);
	path += length;
	if (*path == '\0')
		return OK;
	if (*path != '/')
		return FAIL_KEY_URL;
	path++;
	for (length = 0; length < KEY_URL_VERSION_LENGTH; length++) {
		if (!is_letter_or_digit(path[length]))
			return FAIL_KEY_URL;
		url->version[length] = to_lower(path[length]);
	}
	return path[length] == '\0' ? OK : FAIL_KEY_URL;
}

enum status key_url_parse(struct key_url *url, const char *text)
{
	struct key_url parsed = {0};

	if (strncasecmp(text, SCHEME, strlen(SCHEME)) != 0)
		return FAIL_KEY_URL_SCHEME;
	text += strlen(SCHEME);
	TRY(read_host(&parsed, &text));
	TRY(read_path(&parsed, text));
	*url = parsed;
	return OK;
}

bool key_url_has_version(const struct key_url *url)
{
	return url->version[0] != '\0';
}

void key_url_format(char text[static KEY_URL_TEXT_SIZE], const struct key_url *url)
{
	int length = snprintf(text, KEY_URL_TEXT_SIZE, SCHEME "%s/keys/%s%s%s", url->host,
			      url->name, key_url_has_version(url) ? "/" : "", url->version);

	CHECK(length > 0 && length < KEY_URL_TEXT_SIZE);
}

bool key_url_same_key(const struct key_url *a, const struct key_url *b)
{
	return strcmp(a->host, b->host) == 0 && strcasecmp(a->name, b->name) == 0;
}

bool key_url_equal(const struct key_url *a, const struct key_url *b)
{
	return key_url_same_key(a, b) && strcmp(a->version, b->version) == 0;
}

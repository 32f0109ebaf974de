/* What the JSON metadata of a LUKS2 volume say (on-disk format §3), as one plain struct. The text
 * stays the truth: what is not understood is neither lost nor changed, and changes are splices of
 * the text (luks2_metadata_edit.h). Hostile input: nothing here is believed before
 * luks2_policy_check. */
#ifndef CRYPTO_LUKS2_METADATA_H
#define CRYPTO_LUKS2_METADATA_H

#include "crypto/hash.h"
#include "crypto/luks2_header.h"
#include "platform/json.h"

#define LUKS2_KEYSLOTS 32
#define LUKS2_TOKENS 32
#define LUKS2_SEGMENTS 32
#define LUKS2_DIGESTS 8
#define LUKS2_SALT_SIZE 32
#define LUKS2_TOKEN_TYPE_SIZE 64
#define LUKS2_FLAG_SIZE 64

/* The longest text that byok takes, with its NUL: the JSON area of LUKS2_HEADER_SIZE_DEFAULT.
 * Larger areas are fine as long as their text is not longer. */
#define LUKS2_TEXT_SIZE (LUKS2_HEADER_SIZE_DEFAULT - LUKS2_BINARY_SIZE)

/* Enough for every object that the format allows, in the form that cryptsetup gives them, and for
 * thousands of foreign values more. */
#define LUKS2_NODES 8192

struct luks2_text {
	size_t length;               /* without the NUL */
	char bytes[LUKS2_TEXT_SIZE]; /* ends with a NUL */
};

/* The caller's working memory for parsing; holds nothing between calls. */
struct luks2_nodes {
	struct json_node nodes[LUKS2_NODES];
};

enum luks2_cipher {
	LUKS2_CIPHER_OTHER,
	LUKS2_CIPHER_NULL, /* no encryption */
	LUKS2_CIPHER_AES_XTS_PLAIN64,
};

enum luks2_kdf_kind { LUKS2_KDF_OTHER, LUKS2_KDF_PBKDF2, LUKS2_KDF_ARGON2I, LUKS2_KDF_ARGON2ID };

enum luks2_keyslot_kind {
	LUKS2_KEYSLOT_OTHER, /* also type luks2 with an unknown hash or splitter */
	LUKS2_KEYSLOT_LUKS2,
	LUKS2_KEYSLOT_REENCRYPT,
};

struct luks2_kdf {
	enum luks2_kdf_kind kind;
	enum hash_kind hash; /* PBKDF2 */
	uint32_t iterations; /* PBKDF2 */
	uint32_t time;       /* Argon2, as the next two */
	uint32_t memory_kib;
	uint32_t cpus;
	uint8_t salt[LUKS2_SALT_SIZE];
};

struct luks2_keyslot {
	bool exists;
	enum luks2_keyslot_kind kind;
	uint32_t key_size;
	uint32_t priority; /* 0: only when asked for by number; 1: normal; 2: first */
	uint64_t area_offset;
	uint64_t area_size;
	enum luks2_cipher area_cipher; /* of kind LUKS2, as all below */
	uint32_t area_key_size;
	enum hash_kind splitter_hash;
	struct luks2_kdf kdf;
};

struct luks2_segment {
	bool exists;
	bool is_crypt;
	bool has_integrity;
	bool is_backup;  /* of a re-encryption: no data are read by it */
	bool is_dynamic; /* to the end of the disk; then size is 0 */
	uint64_t offset;
	uint64_t size;
	uint64_t iv_tweak;
	uint32_t sector_size;
	enum luks2_cipher cipher;
};

struct luks2_digest {
	bool exists;
	bool is_pbkdf2;    /* else nothing below but the masks is set */
	uint32_t keyslots; /* bit n: keyslot n */
	uint32_t segments;
	enum hash_kind hash;
	uint32_t iterations;
	uint8_t salt[LUKS2_SALT_SIZE];
	uint8_t value[HASH_SIZE_MAX];
	size_t value_size;
};

struct luks2_token {
	bool exists;
	char type[LUKS2_TOKEN_TYPE_SIZE];
	uint32_t keyslots;
	struct json_span span; /* the object in the text, braces included */
};

enum luks2_requirement {
	LUKS2_REQUIREMENT_NONE,
	LUKS2_REQUIREMENT_REENCRYPTION, /* online or offline, in progress */
	LUKS2_REQUIREMENT_UNKNOWN,      /* at least one that is none of these */
};

struct luks2_metadata {
	struct luks2_keyslot keyslots[LUKS2_KEYSLOTS];
	struct luks2_token tokens[LUKS2_TOKENS];
	struct luks2_segment segments[LUKS2_SEGMENTS];
	struct luks2_digest digests[LUKS2_DIGESTS];
	uint64_t json_size; /* of one JSON area */
	uint64_t keyslots_size;
	enum luks2_requirement requirement;
	char unknown_requirement[LUKS2_FLAG_SIZE]; /* the first of them, printable; or empty */
};

/* Takes the JSON text out of a JSON area: FAIL_METADATA_SYNTAX if it does not begin with '{', lacks
 * its NUL or is followed by anything but zeros; FAIL_METADATA_TOO_LARGE beyond LUKS2_TEXT_SIZE. */
MUST_CHECK enum status luks2_metadata_text(struct luks2_text *text, const uint8_t *area,
					   size_t area_size);

/* FAIL_METADATA_SYNTAX if the text is not JSON (or has more than LUKS2_NODES values),
 * FAIL_METADATA_SHAPE if it lacks or contradicts what the format asks for: the five objects, their
 * mandatory fields, numbers that fit, references to objects that exist, a digest for each crypt
 * segment, no keyslot in two digests. Metadata are written on OK only. */
MUST_CHECK enum status luks2_metadata_parse(struct luks2_metadata *metadata,
					    struct luks2_nodes *nodes,
					    const struct luks2_text *text);

#endif

/* Changes of LUKS2 metadata, each a splice of the text: every byte that is not meant stays as it
 * is, whoever wrote it. A failed edit may leave the text half changed, so edit a copy, and parse it
 * before anybody believes it.
 *
 * All of them: FAIL_METADATA_FULL if the text would be longer than LUKS2_TEXT_SIZE or than the area
 * of config's json_size holds; FAIL_METADATA_SYNTAX or FAIL_METADATA_SHAPE if it was not what
 * luks2_metadata_parse takes. A JSON value handed in has at most LUKS2_EDIT_VALUE_MAX characters.
 */
#ifndef CRYPTO_LUKS2_METADATA_EDIT_H
#define CRYPTO_LUKS2_METADATA_EDIT_H

#include "crypto/luks2_metadata.h"

#define LUKS2_EDIT_VALUE_MAX 8192

/* A whole new volume: one dynamic crypt segment aes-xts-plain64 with iv_tweak 0, one digest (number
 * 0, of no keyslot yet), no keyslots, no tokens. */
MUST_CHECK enum status luks2_metadata_edit_create(struct luks2_text *text, uint64_t json_size,
						  uint64_t keyslots_size, uint64_t data_offset,
						  uint32_t sector_size,
						  const struct luks2_digest *digest);

/* Adds a keyslot that luks2_policy_check_keyslot finds OK, with PBKDF2, under a free number, and
 * names it in that digest. */
MUST_CHECK enum status luks2_metadata_edit_add_keyslot(struct luks2_text *text,
						       struct luks2_nodes *nodes, unsigned number,
						       const struct luks2_keyslot *keyslot,
						       unsigned digest);

/* Sets token `number` to `json`, one object, whether or not there is such a token. */
MUST_CHECK enum status luks2_metadata_edit_put_token(struct luks2_text *text,
						     struct luks2_nodes *nodes, unsigned number,
						     const char *json, size_t json_length);

/* Takes a keyslot out of the text, and its number out of every digest and token. What others have
 * written beside it stays, tokens that name no keyslot any more too. */
MUST_CHECK enum status luks2_metadata_edit_remove_keyslot(struct luks2_text *text,
							  struct luks2_nodes *nodes,
							  unsigned number);

/* Takes the token out, if it is there. */
MUST_CHECK enum status luks2_metadata_edit_remove_token(struct luks2_text *text,
							struct luks2_nodes *nodes, unsigned number);

/* Sets one member of the existing token `number` to the JSON value `json`, or removes it, if it is
 * there, when json is NULL. The token's other members stay. */
MUST_CHECK enum status luks2_metadata_edit_set_token_member(struct luks2_text *text,
							    struct luks2_nodes *nodes,
							    unsigned number, const char *name,
							    const char *json, size_t json_length);

#endif

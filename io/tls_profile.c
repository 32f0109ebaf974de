/* What byok speaks to a vault: TLS 1.2 with forward secrecy and AES-GCM, which every vault does and
 * every CPU in question is fast at. curl asks BearSSL for the profile with everything that it has;
 * this one takes its place when the program is linked, and what it does not name (CBC, 3DES,
 * ChaCha20, MD5, SHA-1, RSA key exchange, TLS 1.0) is neither offered nor part of the program. */
#include <bearssl.h>

#include "platform/base.h"

void br_ssl_client_init_full(br_ssl_client_context *client, br_x509_minimal_context *x509,
			     const br_x509_trust_anchor *anchors, size_t anchor_count)
{
	static const uint16_t suites[] = {
		BR_TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
		BR_TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
		BR_TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
		BR_TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
	};
	static const struct {
		int id;
		const br_hash_class *hash;
	} hashes[] = {
		{br_sha256_ID, &br_sha256_vtable},
		{br_sha384_ID, &br_sha384_vtable},
		{br_sha512_ID, &br_sha512_vtable},
	};
	br_ssl_engine_context *engine = &client->eng;

	br_ssl_client_zero(client);
	br_ssl_engine_set_versions(engine, BR_TLS12, BR_TLS12);
	br_ssl_engine_set_suites(engine, suites, ARRAY_COUNT(suites));
	br_ssl_engine_set_default_rsavrfy(engine);
	br_ssl_engine_set_default_ecdsa(engine);
	br_x509_minimal_init(x509, &br_sha256_vtable, anchors, anchor_count);
	br_x509_minimal_set_rsa(x509, br_ssl_engine_get_rsavrfy(engine));
	br_x509_minimal_set_ecdsa(x509, br_ssl_engine_get_ec(engine),
				  br_ssl_engine_get_ecdsa(engine));
	for (size_t i = 0; i < ARRAY_COUNT(hashes); i++) {
		br_ssl_engine_set_hash(engine, hashes[i].id, hashes[i].hash);
		br_x509_minimal_set_hash(x509, hashes[i].id, hashes[i].hash);
	}
	br_ssl_engine_set_x509(engine, &x509->vtable);
	br_ssl_engine_set_prf_sha256(engine, &br_tls12_sha256_prf);
	br_ssl_engine_set_prf_sha384(engine, &br_tls12_sha384_prf);
	br_ssl_engine_set_default_aes_gcm(engine);
}

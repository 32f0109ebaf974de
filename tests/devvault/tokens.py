"""Bearer tokens: JWTs signed with the state folder's own secret, opaque to every client."""

import hashlib
import hmac
import json
import secrets

from . import keys


def part(value):
	return keys.encode_base64url(json.dumps(value, separators=(",", ":")).encode())


def _signature(state, signed):
	return hmac.new(bytes.fromhex(state["token_secret"]), signed.encode(), hashlib.sha256).digest()


def issuer(state):
	return f"https://sts.windows.net/{state['tenant']}/"


def make(state, identity, resource, now, lifetime, bad_signature=False):
	claims = {
		"aud": resource,
		"iss": issuer(state),
		"iat": now,
		"nbf": min(now, now + lifetime),
		"exp": now + lifetime,
		"appid": identity["client_id"],
		"oid": identity["object_id"],
		"tid": state["tenant"],
		"xms_mirid": identity["resource_id"],
		"uti": secrets.token_hex(8),
	}
	signed = f"{part({'typ': 'JWT', 'alg': 'HS256', 'kid': 'devvault'})}.{part(claims)}"
	signature = secrets.token_bytes(32) if bad_signature else _signature(state, signed)
	return f"{signed}.{keys.encode_base64url(signature)}"


def check(state, authorization, resource, now):
	"""(verdict, claims, error message) for an Authorization header.

	Verdict: none, valid, expired, wrong-audience, invalid."""
	if not authorization:
		return "none", None, "AKV10000: Request is missing a Bearer or PoP token."
	scheme, _, token = authorization.partition(" ")
	if scheme.lower() != "bearer" or not token.strip():
		return "none", None, "AKV10000: Request is missing a Bearer or PoP token."
	try:
		signed, _, signature = token.strip().rpartition(".")
		claims = json.loads(keys.decode_base64url(signed.split(".")[1]))
		good = hmac.compare_digest(keys.decode_base64url(signature), _signature(state, signed))
	except (keys.KeyUseError, ValueError, IndexError):
		return "invalid", None, "Error validating token: it is not a JSON Web Token."
	if not good:
		return "invalid", None, "AKV10046: Unable to resolve the key used for signature validation."
	if claims["iss"] != issuer(state):
		return (
			"invalid",
			claims,
			(
				f"AKV10032: Invalid issuer. Expected one of {issuer(state)}, "
				f"found {claims['iss']}."
			),
		)
	if claims["aud"] != resource:
		return (
			"wrong-audience",
			claims,
			(f"AKV10022: Invalid audience. Expected {resource}, " f"found: {claims['aud']}."),
		)
	if not claims["nbf"] - 300 <= now < claims["exp"]:
		return "expired", claims, "Error validating token: its lifetime is over."
	return "valid", claims, None

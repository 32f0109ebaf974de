"""Microsoft Entra ID: exchanges a token of another issuer's (of a cluster, say) for one for a vault.

That issuer is the double's, too: its key signs what a workload would find in its token file."""

import json
import secrets
import urllib.parse

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from . import keys, tokens
from .answer import Answer
from .imds import bearer
from .store import SUFFIXES

HOSTS = (
	"login.microsoftonline.com",
	"login.microsoftonline.us",
	"login.chinacloudapi.cn",
	"login.partner.microsoftonline.cn",
)
ISSUER = "https://oidc.devvault.example/cluster/"
AUDIENCE = "api://AzureADTokenExchange"
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
KEY_ID = "oidc"
_SCOPES = {f"https://{suffix}/.default": f"https://{suffix}" for suffix in SUFFIXES}


class _Refusal(Exception):
	def __init__(self, status, error, number, text):
		super().__init__(text)
		self.answer = _error(status, error, number, text)


def _error(status, error, number, text):
	return Answer(
		status,
		{
			"error": error,
			"error_description": f"AADSTS{number}: {text} Trace ID: {secrets.token_hex(16)}",
			"error_codes": [number],
			"trace_id": secrets.token_hex(16),
			"correlation_id": secrets.token_hex(16),
		},
		code=error,
		inner=f"AADSTS{number}",
	)


def operation(path):
	parts = path.strip("/").split("/")
	if parts[1:] == ["oauth2", "v2.0", "token"]:
		return "login"
	if parts[1:] == ["v2.0", ".well-known", "openid-configuration"]:
		return "openid"
	return "discovery" if parts == ["common", "discovery", "instance"] else "unknown"


def handle(store, request, fault):
	state = store.state.read()
	if request.operation == "discovery":
		return Answer(200, _discovery(request.host, state))
	if request.operation == "openid":
		return Answer(200, _openid(request.host, state))
	if request.operation != "login":
		return Answer(404, body=b"", content_type="text/html")
	try:
		return _exchange(store, state, request, fault)
	except _Refusal as refusal:
		return refusal.answer


def _discovery(host, state):
	"""What Microsoft's clients ask before they trust an authority."""
	return {
		"tenant_discovery_endpoint": f"https://{host}/{state['tenant']}/v2.0/"
		".well-known/openid-configuration",
		"api-version": "1.1",
		"metadata": [{"preferred_network": host, "preferred_cache": host, "aliases": [host]}],
	}


def _openid(host, state):
	base = f"https://{host}/{state['tenant']}"
	return {
		"token_endpoint": f"{base}/oauth2/v2.0/token",
		"authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
		"end_session_endpoint": f"{base}/oauth2/v2.0/logout",
		"jwks_uri": f"{base}/discovery/v2.0/keys",
		"issuer": f"{base}/v2.0",
	}


def _form(request):
	kind = (request.headers.get("Content-Type") or "").partition(";")[0].strip().lower()
	if request.method != "POST" or kind != "application/x-www-form-urlencoded":
		raise _Refusal(400, "invalid_request", 900144, "The request body must be a form.")
	try:
		fields = urllib.parse.parse_qs(request.body.decode("ascii"), strict_parsing=True)
	except ValueError as error:
		raise _Refusal(400, "invalid_request", 900144, "The form is malformed.") from error
	if any(len(values) > 1 for values in fields.values()):
		raise _Refusal(400, "invalid_request", 9000411, "A parameter is duplicated.")
	return {name: values[0] for name, values in fields.items()}


def _exchange(store, state, request, fault):
	fields = _form(request)
	if request.path.strip("/").split("/")[0].lower() != state["tenant"].lower():
		raise _Refusal(400, "invalid_request", 90002, "Tenant was not found.")
	if fields.get("grant_type") != "client_credentials":
		raise _Refusal(400, "unsupported_grant_type", 70003, "The grant type is not supported.")
	resource = _SCOPES.get(fields.get("scope"))
	if resource is None:
		raise _Refusal(400, "invalid_scope", 1002012, "The scope is not valid.")
	request.note["query"] = {"resource": resource}
	identity = state["identities"].get(fields.get("client_id", "").lower())
	if identity is None:
		raise _Refusal(400, "unauthorized_client", 700016, "Application was not found.")
	if fields.get("client_assertion_type") != ASSERTION_TYPE:
		raise _Refusal(401, "invalid_client", 7000218, "There must be an assertion.")
	now = store.now()
	_check(store, state, fields.get("client_assertion", ""), identity, now)
	request.note["identity"] = identity["client_id"]
	lifetime = identity["token_lifetime"]
	kind = fault and fault["effects"].get("token")
	return Answer(
		200,
		{
			"token_type": "Bearer",
			"expires_in": lifetime - 1,
			"ext_expires_in": lifetime - 1,
			"access_token": bearer(state, identity, resource, now, kind),
		},
	)


def _check(store, state, assertion, identity, now):
	try:
		signed, _, signature = assertion.rpartition(".")
		head, claims = (json.loads(keys.decode_base64url(part)) for part in signed.split("."))
		issuer, subject, audience = claims["iss"], claims["sub"], claims["aud"]
		begins, ends = claims.get("nbf", claims["iat"]), claims["exp"]
	except (keys.KeyUseError, ValueError, KeyError, TypeError) as error:
		raise _Refusal(400, "invalid_request", 50027, "JWT token is invalid.") from error
	own = identity["client_id"].lower()
	records = [one for one in state["federations"] if one["client_id"] == own]
	if issuer not in [one["issuer"] for one in records]:
		raise _Refusal(
			401, "invalid_client", 700211, f"No federated identity for the issuer '{issuer}'."
		)
	if AUDIENCE not in (audience if isinstance(audience, list) else [audience]):
		raise _Refusal(
			401, "invalid_client", 700212, f"No federated identity for the audience '{audience}'."
		)
	if (issuer, subject) not in [(one["issuer"], one["subject"]) for one in records]:
		raise _Refusal(
			401, "invalid_client", 700213, f"No federated identity for the subject '{subject}'."
		)
	try:
		if (head["alg"], head["kid"]) != ("RS256", KEY_ID):
			raise InvalidSignature
		keys.load(store.read_key(KEY_ID)).public_key().verify(
			keys.decode_base64url(signature), signed.encode(), padding.PKCS1v15(), hashes.SHA256()
		)
	except (InvalidSignature, KeyError, keys.KeyUseError, OSError) as error:
		raise _Refusal(401, "invalid_client", 700027, "The signature is wrong.") from error
	if not begins - 300 <= now < ends:
		raise _Refusal(401, "invalid_client", 700024, "The assertion is outside its valid time.")


def make_assertion(store, subject, issuer, audience, now, lifetime, bad_signature=False):
	"""What a cluster writes into a workload's token file."""
	try:
		key = keys.load(store.read_key(KEY_ID))
	except FileNotFoundError:
		store.write_key(KEY_ID, keys.make("RSA"))
		key = keys.load(store.read_key(KEY_ID))
	begins = min(now, now + lifetime)
	claims = {
		"iss": issuer,
		"sub": subject,
		"aud": [audience],
		"iat": begins,
		"nbf": begins,
		"exp": now + lifetime,
	}
	signed = f"{tokens.part({'alg': 'RS256', 'kid': KEY_ID})}.{tokens.part(claims)}"
	signature = key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
	if bad_signature:
		signature = signature[:-1] + bytes([signature[-1] ^ 1])
	return f"{signed}.{keys.encode_base64url(signature)}"

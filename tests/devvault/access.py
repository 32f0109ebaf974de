"""Who may do what to which version, and how Key Vault refuses.

The codes are Azure's; the messages are for people, and no client may branch on them."""

import re

from . import tokens
from .answer import Refusal
from .store import vault_suffix

_VERSION = re.compile(
	r"^(7\.[0-6]|2016-10-01|2025-07-01|7\.6-preview\.[12]|202[56]-\d\d-01-preview)$"
)

# Operation -> (access policy permission, RBAC data action).
PERMISSIONS = {
	"get": ("get", "keys/read"),
	"list": ("list", "keys/read"),
	"versions": ("list", "keys/read"),
	"create": ("create", "keys/create/action"),
	"import": ("import", "keys/import/action"),
	"update": ("update", "keys/update/action"),
	"delete": ("delete", "keys/delete"),
	"backup": ("backup", "keys/backup/action"),
	"restore": ("restore", "keys/restore/action"),
	"rotate": ("rotate", "keys/rotate/action"),
	"getrotationpolicy": ("getrotationpolicy", "keyrotationpolicies/read"),
	"setrotationpolicy": ("setrotationpolicy", "keyrotationpolicies/write"),
	"wrapkey": ("wrapKey", "keys/wrap/action"),
	"unwrapkey": ("unwrapKey", "keys/unwrap/action"),
	"encrypt": ("encrypt", "keys/encrypt/action"),
	"decrypt": ("decrypt", "keys/decrypt/action"),
	"listdeleted": ("list", "keys/read"),
	"getdeleted": ("get", "keys/read"),
	"recover": ("recover", "keys/recover/action"),
	"purge": ("purge", "keys/purge/action"),
}
ALL_PERMISSIONS = sorted({permission for permission, _ in PERMISSIONS.values()})


def authenticate(state, vault, request, now):
	"""The claims of a good token."""
	resource = f"https://{vault_suffix(vault['host'])}"
	header = request.headers.get("Authorization")
	verdict, claims, message = tokens.check(state, header, resource, now)
	request.note["auth"] = verdict
	if claims:
		request.note["identity"] = claims["appid"]
	if verdict != "valid":
		authority = f"https://{_login_host(vault['host'])}/{state['tenant']}"
		challenge = f'Bearer authorization="{authority}", resource="{resource}"'
		raise Refusal(401, "Unauthorized", message, headers=[("WWW-Authenticate", challenge)])
	return claims


def _login_host(host):
	if host.endswith(".azure.cn"):
		return "login.chinacloudapi.cn"
	if host.endswith(".usgovcloudapi.net"):
		return "login.microsoftonline.us"
	return "login.microsoftonline.com"


def check_api_version(request):
	versions = request.query.get("api-version", [])
	if len(versions) != 1 or not versions[0]:
		raise Refusal(400, "BadParameter", "The request names no api-version.")
	if not _VERSION.match(versions[0]):
		raise Refusal(400, "BadParameter", f"The api-version {versions[0]} is not known.")


def check_network(vault, identity):
	where = f"{_caller(identity)}\r\nVault: {vault['name']};location={vault['location']}"
	if vault["network"] == "firewall":
		raise Refusal(
			403,
			"Forbidden",
			f"The client's address is not among those allowed.\r\nCaller: {where}",
			inner="ForbiddenByFirewall",
		)
	if vault["network"] == "private-link":
		raise Refusal(
			403,
			"Forbidden",
			f"The vault is reached by private link only.\r\nCaller: {where}",
			inner="ForbiddenByConnection",
		)


def check_permission(vault, identity, request):
	permission, action = PERMISSIONS[request.operation]
	grants = vault["grants"].get(identity["appid"].lower(), {})
	allowed = grants.get("*", []) + (grants.get(request.key.lower(), []) if request.key else [])
	if permission in allowed:
		return
	where = f"{vault['name']};location={vault['location']}"
	if vault["access"] == "policy":
		raise Refusal(
			403,
			"Forbidden",
			f"'{_caller(identity)}' has no keys {permission} permission on key vault '{where}'.",
			inner="ForbiddenByPolicy",
		)
	raise Refusal(
		403,
		"Forbidden",
		f"No role allows this; a new one takes minutes to work.\r\nCaller: {_caller(identity)}\r\n"
		f"Action: 'Microsoft.KeyVault/vaults/{action}'\r\nAssignment: (not found)\r\n"
		f"DecisionReason: 'DeniedWithNoValidRBAC'\r\nVault: {where}\r\n",
		inner="ForbiddenByRbac",
	)


def _caller(identity):
	return f"appid={identity['appid']};oid={identity['oid']};iss={identity['iss']}"


def check_usable(vault, version, operation, now):
	"""Whether a version may be used for a cryptographic operation at this time."""
	permission, _ = PERMISSIONS[operation]
	attributes = version["attributes"]
	opens = operation in ("unwrapkey", "decrypt")
	if not attributes["enabled"] and (opens or vault["disabled_wrap"] == "refuse"):
		raise _not_allowed(permission, "a disabled key", "KeyDisabled")
	if permission not in version["key_ops"]:
		raise _not_allowed(permission, "this key", "KeyOperationForbidden")
	if opens:
		return  # outside its time too: data must stay readable
	if attributes.get("nbf") is not None and now < attributes["nbf"]:
		raise _not_allowed(permission, "a key before its time", "KeyNotYetValid")
	if attributes.get("exp") is not None and now >= attributes["exp"]:
		raise _not_allowed(permission, "an expired key", "KeyExpired")


def _not_allowed(permission, what, inner):
	return Refusal(
		403, "Forbidden", f"Operation {permission} is not allowed on {what}.", inner=inner
	)


def check_not_deleted(key, now):
	"""Refuses while the name of a key is held by its deleted or returning self."""
	if is_recoverable(key, now):
		raise Refusal(
			409,
			"Conflict",
			f"Key {key['name']} is deleted: recover or purge it first.",
			inner="ObjectIsDeletedButRecoverable",
		)
	if key["recovering_until"] > now:
		raise Refusal(
			409,
			"Conflict",
			f"Key {key['name']} is being recovered: try again later.",
			inner="ObjectIsBeingRecovered",
		)


def is_recoverable(key, now):
	return key["deleted"] is not None and now < key["deleted"]["purge"]


def key_not_found(name):
	return Refusal(
		404,
		"KeyNotFound",
		f"There is no key {name} in this vault. A key deleted lately may still be recovered.",
	)


def deleted_key_not_found(name):
	return Refusal(404, "KeyNotFound", f"There is no deleted key {name} in this vault.")

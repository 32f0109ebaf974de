"""Key Vault's data plane for keys: every operation that byok and Microsoft's SDK use."""

import json
import re
import threading
import time

from . import access, bundles, keys
from .answer import Answer, Refusal
from .store import is_managed_hsm

_NAME = re.compile(r"^[0-9A-Za-z-]{1,127}$")
_CRYPTO = ("wrapkey", "unwrapkey", "encrypt", "decrypt")

_AFTER_KEY = {
	("POST", "create"): "create",
	("POST", "rotate"): "rotate",
	("POST", "backup"): "backup",
	("GET", "versions"): "versions",
	("GET", "rotationpolicy"): "getrotationpolicy",
	("PUT", "rotationpolicy"): "setrotationpolicy",
	**{("POST", name): name for name in _CRYPTO},
}


def route(method, path):
	"""(operation, key name, version) that a request means; operation "unknown" for none."""
	parts = [part for part in path.split("/") if part]
	kind, parts = (parts[0].lower(), parts[1:]) if parts else ("", [])
	name = parts[0] if parts else None
	verb = parts[-1].lower() if len(parts) > 1 else None
	found = ("unknown", name, None)
	if kind == "keys":
		if not parts:
			found = ({"GET": "list"}.get(method), None, None)
		elif len(parts) == 1 and name.lower() == "restore" and method == "POST":
			found = ("restore", None, None)
		elif len(parts) == 1:
			found = (
				{"GET": "get", "PUT": "import", "DELETE": "delete", "PATCH": "update"}.get(method),
				name,
				None,
			)
		elif len(parts) == 2 and (method, verb) in _AFTER_KEY:
			found = (_AFTER_KEY[method, verb], name, None)
		elif len(parts) == 2:
			found = ({"GET": "get", "PATCH": "update"}.get(method), name, verb)
		elif len(parts) == 3 and method == "POST" and verb in _CRYPTO:
			found = (verb, name, parts[1].lower())
	elif kind == "deletedkeys":
		if not parts:
			found = ({"GET": "listdeleted"}.get(method), None, None)
		elif len(parts) == 1:
			found = ({"GET": "getdeleted", "DELETE": "purge"}.get(method), name, None)
		elif len(parts) == 2 and (method, verb) == ("POST", "recover"):
			found = ("recover", name, None)
	return (found[0] or "unknown", *found[1:])


class KeyVault:
	"""All vaults of one state folder."""

	def __init__(self, store):
		self._store = store
		self._windows = {}
		self._mutex = threading.Lock()
		self._private_keys = {}

	def handle(self, request):
		"""Answers one request. request.note collects what the log says of it."""
		try:
			return self._handle(request)
		except Refusal as refusal:
			return refusal.answer()

	def _handle(self, request):
		store = self._store
		state, now = store.state.read(), store.now()
		vault = state["vaults"].get(request.host)
		if vault is None or vault["deleted"] is not None:
			return Answer(
				404, body=b"<html><body>404 - Not Found</body></html>", content_type="text/html"
			)
		identity = access.authenticate(state, vault, request, now)
		access.check_api_version(request)
		access.check_network(vault, identity)
		if request.operation == "unknown":
			raise Refusal(404, "ResourceNotFound", "No such resource.")
		if request.key is not None and not _NAME.match(request.key):
			raise Refusal(400, "BadParameter", "The key name is not valid.")
		access.check_permission(vault, identity, request)
		if request.operation in _CRYPTO:
			return self._crypto(vault, request, now)
		return getattr(self, f"_{request.operation}")(vault, request, now)

	# Reading -----------------------------------------------------------------------------------

	def _get(self, vault, request, now):
		key = self._present_key(vault, request, now)
		return Answer(200, self._bundle(vault, key, _version(key, request.version, vault), request))

	def _list(self, vault, request, now):
		items = [
			self._item(vault, key, _newest(key), request, versionless=True)
			for key in vault["keys"].values()
			if key["deleted"] is None and _present_versions(key)
		]
		return _page(vault, request, "/keys", items)

	def _versions(self, vault, request, now):
		key = self._present_key(vault, request, now)
		items = [self._item(vault, key, version, request) for version in _present_versions(key)]
		return _page(vault, request, f"/keys/{key['name']}/versions", items)

	def _listdeleted(self, vault, request, now):
		items = [
			{
				**self._item(vault, key, _newest(key), request, versionless=True),
				**bundles.deletion_members(vault, key),
			}
			for key in vault["keys"].values()
			if access.is_recoverable(key, now)
		]
		return _page(vault, request, "/deletedkeys", items)

	def _getdeleted(self, vault, request, now):
		key = vault["keys"].get(request.key.lower())
		if key is None or not access.is_recoverable(key, now):
			raise access.deleted_key_not_found(request.key)
		return Answer(200, self._deleted_bundle(vault, key, request))

	def _getrotationpolicy(self, vault, request, now):
		key = self._present_key(vault, request, now)
		return Answer(200, bundles.rotation_policy(vault, key))

	# Changing ----------------------------------------------------------------------------------

	def _create(self, vault, request, now):
		body = _json_body(request)
		kty = body.get("kty")
		if kty not in keys.KINDS or (kty == "oct-HSM" and not is_managed_hsm(request.host)):
			raise Refusal(400, "BadParameter", "Property kty has an invalid value")
		attributes, operations = _attributes(body), _operations(body, kty)
		try:
			pem = keys.make(kty, body.get("key_size"), body.get("crv"))
		except keys.KeyUseError as error:
			raise Refusal(400, "BadParameter", f"Property has an invalid value: {error}") from error
		return self._add_version(request, kty, pem, attributes, operations, body.get("tags"), now)

	def _import(self, vault, request, now):
		body = _json_body(request)
		jwk = body.get("key")
		if not isinstance(jwk, dict):
			raise Refusal(400, "BadParameter", "Property key has an invalid value")
		try:
			pem = keys.to_pem(keys.from_jwk(jwk))
		except keys.KeyUseError as error:
			raise Refusal(
				400, "BadParameter", f"Property key has an invalid value: {error}"
			) from error
		operations = _operations(jwk, jwk["kty"])
		return self._add_version(
			request, jwk["kty"], pem, _attributes(body), operations, body.get("tags"), now
		)

	def _add_version(self, request, kty, pem, attributes, operations, tags, now):
		with self._store.state.change() as state:
			vault = state["vaults"][request.host]
			key = vault["keys"].get(request.key.lower())
			if key is not None:
				access.check_not_deleted(key, now)
			if key is None or key["deleted"] is not None:
				key = bundles.new_key(vault, request.key)
			version = bundles.new_version(
				self._store, key, kty, pem, now, operations, attributes, tags
			)
		return Answer(200, self._bundle(vault, key, version, request))

	def _rotate(self, vault, request, now):
		newest = _newest(self._present_key(vault, request, now))
		private = self._private_key(newest)
		_, size, curve = keys.kind_of(private)
		pem = keys.make(newest["kty"], size, curve)
		attributes = {"enabled": True}
		return self._add_version(
			request, newest["kty"], pem, attributes, newest["key_ops"], newest["tags"], now
		)

	def _update(self, vault, request, now):
		body = _json_body(request)
		with self._store.state.change() as state:
			vault = state["vaults"][request.host]
			key = self._present_key(vault, request, now)
			version = _version(key, request.version, vault)
			if "attributes" in body:
				version["attributes"].update(_attributes(body, default_enabled=None))
			if "key_ops" in body:
				version["key_ops"] = _operations(body, version["kty"])
			if "tags" in body:
				version["tags"] = body["tags"]
			version["attributes"]["updated"] = now
		return Answer(200, self._bundle(vault, key, version, request))

	def _setrotationpolicy(self, vault, request, now):
		body = _json_body(request)
		with self._store.state.change() as state:
			vault = state["vaults"][request.host]
			key = self._present_key(vault, request, now)
			created = (key["rotation_policy"] or {}).get("attributes", {}).get("created", now)
			key["rotation_policy"] = {
				"lifetimeActions": body.get("lifetimeActions", []),
				"attributes": {
					"expiryTime": body.get("attributes", {}).get("expiryTime"),
					"created": created,
					"updated": now,
				},
			}
		return Answer(200, bundles.rotation_policy(vault, key))

	def _delete(self, vault, request, now):
		with self._store.state.change() as state:
			vault = state["vaults"][request.host]
			key = self._present_key(vault, request, now)
			bundle = self._bundle(vault, key, _newest(key), request)
			bundles.delete_key(vault, key, now)
		if vault["retention_days"]:
			bundle.update(bundles.deletion_members(vault, key))
		return Answer(200, bundle)

	def _recover(self, vault, request, now):
		with self._store.state.change() as state:
			vault = state["vaults"][request.host]
			key = vault["keys"].get(request.key.lower())
			if key is None or not access.is_recoverable(key, now):
				if key is not None and key["deleted"] is None:
					access.check_not_deleted(key, now)
				raise access.deleted_key_not_found(request.key)
			key["deleted"] = None
			key["recovering_until"] = now + vault["recovery_seconds"]
		return Answer(200, self._bundle(vault, key, _newest(key), request))

	def _purge(self, vault, request, now):
		with self._store.state.change() as state:
			vault = state["vaults"][request.host]
			key = vault["keys"].get(request.key.lower())
			if key is None or not access.is_recoverable(key, now):
				raise access.deleted_key_not_found(request.key)
			if "Purgeable" not in vault["recovery_level"]:
				raise Refusal(403, "Forbidden", "This vault is protected from purging.")
			del vault["keys"][request.key.lower()]
		return Answer(204)

	def _backup(self, vault, request, now):
		key = self._present_key(vault, request, now)
		pems = {
			version["id"]: self._store.read_key(version["id"]).decode()
			for version in key["versions"]
		}
		blob = json.dumps({"devvault-backup": 1, "key": key, "pems": pems}).encode()
		return Answer(200, {"value": keys.encode_base64url(blob)})

	def _restore(self, vault, request, now):
		try:
			backup = json.loads(keys.decode_base64url(_json_body(request).get("value")))
			pems = backup["pems"]
			restored = backup["key"]
		except (keys.KeyUseError, ValueError, KeyError, TypeError) as error:
			raise Refusal(
				400, "BadParameter", "Backup blob cannot be decrypted or is invalid"
			) from error
		with self._store.state.change() as state:
			vault = state["vaults"][request.host]
			present = vault["keys"].get(restored["name"].lower())
			if present is not None:
				access.check_not_deleted(present, now)
				raise Refusal(
					409, "Conflict", f"There was a conflict restoring the key {restored['name']}."
				)
			for version in restored["versions"]:
				bundles.adopt_version(self._store, version, pems[version["id"]].encode())
			vault["keys"][restored["name"].lower()] = restored
		return Answer(200, self._bundle(vault, restored, _newest(restored), request))

	# Using -------------------------------------------------------------------------------------

	def _crypto(self, vault, request, now):
		body = _json_body(request)
		key = self._present_key(vault, request, now)
		version = _version(key, request.version, vault)
		request.note["version"] = version["version"]
		access.check_usable(vault, version, request.operation, now)
		private = self._private_key(version)
		self._throttle(vault, private)
		try:
			data = keys.decode_base64url(body.get("value"))
			algorithm = body.get("alg")
			if algorithm not in keys.ALGORITHMS:
				raise keys.KeyUseError("Property alg has an invalid value")
			if request.operation in ("wrapkey", "encrypt"):
				result = keys.wrap(private, algorithm, data)
			else:
				result = keys.unwrap(private, algorithm, data)
		except keys.KeyUseError as error:
			raise Refusal(400, "BadParameter", f"The parameter is incorrect: {error}.") from error
		return Answer(
			200, {"kid": bundles.kid(vault, key, version), "value": keys.encode_base64url(result)}
		)

	def _private_key(self, version):
		private = self._private_keys.get(version["id"])
		if private is None:
			private = keys.load(self._store.read_key(version["id"]))
			self._private_keys[version["id"]] = private
		return private

	def _throttle(self, vault, private):
		"""Weighted sum over the last 10 seconds; refused calls do not count."""
		weight = {3072: 4, 4096: 8}.get(getattr(private, "key_size", 2048), 1)
		with self._mutex:
			now = time.monotonic()
			window = [
				(when, cost)
				for when, cost in self._windows.get(vault["host"], [])
				if when > now - 10
			]
			if sum(cost for _, cost in window) + weight > vault["throttle"]:
				retry_after = vault["retry_after"]
				raise Refusal(
					429,
					"Throttled",
					"Request was not processed because too many requests were "
					"received. Reason: VaultRequestTypeLimitReached",
					headers=[] if retry_after is None else [("Retry-After", str(retry_after))],
				)
			self._windows[vault["host"]] = window + [(now, weight)]

	# Shapes ------------------------------------------------------------------------------------

	def _present_key(self, vault, request, now):
		key = vault["keys"].get(request.key.lower())
		if key is None or key["deleted"] is not None or not _present_versions(key):
			raise access.key_not_found(request.key)
		if request.operation == "get" and key["recovering_until"] > now:
			raise access.key_not_found(
				request.key
			)  # what Microsoft's clients wait on while a key comes back
		access.check_not_deleted(key, now)
		return key

	def _bundle(self, vault, key, version, request):
		request.note["version"] = version["version"]
		public = keys.public_members(self._private_key(version))
		return bundles.bundle(
			vault, key, version, public, request.query.get("api-version", [""])[0]
		)

	def _item(self, vault, key, version, request, versionless=False):
		return bundles.item(
			vault, key, version, versionless, request.query.get("api-version", [""])[0]
		)

	def _deleted_bundle(self, vault, key, request):
		return {
			**self._bundle(vault, key, _newest(key), request),
			**bundles.deletion_members(vault, key),
		}


def _present_versions(key):
	return [version for version in key["versions"] if not version["vanished"]]


def _newest(key):
	return (_present_versions(key) or key["versions"])[-1]


def _version(key, wanted, vault):
	if wanted is None:
		return _newest(key)
	for version in _present_versions(key):
		if version["version"] == wanted:
			return version
	raise access.key_not_found(f"{key['name']}/{wanted}")


def _json_body(request):
	content_type = request.headers.get("Content-Type", "")
	if content_type.partition(";")[0].strip().lower() != "application/json":
		raise Refusal(415, "UnsupportedMediaType", "The content type must be application/json")
	try:
		body = json.loads(request.body)
	except (ValueError, RecursionError) as error:
		raise Refusal(400, "BadParameter", "The request body is not valid JSON") from error
	if not isinstance(body, dict):
		raise Refusal(400, "BadParameter", "The request body is not a JSON object")
	return body


def _attributes(body, default_enabled=True):
	"""The attributes that a caller may set, checked."""
	given = body.get("attributes") or {}
	if not isinstance(given, dict):
		raise Refusal(400, "BadParameter", "Property attributes has an invalid value")
	enabled = given.get("enabled", default_enabled)
	chosen = {} if enabled is None else {"enabled": enabled}
	for name in ("nbf", "exp"):
		if name in given:
			chosen[name] = given[name]
			if given[name] is not None and not isinstance(given[name], int):
				raise Refusal(400, "BadParameter", f"Property {name} has an invalid value")
	if not isinstance(chosen.get("enabled", True), bool):
		raise Refusal(400, "BadParameter", "Property enabled has an invalid value")
	return chosen


def _operations(holder, kty):
	operations = holder.get("key_ops")
	if operations is None:
		return keys.default_operations(kty)
	known = keys.possible_operations(kty)
	if not isinstance(operations, list) or any(name not in known for name in operations):
		raise Refusal(400, "BadParameter", "Property key_ops has an invalid value")
	return operations


def _page(vault, request, path, items):
	"""At most maxresults items, and a link to the rest."""
	try:
		size = int(request.query.get("maxresults", ["25"])[0])
		start = int(request.query.get("$skiptoken", ["0"])[0])
	except ValueError as error:
		raise Refusal(400, "BadParameter", "maxresults has an invalid value") from error
	if not 1 <= size <= 25 or start < 0:
		raise Refusal(400, "BadParameter", "maxresults has an invalid value")
	rest = start + size
	link = None
	if rest < len(items):
		link = (
			f"https://{vault['host']}{path}?api-version={request.query['api-version'][0]}"
			f"&$skiptoken={rest}&maxresults={size}"
		)
	return Answer(200, {"value": items[start:rest], "nextLink": link})

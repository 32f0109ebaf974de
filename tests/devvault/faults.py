"""Faults that a test has asked for: which one a request meets, and what becomes of the answer."""

import json
import secrets

from . import keys
from .answer import Answer
from .store import StoreError, vault_host

IMDS_OPERATIONS = ("token", "instance")
BODIES = ("garbage", "text", "html", "empty", "cut", "huge", "endless", "array", "nested")
TOKENS = ("expired", "wrong-audience", "bad-signature", "garbage", "empty", "huge")

# Everything a fault may say beside what it matches. Flags of the command line have the same names.
EFFECTS = (
	"status",
	"code",
	"inner",
	"message",
	"retry_after",
	"header",
	"redirect",
	"delay",
	"body",
	"size",
	"raw_body",
	"kid",
	"value",
	"set",
	"unset",
	"token",
	"close",
	"reset",
	"slow_drip",
)


def add(store, match, host=None, key=None, server=None, times=None, after=0, **effects):
	unknown = set(effects) - set(EFFECTS)
	if unknown:
		raise StoreError(f"unknown fault effect {', '.join(sorted(unknown))}")
	effects = {name: value for name, value in effects.items() if value not in (None, False, [])}
	if not effects:
		raise StoreError("a fault needs an effect")
	if effects.get("body", "cut") not in BODIES or effects.get("token", "empty") not in TOKENS:
		raise StoreError("unknown kind of body or token")
	for assignment in effects.get("set", []):
		_parse_assignment(assignment)
	fault = {
		"match": match.lower(),
		"host": host and (vault_host(host) if "." not in host else host.lower()),
		"key": key and key.lower(),
		"server": server,
		"after": after,
		"times": times,
		"used": 0,
		"effects": effects,
	}
	with store.faults.change() as document:
		fault["id"] = document["next"]
		document["next"] += 1
		document["faults"].append(fault)
	return fault["id"]


def clear(store, fault_id=None):
	with store.faults.change() as document:
		document["faults"] = [
			fault
			for fault in document["faults"]
			if fault_id is not None and fault["id"] != fault_id
		]


def listed(store):
	return store.faults.read()["faults"]


def _matches(fault, server, operation, host, key):
	if fault["times"] == 0:
		return False
	if fault["server"] not in (None, server):
		return False
	if fault["host"] not in (None, host) or fault["key"] not in (None, key and key.lower()):
		return False
	wanted = fault["match"]
	if operation == "connect":
		return wanted == "connect"
	return (
		wanted in ("*", operation.lower())
		or (wanted == "imds" and server == "imds")
		or (wanted == "vault" and server == "vault")
	)


def take(store, server, operation, host=None, key=None):
	"""The fault that this request meets, counted as used; or None."""
	if not any(_matches(fault, server, operation, host, key) for fault in listed(store)):
		return None
	with store.faults.change() as document:
		for fault in document["faults"]:
			if not _matches(fault, server, operation, host, key):
				continue
			if fault["after"] > 0:
				fault["after"] -= 1
				continue
			if fault["times"] is not None:
				fault["times"] -= 1
			fault["used"] += 1
			return fault
	return None


def replaces(fault):
	"""Whether the request is answered without being carried out."""
	effects = fault["effects"]
	return "status" in effects or "redirect" in effects


def refusal(fault, server):
	"""The answer of a fault that replaces the request."""
	effects = fault["effects"]
	status = effects.get("status", 302)
	code, inner = effects.get("code"), effects.get("inner")
	message = effects.get("message", "devvault was asked to fail here.")
	if 300 <= status < 400:
		return Answer(status)
	if server in ("imds", "login"):
		document = {"error": code or "invalid_request", "error_description": message}
	else:
		document = {"error": {"code": code or "ServiceUnavailable", "message": message}}
		if inner:
			document["error"]["innererror"] = {"code": inner}
	return Answer(status, document, code=code, inner=inner)


def apply(fault, answer):
	"""Changes the answer as the fault says."""
	effects = fault["effects"]
	if isinstance(answer.document, dict) and not replaces(fault):
		_change_members(effects, answer.document)
	if "retry_after" in effects:
		answer.headers.append(("Retry-After", str(effects["retry_after"])))
	if "redirect" in effects:
		answer.headers.append(("Location", effects["redirect"]))
	for header in effects.get("header", []):
		name, _, value = header.partition(":")
		answer.headers.append((name.strip(), value.strip()))
	if "raw_body" in effects:
		answer.body = effects["raw_body"].encode()
	elif "body" in effects:
		_change_body(effects, answer)


def _change_body(effects, answer):
	kind = effects["body"]
	size = effects.get("size", 1 << 20)
	if kind == "garbage":
		answer.body = secrets.token_bytes(effects.get("size", 200))
	elif kind == "text":
		answer.body, answer.content_type = b"The service is unavailable.", "text/plain"
	elif kind == "html":
		answer.body = b"<!DOCTYPE html><html><body>The service is unavailable</body></html>"
		answer.content_type = "text/html"
	elif kind == "empty":
		answer.body = b""
	elif kind == "huge":
		answer.body = json.dumps({"padding": "x" * size}).encode()
	elif kind == "array":
		answer.body = json.dumps([answer.document]).encode()
	elif kind == "nested":
		answer.body = b"[" * size + b"]" * size


def _change_members(effects, document):
	inside_key = document.get("key")
	kid_holder = inside_key if isinstance(inside_key, dict) else document
	if "kid" in effects and "kid" in kid_holder:
		_change_kid(effects["kid"], kid_holder)
	if "value" in effects and "value" in document:
		_change_value(effects["value"], document)
	for assignment in effects.get("set", []):
		path, value = _parse_assignment(assignment)
		holder = _holder(document, path, create=True)
		holder[path[-1]] = value
	for dotted in effects.get("unset", []):
		path = dotted.split(".")
		holder = _holder(document, path, create=False)
		if holder is not None:
			holder.pop(path[-1], None)


def _change_kid(change, holder):
	stem, _, version = holder["kid"].rpartition("/")
	if change == "wrong":
		holder["kid"] = f"{stem}/{'f' * 32 if version != 'f' * 32 else 'e' * 32}"
	elif change == "other-host":
		scheme, _, rest = holder["kid"].partition("://")
		holder["kid"] = f"{scheme}://other-{rest}"
	elif change == "missing":
		del holder["kid"]
	else:
		holder["kid"] = change


def _change_value(change, document):
	value = keys.decode_base64url(document["value"])
	if change == "wrong":
		document["value"] = keys.encode_base64url(secrets.token_bytes(len(value)))
	elif change == "garbage":
		document["value"] = "!" + document["value"][1:]
	elif change == "short":
		document["value"] = keys.encode_base64url(value[:-1])
	elif change == "empty":
		document["value"] = ""
	elif change == "padded":
		document["value"] += "=" * (-len(document["value"]) % 4)
	elif change == "missing":
		del document["value"]
	else:
		document["value"] = change


def _parse_assignment(assignment):
	dotted, equals, text = assignment.partition("=")
	if not equals:
		raise StoreError(f"--set needs member=value, not {assignment}")
	try:
		return dotted.split("."), json.loads(text)
	except ValueError:
		return dotted.split("."), text


def _holder(document, path, create):
	for name in path[:-1]:
		inner = document.get(name)
		if not isinstance(inner, dict):
			if not create:
				return None
			inner = document[name] = {}
		document = inner
	return document

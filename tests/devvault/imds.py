"""The instance metadata service: tokens of the machine's managed identities."""

import base64
import secrets

from . import tokens
from .answer import Answer

TOKEN_PATH = "/metadata/identity/oauth2/token"
INSTANCE_PATH = "/metadata/instance"
SELECTORS = ("client_id", "object_id", "msi_res_id", "mi_res_id")
_TOKEN_VERSIONS = ("2018-02-01", "2019-08-01", "2020-09-01", "2021-02-01")


def operation(path):
	path = path.rstrip("/")
	if path == TOKEN_PATH:
		return "token"
	if path == INSTANCE_PATH or path.startswith(INSTANCE_PATH + "/"):
		return "instance"
	return "unknown"


def _error(status, error, description):
	return Answer(status, {"error": error, "error_description": description}, code=error)


def handle(store, request, fault):
	"""Answers one request. request.note collects what the log says of it."""
	if request.headers.get_all("X-Forwarded-For"):
		return _error(400, "invalid_request", "A request that was forwarded is refused.")
	if request.headers.get_all("Metadata") != ["true"]:
		return _error(400, "invalid_request", "Required metadata header not specified")
	if any(len(values) > 1 for values in request.query.values()):
		return _error(400, "invalid_request", "A query parameter is given more than once")
	query = {name: values[0] for name, values in request.query.items()}
	if not query.get("api-version"):
		return _error(400, "invalid_request", "Required api-version parameter is missing")
	if request.method != "GET":
		return _error(405, "method_not_allowed", "Only GET is allowed here")
	if request.operation == "token":
		return _token(store, request, query, fault)
	if request.operation == "instance":
		return _instance(store, request.path, query)
	return _error(404, "not_found", "There is nothing here")


def _select(state, query):
	"""(identity, error answer): exactly one of them."""
	identities = state["identities"]
	selectors = [name for name in SELECTORS if name in query]
	if len(selectors) > 1:
		return None, _error(400, "invalid_request", "Only one identity selector may be given")
	if not selectors:
		system = [identity for identity in identities.values() if identity["system"]]
		candidates = system or list(identities.values())
		if not candidates:
			return None, _error(400, "invalid_request", "Identity not found")
		if len(candidates) > 1:
			return None, _error(
				400,
				"invalid_request",
				"Multiple user assigned identities exist: " "the request must select one",
			)
		return candidates[0], None
	member = {"client_id": "client_id", "object_id": "object_id"}.get(selectors[0], "resource_id")
	wanted = query[selectors[0]].lower()
	for identity in identities.values():
		if identity[member].lower() == wanted:
			return identity, None
	return None, _error(400, "invalid_request", "Identity not found")


def _token(store, request, query, fault):
	if query["api-version"] not in _TOKEN_VERSIONS:
		return _error(400, "invalid_request", "The api-version is not supported")
	resource = query.get("resource")
	if not resource:
		return _error(
			400, "invalid_resource", "AADSTS50001: The parameter named resource is missing"
		)
	state = store.state.read()
	identity, error = _select(state, query)
	if error:
		return error
	request.note["identity"] = identity["client_id"]
	now, lifetime = store.now(), identity["token_lifetime"]
	return Answer(
		200,
		{
			"access_token": bearer(
				state, identity, resource, now, fault and fault["effects"].get("token")
			),
			"client_id": identity["client_id"],
			"refresh_token": "",
			"expires_in": str(lifetime - 1),
			"expires_on": str(now + lifetime - 1),
			"ext_expires_in": str(lifetime - 1),
			"not_before": str(now - 5),
			"resource": resource,
			"token_type": "Bearer",
		},
	)


def bearer(state, identity, resource, now, kind):
	lifetime = identity["token_lifetime"]
	if kind == "expired":
		return tokens.make(state, identity, resource, now - 2 * lifetime, lifetime)
	if kind == "wrong-audience":
		return tokens.make(state, identity, "https://management.azure.com/", now, lifetime)
	if kind == "bad-signature":
		return tokens.make(state, identity, resource, now, lifetime, bad_signature=True)
	if kind == "garbage":
		return secrets.token_urlsafe(64)
	if kind == "empty":
		return ""
	if kind == "huge":
		return "x" * (1 << 20)
	return tokens.make(state, identity, resource, now, lifetime)


def _instance(store, path, query):
	compute = {
		"azEnvironment": "AzurePublicCloud",
		"location": "devvault",
		"name": "devvault-vm",
		"osType": "Linux",
		"provider": "Microsoft.Compute",
		"resourceGroupName": "devvault",
		"subscriptionId": store.state.read()["subscription"],
		"userData": base64.b64encode(store.state.read()["user_data"].encode()).decode(),
		"vmId": "00000000-0000-4000-8000-000000000001",
		"vmSize": "Standard_L8s_v3",
	}
	document = {"compute": compute, "network": {"interface": []}}
	for name in path[len(INSTANCE_PATH) :].strip("/").split("/"):
		if name:
			if not isinstance(document, dict) or name not in document:
				return _error(404, "not_found", "There is nothing here")
			document = document[name]
	if query.get("format") == "text" and isinstance(document, str):
		return Answer(200, body=document.encode(), content_type="text/plain; charset=utf-8")
	return Answer(200, document)

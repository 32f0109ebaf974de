"""What a test or a command does to the double: each method is one command of README.md."""

import time
import uuid

from . import access, bundles, faults, keys, login, tls, tokens
from .store import (
	SUFFIXES,
	Store,
	StoreError,
	find_key,
	find_vault,
	find_version,
	is_managed_hsm,
	vault_host,
)

ROLES = {
	"encryption-user": ["get", "wrapKey", "unwrapKey"],
	"reader": ["get", "list"],
	"officer": access.ALL_PERMISSIONS,
}
NETWORKS = ("open", "firewall", "private-link")


class Admin:
	def __init__(self, folder):
		self.store = Store(folder)

	def init(self):
		self.store.init()
		tls.create_authorities(self.store)

	@property
	def ca_file(self):
		return self.store.tls_path("ca.pem")

	def _moment(self, text):
		"""Unix seconds from "+N", "-N" (from now), a number, or "none"."""
		if text is None or isinstance(text, int):
			return text
		if text == "none":
			return None
		return (self.store.now() if text[0] in "+-" else 0) + int(text)

	# Identities --------------------------------------------------------------------------------

	def identity_add(
		self, client_id, object_id=None, resource_id=None, system=False, token_lifetime=86400
	):
		with self.store.state.change() as state:
			state["identities"][client_id.lower()] = {
				"client_id": client_id,
				"object_id": object_id or str(uuid.uuid4()),
				"resource_id": resource_id
				or (
					f"/subscriptions/{state['subscription']}/resourcegroups/devvault/"
					f"providers/Microsoft.ManagedIdentity/userAssignedIdentities/{client_id}"
				),
				"system": system,
				"token_lifetime": token_lifetime,
			}

	def identity_remove(self, client_id):
		with self.store.state.change() as state:
			if state["identities"].pop(client_id.lower(), None) is None:
				raise StoreError(f"no identity {client_id}")

	def identity_list(self):
		return list(self.store.state.read()["identities"].values())

	def tenant(self):
		return self.store.state.read()["tenant"]

	def federation_add(self, client_id, subject, issuer=login.ISSUER):
		"""Lets that subject of that issuer be the identity."""
		with self.store.state.change() as state:
			state["federations"].append(
				{"client_id": client_id.lower(), "subject": subject, "issuer": issuer}
			)

	def federated_token(
		self,
		subject,
		issuer=login.ISSUER,
		audience=login.AUDIENCE,
		expires_in=3600,
		bad_signature=False,
	):
		"""What the issuer would give to that subject."""
		now = self.store.now()
		return login.make_assertion(
			self.store, subject, issuer, audience, now, expires_in, bad_signature
		)

	# Vaults ------------------------------------------------------------------------------------

	def vault_create(self, vault, recovery_level="Recoverable", retention_days=None, access="rbac"):
		host = vault_host(vault)
		if not 3 <= len(host.partition(".")[0]) <= 24:
			raise StoreError("a vault's name has 3 to 24 characters")
		with self.store.state.change() as state:
			if host in state["vaults"]:
				raise StoreError(f"vault {host} exists")
			state["vaults"][host] = bundles.new_vault(host, recovery_level, retention_days, access)
		return host

	def vault_set(self, vault, **changes):
		"""recovery_level, retention_days, access, network, throttle, retry_after, disabled_wrap,
		recovery_seconds; retry_after may be "none"."""
		if changes.get("recovery_level") is not None and changes.get("retention_days") is None:
			fresh = bundles.new_vault(vault_host(vault), changes["recovery_level"], None, "rbac")
			changes["retention_days"] = fresh["retention_days"]
		with self.store.state.change() as state:
			record = find_vault(state, vault)
			for name, value in changes.items():
				if name not in record or name in ("keys", "grants", "host", "name", "deleted"):
					raise StoreError(f"a vault has no setting {name}")
				if value is not None:
					record[name] = None if value == "none" else value

	def vault_delete(self, vault):
		now = self.store.now()
		with self.store.state.change() as state:
			find_vault(state, vault)["deleted"] = {"date": now}

	def vault_recover(self, vault):
		"""As with Azure, the grants do not come back."""
		with self.store.state.change() as state:
			record = find_vault(state, vault)
			record["deleted"] = None
			record["grants"] = {}

	def vault_purge(self, vault):
		with self.store.state.change() as state:
			del state["vaults"][find_vault(state, vault)["host"]]

	def vault_list(self):
		return [
			{name: value for name, value in vault.items() if name != "keys"}
			for vault in self.store.state.read()["vaults"].values()
		]

	def grant(self, vault, client_id, key=None, ops=None, role=None):
		wanted = ops if ops else ROLES[role or "encryption-user"]
		for name in wanted:
			if name not in access.ALL_PERMISSIONS:
				raise StoreError(
					f"unknown permission {name}; there are {', '.join(access.ALL_PERMISSIONS)}"
				)
		with self.store.state.change() as state:
			grants = find_vault(state, vault)["grants"].setdefault(client_id.lower(), {})
			scope = key.lower() if key else "*"
			grants[scope] = sorted(set(grants.get(scope, [])) | set(wanted))

	def revoke(self, vault, client_id, key=None, ops=None):
		with self.store.state.change() as state:
			grants = find_vault(state, vault)["grants"].get(client_id.lower(), {})
			for scope in [key.lower()] if key else list(grants):
				grants[scope] = [name for name in grants.get(scope, []) if ops and name not in ops]

	# Keys --------------------------------------------------------------------------------------

	def key_create(
		self,
		vault,
		key,
		kty="RSA",
		size=None,
		curve=None,
		ops=None,
		disabled=False,
		nbf=None,
		exp=None,
		pem=None,
	):
		"""Adds a version, to a new key or to one that exists. Returns its kid."""
		if pem is not None:
			with open(pem, "rb") as file:
				data = file.read()
			found, _, _ = keys.kind_of(keys.load(data))
			kty = found + ("-HSM" if kty.endswith("-HSM") else "")
		else:
			data = keys.make(kty, size, curve)
		attributes = {"enabled": not disabled, "nbf": self._moment(nbf), "exp": self._moment(exp)}
		now = self.store.now()
		with self.store.state.change() as state:
			record = find_vault(state, vault)
			if kty == "oct-HSM" and not is_managed_hsm(record["host"]):
				raise StoreError("only a managed HSM has AES keys")
			holder = record["keys"].get(key.lower())
			if holder is not None and holder["deleted"] is not None:
				raise StoreError(f"key {key} is deleted: recover or purge it")
			holder = holder or bundles.new_key(record, key)
			version = bundles.new_version(self.store, holder, kty, data, now, ops, attributes)
			return bundles.kid(record, holder, version)

	def key_rotate(self, vault, key):
		state = self.store.state.read()
		newest = find_version(find_key(find_vault(state, vault), key))
		_, size, curve = keys.kind_of(keys.load(self.store.read_key(newest["id"])))
		return self.key_create(vault, key, newest["kty"], size, curve, newest["key_ops"])

	def _change_versions(self, vault, key, version, change, every=False):
		now = self.store.now()
		with self.store.state.change() as state:
			holder = find_key(find_vault(state, vault), key)
			for record in holder["versions"] if every else [find_version(holder, version)]:
				change(record)
				record["attributes"]["updated"] = now

	def key_enable(self, vault, key, version=None, all=False):
		self._change_versions(
			vault, key, version, lambda v: v["attributes"].update(enabled=True), all
		)

	def key_disable(self, vault, key, version=None, all=False):
		self._change_versions(
			vault, key, version, lambda v: v["attributes"].update(enabled=False), all
		)

	def key_expire(self, vault, key, version=None):
		self.key_set(vault, key, version, exp="-1")

	def key_set(self, vault, key, version=None, nbf=None, exp=None, ops=None):
		"""nbf, exp: a moment, or "none" to take the limit away; None leaves it as it is."""
		changes = {
			name: self._moment(text)
			for name, text in (("nbf", nbf), ("exp", exp))
			if text is not None
		}

		def change(record):
			record["attributes"].update(changes)
			if ops is not None:
				record["key_ops"] = ops

		self._change_versions(vault, key, version, change)

	def key_delete(self, vault, key):
		now = self.store.now()
		with self.store.state.change() as state:
			record = find_vault(state, vault)
			bundles.delete_key(record, find_key(record, key), now)

	def key_recover(self, vault, key, in_progress=0):
		now = self.store.now()
		with self.store.state.change() as state:
			record = find_key(find_vault(state, vault), key)
			record["deleted"] = None
			record["recovering_until"] = now + in_progress

	def key_purge(self, vault, key):
		with self.store.state.change() as state:
			record = find_vault(state, vault)
			find_key(record, key)
			del record["keys"][key.lower()]

	def key_vanish(self, vault, key, version):
		self._change_versions(vault, key, version, lambda v: v.update(vanished=True))

	def key_return(self, vault, key, version):
		self._change_versions(vault, key, version, lambda v: v.update(vanished=False))

	def key_list(self, vault):
		return [
			{"name": key["name"], "deleted": key["deleted"], "versions": len(key["versions"])}
			for key in find_vault(self.store.state.read(), vault)["keys"].values()
		]

	def key_versions(self, vault, key):
		"""Oldest first."""
		record = find_vault(self.store.state.read(), vault)
		holder = find_key(record, key)
		return [self._show(record, holder, version) for version in holder["versions"]]

	def key_show(self, vault, key, version=None):
		record = find_vault(self.store.state.read(), vault)
		holder = find_key(record, key)
		return self._show(record, holder, find_version(holder, version))

	def _show(self, vault, key, version):
		public = keys.public_members(keys.load(self.store.read_key(version["id"])))
		return {
			**bundles.bundle(vault, key, version, public, "2025-07-01"),
			"vanished": version["vanished"],
		}

	# Faults, certificates, time, log -----------------------------------------------------------

	def fault_add(self, match="*", **effects):
		return faults.add(self.store, match, **effects)

	def fault_list(self):
		return faults.listed(self.store)

	def fault_clear(self, id=None):
		faults.clear(self.store, id)

	def certificate(self, mode, host=None):
		if mode not in tls.MODES:
			raise StoreError(f"unknown certificate mode {mode}")
		with self.store.state.change() as state:
			if host is None:
				state["certificates"] = {"*": mode}
			else:
				state["certificates"][host.lower()] = mode

	def stranger_add(self, host):
		with self.store.state.change() as state:
			state["strangers"] = sorted(set(state["strangers"]) | {host.lower()})

	def stranger_remove(self, host):
		with self.store.state.change() as state:
			state["strangers"] = [name for name in state["strangers"] if name != host.lower()]

	def clock(self, offset=None):
		"""Sets how far the double's clock is from the machine's; returns it."""
		if offset is not None:
			with self.store.state.change() as state:
				state["clock_offset"] = int(offset)
		return self.store.state.read()["clock_offset"]

	def user_data(self, text):
		with self.store.state.change() as state:
			state["user_data"] = text

	def log(self, **wanted):
		"""The records whose members have the wanted values, oldest first."""
		return [
			record
			for record in self.store.read_log()
			if all(record.get(name) == value for name, value in wanted.items())
		]

	def log_clear(self):
		self.store.clear_log()

	def wait_for_log(self, count=1, timeout=30, **wanted):
		"""The records, once there are at least count of them."""
		deadline = time.monotonic() + timeout
		while True:
			records = self.log(**wanted)
			if len(records) >= count:
				return records
			if time.monotonic() > deadline:
				raise TimeoutError(
					f"{len(records)} of {count} requests with {wanted} after {timeout} s"
				)
			time.sleep(0.05)

	# The oracle --------------------------------------------------------------------------------

	def _private_key(self, kid):
		scheme, _, rest = kid.partition("://")
		parts = rest.split("/")
		if scheme != "https" or len(parts) not in (3, 4) or parts[1].lower() != "keys":
			raise StoreError(f"{kid} is no key id")
		holder = find_key(find_vault(self.store.state.read(), parts[0]), parts[2])
		version = find_version(holder, parts[3] if len(parts) == 4 else None)
		return keys.load(self.store.read_key(version["id"]))

	def unwrap(self, kid, value, alg="RSA-OAEP-256"):
		"""The bytes inside a wrapped base64url value, whatever the attributes and rights say."""
		return keys.unwrap(self._private_key(kid), alg, keys.decode_base64url(value))

	def wrap(self, kid, data, alg="RSA-OAEP-256"):
		return keys.encode_base64url(keys.wrap(self._private_key(kid), alg, data))

	def forge_token(
		self, client_id, resource=f"https://{SUFFIXES[0]}", expires_in=3600, bad_signature=False
	):
		state = self.store.state.read()
		identity = state["identities"].get(client_id.lower()) or {
			"client_id": client_id,
			"object_id": str(uuid.uuid4()),
			"resource_id": "",
		}
		return tokens.make(state, identity, resource, self.store.now(), expires_in, bad_signature)

	def hosts(self, address="127.0.0.1"):
		"""Lines for a private /etc/hosts."""
		state = self.store.state.read()
		names = [*state["vaults"], *state["strangers"], *login.HOSTS]
		return [f"{address} {host}" for host in names]

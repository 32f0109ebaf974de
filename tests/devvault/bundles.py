"""Vaults, keys and versions as they are kept, and as Key Vault's JSON shows them."""

import secrets

from . import keys
from .store import RECOVERY_LEVELS, StoreError, vault_suffix

_DAY = 86400
THROTTLE_DEFAULT = 4000  # RSA-2048 operations per vault and 10 seconds, software keys


def new_vault(host, recovery_level, retention_days, access):
	if recovery_level not in RECOVERY_LEVELS:
		raise StoreError(f"unknown recovery level {recovery_level}")
	return {
		"host": host,
		"name": host.partition(".")[0],
		"location": "devvault",
		"recovery_level": recovery_level,
		"retention_days": (
			RECOVERY_LEVELS[recovery_level] if retention_days is None else retention_days
		),
		"access": access,
		"network": "open",
		"throttle": THROTTLE_DEFAULT,
		"retry_after": None,
		"disabled_wrap": "allow",
		"recovery_seconds": 0,
		"deleted": None,
		"grants": {},
		"keys": {},
	}


def new_key(vault, name):
	key = {
		"name": name,
		"versions": [],
		"deleted": None,
		"recovering_until": 0,
		"rotation_policy": None,
	}
	vault["keys"][name.lower()] = key
	return key


def new_version(store, key, kty, pem, now, operations=None, attributes=None, tags=None):
	version = {
		"kty": kty,
		"version": secrets.token_hex(16),
		"key_ops": keys.default_operations(kty) if operations is None else operations,
		"attributes": {
			"enabled": True,
			"nbf": None,
			"exp": None,
			**(attributes or {}),
			"created": now,
			"updated": now,
		},
		"tags": tags,
		"vanished": False,
	}
	adopt_version(store, version, pem)
	key["versions"].append(version)
	return version


def adopt_version(store, version, pem):
	"""Stores the private key of a version under a name of its own."""
	version["id"] = secrets.token_hex(16)
	store.write_key(version["id"], pem)


def delete_key(vault, key, now):
	if not vault["retention_days"]:
		del vault["keys"][key["name"].lower()]
		return
	key["deleted"] = {"date": now, "purge": now + vault["retention_days"] * _DAY}


def is_hsm(vault, version):
	return version["kty"].endswith("-HSM") or vault_suffix(vault["host"]).startswith("managedhsm.")


def kid(vault, key, version=None):
	stem = f"https://{vault['host']}/keys/{key['name']}"
	return stem if version is None else f"{stem}/{version['version']}"


def _attributes(vault, version, api_version):
	own = version["attributes"]
	shown = {"enabled": own["enabled"]}
	shown.update({name: own[name] for name in ("nbf", "exp") if own.get(name) is not None})
	shown.update(
		{
			"created": own["created"],
			"updated": own["updated"],
			"recoveryLevel": vault["recovery_level"],
			"recoverableDays": vault["retention_days"],
		}
	)
	if api_version >= "7.3" or api_version.startswith("20"):
		shown["exportable"] = False
	if api_version >= "7.5" or api_version.startswith("202"):
		shown["hsmPlatform"] = "2" if is_hsm(vault, version) else "0"
	return shown


def bundle(vault, key, version, public, api_version):
	document = {
		"key": {
			"kid": kid(vault, key, version),
			"kty": version["kty"],
			"key_ops": version["key_ops"],
			**public,
		},
		"attributes": _attributes(vault, version, api_version),
	}
	if version["tags"]:
		document["tags"] = version["tags"]
	return document


def item(vault, key, version, versionless, api_version):
	document = {
		"kid": kid(vault, key, None if versionless else version),
		"attributes": _attributes(vault, version, api_version),
	}
	if version["tags"]:
		document["tags"] = version["tags"]
	return document


def deletion_members(vault, key):
	return {
		"recoveryId": f"https://{vault['host']}/deletedkeys/{key['name']}",
		"deletedDate": key["deleted"]["date"],
		"scheduledPurgeDate": key["deleted"]["purge"],
	}


def rotation_policy(vault, key):
	policy = key["rotation_policy"] or {
		"lifetimeActions": [
			{"trigger": {"timeBeforeExpiry": "P30D"}, "action": {"type": "Notify"}}
		],
		"attributes": {},
	}
	return {"id": f"{kid(vault, key)}/rotationpolicy", **policy}

"""The state folder: one JSON file replaced whole, a lock, and a PEM file for each key version.

The server and every command work on these files, so neither needs the other to be running."""

import contextlib
import fcntl
import json
import os
import secrets
import threading
import time
import uuid

SUFFIXES = (
	"vault.azure.net",
	"vault.azure.cn",
	"vault.usgovcloudapi.net",
	"managedhsm.azure.net",
	"managedhsm.azure.cn",
	"managedhsm.usgovcloudapi.net",
)

# Level -> days of retention when nothing else is asked for. 0: no soft delete at all.
RECOVERY_LEVELS = {
	"Purgeable": 0,
	"Recoverable+Purgeable": 90,
	"Recoverable": 90,
	"Recoverable+ProtectedSubscription": 90,
	"CustomizedRecoverable+Purgeable": 7,
	"CustomizedRecoverable": 7,
	"CustomizedRecoverable+ProtectedSubscription": 7,
}


class StoreError(Exception):
	"""What a command cannot do, in a sentence for its user."""


def vault_host(name):
	"""The host of a vault named either shortly or in full."""
	name = name.lower().rstrip(".")
	if "." not in name:
		return f"{name}.{SUFFIXES[0]}"
	if vault_suffix(name) is None:
		raise StoreError(f"{name} is under none of the vault suffixes")
	return name


def vault_suffix(host):
	"""The suffix that a vault's host lies directly under, or None."""
	name, _, suffix = host.partition(".")
	return suffix if name and suffix in SUFFIXES else None


def write_whole(path, data, mode=0o600):
	"""Readers see the old file or the new one, never a part."""
	temporary = f"{path}.{os.getpid()}.{threading.get_ident()}.new"
	fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
	with os.fdopen(fd, "wb") as file:
		file.write(data if isinstance(data, bytes) else data.encode())
		file.flush()
		os.fsync(file.fileno())
	os.rename(temporary, path)


class JsonFile:
	"""A JSON document that several processes and threads read and change."""

	def __init__(self, path, empty):
		self.path = path
		self.empty = empty
		self._mutex = threading.Lock()
		self._stamp = None
		self._document = None

	def read(self):
		"""The current document. Callers must not change it: they share it."""
		with self._mutex:
			try:
				stat = os.stat(self.path)
			except FileNotFoundError:
				return self.empty()
			stamp = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
			if stamp != self._stamp:
				with open(self.path, encoding="utf-8") as file:
					self._document = json.load(file)
				self._stamp = stamp
			return self._document

	@contextlib.contextmanager
	def change(self):
		"""A private copy, written back when the block ends without an exception."""
		with open(f"{self.path}.lock", "a", encoding="utf-8") as lock:
			fcntl.flock(lock, fcntl.LOCK_EX)
			try:
				with open(self.path, encoding="utf-8") as file:
					document = json.load(file)
			except FileNotFoundError:
				document = self.empty()
			yield document
			write_whole(self.path, json.dumps(document, indent=1))


class Store:
	def __init__(self, folder):
		self.folder = os.path.abspath(folder)
		self.state = JsonFile(self._path("state.json"), self._empty_state)
		self.faults = JsonFile(self._path("faults.json"), lambda: {"next": 1, "faults": []})
		self.log_path = self._path("requests.jsonl")
		self._log_mutex = threading.Lock()

	def _path(self, *names):
		return os.path.join(self.folder, *names)

	@staticmethod
	def _empty_state():
		return {
			"tenant": str(uuid.uuid4()),
			"subscription": str(uuid.uuid4()),
			"token_secret": secrets.token_hex(32),
			"clock_offset": 0,
			"user_data": "",
			"identities": {},
			"federations": [],
			"vaults": {},
			"strangers": [],
			"certificates": {},
		}

	def init(self):
		for folder in ("", "keys", "tls"):
			os.makedirs(self._path(folder), mode=0o700, exist_ok=True)
		with self.state.change():
			pass

	def check_initialised(self):
		if not os.path.exists(self.state.path):
			raise StoreError(f"{self.folder} is no devvault state folder: run devvault init")

	def now(self):
		return int(time.time()) + self.state.read()["clock_offset"]

	def tls_path(self, name):
		return self._path("tls", name)

	def write_key(self, key_id, pem):
		write_whole(self._path("keys", f"{key_id}.pem"), pem)

	def read_key(self, key_id):
		with open(self._path("keys", f"{key_id}.pem"), "rb") as file:
			return file.read()

	def log(self, record):
		line = json.dumps(record) + "\n"
		with self._log_mutex, open(self.log_path, "a", encoding="utf-8") as file:
			file.write(line)

	def read_log(self):
		try:
			with open(self.log_path, encoding="utf-8") as file:
				return [json.loads(line) for line in file if line.endswith("\n")]
		except FileNotFoundError:
			return []

	def clear_log(self):
		with contextlib.suppress(FileNotFoundError):
			os.unlink(self.log_path)


def is_managed_hsm(host):
	return ".managedhsm." in host


def find_vault(state, name):
	host = vault_host(name)
	vault = state["vaults"].get(host)
	if vault is None:
		raise StoreError(f"no vault {host}")
	return vault


def find_key(vault, name):
	key = vault["keys"].get(name.lower())
	if key is None:
		raise StoreError(f"no key {name} in {vault['host']}")
	return key


def find_version(key, version=None):
	"""One version of a key; the newest when none is named. Vanished versions are found too."""
	versions = key["versions"]
	if version is None:
		return versions[-1]
	for candidate in versions:
		if candidate["version"] == version.lower():
			return candidate
	raise StoreError(f"no version {version} of key {key['name']}")

"""The harness of the whole-program tests.

A file test_NAME.py holds functions marked with @test whose names are sentences about behaviour:

	@test
	def a_wrong_key_file_is_refused(t):
		t.byok("serve", ..., expect="wrong-key")

Each gets a `t` of its own, with a fresh folder that goes when the test ends, as does every process
that was started through it. `t.byok` runs the program and checks its exit status; the word of a
failure is that of platform/status.h, so tests speak of causes and not of numbers.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tests"))
from devvault import Devvault  # noqa: E402

CLIENT_ID = "11111111-2222-3333-4444-555555555555"
MIB = 1024 * 1024


class Skip(Exception):
	"""What this machine cannot do."""


class Failure(Exception):
	"""What is not as it should be."""


def read_statuses():
	"""The words of platform/status.h and their exit statuses: the tests' only source of them."""
	text = (TOP / "platform/status.h").read_text().replace("\\\n", "")
	found = re.findall(r'STATUS\((\w+),\s*(\d+),\s*"([^"]*)",\s*"([^"]*)"', text)
	return {word: (int(number), sentence) for _, number, word, sentence in found}


STATUSES = read_statuses()
TESTS = []


def test(function):
	TESTS.append(function)
	return function


def expect(condition, message):
	if not condition:
		raise Failure(message)


def expect_equal(actual, expected, what="value"):
	if actual != expected:
		raise Failure(f"{what} is {actual!r}, not {expected!r}")


def wait_until(condition, what, timeout=30):
	"""Polls, because what is waited for happens in another process."""
	deadline = time.monotonic() + timeout
	while time.monotonic() < deadline:
		value = condition()
		if value:
			return value
		time.sleep(0.02)
	raise Failure(f"after {timeout} s there was still no {what}")


class Test:
	def __init__(self, byok):
		self.program = byok
		self.folder = Path(tempfile.mkdtemp(prefix="byok-test-"))
		self.exits = contextlib.ExitStack()
		self.exits.callback(shutil.rmtree, self.folder, ignore_errors=True)

	def path(self, name):
		return self.folder / name

	def disk(self, name="disk", size_mib=32):
		"""A blank disk: a sparse file."""
		path = self.path(name)
		with open(path, "wb") as file:
			file.truncate(size_mib * MIB)
		return path

	def file(self, name, content):
		path = self.path(name)
		path.write_bytes(content if isinstance(content, bytes) else content.encode())
		return path

	def settings(self, **values):
		"""A configuration file with these lines, for --config."""
		lines = {"run_directory": self.path("run"), "backup_directory": self.path("backups"),
			"retry_cap": 1} | values
		return self.file("byok.conf", "".join(f"{k} = {v}\n" for k, v in lines.items()))

	def run(self, *command, timeout=120, **options):
		return subprocess.run([str(word) for word in command], timeout=timeout,
			capture_output=True, text=True, errors="replace", **options)

	def byok(self, *words, expect="ok", object=None, timeout=120, **options):
		"""Runs byok, and checks that it ended as it should: with the exit status of that cause,
		and one clear sentence about it (and about `object`) on standard error."""
		done = self.run(self.program, *words, timeout=timeout, **options)
		number, sentence = STATUSES[expect]
		shown = f"byok {' '.join(str(w) for w in words)}: {done.stdout}{done.stderr}"
		if done.returncode != number:
			raise Failure(f"exit status {done.returncode}, not {number} ({expect}): {shown}")
		if expect not in ("ok", "usage") and done.stderr.count(sentence) < 1:
			raise Failure(f"it does not say that {sentence}: {shown}")
		if object is not None and str(object) not in done.stderr:
			raise Failure(f"it does not name {object}: {shown}")
		return done

	def start(self, *words, ready=None, timeout=60, program=None, environment=None):
		"""Starts byok (or another program) in the background; waits for `ready()`."""
		log = open(self.path(f"log-{len(list(self.folder.glob('log-*')))}"), "w+")
		process = subprocess.Popen([str(w) for w in (program or self.program, *words)],
			stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=environment)
		process.log_path = log.name
		self.exits.callback(stop, process)

		def is_ready():
			if process.poll() is not None:
				raise Failure(f"it ended with {process.returncode}: {log_of(process)}")
			return ready()

		if ready is not None:
			wait_until(is_ready, f"sign of readiness from {words}", timeout)
		return process

	def vault(self, **options):
		"""A vault double with one vault, one key and one identity that may use it."""
		vault = self.exits.enter_context(Devvault(str(self.path("vault"))))
		vault.identity_add(CLIENT_ID)
		vault.vault_create("bank")
		vault.kid = vault.key_create("bank", "broker", size=2048, **options)
		vault.grant("bank", CLIENT_ID)
		return vault

	def vault_settings(self, vault, **values):
		own = {"identity": CLIENT_ID, "imds_endpoint": vault.imds_url,
			"vault_connect_to": f"127.0.0.1:{vault.vault_port}", "ca_file": vault.ca_file}
		return self.settings(**(own | values))

	def formatted(self, name="data", sector_size=4096, size_mib=32, key=b"a local key"):
		"""A disk with a local key, and its key file."""
		disk, key_file = self.disk(name, size_mib), self.file(f"{name}.key", key)
		self.byok("format", disk, "--key-file", key_file, "--name", name,
			"--sector-size", sector_size)
		return disk, key_file

	def nbd(self, disk, key_file, *words):
		"""Serves a disk by NBD in the foreground; gives the process and the socket's path."""
		socket = self.path(f"{Path(disk).name}.socket")
		process = self.start("serve", "--disk", disk, "--key-file", key_file, "--nbd", socket,
			*words, ready=socket.exists)
		return process, socket

	def product(self):
		"""The path of the program without sanitizers, or a skip."""
		path = os.environ.get("BYOK", "")
		if not os.path.exists(path):
			raise Skip("BYOK does not name the program")
		return path

	def tool(self, name):
		"""The path of a program of somebody else's, or a skip."""
		path = shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/sbin")
		if path is None:
			raise Skip(f"{name} is not installed")
		return path

	def must(self, *command, **options):
		"""Runs somebody else's program, which must succeed."""
		done = self.run(self.tool(str(command[0])), *command[1:], **options)
		if done.returncode != 0:
			raise Failure(f"{command} ended with {done.returncode}: {done.stdout}{done.stderr}")
		return done

	def end(self):
		self.exits.close()


def log_of(process):
	return Path(process.log_path).read_text(errors="replace")


def stop(process, timeout=30):
	"""SIGTERM, and its exit status."""
	if process.poll() is None:
		process.send_signal(signal.SIGTERM)
	try:
		return process.wait(timeout)
	except subprocess.TimeoutExpired:
		process.kill()
		process.wait()
		raise Failure(f"it did not end at SIGTERM: {log_of(process)}")


def uri(socket):
	return f"nbd+unix:///?socket={socket}"


def hash_of(path):
	import hashlib
	return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def metadata_of(t, disk):
	return json.loads(t.byok("dump", disk, "--json").stdout)


def run_one(function, program):
	t = Test(program)
	try:
		try:
			function(t)
		finally:
			t.end()
		return "ok", ""
	except Skip as reason:
		return "skipped", str(reason)
	except (Failure, AssertionError) as failure:
		return "FAILED", f"{failure or traceback.format_exc()}"
	except Exception:
		return "FAILED", traceback.format_exc()

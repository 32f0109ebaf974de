"""The double as a Python object: the commands as methods, the server as a child process."""

import json
import os
import subprocess
import time

from .admin import Admin

_EXECUTABLE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "devvault")
_PYTHON = "/usr/bin/python3"


class Devvault(Admin):
	"""with Devvault(folder) as vault: … ends the server however the block ends. A test that is
	killed takes the server with it (it watches its standard input)."""

	def __init__(self, folder, **serve_options):
		super().__init__(folder)
		self._options = serve_options
		self._process = None
		self.ready = {}
		self.init()

	def __enter__(self):
		self.start()
		return self

	def __exit__(self, *_):
		self.stop()

	imds_port = property(lambda self: self.ready["imds_port"])
	vault_port = property(lambda self: self.ready["vault_port"])
	imds_url = property(lambda self: self.ready["imds_url"])

	def start(self, **serve_options):
		"""imds_port, vault_port (None: leave that server out), bind, imds_bind, tls_max.

		Returns when both listen."""
		options = {"imds_port": 0, "vault_port": 0, **self._options, **serve_options}
		ready_file = os.path.join(self.store.folder, f"ready.{os.getpid()}")
		command = [
			_PYTHON,
			_EXECUTABLE,
			"serve",
			"--state",
			self.store.folder,
			"--ready-file",
			ready_file,
			"--until-stdin-closes",
		]
		for name, value in options.items():
			if value is None and name in ("imds_port", "vault_port"):
				command.append(f"--no-{name.partition('_')[0]}")
			elif value is not None:
				command += [f"--{name.replace('_', '-')}", str(value)]
		if os.path.exists(ready_file):
			os.unlink(ready_file)
		self._process = subprocess.Popen(command, stdin=subprocess.PIPE)
		deadline = time.monotonic() + 60
		while not os.path.exists(ready_file):
			if self._process.poll() is not None:
				raise RuntimeError(f"devvault serve ended with status {self._process.returncode}")
			if time.monotonic() > deadline:
				self.stop()
				raise RuntimeError("devvault serve is not ready after 60 s")
			time.sleep(0.02)
		with open(ready_file, encoding="utf-8") as file:
			self.ready = json.load(file)
		os.unlink(ready_file)

	def stop(self):
		process, self._process = self._process, None
		if process is None:
			return
		process.terminate()
		process.stdin.close()
		process.wait(timeout=30)

	def restart(self):
		"""The same state on the same ports."""
		ports = {f"{role}_port": self.ready.get(f"{role}_port") for role in ("imds", "vault")}
		self.stop()
		self.start(**ports)

"""What the steps act on: the vault double, the customer's key, two disks, and the machine that is
on at the moment, with the phrases that several steps share."""

import json
import re
import shutil
import subprocess
import sys
import time

from machine import BOOT_SECONDS, TOP, Machine, MachineFailure
from steps import StepFailure, check

sys.path.insert(0, str(TOP / "tests"))
from devvault import Devvault  # noqa: E402

CLIENT_ID = "11111111-2222-3333-4444-555555555555"
VAULT = "bank"
KEY = "broker"
IMDS_ADDRESS = "169.254.169.254"
# name -> its disk in the machine
DISKS = {"data1": "/dev/vda", "data2": "/dev/vdb"}
# mkfs.xfs makes no file system under 300 MB; the files are sparse.
DISK_MIB = 384
UNLOCK_SECONDS = 60
EMULATION_TRIPPED = "Oops: int3:"

# Laid over the image: notes the moment at which every disk is there, without a command of ours
# having to run at that moment.
CLOCK = f"""#!/bin/sh
# Writes the machine's uptime to /run/disks.ready when byok's devices have all come.
until {" && ".join(f"[ -b /dev/byok/{name} ]" for name in DISKS)}; do usleep 10000; done
cut -d ' ' -f 1 /proc/uptime >/run/disks.ready
"""


class Scene:
	def __init__(self, image, folder, accelerator):
		self.image = image
		self.folder = folder
		self.accelerator = accelerator
		self.vault = Devvault(str(folder / "vault"))
		self.kid_file = folder / "key-id"
		self.kid = self.kid_file.read_text() if self.kid_file.exists() else None
		self.machine = None
		self.boots = 0
		self.on_close = []
		self.recovery_keys = {}
		self.slot_secrets = {}
		self.hashes = {}

	def close(self, keep_state):
		"""Ends what runs, and deletes the disks and the vault unless they are to be kept."""
		if self.machine:
			self.machine.destroy()
		for end in self.on_close:
			end()
		self.vault.stop()
		if not keep_state:
			shutil.rmtree(self.folder / "vault", ignore_errors=True)
			self.kid_file.unlink(missing_ok=True)
			for name in DISKS:
				self.disk_file(name).unlink(missing_ok=True)

	# The vault

	def start_vault(self, with_key_vault=True):
		"""At the addresses that the machine knows; without Key Vault only IMDS answers."""
		self.vault.stop()
		self.vault.start(imds_port=80, vault_port=443 if with_key_vault else None)

	def create_key(self):
		self.vault.identity_add(CLIENT_ID)
		self.vault.vault_create(VAULT, recovery_level="Recoverable")
		self.kid = self.vault.key_create(VAULT, KEY, size=2048)
		self.vault.grant(VAULT, CLIENT_ID)
		self.kid_file.write_text(self.kid)

	def begin_anew(self):
		"""A vault with a key, and nothing on the disks."""
		self.start_vault()
		if not self.kid:
			self.create_key()
		self.make_blank_disks()

	# The machine

	def disk_file(self, name):
		return self.folder / f"{name}.img"

	def make_blank_disks(self):
		self.hashes.clear()
		for name in DISKS:
			path = self.disk_file(name)
			path.unlink(missing_ok=True)
			with open(path, "wb") as file:
				file.truncate(DISK_MIB << 20)

	def boot(self, arguments="", interactive=False, image=None, files=None, disks=None, devices=()):
		"""Returns the seconds from power-on to the first answer. `image` and `disks`: other ones;
		`files` are laid over it and `devices` are added, as Machine does."""
		config = f"key = {self.kid}\nidentity = {CLIENT_ID}\nca_file = /etc/byok/test-ca.pem\n"
		hosts = f"127.0.0.1 localhost\n{IMDS_ADDRESS} {VAULT}.vault.azure.net\n"
		with open(self.vault.ca_file, "rb") as file:
			authority = file.read()
		return self.power_on(disks=disks or [self.disk_file(name) for name in DISKS], devices=devices,
			files={"etc/byok/byok.conf": (config.encode(), False),
			"etc/byok/test-ca.pem": (authority, False),
			"etc/hosts": (hosts.encode(), False),
			"etc/boot.d/clock": (CLOCK.encode(), True), **(files or {})},
			arguments=arguments, interactive=interactive, image=image)

	def power_on(self, interactive=False, image=None, **options):
		"""Any machine, with Machine's options, in place of the one before. QEMU 7.2's emulation
		sometimes trips over a breakpoint that the kernel has just taken out of its code: a boot
		that ends so says nothing about byok, and is tried again."""
		for tries_left in (2, 1, 0):
			if self.machine:
				self.machine.destroy()
			self.boots += 1
			self.machine = Machine(image=image or self.image, accelerator=self.accelerator,
				console_log=self.folder / f"console-{self.boots}.log", interactive=interactive,
				**options)
			if interactive:
				return None
			try:
				return self.machine.wait_until_booted(BOOT_SECONDS)
			except MachineFailure:
				if tries_left == 0 or EMULATION_TRIPPED not in self.machine.console_text():
					raise

	def evidence(self):
		"""The last lines of what the machine said, for a step that failed."""
		if not self.machine:
			return []
		return [f"{self.machine.console_log}:"] + self.machine.console_tail()

	# byok in the machine

	def start_serving(self):
		self.machine.run("/etc/rc.byok >/dev/null 2>&1 &")
		self.machine.wait_for("[ -s /run/byok.pid ]", 10)

	def wait_until_served(self, seconds=UNLOCK_SECONDS):
		for name in DISKS:
			self.machine.wait_for(f"[ -b /dev/byok/{name} ]", seconds)

	def stop_serving(self):
		"""SIGTERM, as an init system would; byok has to end well and take its devices away."""
		self.machine.run("kill -TERM $(cat /run/byok.pid)")
		self.machine.wait_for("! kill -0 $(cat /run/byok.pid) 2>/dev/null", 30)
		self.machine.wait_for("tail -n 1 /run/log/byok.log | grep -q '^rc.byok: '", 10)
		last = self.log().splitlines()[-1]
		check(last.endswith("exit status 0"), last)
		left = self.machine.run("ls /dev/byok 2>/dev/null; ls /dev/ublkb* 2>/dev/null; true")
		check(left == "", f"these devices are still there: {left.split()}")
		self.machine.run("rm -f /run/byok.pid")

	def log(self):
		return self.machine.run("cat /run/log/byok.log")

	def status(self):
		"""(exit status, {name: its object}) of `byok status --json`"""
		answer = self.machine.attempt("byok status --json 2>/dev/null")
		try:
			volumes = {volume["name"]: volume for volume in json.loads(answer.output)["volumes"]}
		except (ValueError, KeyError, TypeError):
			raise StepFailure(f"`byok status --json` ended with exit status {answer.status} and is"
				f" not as documented: {answer.output}") from None
		return answer.status, volumes

	def roles(self):
		"""[(role, peak memory in KiB, locked memory in KiB)] of byok's processes: the supervisor
		is the one that was started, the others carry their role in their command line."""
		supervisor = self.machine.run("cat /run/byok.pid")
		text = self.machine.run(
			f"for status in $(grep -lE '^P?Pid:[[:space:]]{supervisor}$' /proc/[0-9]*/status); do"
			" grep -E '^(Pid|VmHWM|VmLck):' $status;"
			" tr '\\0' ' ' <${status%status}cmdline; echo; done")
		found = []
		for block in re.findall(r"Pid:.*\n.*\n.*\n.*", text):
			fields = dict(re.findall(r"^(Pid|VmHWM|VmLck):\s+(\d+)", block, re.MULTILINE))
			role = re.search(r" --role (\S+)", block)
			found.append((role[1] if role else "supervisor", int(fields["VmHWM"]),
				int(fields["VmLck"])))
		return found

	# What stands on the disks

	def mount(self, name, device):
		self.machine.run(f"mkdir -p /mnt/{name} && mount -t xfs {device} /mnt/{name}")

	def unmount(self, name):
		self.machine.run(f"umount /mnt/{name}")

	def mount_served(self):
		for name in DISKS:
			self.mount(name, f"/dev/byok/{name}")

	def unmount_all(self):
		for name in DISKS:
			self.unmount(name)

	def hash_files(self, name):
		"""{file: SHA-256} of everything on a mounted disk, read from the disk, not from memory."""
		self.machine.run("echo 3 >/proc/sys/vm/drop_caches")
		text = self.machine.run(f"cd /mnt/{name} && find . -type f | sort | xargs sha256sum", 60)
		return {path: digest for digest, path in (line.split() for line in text.splitlines())}

	def check_hashes(self, name):
		found = self.hash_files(name)
		expected = self.hashes[name]
		check(found == expected, f"{name} holds {found} instead of {expected}")

	# The disks without byok, seen from the host

	def vault_token(self, name):
		result = subprocess.run(
			["cryptsetup", "token", "export", "--token-id", "0", self.disk_file(name)],
			stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
		if result.returncode != 0:
			raise StepFailure(f"cryptsetup exports no token: {result.stderr.strip()}")
		token = json.loads(result.stdout)
		check(token.get("type") == "byok-akv", f"the token is of type {token.get('type')}")
		return token

	def is_on_disk(self, name, marker):
		with open(self.disk_file(name), "rb") as file:
			kept = b""
			while part := file.read(1 << 20):
				if marker in kept + part:
					return True
				kept = part[-len(marker):]
		return False

	def seconds_until_served(self):
		"""(from the start of `byok serve` to both devices, the double's part, its requests)"""
		self.machine.wait_for("[ -s /run/disks.ready ]", UNLOCK_SECONDS)
		started, ready = self.machine.run("cat /run/byok.started /run/disks.ready").split()
		requests = self.vault.log()
		return float(ready) - float(started), sum(r.get("seconds", 0) for r in requests), requests


def refused_connections():
	"""How often a TCP connection was refused in this network namespace so far: with the vault's
	port closed, how often byok tried it. QEMU connects on the guest's behalf."""
	with open("/proc/net/snmp", encoding="ascii") as file:
		names, values = (line.split() for line in file if line.startswith("Tcp:"))
	return int(dict(zip(names, values))["AttemptFails"])


def watch_refused_connections(seconds):
	"""The moments, in seconds from now, at which connections were refused."""
	begin, last, moments = time.monotonic(), refused_connections(), []
	while time.monotonic() - begin < seconds:
		time.sleep(0.05)
		now = refused_connections()
		moments += [round(time.monotonic() - begin, 1)] * (now - last)
		last = now
	return moments

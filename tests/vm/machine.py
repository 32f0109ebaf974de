"""A virtual machine, and a way to run commands in it that does not depend on what is printed on
its console: a virtio port carries one line per command and one line per answer, everything in
base64. The guest's end is `channel`, added to the image at boot."""

import base64
import os
import re
import select
import socket
import subprocess
import sys
import time
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(TOP / "platform/image"))
from initramfs import Archive  # noqa: E402

QEMU = "qemu-system-x86_64"
MEMORY_MIB = 1024
BOOT_SECONDS = 180
# How long after its own limit in the guest an answer may take to arrive.
ANSWER_SECONDS = 20
# Without -cx16, QEMU 7.2's emulation of cmpxchg16b crashes the kernel in about half of the boots.
EMULATION = ("-accel", "tcg,thread=multi", "-cpu", "max,-cx16")
VIRTUALISATION = ("-accel", "kvm", "-cpu", "host")


class MachineFailure(Exception):
	"""The machine, or a command in it, did not do what it had to; the text is one sentence."""


class Answer:
	"""What a command printed (both streams, as they came) and its exit status."""

	def __init__(self, status, output):
		self.status = status
		self.output = output


class Machine:
	"""One boot, from power-on to power-off."""

	def __init__(self, *, image, console_log, disks, files=None, arguments="",
			accelerator=EMULATION, interactive=False, devices=(), root=None):
		"""`image` is the folder that make-image fills; `files` (path -> content, executable) are
		laid over it. With `root`, an image of a file system, the machine boots from that instead,
		and has only the kernel from `image`. `arguments` go onto the kernel's command line,
		`devices` onto QEMU's. The console goes to `console_log`, and to the terminal as well when
		`interactive`."""
		self.console_log = console_log
		self.started = time.monotonic()
		self.pending = b""
		self.next_id = 0

		ours, theirs = socket.socketpair()
		command = [
			QEMU, *accelerator, "-smp", "2", "-m", f"{MEMORY_MIB}M", "-no-reboot",
			"-nodefaults", "-no-user-config", "-display", "none",
			"-kernel", str(image / "vmlinuz"), *self.root_options(image, root, files or {}),
			"-append", "console=ttyS0 quiet panic=-1"
			+ (" root=/dev/nvme0n1 rw " if root else " ") + arguments,
			"-chardev", ("stdio,signal=off" if interactive else "null")
			+ f",id=console,logfile={console_log}", "-serial", "chardev:console",
			"-device", "virtio-serial-pci", "-chardev", f"socket,id=channel,fd={theirs.fileno()}",
			"-device", "virtserialport,chardev=channel,name=byok.test",
			# Azure's address for IMDS is the host's loopback; nothing else is reachable.
			"-netdev", "user,id=net,net=169.254.169.0/24,host=169.254.169.254",
			"-device", "virtio-net-pci,netdev=net,romfile=",
		]
		for number, disk in enumerate(disks):
			command += ["-drive", f"file={disk},format=raw,if=none,id=disk{number},discard=unmap",
				"-device", f"virtio-blk-pci,drive=disk{number}"]
		command += devices
		self.errors = open(console_log.with_suffix(".qemu"), "wb")
		self.process = subprocess.Popen(
			command, stdin=None if interactive else subprocess.DEVNULL,
			stdout=None if interactive else subprocess.DEVNULL, stderr=self.errors,
			pass_fds=[theirs.fileno()])
		theirs.close()
		self.channel = ours

	def root_options(self, image, root, files):
		if root:
			# The kernel has the drivers of these built in.
			return ["-drive", f"file={root},format=raw,if=none,id=root", "-device",
				"nvme,drive=root,serial=root"]
		initramfs = self.console_log.with_suffix(".initramfs")
		initramfs.write_bytes(self.laid_over((image / "initramfs.cpio.zst").read_bytes(), files))
		return ["-initrd", str(initramfs)]

	@staticmethod
	def laid_over(image, files):
		archive = Archive()
		channel = Path(__file__).with_name("channel").read_bytes()
		archive.add_file("etc/boot.d/channel", channel, executable=True)
		for path, (content, executable) in files.items():
			archive.add_file(path, content, executable)
		# The kernel looks for an archive only where four bytes begin.
		return image + bytes(-len(image) % 4) + archive.encode()

	def wait_until_booted(self, seconds=BOOT_SECONDS):
		"""Returns the seconds from power-on to the greeting of the command channel."""
		if self.read_line(seconds) != b"ready":
			raise MachineFailure("the command channel does not begin with its greeting")
		return time.monotonic() - self.started

	def read_line(self, seconds):
		deadline = time.monotonic() + seconds
		while b"\n" not in self.pending:
			left = deadline - time.monotonic()
			if left <= 0 or not select.select([self.channel], [], [], left)[0]:
				raise MachineFailure(f"the machine gave no answer for {seconds} seconds")
			received = self.channel.recv(65536)
			if not received:
				raise MachineFailure("the machine stopped" + self.reason_to_stop())
			self.pending += received
		line, self.pending = self.pending.split(b"\n", 1)
		return line

	def complaint(self):
		"""What QEMU itself had to say."""
		text = Path(self.errors.name).read_text(errors="replace").strip()
		return text.replace(f"{QEMU}: ", "")

	def reason_to_stop(self):
		self.process.wait()
		return f": {self.complaint()}" if self.complaint() else ""

	def attempt(self, command, seconds=30):
		"""Runs a shell command, at most `seconds` long, and returns its Answer."""
		self.next_id += 1
		encoded = base64.b64encode(command.encode()).decode()
		try:
			self.channel.sendall(f"{self.next_id} {seconds} {encoded}\n".encode())
		except OSError:
			raise MachineFailure("the machine stopped" + self.reason_to_stop()) from None
		fields = self.read_line(seconds + ANSWER_SECONDS).split(b" ")
		if len(fields) != 3 or int(fields[0]) != self.next_id:
			raise MachineFailure(f"the command channel is out of step: {fields[:2]}")
		return Answer(int(fields[1]), base64.b64decode(fields[2]).decode(errors="replace"))

	def run(self, command, seconds=30):
		"""Like `attempt`, but anything other than exit status 0 is a failure. Returns the output
		without its last newline."""
		answer = self.attempt(command, seconds)
		if answer.status != 0:
			reason = answer.output.strip() or "it printed nothing"
			what = "ran into its time limit" if answer.status == 143 else \
				f"ended with exit status {answer.status}"
			raise MachineFailure(f"`{command}` {what}: {reason}")
		return answer.output.rstrip("\n")

	def put(self, path, content, mode=0o600):
		encoded = base64.b64encode(content).decode()
		self.run(f"echo {encoded} | base64 -d >{path} && chmod {mode:o} {path}")

	def get(self, path):
		return base64.b64decode(self.run(f"base64 {path}"))

	def wait_for(self, condition, seconds):
		"""Waits in the guest until a shell command succeeds."""
		try:
			self.run(f"until {condition}; do usleep 50000; done", seconds)
		except MachineFailure:
			raise MachineFailure(f"`{condition}` was not so within {seconds} seconds") from None

	def power_off(self, seconds=60):
		"""The way an operator does it: the init system stops everything first."""
		self.run("poweroff")
		self.wait_until_off(seconds)

	def wait_until_off(self, seconds):
		try:
			self.process.wait(seconds)
		except subprocess.TimeoutExpired:
			raise MachineFailure(f"the machine is still on after {seconds} seconds") from None
		if self.process.returncode != 0:
			raise MachineFailure(f"QEMU ended with status {self.process.returncode}"
				+ self.reason_to_stop())

	def destroy(self):
		"""Pulls the plug, if it is still on, and forgets what only this boot needed."""
		if self.process.poll() is None:
			self.process.kill()
		self.process.wait()
		self.channel.close()
		self.errors.close()
		self.console_log.with_suffix(".initramfs").unlink(missing_ok=True)

	def console_text(self):
		return self.console_log.read_text(errors="replace") if self.console_log.exists() else ""

	def console_tail(self, count=25):
		# Without the shell's questions to a terminal.
		return re.sub(r"\x1b\[[0-9;]*[A-Za-z]|\r", "", self.console_text()).splitlines()[-count:]


def kvm_refusal(image, console_log):
	"""Why KVM cannot be used here, or None after a whole boot with it: on some machines /dev/kvm
	opens, a virtual machine can be made, and then it stops at its first harder instruction."""
	if not os.access("/dev/kvm", os.R_OK | os.W_OK):
		return "/dev/kvm is not there or not ours to open"
	machine = Machine(image=image, console_log=console_log, disks=[], files={},
		arguments="byok.serve=no", accelerator=VIRTUALISATION)
	try:
		for _ in range(30):
			if select.select([machine.channel], [], [], 1)[0]:
				machine.wait_until_booted()
				return None
			# QEMU keeps such a machine, stopped.
			if "KVM internal error" in machine.complaint():
				break
		return machine.complaint().partition("\n")[0] or "a trial boot took over 30 seconds"
	except MachineFailure:
		return machine.complaint().partition("\n")[0] or "a trial boot failed"
	finally:
		machine.destroy()

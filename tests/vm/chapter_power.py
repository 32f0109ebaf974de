"""Power cuts. A machine writes to ext4 and XFS on byok's devices, and tells what its file systems
have acknowledged. Its power is cut: what its disks can then hold is judged in the next boot. The
disks are volatile_disk.py's, so that everything that was not flushed really gets lost; the last
cut of a round also kills the machine. One more disk ignores flushes from the beginning: it stands
for a byok that would forget them, and must be found out.

What this does not show: a kernel or hypervisor that loses flushes itself, tears inside of 4096
bytes (which disks with physical blocks of that size do not have), and every possible order of
writes: those of a cut are drawn by chance, from the seed that is printed."""

import os
import random
import re
import time

import local_volume
from local_volume import device_of, make_volume, queue_attributes
from machine import TOP
from steps import Chapter, check
from volatile_disk import BLOCK_SIZE, VolatileDisk

# name -> (file system, its disk in the machine). A SCSI disk has FUA, unlike virtio's.
DISKS = {"ext4": ("ext4", "/dev/vda"), "xfs": ("xfs", "/dev/sda"), "lying": ("ext4", "/dev/vdb")}
HONEST = ("ext4", "xfs")
RECORDER = TOP / "build/vm-programs/recorder"
DISK_BYTES = 384 << 20
CUTS_PER_ROUND = 4
CUTS_IN_SHORT = 3
SECONDS_BETWEEN_CUTS = (0.3, 2.0)

# Serves a disk, mounts it, judges it, and looks for what its file system would have to repair:
# judge DISK NAME TYPE ACKED
JUDGE = """#!/bin/sh
serve $1 $2 || exit 1
mkdir -p /mnt/$2
if mount -t $3 /dev/byok/$2 /mnt/$2; then
	recorder verify /mnt/$2 $4
	status=$?
	umount /mnt/$2
	case $3 in
	ext4) e2fsck -fn /dev/byok/$2 >/run/log/fsck.$2 2>&1 ;;
	xfs) xfs_repair -n /dev/byok/$2 >/run/log/fsck.$2 2>&1 ;;
	esac || { status=1; cat /run/log/fsck.$2; }
else
	status=1
	dmesg | tail -n 5
fi
leave $2
exit $status
"""


class Cut:
	"""What was promised at its moment, and where its disks are."""

	def __init__(self, promises, images):
		self.promises = promises
		self.images = images


class Machines:
	"""The machine that writes, its disks, and what is known about them."""

	def __init__(self, scene, seed):
		self.scene = scene
		self.random = random.Random(seed)
		self.folder = scene.folder / "power"
		self.folder.mkdir()
		self.disks = {name: VolatileDisk(self.folder, name, DISK_BYTES, f"{seed} {name}")
			for name in DISKS}
		for name, disk in self.disks.items():
			blank = self.folder / f"blank-{name}"
			make_volume(blank, name, DISK_BYTES)
			disk.become(blank)
			blank.unlink()
		self.acks = self.folder / "acks"
		self.promises = {name: {} for name in DISKS}
		self.cuts = []
		self.rounds = self.cut_count = self.promise_count = self.block_count = 0
		self.dropped = self.kept = 0

	def close(self):
		for disk in self.disks.values():
			disk.close()

	def boot(self):
		"""With the disks, and what is left of the last round's as /dev/vd[c-]."""
		files = {"usr/bin/recorder": (RECORDER.read_bytes(), True),
			"usr/bin/judge": (JUDGE.encode(), True), **local_volume.FILES}
		devices = ["-device", "virtio-scsi-pci,id=scsi"]
		for name, (_, path) in DISKS.items():
			kind = "virtio-blk-pci" if path.startswith("/dev/v") else "scsi-hd,bus=scsi.0,dpofua=on"
			devices += ["-drive", f"file=nbd:unix:{self.disks[name].socket_path},format=raw,"
				f"if=none,id={name}", "-device",
				f"{kind},drive={name},physical_block_size={BLOCK_SIZE}"]
		for number, cut in enumerate(self.cuts):
			for name, image in cut.images.items():
				files[f"etc/acked/{number}-{name}"] = (encode(cut.promises[name]), False)
				identity = f"cut{number}{name}"
				devices += ["-drive", f"file={image},format=raw,if=none,id={identity},cache=unsafe",
					"-device", f"virtio-blk-pci,drive={identity},serial={number}-{name}"]
		self.acks.write_bytes(b"")
		devices += ["-chardev", f"file,id=acks,path={self.acks}", "-device",
			"virtserialport,chardev=acks,name=byok.acks"]
		return self.scene.power_on(disks=[], files=files, devices=devices,
			arguments="byok.serve=no")

	def at_once(self, commands, seconds):
		"""Shell commands beside each other: most wait for a disk or for each other's end."""
		started = " ".join(f"{command} & jobs=\"$jobs $!\";" for command in commands)
		self.scene.machine.run(f"{started} for job in $jobs; do wait $job || exit; done", seconds)

	def serve(self):
		self.at_once([f"serve {path} {name}" for name, (_, path) in DISKS.items()], 60)

	def mount(self):
		for name, (kind, _) in DISKS.items():
			self.scene.machine.run(
				f"mkdir -p /mnt/{name} && mount -t {kind} /dev/byok/{name} /mnt/{name}")

	def start_writing(self):
		for known in self.promises.values():
			for key in [key for key in known if key[0] == "log"]:
				del known[key]
		self.rounds += 1
		folders = " ".join(f"/mnt/{name}" for name in DISKS)
		self.scene.machine.run(
			"for port in /sys/class/virtio-ports/*; do grep -qx byok.acks $port/name &&"
			" acks=/dev/${port##*/}; done;"
			f" recorder write $acks {self.rounds} {folders} >/run/log/recorder 2>&1 &")

	def take_acks(self):
		"""Every promise known so far, of each disk: {(kind, writer, slot): greatest value}"""
		text = self.acks.read_text()
		for line in text[:text.rfind("\n") + 1].splitlines():
			folder, kind, *numbers = line.split()
			writer, slot, value = map(int, numbers)
			known = self.promises[list(DISKS)[int(folder)]]
			known[kind, writer, slot] = max(value, known.get((kind, writer, slot), 0))
		return {name: dict(known) for name, known in self.promises.items()}

	def cut(self):
		# Promises first: those that come later than the disk is frozen need not be kept.
		promises, images = self.take_acks(), {}
		for name, disk in self.disks.items():
			images[name] = self.folder / f"cut-{len(self.cuts)}-{name}"
			dropped, kept = disk.freeze(images[name])
			if name in HONEST:
				self.dropped += dropped
				self.kept += kept
		self.cuts.append(Cut(promises, images))

	def cut_and_kill(self):
		self.scene.machine.process.kill()
		self.scene.machine.process.wait()
		self.cut()
		for name, disk in self.disks.items():
			disk.become(self.cuts[-1].images[name])

	def judge(self, number, names):
		"""{name: (whether all is there, what was said)}"""
		machine = self.scene.machine
		commands = []
		for name in names:
			disk = machine.run(f"grep -lx {number}-{name} /sys/block/*/serial").split("/")[3]
			commands.append(f"{{ judge /dev/{disk} {name} {DISKS[name][0]}"
				f" /etc/acked/{number}-{name} >/run/{name} 2>&1; echo $? >>/run/{name}; }} &")
		machine.run(f"{' '.join(commands)} wait", 120)
		said = {name: machine.run(f"cat /run/{name}").rpartition("\n") for name in names}
		return {name: (status == "0", text) for name, (text, _, status) in said.items()}

	def judge_cuts(self):
		for number, cut in enumerate(self.cuts):
			for name, (whole, said) in self.judge(number, HONEST).items():
				check(whole, f"cut {self.cut_count + 1}, {name}: {said}")
				promises, blocks = re.search(r"(\d+) promises, (\d+) blocks", said).groups()
				check(int(promises) == len(cut.promises[name]), f"it judged only {promises}")
				self.promise_count += int(promises)
				self.block_count += int(blocks)
			self.cut_count += 1

	def forget_cuts(self):
		for cut in self.cuts:
			for image in cut.images.values():
				os.unlink(image)
		self.cuts.clear()


def encode(promises):
	return "".join(f"{kind} {writer} {slot} {value}\n"
		for (kind, writer, slot), value in sorted(promises.items())).encode()


def power_cuts(count):
	"""The chapter with so many cuts."""
	chapter = Chapter("Power cuts", in_quick_runs=False)
	world = None

	@chapter.step("a machine with an ext4 and an XFS on byok, on disks that lose what is not flushed")
	def _(scene):
		nonlocal world
		seed = random.randrange(1 << 32)
		world = Machines(scene, seed)
		scene.on_close.append(world.close)
		world.boot()
		world.serve()
		world.at_once([f"mkfs.{kind} -q /dev/byok/{name}"
			for name, (kind, _) in DISKS.items()], 60)
		world.mount()
		scene.machine.run("sync")
		return f"seed {seed}"

	@chapter.step("byok's devices tell what their disks need: a flush, or FUA where they have it")
	def _(scene):
		for name, (_, path) in DISKS.items():
			device = device_of(scene.machine, name)
			has_fua = "1" if path.startswith("/dev/s") else "0"
			for block in (device, path.removeprefix("/dev/")):
				found = queue_attributes(scene.machine, block, ("write_cache", "fua"))
				check(found == {"ro": "0", "write_cache": "write back", "fua": has_fua},
					f"{block} has {found}")

	rounds = -(-count // CUTS_PER_ROUND)
	for number in range(rounds):
		cuts = min(CUTS_PER_ROUND, count - number * CUTS_PER_ROUND)

		@chapter.step(f"it writes, and its power is cut, {cuts} times")
		def _(scene, number=number, cuts=cuts):
			if number > 0:
				world.forget_cuts()
				world.serve()
				# What the cut has left on this one may be no file system any more.
				scene.machine.run("mkfs.ext4 -q -F /dev/byok/lying", 60)
				world.mount()
			world.disks["lying"].lying = True
			world.start_writing()
			for _ in range(cuts - 1):
				time.sleep(world.random.uniform(*SECONDS_BETWEEN_CUTS))
				world.cut()
			time.sleep(world.random.uniform(*SECONDS_BETWEEN_CUTS))
			world.cut_and_kill()
			lines = sum(1 for _ in open(world.acks, "rb"))
			check(lines > 0, "nothing was acknowledged")
			return f"{lines} writes acknowledged"

		@chapter.step("after each, everything that was acknowledged is there, and nothing torn")
		def _(scene):
			seconds = world.boot()
			world.judge_cuts()
			return f"the boot took {seconds:.1f} s"

		if number == 0:
			@chapter.step("the disk that ignored flushes is found out")
			def _(scene):
				for number in range(len(world.cuts)):
					((whole, said),) = world.judge(number, ["lying"]).values()
					if not whole:
						return f"at cut {number + 1}: {said.splitlines()[0]}"
				check(False, "all that was acknowledged is there: this test proves nothing")

	@chapter.step("nothing was lost")
	def _(scene):
		world.forget_cuts()
		check(world.cut_count == count, f"{world.cut_count} cuts were judged")
		check(world.dropped > 0, "no cut has dropped anything")
		return (f"{world.cut_count} cuts, {world.promise_count} promises kept on 2 file systems,"
			f" {world.block_count * BLOCK_SIZE >> 20} MiB judged;"
			f" {world.dropped >> 10} KiB that were not flushed dropped,"
			f" {world.kept >> 10} KiB kept")

	return chapter

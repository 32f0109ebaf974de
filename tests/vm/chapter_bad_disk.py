"""What a volume takes over from its disk, and disks that fail, are slow, or grow: made with device
mapper in the machine, so that a fault begins and ends at exact sectors while byok goes on.

Short transfers are not provoked here: a block device of this kernel answers whole or not at all."""

import errno
import re

import local_volume
from local_volume import HEADER_BYTES, device_of, make_volume, queue_attributes
from machine import TOP
from steps import Chapter, check

MIB = 1 << 20
SECTOR = 512
BLOCK = 4096
# name -> (disk in the machine, for SCSI its LUN, as those get their names in any order; options of QEMU's
# drive, its device, sector size of the volume)
GEOMETRIES = {
	"writeback": ("vda", "cache=writeback", "virtio-blk-pci", 4096),
	"through": ("vdb", "cache=directsync", "virtio-blk-pci,physical_block_size=4096", 512),
	"4096": ("vdc", "cache=none", "virtio-blk-pci,logical_block_size=4096,"
		"physical_block_size=4096", 4096),
	"coarse": ("vdd", "cache=none", "virtio-blk-pci,physical_block_size=8192", 512),
	"readonly": ("vde", "cache=none,readonly=on", "virtio-blk-pci", 4096),
	"fua": (0, "cache=none", "scsi-hd,bus=scsi.0,lun=0,dpofua=on,rotation_rate=7200", 512),
	"through-fua": (1, "cache=directsync", "scsi-hd,bus=scsi.0,lun=1,dpofua=on", 4096),
}
UNFIT, BAD, GOOD = "vdf", "vdg", "vdh"
DISK_BYTES = 32 * MIB
FULL_BYTES = DISK_BYTES - HEADER_BYTES
SMALL_BYTES = 24 * MIB - HEADER_BYTES
# In the volume; begins and ends inside of larger requests.
FAULT = range(5 * MIB + 3 * BLOCK, 5 * MIB + 8 * BLOCK, BLOCK)
# byok's exit status
DISK_GEOMETRY = 32

bad_disk = Chapter("Disks of many kinds, and bad ones", in_quick_runs=False)


@bad_disk.step("a machine with disks of many kinds")
def _(scene):
	devices = ["-device", "virtio-scsi-pci,id=scsi"]
	kinds = GEOMETRIES | {
		"unfit": (UNFIT, "cache=none", "virtio-blk-pci,logical_block_size=4096,"
			"physical_block_size=4096", 512),
		"bad": (BAD, "cache=none", "virtio-blk-pci", 4096),
		"good": (GOOD, "cache=none", "virtio-blk-pci", 4096)}
	for name, (_, drive, device, sector_size) in kinds.items():
		path = scene.folder / f"kind-{name}.img"
		make_volume(path, name, DISK_BYTES, sector_size)
		scene.on_close.append(lambda path=path: path.unlink(missing_ok=True))
		devices += ["-drive", f"file={path},format=raw,if=none,id=disk-{name},{drive}",
			"-device", f"{device},drive=disk-{name}"]
	recorder = (TOP / "build/vm-programs/recorder").read_bytes()
	seconds = scene.power_on(disks=[], devices=devices, arguments="byok.serve=no",
		files={"usr/bin/recorder": (recorder, True), **local_volume.FILES})
	return f"{seconds:.1f} s to its first answer"


@bad_disk.step("each volume has its disk's blocks, cache, FUA, and is read-only where the disk is")
def _(scene):
	machine, found_kinds = scene.machine, []
	for name, (disk, _, _, sector_size) in GEOMETRIES.items():
		if isinstance(disk, int):
			disk = machine.run(f"ls /sys/bus/scsi/devices/*:0:0:{disk}/block")
		machine.run(f"serve /dev/{disk} {name}")
		device = device_of(machine, name)
		expected = queue_attributes(machine, disk, ("write_cache", "fua", "rotational"))
		physical = queue_attributes(machine, disk, ["physical_block_size"])["physical_block_size"]
		expected |= {"logical_block_size": str(sector_size),
			"physical_block_size": str(max(int(physical), sector_size)),
			# Nobody may learn from a disk which parts of a volume are used.
			"discard_max_bytes": "0", "write_zeroes_max_bytes": "0"}
		found = queue_attributes(machine, device, [key for key in expected if key != "ro"])
		check(found == expected, f"{name} has {found} instead of {expected}")
		check(found["ro"] == ("1" if name == "readonly" else "0"), f"{name}: ro {found['ro']}")
		size = int(machine.run(f"blockdev --getsize64 /dev/{device}; leave {name}"))
		check(size == FULL_BYTES, f"{name} has {size} bytes")
		found_kinds.append((found["write_cache"], found["fua"]))
	# Otherwise nothing was compared.
	check(set(found_kinds) >= {("write back", "0"), ("write back", "1"), ("write through", "0")},
		f"only {set(found_kinds)} came up")
	return f"{len(found_kinds)} disks"


@bad_disk.step("a volume with sectors smaller than the disk's is refused")
def _(scene):
	answer = scene.machine.attempt(f"serve /dev/{UNFIT} unfit")
	check(answer.status == DISK_GEOMETRY, f"exit status {answer.status}: {answer.output}")


@bad_disk.step("`--read-only` makes a device that refuses writes, of a disk that would take them")
def _(scene):
	machine = scene.machine
	machine.run(f"serve /dev/{GOOD} good --read-only")
	answer = machine.attempt("dd if=/dev/zero of=/dev/byok/good bs=4096 count=1 conv=fsync")
	check(answer.status != 0, "it was written to")
	check(queue_attributes(machine, device_of(machine, "good"), [])["ro"] == "1", "ro is not 1")
	machine.run("leave good")


# A disk that can be changed while it is in use

def set_table(machine, *parts, verb="reload"):
	"""`parts`: (bytes, target and what it takes; `{}` is its place in BAD, in sectors)"""
	lines, begin = [], 0
	for size_bytes, target in parts:
		sectors = size_bytes // SECTOR
		lines.append(f"{begin} {sectors} {target.format(f'/dev/{BAD} {begin}')}")
		begin += sectors
	table = "\\n".join(lines)
	machine.run(f"printf '{table}\\n' | dmsetup {verb} bad")
	if verb == "reload":
		machine.run("dmsetup suspend --nolockfs bad && dmsetup resume bad")


def set_fault(machine, place, target):
	set_table(machine, (HEADER_BYTES + place.start, "linear {}"), (place.stop - place.start, target),
		(FULL_BYTES - place.stop, "linear {}"))


def heal(machine, size_bytes=DISK_BYTES):
	set_table(machine, (size_bytes, "linear {}"))


def go_through(machine, verb, name, generation, blocks):
	"""{offset of each request that failed: its errno, 0 for wrong bytes}"""
	text = machine.run(f"recorder {verb} /dev/byok/{name} {generation} {blocks}", 90)
	check(re.search(r"^[1-9]\d* requests$", text, re.MULTILINE), f"nothing was done: {text}")
	return {int(offset): int(error) for offset, error in re.findall(r"^bad (\d+) (\d+)$", text,
		re.MULTILINE)}


def hit_by_fault(blocks):
	size = blocks * BLOCK
	return {offset // size * size: errno.EIO for offset in FAULT}


def check_requests(machine, verb, name, generation, blocks, expected):
	found = go_through(machine, verb, name, generation, blocks)
	check(found == expected, f"{verb} in {blocks * BLOCK} bytes: {found} failed, not {expected}")


@bad_disk.step("a volume on a disk that is good yet, filled and read back")
def _(scene):
	machine = scene.machine
	set_table(machine, (DISK_BYTES, "linear {}"), verb="create")
	machine.run(f"serve /dev/mapper/bad bad && serve /dev/{GOOD} good")
	for name in ("bad", "good"):
		check_requests(machine, "fill", name, 1, 16, {})
		check_requests(machine, "scan", name, 1, 16, {})
	return f"{FULL_BYTES // MIB} MiB each"


@bad_disk.step("20 KiB of it fail: exactly the reads and writes that need them get EIO")
def _(scene):
	machine = scene.machine
	set_fault(machine, FAULT, "error")
	for blocks in (1, 4, 16, 256):
		check_requests(machine, "scan", "bad", 1, blocks, hit_by_fault(blocks))
	for blocks in (1, 16, 256):
		check_requests(machine, "fill", "bad", 1, blocks, hit_by_fault(blocks))
	check_requests(machine, "scan", "good", 1, 16, {})


@bad_disk.step("the fault is gone: every byte is right, and the same process goes on")
def _(scene):
	machine = scene.machine
	heal(machine)
	check_requests(machine, "scan", "bad", 1, 4, {})
	check_requests(machine, "fill", "bad", 2, 4, {})
	check_requests(machine, "scan", "bad", 2, 256, {})
	machine.run("kill -0 $(cat /run/bad.pid)")


@bad_disk.step("a flush that fails is told, and reads go on")
def _(scene):
	machine = scene.machine
	set_table(machine, (DISK_BYTES, "flakey {} 0 1000000 1 error_writes"))
	flush = "dd if=/dev/zero of=/dev/byok/bad bs=4096 count=0 conv=fsync"
	answer = machine.attempt(flush)
	check(answer.status != 0, "a flush succeeded on a disk that takes none")
	check_requests(machine, "scan", "bad", 2, 16, {})
	heal(machine)
	machine.run(flush)


@bad_disk.step("a part of it is slow: what comes back in another order is right all the same")
def _(scene):
	machine = scene.machine
	set_fault(machine, range(4 * MIB, 6 * MIB), "delay {} 20")
	check_requests(machine, "fill", "bad", 3, 16, {})
	heal(machine)
	check_requests(machine, "scan", "bad", 3, 1, {})
	set_fault(machine, range(4 * MIB, 6 * MIB), "delay {} 20")
	check_requests(machine, "scan", "bad", 3, 16, {})
	heal(machine)


@bad_disk.step("a file over a fault cannot be read; another can be, and written, and fsynced")
def _(scene):
	machine = scene.machine
	machine.run("mkfs.ext4 -q /dev/byok/bad && mkdir -p /mnt/bad"
		" && mount -t ext4 /dev/byok/bad /mnt/bad", 60)
	for file in ("hit", "spared"):
		machine.run(f"dd if=/dev/urandom of=/mnt/bad/{file} bs=64k count=16 conv=fsync")
	machine.run("cd /mnt/bad && sha256sum hit spared >/run/sums")
	start, size = map(int, machine.run("recorder where /mnt/bad/hit").split())
	set_fault(machine, range(start, start + size), "error")
	machine.run("echo 3 >/proc/sys/vm/drop_caches")
	answer = machine.attempt("cat /mnt/bad/hit >/dev/null")
	check("Input/output error" in answer.output, f"reading the file says: {answer.output}")
	answer = machine.attempt("dd if=/dev/zero of=/mnt/bad/hit bs=64k count=1 conv=notrunc,fsync")
	check("Input/output error" in answer.output, f"writing the file says: {answer.output}")
	machine.run("cd /mnt/bad && sha256sum spared && dd if=/dev/urandom of=third bs=64k count=4"
		" conv=fsync")


@bad_disk.step("the fault is gone: the files are whole, and so is the file system")
def _(scene):
	machine = scene.machine
	heal(machine)
	machine.run("echo 3 >/proc/sys/vm/drop_caches; cd /mnt/bad && sha256sum -c /run/sums")
	machine.run("umount /mnt/bad && e2fsck -fn /dev/byok/bad", 60)
	check_requests(machine, "scan", "good", 1, 16, {})
	machine.run("leave bad")


@bad_disk.step("a disk that was enlarged is used whole from the next start")
def _(scene):
	machine = scene.machine
	heal(machine, HEADER_BYTES + SMALL_BYTES)
	machine.run("serve /dev/mapper/bad bad")
	check_requests(machine, "fill", "bad", 4, 16, {})
	machine.run("leave bad")
	heal(machine)
	machine.run("serve /dev/mapper/bad bad")
	size = int(machine.run("blockdev --getsize64 /dev/byok/bad"))
	check(size == FULL_BYTES, f"it has {size} bytes")
	size = 16 * BLOCK
	check_requests(machine, "scan", "bad", 4, 16,
		{offset: 0 for offset in range(SMALL_BYTES, FULL_BYTES, size)})
	check_requests(machine, "fill", "bad", 5, 16, {})
	check_requests(machine, "scan", "bad", 5, 16, {})
	machine.run("leave bad && leave good && dmsetup remove bad")

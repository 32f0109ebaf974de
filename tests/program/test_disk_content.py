"""What format does with a disk that holds something, or that somebody uses."""

import os
from pathlib import Path

import luks2
from harness import MIB, Skip, expect, test


def formatting(t, disk, cause, *words):
	"""byok format, which must refuse for that cause and write nothing."""
	before = luks2.content_hash(disk) if Path(disk).is_file() else None
	key = t.file("key", b"the key file")
	done = t.byok("format", disk, "--key-file", key, "--name", "data1", *words, expect=cause,
		object=disk)
	if before:
		expect(luks2.content_hash(disk) == before, "the disk was written to")
	return done


def loop(t, path, *options):
	"""A loop device on the file, which goes with the test."""
	done = t.run(t.tool("losetup"), "--find", "--show", *options, path)
	if done.returncode != 0:
		raise Skip("there are no loop devices here")
	device = done.stdout.strip()
	t.exits.callback(t.run, t.tool("losetup"), "-d", device)
	return device


@test
def file_systems_and_swap_of_the_real_tools_are_recognized(t):
	makers = {
		"ext4": (("mkfs.ext4", "-q", "-F"), "disk-has-file-system"),
		"XFS": (("mkfs.xfs", "-q", "-f"), "disk-has-file-system"),
		"FAT": (("mkfs.vfat",), "disk-has-file-system"),
		"btrfs": (("mkfs.btrfs", "-q", "-f"), "disk-has-file-system"),
		"F2FS": (("mkfs.f2fs", "-q", "-f"), "disk-has-file-system"),
		"NTFS": (("mkntfs", "-q", "-F", "-Q"), "disk-has-file-system"),
		"swap": (("mkswap",), "disk-has-signature"),
	}
	tried = 0
	for name, (command, cause) in makers.items():
		try:
			t.tool(command[0])
		except Skip:
			continue
		disk = t.disk(name, {"XFS": 320, "btrfs": 128}.get(name, 64))
		t.must(*command, disk)
		done = formatting(t, disk, cause)
		expect(name in done.stderr, f"it does not name {name}: {done.stderr}")
		tried += 1
	expect(tried >= 3, "too few tools are here")


@test
def luks_of_both_versions_is_recognized(t):
	for version in ("luks1", "luks2"):
		disk = t.disk(version)
		t.must("cryptsetup", "luksFormat", "-q", "--type", version, "--pbkdf-force-iterations", 1000,
			*(("--pbkdf", "pbkdf2") if version == "luks2" else ()), disk, t.file("key", b"x"))
		formatting(t, disk, "disk-has-luks")


@test
def a_partition_table_is_recognized(t):
	disk = t.disk()
	luks2.overwrite(disk, 512, b"EFI PART")
	formatting(t, disk, "disk-has-partitions")
	disk = t.disk("mbr")
	entry = bytes([0x80, 0, 0, 0, 0x83, 0, 0, 0, 0, 8, 0, 0, 0, 16, 0, 0])
	luks2.overwrite(disk, 446, entry + bytes(48) + b"\x55\xaa")
	formatting(t, disk, "disk-has-partitions")


@test
def force_says_what_it_destroys_and_leaves_no_trace_of_it(t):
	disk = t.disk(size_mib=320)
	t.must("mkfs.xfs", "-q", "-f", disk)
	key = t.file("key", b"the key file")
	done = t.byok("format", disk, "--key-file", key, "--name", "data1", "--force")
	expect("XFS" in done.stderr, f"it does not say what: {done.stderr}")
	shown = t.must("wipefs", "--parsable", disk).stdout
	kinds = {line.split(",")[-1] for line in shown.splitlines() if not line.startswith("#")}
	expect(kinds == {"crypto_LUKS"}, f"wipefs still finds {shown}")
	t.must("cryptsetup", "open", "--test-passphrase", "--key-file", key, disk)


@test
def a_blank_disk_and_one_of_noise_are_formatted(t):
	key = t.file("key", b"the key file")
	noise = t.file("noise", os.urandom(32 * MIB))
	t.byok("format", noise, "--key-file", key, "--name", "data1")
	t.must("cryptsetup", "open", "--test-passphrase", "--key-file", key, noise)


@test
def a_disk_that_is_too_small_is_refused(t):
	formatting(t, t.disk(size_mib=16), "disk-too-small")


@test
def a_read_only_disk_is_refused_whatever_force_says(t):
	device = loop(t, t.disk(), "--read-only")
	formatting(t, device, "disk-read-only")
	formatting(t, device, "disk-read-only", "--force")


@test
def a_mounted_disk_is_refused_whatever_force_says(t):
	disk, point = t.disk(size_mib=64), t.path("mounted")
	t.must("mkfs.ext4", "-q", "-F", disk)
	device = loop(t, disk)
	point.mkdir()
	t.must("mount", device, point)
	t.exits.callback(t.run, t.tool("umount"), point)
	done = formatting(t, device, "disk-mounted")
	expect("mounted" in done.stderr, done.stderr)
	formatting(t, device, "disk-mounted", "--force")


@test
def a_file_behind_a_loop_device_is_refused_whatever_force_says(t):
	disk = t.disk()
	loop(t, disk)
	formatting(t, disk, "disk-in-use")
	formatting(t, disk, "disk-in-use", "--force")


@test
def a_disk_that_somebody_holds_is_refused_whatever_force_says(t):
	device = loop(t, t.disk())
	fd = os.open(device, os.O_RDONLY | os.O_EXCL)
	t.exits.callback(os.close, fd)
	formatting(t, device, "disk-in-use")
	formatting(t, device, "disk-in-use", "--force")


@test
def an_image_on_a_full_file_system_is_refused_and_holds_no_header(t):
	point, key = t.path("small"), t.file("key", b"the key file")
	point.mkdir()
	if t.run(t.tool("mount"), "-t", "tmpfs", "-o", "size=8m", "none", point).returncode != 0:
		raise Skip("nothing can be mounted here")
	t.exits.callback(t.run, t.tool("umount"), point)
	disk = point / "disk"
	with open(disk, "wb") as file:
		file.truncate(32 * MIB)
	t.byok("format", disk, "--key-file", key, "--name", "data1", expect="disk-full", object=disk)
	t.byok("dump", disk, expect="not-luks")


@test
def what_is_no_disk_is_refused(t):
	formatting(t, t.path("absent"), "disk-absent")
	formatting(t, "/dev/null", "disk-kind")
	formatting(t, t.folder, "disk-kind")

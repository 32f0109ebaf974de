"""Volumes under a key file, without vault and supervisor: for chapters about the disks alone."""

import subprocess

from steps import check

KEY = b"power" * 8
HEADER_BYTES = 16 << 20

# serve DISK NAME [OPTION...], until it is there as /dev/byok/NAME: in the foreground byok makes no
# name itself, but says which device it is.
SERVE = """#!/bin/sh
disk=$1
name=$2
shift 2
rm -f /run/log/$name
byok serve --disk $disk --key-file /etc/key "$@" >/run/log/$name 2>&1 &
echo $! >/run/$name.pid
until device=$(grep -so '/dev/ublkb.*' /run/log/$name); do
	kill -0 $! 2>/dev/null || { cat /run/log/$name; wait $!; exit $?; }
	usleep 20000
done
mkdir -p /dev/byok
ln -sf $device /dev/byok/$name
"""

# leave NAME
LEAVE = """#!/bin/sh
kill $(cat /run/$1.pid)
while kill -0 $(cat /run/$1.pid) 2>/dev/null; do usleep 20000; done
rm /dev/byok/$1
"""

FILES = {"etc/key": (KEY, False), "usr/bin/serve": (SERVE.encode(), True),
	"usr/bin/leave": (LEAVE.encode(), True)}


def make_volume(path, name, size_bytes, sector_size=4096):
	"""As `byok format` would, but with a passphrase that takes no time to try: emulated, that is
	most of what it takes to serve a disk."""
	with open(path, "wb") as file:
		file.truncate(size_bytes)
	result = subprocess.run(["cryptsetup", "luksFormat", "--batch-mode", "--type", "luks2",
		"--cipher", "aes-xts-plain64", "--key-size", "512", "--sector-size", str(sector_size),
		"--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--label", name,
		"--key-file", "-", path], input=KEY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
	check(result.returncode == 0, f"cryptsetup makes no volume: {result.stdout.decode()}")


def device_of(machine, name):
	"""The kernel's name of what serves a volume: ublkbN"""
	return machine.run(f"basename $(readlink -f /dev/byok/{name})")


def queue_attributes(machine, block, names):
	"""{name: value}, and `ro` with them"""
	files = " ".join(["../ro", *names])
	values = machine.run(f"cd /sys/block/{block}/queue && cat {files}").split("\n")
	return dict(zip(["ro", *names], values))

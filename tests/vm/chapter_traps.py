"""What servers of ublk devices have fallen into: memory that runs short while the server itself is
what cleans it, a mount namespace that ends with the server in it, somebody else at the character
device, deaths at every moment of a start, and a disk that does not answer."""

from chapter_paths import SECTOR_SIZES, serve_through, stop_serving
from scene import CLIENT_ID, DISKS
from steps import Chapter, check

MOMENTS = 8
MOMENTS_APART_MS = 60
# Of 1024 MiB, this much is left to the page cache and everything else while files are written.
FREE_KIB = 90 * 1024
FILE_MIB = 200

# Holds every character device of ublk for a while, again and again, as udev does for a moment.
HOLD = """#!/bin/sh
until [ -e /run/hold.stop ]; do
	for device in /dev/ublkc*; do
		[ -c $device ] && (usleep 200000) 9<>$device
	done 2>/dev/null
	usleep 10000
done
"""

# Kills workers and vault agents, until there are none, or none of that name: kill_roles [NAME]
KILL_ROLES = """#!/bin/sh
found=yes
while [ $found ]; do
	found=
	for process in /proc/[0-9]*; do
		case $(tr '\\0' ' ' <$process/cmdline) in
		*"--role "*"$1 ") kill -9 ${process##*/}; found=yes ;;
		esac
	done 2>/dev/null
done
"""

# A container that serves the disks, mounts one of them, and leaves byok behind.
CONTAINER = """#!/bin/sh
mount --make-rprivate /
byok serve >>/run/log/byok.log 2>&1 &
echo $! >/run/byok.pid
until byok status >/dev/null 2>&1; do usleep 50000; done
mount -t xfs /dev/byok/data1 /mnt/data1
dd if=/dev/zero of=/mnt/data1/from-the-container bs=64k count=16 2>/dev/null
"""

traps = Chapter("Traps for servers of ublk", in_quick_runs=False)


def kill_all_of_byok(scene):
	scene.machine.run("kill -9 $(cat /run/byok.pid); kill_roles; rm /run/byok.pid", 60)


@traps.step("the machine boots, and two disks are formatted and served")
def _(scene):
	scene.begin_anew()
	scene.boot("byok.serve=no", files={"usr/bin/hold": (HOLD.encode(), True),
		"usr/bin/container": (CONTAINER.encode(), True),
		"usr/bin/kill_roles": (KILL_ROLES.encode(), True)})
	for name, disk in DISKS.items():
		scene.machine.run(f"byok format {disk} --key {scene.kid} --identity {CLIENT_ID}"
			f" --name {name} --sector-size {SECTOR_SIZES[name]}", 120)
	serve_through(scene, "ublk")
	for name in DISKS:
		scene.machine.run(f"mkfs.xfs -q /dev/byok/{name}", 60)
	scene.mount_served()


@traps.step("memory runs short while both are written to through the page cache: both go on")
def _(scene):
	scene.machine.run("mkdir -p /run/full && mount -t tmpfs -o size=90% full /run/full; until"
		f" [ $(awk '/^MemAvailable/ {{ print $2 }}' /proc/meminfo) -lt {FREE_KIB} ]; do"
		" head -c 8M /dev/zero >>/run/full/fill || break; done", 60)
	writers = " ".join(f"dd if=/dev/zero of=/mnt/{name}/large bs=1M count={FILE_MIB} conv=fsync"
		" 2>/dev/null & jobs=\"$jobs $!\";" for name in DISKS)
	scene.machine.run(f"{writers} for job in $jobs; do wait $job || exit; done", 120)
	found = scene.machine.run("dmesg | grep -ciE 'hung|blocked for more|out of memory'; true")
	check(found == "0", "the kernel tells of tasks that hang, or of none that is left")
	scene.machine.run("umount /run/full; rm /mnt/*/large")
	return f"{FILE_MIB} MiB each, with {FREE_KIB // 1024} MiB of memory"


@traps.step("somebody else holds the character device again and again: start and recovery wait")
def _(scene):
	scene.unmount_all()
	stop_serving(scene)
	scene.machine.run("rm -f /run/hold.stop; hold >/dev/null 2>&1 &")
	serve_through(scene, "ublk")
	pid = scene.status()[1]["data1"]["worker_pid"]
	scene.machine.run(f"kill -9 {pid}")
	scene.machine.wait_for("[ $(dd if=/dev/byok/data1 bs=4k count=1 iflag=direct 2>/dev/null | wc -c)"
		" = 4096 ]", 60)
	scene.machine.wait_for("byok status >/dev/null", 60)
	scene.machine.run("touch /run/hold.stop")
	stop_serving(scene)


@traps.step(f"killed at {MOMENTS} moments of its start: the next one serves, and nothing is left")
def _(scene):
	for moment in range(MOMENTS):
		scene.start_serving()
		scene.machine.run(f"usleep {moment * MOMENTS_APART_MS * 1000}")
		kill_all_of_byok(scene)
	serve_through(scene, "ublk")
	# The devices of those that were killed are there already.
	scene.machine.wait_for("byok status >/dev/null", 60)
	stop_serving(scene)


@traps.step("a disk that does not answer holds up no other: both are served, and the log names it")
def _(scene):
	scene.machine.run("printf '0 131072 error\\n' | dmsetup create silent && dmsetup suspend silent")
	scene.start_serving()
	scene.wait_until_served()
	check("dm-0 does not answer" in scene.log(), "the log does not name it")
	scene.machine.run("byok status >/dev/null && dmsetup resume silent")
	scene.machine.wait_for("grep -q 'dm-0 answers again' /run/log/byok.log", 30)
	stop_serving(scene)
	scene.machine.run("dmsetup remove --retry silent")


@traps.step("the last of a container with a mount is the mounted disk's worker: killed, it does not"
	" wait for itself")
def _(scene):
	scene.machine.run("mkdir -p /mnt/data1; unshare -m container", 120)
	check("/mnt/data1" not in scene.machine.run("cat /proc/mounts"), "it is mounted here too")
	scene.machine.run("kill -9 $(cat /run/byok.pid); usleep 500000; kill_roles data2; kill_roles;"
		" rm /run/byok.pid", 60)
	scene.start_serving()
	scene.wait_until_served()
	# It was unmounted with its namespace, for which somebody has to serve.
	scene.machine.wait_for("mount -t xfs /dev/byok/data1 /mnt/data1", 60)
	size = scene.machine.run("stat -c %s /mnt/data1/from-the-container")
	check(size == str(16 << 16), f"the file has {size} bytes")
	scene.unmount("data1")
	stop_serving(scene)
	scene.machine.power_off()

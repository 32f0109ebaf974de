"""Workers and supervisors that die or are replaced while file systems are mounted and written to,
on each data path: who uses the disks waits, and sees neither an error nor a wrong byte. The vault
is out of reach for all of it but where it is said."""

import random
import re
import time

from chapter_paths import DEVICE_IN_USE, SECTOR_SIZES, serve_through, stop_serving
from machine import TOP
from scene import CLIENT_ID, DISKS
from steps import Chapter, StepFailure, check

LOAD = TOP / "build/vm-programs/load"
LOAD_THREADS = 8
LOAD_MIB = 48
# nbd-kernel takes the kernel's time limit of 10 seconds for each kill: it has one in chapter_paths.
PATHS_IN_SHORT = ("ublk", "dm-crypt")
PATHS = (*PATHS_IN_SHORT, "nbd-kernel")
# Of a round on one path: of workers, of the supervisor, and again of each of its workers.
WORKER_KILLS, ROUND_KILLS = 5, 8
# More than all queues of a device have tags (Kconfig's QUEUE_DEPTH each, 2 CPUs).
READERS = 200

# Kills a worker, and the next one while it takes over: kill_twice PID NAME MICROSECONDS
KILL_TWICE = """#!/bin/sh
kill -9 $1
next=0
until [ 0$next -gt 0 ] && [ $next != $1 ]; do
	next=$(byok status --json $2 2>/dev/null | grep -o '"worker_pid": *[0-9]*' | grep -o '[0-9]*$')
done
usleep $3
kill -9 $next
"""


class Counts:
	"""What was done to the disks' users, on all paths together."""

	def __init__(self):
		self.worker_kills = self.supervisor_kills = self.upgrades = 0
		self.written = self.verified = 0
		self.pauses_ms = []


def workers(scene):
	"""{name: process id} of those that serve"""
	_, volumes = scene.status()
	return {name: volume["worker_pid"] for name, volume in volumes.items()
		if volume["state"] == "serving"}


def wait_for_workers(scene, old=None, seconds=60):
	"""Until both disks are served, by workers other than `old` where it names any."""
	deadline = time.monotonic() + seconds
	while True:
		try:
			now = workers(scene)
		except StepFailure:
			now = {}
		if set(now) == set(DISKS) and all(now[name] != pid for name, pid in (old or {}).items()):
			return now
		check(time.monotonic() < deadline, f"after {seconds} s the workers are {now}")
		time.sleep(0.1)


def start_load(scene):
	for name in DISKS:
		scene.machine.run(f"rm -f /run/{name}.*; load /mnt/{name}/load {LOAD_THREADS} {LOAD_MIB}"
			f" /run/{name}.stop >/run/{name}.load 2>&1 &")
	for name in DISKS:
		scene.machine.wait_for(f"[ -s /mnt/{name}/load ]", 30)


def check_load_goes_on(scene):
	said = scene.machine.run(f"cat {' '.join(f'/run/{name}.load' for name in DISKS)}")
	check(said == "", f"the load has ended: {said}")


def end_load(scene, counts):
	"""The longest time that one operation took, in ms"""
	longest = []
	scene.machine.run(f"touch {' '.join(f'/run/{name}.stop' for name in DISKS)}")
	for name in DISKS:
		scene.machine.wait_for(f"[ -s /run/{name}.load ]", 120)
		said = scene.machine.run(f"cat /run/{name}.load")
		numbers = re.fullmatch(r"written (\d+) verified (\d+) longest (\d+)", said)
		check(numbers, f"the load on {name} says {said}")
		counts.written += int(numbers[1])
		counts.verified += int(numbers[2])
		longest.append(int(numbers[3]))
		scene.machine.run(f"rm /mnt/{name}/load; sync")
	return max(longest)


def new_pauses(scene, counts):
	"""How long a volume was without a worker, as the supervisor told since the last call, in
	words. Its users waited for so long, but not those of dm-crypt."""
	found = [int(ms) for ms in re.findall(r"is served again, .*, after (\d+) ms", scene.log())]
	scene.machine.run(": >/run/log/byok.log")
	counts.pauses_ms += found
	return f"without a worker for {', '.join(map(str, found)) or 0} ms"


def kill_worker(scene, counts, name):
	"""Returns when another one serves."""
	old = workers(scene)[name]
	scene.machine.run(f"kill -9 {old}")
	wait_for_workers(scene, {name: old})
	counts.worker_kills += 1


def kill_worker_twice(scene, counts, name, microseconds):
	old = workers(scene)[name]
	scene.machine.run(f"kill_twice {old} {name} {microseconds}", 60)
	wait_for_workers(scene, {name: old})
	counts.worker_kills += 2


def serve_again(scene):
	"""Another supervisor, after one that was killed or told to leave."""
	scene.machine.wait_for("! kill -0 $(cat /run/byok.pid) 2>/dev/null", 30)
	scene.machine.run("rm -f /run/byok.pid")
	scene.start_serving()


def limit_disk(scene, name, limit):
	"""How many reads and writes a second its disk gives to the processes in the group `slow`."""
	number = scene.machine.run(f"cat /sys/class/block/$(basename {DISKS[name]})/dev")
	scene.machine.run(f"echo '{number} riops={limit} wiops={limit}' >/run/groups/slow/io.max")


def kill_everybody(scene, counts):
	"""Nobody is left who has the key of data1, and somebody is about to write there."""
	pid = workers(scene)["data1"]
	scene.machine.run(f"kill -9 $(cat /run/byok.pid); kill -9 {pid}")
	counts.supervisor_kills += 1
	counts.worker_kills += 1
	scene.machine.run("rm -f /run/writer; (dd if=/dev/zero of=/mnt/data1/late bs=64k count=8"
		" conv=fsync 2>/dev/null; echo $? >/run/writer) >/dev/null 2>&1 &")
	serve_again(scene)
	scene.machine.wait_for("byok status data2 >/dev/null", 60)
	scene.machine.wait_for("byok status --json 2>/dev/null | grep -q data1", 60)


def add_round(chapter, path, counts, chance):
	@chapter.step(f"{path}: SIGKILL to workers, one while it takes over: others serve on")
	def _(scene):
		for number in range(WORKER_KILLS - 2):
			kill_worker(scene, counts, list(DISKS)[number % len(DISKS)])
			check_load_goes_on(scene)
		kill_worker_twice(scene, counts, chance.choice(list(DISKS)), chance.randrange(200000))
		check_load_goes_on(scene)
		return new_pauses(scene, counts)

	@chapter.step(f"{path}: SIGKILL to the supervisor: the next one takes over workers and keys")
	def _(scene):
		before = workers(scene)
		scene.machine.run("kill -9 $(cat /run/byok.pid)")
		counts.supervisor_kills += 1
		check_load_goes_on(scene)
		serve_again(scene)
		after = wait_for_workers(scene)
		check(after == before, f"the workers were {before} and are {after}")
		answer = scene.machine.attempt("byok lock data1", 60)
		check(answer.status == DEVICE_IN_USE, f"`byok lock` of a mounted disk: {answer.output}")
		for name in DISKS:
			kill_worker(scene, counts, name)
		check_load_goes_on(scene)
		return new_pauses(scene, counts)

	@chapter.step(f"{path}: the program is replaced and the service restarted: it serves on anew")
	def _(scene):
		before = workers(scene)
		scene.machine.run("cp /usr/sbin/byok /usr/sbin/new && mv /usr/sbin/new /usr/sbin/byok")
		scene.machine.run("kill -USR1 $(cat /run/byok.pid)")
		serve_again(scene)
		after = wait_for_workers(scene, before)
		counts.upgrades += 1
		programs = scene.machine.run(" ".join(["stat -L -c %i /usr/sbin/byok",
			*(f"/proc/{pid}/exe" for pid in after.values())])).split()
		check(len(set(programs)) == 1, f"they run the programs {programs}")
		check_load_goes_on(scene)
		return new_pauses(scene, counts)


def add_stall_step(chapter, path, counts):
	@chapter.step(f"{path}: a worker dies with every request of its queues at a disk that stalls")
	def _(scene):
		scene.machine.run("mkdir -p /run/groups && mount -t cgroup2 none /run/groups"
			" && echo +io >/run/groups/cgroup.subtree_control && mkdir /run/groups/slow")
		old = workers(scene)["data2"]
		limit_disk(scene, "data2", 2)
		scene.machine.run(f"echo {old} >/run/groups/slow/cgroup.procs; rm -f /run/readers")
		scene.machine.run(f"for i in $(seq {READERS}); do dd if=/dev/byok/data2 of=/dev/null bs=4k"
			" count=1 skip=$i iflag=direct 2>>/run/readers || echo failed >>/run/readers & done", 60)
		device = scene.machine.run("basename $(readlink /dev/byok/data2)")
		scene.machine.run("sleep 4")
		reads, writes = scene.machine.run(f"cat /sys/block/{device}/inflight").split()
		scene.machine.run(f"kill -9 {old}; sleep 2")
		counts.worker_kills += 1
		limit_disk(scene, "data2", "max")
		wait_for_workers(scene, {"data2": old}, 120)
		scene.machine.wait_for("! pidof dd", 60)
		said = scene.machine.run("grep -c failed /run/readers; true")
		check(said == "0", f"{said} readers got an error")
		check_load_goes_on(scene)
		return f"{reads} reads and {writes} writes under way; {new_pauses(scene, counts)}"


def add_key_loss_step(chapter, path, counts):
	@chapter.step(f"{path}: supervisor and worker are killed: the device is there, and waits for the"
		" vault")
	def _(scene):
		kill_everybody(scene, counts)
		answer = scene.machine.attempt("byok lock data1", 60)
		check(answer.status == DEVICE_IN_USE, f"`byok lock` says {answer.output}")
		scene.machine.run("[ -b /dev/byok/data1 ]")
		waits = scene.machine.run("[ -e /run/writer ] || echo yes")
		# dm-crypt needs nobody to go on.
		check(path == "dm-crypt" or waits, "who writes to it does not wait")
		scene.start_vault()
		wait_for_workers(scene, seconds=120)
		scene.machine.wait_for("[ -s /run/writer ]", 60)
		check(scene.machine.run("cat /run/writer") == "0", "the writer got an error")
		scene.machine.run("rm /mnt/data1/late; sync")


def add_path(chapter, path, rounds, counts, chance):
	@chapter.step(f"{path}: loads that verify what they read run on both disks; the vault is cut off")
	def _(scene):
		scene.start_vault()
		scene.machine.run(": >/run/log/byok.log")
		serve_through(scene, path)
		for name in DISKS:
			if name not in scene.hashes:
				scene.machine.run(f"mkfs.xfs -q /dev/byok/{name}", 60)
			scene.mount(name, f"/dev/byok/{name}")
		for name in DISKS:
			if name not in scene.hashes:
				scene.machine.run(f"dd if=/dev/urandom of=/mnt/{name}/before bs=1M count=4"
					" conv=fsync 2>/dev/null")
				scene.hashes[name] = scene.hash_files(name)
		scene.start_vault(with_key_vault=False)
		start_load(scene)

	for _ in range(rounds):
		add_round(chapter, path, counts, chance)
	if path == "ublk":
		add_stall_step(chapter, path, counts)

	@chapter.step(f"{path}: the loads end: no error, no wrong byte")
	def _(scene):
		longest_ms = end_load(scene, counts)
		for name in DISKS:
			scene.check_hashes(name)
		errors = scene.machine.run("dmesg | grep -ci 'i/o error'; true")
		check(errors == "0", f"the kernel saw {errors} I/O errors")
		return f"the longest operation took {longest_ms} ms"

	add_key_loss_step(chapter, path, counts)


def add_ends(chapter, counts):
	@chapter.step("SIGTERM to the supervisor leaves what is mounted, says so, and the next one has it")
	def _(scene):
		before = workers(scene)
		scene.machine.run("kill -TERM $(cat /run/byok.pid)")
		scene.machine.wait_for("! kill -0 $(cat /run/byok.pid) 2>/dev/null", 30)
		check("data1 is in use: it is served on" in scene.log(), "it does not say so")
		for name in DISKS:
			scene.check_hashes(name)
		serve_again(scene)
		check(wait_for_workers(scene) == before, "the workers are others")

	@chapter.step("both are killed again: `byok lock --force` gives the waiting users errors")
	def _(scene):
		scene.start_vault(with_key_vault=False)
		kill_everybody(scene, counts)
		scene.machine.run("byok lock --force data1", 90)
		scene.machine.wait_for("[ -s /run/writer ]", 60)
		check(scene.machine.run("cat /run/writer") != "0", "the writer got no error")
		scene.machine.run("[ ! -e /dev/byok/data1 ]")
		scene.unmount("data1")
		scene.check_hashes("data2")
		scene.unmount("data2")
		stop_serving(scene)


def kills(rounds, paths):
	"""The chapter with so many rounds on each path."""
	chapter = Chapter("Kills and upgrades under load", in_quick_runs=False)
	counts = Counts()
	seed = random.randrange(1 << 32)
	chance = random.Random(seed)

	@chapter.step("the machine boots, and two disks are formatted")
	def _(scene):
		scene.begin_anew()
		scene.boot("byok.serve=no", files={"usr/bin/load": (LOAD.read_bytes(), True),
			"usr/bin/kill_twice": (KILL_TWICE.encode(), True)})
		for name, disk in DISKS.items():
			scene.machine.run(f"byok format {disk} --key {scene.kid} --identity {CLIENT_ID}"
				f" --name {name} --sector-size {SECTOR_SIZES[name]}", 120)
		return f"seed {seed}"

	# ublk last, for its users are the ones that wait at the end.
	for path in reversed(paths):
		add_path(chapter, path, rounds, counts, chance)
		if path != "ublk":
			@chapter.step(f"{path}: SIGTERM takes away what is not mounted")
			def _(scene):
				scene.unmount_all()
				stop_serving(scene)
	add_ends(chapter, counts)

	@chapter.step("nobody has lost anything")
	def _(scene):
		scene.machine.power_off()
		pauses = sorted(counts.pauses_ms)
		return (f"{counts.worker_kills} kills of workers, {counts.supervisor_kills} of supervisors,"
			f" {counts.upgrades} upgrades; {counts.written >> 20} MiB written,"
			f" {counts.verified >> 20} MiB verified; {len(pauses)} times without a worker, half of them"
			f" under {pauses[len(pauses) // 2]} ms, the longest {pauses[-1]} ms")

	return chapter

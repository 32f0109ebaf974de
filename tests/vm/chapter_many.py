"""Sixteen disks under a secret each beside one, with a vault that answers after 100 ms as a real one
does. It shows how much longer they take, and asserts nothing about that: it fails only if a disk is
not served. What it shows is of an emulated machine with two processors, which many others share."""

import statistics

from scene import CLIENT_ID
from steps import Chapter, check

DISK_COUNT = 16
DISK_MIB = 32
ROUNDS = 3
ANSWER_SECONDS = 0.1
# Each disk takes 33 MiB of buffers for a queue.
MEMORY_MIB = 2560
SERVE_SECONDS = 180
DISKS = [f"/dev/vd{chr(ord('a') + number)}" for number in range(DISK_COUNT)]

# Serves, and prints the machine's uptime before and once the count of devices is there:
# time_to_served COUNT [DISK...]
TIME_TO_SERVED = """#!/bin/sh
count=$1
shift
read begin rest </proc/uptime
byok serve "$@" >>/run/log/byok.log 2>&1 &
echo $! >/run/byok.pid
until set -- /dev/byok/*; [ -b "$1" ] && [ $# = $count ]; do usleep 10000; done
read end rest </proc/uptime
echo $begin $end
"""

many = Chapter("Sixteen disks beside one", in_quick_runs=False)


def seconds_to_served(scene, disks):
	begin, end = scene.machine.run(f"time_to_served {len(disks)} {' '.join(disks)}",
		SERVE_SECONDS).split()
	left = [name for name, volume in scene.status()[1].items() if volume["state"] != "serving"]
	check(not left, f"these are not served: {left}")
	scene.machine.run("kill -TERM $(cat /run/byok.pid)")
	scene.machine.wait_for("! kill -0 $(cat /run/byok.pid) 2>/dev/null", 60)
	return float(end) - float(begin)


@many.step(f"the machine boots, and {DISK_COUNT} disks are formatted, each with a secret of its own")
def _(scene):
	scene.start_vault()
	if not scene.kid:
		scene.create_key()
	files = [scene.folder / f"many{number}.img" for number in range(DISK_COUNT)]
	for file in files:
		with open(file, "wb") as opened:
			opened.truncate(DISK_MIB << 20)
		scene.on_close.append(lambda file=file: file.unlink(missing_ok=True))
	scene.boot("byok.serve=no", disks=files, devices=("-m", f"{MEMORY_MIB}M"),
		files={"usr/bin/time_to_served": (TIME_TO_SERVED.encode(), True)})
	scene.machine.run("echo 'queue_count = 1' >>/etc/byok/byok.conf")
	for number, disk in enumerate(DISKS):
		scene.machine.run(f"byok format {disk} --key {scene.kid} --identity {CLIENT_ID}"
			f" --name many{number}", 120)


@many.step(f"with answers after {ANSWER_SECONDS * 1000:.0f} ms all are served: one, and all of them,"
	f" {ROUNDS} times")
def _(scene):
	scene.vault.fault_add(match="*", delay=ANSWER_SECONDS)
	one, all_of_them = [], []
	for _ in range(ROUNDS):
		one.append(seconds_to_served(scene, DISKS[:1]))
		scene.vault.log_clear()
		all_of_them.append(seconds_to_served(scene, DISKS))
		requests = {operation: len(scene.vault.log(operation=operation))
			for operation in ("token", "unwrapkey")}
		check(requests == {"token": 1, "unwrapkey": DISK_COUNT}, f"the vault was asked {requests}")
	scene.vault.fault_clear()
	ratio = statistics.median(all_of_them) / statistics.median(one)
	return (f"one after {statistics.median(one):.2f} s ({min(one):.2f} to {max(one):.2f}), {DISK_COUNT}"
		f" after {statistics.median(all_of_them):.2f} s ({min(all_of_them):.2f} to"
		f" {max(all_of_them):.2f}): {ratio:.2f} times as long")


@many.step("the machine is powered off")
def _(scene):
	scene.machine.power_off()

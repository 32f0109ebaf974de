"""`make bench-volume`: one disk through ublk and through dm-crypt, by `byok bench volume`. It reports,
and asserts nothing about speed: the machine is emulated, so only the work that is done counts.

Both serve the same bytes at the same time, each by a linear mapping of its own over the disk, so that
they can take turns of less than a second: what else the host does hits both. dm-crypt is opened by
cryptsetup, with the options that byok gives it.
"""

import json
import statistics

import local_volume
from machine import TOP
from steps import Chapter

PROGRAM = TOP / "build/variants/full-gcc/byok"
DISK_MIB = 192
BENCH_SECONDS = 400
RAW, DM_CRYPT, UBLK = "/dev/mapper/raw", "/dev/mapper/dm-crypt", "/dev/byok/ublk"
OPEN_DM_CRYPT = ("cryptsetup open --key-file /etc/key --perf-no_read_workqueue"
	" --perf-no_write_workqueue /dev/mapper/under-dm-crypt dm-crypt")


def measure(scene, result, *words):
	report = json.loads(scene.machine.run(f"byok bench volume --json {' '.join(words)}", BENCH_SECONDS))
	for workload in report["workloads"]:
		result.setdefault(workload["name"], {}).update(
			{path: workload[path] for path in report["paths"]})


def table(rounds):
	"""The medians of every path, and the ratios within each round, with their range."""
	for name in rounds[0]:
		yield f"{name:26}{'MB/s':>8}{'/s':>9}{'p50 us':>9}{'p99 us':>9}{'CPU s/GiB':>11}"
		for path in rounds[0][name]:
			row = [statistics.median(r[name][path][key] for r in rounds) for key in ("bytes_per_second",
				"operations_per_second", "latency_p50_ns", "latency_p99_ns", "cpu_ns_per_gib")]
			yield (f"  {path:24}{row[0] / 1e6:8.1f}{row[1]:9.0f}{row[2] / 1e3:9.0f}{row[3] / 1e3:9.0f}"
				f"{row[4] / 1e9:11.2f}")
		for key, what in (("bytes_per_second", "throughput"), ("cpu_ns_per_gib", "CPU per GiB")):
			ratios = [r[name][UBLK][key] / r[name][DM_CRYPT][key] for r in rounds]
			yield (f"  ublk / dm-crypt, {what:12}{statistics.median(ratios):7.2f}"
				f" ({min(ratios):.2f} to {max(ratios):.2f})")


def bench(round_count):
	chapter = Chapter("One disk through ublk and through dm-crypt")
	rounds = [{} for _ in range(round_count)]

	@chapter.step("the machine boots with a disk that is a volume")
	def _(scene):
		disk = scene.folder / "bench.img"
		scene.on_close.append(lambda: disk.unlink(missing_ok=True))
		local_volume.make_volume(disk, "bench", DISK_MIB << 20)
		# The image's own byok has no `byok bench`.
		scene.power_on(disks=[disk], arguments="byok.serve=no",
			files={"usr/sbin/byok": (PROGRAM.read_bytes(), True), **local_volume.FILES})
		return scene.machine.run("grep -m 1 ^flags /proc/cpuinfo | grep -owE 'aes|vaes|avx512f'"
			" | tr '\\n' ' '")

	@chapter.step("ublk and dm-crypt serve the same bytes of it")
	def _(scene):
		for name in ("raw", "under-dm-crypt", "under-ublk"):
			scene.machine.run(f"echo 0 {DISK_MIB * 2048} linear /dev/vda 0 | dmsetup create {name}")
		scene.machine.run(f"serve /dev/mapper/under-ublk ublk && {OPEN_DM_CRYPT}", 60)
		# `byok bench` writes only where there are zeros.
		scene.machine.attempt(f"dd if=/dev/zero of={UBLK} bs=1M conv=fsync", BENCH_SECONDS)
		scene.machine.run(f"cmp -n 16777216 {DM_CRYPT} /dev/zero", 60)

	for number, result in enumerate(rounds):
		@chapter.step(f"round {number + 1}")
		def _(scene, result=result):
			measure(scene, result, RAW, DM_CRYPT, UBLK)
			measure(scene, result, "--write", DM_CRYPT, UBLK)

	@chapter.step("the machine is powered off")
	def _(scene):
		scene.machine.run("leave ublk")
		scene.machine.power_off()
		print("\n".join(table(rounds)))

	return chapter

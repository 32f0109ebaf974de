"""byok bench disk: what it measures, and which disks it does not write to."""

import json

from harness import expect, expect_equal, test


@test
def a_blank_disk_is_measured_raw_and_through_byok_and_can_be_measured_again(t):
	disk = t.disk("scratch", size_mib=64)
	for _ in range(2):
		report = json.loads(t.byok("bench", "disk", "--write", "--json", "--quick", disk).stdout)
		expect_equal(report["disk"], str(disk), "disk")
		expect_equal(len(report["workloads"]), 5, "count of workloads")
		for workload in report["workloads"]:
			for path in ("raw", "byok"):
				for figure, value in workload[path].items():
					expect(value > 0, f"{workload['name']}, {path}: {figure} is {value}")
	expect(disk.read_bytes()[2 * 1024 * 1024:3 * 1024 * 1024].count(0) < 10000, "nothing was written")


@test
def the_program_without_sanitizers_measures_too(t):
	"""Sanitizers give memory that is aligned better."""
	disk = t.disk("scratch", size_mib=64)
	for words in ("disk", disk), ("disk", "--write", disk), ("volume", disk), ("crypto",):
		t.must(t.product(), "bench", "--quick", *words)


@test
def without_write_nothing_is_written_and_any_disk_is_measured(t):
	disk, _ = t.formatted(size_mib=32)
	before = disk.read_bytes()
	text = t.byok("bench", "disk", "--quick", disk).stdout
	expect_equal(disk.read_bytes() == before, True, "whether the disk is as before")
	expect("sequential 1 MiB read" in text and "byok / raw" in text, text)
	expect("write" not in text, text)


@test
def a_disk_with_anything_on_it_is_not_written_to(t):
	volume, _ = t.formatted("volume")
	t.byok("bench", "disk", "--write", volume, expect="disk-not-blank", object=volume)
	unknown = t.disk("unknown")
	with open(unknown, "r+b") as file:
		file.seek(12345)
		file.write(b"somebody's")
	before = unknown.read_bytes()
	t.byok("bench", "disk", "--write", unknown, expect="disk-not-blank", object=unknown)
	expect(unknown.read_bytes() == before, "it was written to")


@test
def a_disk_that_is_served_can_be_measured_by_reading(t):
	disk, key = t.formatted()
	t.nbd(disk, key)
	t.byok("bench", "disk", "--quick", disk)


@test
def what_bench_does_not_know_is_a_usage_error(t):
	t.byok("bench", "moon", t.disk(), expect="usage")
	t.byok("bench", "disk", expect="usage")
	t.byok("bench", "crypto", t.disk(), expect="usage")
	t.byok("bench", "disk", t.disk("small", size_mib=8), expect="disk-too-small")

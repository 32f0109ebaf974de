"""byok serve --disk --key-file --nbd: the data path, by other people's NBD clients."""

import json
import os
import re
import subprocess

from harness import (MIB, Skip, expect, expect_equal, hash_of, log_of, stop, test, uri)


@test
def nbdinfo_sees_the_volume_with_its_sector_size_and_flags(t):
	for sector_size in (512, 4096):
		disk, key = t.formatted(f"data{sector_size}", sector_size)
		_, socket = t.nbd(disk, key)
		info = json.loads(t.must("nbdinfo", "--json", uri(socket)).stdout)["exports"][0]
		expect_equal(info["export-size"], 16 * MIB, "size")
		expect_equal(info["block_size_minimum"], sector_size, "minimum block size")
		for flag in ("can_flush", "can_fua", "can_multi_conn"):
			expect(info[flag], f"{flag} is not offered")


@test
def what_nbdcopy_writes_comes_back_and_dm_crypt_agrees(t):
	disk, key = t.formatted()
	data = t.file("data.raw", os.urandom(16 * MIB))
	process, socket = t.nbd(disk, key)
	t.must("nbdcopy", "--flush", data, uri(socket))
	t.must("nbdcopy", uri(socket), t.path("back.raw"))
	expect_equal(hash_of(t.path("back.raw")), hash_of(data), "the copy's hash")
	expect_equal(stop(process), 0, "exit status")
	raw = disk.read_bytes()[16 * MIB:]
	expect(raw != data.read_bytes() and raw.count(bytes(512)) == 0, "the disk is not encrypted")


@test
def fio_verifies_random_writes_at_depth_over_several_connections(t):
	disk, key = t.formatted(size_mib=80)
	_, socket = t.nbd(disk, key)
	t.must("fio", "--name=verify", "--ioengine=nbd", f"--uri={uri(socket)}", "--rw=randwrite",
		"--bsrange=4k-256k", "--blockalign=4k", "--iodepth=32", "--size=48m", "--numjobs=1",
		"--verify_state_save=0", "--verify=crc32c", "--verify_fatal=1", "--randrepeat=0", "--group_reporting")


@test
def qemu_io_patterns_fua_and_flush_work(t):
	disk, key = t.formatted()
	_, socket = t.nbd(disk, key)
	done = t.must("qemu-io", "-f", "raw", "-c", "write -P 0xa5 0 1M", "-c", "write -f -P 0x5a 1M 64k",
		"-c", "flush", "-c", "read -P 0xa5 0 1M", "-c", "read -P 0x5a 1M 64k",
		"-c", "write -z 512k 512k", "-c", "read -P 0 512k 512k",
		f"nbd+unix:///?socket={socket}")
	expect("Pattern verification failed" not in done.stdout, done.stdout)


@test
def discards_punch_holes_into_the_file_only_if_they_are_allowed(t):
	for allowed in ("no", "yes"):
		disk, key = t.formatted(f"data-{allowed}")
		data = t.file("data.raw", os.urandom(16 * MIB))
		process, socket = t.nbd(disk, key, "--allow-discards", allowed)
		t.must("nbdcopy", data, uri(socket))
		info = json.loads(t.must("nbdinfo", "--json", uri(socket)).stdout)["exports"][0]
		expect_equal(info["can_trim"], allowed == "yes", "can_trim")
		before = disk.stat().st_blocks
		# qemu-io keeps from the server what it does not offer, and calls that a success.
		t.must("qemu-io", "-d", "unmap", "-f", "raw", "-c", "discard 1M 8M", uri(socket))
		t.must("nbdcopy", uri(socket), t.path("back.raw"))
		stop(process)
		freed = (before - disk.stat().st_blocks) * 512
		# The file system may need a block to note the hole.
		expect_equal(round(freed / MIB), 8 if allowed == "yes" else 0, "MiB given back")
		back, sent = t.path("back.raw").read_bytes(), data.read_bytes()
		expect_equal(back[:MIB], sent[:MIB], "what lies before")
		expect_equal(back[9 * MIB:], sent[9 * MIB:], "what lies behind")


@test
def a_volume_survives_a_restart_and_only_the_right_key_opens_it(t):
	disk, key = t.formatted()
	data = t.file("data.raw", os.urandom(MIB))
	process, socket = t.nbd(disk, key)
	t.must("qemu-io", "-f", "raw", "-c", f"write -s {data} 0 1M", "-c", "flush", uri(socket))
	stop(process)
	wrong = t.file("wrong.key", b"another key")
	t.byok("serve", "--disk", disk, "--key-file", wrong, "--nbd", socket, expect="wrong-key",
		object=disk)
	_, socket = t.nbd(disk, key)
	t.must("nbdcopy", uri(socket), t.path("back.raw"))
	expect_equal(t.path("back.raw").read_bytes()[:MIB], data.read_bytes(), "the data")


@test
def a_disk_that_is_served_is_not_served_twice(t):
	disk, key = t.formatted()
	t.nbd(disk, key)
	t.byok("serve", "--disk", disk, "--key-file", key, "--nbd", t.path("second.socket"),
		expect="disk-in-use", object=disk)


@test
def a_socket_somebody_listens_on_is_left_alone(t):
	first, key = t.formatted("first")
	second, second_key = t.formatted("second")
	_, socket = t.nbd(first, key)
	t.byok("serve", "--disk", second, "--key-file", second_key, "--nbd", socket,
		expect="nbd-socket")
	t.must("nbdinfo", uri(socket))


@test
def the_key_is_in_no_argument_environment_or_core(t):
	disk, key = t.formatted(key=b"a-secret-that-must-not-show")
	process, _ = t.nbd(disk, key)
	for place in "cmdline", "environ":
		expect(b"a-secret" not in open(f"/proc/{process.pid}/{place}", "rb").read(), f"in {place}")
	limits = open(f"/proc/{process.pid}/limits").read()
	core = next(line for line in limits.splitlines() if line.startswith("Max core file size"))
	expect_equal(core.split()[4:6], ["0", "0"], "core limits")
	expect("a-secret" not in log_of(process), "in the log")


@test
def a_disk_takes_its_buffers_and_less_than_4_mib_of_memory(t):
	"""Of the program itself: sanitizers take more."""
	disk, key = t.formatted()
	socket = t.path("socket")
	process = t.start("serve", "--disk", disk, "--key-file", key, "--nbd", socket,
		ready=socket.exists, program=t.product())
	sizes_kib = [int(size) for size in
		re.findall(r"^Rss: +(\d+) kB", open(f"/proc/{process.pid}/smaps").read(), re.M)]
	buffers_kib = 64 * (1024 + 4)
	expect_equal(max(sizes_kib), buffers_kib, "KiB of buffers")
	expect(sum(sizes_kib) < buffers_kib + 4096, f"{sum(sizes_kib) - buffers_kib} KiB more than buffers")


@test
def the_thread_that_serves_runs_before_others_and_no_other_does(t):
	process, _ = t.nbd(*t.formatted())
	policies = [open(f"/proc/{process.pid}/task/{task}/stat").read().rsplit(")", 1)[1].split()[38]
		for task in sorted(os.listdir(f"/proc/{process.pid}/task"), key=int)]
	rights = int(re.search(r"CapEff:\s+(\S+)", open("/proc/self/status").read())[1], 16)
	if not rights >> 23 & 1:
		raise Skip("this user has no CAP_SYS_NICE")
	expect_equal(policies[0], str(os.SCHED_OTHER), "the main thread's policy")
	expect_equal(policies.count(str(os.SCHED_RR)), 1, "threads of SCHED_RR")


@test
def a_client_that_dies_in_the_middle_harms_nobody_else(t):
	disk, key = t.formatted()
	_, socket = t.nbd(disk, key)
	fio = subprocess.Popen([t.tool("fio"), "--name=dying", "--ioengine=nbd", f"--uri={uri(socket)}",
		"--rw=randwrite", "--bs=64k", "--iodepth=16", "--size=16m", "--time_based", "--runtime=30", "--thread"],
		stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
	try:
		fio.wait(1)
	except subprocess.TimeoutExpired:
		fio.kill()
		fio.wait()
	t.must("qemu-io", "-f", "raw", "-c", "write -P 7 0 1M", "-c", "read -P 7 0 1M", uri(socket))


@test
def tracers_find_the_stages_of_a_request_in_the_program(t):
	"""As ELF notes, which stripping must not take away."""
	notes = t.must("readelf", "-n", t.program).stdout
	found = sorted(line.split()[1] for line in notes.splitlines() if "Name: " in line)
	expect_equal(found, ["cipher_done", "commit", "disk_done", "request_start"], "the probes")
	for place in re.findall(r"Location: 0x0*([0-9a-f]+),", notes):
		code = t.must("objdump", "-d", f"--start-address=0x{place}",
			f"--stop-address={int(place, 16) + 1:#x}", t.program).stdout
		expect(re.search(rf"^ *{place}:\s+90 +\s*nop$", code, re.M),
			f"what nobody traces is not a nop: {code}")


@test
def a_tracer_sees_each_request_begin_and_end(t):
	probe = f"usdt:{t.program}:byok:"
	script = t.file("count.bt", f"{probe}request_start {{ @begun = count(); }}\n"
		f"{probe}commit {{ @ended = count(); @error[arg3] = count(); }}\n")
	disk, _ = t.formatted()
	done = t.run(t.tool("bpftrace"), "-c", f"{t.program} bench disk --quick {disk}", script)
	counts = dict(re.findall(r"^@(\S+): (\d+)$", done.stdout, re.M))
	if not counts:
		raise Skip(f"bpftrace does not work here: {done.stderr.strip()[:200]}")
	expect(int(counts["begun"]) > 100, f"it saw {counts}")
	expect_equal(counts, {name: counts["begun"] for name in ("begun", "ended", "error[0]")}, "counts")


@test
def perf_tells_the_functions_of_the_stripped_program(t):
	perf, program = t.tool("perf"), t.product()
	data = t.path("perf.data")
	done = t.run(perf, "record", "-q", "-e", "cpu-clock", "-g", "-o", data, program, "bench",
		"crypto", "--quick", "--implementation", "portable")
	if done.returncode != 0:
		raise Skip(f"perf does not work here: {done.stderr.strip()[:200]}")
	report = t.must("perf", "report", "-i", data, "--stdio", "--no-children", "-g", "caller").stdout
	for function in ("transform_runs", "bench_crypto_measure", "main"):
		expect(function in report, f"{function} is not in {report[:3000]}")

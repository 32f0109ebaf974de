"""byok serve with the vault: supervisor, vault agent and workers as processes, by NBD sockets, which any
kernel has. (The VM's tests are the same on ublk.)"""

import base64
import json
import os
import signal
import struct
import time
from pathlib import Path

import luks2
from harness import CLIENT_ID, MIB, STATUSES, expect, expect_equal, log_of, stop, test, uri, wait_until


def formatted(t, vault, name, settings):
	disk, recovery = t.disk(name), t.path(f"{name}.recovery")
	t.byok("format", disk, "--name", name, "--key", vault.kid, "--config", settings,
		"--recovery-key-file", recovery)
	return disk, recovery


def status(t, settings):
	"""(exit status, JSON)"""
	done = t.run(t.program, "status", "--json", "--config", settings)
	return done.returncode, json.loads(done.stdout) if done.stdout else None


def states(t, settings):
	_, answer = status(t, settings)
	return {v["name"] or v["disk"]: v for v in answer["volumes"]} if answer else {}


def is_serving(t, settings, *names):
	now = states(t, settings)
	return all(n in now and now[n]["state"] == "serving" for n in names)


def served(t, vault, *names, **values):
	settings = t.vault_settings(vault, data_path="nbd", **values)
	disks = [formatted(t, vault, name, settings) for name in names]
	vault.log_clear()
	process = t.start("serve", *(d for d, _ in disks), "--config", settings,
		ready=lambda: is_serving(t, settings, *names))
	return settings, disks, process


def socket_of(t, name):
	return t.path("run") / f"{name}.nbd"


@test
def two_disks_are_unlocked_by_the_vault_and_served(t):
	vault = t.vault()
	settings, _, process = served(t, vault, "data1", "data2")
	for name in ("data1", "data2"):
		t.must("qemu-io", "-f", "raw", "-c", "write -P 3 0 1M", "-c", "read -P 3 0 1M",
			uri(socket_of(t, name)))
	code, answer = status(t, settings)
	expect_equal(code, 0, "exit status of byok status")
	expect_equal({v["key"] for v in answer["volumes"]}, {vault.kid}, "the keys shown")
	expect_equal(len(vault.log(operation="token")), 1, "token requests")
	expect_equal(stop(process), 0, "exit status of byok serve")


@test
def each_role_is_a_process_of_its_own_and_the_agent_is_not_root(t):
	vault = t.vault()
	settings, _, process = served(t, vault, "data1")
	_, answer = status(t, settings)
	pids = [process.pid, answer["agent"]["pid"], answer["volumes"][0]["worker_pid"]]
	expect_equal(len(set(pids)), 3, "the count of processes")
	owner = {line.split()[0]: line.split()[1:] for line in
		open(f"/proc/{answer['agent']['pid']}/status").read().splitlines() if line.split()}
	expect(os.geteuid() != 0 or owner["Uid:"][0] != "0", "the agent is root")
	expect_equal(int(owner["CapEff:"][0], 16), 0, "the agent's capabilities")
	expect_equal(owner["NoNewPrivs:"], ["1"], "no_new_privs of the agent")
	expect_equal(owner["Seccomp:"], ["2"], "seccomp of the agent")


@test
def an_unreachable_vault_is_named_and_tried_until_it_answers(t):
	vault = t.vault()
	settings = t.vault_settings(vault, data_path="nbd", operation_deadline=2, attempt_timeout=5)
	disk, _ = formatted(t, vault, "data1", settings)
	vault.fault_add(match="unwrapkey", status=403, code="Forbidden", inner="ForbiddenByFirewall")
	process = t.start("serve", disk, "--config", settings, ready=lambda: states(t, settings).get(
		"data1", {}).get("cause") == "vault-firewall")
	code, _ = status(t, settings)
	expect_equal(code, STATUSES["vault-firewall"][0], "exit status of byok status")
	expect(STATUSES["vault-firewall"][1] in log_of(process), f"not in the log: {log_of(process)}")
	expect("request id" in log_of(process), "what Azure's support asks for is not in the log")
	vault.fault_clear()
	wait_until(lambda: is_serving(t, settings, "data1"), "unlocked volume", 60)
	expect_equal(stop(process), 0, "exit status of byok serve")


@test
def a_disk_that_the_vault_unwraps_wrongly_is_not_served(t):
	vault = t.vault()
	settings = t.vault_settings(vault, data_path="nbd")
	disk, _ = formatted(t, vault, "data1", settings)
	vault.fault_add(match="unwrapkey", value="wrong")
	t.start("serve", disk, "--config", settings, ready=lambda: states(t, settings).get(
		"data1", {}).get("cause") == "wrapped-mismatch")


@test
def lock_stops_one_volume_and_recover_brings_it_back_without_the_vault(t):
	vault = t.vault()
	settings, disks, _ = served(t, vault, "data1", "data2")
	t.byok("lock", "data1", "--config", settings)
	expect_equal(states(t, settings)["data1"]["state"], "locked", "state")
	# Nothing is wrong with it, but who asks whether all is served must hear that it is not.
	t.byok("status", "--config", settings, expect="not-served", object="data1")
	t.byok("status", "data2", "--config", settings)
	expect(not socket_of(t, "data1").exists(), "the socket is still there")
	expect(is_serving(t, settings, "data2"), "the other volume is not served any more")
	vault.stop()
	disk, recovery = disks[0]
	wrong = disks[1][1]
	t.byok("recover", disk, "--recovery-key-file", wrong, "--config", settings,
		expect="wrong-recovery-key", object=disk)
	t.byok("recover", disk, "--recovery-key-file", recovery, "--read-only", "--config", settings,
		expect="service-running", object=disk)
	t.byok("recover", disk, "--recovery-key-file", recovery, "--config", settings)
	expect(is_serving(t, settings, "data1"), "it is not served again")


@test
def a_typing_error_in_the_recovery_key_is_located(t):
	vault = t.vault()
	settings = t.vault_settings(vault)
	disk, recovery = formatted(t, vault, "data1", settings)
	text = recovery.read_text()
	groups = text.split("-")
	groups[4] = ("0" if groups[4][0] != "0" else "1") + groups[4][1:]
	typed = t.file("typed", "-".join(groups))
	done = t.byok("recover", disk, "--recovery-key-file", typed, "--nbd", t.path("s"), "--config",
		settings, expect="recovery-key-typo")
	expect("group 5 of 13" in done.stderr, done.stderr)
	typed = t.file("typed", text.lower().replace("-", " ") + "\n")
	t.start("recover", disk, "--recovery-key-file", typed, "--nbd", t.path("s"), "--config", settings,
		ready=t.path("s").exists)


@test
def many_disks_cost_one_token_and_one_unwrap_for_each_secret(t):
	vault = t.vault()
	settings = t.vault_settings(vault, data_path="nbd", key=vault.kid, provision_disks=t.path("lun*"))
	disks = [t.disk(f"lun{i}") for i in range(8)]
	t.byok("provision", "--config", settings)
	disks += [formatted(t, vault, f"own{i}", settings)[0] for i in range(8)]
	names = [f"data{i}" for i in range(8)] + [f"own{i}" for i in range(8)]
	vault.log_clear()
	process = t.start("serve", *disks, "--config", settings,
		ready=lambda: is_serving(t, settings, *names), timeout=120)
	expect_equal(len(vault.log(operation="token")), 1, "token requests")
	expect_equal(len(vault.log(operation="unwrapkey")), 9, "unwrap requests")
	expect_equal(len(vault.log()), 10, "requests")
	expect_equal(stop(process, 60), 0, "exit status of byok serve")


def prepared_workers(process):
	"""Of a supervisor that still waits for the vault."""
	children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
	return [int(pid) for pid in children if Path(f"/proc/{pid}/comm").read_text() == "byok-worker\n"]


@test
def a_worker_that_dies_before_there_is_a_key_is_no_loss(t):
	vault = t.vault()
	settings = t.vault_settings(vault, data_path="nbd")
	disk, _ = formatted(t, vault, "data1", settings)
	vault.fault_add(match="unwrapkey", delay=3)
	process = t.start("serve", disk, "--config", settings)
	for pid in wait_until(lambda: prepared_workers(process), "prepared worker"):
		os.kill(pid, signal.SIGKILL)
	wait_until(lambda: is_serving(t, settings, "data1"), "served volume")
	write_pattern(t, 8)
	expect("its users" not in log_of(process), log_of(process))


@test
def a_worker_that_dies_before_there_is_a_key_is_not_started_again_and_again(t):
	vault = t.vault()
	settings = t.vault_settings(vault, data_path="nbd", attempt_timeout=60)
	disk, _ = formatted(t, vault, "data1", settings)
	vault.fault_add(match="unwrapkey", delay=8)
	process = t.start("serve", disk, "--config", settings)
	for pid in wait_until(lambda: prepared_workers(process), "prepared worker"):
		os.kill(pid, signal.SIGKILL)
		wait_until(lambda: is_gone(pid), "end of the worker")
	for _ in range(2):
		expect_equal(states(t, settings)["data1"]["state"], "asking", "the state")
		expect_equal(prepared_workers(process), [], "the workers")
	wait_until(lambda: is_serving(t, settings, "data1"), "served volume")


@test
def without_a_key_there_are_no_workers_and_their_memory_is_given_back(t):
	vault = t.vault()
	settings = t.vault_settings(vault, data_path="nbd")
	disks = [formatted(t, vault, f"data{i}", settings)[0] for i in (1, 2)]
	vault.log_clear()
	vault.fault_add(match="unwrapkey", status=403, code="Forbidden", inner="ForbiddenByRbac")
	process = t.start("serve", *disks, "--config", settings)
	vault.wait_for_log(count=6, timeout=60, operation="unwrapkey")
	expect_equal(prepared_workers(process), [], "the workers")
	vault.fault_clear()
	wait_until(lambda: is_serving(t, settings, "data1", "data2"), "served volumes")


@test
def a_worker_that_gets_no_key_ends_with_the_supervisor_or_the_lock(t):
	vault = t.vault()
	settings = t.vault_settings(vault, data_path="nbd", attempt_timeout=60)
	disk, _ = formatted(t, vault, "data1", settings)
	vault.fault_add(match="unwrapkey", delay=60)
	for end in (lambda: t.byok("lock", "data1", "--config", settings), lambda: stop(process),
			lambda: process.kill()):
		process = t.start("serve", disk, "--config", settings)
		pids = wait_until(lambda: prepared_workers(process), "prepared worker")
		expect_equal(len(pids), 1, "the count of workers")
		end()
		wait_until(lambda: is_gone(pids[0]), "end of the worker")
		process.kill()
		process.wait()


@test
def an_agent_that_dies_is_replaced(t):
	vault = t.vault()
	settings, _, _ = served(t, vault, "data1")
	_, answer = status(t, settings)
	os.kill(answer["agent"]["pid"], signal.SIGKILL)
	wait_until(lambda: status(t, settings)[1]["agent"]["pid"] not in (0, answer["agent"]["pid"]),
		"new agent")
	expect(is_serving(t, settings, "data1"), "the volume suffered")


def worker_of(t, settings, name="data1"):
	return states(t, settings).get(name, {}).get("worker_pid", 0)


def has_other_worker(t, settings, old, name="data1"):
	"""In one look: between two the worker may have died, and the next one be on its way."""
	now = states(t, settings).get(name, {})
	return now.get("state") == "serving" and now["worker_pid"] not in (0, old)


def is_gone(pid):
	"""Its parent may be one that reaps no strangers."""
	try:
		return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
	except OSError:
		return True


def write_pattern(t, number, name="data1"):
	t.must("qemu-io", "-f", "raw", "-c", f"write -P {number} 0 1M", "-c", "flush",
		uri(socket_of(t, name)))


def read_pattern(t, number, name="data1"):
	t.must("qemu-io", "-f", "raw", "-c", f"read -P {number} 0 1M", uri(socket_of(t, name)))


def start_again(t, settings, disks, *names, **options):
	"""Another supervisor, after one that is gone; ready when it serves what it found."""
	return t.start("serve", *(d for d, _ in disks), "--config", settings,
		ready=lambda: is_serving(t, settings, *names), **options)


def leave(process):
	process.send_signal(signal.SIGUSR1)
	expect_equal(process.wait(30), 0, "exit status of byok serve")


@test
def a_worker_that_dies_is_replaced_without_the_vault(t):
	vault = t.vault()
	settings, _, process = served(t, vault, "data1")
	vault.stop()
	write_pattern(t, 9)
	old = worker_of(t, settings)
	os.kill(old, signal.SIGKILL)
	wait_until(lambda: has_other_worker(t, settings, old), "new worker")
	read_pattern(t, 9)
	expect("is served again" in log_of(process), log_of(process))


@test
def a_worker_that_dies_again_and_again_is_held_back(t):
	vault = t.vault()
	settings, _, process = served(t, vault, "data1")
	vault.stop()
	for _ in range(6):
		old = worker_of(t, settings)
		os.kill(old, signal.SIGKILL)
		wait_until(lambda: has_other_worker(t, settings, old), "new worker", 60)
	waits = [float(line.split(" started in ")[1].split()[0])
		for line in log_of(process).splitlines() if " started in " in line]
	expect_equal(len(waits), 6, "the count of restarts")
	expect_equal(waits[0], 0.0, "the first wait")
	expect(max(waits) > 0.1, f"the waits are {waits}")


@test
def a_disk_that_was_put_in_the_place_of_another_gets_no_byte_of_it(t):
	vault = t.vault()
	settings, disks, process = served(t, vault, "data1")
	disk = disks[0][0]
	other, _ = formatted(t, vault, "other", settings)
	other.rename(disk)
	before = disk.read_bytes()
	os.kill(worker_of(t, settings), signal.SIGKILL)
	wait_until(lambda: states(t, settings)["data1"]["cause"] == "header-changed", "refusal")
	expect(disk.read_bytes() == before, "it was written to")


@test
def a_worker_goes_on_when_the_supervisor_is_killed_and_ends_at_SIGTERM(t):
	vault = t.vault()
	settings, _, process = served(t, vault, "data1")
	worker = worker_of(t, settings)
	process.kill()
	process.wait()
	write_pattern(t, 4)
	read_pattern(t, 4)
	os.kill(worker, signal.SIGTERM)
	wait_until(lambda: is_gone(worker), "end of the worker")


@test
def the_next_supervisor_takes_over_what_a_killed_one_leaves_without_the_vault(t):
	vault = t.vault()
	settings, disks, process = served(t, vault, "data1", "data2")
	write_pattern(t, 4)
	before = states(t, settings)
	vault.stop()
	process.kill()
	process.wait()
	start_again(t, settings, disks, "data1", "data2")
	after = states(t, settings)
	for key in ("worker_pid", "uuid", "disk", "key"):
		expect_equal({n: v[key] for n, v in after.items()}, {n: v[key] for n, v in before.items()}, key)
	read_pattern(t, 4)
	# It is the master of them now: it hears of their end, has their keys, and can lock them.
	os.kill(before["data1"]["worker_pid"], signal.SIGKILL)
	wait_until(lambda: has_other_worker(t, settings, before["data1"]["worker_pid"]), "new worker")
	read_pattern(t, 4)
	t.byok("lock", "data2", "--config", settings)
	expect_equal(states(t, settings)["data2"]["state"], "locked", "state")
	wait_until(lambda: is_gone(before["data2"]["worker_pid"]), "end of the worker")


@test
def a_supervisor_that_is_told_to_leave_leaves_everything_to_the_next_one(t):
	vault = t.vault()
	settings, disks, process = served(t, vault, "data1")
	worker = worker_of(t, settings)
	vault.stop()
	leave(process)
	write_pattern(t, 5)
	process = start_again(t, settings, disks, "data1")
	expect_equal(worker_of(t, settings), worker, "the worker")
	expect_equal(stop(process), 0, "exit status of byok serve")
	wait_until(lambda: is_gone(worker), "end of the worker")


@test
def another_program_exchanges_the_workers_without_the_vault(t):
	vault = t.vault()
	settings, disks, process = served(t, vault, "data1", "data2")
	write_pattern(t, 6)
	old = [worker_of(t, settings, name) for name in ("data1", "data2")]
	vault.stop()
	leave(process)
	upgraded = t.path("byok-2")
	upgraded.write_bytes(Path(t.program).read_bytes())
	upgraded.chmod(0o755)
	t.start("serve", *(d for d, _ in disks), "--config", settings, program=upgraded,
		ready=lambda: has_other_worker(t, settings, old[0]) and
		has_other_worker(t, settings, old[1], "data2"))
	for name, pid in zip(("data1", "data2"), old):
		expect_equal(os.readlink(f"/proc/{worker_of(t, settings, name)}/exe"), str(upgraded), "program")
		wait_until(lambda: is_gone(pid), "end of the old worker")
	read_pattern(t, 6)


@test
def a_worker_hears_one_supervisor_at_a_time_and_no_nonsense(t):
	import socket
	vault = t.vault()
	settings, disks, process = served(t, vault, "data1")
	worker = worker_of(t, settings)
	path = str(t.path("run") / "data1.worker")
	expect_equal(oct(os.stat(path).st_mode & 0o777), oct(0o600), "mode of the worker's socket")

	def connect():
		client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
		client.settimeout(1)
		client.connect(path)
		return client

	request = (1).to_bytes(4, "little") + (10).to_bytes(4, "little") + (20).to_bytes(4, "little") + bytes(8)
	client = connect()
	client.send(request)
	try:
		client.recv(4096)
		raise AssertionError("it answers while it has a supervisor")
	except TimeoutError:
		client.close()
	process.kill()
	process.wait()
	for nonsense in (b"x", bytes(20), request[:19], request + b"x", b"\xff" * 4096):
		client = connect()
		client.send(nonsense)
		expect_equal(client.recv(4096), b"", f"the answer to {nonsense[:20]}")
		client.close()
	start_again(t, settings, disks, "data1")
	expect_equal(worker_of(t, settings), worker, "the worker")
	write_pattern(t, 7)


@test
def a_worker_that_hangs_keeps_nobody_else_waiting(t):
	vault = t.vault()
	settings, disks, process = served(t, vault, "data1", "data2")
	hung, other = worker_of(t, settings), worker_of(t, settings, "data2")
	process.kill()
	process.wait()
	os.kill(hung, signal.SIGSTOP)
	process = t.start("serve", *(d for d, _ in disks), "--config", settings,
		ready=lambda: is_serving(t, settings, "data2"))
	expect_equal(worker_of(t, settings, "data2"), other, "the other worker")
	expect("adopting" in [v["state"] for v in status(t, settings)[1]["volumes"]], "it is not shown")
	t.byok("lock", "data1", "--config", settings, expect="service-busy")
	os.kill(hung, signal.SIGCONT)
	wait_until(lambda: is_serving(t, settings, "data1"), "answer of the worker")
	expect_equal(worker_of(t, settings), hung, "the worker")


OTHER_WORKER = """
import os, socket, struct, sys
listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
listener.bind(sys.argv[1] + ".new")
listener.listen()
os.rename(sys.argv[1] + ".new", sys.argv[1])
while True:
	supervisor, _ = listener.accept()
	if supervisor.recv(100)[:12] == struct.pack("<3I", 1, 10, 20) and sys.argv[2]:
		supervisor.send(bytes.fromhex(sys.argv[2]))
		supervisor.recv(100)
	supervisor.close()
"""


def handover(disk, path, version):
	"""What a worker of data1 answers with, all of it good but perhaps its version."""
	start = struct.pack("<4I256s64s256s2I3Q2I64sI108s40sQI244x", 1, 4, 1104, 0, bytes(disk), b"data1", b"",
		2, 4096, 16 * MIB, 16 * MIB, 0, 0, 0, bytes(64), 0, bytes(path), b"", 1, 0)
	return struct.pack("<5I64sI3Q", 1, 11, 1216, 0, 2, b"/none", version, 0, 0, 0) + start


@test
def a_worker_of_another_version_is_left_alone_and_told_until_it_ends(t):
	"""What it says beside its version may mean anything; and one of yet another version may hang up."""
	vault = t.vault()
	settings = t.vault_settings(vault, data_path="nbd")
	disk, _ = formatted(t, vault, "data1", settings)
	vault.log_clear()
	t.path("run").mkdir(exist_ok=True)
	socket = t.path("run") / "data1.worker"
	for answer in (handover(disk, socket, 1).hex(), ""):
		worker = t.start("-c", OTHER_WORKER, socket, answer, program="/usr/bin/python3",
			ready=socket.exists)
		process = t.start("serve", disk, "--config", settings, ready=lambda: states(t, settings).get(
			"data1", {}).get("cause") == "name-taken")
		shown = next(v for v in status(t, settings)[1]["volumes"] if v["state"] == "adopting")
		expect_equal((shown["name"], shown["cause"], shown["worker_pid"]),
			("data1", "message", worker.pid), "what is shown of it")
		expect("of another version" in shown["detail"], shown["detail"])
		expect("of another version" in log_of(process), log_of(process))
		t.byok("lock", "data1", "--config", settings, expect="service-busy")
		expect_equal(vault.log(operation="unwrapkey"), [], "unwraps for a disk that is served")
		expect_equal(worker.poll(), None, "the exit status of the worker")
		stop(worker)
		wait_until(lambda: is_serving(t, settings, "data1"), "served volume")
		expect_equal(len(status(t, settings)[1]["volumes"]), 1, "the count of volumes")
		expect_equal(stop(process), 0, "exit status of byok serve")
		vault.log_clear()


@test
def named_disks_that_cannot_be_served_end_it_with_their_cause(t):
	vault = t.vault()
	settings = t.vault_settings(vault, data_path="nbd")
	local, _ = t.formatted("local")
	t.byok("serve", t.disk("blank"), "--config", settings, expect="not-luks", object="blank")
	t.byok("serve", t.path("nothing"), "--config", settings, expect="disk-absent")
	t.byok("serve", local, "--config", settings, expect="no-vault-token", object=local)


@test
def a_second_supervisor_is_refused_and_status_without_one_says_so(t):
	vault = t.vault()
	settings, disks, _ = served(t, vault, "data1")
	t.byok("serve", disks[0][0], "--config", settings, expect="service-running")
	t.byok("status", "--config", settings, "--run-directory", t.path("elsewhere"),
		expect="service-absent")
	t.byok("lock", "nobody", "--config", settings, expect="volume-unknown", object="nobody")


@test
def systemd_is_told_when_all_volumes_are_served(t):
	import socket
	vault = t.vault()
	settings = t.vault_settings(vault, data_path="nbd")
	disk, _ = formatted(t, vault, "data1", settings)
	listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
	listener.bind(str(t.path("notify")))
	listener.settimeout(30)
	process = t.start("serve", disk, "--config", settings,
		environment=os.environ | {"NOTIFY_SOCKET": str(t.path("notify"))})
	messages = []
	while not any(m.startswith("READY=1") for m in messages):
		messages.append(listener.recv(4096).decode())
	expect(is_serving(t, settings, "data1"), "ready too early")
	t.byok("lock", "data1", "--config", settings)
	while "STATUS=0 of 1 volumes served" not in messages[messages.index("READY=1"):]:
		messages.append(listener.recv(4096).decode())
	stop(process)
	listener.setblocking(False)
	try:
		while True:
			messages.append(listener.recv(4096).decode())
	except BlockingIOError:
		pass
	expect(any(m.startswith("STOPPING=1") for m in messages), f"no STOPPING: {messages}")


@test
def check_tries_everything_and_changes_nothing(t):
	vault = t.vault()
	settings = t.vault_settings(vault, data_path="nbd", key=vault.kid)
	disk, _ = formatted(t, vault, "data1", settings)
	before = disk.read_bytes()
	done = t.byok("check", disk, "--config", settings)
	expect_equal([line.split()[:2] for line in done.stdout.splitlines()],
		[["ok", "rights"], ["ok", "kernel"], ["ok", "key"], ["ok", "disk"]], "the steps")
	vault.revoke("bank", CLIENT_ID)
	t.byok("check", disk, "--config", settings, "--json", expect="vault-rbac", object=vault.kid)
	expect(disk.read_bytes() == before, "the disk was written to")
	vault.grant("bank", CLIENT_ID)
	luks2.overwrite(disk, luks2.header_size(disk) + 0x68, b"\xaa\x55")
	before = disk.read_bytes()
	done = t.byok("check", disk, "--config", settings)
	expect("one copy of the header is damaged" in done.stdout, f"it says {done.stdout}")
	expect(disk.read_bytes() == before, "the damaged copy was written to")


@test
def no_secret_reaches_the_log_or_the_state_of_any_process(t):
	vault = t.vault()
	settings, disks, process = served(t, vault, "data1", log_level="debug")
	recovery = disks[0][1].read_bytes()
	token = json.loads(t.byok("dump", disks[0][0], "--json").stdout)["metadata"]["tokens"]["0"]
	secret = base64.b64encode(vault.unwrap(token["kid"], token["wrapped"]))
	_, answer = status(t, settings)
	texts = [log_of(process).encode()]
	for pid in (process.pid, answer["agent"]["pid"], answer["volumes"][0]["worker_pid"]):
		texts += [Path(f"/proc/{pid}/cmdline").read_bytes(), Path(f"/proc/{pid}/environ").read_bytes()]
	for text in texts:
		expect(recovery not in text and secret not in text and b"eyJ" not in text,
			"a secret or a token shows")


@test
def an_agent_that_hangs_is_ended_and_replaced(t):
	vault = t.vault()
	settings = t.vault_settings(vault, data_path="nbd", attempt_timeout=1)
	disk, _ = formatted(t, vault, "data1", settings)
	vault.fault_add(match="unwrapkey", status=503, code="ServiceUnavailable")
	t.start("serve", disk, "--config", settings, ready=lambda: states(t, settings).get(
		"data1", {}).get("cause") == "vault-unavailable")
	agent = status(t, settings)[1]["agent"]["pid"]
	os.kill(agent, signal.SIGSTOP)
	vault.fault_clear()
	wait_until(lambda: is_serving(t, settings, "data1"), "unlocked volume", 90)
	expect(status(t, settings)[1]["agent"]["pid"] != agent, "it is the same agent")


@test
def a_server_cannot_ask_for_more_patience_than_a_minute(t):
	vault = t.vault()
	settings = t.vault_settings(vault, data_path="nbd", attempt_timeout=5)
	disk, _ = formatted(t, vault, "data1", settings)
	vault.fault_add(match="unwrapkey", status=503, code="ServiceUnavailable", retry_after=3600)
	t.start("serve", disk, "--config", settings, ready=lambda: states(t, settings).get(
		"data1", {}).get("cause") == "vault-unavailable")
	wait = states(t, settings)["data1"]["next_try_seconds"]
	expect(20 < wait <= 60, f"the next try is in {wait} s")


@test
def a_disk_under_another_key_is_refused_where_the_settings_demand_theirs(t):
	vault = t.vault()
	settings = t.vault_settings(vault, data_path="nbd")
	mine, _ = formatted(t, vault, "mine", settings)
	other = t.disk("other")
	vault.vault_create("evil")
	vault.grant("evil", CLIENT_ID)
	kid = vault.key_create("evil", "other", size=2048)
	t.byok("format", other, "--name", "other", "--key", kid, "--config", settings)
	settings = t.vault_settings(vault, data_path="nbd", key=vault.kid, require_key="yes")
	vault.log_clear()
	t.start("serve", mine, other, "--config", settings,
		ready=lambda: is_serving(t, settings, "mine") and states(t, settings).get(
		"other", {}).get("cause") == "key-foreign")
	expect(not vault.log(host="evil.vault.azure.net"), "the foreign vault was asked")


@test
def a_header_that_asks_for_absurd_work_holds_up_nobody_else(t):
	vault = t.vault()
	settings = t.vault_settings(vault, data_path="nbd")
	good, _ = formatted(t, vault, "good", settings)
	costly, _ = formatted(t, vault, "costly", settings)
	secret = vault.unwrap(*[json.loads(t.byok("dump", costly, "--json").stdout)["metadata"]["tokens"]["0"][k]
		for k in ("kid", "wrapped")])
	key = t.file("slot", base64.b64encode(secret))
	t.must("cryptsetup", "luksChangeKey", "--key-slot", "0", "--key-file", key, "--pbkdf", "pbkdf2",
		"--pbkdf-force-iterations", "4000000", costly, key)
	t.start("serve", costly, good, "--config", settings,
		ready=lambda: is_serving(t, settings, "good") and states(t, settings).get(
		"costly", {}).get("cause") == "kdf-cost")


@test
def a_failed_recover_leaves_no_disk_behind_and_takes_nobodys_name(t):
	vault = t.vault()
	settings, disks, _ = served(t, vault, "data1")
	recovery = disks[0][1]
	t.byok("recover", t.path("nothing"), "--recovery-key-file", recovery, "--config", settings,
		expect="disk-absent")
	twin, twin_recovery = t.disk("twin"), t.path("twin.recovery")
	t.byok("format", twin, "--name", "data1", "--key", vault.kid, "--config", settings,
		"--recovery-key-file", twin_recovery)
	t.byok("recover", twin, "--recovery-key-file", twin_recovery, "--config", settings,
		expect="name-taken")
	expect_equal(len(status(t, settings)[1]["volumes"]), 1, "the count of volumes")
	t.must("nbdinfo", uri(socket_of(t, "data1")))


@test
def a_long_outage_is_not_a_long_log(t):
	vault = t.vault()
	settings = t.vault_settings(vault, data_path="nbd", attempt_timeout=2)
	disks = [formatted(t, vault, f"data{i}", settings)[0] for i in (1, 2)]
	vault.log_clear()
	vault.fault_add(match="unwrapkey", status=403, code="Forbidden", inner="ForbiddenByRbac")
	process = t.start("serve", *disks, "--config", settings)
	vault.wait_for_log(count=12, timeout=60, operation="unwrapkey")
	lines = [line for line in log_of(process).splitlines() if "vault" in line]
	expect(len(lines) <= 4, f"{len(lines)} lines: {lines}")


@test
def ready_waits_for_as_many_volumes_as_are_expected(t):
	vault = t.vault()
	settings, _, process = served(t, vault, "data1", expected_volumes=2)
	time.sleep(0.5)
	expect("ready:" not in log_of(process), "ready too early")
	expect_equal(log_of(process).count("1 of 2 expected disks"), 1, "how often it is told")
	t.byok("status", "--config", settings, expect="not-served", object="1 of 2 disks are attached")
	t.byok("status", "data1", "--config", settings)


@test
def an_agent_that_refuses_its_settings_is_named_and_is_not_a_long_log(t):
	vault = t.vault()
	settings = t.vault_settings(vault, data_path="nbd")
	disk, _ = formatted(t, vault, "data1", settings)
	process = t.start("serve", disk, "--config", settings, "--ca-file", t.path("absent.pem"))
	wait_until(lambda: states(t, settings).get("data1", {}).get("cause") == "file", "the cause")
	time.sleep(3)
	code, answer = status(t, settings)
	expect_equal(code, STATUSES["file"][0], "exit status")
	expect("vault agent" in answer["volumes"][0]["detail"], f"it says {answer['volumes'][0]}")
	expect_equal(log_of(process).count("absent.pem"), 1, "how often it is told")


@test
def a_worker_has_no_network_and_only_the_rights_it_needs(t):
	vault = t.vault()
	settings, _, process = served(t, vault, "data1")
	worker = states(t, settings)["data1"]["worker_pid"]
	lines = dict(line.split(":", 1) for line in
		Path(f"/proc/{worker}/status").read_text().splitlines() if ":" in line)
	expect_equal(lines["Seccomp"].strip(), "2", "seccomp")
	rights = int(lines["CapEff"], 16)
	expect_equal(rights & ~(1 << 21 | 1 << 24 | 1 << 14 | 1 << 23 | 1 << 1), 0, "rights beyond the five")
	expect(os.readlink(f"/proc/{worker}/ns/net") != os.readlink(f"/proc/{process.pid}/ns/net"),
		"it is in the machine's network")

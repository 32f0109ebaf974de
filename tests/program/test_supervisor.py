"""byok serve with the vault: supervisor, vault agent and workers as processes, by NBD sockets, which any
kernel has. (The VM's tests are the same on ublk.)"""

import base64
import json
import os
import signal
import time
from pathlib import Path

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
	expect(not socket_of(t, "data1").exists(), "the socket is still there")
	expect(is_serving(t, settings, "data2"), "the other volume is not served any more")
	vault.stop()
	disk, recovery = disks[0]
	wrong = disks[1][1]
	t.byok("recover", disk, "--recovery-key-file", wrong, "--config", settings,
		expect="wrong-recovery-key", object=disk)
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
def an_agent_that_dies_is_replaced(t):
	vault = t.vault()
	settings, _, _ = served(t, vault, "data1")
	_, answer = status(t, settings)
	os.kill(answer["agent"]["pid"], signal.SIGKILL)
	wait_until(lambda: status(t, settings)[1]["agent"]["pid"] not in (0, answer["agent"]["pid"]),
		"new agent")
	expect(is_serving(t, settings, "data1"), "the volume suffered")


@test
def a_worker_that_dies_is_replaced_after_asking_the_vault(t):
	vault = t.vault()
	settings, _, _ = served(t, vault, "data1")
	t.must("qemu-io", "-f", "raw", "-c", "write -P 9 0 1M", "-c", "flush", uri(socket_of(t, "data1")))
	old = states(t, settings)["data1"]["worker_pid"]
	os.kill(old, signal.SIGKILL)
	wait_until(lambda: is_serving(t, settings, "data1") and
		states(t, settings)["data1"]["worker_pid"] != old, "new worker")
	t.must("qemu-io", "-f", "raw", "-c", "read -P 9 0 1M", uri(socket_of(t, "data1")))


@test
def a_worker_goes_on_when_the_supervisor_is_killed(t):
	vault = t.vault()
	settings, _, process = served(t, vault, "data1")
	worker = states(t, settings)["data1"]["worker_pid"]
	process.kill()
	process.wait()
	t.must("qemu-io", "-f", "raw", "-c", "write -P 4 0 1M", "-c", "read -P 4 0 1M",
		uri(socket_of(t, "data1")))
	os.kill(worker, signal.SIGTERM)
	wait_until(lambda: not Path(f"/proc/{worker}").exists(), "end of the worker")


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

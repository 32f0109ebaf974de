"""byok serve watches the keys of what it serves: versions are followed, losses told and healed."""

import json
import os
import signal
import time

import luks2
from harness import CLIENT_ID, STATUSES, Failure, expect, expect_equal, log_of, metadata_of, stop, \
	test, uri, wait_until

FIREWALL = {"status": 403, "code": "Forbidden", "inner": "ForbiddenByFirewall"}
UNAVAILABLE = {"status": 503, "code": "ServiceUnavailable"}


def versionless(kid):
	return kid.rsplit("/", 1)[0]


def watched_settings(t, vault, **values):
	"""As short as settings can be, so that a test need not wait for minutes."""
	own = {"data_path": "nbd", "operation_deadline": 5, "attempt_timeout": 5, "probe_interval": 1,
		"probe_retry": 1, "follow_interval": 1}
	return t.vault_settings(vault, **(own | values))


def formatted(t, vault, name, settings):
	disk = t.disk(name)
	t.byok("format", disk, "--name", name, "--config", settings, "--recovery-key-file",
		t.path(f"{name}.recovery"))
	return disk


def status_of(t, settings):
	done = t.run(t.program, "status", "--json", "--config", settings)
	return done.returncode, json.loads(done.stdout) if done.stdout else {"volumes": []}


def volumes(t, settings):
	return {v["name"]: v for v in status_of(t, settings)[1]["volumes"]}


def access(t, settings, name="data1"):
	return volumes(t, settings).get(name, {}).get("access", {"state": "", "cause": ""})


def is_serving(t, settings, *names):
	now = volumes(t, settings)
	return all(now.get(name, {}).get("state") == "serving" for name in names)


def served(t, vault, *names, key=None, **values):
	settings = watched_settings(t, vault, key=key or versionless(vault.kid), **values)
	disks = [formatted(t, vault, name, settings) for name in names]
	vault.log_clear()
	process = t.start("serve", *disks, "--config", settings,
		ready=lambda: is_serving(t, settings, *names))
	return settings, disks, process


def await_state(t, settings, state, cause=None, name="data1", timeout=30):
	def is_there():
		now = access(t, settings, name)
		return now["state"] == state and cause in (None, now["cause"])
	wait_until(is_there, f"state {state} of {name}, but {access(t, settings, name)}", timeout)


def token_of(t, disk):
	tokens = metadata_of(t, disk)["metadata"]["tokens"].values()
	return next(token for token in tokens if token["type"] == "byok-akv")


def socket_of(t, name):
	return t.path("run") / f"{name}.nbd"


def write_pattern(t, number, name="data1"):
	t.must("qemu-io", "-f", "raw", "-c", f"write -P {number} 0 1M", "-c", "flush",
		uri(socket_of(t, name)))


def read_pattern(t, number, name="data1"):
	t.must("qemu-io", "-f", "raw", "-c", f"read -P {number} 0 1M", uri(socket_of(t, name)))


# --- following ---


@test
def a_key_without_version_is_pinned_by_format_and_followed_by_serve(t):
	vault = t.vault()
	settings, disks, process = served(t, vault, "data1", "data2")
	for disk in disks:
		expect_equal(token_of(t, disk)["kid"], vault.kid, "what format has pinned")
	write_pattern(t, 5)
	newest = vault.key_rotate("bank", "broker")
	wait_until(lambda: {v["key"] for v in volumes(t, settings).values()} == {newest},
		"new version on both disks")
	for disk in disks:
		expect_equal(token_of(t, disk)["kid"], newest, "the key on the disk")
	wait_until(lambda: not any("previous" in token_of(t, disk) for disk in disks),
		"end of the old wrapping")
	read_pattern(t, 5)
	expect_equal(status_of(t, settings)[1]["follow"],
		{"key": versionless(vault.kid), "newest": newest, "cause": "ok"}, "what is followed")
	expect_equal(stop(process), 0, "exit status")
	vault.key_disable("bank", "broker", version=vault.kid[-32:])
	for disk in disks:
		expect(luks2.both_are_whole_and_equal(disk), f"the copies of the header of {disk} differ")
		t.byok("rescue", disk, "--config", settings)


@test
def the_old_wrapping_stays_until_the_next_good_look(t):
	vault = t.vault()
	settings, disks, _ = served(t, vault, "data1")
	newest = vault.key_rotate("bank", "broker")
	wait_until(lambda: token_of(t, disks[0])["kid"] == newest, "new version")
	before = len(vault.log(operation="unwrapkey"))
	wait_until(lambda: "previous" not in token_of(t, disks[0]), "end of the old wrapping")
	expect(len(vault.log(operation="unwrapkey")) > before, "it was dropped without another look")


@test
def the_old_wrapping_is_kept_while_no_look_is_good(t):
	vault = t.vault()
	settings, disks, _ = served(t, vault, "data1", probe_interval=600, probe_retry=3)
	vault.log_clear()
	newest = vault.key_rotate("bank", "broker")
	wait_until(lambda: token_of(t, disks[0])["kid"] == newest, "new version")
	vault.fault_add(match="unwrapkey", **UNAVAILABLE)
	count = len(vault.log(operation="unwrapkey"))
	vault.wait_for_log(count=count + 2, operation="unwrapkey")
	expect_equal(token_of(t, disks[0])["previous"]["kid"], vault.kid, "the wrapping before")
	vault.fault_clear()
	wait_until(lambda: "previous" not in token_of(t, disks[0]), "end of the old wrapping")


@test
def a_version_is_not_followed_that_will_not_do(t):
	vault = t.vault()
	settings, disks, process = served(t, vault, "data1")
	before = luks2.content_hash(disks[0])
	follow = lambda: status_of(t, settings)[1]["follow"]["cause"]
	for options, cause in [(dict(disabled=True), "key-disabled"), (dict(nbf="+3600"),
			"key-not-yet-valid"), (dict(exp="-60"), "key-expired"),
			(dict(ops=["sign", "verify"]), "key-operations")]:
		newest = vault.key_create("bank", "broker", size=2048, **options)
		wait_until(lambda: follow() == cause, f"refusal of a {cause} version, but {follow()}")
		expect_equal(newest in log_of(process), False, "the newest version in the log")
	expect_equal(log_of(process).count(STATUSES["key-disabled"][1]), 1, "lines about it")
	expect_equal(access(t, settings)["state"], "ok", "the state of the key in use")
	expect_equal(luks2.content_hash(disks[0]), before, "the disk")
	newest = vault.key_create("bank", "broker", size=2048)
	wait_until(lambda: token_of(t, disks[0])["kid"] == newest, "new version")


@test
def a_key_with_its_version_is_not_followed_nor_is_another_key(t):
	vault = t.vault()
	other = vault.key_create("bank", "other", size=2048)
	settings, disks, _ = served(t, vault, "data1", key=vault.kid)
	vault.key_rotate("bank", "broker")
	vault.wait_for_log(count=3, operation="unwrapkey")
	expect_equal(token_of(t, disks[0])["kid"], vault.kid, "the key")
	expect_equal(vault.log(operation="get"), [], "questions for a version")
	t.byok("rotate", disks[0], "--key", other, "--config", settings)
	expect_equal(token_of(t, disks[0])["kid"], other, "the key")


@test
def without_a_key_in_the_settings_keys_are_watched_and_nothing_is_followed(t):
	vault = t.vault()
	disk, settings = t.disk("data1"), watched_settings(t, vault)
	t.byok("format", disk, "--name", "data1", "--key", vault.kid, "--config", settings)
	vault.log_clear()
	t.start("serve", disk, "--config", settings, ready=lambda: is_serving(t, settings, "data1"))
	vault.key_rotate("bank", "broker")
	vault.wait_for_log(count=3, operation="unwrapkey")
	expect_equal(token_of(t, disk)["kid"], vault.kid, "the key")
	expect_equal(vault.log(operation="get"), [], "questions for a version")
	vault.key_disable("bank", "broker", version=vault.kid[-32:])
	await_state(t, settings, "lost", "key-disabled")


@test
def a_move_that_fails_leaves_the_disk_and_is_made_when_it_can_be(t):
	vault = t.vault()
	settings, disks, process = served(t, vault, "data1")
	before = luks2.content_hash(disks[0])
	for fault, cause in [(dict(match="wrapkey", **FIREWALL), "vault-firewall"),
			(dict(match="wrapkey", kid="wrong"), "key-id")]:
		vault.fault_add(**fault)
		vault.key_rotate("bank", "broker")
		wait_until(lambda: access(t, settings)["rotation"] == cause, f"failure {cause}")
		expect_equal(luks2.content_hash(disks[0]), before, "the disk")
		vault.fault_clear()
		newest = vault.key_rotate("bank", "broker")
		wait_until(lambda: token_of(t, disks[0])["kid"] == newest, "new version")
		wait_until(lambda: "previous" not in token_of(t, disks[0]), "end of the old wrapping")
		expect_equal(access(t, settings)["rotation"], "ok", "the failure that was")
		before = luks2.content_hash(disks[0])


@test
def without_the_old_key_a_version_is_not_followed(t):
	vault = t.vault()
	settings, disks, _ = served(t, vault, "data1")
	vault.key_disable("bank", "broker", version=vault.kid[-32:])
	newest = vault.key_rotate("bank", "broker")
	await_state(t, settings, "lost", "key-disabled")
	wait_until(lambda: access(t, settings)["rotation"] == "key-disabled", "reason why it is not moved")
	expect_equal(token_of(t, disks[0])["kid"], vault.kid, "the key")
	vault.key_enable("bank", "broker", version=vault.kid[-32:])
	wait_until(lambda: token_of(t, disks[0])["kid"] == newest, "new version")
	await_state(t, settings, "ok")


@test
def a_version_that_vanishes_is_replaced_by_way_of_the_one_before(t):
	"""As after a failover to a region that has not heard of it yet."""
	vault = t.vault()
	settings, disks, process = served(t, vault, "data1", probe_interval=600, probe_retry=600)
	newest = vault.key_rotate("bank", "broker")
	wait_until(lambda: token_of(t, disks[0])["kid"] == newest, "new version")
	expect_equal(token_of(t, disks[0])["previous"]["kid"], vault.kid, "the one before")
	expect_equal(stop(process), 0, "exit status")
	vault.key_vanish("bank", "broker", newest[-32:])
	process = t.start("serve", *disks, "--config", settings,
		ready=lambda: is_serving(t, settings, "data1"))
	wait_until(lambda: token_of(t, disks[0])["kid"] == vault.kid, "the one before again", 60)


@test
def a_rotation_by_hand_and_one_by_serve_at_once_leave_one_outcome(t):
	vault = t.vault()
	settings, disks, _ = served(t, vault, "data1")
	passphrase = t.byok("rescue", disks[0], "--config", settings).stdout
	for _ in range(4):
		newest = vault.key_rotate("bank", "broker")
		processes = [t.start("rotate", disks[0], "--config", settings) for _ in range(2)]
		codes = {process.wait(60) for process in processes}
		expect(codes <= {0, STATUSES["header-changed"][0]}, f"exit statuses {codes}")
		wait_until(lambda: token_of(t, disks[0])["kid"] == newest and
			"previous" not in token_of(t, disks[0]), "one outcome")
		expect_equal(t.byok("rescue", disks[0], "--config", settings).stdout, passphrase,
			"the passphrase")
	expect(luks2.both_are_whole_and_equal(disks[0]), "the copies of the header differ")


@test
def what_rotate_has_done_is_seen_at_once_in_status(t):
	vault = t.vault()
	settings, disks, _ = served(t, vault, "data1", key=vault.kid, probe_interval=600)
	newest = vault.key_rotate("bank", "broker")
	t.byok("rotate", disks[0], "--config", settings)
	wait_until(lambda: volumes(t, settings)["data1"]["key"] == newest, "new key in status", 10)


@test
def a_supervisor_killed_at_any_call_of_a_move_leaves_it_to_the_next_one(t):
	vault = t.vault()
	settings, disks, process = served(t, vault, "data1")
	passphrase = t.byok("rescue", disks[0], "--config", settings).stdout
	write_pattern(t, 6)
	for operation, after in (("unwrapkey", 0), ("wrapkey", 0), ("unwrapkey", 1), ("unwrapkey", 2)):
		vault.fault_add(match=operation, after=after, times=1, delay=2)
		newest = vault.key_rotate("bank", "broker")
		wait_until(lambda: any(f["used"] for f in vault.fault_list()), "call")
		process.kill()
		process.wait()
		vault.fault_clear()
		expect_equal(t.byok("rescue", disks[0], "--config", settings).stdout, passphrase,
			f"the passphrase after {operation} {after}")
		process = t.start("serve", *disks, "--config", settings,
			ready=lambda: is_serving(t, settings, "data1"))
		wait_until(lambda: token_of(t, disks[0])["kid"] == newest and
			"previous" not in token_of(t, disks[0]), "whole move", 60)
		expect(luks2.both_are_whole_and_equal(disks[0]), "the copies of the header differ")
	read_pattern(t, 6)


@test
def cryptsetup_may_change_the_header_while_versions_are_followed(t):
	vault = t.vault()
	settings, disks, _ = served(t, vault, "data1")
	disk, recovery = disks[0], t.path("data1.recovery")
	passphrase = t.byok("rescue", disk, "--config", settings).stdout
	token = t.file("token", '{"type":"somebody-else","keyslots":[]}')
	keys = [recovery, t.file("second", "a second key")]

	def change(*words):
		"""True if it was made; cryptsetup, too, leaves a header alone that changed under it."""
		done = t.run(t.tool("cryptsetup"), *words)
		expect(done.returncode == 0 or "concurrent LUKS2 metadata update" in done.stderr, done.stderr)
		return done.returncode == 0

	for number in range(6):
		newest = vault.key_rotate("bank", "broker")
		deadline = time.monotonic() + 60
		while token_of(t, disk)["kid"] != newest:
			expect(time.monotonic() < deadline, "the new version is not taken")
			change("token", "import", disk, "--token-id", 20, "--json-file", token)
			if change("luksChangeKey", "-q", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", 1000,
					"--key-file", keys[0], disk, keys[1]):
				keys.reverse()
			change("token", "remove", disk, "--token-id", 20)
	t.must("cryptsetup", "token", "import", disk, "--token-id", 20, "--json-file", token)
	expect_equal(metadata_of(t, disk)["metadata"]["tokens"]["20"]["type"], "somebody-else")
	t.must("cryptsetup", "open", "--test-passphrase", "--key-file", keys[0], disk)
	expect_equal(t.byok("rescue", disk, "--config", settings).stdout, passphrase, "the passphrase")
	expect(luks2.both_are_whole_and_equal(disk), "the copies of the header differ")


@test
def a_header_without_room_for_another_wrapping_stays_and_is_told(t):
	vault = t.vault()
	settings, disks, process = served(t, vault, "data1")

	def fill(metadata):
		used = len(luks2.read(disks[0]).text)
		metadata["tokens"]["9"] = {"type": "somebody-else", "keyslots": [],
			"x": "x" * (65536 - 4096 - 500 - used)}
	luks2.change_metadata(disks[0], fill)
	before = luks2.content_hash(disks[0])
	vault.key_rotate("bank", "broker")
	wait_until(lambda: access(t, settings)["rotation"] == "metadata-full", "refusal")
	await_state(t, settings, "ok")
	expect_equal(luks2.content_hash(disks[0]), before, "the disk")
	expect(STATUSES["metadata-full"][1] in t.run(t.program, "status", "--config", settings).stdout,
		"it is not in status")


@test
def a_disk_that_is_pulled_out_says_nothing_of_its_key(t):
	vault = t.vault()
	settings, disks, _ = served(t, vault, "data1", "data2")
	write_pattern(t, 4)
	disks[0].rename(t.path("elsewhere"))
	count = len(vault.log(operation="unwrapkey"))
	vault.wait_for_log(count=count + 4, operation="unwrapkey")
	await_state(t, settings, "ok")
	expect_equal(volumes(t, settings)["data1"]["cause"], "disk-absent", "the cause")
	read_pattern(t, 4)
	t.path("elsewhere").rename(disks[0])
	wait_until(lambda: volumes(t, settings)["data1"]["cause"] == "ok", "look at the disk")
	newest = vault.key_rotate("bank", "broker")
	wait_until(lambda: token_of(t, disks[0])["kid"] == newest, "new version")


@test
def a_disk_that_comes_back_as_another_device_is_given_up_and_served_there(t):
	"""NBD sockets have no users that would hold them; the VM has."""
	vault = t.vault()
	settings = watched_settings(t, vault, key=vault.kid)
	old, link = formatted(t, vault, "data1", settings), t.path("lun0")
	link.symlink_to(old)
	process = t.start("serve", link, "--config", settings, ready=lambda: is_serving(t, settings, "data1"))
	write_pattern(t, 7)
	worker = volumes(t, settings)["data1"]["worker_pid"]
	new = t.file("sdd", old.read_bytes())
	old.unlink()
	wait_until(lambda: volumes(t, settings)["data1"]["cause"] == "disk-absent", "cause")
	t.byok("status", "data1", "--config", settings, expect="disk-absent", object="data1")
	wait_until(lambda: volumes(t, settings)["data1"]["state"] == "waiting", "end of the worker", 90)
	expect("is not at" in log_of(process), log_of(process))
	link.unlink()
	link.symlink_to(new)
	wait_until(lambda: is_serving(t, settings, "data1"), "served volume")
	expect(volumes(t, settings)["data1"]["worker_pid"] != worker, "it is the worker before")
	read_pattern(t, 7)
	write_pattern(t, 8)
	t.byok("status", "--config", settings)


@test
def a_header_that_would_not_open_again_is_told_while_the_disk_is_served(t):
	vault = t.vault()
	settings, disks, process = served(t, vault, "data1", key=vault.kid)
	disk, recovery = disks[0], t.path("data1.recovery")
	with open(disk, "rb") as file:
		header = file.read(1024 * 1024)
	write_pattern(t, 3)
	token = next(number for number, token in metadata_of(t, disk)["metadata"]["tokens"].items()
		if token["type"] == "byok-akv")

	def damage():
		for copy in (0, 65536):
			luks2.overwrite(disk, copy + 5000, b"damage")
	for take_away, causes in [(damage, {"header-damaged"}),
			(lambda: luks2.overwrite(disk, 0, bytes(1024 * 1024)), {"not-luks"}),
			(lambda: t.must("cryptsetup", "token", "remove", "--token-id", token, disk),
				{"no-vault-token"}),
			(lambda: t.must("cryptsetup", "luksKillSlot", "-q", "--key-file", recovery, disk, "0"),
				{"token"})]:
		take_away()
		wait_until(lambda: volumes(t, settings)["data1"]["cause"] in causes,
			f"one of {causes}, but {volumes(t, settings)['data1']}")
		cause = volumes(t, settings)["data1"]["cause"]
		t.byok("status", "--config", settings, expect=cause, object="data1")
		expect(f"data1 is served, but would not be again: {STATUSES[cause][1]}" in log_of(process),
			log_of(process))
		wait_until(lambda: f'cause="{cause}"}} 1' in t.path("run/metrics.prom").read_text(), "metric")
		read_pattern(t, 3)
		luks2.overwrite(disk, 0, header)
		wait_until(lambda: volumes(t, settings)["data1"]["cause"] == "ok", "good look")
		t.byok("status", "--config", settings)


@test
def a_copy_of_the_header_that_is_damaged_while_the_disk_is_served_is_renewed_and_counted(t):
	vault = t.vault()
	settings, disks, _ = served(t, vault, "data1", key=vault.kid)
	for number, copy in enumerate((0, 65536), 1):
		luks2.overwrite(disks[0], copy + 5000, b"damage")
		wait_until(lambda: f"}} {number}\n" in next(line for line in
			t.path("run/metrics.prom").read_text().splitlines(True)
			if line.startswith("byok_header_repairs_total{")), f"repair {number}")
		expect(luks2.both_are_whole_and_equal(disks[0]), "the copies differ")
	t.byok("status", "--config", settings)


@test
def another_identity_of_the_machine_is_not_taken_in_place_of_the_one_that_was_named(t):
	other = "22222222-2222-3333-4444-555555555555"
	vault = t.vault()
	settings, disks, process = served(t, vault, "data1")
	stop(process)
	vault.identity_remove(CLIENT_ID)
	vault.identity_add(other)
	vault.grant("bank", other)
	vault.log_clear()
	t.start("serve", *disks, "--config", settings,
		ready=lambda: volumes(t, settings).get("data1", {}).get("cause") == "identity-none")
	await_state(t, settings, "lost", "identity-none")
	expect_equal(vault.log(operation="unwrapkey"), [], "unwraps by the other one")
	vault.identity_add(CLIENT_ID)
	wait_until(lambda: is_serving(t, settings, "data1"), "unlocked volume", 60)


# --- copies of headers ---


@test
def a_copy_of_each_header_is_kept_new_and_brings_a_disk_back(t):
	vault = t.vault()
	settings, disks, process = served(t, vault, "data1")
	disk = disks[0]
	copy = t.path("backups") / f"{metadata_of(t, disk)['uuid']}.header"
	kid_of_copy = lambda: next(token["kid"] for token in
		metadata_of(t, copy)["metadata"]["tokens"].values() if token["type"] == "byok-akv")
	wait_until(copy.exists, "copy")
	expect_equal(kid_of_copy(), vault.kid, "the key in the copy")
	about = copy.stat()
	expect_equal((about.st_mode & 0o777, about.st_size), (0o600, 16 * 1024 * 1024), "mode and size")
	expect(about.st_blocks * 512 < 2 * 1024 * 1024, f"it takes {about.st_blocks} blocks")
	write_pattern(t, 3)
	newest = vault.key_rotate("bank", "broker")
	wait_until(lambda: kid_of_copy() == newest and
		metadata_of(t, copy)["sequence_id"] == metadata_of(t, disk)["sequence_id"], "new copy")
	t.byok("recovery", "remove", disk, "--config", settings)
	wait_until(lambda: len(metadata_of(t, copy)["metadata"]["keyslots"]) == 1, "new copy")
	stop(process)
	for offset in (5000, 65536 + 5000):
		luks2.overwrite(disk, offset, os.urandom(100))
	t.byok("restore", disk, copy)
	t.start("serve", disk, "--config", settings, ready=lambda: is_serving(t, settings, "data1"))
	read_pattern(t, 3)


@test
def a_copy_that_cannot_be_kept_is_told_once_and_holds_nothing_up(t):
	vault = t.vault()
	settings, _, process = served(t, vault, "data1", backup_directory=t.file("in-the-way", "x"))
	count = len(vault.log(operation="unwrapkey"))
	vault.wait_for_log(count=count + 3, operation="unwrapkey")
	expect_equal(log_of(process).count("no copy of the header of data1"), 1, "lines about it")
	stop(process)
	settings, _, process = served(t, vault, "data2", backup_directory="none")
	expect(not t.path("backups").exists(), "copies were made")
	expect("no copy" not in log_of(process), log_of(process))


# --- watching ---


@test
def a_loss_is_raised_after_two_bad_looks_and_cleared_by_a_good_one(t):
	vault = t.vault()
	settings, _, process = served(t, vault, "data1")
	write_pattern(t, 7)
	cases = [
		("key-disabled", "lost", lambda: vault.key_disable("bank", "broker", all=True),
			lambda: vault.key_enable("bank", "broker", all=True)),
		("key-gone", "lost", lambda: vault.key_delete("bank", "broker"),
			lambda: vault.key_recover("bank", "broker")),
		("vault-rbac", "lost", lambda: vault.revoke("bank", CLIENT_ID),
			lambda: vault.grant("bank", CLIENT_ID)),
		("vault-firewall", "lost", lambda: vault.vault_set("bank", network="firewall"),
			lambda: vault.vault_set("bank", network="open")),
		("vault-private-link", "lost", lambda: vault.vault_set("bank", network="private-link"),
			lambda: vault.vault_set("bank", network="open")),
		("vault-unavailable", "degraded", lambda: vault.fault_add(match="vault", **UNAVAILABLE),
			vault.fault_clear),
		("vault-throttled", "degraded", lambda: vault.fault_add(match="vault", status=429,
			code="Throttled"), vault.fault_clear),
		("wrapped-mismatch", "wrong-key", lambda: vault.fault_add(match="unwrapkey", value="wrong"),
			vault.fault_clear),
		("key-id", "wrong-key", lambda: vault.fault_add(match="unwrapkey", kid="wrong"),
			vault.fault_clear),
	]
	for cause, state, take_away, give_back in cases:
		take_away()
		await_state(t, settings, state, cause)
		code, answer = status_of(t, settings)
		expect_equal(code, STATUSES[cause][0], "exit status of byok status")
		expect_equal(answer["volumes"][0]["state"], "serving", "the volume")
		read_pattern(t, 7)
		text = t.run(t.program, "status", "--config", settings).stdout
		expect(f"key {state}: {STATUSES[cause][1]}" in text, text)
		expect(f"the key of data1 is {state}: {STATUSES[cause][1]}" in log_of(process),
			f"{cause} is not in the log: {log_of(process)}")
		give_back()
		await_state(t, settings, "ok")
		expect_equal(status_of(t, settings)[0], 0, "exit status of byok status")
	expect_equal(log_of(process).count("the key of data1 is ok again"), len(cases), "lines of healing")


@test
def one_bad_look_raises_nothing(t):
	vault = t.vault()
	settings, _, process = served(t, vault, "data1")
	vault.fault_add(match="unwrapkey", times=1, **FIREWALL)
	wait_until(lambda: "a look at the key of data1 failed" in log_of(process), "line about it")
	count = len(vault.log(operation="unwrapkey"))
	vault.wait_for_log(count=count + 2, operation="unwrapkey")
	await_state(t, settings, "ok", "ok")
	expect("the key of data1 is" not in log_of(process), log_of(process))


@test
def a_vault_that_is_not_there_is_no_lost_key(t):
	vault = t.vault()
	settings, _, _ = served(t, vault, "data1", on_key_loss="lock-after=1s")
	vault.stop()
	await_state(t, settings, "degraded", "vault-unreachable")
	time.sleep(2)
	expect(is_serving(t, settings, "data1"), "it was locked for an outage")
	vault.start()


@test
def by_default_a_loss_locks_nothing(t):
	vault = t.vault()
	settings, _, _ = served(t, vault, "data1")
	vault.revoke("bank", CLIENT_ID)
	await_state(t, settings, "lost")
	count = len(vault.log(operation="unwrapkey"))
	vault.wait_for_log(count=count + 3, operation="unwrapkey")
	expect(is_serving(t, settings, "data1"), "it is not served any more")


@test
def a_loss_that_lasts_locks_if_the_settings_say_so_and_heals_by_itself(t):
	vault = t.vault()
	settings, _, process = served(t, vault, "data1", on_key_loss="lock-after=2s")
	write_pattern(t, 9)
	vault.key_delete("bank", "broker")
	wait_until(lambda: not socket_of(t, "data1").exists(), "lock")
	wait_until(lambda: volumes(t, settings)["data1"]["state"] == "waiting", "waiting volume")
	expect_equal(volumes(t, settings)["data1"]["cause"], "key-gone", "the cause")
	expect("its key has been lost for" in log_of(process), log_of(process))
	vault.key_recover("bank", "broker")
	wait_until(lambda: is_serving(t, settings, "data1"), "unlocked volume", 60)
	read_pattern(t, 9)


def lost_long_ago(t, process):
	"""Ends a supervisor, and makes the loss that it has noted two hours older."""
	process.kill()
	process.wait()
	noted = t.path("run") / "data1.lost"
	since_ms = int(noted.read_text())
	expect(0 <= time.clock_gettime(time.CLOCK_BOOTTIME) * 1000 - since_ms < 600000, f"since {since_ms}")
	noted.write_text(f"{since_ms - 7200000}\n")
	return noted


@test
def the_time_of_a_loss_goes_on_when_the_supervisor_is_replaced(t):
	vault = t.vault()
	settings, disks, process = served(t, vault, "data1", on_key_loss="lock-after=1h")
	start_again = lambda ready: t.start("serve", *disks, "--config", settings, ready=ready)
	vault.key_delete("bank", "broker")
	await_state(t, settings, "lost", "key-gone")
	noted = lost_long_ago(t, process)
	# Whoever also takes the vault away gains no time.
	vault.fault_add(match="vault", **UNAVAILABLE)
	process = start_again(lambda: volumes(t, settings).get("data1", {}).get("state") == "waiting")
	expect("its key has been lost for 72" in log_of(process), log_of(process))
	vault.fault_clear()
	vault.key_recover("bank", "broker")
	wait_until(lambda: is_serving(t, settings, "data1"), "unlocked volume", 60)
	expect(not noted.exists(), "the loss is still noted")
	vault.key_delete("bank", "broker")
	await_state(t, settings, "lost", "key-gone")
	lost_long_ago(t, process)
	vault.key_recover("bank", "broker")
	process = start_again(lambda: access(t, settings)["state"] == "ok")
	expect(is_serving(t, settings, "data1"), "it is not served any more")
	expect("being locked" not in log_of(process), log_of(process))
	expect(not noted.exists(), "the loss is still noted")


@test
def the_time_of_a_loss_begins_anew_for_whoever_opens_the_disk_by_its_recovery_key(t):
	vault = t.vault()
	settings = watched_settings(t, vault, key=versionless(vault.kid), on_key_loss="lock-after=15s")
	disk = formatted(t, vault, "data1", settings)
	vault.key_disable("bank", "broker", all=True)
	process = t.start("serve", disk, "--config", settings,
		ready=lambda: access(t, settings)["state"] == "lost" and
		access(t, settings)["since_seconds"] > 15)
	t.byok("recover", disk, "--recovery-key-file", t.path("data1.recovery"), "--config", settings)
	write_pattern(t, 5)
	expect("being locked" not in log_of(process), log_of(process))
	wait_until(lambda: "being locked" in log_of(process), "lock", 60)


@test
def a_volume_that_somebody_locked_is_not_brought_back(t):
	vault = t.vault()
	settings, _, _ = served(t, vault, "data1", "data2", on_key_loss="lock-after=60s")
	t.byok("lock", "data1", "--config", settings)
	count = len(vault.log(operation="unwrapkey"))
	vault.wait_for_log(count=count + 3, operation="unwrapkey")
	expect_equal(volumes(t, settings)["data1"]["state"], "locked", "state")


@test
def the_version_before_opens_a_disk_whose_present_one_is_gone(t):
	vault = t.vault()
	settings, disks, process = served(t, vault, "data1", probe_interval=600, probe_retry=600)
	newest = vault.key_rotate("bank", "broker")
	wait_until(lambda: token_of(t, disks[0])["kid"] == newest, "new version")
	stop(process)
	vault.key_disable("bank", "broker", version=newest[-32:])
	process = t.start("serve", *disks, "--config", settings,
		ready=lambda: is_serving(t, settings, "data1"))
	stop(process)
	vault.key_disable("bank", "broker", version=vault.kid[-32:])
	t.start("serve", *disks, "--config", settings,
		ready=lambda: volumes(t, settings).get("data1", {}).get("cause") == "key-disabled")


def kill_agent_in_a_call(t, vault, settings, cause_it, **call):
	"""While it waits for the answer."""
	vault.fault_add(delay=1, times=1, **call)
	cause_it()
	wait_until(lambda: any(f["used"] for f in vault.fault_list()), f"call {call}")
	os.kill(status_of(t, settings)[1]["agent"]["pid"], signal.SIGKILL)
	vault.fault_clear()


@test
def an_agent_that_dies_at_any_call_of_a_move_costs_nothing(t):
	vault = t.vault()
	settings, disks, _ = served(t, vault, "data1")
	passphrase = t.byok("rescue", disks[0], "--config", settings).stdout
	for operation, after in (("get", 0), ("unwrapkey", 0), ("wrapkey", 0), ("unwrapkey", 1),
			("unwrapkey", 2)):
		kill_agent_in_a_call(t, vault, settings, lambda: vault.key_rotate("bank", "broker"),
			match=operation, after=after)
		newest = vault.key_show("bank", "broker")["key"]["kid"]
		wait_until(lambda: token_of(t, disks[0])["kid"] == newest and
			"previous" not in token_of(t, disks[0]), "whole move", 60)
		expect_equal(t.byok("rescue", disks[0], "--config", settings).stdout, passphrase,
			"the passphrase")
	expect(luks2.both_are_whole_and_equal(disks[0]), "the copies of the header differ")


@test
def an_agent_that_dies_at_any_call_of_a_start_is_followed_by_one_that_unlocks(t):
	vault = t.vault()
	settings = watched_settings(t, vault, key=vault.kid)
	disk = formatted(t, vault, "data1", settings)
	for operation in ("token", "unwrapkey"):
		kill_agent_in_a_call(t, vault, settings, lambda: t.start("serve", disk, "--config", settings,
			ready=t.path("run/control").exists), match=operation)
		wait_until(lambda: is_serving(t, settings, "data1"), "unlocked volume", 60)
		supervisor = status_of(t, settings)[1]["supervisor_pid"]
		os.kill(supervisor, signal.SIGTERM)
		wait_until(lambda: not socket_of(t, "data1").exists(), "end of the service")
		wait_until(lambda: not t.path("run/control").exists(), "end of the service")


@test
def disks_of_which_a_rotation_reached_some_open_each_by_its_own_version(t):
	vault = t.vault()
	settings, disks, process = served(t, vault, "data1", "data2", "data3", key=vault.kid)
	newest = vault.key_rotate("bank", "broker")
	vault.fault_add(match="wrapkey", after=1, **FIREWALL)
	t.byok("rotate", disks[0], "--config", settings)
	t.byok("rotate", *disks, "--config", settings, expect="vault-firewall")
	vault.fault_clear()
	expect_equal([token_of(t, disk)["kid"] for disk in disks], [newest, vault.kid, vault.kid], "the keys")
	expect_equal(stop(process), 0, "exit status")
	vault.key_disable("bank", "broker", version=vault.kid[-32:])
	vault.log_clear()
	process = t.start("serve", *disks, "--config", settings, ready=lambda:
		[v["cause"] for v in volumes(t, settings).values()] == ["ok", "key-disabled", "key-disabled"])
	expect(is_serving(t, settings, "data1"), "the disk under the newest version is not served")
	vault.key_enable("bank", "broker", version=vault.kid[-32:])
	wait_until(lambda: is_serving(t, settings, "data1", "data2", "data3"), "all three", 60)
	t.byok("rotate", *disks, "--config", settings)
	expect_equal({token_of(t, disk)["kid"] for disk in disks}, {newest}, "the keys")
	wait_until(lambda: {v["key"] for v in volumes(t, settings).values()} == {newest}, "keys in status")


@test
def metadata_service_and_network_may_come_long_after_the_service(t):
	vault = t.vault()
	settings = watched_settings(t, vault, key=vault.kid)
	disk = formatted(t, vault, "data1", settings)
	cause = lambda: volumes(t, settings).get("data1", {}).get("cause")
	vault.stop()
	process = t.start("serve", disk, "--config", settings, ready=lambda: cause() == "imds-unreachable")
	vault.restart()
	wait_until(lambda: is_serving(t, settings, "data1"), "unlocked volume", 60)
	expect_equal(stop(process), 0, "exit status")
	process = None
	for status, words, code, message in [(410, "imds-updating", "gone", ""),
			(429, "imds-throttled", "throttled", ""), (503, "imds-error", "unavailable", ""),
			(400, "identity-none", "invalid_request", "Identity not found")]:
		vault.fault_add(match="token", status=status, code=code, message=message)
		if process is None:
			process = t.start("serve", disk, "--config", settings, ready=lambda: cause() == words)
		wait_until(lambda: cause() == words, f"cause {words}, but {cause()}", 60)
		vault.fault_clear()
		if status == 400:
			wait_until(lambda: is_serving(t, settings, "data1"), "unlocked volume", 60)


@test
def an_identity_that_is_taken_from_the_machine_while_it_serves_is_a_loss_and_no_other_is_used(t):
	other = "22222222-2222-3333-4444-555555555555"
	vault = t.vault()
	vault.identity_remove(CLIENT_ID)
	vault.identity_add(CLIENT_ID, token_lifetime=8)
	vault.grant("bank", CLIENT_ID)
	settings, _, _ = served(t, vault, "data1")
	write_pattern(t, 2)
	vault.identity_remove(CLIENT_ID)
	vault.identity_add(other)
	vault.grant("bank", other)
	await_state(t, settings, "lost", "identity-none", timeout=60)
	vault.log_clear()
	vault.wait_for_log(count=2, operation="token")
	expect_equal(vault.log(operation="unwrapkey"), [], "unwraps by the other one")
	read_pattern(t, 2)
	vault.identity_add(CLIENT_ID)
	vault.grant("bank", CLIENT_ID)
	await_state(t, settings, "ok", timeout=60)


# --- telling ---


def hook(t, body):
	path = t.file("hook", f"#!/bin/sh\n{body}\n")
	path.chmod(0o755)
	return path


@test
def a_program_is_told_of_each_change_without_a_shell_or_a_secret(t):
	vault = t.vault()
	told = t.path("told")
	program = hook(t, f'echo "$# $*" >>{told}; env >{told}.env; ls -l /proc/$$/fd >{told}.fd;'
		f" grep SigIgn: /proc/$$/status >{told}.ignored")
	settings, _, _ = served(t, vault, "data1", on_key_change=program)
	lines = lambda: told.read_text().splitlines() if told.exists() else []
	wait_until(lambda: lines() == [f"4 data1 ok ok {vault.kid}"], f"first call, but {lines()}")
	vault.key_disable("bank", "broker", all=True)
	wait_until(lambda: len(lines()) > 1, "call")
	expect_equal(lines()[1], f"4 data1 lost key-disabled {vault.kid}", "what it was told")
	vault.key_enable("bank", "broker", all=True)
	wait_until(lambda: len(lines()) > 2, "call")
	expect_equal(lines()[2], f"4 data1 ok ok {vault.kid}", "what it was told")
	newest = vault.key_rotate("bank", "broker")
	wait_until(lambda: len(lines()) > 3, "call")
	expect_equal(lines()[3], f"4 data1 ok ok {newest}", "what it was told")
	names = {line.split("=")[0] for line in t.path("told.env").read_text().splitlines()}
	expect(names <= {"PATH", "PWD", "SHLVL", "_", "OLDPWD"}, f"its environment: {names}")
	wait_until(lambda: "hook" in t.path("told.fd").read_text(), "list of descriptors")
	expect("socket" not in t.path("told.fd").read_text(), t.path("told.fd").read_text())
	wait_until(lambda: t.path("told.ignored").read_text(), "signals")
	# Of others it is who started the tests that says: make ignores two, nohup three.
	ignored = int(t.path("told.ignored").read_text().split()[1], 16)
	expect(not ignored >> (signal.SIGPIPE - 1) & 1, f"it ignores SIGPIPE: {ignored:x}")


@test
def a_program_that_hangs_or_is_not_there_holds_nothing_up(t):
	vault = t.vault()
	program = hook(t, "sleep 600")
	settings, _, process = served(t, vault, "data1", on_key_change=program)
	vault.key_disable("bank", "broker", all=True)
	await_state(t, settings, "lost")
	wait_until(lambda: "on_key_change was ended" in log_of(process), "its end", 60)
	vault.key_enable("bank", "broker", all=True)
	await_state(t, settings, "ok")
	program.unlink()
	vault.key_disable("bank", "broker", all=True)
	wait_until(lambda: "on_key_change ended with 127" in log_of(process), "line about it", 60)
	expect(is_serving(t, settings, "data1"), "the volume suffered")

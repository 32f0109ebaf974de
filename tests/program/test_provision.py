"""byok provision: which disks become volumes by themselves, and which are left alone whatever happens."""

import json
import os

from harness import MIB, expect, expect_equal, metadata_of, stop, test

DISKS = ("lun0", "lun1", "lun2")


def rule(t, **values):
	"""Settings that name the test's own files as the disks."""
	return {"provision_disks": t.path("lun*")} | values


def outcomes(t, settings, *words, **options):
	"""{file name: object} of one run of byok provision"""
	said = t.byok("provision", "--config", settings, "--json", *words, **options).stdout
	return {os.path.basename(disk["disk"]): disk for disk in json.loads(said)}


def words_of(found, member="outcome"):
	return {name: disk[member] for name, disk in found.items()}


def write_at(path, offset, data):
	with open(path, "r+b") as file:
		file.seek(offset)
		file.write(data)


def serves(t, settings, *names):
	done = t.run(t.program, "status", "--json", "--config", settings)
	found = json.loads(done.stdout)["volumes"] if done.stdout else []
	return {v["name"] for v in found if v["state"] == "serving"} == set(names)


@test
def blank_disks_become_volumes_that_one_unwrap_opens(t):
	vault = t.vault()
	settings = t.vault_settings(vault, key=vault.kid, data_path="nbd", **rule(t))
	disks = [t.disk(name) for name in DISKS]
	expect_equal(words_of(outcomes(t, settings)), dict.fromkeys(DISKS, "formatted"), "outcomes")
	for operation, count in (("token", 1), ("get", 1), ("wrapkey", 1), ("unwrapkey", 1)):
		expect_equal(len(vault.log(operation=operation)), count, f"requests of {operation}")
	uuids = {metadata_of(t, disk)["uuid"] for disk in disks}
	expect_equal(len(uuids), 3, "the count of uuids")
	vault.log_clear()
	t.start("serve", *disks, "--config", settings,
		ready=lambda: serves(t, settings, "data0", "data1", "data2"))
	expect_equal(len(vault.log(operation="unwrapkey")), 1, "unwraps by byok serve")


@test
def running_it_again_changes_nothing_and_asks_nobody(t):
	vault = t.vault()
	settings = t.vault_settings(vault, key=vault.kid, **rule(t))
	disks = [t.disk(name) for name in DISKS]
	outcomes(t, settings)
	before = [disk.read_bytes() for disk in disks]
	vault.log_clear()
	found = outcomes(t, settings)
	expect_equal(words_of(found), dict.fromkeys(DISKS, "kept"), "outcomes")
	expect_equal(words_of(found, "detail"), dict.fromkeys(DISKS, vault.kid), "keys")
	expect([disk.read_bytes() for disk in disks] == before, "a disk was changed")
	expect_equal(vault.log(), [], "requests")


@test
def what_is_not_blank_is_left_alone_and_named_and_does_not_hold_up_the_others(t):
	vault = t.vault()
	settings = t.vault_settings(vault, key=vault.kid, **rule(t))
	for name, offset, data in [("lunbyte", 20 * MIB + 12345, b"\1"), ("lunend", 32 * MIB - 1, b"x"),
			("lungpt", 512, b"EFI PART"), ("lunswap", 0xff6, b"SWAPSPACE2"), ("lunxfs", 0, b"XFSB")]:
		write_at(t.disk(name), offset, data)
	t.disk("lunsmall", 8)
	local, key = t.formatted("lunlocal")
	t.disk("lunblank")
	before = {path.name: path.read_bytes() for path in t.folder.glob("lun*")}
	found = outcomes(t, settings, expect="disk-not-blank", object=t.path("lunbyte"))
	expect_equal(words_of(found, "status"), {"lunbyte": "disk-not-blank", "lunend": "disk-not-blank",
		"lungpt": "disk-has-partitions", "lunlocal": "disk-has-luks",
		"lunsmall": "disk-too-small", "lunswap": "disk-has-signature",
		"lunxfs": "disk-has-file-system", "lunblank": "ok"}, "causes")
	expect_equal(found["lunbyte"]["detail"], f"there is something at byte {20 * MIB + 12288}")
	for path in t.folder.glob("lun*"):
		expect((path.read_bytes() == before[path.name]) == (path.name != "lunblank"), path.name)
	expect_equal(found["lunblank"]["outcome"], "formatted")


@test
def the_rule_decides_by_path_and_size_and_gives_the_names(t):
	vault = t.vault()
	settings = t.vault_settings(vault, key=vault.kid, provision_disks=t.path("nvme*n1"),
		provision_name="kafka-*-a", provision_size_min=1, provision_size_max=2)
	for name, gib in [("nvme0n1", 2), ("nvme1n1", 3), ("nvme2n2", 2), ("nvme0n1p1", 2),
			("nvme-4n1", 2), ("nvmen1", 2), ("sda", 2), ("nvme11n1", 1)]:
		t.disk(name, gib * 1024)
	t.disk("nvme3n1", 1023)
	found = outcomes(t, settings)
	expect_equal(words_of(found), {"nvme0n1": "formatted", "nvme1n1": "passed over",
		"nvme3n1": "passed over", "nvme11n1": "formatted"}, "outcomes")
	expect_equal(found["nvme0n1"]["name"], "kafka-0-a")
	expect_equal(found["nvme11n1"]["name"], "kafka-11-a")
	for wrong in ("relative/lun*", "/no/star", "/two/*/lun*", "/a/**"):
		t.byok("provision", "--config", settings, "--provision-disks", wrong, expect="config")
	for wrong in ("data", "a*b*", "*/"):
		t.byok("provision", "--config", settings, "--provision-name", wrong, expect="config")
	t.disk("nvme4n1", 1024)
	t.byok("provision", "--config", settings, "--provision-name", "../*", expect="name")


@test
def a_rule_that_names_no_disk_is_told(t):
	settings = t.vault_settings(t.vault(), provision_disks=t.path("lun*"))
	done = t.byok("provision", "--config", settings)
	expect("provision_disks" in done.stderr, f"it says {done.stderr!r}")


@test
def a_name_that_another_disk_has_is_not_given_twice(t):
	vault = t.vault()
	settings = t.vault_settings(vault, key=vault.kid, **rule(t))
	t.disk("lun0")
	outcomes(t, settings)
	t.path("lun0").rename(t.path("lun5"))
	t.disk("lun0")
	found = outcomes(t, settings, expect="name-taken", object=t.path("lun0"))
	expect_equal(words_of(found), {"lun0": "left alone", "lun5": "kept"}, "outcomes")


@test
def a_large_disk_is_read_in_samples_unless_all_of_it_is_asked_for(t):
	vault = t.vault()
	settings = t.vault_settings(vault, key=vault.kid, **rule(t))
	disk = t.disk("lun0", 6 * 1024)
	write_at(disk, 5 * 1024 * MIB + 7, b"a")
	found = outcomes(t, settings, "--provision-check", "whole", expect="disk-not-blank")
	expect_equal(found["lun0"]["detail"], f"there is something at byte {5 * 1024 * MIB}")
	# Whatever the draw, 32 MiB hold a whole stripe.
	write_at(disk, 3 * 1024 * MIB, b"a" * (32 * MIB))
	outcomes(t, settings, expect="disk-not-blank")


@test
def nothing_is_written_while_the_vault_does_not_prove_the_key(t):
	vault = t.vault()
	settings = t.vault_settings(vault, key=vault.kid, operation_deadline=1, attempt_timeout=1,
		**rule(t))
	disk = t.disk("lun0")
	for fault, cause in [({"match": "unwrapkey", "value": "wrong"}, "key-mismatch"),
			({"match": "get", "set": ['attributes.recoveryLevel="Purgeable"']}, "key-purgeable"),
			({"match": "wrapkey", "status": 403, "inner": "ForbiddenByRbac"}, "vault-rbac"),
			({"match": "token", "status": 410}, "imds-updating")]:
		vault.fault_add(**fault)
		t.byok("provision", "--config", settings, expect=cause)
		vault.fault_clear()
		expect(not any(disk.read_bytes()), f"{cause}: it was written to")
	t.byok("provision", "--config", t.vault_settings(vault, **rule(t)), expect="config", object="key")
	expect(not any(disk.read_bytes()), "it was written to")


@test
def one_that_is_killed_at_any_moment_is_completed_by_the_next(t):
	vault = t.vault()
	settings = t.vault_settings(vault, key=vault.kid, **rule(t))
	trace = t.path("trace")

	def traced(*inject):
		t.disk("lun0")
		return t.run(t.tool("strace"), "-f", "-qq", "-o", trace, "-e", "trace=pwrite64,fdatasync,fsync",
			*inject, t.program, "provision", "--config", settings,
			env=os.environ | {"ASAN_OPTIONS": "detect_leaks=0"})

	expect_equal(traced().returncode, 0, "exit status")
	calls = [line.split()[1].partition("(")[0] for line in trace.read_text().splitlines()
		if "(" in line]
	last = len(calls) - 1 - calls[::-1].index("pwrite64")
	# Most of the writes are one long row of zeros: of those the first and the last few are enough.
	moments = [(name, 1 + calls[:i].count(name)) for i, name in enumerate(calls) if i < 3 or i > last - 16]
	expect(len({name for name, _ in moments}) > 1, f"it does not write in order: {calls[-20:]}")
	for name, number in moments:
		done = traced("-e", f"inject={name}:signal=KILL:when={number}")
		expect(done.returncode != 0, f"{name} {number} did not kill it")
		found = outcomes(t, settings)
		expect(found["lun0"]["outcome"] in ("formatted", "kept"), f"{name} {number}: {found}")
		steps = json.loads(t.run(t.program, "check", t.path("lun0"), "--config", settings, "--json").stdout)
		expect_equal([s["status"] for s in steps if s["step"] == "disk"], ["ok"], f"{name} {number}: check")


@test
def user_data_sets_what_the_image_leaves_open_for_every_later_command(t):
	vault = t.vault()
	settings = t.vault_settings(vault, user_data="yes", data_path="nbd", provision_disks=t.path("lun*"))
	vault.user_data("#cloud-config\n"
		f"#byok key = {vault.kid}\n#byok provision_name = log-*\n#byok expected_volumes=2\nruncmd: [ls]\n"
		"#byok provision_disks = /dev/sd*\n")
	disks = [t.disk(name) for name in DISKS[:2]]
	found = outcomes(t, settings)
	expect_equal(words_of(found), dict.fromkeys(DISKS[:2], "formatted"), "outcomes")
	expect_equal(words_of(found, "name"), {"lun0": "log-0", "lun1": "log-1"}, "names")
	kept = t.path("run") / "user-data"
	expect_equal(oct(kept.stat().st_mode & 0o777), oct(0o600), "mode of what is kept")
	# The other commands of this boot have the key from there: check tries it.
	steps = json.loads(t.run(t.program, "check", disks[0], "--config", settings, "--json").stdout)
	expect(("key", vault.kid, "ok") in {(s["step"], s["object"], s["status"]) for s in steps}, steps)
	# What it says no more is no more.
	vault.user_data("")
	t.disk("lun2")
	t.byok("provision", "--config", settings, expect="config", object="key")
	expect_equal(kept.read_text(), "")
	t.byok("provision", "--config", settings, "--key", vault.kid)


@test
def user_data_is_not_asked_for_unless_the_image_wants_it(t):
	vault = t.vault()
	vault.user_data(f"#byok key = {vault.kid}\n")
	t.disk("lun0")
	t.byok("provision", "--config", t.vault_settings(vault, **rule(t)), expect="config", object="key")
	expect_equal(vault.log(), [], "requests")


@test
def user_data_can_set_nothing_that_the_image_alone_may_decide(t):
	vault = t.vault()
	settings = t.vault_settings(vault, user_data="yes", key=vault.kid, **rule(t))
	disk = t.disk("lun0")
	for line in ("ca_file = /tmp/evil.pem", "vault_connect_to = 1.2.3.4:443", "imds_endpoint = http://127.0.0.1",
			"run_directory = /tmp", "agent_user = root", "data_path = nbd", "provision_check = sample",
			"user_data = no", "log_level = error", "colour = blue", "key", "= x", "provision_size_min = -1",
			"provision_name = two words", "provision_name = \x1b[2J", "expected_volumes = 65", "\xff = 1"):
		vault.user_data(f"#byok provision_size_max = 5\n#byok {line}\n")
		done = t.byok("provision", "--config", settings, expect="config", object="user data")
		expect("\x1b" not in done.stderr and "evil" not in done.stderr, done.stderr)
	expect(not any(disk.read_bytes()), "it was written to")
	expect(not (t.path("run") / "user-data").exists(), "what is not good is kept")
	# Files are not its business: it may name disks only.
	vault.user_data(f"#byok provision_disks = {t.path('lun*')}\n")
	t.byok("provision", "--config", t.vault_settings(vault, user_data="yes", key=vault.kid))
	expect(not any(disk.read_bytes()), "it was written to")


@test
def user_data_that_is_nonsense_too_large_or_not_there_is_told_apart(t):
	vault = t.vault()
	settings = t.vault_settings(vault, user_data="yes", operation_deadline=1, attempt_timeout=1,
		key=vault.kid, **rule(t))
	disk = t.disk("lun0")
	vault.user_data("#byok provision_name = late-*\n")
	for fault, cause in [({"raw_body": "not base64!"}, "imds-answer"), ({"raw_body": "QQ"}, "imds-answer"),
			({"body": "huge"}, "imds-answer"), ({"body": "cut"}, "imds-error"),
			({"status": 500}, "imds-error"), ({"status": 404}, "imds-updating"),
			({"delay": 5}, "imds-timeout"), ({"close": True}, "imds-error")]:
		vault.fault_add(match="instance", **fault)
		t.byok("provision", "--config", settings, expect=cause, object="user data")
		vault.fault_clear()
	vault.user_data("#byok provision_name = " + "x" * 3000 + "\n")
	t.byok("provision", "--config", settings, expect="config", object="user data")
	expect(not any(disk.read_bytes()), "it was written to")
	vault.user_data("x" * 40000 + f"\n#byok provision_name = late-*")
	found = outcomes(t, settings)
	expect_equal(found["lun0"]["name"], "late-0")


@test
def a_broker_that_serves_takes_the_new_disks_without_a_restart(t):
	vault = t.vault()
	settings = t.vault_settings(vault, key=vault.kid, data_path="nbd", **rule(t))
	t.disk("lun0")
	outcomes(t, settings)
	process = t.start("serve", t.path("lun0"), "--config", settings, ready=lambda: serves(t, settings, "data0"))
	t.disk("lun1")
	found = outcomes(t, settings)
	expect_equal(words_of(found), {"lun0": "kept", "lun1": "formatted"}, "outcomes")
	expect(serves(t, settings, "data0"), "the first one is not served any more")
	expect_equal(stop(process), 0, "exit status of byok serve")

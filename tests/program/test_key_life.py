"""The commands of a key's life: rescue, recovery, backup and restore, rotate, adopt."""

import json
import os
import pty
import signal
import subprocess
import termios
import time

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

import luks2
from harness import CLIENT_ID, STATUSES, Failure, expect, expect_equal, log_of, metadata_of, stop, \
	test, uri, wait_until

FIREWALL = {"status": 403, "code": "Forbidden", "inner": "ForbiddenByFirewall"}


def formatted(t, vault, name="data1", recovery=False):
	disk, settings = t.disk(name), t.vault_settings(vault, data_path="nbd", operation_deadline=5)
	words = ["--recovery-key-file", t.path(f"{name}.recovery")] if recovery else []
	t.byok("format", disk, "--name", name, "--key", vault.kid, "--config", settings, *words)
	vault.log_clear()
	return disk, settings


def opens(t, disk, passphrase, *options):
	"""Whether cryptsetup takes it."""
	done = subprocess.run([t.tool("cryptsetup"), "open", "--test-passphrase", "--key-file", "-", *options,
		str(disk)], input=passphrase, capture_output=True)
	return done.returncode == 0


def passphrase_of(t, disk, settings, *words):
	return t.byok("rescue", disk, "--config", settings, *words).stdout.encode()


def token_of(t, disk):
	tokens = metadata_of(t, disk)["metadata"]["tokens"].values()
	return next(token for token in tokens if token["type"] == "byok-akv")


def sequence_id(t, disk):
	return metadata_of(t, disk)["sequence_id"]


def expect_whole(t, disk, kid, passphrase):
	"""Under that key, nothing left over, and open to the same passphrase as ever."""
	token = token_of(t, disk)
	expect_equal(token["kid"], kid, f"the key of {disk}")
	expect("previous" not in token, f"{disk} still has a previous wrapping")
	expect(luks2.both_are_whole_and_equal(disk), f"the copies of the header of {disk} differ")
	expect(opens(t, disk, passphrase), f"{disk} does not open any more")


def is_serving(t, settings, *names):
	done = t.run(t.program, "status", "--json", "--config", settings)
	volumes = json.loads(done.stdout)["volumes"] if done.stdout else []
	return {v["name"] for v in volumes if v["state"] == "serving"} >= set(names)


def socket_of(t, name):
	return t.path("run") / f"{name}.nbd"


# --- rescue ---


@test
def rescue_gives_what_cryptsetup_takes_of_a_disk_and_of_its_header_backup(t):
	vault = t.vault()
	disk, settings = formatted(t, vault)
	output, backup = t.path("passphrase"), t.path("backup")
	done = t.byok("rescue", disk, "--output", output, "--config", settings)
	expect(f"cryptsetup open --type luks2 --key-file {output} {disk} NAME" in done.stderr, done.stderr)
	expect_equal(output.stat().st_mode & 0o777, 0o600, "mode of the file")
	expect_equal(done.stdout, "", "standard output")
	expect(opens(t, disk, output.read_bytes()), "cryptsetup does not take it")
	t.must("cryptsetup", "luksHeaderBackup", disk, "--header-backup-file", backup)
	expect_equal(passphrase_of(t, backup, settings), output.read_bytes(), "from the backup")
	done = t.byok("rescue", backup, "--output", t.path("again"), "--config", settings)
	expect(f"--header {backup} --key-file" in done.stderr, done.stderr)
	expect(opens(t, disk, output.read_bytes(), "--header", str(backup)), "not with the backup")


@test
def rescue_overwrites_no_file_and_asks_the_vault_nothing_then(t):
	vault = t.vault()
	disk, settings = formatted(t, vault)
	precious = t.file("precious", "precious")
	t.byok("rescue", disk, "--output", precious, "--config", settings, expect="file-exists",
		object=precious)
	expect_equal(precious.read_text(), "precious")
	expect_equal(vault.log(operation="unwrapkey"), [], "unwraps")


@test
def of_recovery_keys_that_are_added_at_once_each_opens_the_disk_or_is_not_there(t):
	disk, key_file = t.formatted()
	files = [t.path(f"recovery{i}") for i in range(4)]
	adding = [subprocess.Popen([t.program, "recovery", "add", disk, "--key-file", key_file,
		"--recovery-key-file", file], stderr=subprocess.PIPE, text=True) for file in files]
	codes = [(process.communicate(timeout=120), process.returncode)[1] for process in adding]
	expect(set(codes) <= {0, STATUSES["header-changed"][0]} and 0 in codes, f"exit statuses {codes}")
	for code, file in zip(codes, files):
		expect_equal(file.exists(), code == 0, f"whether {file} is there")
		if code == 0:
			t.byok("recovery", "test", disk, "--recovery-key-file", file)


@test
def a_terminal_shows_what_is_typed_again_after_an_interrupted_question(t):
	disk, _ = t.formatted()
	for signal_number, key in ((signal.SIGINT, b"\x03"), (signal.SIGTERM, None)):
		pid, terminal = pty.fork()
		if pid == 0:
			signal.signal(signal_number, signal.SIG_DFL)  # nohup and the like ignore it
			os.execv(t.program, [t.program, "recovery", "test", str(disk)])
		t.exits.callback(os.close, terminal)
		wait_until(lambda: not termios.tcgetattr(terminal)[3] & termios.ECHO, "question")
		if key:
			os.write(terminal, b"half a key" + key)
		else:
			os.kill(pid, signal_number)
		_, ended = os.waitpid(pid, 0)
		expect_equal(os.WIFSIGNALED(ended) and os.WTERMSIG(ended), signal_number, "how it ended")
		expect(termios.tcgetattr(terminal)[3] & termios.ECHO, "nothing that is typed is shown")


@test
def rescue_shows_no_passphrase_on_a_terminal(t):
	vault = t.vault()
	disk, settings = formatted(t, vault)
	ours, theirs = pty.openpty()
	done = subprocess.run([t.program, "rescue", disk, "--config", settings], stdout=theirs,
		stderr=subprocess.PIPE, text=True, timeout=60)
	os.close(theirs)
	expect_equal(done.returncode, STATUSES["usage"][0], "exit status")
	expect("--output" in done.stderr, done.stderr)
	os.set_blocking(ours, False)
	try:
		shown = os.read(ours, 100)
	except OSError:
		shown = b""
	os.close(ours)
	expect_equal(shown, b"", "on the terminal")


@test
def rescue_gives_nothing_that_does_not_open_the_disk(t):
	vault = t.vault()
	disk, settings = formatted(t, vault)
	output = t.path("passphrase")
	vault.fault_add(match="unwrapkey", value="wrong")
	t.byok("rescue", disk, "--output", output, "--config", settings, expect="wrapped-mismatch",
		object=disk)
	vault.fault_clear()
	vault.revoke("bank", CLIENT_ID)
	t.byok("rescue", disk, "--output", output, "--config", settings, expect="vault-rbac", object=disk)
	expect(not output.exists(), "a file was made")
	local, _ = t.formatted("local")
	t.byok("rescue", local, "--config", settings, expect="no-vault-token", object=local)


# --- recovery ---


@test
def a_recovery_key_is_added_tried_and_removed(t):
	vault = t.vault()
	disk, settings = formatted(t, vault)
	passphrase = passphrase_of(t, disk, settings)
	first, second = t.path("first"), t.path("second")
	t.byok("recovery", "remove", disk, "--config", settings, expect="no-recovery-key", object=disk)
	for path in (first, second):
		t.byok("recovery", "add", disk, "--recovery-key-file", path, "--config", settings)
		expect_equal(path.stat().st_mode & 0o777, 0o600, "mode of the file")
		expect(opens(t, disk, path.read_bytes()), "cryptsetup does not take it")
		t.byok("recovery", "test", disk, "--recovery-key-file", path, "--config", settings)
	t.byok("recovery", "remove", disk, "--recovery-key-file", first, "--config", settings)
	expect(not opens(t, disk, first.read_bytes()), "the first still opens it")
	t.byok("recovery", "test", disk, "--recovery-key-file", first, "--config", settings,
		expect="wrong-recovery-key", object=disk)
	t.byok("recovery", "test", disk, "--recovery-key-file", second, "--config", settings)
	t.byok("recovery", "remove", disk, "--config", settings)
	expect(not opens(t, disk, second.read_bytes()), "the second still opens it")
	expect(opens(t, disk, passphrase), "the vault slot does not open it any more")
	expect_equal(len(metadata_of(t, disk)["metadata"]["keyslots"]), 1, "keyslots left")


@test
def a_typing_error_in_a_recovery_key_is_told_with_its_group(t):
	vault = t.vault()
	disk, settings = formatted(t, vault, recovery=True)
	text = t.path("data1.recovery").read_text()
	wrong = t.file("wrong", text[:12] + ("0" if text[12] != "0" else "1") + text[13:])
	done = t.byok("recovery", "test", disk, "--recovery-key-file", wrong, "--config", settings,
		expect="recovery-key-typo", object=wrong)
	expect("group 3 of 13" in done.stderr, done.stderr)


@test
def a_recovery_key_is_not_removed_before_another_way_in_was_seen_to_open(t):
	vault = t.vault()
	disk, settings = formatted(t, vault, recovery=True)
	recovery, before = t.path("data1.recovery"), luks2.content_hash(disk)
	vault.fault_add(match="unwrapkey", **FIREWALL)
	t.byok("recovery", "remove", disk, "--config", settings, expect="vault-firewall", object=disk)
	# What is to be removed is no other way in.
	t.byok("recovery", "remove", disk, "--key-file", recovery, "--config", settings,
		expect="wrong-key", object=disk)
	expect_equal(luks2.content_hash(disk), before, "the disk")
	t.byok("recovery", "remove", disk, "--force", "--config", settings)
	expect(not opens(t, disk, recovery.read_bytes()), "it still opens the disk")


@test
def the_only_keyslot_is_not_removed_even_by_force(t):
	vault = t.vault()
	disk, settings = formatted(t, vault, recovery=True)
	recovery = t.path("data1.recovery")
	t.must("cryptsetup", "luksKillSlot", "-q", "--key-file", recovery, disk, "0")
	before = luks2.content_hash(disk)
	t.byok("recovery", "remove", disk, "--force", "--config", settings, expect="keyslot-last",
		object=disk)
	expect_equal(luks2.content_hash(disk), before, "the disk")


@test
def a_recovery_key_is_added_without_the_vault_by_a_key_file(t):
	disk, key = t.formatted("local")
	recovery, wrong = t.path("recovery"), t.file("wrong", "wrong")
	t.byok("recovery", "add", disk, "--recovery-key-file", recovery, "--key-file", wrong,
		expect="wrong-key", object=disk)
	expect(not recovery.exists(), "a key that opens nothing was written")
	t.byok("recovery", "add", disk, "--key-file", key, expect="usage")
	t.byok("recovery", "lose", disk, expect="usage")
	t.byok("recovery", "add", disk, "--recovery-key-file", recovery, "--key-file", key)
	expect(opens(t, disk, recovery.read_bytes()), "it does not open the disk")
	t.byok("recovery", "add", disk, "--recovery-key-file", recovery, "--key-file", key,
		expect="file-exists", object=recovery)


# --- backup and restore ---


def region(disk, size=16 * 1024 * 1024):
	with open(disk, "rb") as file:
		return file.read(size)


@test
def a_backup_is_that_of_cryptsetup_and_each_restores_the_others(t):
	disk, key = t.formatted("local")
	ours, theirs, before = t.path("ours"), t.path("theirs"), region(disk)
	t.byok("backup", disk, ours)
	t.must("cryptsetup", "luksHeaderBackup", disk, "--header-backup-file", theirs)
	expect_equal(ours.read_bytes(), theirs.read_bytes(), "the backup")
	expect_equal(ours.stat().st_mode & 0o777, 0o600, "mode of the file")
	t.byok("backup", disk, ours, expect="file-exists", object=ours)
	luks2.overwrite(disk, 0, os.urandom(400000))
	t.byok("backup", disk, t.path("none"), expect="not-luks", object=disk)
	t.must("cryptsetup", "luksHeaderRestore", "-q", disk, "--header-backup-file", ours)
	expect(opens(t, disk, key.read_bytes()), "cryptsetup does not restore ours")
	luks2.overwrite(disk, 0, os.urandom(400000))
	t.byok("restore", disk, theirs)
	expect(opens(t, disk, key.read_bytes()), "byok does not restore theirs")
	expect_equal(region(disk)[2 * 65536:], before[2 * 65536:], "the keyslots")
	expect(luks2.both_are_whole_and_equal(disk), "the copies differ")


@test
def a_damaged_backup_and_one_of_another_disk_are_refused(t):
	disk, _ = t.formatted("one")
	other, _ = t.formatted("two")
	backup, foreign = t.path("backup"), t.path("foreign")
	t.byok("backup", disk, backup)
	t.byok("backup", other, foreign)
	before = luks2.content_hash(disk)
	done = t.byok("restore", disk, foreign, "--force", expect="backup-foreign", object=disk)
	expect("uuid" in done.stderr, done.stderr)
	for copy in (0, 1):
		luks2.overwrite(backup, copy * 65536 + 5000, b"damage")
	t.byok("restore", disk, backup, expect="header-damaged", object=backup)
	t.byok("restore", disk, t.path("absent"), expect="disk-absent", object="absent")
	with open(foreign, "r+b") as file:
		file.truncate(1024 * 1024)
	t.byok("restore", other, foreign, expect="header-truncated", object=foreign)
	expect_equal(luks2.content_hash(disk), before, "the disk")
	# The uuid is all that can still be read.
	luks2.overwrite(disk, 5000, b"damage")
	luks2.overwrite(disk, 65536 + 5000, b"damage")
	t.byok("backup", other, t.path("again"))
	t.byok("restore", disk, t.path("again"), expect="backup-foreign", object=disk)


@test
def a_backup_of_another_layout_is_refused(t):
	disk, key, backup = t.disk(), t.file("key", "first"), t.path("backup")
	words = ["luksFormat", "-q", "--type", "luks2", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations",
		"1000", "--key-file", key, "--uuid", "00112233-4455-6677-8899-aabbccddeeff", disk]
	t.must("cryptsetup", *words, "--offset", 24576)
	t.byok("backup", disk, backup)
	t.must("cryptsetup", *words, "--offset", 32768)
	t.byok("restore", disk, backup, "--force", expect="backup-foreign", object=disk)


@test
def an_older_backup_is_restored_by_force_only_and_then_wins(t):
	vault = t.vault()
	disk, settings = formatted(t, vault, recovery=True)
	backup, recovery = t.path("backup"), t.path("data1.recovery").read_bytes()
	t.byok("backup", disk, backup)
	t.byok("recovery", "remove", disk, "--config", settings)
	before = luks2.content_hash(disk)
	done = t.byok("restore", disk, backup, expect="backup-older", object=disk)
	expect("sequence id 2 on the disk, 1 in the backup" in done.stderr, done.stderr)
	expect_equal(luks2.content_hash(disk), before, "the disk")
	done = t.byok("restore", disk, backup, "--force")
	expect(vault.kid in done.stdout, done.stdout)
	expect_equal(sequence_id(t, disk), 3, "sequence id")
	expect(opens(t, disk, recovery), "the removed recovery key does not open it again")
	t.byok("restore", disk, backup, "--force")


@test
def a_header_is_not_restored_over_something_else_or_under_a_user(t):
	disk, key = t.formatted("local")
	backup, other = t.path("backup"), t.disk("other")
	t.byok("backup", disk, backup)
	t.must("mkfs.ext4", "-q", "-F", other)
	before = luks2.content_hash(other)
	t.byok("restore", other, backup, expect="disk-has-file-system", object=other)
	expect_equal(luks2.content_hash(other), before, "the file system")
	process, _ = t.nbd(disk, key)
	t.byok("restore", disk, backup, expect="disk-in-use", object=disk)
	t.byok("backup", disk, t.path("while-serving"))
	stop(process)
	t.byok("restore", disk, backup)


@test
def a_header_is_not_restored_in_the_middle_of_a_re_encryption(t):
	disk, _ = t.formatted("local")
	backup = t.path("backup")
	t.byok("backup", disk, backup)

	def edit(metadata):
		metadata["config"]["requirements"] = {"mandatory": ["online-reencrypt-v2"]}
	luks2.change_metadata(disk, edit)
	t.byok("restore", disk, backup, "--force", expect="reencryption", object=disk)
	t.byok("backup", disk, t.path("worthless"), expect="reencryption", object=disk)


# --- rotate ---


def rotate(t, settings, *words, **options):
	return t.byok("rotate", *words, "--config", settings, **options)


@test
def disks_are_moved_to_the_newest_version_another_key_and_another_vault(t):
	vault = t.vault()
	one, settings = formatted(t, vault, "one")
	two, _ = formatted(t, vault, "two")
	passphrases = {disk: passphrase_of(t, disk, settings) for disk in (one, two)}
	vault.vault_create("other")
	vault.grant("other", CLIENT_ID)
	newer = vault.key_rotate("bank", "broker")
	moves = [([], newer), (["--key", vault.key_create("bank", "second", size=3072)], None)]
	moves.append((["--key", vault.key_create("other", "third", size=4096).rsplit("/", 1)[0]],
		vault.key_show("other", "third")["key"]["kid"]))
	for words, kid in moves:
		done = rotate(t, settings, one, two, *words)
		for disk in (one, two):
			expect_whole(t, disk, kid or words[1], passphrases[disk])
			expect(f"{disk}: from " in done.stdout, done.stdout)
	before = luks2.content_hash(one)
	expect("already" in rotate(t, settings, one).stdout, "it does not say that it was there already")
	expect_equal(luks2.content_hash(one), before, "the disk")


@test
def a_key_that_will_not_do_is_refused_and_nothing_is_changed(t):
	vault = t.vault()
	one, settings = formatted(t, vault, "one")
	two, _ = formatted(t, vault, "two")
	before = luks2.content_hash(one), luks2.content_hash(two)
	vault.vault_create("purgeable", recovery_level="Recoverable+Purgeable")
	vault.grant("purgeable", CLIENT_ID)
	vault.vault_create("closed")
	new = lambda name, **options: vault.key_create("bank", name, size=2048, **options)
	for kid, cause in [(new("disabled", disabled=True), "key-disabled"),
			(new("early", nbf="+3600"), "key-not-yet-valid"), (new("late", exp="-60"), "key-expired"),
			(vault.key_create("purgeable", "k", size=2048), "key-purgeable"),
			(vault.key_create("bank", "ec", kty="EC"), "key-type"),
			(new("sign", ops=["sign", "verify"]), "key-operations"),
			(vault.key_create("closed", "k", size=2048), "vault-rbac"),
			(vault.kid[:-32] + "0" * 32, "key-gone"), ("http://bank.vault.azure.net/keys/k",
			"key-url-scheme"), ("https://example.org/keys/k", "key-url-host")]:
		done = rotate(t, settings, one, two, "--key", kid, expect=cause, object=one)
		expect("nothing was changed" in done.stderr, done.stderr)
	newest = vault.key_create("bank", "broker", size=2048, disabled=True)
	rotate(t, settings, one, two, expect="key-disabled", object=one)
	vault.key_enable("bank", "broker", version=newest[-32:])
	vault.fault_add(match="unwrapkey", after=1, value="wrong")
	rotate(t, settings, one, two, expect="key-mismatch", object=one)
	expect_equal((luks2.content_hash(one), luks2.content_hash(two)), before, "the disks")


@test
def without_the_old_key_there_is_no_rotation(t):
	vault = t.vault()
	one, settings = formatted(t, vault, "one")
	passphrase, before = passphrase_of(t, one, settings), luks2.content_hash(one)
	newer = vault.key_rotate("bank", "broker")
	vault.key_disable("bank", "broker", version=vault.kid[-32:])
	rotate(t, settings, one, expect="key-disabled", object=one)
	vault.key_enable("bank", "broker", version=vault.kid[-32:])
	vault.key_vanish("bank", "broker", vault.kid[-32:])
	rotate(t, settings, one, expect="key-gone", object=one)
	expect_equal(luks2.content_hash(one), before, "the disk")
	vault.key_return("bank", "broker", vault.kid[-32:])
	rotate(t, settings, one)
	expect_whole(t, one, newer, passphrase)


@test
def a_disk_that_is_under_the_newest_version_already_is_proved_all_the_same(t):
	vault = t.vault()
	disk, settings = formatted(t, vault)[:2]
	expect("already" in rotate(t, settings, disk).stdout, "it is not there already")
	vault.fault_add(match="unwrapkey", status=403, code="Forbidden", inner="ForbiddenByRbac")
	rotate(t, settings, disk, expect="vault-rbac", object=disk)


@test
def a_copy_of_the_key_in_another_vault_takes_over_without_the_old_vault(t):
	vault = t.vault()
	key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
	pem = t.file("pem", key.private_bytes(serialization.Encoding.PEM,
		serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
	vault.kid = vault.key_create("bank", "kept", pem=str(pem))
	disk, settings = formatted(t, vault)
	passphrase = passphrase_of(t, disk, settings)
	vault.vault_create("spare")
	vault.grant("spare", CLIENT_ID)
	copy, stranger = (vault.key_create("spare", "kept", pem=str(pem)),
		vault.key_create("spare", "stranger", size=2048))
	vault.vault_delete("bank")
	before = luks2.content_hash(disk)
	done = t.run(t.program, "rotate", disk, "--key", stranger, "--config", settings)
	expect(done.returncode != 0, f"a stranger's key was taken: {done.stdout}")
	expect_equal(luks2.content_hash(disk), before, "the disk")
	expect_equal(passphrase_of(t, disk, settings, "--key", copy), passphrase, "what rescue gives")
	rotate(t, settings, disk, "--key", copy)
	expect_whole(t, disk, copy, passphrase)


def calls_of_a_rotation(t, vault, settings, *disks):
	vault.log_clear()
	rotate(t, settings, *disks)
	return len([record for record in vault.log(server="vault") if record.get("operation")])


@test
def the_vault_may_go_between_any_two_calls(t):
	vault = t.vault()
	disks = [formatted(t, vault, name)[0] for name in ("one", "two")]
	settings = t.vault_settings(vault, operation_deadline=5)
	passphrases = [passphrase_of(t, disk, settings) for disk in disks]
	vault.key_rotate("bank", "broker")
	count = calls_of_a_rotation(t, vault, settings, *disks)
	expect(count >= 10, f"only {count} calls")
	half = 0
	for after in range(count):
		newest = vault.key_rotate("bank", "broker")
		vault.fault_add(match="vault", after=after, **FIREWALL)
		rotate(t, settings, *disks, expect="vault-firewall")
		vault.fault_clear()
		for disk, passphrase in zip(disks, passphrases):
			half += "previous" in token_of(t, disk)
			expect_equal(passphrase_of(t, disk, settings), passphrase, f"after call {after}")
		rotate(t, settings, *disks)
		for disk, passphrase in zip(disks, passphrases):
			expect_whole(t, disk, newest, passphrase)
	expect(half >= 2, "no rotation was ever left half done")


@test
def a_rotation_may_be_killed_at_any_call(t):
	vault = t.vault()
	disks = [formatted(t, vault, name)[0] for name in ("one", "two")]
	settings = t.vault_settings(vault, operation_deadline=60, attempt_timeout=60)
	passphrases = [passphrase_of(t, disk, settings) for disk in disks]
	vault.key_rotate("bank", "broker")
	count = calls_of_a_rotation(t, vault, settings, *disks)
	for after in range(count):
		newest = vault.key_rotate("bank", "broker")
		fault = vault.fault_add(match="vault", after=after, times=1, delay=2, **FIREWALL)
		vault.log_clear()
		process = t.start("rotate", *disks, "--config", settings)
		deadline = time.monotonic() + 30
		while len([r for r in vault.log(server="vault") if r.get("operation")]) < after:
			if process.poll() is not None or time.monotonic() > deadline:
				raise Failure(f"it came to no call {after}: {log_of(process)}")
			time.sleep(0.01)
		process.kill()
		process.wait()
		vault.fault_clear(fault)
		for disk, passphrase in zip(disks, passphrases):
			expect_equal(passphrase_of(t, disk, settings), passphrase, f"after call {after}")
		rotate(t, settings, *disks)
		for disk, passphrase in zip(disks, passphrases):
			expect_whole(t, disk, newest, passphrase)


@test
def served_disks_are_rotated_and_nobody_notices(t):
	vault = t.vault()
	disks = [formatted(t, vault, name)[0] for name in ("data1", "data2")]
	settings = t.vault_settings(vault, data_path="nbd")
	process = t.start("serve", *disks, "--config", settings,
		ready=lambda: is_serving(t, settings, "data1", "data2"))
	target = uri(socket_of(t, "data1"))
	t.must("qemu-io", "-f", "raw", "-c", "write -P 7 0 4M", target)
	newest = vault.key_rotate("bank", "broker")
	rotate(t, settings, *disks)
	t.must("qemu-io", "-f", "raw", "-c", "read -P 7 0 4M", "-c", "write -P 8 0 1M", target)
	expect(is_serving(t, settings, "data1", "data2"), "they are not served any more")
	expect_equal(stop(process), 0, "exit status of byok serve")
	vault.key_disable("bank", "broker", version=vault.kid[-32:])
	for disk in disks:
		expect_equal(token_of(t, disk)["kid"], newest, "the key")
		passphrase_of(t, disk, settings)


@test
def two_rotations_at_once_leave_one_outcome(t):
	vault = t.vault()
	disk, settings = formatted(t, vault)
	passphrase = passphrase_of(t, disk, settings)
	newest = vault.key_rotate("bank", "broker")
	vault.fault_add(match="wrapkey", delay=0.3)
	processes = [t.start("rotate", disk, "--config", settings) for _ in range(3)]
	codes = {process.wait(60) for process in processes}
	expect(codes <= {0, STATUSES["header-changed"][0]}, f"exit statuses {codes}")
	rotate(t, settings, disk)
	expect_whole(t, disk, newest, passphrase)


@test
def a_header_without_room_for_both_wrappings_stays_as_it_is(t):
	vault = t.vault()
	disk, settings, key = t.disk(), t.vault_settings(vault), t.file("key", "first")
	cryptsetup_disk(t, disk, key)
	t.byok("adopt", disk, "--name", "x", "--key", vault.kid, "--key-file", key, "--config", settings)

	def fill(metadata):
		used = len(luks2.read(disk).text)
		metadata["tokens"]["9"] = {"type": "somebody-else", "keyslots": [], "x": "x" * (11900 - used)}
	luks2.change_metadata(disk, fill)
	before = luks2.content_hash(disk)
	vault.key_rotate("bank", "broker")
	rotate(t, settings, disk, expect="metadata-full", object=disk)
	expect_equal(luks2.content_hash(disk), before, "the disk")


# --- adopt ---


def cryptsetup_disk(t, disk, key, *options):
	t.must("cryptsetup", "luksFormat", "-q", "--type", "luks2", "--pbkdf-memory", 32768,
		"--pbkdf-parallel", 1, "--pbkdf-force-iterations", 4, "--key-file", key, *options, disk)


@test
def a_disk_of_cryptsetup_is_adopted_and_served(t):
	vault = t.vault()
	disk, key, settings = t.disk(), t.file("key", "first"), t.vault_settings(vault, data_path="nbd")
	cryptsetup_disk(t, disk, key)
	expect_equal(metadata_of(t, disk)["metadata"]["keyslots"]["0"]["kdf"]["type"], "argon2id")
	process, socket = t.nbd(disk, key)
	t.must("qemu-io", "-f", "raw", "-c", "write -P 5 0 1M", uri(socket))
	stop(process)
	words = ["adopt", disk, "--key", vault.kid, "--config", settings, "--key-file"]
	t.byok(*words, key, expect="name", object=disk)
	t.byok(*words, t.file("wrong", "x"), "--name", "old", expect="wrong-key", object=disk)
	t.byok(*words, key, "--name", "old")
	expect(opens(t, disk, b"first"), "the old passphrase does not open it any more")
	expect(opens(t, disk, passphrase_of(t, disk, settings)), "the vault's does not")
	expect_equal(metadata_of(t, disk)["name"], "old", "name")
	t.byok(*words, key, expect="vault-token-exists", object=disk)
	t.start("serve", disk, "--config", settings, ready=lambda: is_serving(t, settings, "old"))
	t.must("qemu-io", "-f", "raw", "-c", "read -P 5 0 1M", uri(socket_of(t, "old")))


@test
def a_disk_is_adopted_by_its_label_and_its_data_are_left_alone(t):
	vault = t.vault()
	disk, key, settings = t.disk(), t.file("key", "first"), t.vault_settings(vault)
	cryptsetup_disk(t, disk, key, "--label", "data7", "--sector-size", 512)
	luks2.overwrite(disk, 16 * 1024 * 1024, os.urandom(65536))
	data = disk.read_bytes()[16 * 1024 * 1024:]
	t.byok("adopt", disk, "--key", vault.kid, "--key-file", key, "--config", settings)
	expect_equal(metadata_of(t, disk)["name"], "data7", "name")
	expect_equal(disk.read_bytes()[16 * 1024 * 1024:], data, "data")


@test
def what_cannot_be_adopted_is_refused_and_left_as_it_was(t):
	vault = t.vault()
	key, settings = t.file("key", "first"), t.vault_settings(vault)
	blank, weaker, disk = t.disk("blank"), t.disk("weaker"), t.disk("disk")
	cryptsetup_disk(t, weaker, key, "--key-size", 256)
	cryptsetup_disk(t, disk, key)
	before = luks2.content_hash(disk)
	words = ["--name", "x", "--key-file", key, "--config", settings]
	t.byok("adopt", disk, *words, expect="usage")
	t.byok("adopt", blank, *words, "--key", vault.kid, expect="not-luks", object=blank)
	t.byok("adopt", weaker, *words, "--key", vault.kid, expect="cipher", object=weaker)
	t.byok("adopt", disk, *words, "--key", vault.kid[:-33], expect="key-url-versionless")
	vault.key_disable("bank", "broker")
	t.byok("adopt", disk, *words, "--key", vault.kid, expect="key-disabled", object=vault.kid)
	vault.key_enable("bank", "broker")
	vault.fault_add(match="unwrapkey", value="wrong")
	t.byok("adopt", disk, *words, "--key", vault.kid, expect="key-mismatch", object=vault.kid)
	expect_equal(luks2.content_hash(disk), before, "the disk")


@test
def a_recovery_key_opens_a_disk_whose_other_keyslots_take_long(t):
	"""They are tried first; byok serve meanwhile waits for nobody."""
	vault = t.vault()
	disk, key, settings = t.disk(), t.file("key", "first"), t.vault_settings(vault, data_path="nbd")
	t.must("cryptsetup", "luksFormat", "-q", "--type", "luks2", "--pbkdf", "pbkdf2",
		"--pbkdf-force-iterations", 1000000, "--key-file", key, disk)
	t.byok("adopt", disk, "--name", "old", "--key", vault.kid, "--key-file", key, "--config", settings)
	t.byok("recovery", "add", disk, "--key-file", key, "--recovery-key-file", t.path("recovery"))
	vault.fault_add(match="unwrapkey", **FIREWALL)
	t.start("serve", disk, "--config", settings, ready=t.path("run/control").exists)
	t.byok("recover", disk, "--recovery-key-file", t.path("recovery"), "--config", settings)
	expect(is_serving(t, settings, "old"), "it is not served")

"""The command line itself: words, files, names, and what a build lacks."""

import os
import re
import socket
import stat
import subprocess

from harness import STATUSES, TOP, Skip, expect, expect_equal, metadata_of, stop, test, wait_until

COMMANDS = ["format", "serve", "status", "check", "dump", "recover", "recovery", "rescue", "rotate",
	"adopt", "backup", "restore", "provision", "lock", "selftest", "version"]


@test
def help_lists_every_command_and_each_command_has_its_own(t):
	overview = t.byok("help").stdout
	for command in COMMANDS:
		expect(f"\n  {command} " in overview, f"{command} is not in the overview")
		text = t.byok("help", command).stdout
		expect(text.startswith(f"usage: byok {command}"), text)
		expect_equal(t.byok(command, "--help").stdout, text, f"byok {command} --help")


@test
def wrong_words_are_told_and_end_with_the_usage_status(t):
	disk = t.disk()
	for words in [[], ["nonsense"], ["help", "nonsense"], ["format"], ["format", disk],
			["format", disk, disk, "--name", "x"], ["format", disk, "--name"],
			["format", disk, "--name", "x", "--name", "y"], ["format", disk, "--nonsense"],
			["format", disk, "--force=yes", "--name", "x"], ["status", "--force"],
			["format", disk, "--name", "x", "--sector-size", "1024", "--key-file", disk],
			["format", disk, "--name", "x"], ["serve", "--nbd", "x"], ["serve", "--read-only"],
			["dump"], ["-x"]]:
		done = t.byok(*words, expect="usage")
		expect(done.stderr != "", f"nothing was said to {words}")


@test
def a_setting_on_the_command_line_wins_and_a_wrong_one_is_refused(t):
	settings = t.settings(log_level="info")
	t.byok("version", "--config", settings, "--log-level", "debug")
	t.byok("version", "--config", settings, "--log-level=loud", expect="config")
	t.byok("version", "--config", t.file("bad.conf", "nonsense"), expect="config", object="bad.conf")
	t.byok("version", "--config", t.path("absent.conf"), expect="file", object="absent.conf")


@test
def how_a_command_ended_is_an_error_to_the_journal_and_one_line_to_people(t):
	ours, theirs = socket.socketpair()
	with ours, theirs:
		done = subprocess.run([t.program, "dump", "no\nthing"], stderr=theirs)
		said = ours.recv(4096).decode()
	number, sentence = STATUSES["disk-absent"]
	expect_equal(done.returncode, number, "exit status")
	expect(said.startswith(f"<3>byok: no?thing: {sentence}; "), f"it says {said!r}")
	with open("/dev/full", "w") as full:
		done = subprocess.run([t.program, "version"], stdout=full, stderr=subprocess.PIPE)
	expect_equal(done.returncode, STATUSES["file"][0], "exit status when nobody could read it")
	said = t.byok("dump", t.path("nothing"), expect="disk-absent").stderr
	expect(said.startswith("byok: /"), f"it says {said!r}")


@test
def names_that_could_be_paths_or_options_are_refused(t):
	key = t.file("key", "x")
	for name in ["", ".", "..", "a/b", "-x", "_x", "a b", "ä", "x" * 33, ".hidden"]:
		t.byok("format", t.disk(), f"--name={name}", "--key-file", key, expect="name")


@test
def a_key_file_that_is_empty_absent_or_too_large_is_refused(t):
	disk = t.disk()
	t.byok("format", disk, "--name", "x", "--key-file", t.file("empty", ""), expect="file")
	t.byok("format", disk, "--name", "x", "--key-file", t.path("absent"), expect="file")
	large = t.disk("large", 9)
	t.byok("format", disk, "--name", "x", "--key-file", large, expect="file-too-large",
		object=large)
	expect(not any(disk.read_bytes()), "the disk was written to")


@test
def a_recovery_key_file_is_never_overwritten(t):
	disk, existing = t.disk(), t.file("existing", "precious")
	t.byok("format", disk, "--name", "x", "--key-file", t.file("key", "k"),
		"--recovery-key-file", existing, expect="file-exists", object=existing)
	expect_equal(existing.read_text(), "precious")
	expect(not any(disk.read_bytes()), "the disk was written to")


@test
def a_recovery_key_on_standard_output_is_alone_there(t):
	disk, key = t.disk(), t.file("key", "k")
	done = t.byok("format", disk, "--name", "x", "--key-file", key, "--recovery-key-file", "-")
	expect(re.fullmatch(r"([0-9A-Z]{5}-){12}[0-9A-Z]{5}", done.stdout), f"it is {done.stdout!r}")
	expect("formatted as x" in done.stderr, f"it says {done.stderr!r}")
	t.must("cryptsetup", "open", "--test-passphrase", "--key-file", t.file("printed", done.stdout),
		disk)


@test
def a_local_key_and_a_recovery_key_both_open_what_was_formatted(t):
	disk, key, recovery = t.disk(), t.file("key", b"with\nnewline\0and zero"), t.path("recovery")
	t.byok("format", disk, "--name", "x", "--key-file", key, "--recovery-key-file", recovery)
	for key_file in (key, recovery):
		t.must("cryptsetup", "open", "--test-passphrase", "--key-file", key_file, disk)
	header = metadata_of(t, disk)
	expect_equal(header["name"], "x")
	expect_equal(header["subsystem"], "byok")
	expect_equal(header["copies"], ["good", "good"])


@test
def a_disk_that_is_not_blank_is_only_overwritten_by_force(t):
	disk, key = t.formatted("data")
	other = t.file("other", b"other")
	t.byok("format", disk, "--name", "y", "--key-file", other, expect="disk-has-luks", object=disk)
	t.must("cryptsetup", "open", "--test-passphrase", "--key-file", key, disk)
	done = t.byok("format", disk, "--name", "y", "--key-file", other, "--force")
	expect("--force destroys" in done.stderr, f"it does not say what it destroys: {done.stderr}")
	t.must("cryptsetup", "open", "--test-passphrase", "--key-file", other, disk)


@test
def a_kernel_without_ublk_is_told_before_anything_is_asked_of_the_vault(t):
	if os.path.exists("/dev/ublk-control"):
		raise Skip("this kernel has ublk")
	if os.geteuid() != 0:
		raise Skip("byok serve needs root")
	disk, key = t.formatted()
	t.byok("serve", "--config", t.settings(), expect="ublk-absent")
	t.byok("serve", "--disk", disk, "--key-file", key, "--config", t.settings(),
		expect="ublk-absent")


@test
def serve_without_root_is_refused(t):
	if os.geteuid() != 0:
		raise Skip("only root can become somebody else")
	program = t.path("byok")
	program.write_bytes(open(t.program, "rb").read())
	program.chmod(0o755)
	t.folder.chmod(0o755)
	done = subprocess.run([program, "serve", "--config", "/dev/null"], capture_output=True, text=True,
		user=65534, group=65534)
	expect_equal(done.returncode, 4, f"exit status ({done.stderr})")
	expect("needs root" in done.stderr, done.stderr)


@test
def a_build_without_a_feature_says_which_option_it_lacks(t):
	program = TOP / "build/variants/minimal-gcc/byok"
	if not program.exists():
		raise Skip("the minimal configuration is not built (tests/builds does it)")
	t.program = program
	disk = t.disk()
	t.byok("format", disk, "--name", "x", "--key",
		"https://bank.vault.azure.net/keys/broker/0123456789abcdef0123456789abcdef",
		"--config", t.settings(), expect="feature-off")
	expect("CONFIG_VAULT=n" in t.byok("version").stdout, "version does not say so")
	disk, key = t.formatted()
	_, socket = t.nbd(disk, key)
	expect(stat.S_ISSOCK(socket.stat().st_mode), "no socket")


@test
def the_selftest_runs_every_cipher_and_passes(t):
	text = t.byok("selftest").stdout
	for name in ("aes-xts-4096 (portable)", "aes-xts-512 (portable)"):
		expect(f"ok     {name}" in text, f"{name} is missing: {text}")
	expect("FAILED" not in text, text)


@test
def output_that_cannot_be_written_is_a_failure(t):
	with open("/dev/full", "w") as full:
		done = subprocess.run([t.program, "version"], stdout=full, stderr=subprocess.PIPE, text=True)
	expect_equal(done.returncode, 14, f"exit status ({done.stderr})")


@test
def two_disks_of_one_name_are_not_both_served(t):
	vault = t.vault()
	settings = t.vault_settings(vault, data_path="nbd")
	disks = []
	for number in (1, 2):
		disks.append(t.disk(f"disk{number}"))
		t.byok("format", disks[-1], "--name", "same", "--key", vault.kid, "--config", settings)
	import json

	def causes():
		done = t.run(t.program, "status", "--json", "--config", settings)
		return sorted(v["cause"] for v in json.loads(done.stdout)["volumes"]) if done.stdout else []

	process = t.start("serve", *disks, "--config", settings,
		ready=lambda: causes() == ["name-taken", "ok"])
	expect_equal(stop(process), 0, "exit status")


@test
def a_disk_that_somebody_used_while_the_key_was_waited_for_is_left_alone(t):
	disk = t.disk()
	waiting = subprocess.Popen([t.program, "format", disk, "--name", "two", "--key-file", "-"],
		stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
	wait_until(lambda: open(f"/proc/{waiting.pid}/wchan").read() != "0" and
		"pipe" in open(f"/proc/{waiting.pid}/wchan").read(), "read of standard input")
	key = t.file("key", b"one")
	t.byok("format", disk, "--name", "one", "--key-file", key)
	_, said = waiting.communicate(b"two")
	expect_equal(waiting.returncode, 28, f"exit status ({said})")
	t.must("cryptsetup", "open", "--test-passphrase", "--key-file", key, disk)


@test
def dump_shows_no_control_character_of_a_hostile_label(t):
	disk, _ = t.formatted()
	t.must("cryptsetup", "config", disk, "--label", "\x1b[31mred")
	expect("\x1b" not in t.byok("dump", disk).stdout, "the terminal would obey the label")
	expect_equal(metadata_of(t, disk)["name"], "?[31mred")


@test
def a_reader_of_the_log_that_leaves_ends_nothing(t):
	disk, key = t.formatted()
	read_end, write_end = os.pipe()
	process = subprocess.Popen([t.program, "serve", "--disk", disk, "--key-file", key, "--nbd",
		t.path("s")], stderr=write_end, stdout=subprocess.DEVNULL)
	t.exits.callback(process.kill)
	os.close(read_end)
	os.close(write_end)
	wait_until(t.path("s").exists, "socket")
	t.must("nbdinfo", f"nbd+unix:///?socket={t.path('s')}")

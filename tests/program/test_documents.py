"""README.md, the manual pages and the unit, held against the program: whatever they say that can be
looked up or run, is. After a change of platform/status.h, `test_documents.py write` brings the table
of exit statuses in app/byok.8 up to date."""

import os
import re
import shutil
import sys
import textwrap
import xml.etree.ElementTree
from importlib.machinery import SourceFileLoader

from harness import CLIENT_ID, TOP, expect, expect_equal, test

README = TOP / "README.md"
MANUAL = TOP / "app/byok.8"
CONFIG_MANUAL = TOP / "app/byok.conf.5"
UNITS = [TOP / "platform/systemd" / name for name in ("byok.service", "byok-provision.service")]
PICTURE = TOP / "tests/vm/run.svg"

# What the manual's examples name, and tests have otherwise.
EXAMPLE_KEY = "https://bank.vault.azure.net/keys/broker/0123456789abcdef0123456789abcdef"
EXAMPLE_DISK = "/dev/disk/azure/scsi1/lun0"
TABLE_BEGIN, TABLE_END = ('.\\" begin of the table\n', '.\\" end of the table\n')


def section(text, title):
	"""What stands below a heading of README.md, up to the next one of its rank."""
	found = re.search(rf"^(#+) {re.escape(title)}\n(.*?)(?=^\1 |\Z)", text, re.M | re.S)
	expect(found, f"README.md has no section {title!r}")
	return found[2]


def fenced(text, language):
	return re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)


def between(text, begin, end):
	expect(begin in text and end in text, f"{begin!r} or {end!r} is not there any more")
	begins = text.index(begin) + len(begin)
	return text[begins:text.index(end, begins)]


def help_of(t, *command):
	return t.byok("help", *command).stdout


def help_rows(text):
	"""[(flag, what it takes, purpose)] of the indented rows of a help text."""
	return [(flag, takes.strip(), purpose) for flag, takes, purpose in
		re.findall(r"^  (--[\w-]+)( \S+)? +(.*)$", text, re.M)]


# --- the manual pages ---


@test
def mandoc_finds_nothing_to_say_about_the_manual_pages(t):
	done = t.run(t.tool("mandoc"), "-Tlint", MANUAL, CONFIG_MANUAL)
	# Other programs' pages may not be installed, nor ours.
	said = [line for line in (done.stdout + done.stderr).splitlines()
		if "referenced manual not found" not in line and "outdated mandoc.db" not in line]
	expect(not said, "\n".join(said))


def commands_of(t):
	return re.findall(r"^  (\w+) +\S", help_of(t), re.M)


@test
def the_manual_has_every_command_and_no_other(t):
	text = MANUAL.read_text()
	commands = commands_of(t)
	synopsis = between(text, ".Sh SYNOPSIS\n", ".Sh DESCRIPTION")
	expect_equal(re.findall(r"^\.Cm (\w+)$", synopsis, re.M), commands, "commands of the synopsis")
	chapter = between(text, ".Sh COMMANDS\n", ".Sh SERVICE")
	expect_equal(re.findall(r"^\.Ss (\w+)$", chapter, re.M), commands, "sections of commands")


@test
def the_manual_has_every_option_of_each_command_and_no_other(t):
	chapter = between(MANUAL.read_text(), ".Sh COMMANDS\n", ".Sh SERVICE")
	for command in commands_of(t):
		body = re.search(rf"^\.Ss {command}\n(.*?)(?=^\.Ss|\Z)", chapter, re.M | re.S)[1]
		told = re.findall(r"^\.It Fl -([\w-]+)(?: Ar (\S+))?$", body, re.M)
		own = [] if command == "help" else help_rows(
			between(help_of(t, command), "options:\n", "settings, as flags"))
		expected = [(flag[2:], takes) for flag, takes, _ in own if flag not in ("--config", "--help")]
		expect_equal(told, expected, f"options of {command}")


def status_rows():
	"""[(exit status, word, sentence, advice)] of platform/status.h, without OK"""
	text = (TOP / "platform/status.h").read_text().replace("\\\n", "")
	literal = r'"((?:[^"\\]|\\.)*)"'
	rows = re.findall(rf"STATUS\(FAIL_\w+,\s*(\d+),\s*{literal},\s*{literal},\s*{literal}\)", text)
	expect_equal(len(rows), text.count("STATUS(FAIL_"), "count of statuses that were understood")
	return rows


def status_table():
	lines = [".Bl -tag -width 4n", ".It 0", "All is well."]
	for number, word, sentence, advice in status_rows():
		lines += [f".It {number} {word}", *textwrap.wrap(f"{sentence}; {advice}", 78)]
	expect(not any(line.startswith("'") for line in lines), "a line would be a request to mandoc")
	return "\n".join(lines + [".El", ""])


@test
def the_table_of_exit_statuses_is_that_of_the_program(t):
	table = between(MANUAL.read_text(), TABLE_BEGIN, TABLE_END)
	differ = [pair for pair in zip(table.splitlines(), status_table().splitlines())
		if pair[0] != pair[1]]
	expect(table == status_table(), f"run {sys.argv[0].replace('run', 'test_documents.py')} write;"
		f" the first difference: {differ[:1]}")


def settings_in_manual():
	"""{key: (what it takes, text)} of byok.conf(5)"""
	text = between(CONFIG_MANUAL.read_text(), ".Sh SETTINGS\n", ".Sh FILES")
	items = re.findall(r"^\.It Cm (\w+) Ar (.*)\n((?:(?!\.It).*\n)*)", text, re.M)
	return {key: (takes.replace(" : Ns Ar ", ":"), body) for key, takes, body in items}


@test
def the_manual_has_every_setting_with_its_limits_and_default(t):
	told = settings_in_manual()
	rows = help_rows(help_of(t, "serve").split("settings, as flags")[1])
	expect_equal({key: takes for key, (takes, _) in told.items()},
		{flag[2:].replace("-", "_"): takes for flag, takes, _ in rows}, "settings and their values")
	source = (TOP / "app/config.c").read_text()
	initial = {key.removesuffix("_s"): value.strip('"') for key, value in
		re.findall(r'^\t\t\.(\w+) = ("[^"]*"|\d+),', source.split("void config_init")[1], re.M)}
	for key, (_, body) in told.items():
		default = re.search(r"default is\n\.Li (\S+)", body)
		if key in initial:
			expect_equal(default and default[1], initial[key], f"default of {key}")
		purpose = next(p for flag, _, p in rows if flag[2:].replace("-", "_") == key)
		in_help = re.search(r"\(default (\S+)\)$", purpose)
		if in_help:
			expect_equal(default and default[1], in_help[1], f"default of {key}")
		entry = re.search(rf'\.key = "{key}",(.*?)\.takes', source, re.S)[1]
		maximum = re.search(r"\.maximum = (\d+)", entry)
		if maximum:
			minimum = re.search(r"\.minimum = (\d+)", entry)
			limits = f"from {minimum[1] if minimum else 0} to {maximum[1]}"
			expect(limits in " ".join(body.split()),
				f"{key} goes {limits}, which byok.conf(5) does not say")


@test
def the_example_of_byok_conf_is_a_configuration(t):
	example = between(CONFIG_MANUAL.read_text(), ".Bd -literal -offset 2n\n", ".Ed")
	t.byok("version", "--config", t.file("byok.conf", example))
	t.byok("version", "--config", t.file("byok.conf", example + "colour = blue\n"), expect="config")


# Without device-mapper, cryptsetup can still prove that a key opens a disk.
WITHOUT_DEVICE_MAPPER = """cryptsetup() {
	if [ "$1" = open ]; then set -- "$1" --test-passphrase "${@:2:$#-2}"; fi
	command cryptsetup "$@"
}
"""


def shell(t, script, settings=None, timeout=120):
	"""Runs what a document tells people to type, in the test's folder, up to the first failure.
	What it left running ends with it."""
	settings = settings or t.settings()
	folder = t.path("bin")
	folder.mkdir(exist_ok=True)
	byok = t.file("bin/byok", f'#!/bin/sh\nexec {t.program} "$@" --config {settings}\n')
	byok.chmod(0o755)
	whole = f"set -eu\ntrap 'kill $(jobs -p) 2>/dev/null || :; wait' EXIT\n{script}"
	path = f"{folder}:{os.environ['PATH']}:/usr/sbin:/sbin"
	done = t.run("bash", "-c", whole, cwd=t.folder, timeout=timeout, env=os.environ | {"PATH": path})
	expect(done.returncode == 0, f"exit status {done.returncode}: {done.stdout}{done.stderr}")
	return done.stdout


@test
def the_examples_of_the_manual_do_what_they_say(t):
	for tool in ("cryptsetup", "nbdinfo", "python3"):
		t.tool(tool)
	text = between(MANUAL.read_text(), ".Sh EXAMPLES\n", ".Sh SEE ALSO")
	blocks = re.findall(r'^\.\\" run\n\.Bd -literal[^\n]*\n(.*?)^\.Ed', text, re.M | re.S)
	expect_equal(len(blocks), text.count(".Bd -literal") - 1, "count of examples that are run")
	expect(CLIENT_ID in text, "the examples name another identity")
	vault = t.vault()
	t.disk("disk.img")
	t.file("disk.key", "a local key")
	script = "".join(blocks).replace("\\e\n", "\\\n").replace(EXAMPLE_KEY, vault.kid)
	script = script.replace(EXAMPLE_DISK, str(t.disk("lun0")))
	said = shell(t, WITHOUT_DEVICE_MAPPER + script, t.vault_settings(vault, data_path="nbd"))
	for sentence in ("formatted as data1 under", "ok    disk       ", "data1 serving ok",
		"formatted as test under the key file", "export-size: 16777216"):
		expect(sentence in said, f"{sentence!r} is not in what it said: {said}")


# --- README.md ---


def transcript(text):
	"""[(command, expected output)] of a console block: commands begin with '$ ', and go on after a
	backslash; '...' in the output stands for anything."""
	steps = []
	for line in text.splitlines():
		if line.startswith("$ "):
			steps.append([line[2:], ""])
		elif steps[-1][0].endswith("\\"):
			steps[-1][0] += "\n" + line
		else:
			steps[-1][1] += line + "\n"
	return steps


@test
def the_minute_without_azure_of_the_readme_goes_as_shown(t):
	for tool in ("nbdinfo", "nbdcopy"):
		t.tool(tool)
	steps = transcript(fenced(section(README.read_text(), "A minute without Azure"), "console")[0])
	mark = "---- next step ----"
	said = shell(t, f"\necho {mark}\n".join(command for command, _ in steps))
	answers = said.split(mark + "\n")
	expect_equal(len(answers), len(steps), "count of answers")
	for (command, expected), answer in zip(steps, answers):
		pattern = re.escape(expected).replace(re.escape("..."), ".*")
		expect(re.fullmatch(pattern, answer), f"{command} says {answer!r}, not {expected!r}")


@test
def what_goes_into_an_image_is_there_and_gets_there(t):
	t.tool("systemctl")
	script = fenced(section(README.read_text(), "Into an image"), "sh")[0]
	script = script.replace("build/byok", t.program)
	root = t.path("image")
	units = root / "usr/lib/systemd/system"
	units.mkdir(parents=True)
	(units / "multi-user.target").write_text("[Unit]\n")
	shell(t, f"ROOT={root}\ncd {TOP}\n{script}")
	for path in ("usr/sbin/byok", "usr/lib/systemd/system/byok.service",
		"usr/lib/systemd/system/byok-provision.service", "etc/byok/byok.conf",
		"usr/lib/udev/rules.d/90-byok.rules", "usr/lib/sysusers.d/byok.conf"):
		expect((root / path).is_file(), f"{path} is not in the image")
	for unit in UNITS:
		wanted = root / "etc/systemd/system/multi-user.target.wants" / unit.name
		expect(wanted.is_symlink(), f"nobody starts {unit.name} at boot")


@test
def the_readme_tells_what_each_feature_costs(t):
	kconfig = (TOP / "Kconfig").read_text()
	prompts = dict(re.findall(r'^config (\w+)\n\tbool ".*\((\d+ kB)\)"', kconfig, re.M))
	told = re.findall(r"^\| `(\w+)` \|.*\| (\d+ kB) \|", section(README.read_text(), "Features"), re.M)
	expect_equal(dict(told), prompts, "features and what they cost")


@test
def the_readme_tells_how_large_the_full_configuration_is(t):
	built = os.environ.get("BYOK")
	told = re.search(r"`full`.*?(\d+) KiB", section(README.read_text(), "Features"), re.S)
	expect(told, "README.md does not tell it")
	if built and os.path.exists(built):
		kib = os.path.getsize(built) / 1024
		expect(abs(kib - int(told[1])) < 0.05 * kib, f"it has {kib:.0f} KiB, not {told[1]}")


def edges_of(text, arrow):
	return re.findall(rf"^\s*(\S+) {arrow} (\S+?)(?: ?: (.*))?$", text, re.M)


@test
def the_picture_of_a_request_is_the_table_of_the_program(t):
	source = (TOP / "io/block_request.c").read_text()
	source = between(source, "next_state[REQUEST_STATES][REQUEST_EVENTS] = {", "\n};")
	states = re.findall(r"\[REQUEST_(\w+)\] =\s*\{(.*?)\n\t\t\},", source, re.S)
	table = {(state.lower(), target.lower(), event.lower().replace("_", " "))
		for state, body in states
		for event, target in re.findall(r"\[REQUEST_(\w+)\] = REQUEST_(\w+)", body)}
	expect(len(table) > 15, f"the table was not understood: {table}")
	diagram = fenced(section(README.read_text(), "The life of one request"), "mermaid")[0]
	expect_equal(set(edges_of(diagram, "-->")), table, "what the picture shows")


@test
def the_picture_of_the_layers_is_what_tidy_allows(t):
	tidy = SourceFileLoader("tidy", str(TOP / "tests/tidy")).load_module()
	diagram = fenced(section(README.read_text(), "The layers"), "mermaid")[0]
	names = {"app": "app", "crypto": "crypto", "io": "io", "system": "system", "pure": "pure"}
	below = {name: {b for a, b, _ in edges_of(diagram, "-->") if a == name} for name in names}
	for _ in names:
		for name in names:
			below[name] |= {deeper for near in below[name] for deeper in below[near]}
	allowed = {name: tidy.MAY_INCLUDE[name] - {name, "generated"} for name in names}
	expect_equal(below, allowed, "what may include what")


@test
def the_map_of_folders_is_whole(t):
	told = re.findall(r"^\| `([\w/]+)/` \|", section(README.read_text(), "The folders"), re.M)
	for path in told:
		expect((TOP / path).is_dir(), f"there is no folder {path}")
	done = t.run("git", "ls-files", cwd=TOP)
	if done.returncode != 0:
		return  # not a clone
	top_level = {path.split("/")[0] for path in done.stdout.split() if "/" in path}
	expect_equal({path.split("/")[0] for path in told},
		{path for path in top_level if not path.startswith(".")}, "the top level")


@test
def links_of_the_readme_lead_somewhere(t):
	for target in re.findall(r"\]\(([^)#]+)\)", README.read_text()):
		expect((TOP / target).exists(), f"README.md links to {target}, which is not there")


@test
def make_targets_that_the_readme_names_are_there(t):
	makefile = (TOP / "Makefile").read_text()
	for line in re.findall(r"`make ([^`]*)`", README.read_text()):
		for word in line.split():
			if "=" in word or word.startswith("-"):
				continue
			is_defconfig = word.endswith("_defconfig") and (TOP / "platform/configs" / word).exists()
			expect(is_defconfig or re.search(rf"^(?:.* )?{re.escape(word)}(?: .*)?:", makefile, re.M),
				f"there is no `make {word}`")


@test
def the_picture_of_make_run_tells_the_story_of_today(t):
	vm = str(TOP / "tests/vm")
	sys.path.insert(0, vm)
	try:
		from scenario import CHAPTERS
	finally:
		sys.path.remove(vm)
	text = PICTURE.read_text()
	root = xml.etree.ElementTree.fromstring(text)
	shown = " ".join("".join(element.itertext()) for element in root.iter()
		if element.tag.endswith("}text"))
	shown = re.sub(r"\s+", " ", shown)
	steps = [sentence for chapter in CHAPTERS for sentence, _, _ in chapter.steps]
	for sentence in [chapter.title for chapter in CHAPTERS] + steps:
		expect(sentence in shown, f"the picture does not show {sentence!r}; see tests/vm/picture")
	expect(f"{len(steps)} passed, 0 failed, 0 skipped" in shown, "the run shown was not whole")
	foreign = re.findall(r'(?:href|src|url\()\s*=?\s*"?([^"\s)]+)', text)
	expect(not foreign, f"the picture needs {foreign}")


# --- the unit ---


@test
def systemd_finds_nothing_wrong_with_the_units(t):
	analyze = t.tool("systemd-analyze")
	program = t.file("byok", "#!/bin/sh\n")
	program.chmod(0o755)
	for unit in UNITS:
		# Not installed, so neither are program and manual where the unit says that they are.
		text = unit.read_text().replace("/usr/sbin/byok", str(program))
		copy = t.file(unit.name, re.sub(r"^Documentation=.*\n", "", text, flags=re.M))
		done = t.run(analyze, "verify", copy)
		said = [line for line in done.stderr.splitlines() if "byok" in line]
		expect(not said, "\n".join(said))


@test
def the_units_call_byok_as_it_can_be_called(t):
	for unit in UNITS:
		lines = re.findall(r"^ExecStart=/usr/sbin/byok (.*)$", unit.read_text(), re.M)
		expect_equal(len(lines), 1, f"count of ExecStart in {unit.name}")
		t.byok(*lines[0].split(), "--help")


if __name__ == "__main__" and sys.argv[1:] == ["write"]:
	page = MANUAL.read_text()
	MANUAL.write_text(page.replace(between(page, TABLE_BEGIN, TABLE_END), status_table(), 1)
		if between(page, TABLE_BEGIN, TABLE_END) else
		page.replace(TABLE_BEGIN, TABLE_BEGIN + status_table(), 1))

"""A broker with systemd, set up as README.md and byok(8) say: boots, an outage of the vault, stop,
restart with another program, deaths, and power-off, with a service in Kafka's place that writes to
the disk all the time."""

import re
import shutil

from machine import TOP
from scene import CLIENT_ID, DISKS, IMDS_ADDRESS, VAULT
from steps import Chapter, check

ROOT = TOP / "build/systemd/root.img"
DISK = DISKS["data1"]
MOUNT = "srv-kafka-data1.mount"
DEVICE = "dev-byok-data1.device"
OUTAGE_SECONDS = 10
# In a shell there: the worker's process id, 0 if there is none.
WORKER = "$(byok status --json 2>/dev/null | sed 's/.*\"worker_pid\":\\([0-9]*\\).*/\\1/')"

systemd = Chapter("A broker with systemd")


def manual_literal(first_word):
	"""A paragraph of the displays of byok(8), by its first word; lines that were broken for the
	manual's width are one again."""
	for display in re.findall(r"^\.Bd [^\n]*\n(.*?)^\.Ed$", (TOP / "app/byok.8").read_text(),
			re.MULTILINE | re.DOTALL):
		for paragraph in display.split("\n\n"):
			if paragraph.startswith(first_word):
				return re.sub(r",\n +", ",", paragraph.strip()) + "\n"
	raise AssertionError(f"byok(8) shows nothing that begins with {first_word}")


def states(scene, *units):
	return scene.machine.attempt(f"systemctl is-active {' '.join(units)}").output.split()


def wait_for_state(scene, unit, state, seconds=60):
	scene.machine.wait_for(f"[ \"$(systemctl is-active {unit})\" = {state} ]", seconds)


def property_of(scene, unit, name):
	return scene.machine.run(f"systemctl show -p {name} --value {unit}")


def worker(scene):
	return scene.machine.run(f"echo {WORKER}")


def wait_for_other_worker(scene, old):
	scene.machine.wait_for(f"pid={WORKER} && [ 0$pid -gt 0 ] && [ $pid != {old} ]", 60)
	scene.machine.wait_for("byok status data1 >/dev/null 2>&1", 60)


def boot(scene):
	return scene.power_on(disks=[scene.disk_file("data1")], root=scene.folder / "root.img")


def power_off(scene):
	# The answer to this must be on its way before the channel ends.
	scene.machine.run("(sleep 1; systemctl poweroff) >/dev/null 2>&1 &")
	scene.machine.wait_until_off(120)


def note_kafka(scene):
	scene.kafka = property_of(scene, "kafka", "MainPID"), property_of(scene, "kafka", "NRestarts")
	check(scene.kafka[0] != "0", "kafka does not run")


def check_kafka_went_on(scene):
	"""The same process, without an error, and it writes."""
	now = property_of(scene, "kafka", "MainPID"), property_of(scene, "kafka", "NRestarts")
	check(now == scene.kafka, f"kafka was {scene.kafka} and is {now}")
	check(states(scene, "kafka", MOUNT) == ["active"] * 2, "kafka or its mount is not active")
	scene.machine.wait_for("[ $(wc -l </srv/kafka/data1/log) -gt"
		" $(cat /run/lines 2>/dev/null || echo 0) ]", 20)
	scene.machine.run("wc -l </srv/kafka/data1/log >/run/lines")


@systemd.step("it boots; its disk is formatted, and stands in /etc/fstab as in byok(8)")
def _(scene):
	shutil.copy(ROOT, scene.folder / "root.img")
	scene.begin_anew()
	seconds = boot(scene)
	run = scene.machine.run
	with open(scene.vault.ca_file, "rb") as file:
		scene.machine.put("/etc/byok/ca.pem", file.read(), 0o644)
	scene.machine.put("/etc/byok/byok.conf", (f"key = {scene.kid}\nidentity = {CLIENT_ID}\n"
		"ca_file = /etc/byok/ca.pem\nrequire_key = yes\nexpected_volumes = 1\n").encode(), 0o644)
	scene.machine.put("/etc/hosts", f"127.0.0.1 localhost\n{IMDS_ADDRESS} {VAULT}.vault.azure.net\n"
		.encode(), 0o644)
	scene.machine.put("/etc/fstab", manual_literal("/dev/byok/").encode(), 0o644)
	run("mkdir -p /etc/systemd/system/kafka.service.d")
	scene.machine.put("/etc/systemd/system/kafka.service.d/byok.conf",
		manual_literal("[Unit]").encode(), 0o644)
	run("systemctl stop byok", 60)
	run(f"byok format {DISK} --name data1 --recovery-key-file /root/data1.recovery", 120)
	run("systemctl daemon-reload; systemctl start byok", 60)
	run("mkfs.xfs -q /dev/byok/data1", 60)
	run("systemctl start kafka", 60)
	note_kafka(scene)
	check_kafka_went_on(scene)
	return f"{seconds:.1f} s to its first answer"


@systemd.step("it is powered off, with Kafka writing, and boots while the vault is out of reach")
def _(scene):
	power_off(scene)
	scene.start_vault(with_key_vault=False)
	boot(scene)
	scene.machine.run(f"sleep {OUTAGE_SECONDS}; rm -f /run/lines")


@systemd.step("byok.service is starting, says why, and Kafka waits for it; the rest is up")
def _(scene):
	check(states(scene, "byok", "kafka", MOUNT) == ["activating", "inactive", "inactive"],
		f"the states are {states(scene, 'byok', 'kafka', MOUNT)}")
	check(states(scene, "network-online.target") == ["active"], "the network is not up")
	text = property_of(scene, "byok", "StatusText")
	check(text == "0 of 1 volumes served", f"it says {text}")
	failed = scene.machine.run("systemctl --failed --no-legend --plain")
	check(failed == "", f"these failed: {failed}")


@systemd.step("when the vault answers, the disk is unlocked and mounted, and Kafka starts, in this"
	" order")
def _(scene):
	scene.start_vault()
	wait_for_state(scene, "kafka", "active", 120)
	note_kafka(scene)
	check_kafka_went_on(scene)
	times = [int(property_of(scene, unit, "ActiveEnterTimestampMonotonic"))
		for unit in ("byok", MOUNT, "kafka")]
	check(0 < times[0] < times[1] < times[2], f"they became active at {times}")
	recovered = scene.machine.run("dmesg | grep -c 'XFS.*Starting recovery'; true")
	check(recovered == "0", "the file system was not unmounted at power-off")
	scene.start_vault(with_key_vault=False)


@systemd.step("`systemctl restart byok` with another program, without the vault: Kafka goes on")
def _(scene):
	old = worker(scene)
	scene.machine.run("cp /usr/sbin/byok /usr/sbin/new && mv /usr/sbin/new /usr/sbin/byok")
	scene.machine.run("systemctl restart byok", 60)
	wait_for_other_worker(scene, old)
	programs = scene.machine.run(f"stat -L -c %i /usr/sbin/byok /proc/{worker(scene)}/exe").split()
	check(programs[0] == programs[1], "the worker runs the old program")
	check_kafka_went_on(scene)


@systemd.step("SIGKILL to the supervisor: systemd starts another one; Kafka goes on")
def _(scene):
	old = worker(scene)
	main = property_of(scene, "byok", "MainPID")
	scene.machine.run(f"kill -9 {main}")
	scene.machine.wait_for(f"[ $(systemctl show -p MainPID --value byok) -gt 0 ] &&"
		f" [ $(systemctl show -p MainPID --value byok) != {main} ]", 60)
	scene.machine.wait_for("byok status data1 >/dev/null 2>&1", 60)
	check(worker(scene) == old, "the worker is another one")
	check(property_of(scene, "byok", "NRestarts") == "1", "it was not systemd that started it")
	check_kafka_went_on(scene)


@systemd.step("SIGKILL to the worker: the supervisor starts another one; Kafka goes on")
def _(scene):
	old = worker(scene)
	scene.machine.run(f"kill -9 {old}")
	wait_for_other_worker(scene, old)
	check_kafka_went_on(scene)


@systemd.step("`systemctl stop byok` leaves the disk to its worker; the next start takes it over")
def _(scene):
	old = worker(scene)
	scene.machine.run("systemctl stop byok", 60)
	check(states(scene, "byok") == ["inactive"], f"it is {states(scene, 'byok')}")
	journal = scene.machine.run("journalctl -b -u byok -o cat")
	check("data1 is in use: it is served on" in journal, f"the journal does not say so: {journal}")
	check_kafka_went_on(scene)
	scene.machine.run("systemctl start byok", 60)
	check(worker(scene) == old, "the worker is another one")
	check_kafka_went_on(scene)


@systemd.step("`byok lock` and `byok recover` take the device from systemd, and give it back")
def _(scene):
	scene.machine.run(f"systemctl stop kafka {MOUNT}", 60)
	scene.machine.run("byok lock data1", 60)
	wait_for_state(scene, DEVICE, "inactive", 20)
	scene.machine.run(f"byok recover {DISK} --recovery-key-file /root/data1.recovery", 60)
	wait_for_state(scene, DEVICE, "active", 20)


for path, pattern in {"dm-crypt": "/dev/dm-*", "nbd-kernel": "/dev/nbd*"}.items():
	@systemd.step(f"the same with data_path = {path}: Kafka starts on it, and a stop takes it away")
	def _(scene, path=path, pattern=pattern):
		scene.start_vault()
		if path == "nbd-kernel":
			scene.machine.run("mkdir -p /etc/systemd/system/byok.service.d; printf '[Unit]\\n"
				"Wants=modprobe@nbd.service\\n' >/etc/systemd/system/byok.service.d/nbd.conf;"
				" systemctl daemon-reload")
		scene.machine.run("systemctl stop byok; sed -i /data_path/d /etc/byok/byok.conf;"
			f" echo data_path = {path} >>/etc/byok/byok.conf; systemctl start byok", 60)
		scene.machine.run("systemctl start kafka", 60)
		note_kafka(scene)
		check_kafka_went_on(scene)
		source = scene.machine.run("findmnt -n -o SOURCE /srv/kafka/data1")
		scene.machine.run(f"case {source} in {pattern} | /dev/mapper/byok-data1) ;; *) exit 1 ;; esac")
		scene.machine.run(f"systemctl stop kafka {MOUNT} && systemctl stop byok", 60)
		wait_for_state(scene, DEVICE, "inactive", 20)


@systemd.step("nothing has failed, and the machine is powered off")
def _(scene):
	failed = scene.machine.run("systemctl --failed --no-legend --plain")
	check(failed == "", f"these failed: {failed}")
	power_off(scene)

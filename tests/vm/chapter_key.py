"""The customer's hand on the key while file systems are written to: versions, losses, a lock, and
what a machine itself can get wrong. Looks come every second or two, so that nobody waits for
minutes."""

import json
import time

from chapter_life import LOAD, Counts, check_load_goes_on, end_load, serve_again, start_load, \
	wait_for_workers
from chapter_paths import SECTOR_SIZES, serve_through, stop_serving
from scene import CLIENT_ID, DISKS, KEY, VAULT
from steps import Chapter, check

SETTINGS = ("probe_interval = 2", "probe_retry = 1", "follow_interval = 2")
ROTATIONS = 3

life = Chapter("The life of a key under a writing file system", in_quick_runs=False)
counts = Counts()


def accesses(scene):
	"""{name: (state of the key, its cause)}"""
	_, volumes = scene.status()
	return {name: (volume["access"]["state"], volume["access"]["cause"])
		for name, volume in volumes.items()}


def keys(scene):
	_, volumes = scene.status()
	return {volume["key"] for volume in volumes.values()}


def wait_for(scene, question, expected, seconds=60):
	begin = time.monotonic()
	while (now := question(scene)) != expected:
		check(time.monotonic() - begin < seconds, f"after {seconds} s it is {now}, not {expected}")
		time.sleep(0.2)
	return time.monotonic() - begin


def change_settings(scene, *lines):
	"""`key = x` takes the place of any line for that key."""
	for line in lines:
		scene.machine.run(f"sed -i '/^{line.split()[0]} /d' /etc/byok/byok.conf;"
			f" echo '{line}' >>/etc/byok/byok.conf")


def everywhere(*access):
	return dict.fromkeys(DISKS, access)


def add_loss_step(what, cause, take_away, give_back):
	@life.step(f"{what}: both disks are served on, it is told, and heals by itself")
	def _(scene):
		take_away(scene.vault)
		raised = wait_for(scene, accesses, everywhere("lost", cause))
		check_load_goes_on(scene)
		give_back(scene.vault)
		cleared = wait_for(scene, accesses, everywhere("ok", "ok"))
		check_load_goes_on(scene)
		return f"told after {raised:.1f} s, healed after {cleared:.1f} s"


@life.step("the machine boots, and two disks are formatted under the newest version of the key")
def _(scene):
	scene.begin_anew()
	scene.boot("byok.serve=no", files={"usr/bin/load": (LOAD.read_bytes(), True)})
	change_settings(scene, f"key = {scene.kid.rsplit('/', 1)[0]}", *SETTINGS)
	for name, disk in DISKS.items():
		scene.machine.run(f"byok format {disk} --name {name} --sector-size {SECTOR_SIZES[name]}"
			f" --recovery-key-file /run/{name}.recovery", 120)


@life.step("loads that verify what they read run on both")
def _(scene):
	serve_through(scene, "ublk")
	for name in DISKS:
		scene.machine.run(f"mkfs.xfs -q /dev/byok/{name}", 60)
		scene.mount(name, f"/dev/byok/{name}")
		scene.machine.run(f"dd if=/dev/urandom of=/mnt/{name}/before bs=1M count=4"
			" conv=fsync 2>/dev/null")
		scene.hashes[name] = scene.hash_files(name)
	start_load(scene)


add_loss_step("the key is disabled", "key-disabled",
	lambda vault: vault.key_disable(VAULT, KEY, all=True),
	lambda vault: vault.key_enable(VAULT, KEY, all=True))
add_loss_step("the key is deleted, and recovered", "key-gone",
	lambda vault: vault.key_delete(VAULT, KEY), lambda vault: vault.key_recover(VAULT, KEY))
add_loss_step("the identity loses its role", "vault-rbac",
	lambda vault: vault.revoke(VAULT, CLIENT_ID), lambda vault: vault.grant(VAULT, CLIENT_ID))


@life.step(f"the key is rotated {ROTATIONS} times: each version is soon in use on both disks")
def _(scene):
	seconds = []
	for _ in range(ROTATIONS):
		scene.kid = scene.vault.key_rotate(VAULT, KEY)
		seconds.append(wait_for(scene, keys, {scene.kid}))
		check_load_goes_on(scene)
	return ", ".join(f"{each:.1f} s" for each in seconds)


@life.step("`byok rotate` by hand, twice, and the service at once leave one outcome")
def _(scene):
	scene.kid = scene.vault.key_rotate(VAULT, KEY)
	for _ in range(2):
		scene.machine.run("byok rotate >/dev/null 2>&1 &")
	wait_for(scene, keys, {scene.kid})
	scene.machine.wait_for("! ps | grep -q '[b]yok rotate'", 60)
	wait_for(scene, accesses, everywhere("ok", "ok"))
	check(keys(scene) == {scene.kid}, f"the keys are {keys(scene)}")
	check_load_goes_on(scene)


@life.step("the loads end: no error, no wrong byte; every older version can go")
def _(scene):
	longest_ms = end_load(scene, counts)
	for name in DISKS:
		scene.check_hashes(name)
	for version in scene.vault.key_versions(VAULT, KEY):
		kid = version["key"]["kid"]
		if kid != scene.kid:
			scene.vault.key_disable(VAULT, KEY, version=kid.rsplit("/", 1)[1])
	wait_for(scene, accesses, everywhere("ok", "ok"))
	scene.machine.run("byok check", 60)
	return f"{counts.verified >> 20} MiB verified; the longest operation took {longest_ms} ms"


@life.step("with lock-after, a key that stays deleted takes the disks away from their users")
def _(scene):
	change_settings(scene, "on_key_loss = lock-after=3s")
	scene.machine.run("kill -USR1 $(cat /run/byok.pid)")
	serve_again(scene)
	wait_for_workers(scene)
	scene.vault.key_delete(VAULT, KEY)
	for name in DISKS:
		scene.machine.wait_for(f"[ ! -e /dev/byok/{name} ]", 60)
		answer = scene.machine.attempt(f"echo 3 >/proc/sys/vm/drop_caches; cat /mnt/{name}/before", 30)
		check(answer.status != 0, "the files can still be read")
	scene.unmount_all()
	status, volumes = scene.status()
	check({v["state"] for v in volumes.values()} <= {"waiting", "asking"}, f"{volumes}")
	check("its key has been lost for" in scene.log(), "the log does not say why")


@life.step("recovered, it brings them back by itself, with every file that was there")
def _(scene):
	scene.vault.key_recover(VAULT, KEY)
	scene.wait_until_served()
	scene.mount_served()
	for name in DISKS:
		scene.check_hashes(name)
	scene.unmount_all()
	stop_serving(scene)


@life.step("a clock that is wrong by years is told as the cause, and right again, the disks open")
def _(scene):
	now = scene.machine.run("date +%s")
	scene.machine.run("date -s 2001-02-03 >/dev/null")
	scene.start_serving()
	scene.machine.wait_for("byok status --json 2>/dev/null | grep -q '\"cause\":\"tls-date\"'", 60)
	scene.machine.run(f"date -s @{int(now) + 30} >/dev/null")
	scene.wait_until_served()
	stop_serving(scene)


@life.step("a disk that is attached while the service runs is served too")
def _(scene):
	device = scene.machine.run("readlink -f /sys/block/vdb/device/..")
	scene.machine.run(f"echo 1 >{device}/remove")
	scene.machine.wait_for("[ ! -e /sys/block/vdb ]", 20)
	scene.start_serving()
	scene.machine.wait_for("[ -b /dev/byok/data1 ]", 60)
	check("data2" not in scene.status()[1], "the disk that was pulled out is still listed")
	scene.machine.run("echo 1 >/sys/bus/pci/rescan")
	scene.wait_until_served(90)
	scene.mount_served()
	for name in DISKS:
		scene.check_hashes(name)
	scene.unmount_all()
	stop_serving(scene)


def rows(scene, name):
	"""{disk: (state, cause)} of all that bear that name."""
	text = scene.machine.attempt("byok status --json 2>/dev/null").output
	return {volume["disk"]: (volume["state"], volume["cause"])
		for volume in json.loads(text)["volumes"] if volume["name"] == name}


@life.step("a disk is unplugged under its file system and comes back under another name: it is told,"
	" and its users keep what they had")
def _(scene):
	scene.start_serving()
	scene.wait_until_served()
	scene.mount_served()
	device = scene.machine.run("readlink -f /sys/block/vdb/device/..")
	scene.machine.run(f"echo 1 >{device}/remove")
	wait_for(scene, lambda scene: rows(scene, "data2"), {"/dev/vdb": ("serving", "disk-absent")}, 90)
	scene.machine.wait_for("grep -q 'is not at /dev/vdb any more' /run/log/byok.log", 90)
	answer = scene.machine.attempt("echo 3 >/proc/sys/vm/drop_caches; cat /mnt/data2/before", 30)
	check(answer.status != 0, "the files can still be read")
	scene.machine.run("echo 1 >/sys/bus/pci/rescan")
	wait_for(scene, lambda scene: sorted(rows(scene, "data2").values()),
		[("serving", "disk-absent"), ("waiting", "name-taken")], 90)
	scene.check_hashes("data1")


@life.step("unmounted, it is served again by itself from where it is now, with every file")
def _(scene):
	scene.unmount("data2")
	waited = wait_for(scene, lambda scene: list(rows(scene, "data2").values()), [("serving", "ok")], 120)
	scene.mount("data2", "/dev/byok/data2")
	for name in DISKS:
		scene.check_hashes(name)
	disk = next(iter(rows(scene, "data2")))
	scene.unmount_all()
	stop_serving(scene)
	return f"{disk}, after {waited:.0f} s"


@life.step("the machine is powered off")
def _(scene):
	scene.machine.power_off()

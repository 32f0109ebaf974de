"""The data paths besides ublk: the same two disks go through all of them in turn, on a kernel that
has every one; then through those of Debian's own kernel 6.1, which has no ublk."""

from scene import CLIENT_ID, DISKS
from steps import Chapter, check

# path -> the pattern of its devices
DEVICES = {"dm-crypt": "dm-[0-9]*", "nbd-kernel": "nbd[0-9]*", "ublk": "ublkb[0-9]*"}
SECTOR_SIZES = {"data1": 4096, "data2": 512}
# A disk that fails where the volume's 100th MiB lies; data begins at 16 MiB.
DATA_OFFSET_SECTORS = 32768
BAD_MIB = 100
# byok's exit statuses, with their sentences.
UBLK_ABSENT = (117, "this kernel has no ublk")
DM_CRYPT_ABSENT = (120, "this kernel has no dm-crypt")
NBD_KERNEL_ABSENT = (124, "this kernel has no NBD driver")
DEVICE_IN_USE = 122


def set_path(scene, path):
	"""None: as byok chooses by itself."""
	line = f"echo data_path = {path} >>/etc/byok/byok.conf" if path else "true"
	scene.machine.run(f"sed -i /^data_path/d /etc/byok/byok.conf; {line}")


def serve_through(scene, path, expected=None):
	set_path(scene, path)
	scene.start_serving()
	scene.wait_until_served()
	check_devices(scene, expected or path)


def check_devices(scene, path):
	for name in DISKS:
		target = scene.machine.run(f"readlink /dev/byok/{name}")
		scene.machine.run(f"case {target} in ../{DEVICES[path]}) ;; *) exit 1 ;; esac")
		size = scene.machine.run(f"blockdev --getss /dev/byok/{name}")
		check(size == str(SECTOR_SIZES[name]), f"{name} has sectors of {size} bytes")


def write_more(scene, name, path):
	scene.machine.run(f"dd if=/dev/urandom of=/mnt/{name}/through-{path}.log bs=64k count=48"
		" conv=fsync 2>/dev/null", 60)
	scene.hashes[name] = scene.hash_files(name)


def stop_serving(scene):
	scene.stop_serving()
	left = scene.machine.run("dmsetup ls | grep ^byok; ls /sys/block/nbd*/pid 2>/dev/null; true")
	check(left == "", f"these devices are still there: {left}")
	keys = scene.machine.run("grep byok: /proc/keys; true")
	check(keys == "", f"these keys are still there: {keys}")


def add_basic_steps(chapter, path):
	"""What every path must do, with disks that another path may have written to before."""

	@chapter.step(f"{path}: `byok serve` makes devices of it, with the disks' sector sizes")
	def _(scene):
		serve_through(scene, path)

	@chapter.step(f"{path}: what was written before is there; a new file system, and more files")
	def _(scene):
		for name in DISKS:
			if name in scene.hashes:
				scene.mount(name, f"/dev/byok/{name}")
				scene.check_hashes(name)
				scene.unmount(name)
		for name in DISKS:
			if name == "data2" or name not in scene.hashes:
				scene.machine.run(f"mkfs.xfs -f -q /dev/byok/{name}", 60)
			scene.mount(name, f"/dev/byok/{name}")
			write_more(scene, name, path)

	@chapter.step(f"{path}: `byok lock` of a mounted disk is refused, and harms nobody")
	def _(scene):
		answer = scene.machine.attempt("byok lock data1", 60)
		check(answer.status == DEVICE_IN_USE, f"exit status {answer.status}: {answer.output}")
		scene.check_hashes("data1")


def add_end_steps(chapter, path):
	@chapter.step(f"{path}: `byok lock --force` takes it away from its users, who get errors")
	def _(scene):
		scene.machine.run("byok lock --force data2", 60)
		scene.machine.wait_for("[ ! -e /dev/byok/data2 ]", 20)
		answer = scene.machine.attempt("echo 3 >/proc/sys/vm/drop_caches; cat /mnt/data2/*.log", 30)
		check(answer.status != 0, "the files can still be read")
		scene.check_hashes("data1")
		scene.unmount_all()

	@chapter.step(f"{path}: SIGTERM ends `byok serve`, and neither device nor key is left")
	def _(scene):
		stop_serving(scene)


def add_weak_disk_steps(chapter, path):
	"""An error of the disk reaches whoever asked for that block, and nobody else."""

	def table(scene, is_weak):
		sectors = int(scene.machine.run("blockdev --getsz /dev/vdb"))
		first = DATA_OFFSET_SECTORS + BAD_MIB * 2048
		if not is_weak:
			return f"0 {sectors} linear /dev/vdb 0"
		return (f"0 {first} linear /dev/vdb 0\\n{first} 2048 error\\n"
			f"{first + 2048} {sectors - first - 2048} linear /dev/vdb {first + 2048}")

	def reload(scene, is_weak):
		scene.machine.run(f"printf '{table(scene, is_weak)}' | dmsetup load weak"
			" && dmsetup suspend --nolockfs weak && dmsetup resume weak")

	def move(scene, way, mib):
		here = "/dev/byok/data2 bs=1M"
		command = {"read": f"dd if={here} skip={mib} count=1 of=/dev/null",
			"write": f"dd if=/dev/urandom of={here} seek={mib} count=1 conv=fsync,notrunc"}[way]
		return scene.machine.attempt(f"echo 3 >/proc/sys/vm/drop_caches; {command}", 60)

	@chapter.step(f"{path}: an error of the disk reaches whoever asked for that block")
	def _(scene):
		scene.machine.run(f"printf '{table(scene, False)}' | dmsetup create weak")
		serve_through(scene, path)
		reload(scene, True)
		for way in ("read", "write"):
			check(move(scene, way, BAD_MIB).status != 0, f"a {way} of a bad block succeeded")
			for mib in (BAD_MIB - 1, BAD_MIB + 1):
				answer = move(scene, way, mib)
				check(answer.status == 0, f"a {way} beside it failed: {answer.output}")
		reload(scene, False)
		for way in ("write", "read"):
			answer = move(scene, way, BAD_MIB)
			check(answer.status == 0, f"once the disk is whole, a {way} fails: {answer.output}")
		stop_serving(scene)
		scene.machine.run("dmsetup remove --retry weak")
		# What stood on it was overwritten.
		del scene.hashes["data2"]


def add_read_only_steps(chapter, path):
	@chapter.step(f"{path}: a read-only disk makes a read-only device")
	def _(scene):
		scene.machine.run("blockdev --setro /dev/vda")
		serve_through(scene, path)
		scene.machine.run("[ $(blockdev --getro /dev/byok/data1) = 1 ]")
		scene.machine.run("mkdir -p /mnt/data1 && mount -t xfs -o ro,norecovery /dev/byok/data1"
			" /mnt/data1")
		scene.check_hashes("data1")
		scene.unmount("data1")
		stop_serving(scene)
		scene.machine.run("blockdev --setrw /dev/vda")


def worker_of(scene, name):
	"""The process that serves a volume. Others may end while they are looked at."""
	return scene.machine.run("{ for folder in /proc/[0-9]*; do"
		" case $(tr '\\0' ' ' <$folder/cmdline) in"
		f" *'--role worker {name} ') echo ${{folder##*/}};; esac; done; }} 2>/dev/null")


def add_discard_step(chapter, path):
	@chapter.step(f"{path}: what fstrim finds free goes back to the disk only with allow_discards")
	def _(scene):
		file = scene.disk_file("data1")

		def trim():
			scene.mount("data1", "/dev/byok/data1")
			scene.machine.run("dd if=/dev/urandom of=/mnt/data1/gone bs=1M count=64 conv=fsync"
				" 2>/dev/null && rm /mnt/data1/gone && sync", 120)
			before = file.stat().st_blocks
			answer = scene.machine.attempt("fstrim /mnt/data1", 60)
			scene.check_hashes("data1")
			scene.unmount("data1")
			stop_serving(scene)
			return answer.status, (before - file.stat().st_blocks) // 2048

		serve_through(scene, path)
		status, freed = trim()
		check(status != 0 and freed <= 0, f"fstrim: status {status}, {freed} MiB freed")
		scene.machine.run("echo allow_discards = yes >>/etc/byok/byok.conf")
		serve_through(scene, path)
		status, freed = trim()
		check(status == 0 and freed >= 64, f"fstrim: status {status}, {freed} MiB freed")
		scene.machine.run("sed -i /^allow_discards/d /etc/byok/byok.conf")
		return f"{freed} MiB"


def add_death_steps(chapter, path):
	@chapter.step(f"{path}: who uses a device sees no error when its process is killed")
	def _(scene):
		serve_through(scene, path)
		scene.mount("data1", "/dev/byok/data1")
		device = scene.machine.run("readlink /dev/byok/data1")
		pid = worker_of(scene, "data1")
		check(pid.isdigit(), f"the worker of data1 is {pid}")
		scene.machine.run(f"kill -KILL {pid}")
		write_more(scene, "data1", f"{path}-after-a-death")
		scene.machine.wait_for("byok status >/dev/null", 60)
		check(worker_of(scene, "data1") not in ("", pid), "no other process serves it")
		check(scene.machine.run("readlink /dev/byok/data1") == device, "it is another device now")
		scene.check_hashes("data1")
		scene.unmount("data1")
		stop_serving(scene)


def add_format_step(chapter):
	@chapter.step("two disks are formatted, with sectors of 4096 and of 512 bytes")
	def _(scene):
		for name, disk in DISKS.items():
			scene.machine.run(f"byok format {disk} --key {scene.kid} --identity {CLIENT_ID}"
				f" --name {name} --sector-size {SECTOR_SIZES[name]}"
				f" --recovery-key-file /run/{name}.recovery", 120)
			scene.recovery_keys[name] = scene.machine.get(f"/run/{name}.recovery")
		scene.hashes.clear()


def add_absence_step(chapter, path, module, is_absent):
	exit_status, sentence = is_absent

	@chapter.step(f"{path}: a kernel without it is said to be so")
	def _(scene):
		if module:
			scene.machine.run(f"rmmod {module} && rm /lib/modules/*/{module}.ko")
		answer = scene.machine.attempt(f"byok serve --data-path {path}", 60)
		check(answer.status == exit_status, f"exit status {answer.status}: {answer.output}")
		check(sentence in answer.output, f"it says {answer.output}")


def add_fallback_step(chapter, path):
	@chapter.step(f"auto is {path} here, and the log says so")
	def _(scene):
		scene.machine.run(": >/run/log/byok.log")
		serve_through(scene, None, expected=path)
		sentence = f"this kernel has no ublk that byok can use: {path} serves the disks"
		check(sentence in scene.log(), f"the log is {scene.log()}")
		for name in scene.hashes:
			scene.mount(name, f"/dev/byok/{name}")
			scene.check_hashes(name)
			scene.unmount(name)
		stop_serving(scene)


every_path = Chapter("Every data path, on a kernel that has them all", in_quick_runs=False)


@every_path.step("the machine boots with two blank disks")
def _(scene):
	scene.begin_anew()
	scene.boot("byok.serve=no")


add_format_step(every_path)
for each in DEVICES:
	add_basic_steps(every_path, each)
	add_end_steps(every_path, each)
	add_read_only_steps(every_path, each)
	add_discard_step(every_path, each)
	add_weak_disk_steps(every_path, each)
# What more kills do is in chapter_life.
add_death_steps(every_path, "nbd-kernel")


@every_path.step("the machine is powered off")
def _(scene):
	scene.machine.power_off()


old_kernel = Chapter("Debian's own kernel, which has no ublk", needs=[every_path],
	in_quick_runs=False)


@old_kernel.step("the machine boots with it, and blank disks")
def _(scene):
	# Blank, because a file system of a newer kernel is not this one's to judge.
	scene.make_blank_disks()
	scene.boot("byok.serve=no", image=scene.image.with_name("image-6.1"))
	release = scene.machine.run("uname -r")
	check(release.startswith("6.1."), f"it is {release}")
	return release


add_format_step(old_kernel)
add_fallback_step(old_kernel, "dm-crypt")
add_basic_steps(old_kernel, "dm-crypt")
add_end_steps(old_kernel, "dm-crypt")
add_basic_steps(old_kernel, "nbd-kernel")
add_end_steps(old_kernel, "nbd-kernel")
add_fallback_step(old_kernel, "dm-crypt")
add_absence_step(old_kernel, "ublk", None, UBLK_ABSENT)
add_absence_step(old_kernel, "dm-crypt", "dm_crypt", DM_CRYPT_ABSENT)
add_absence_step(old_kernel, "nbd-kernel", "nbd", NBD_KERNEL_ABSENT)


@old_kernel.step("without any of them, auto says that there is no ublk")
def _(scene):
	set_path(scene, None)
	exit_status, sentence = UBLK_ABSENT
	answer = scene.machine.attempt("byok serve", 60)
	check(answer.status == exit_status, f"exit status {answer.status}: {answer.output}")
	check(sentence in answer.output, f"it says {answer.output}")


@old_kernel.step("the machine is powered off")
def _(scene):
	scene.machine.power_off()


CHAPTERS = [every_path, old_kernel]

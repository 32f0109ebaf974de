"""Makes the root file system of a machine with systemd: Debian's packages unpacked, not installed,
on an ext4 image, with byok as README.md puts it into one: systemd_root.py FOLDER KERNEL BYOK"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from machine import TOP

HERE = Path(__file__).resolve().parent
PACKAGE_TOOL = TOP / "platform/deps/apt-private.sh"
SIZE_MIB = 1024
MERGED = ("bin", "sbin", "lib", "lib64")
FOLDERS = ("dev", "proc", "sys", "run", "tmp", "root", "mnt", "etc/byok", "srv/kafka/data1")
ENABLED = {"multi-user.target.wants": ("byok", "channel", "kafka", "systemd-networkd"),
	"network-online.target.wants": ("systemd-networkd-wait-online",)}
FILES = {
	"etc/profile": "export PATH=/usr/sbin:/usr/bin\n",
	"etc/machine-id": "0123456789abcdef0123456789abcdef\n",
	"etc/hostname": "broker\n",
	"etc/systemd/network/all.network": "[Match]\nName=e*\n[Network]\nDHCP=yes\n",
	"etc/systemd/system/channel.service":
		"[Service]\nExecStart=/usr/sbin/channel\n[Install]\nWantedBy=multi-user.target\n",
	# In Kafka's place: it writes, and notices errors.
	"etc/systemd/system/kafka.service": "[Unit]\nConditionPathExists=/etc/fstab\n[Service]\n"
		"ExecStart=/bin/sh -ec 'while :; do date >>/srv/kafka/data1/log; sync /srv/kafka/data1/log;"
		" sleep 0.1; done'\n",
	# The tests' loops sleep with it; coreutils has none.
	"usr/bin/usleep": "#!/bin/sh\nexec sleep 0.05\n",
}
PROGRAMS = ("usr/bin/usleep",)
# Where things go, as README.md says; checked by tests/program/test_documents.py there.
BYOK = {"platform/systemd/byok.service": "usr/lib/systemd/system/byok.service",
	"platform/systemd/90-byok.rules": "usr/lib/udev/rules.d/90-byok.rules",
	"platform/systemd/byok.sysusers": "usr/lib/sysusers.d/byok.conf"}


def package_names():
	lines = (HERE / "systemd_packages").read_text().splitlines()
	return [name for line in lines if not line.startswith("#") for name in line.split()]


def fetch_packages(folder):
	"""Those that are not there yet; a folder that is deleted is fetched anew."""
	folder.mkdir(parents=True, exist_ok=True)
	for name in package_names():
		if not list(folder.glob(f"{name}_*.deb")):
			subprocess.run([PACKAGE_TOOL, "deb", name, folder], check=True,
				stdout=subprocess.DEVNULL)


def unpack(deb, root):
	# What stands in /bin in a package goes where /bin leads.
	archive = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", deb], stdout=subprocess.PIPE)
	subprocess.run(["tar", "-x", "--no-same-owner", "--keep-directory-symlink", "-C", root,
		"--exclude=./usr/share/doc", "--exclude=./usr/share/locale", "--exclude=./usr/share/man"],
		stdin=archive.stdout, check=True)
	if archive.wait() != 0:
		raise subprocess.CalledProcessError(archive.returncode, deb)


def write(root, path, content, mode=0o644):
	(root / path).parent.mkdir(parents=True, exist_ok=True)
	(root / path).write_bytes(content)
	(root / path).chmod(mode)


def link_units(root):
	for target, names in ENABLED.items():
		folder = root / "etc/systemd/system" / target
		folder.mkdir(parents=True, exist_ok=True)
		for name in names:
			packed = root / f"usr/lib/systemd/system/{name}.service"
			place = "/usr/lib/systemd/system" if packed.exists() else "/etc/systemd/system"
			(folder / f"{name}.service").symlink_to(f"{place}/{name}.service")


def fill(root, debs, kernel, byok):
	for name in MERGED:
		(root / "usr" / name).mkdir(parents=True)
		(root / name).symlink_to(f"usr/{name}")
	for folder in FOLDERS:
		(root / folder).mkdir(parents=True)
	for deb in sorted(debs.glob("*.deb")):
		unpack(deb, root)
	for name in ("passwd", "group"):
		shutil.copy(root / f"usr/share/base-passwd/{name}.master", root / f"etc/{name}")
	for path, text in FILES.items():
		write(root, path, text.encode(), 0o755 if path in PROGRAMS else 0o644)
	for source, path in BYOK.items():
		write(root, path, (TOP / source).read_bytes())
	write(root, "usr/sbin/byok", byok.read_bytes(), 0o755)
	write(root, "usr/sbin/channel", (HERE / "channel").read_bytes(), 0o755)
	link_units(root)
	(modules,) = (kernel / "lib/modules").iterdir()
	shutil.copytree(modules, root / "usr/lib/modules" / modules.name, symlinks=True)
	subprocess.run([root / "usr/sbin/depmod", "-b", root, modules.name], check=True)


def digest_of(debs, kernel, byok):
	"""What the image is made of."""
	digest = hashlib.sha256()
	for path in (Path(__file__), HERE / "channel", byok, *(TOP / source for source in BYOK)):
		digest.update(path.read_bytes())
	for name in sorted(path.name for folder in (debs, kernel / "boot") for path in folder.iterdir()):
		digest.update(name.encode() + b"\0")
	return digest.hexdigest()


def make(folder, kernel, byok):
	"""FOLDER/root.img, of the packages in FOLDER/debs, an unpacked kernel package and the program.
	As root, or as who seems to be it."""
	image, made_of = folder / "root.img", folder / "made-of"
	digest = digest_of(folder / "debs", kernel, byok)
	if image.exists() and made_of.exists() and made_of.read_text() == digest:
		return
	root = folder / "root"
	made_of.unlink(missing_ok=True)
	shutil.rmtree(root, ignore_errors=True)
	root.mkdir()
	fill(root, folder / "debs", kernel, byok)
	image.unlink(missing_ok=True)
	with open(image, "wb") as file:
		file.truncate(SIZE_MIB << 20)
	path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
	subprocess.run([shutil.which("mkfs.ext4", path=path), "-q", "-d", root, image], check=True)
	shutil.rmtree(root)
	made_of.write_text(digest)


if __name__ == "__main__":
	make(*map(Path, sys.argv[1:4]))

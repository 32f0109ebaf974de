"""Writes the kernel's initramfs format, cpio "newc", without the times, owners and inode numbers
of this machine: equal content is equal bytes. The kernel takes several archives one after the
other, and what a later one holds replaces what an earlier one brought."""

import stat
from pathlib import Path


class Archive:
	"""An initramfs in the making: path in it -> (mode, content)."""

	def __init__(self):
		self.entries = {}

	def add(self, path, content, mode):
		path = str(path).strip("/")
		for folder in reversed(Path(path).parents):
			if str(folder) != ".":
				self.entries.setdefault(str(folder), (stat.S_IFDIR | 0o755, b""))
		entry = (mode, content)
		assert self.entries.setdefault(path, entry) == entry, f"two different {path}"

	def add_file(self, path, content, executable=False):
		self.add(path, content, stat.S_IFREG | (0o755 if executable else 0o644))

	def add_link(self, path, target):
		self.add(path, str(target).encode(), stat.S_IFLNK | 0o777)

	def add_folder(self, path):
		self.add(path, b"", stat.S_IFDIR | 0o755)

	def encode(self):
		encoded = bytearray()
		trailer = [("TRAILER!!!", (0, b""))]
		# Sorted, a folder comes before what is in it.
		for number, (path, (mode, content)) in enumerate(sorted(self.entries.items()) + trailer):
			name = path.encode() + b"\0"
			links = 2 if stat.S_ISDIR(mode) else 1
			fields = (number, mode, 0, 0, links, 0, len(content), 0, 0, 0, 0, len(name), 0)
			encoded += b"070701" + b"".join(b"%08X" % field for field in fields) + name
			encoded += bytes(-len(encoded) % 4) + content
			encoded += bytes(-len(encoded) % 4)
		return bytes(encoded)

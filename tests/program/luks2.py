"""LUKS2 headers, read and written by hand: an implementation of the format apart from byok's, with
which tests make every malformed header and first prove that the defect is in it."""

import hashlib
import json
import struct
from pathlib import Path

FORMAT = ">6sHQQ48s32s64s40s48sQ184x64s3584x"
FIELDS = ("magic version header_size sequence_id label checksum_kind salt uuid subsystem offset "
	"checksum").split()
MAGICS = (b"LUKS\xba\xbe", b"SKUL\xba\xbe")
BINARY_SIZE = 4096


class Copy:
	"""One copy of the header, in memory."""

	def __init__(self, raw):
		for name, value in zip(FIELDS, struct.unpack(FORMAT, raw[:BINARY_SIZE])):
			setattr(self, name, value)
		self.area = raw[BINARY_SIZE:]

	@property
	def text(self):
		return self.area.rstrip(b"\0").decode()

	@property
	def metadata(self):
		return json.loads(self.text)

	def set_text(self, text):
		raw = text if isinstance(text, bytes) else text.encode()
		assert len(raw) <= len(self.area)
		self.area = raw + bytes(len(self.area) - len(raw))

	def binary(self, checksum=bytes(64)):
		values = [getattr(self, name) for name in FIELDS[:-1]]
		return struct.pack(FORMAT, *values, checksum)

	def computed_checksum(self):
		return hashlib.sha256(self.binary() + self.area).digest().ljust(64, b"\0")

	@property
	def is_whole(self):
		return self.checksum == self.computed_checksum()

	def seal(self):
		self.checksum = self.computed_checksum()

	def raw(self):
		return self.binary(self.checksum) + self.area


def header_size(disk):
	with open(disk, "rb") as file:
		return struct.unpack(">Q", file.read(16)[8:])[0]


def read(disk, which=0, size=None):
	"""The primary (0) or secondary (1) copy."""
	size = size or header_size(disk)
	with open(disk, "rb") as file:
		file.seek(which * size)
		return Copy(file.read(size))


def write(disk, copy, which, size=None):
	with open(disk, "r+b") as file:
		file.seek(which * (size or copy.header_size))
		file.write(copy.raw())


def change(disk, edit, copies=(0, 1), seal=True):
	"""Applies `edit(copy)` to the copies, with right checksums unless told otherwise."""
	size = header_size(disk)
	for which in copies:
		copy = read(disk, which, size)
		edit(copy)
		if seal:
			copy.seal()
		write(disk, copy, which, size)


def change_metadata(disk, edit, copies=(0, 1)):
	"""Applies `edit(metadata)` to the JSON of the copies."""
	def apply(copy):
		metadata = copy.metadata
		edit(metadata)
		copy.set_text(json.dumps(metadata, separators=(",", ":")))
	change(disk, apply, copies)


def change_text(disk, old, new, copies=(0, 1)):
	"""Replaces a part of the JSON text, which must be there."""
	def apply(copy):
		assert old in copy.text, f"{old} is not in {copy.text}"
		copy.set_text(copy.text.replace(old, new, 1))
	change(disk, apply, copies)


def overwrite(disk, offset, content):
	with open(disk, "r+b") as file:
		file.seek(offset)
		file.write(content)


def both_are_whole_and_equal(disk):
	first, second = read(disk, 0), read(disk, 1)
	return (first.is_whole and second.is_whole and first.area == second.area
		and first.sequence_id == second.sequence_id and first.salt != second.salt)


def content_hash(disk):
	return hashlib.sha256(Path(disk).read_bytes()).hexdigest()

"""A disk with a volatile write cache that can be cut off its power: an NBD server on a unix socket,
for QEMU to present to the machine, in front of an image file.

What the machine writes is read back at once, but counts as safe only after a flush that was asked
for when the write had been answered (or with FUA, for that write alone). `freeze` is a cut: it
makes the image that a machine could find afterwards, for which every other write was dropped, kept
whole, or kept in some of its blocks, each by chance. The kernel's page cache cannot do that: what
QEMU was told to write survives QEMU's death, flushed or not.

A `lying` disk answers flushes and does nothing. Any order and any tear at blocks is a thing that
real disks do; that a drawn one is the worst is not claimed.
"""

import os
import random
import socket
import struct
import subprocess
import threading

# What a disk of physical blocks of this size writes whole or not at all; the machine is told so.
BLOCK_SIZE = 4096

OPTION_MAGIC = 0x49484156454F5054
REPLY_MAGIC = 0x3E889045565A9
REQUEST_MAGIC, ANSWER_MAGIC = 0x25609513, 0x67446698
FIXED_NEWSTYLE, NO_ZEROES = 1, 2
OPTION_GO, OPTION_ABORT = 7, 2
REPLY_ACK, REPLY_INFO, REPLY_UNSUPPORTED = 1, 3, 0x80000001
READ, WRITE, DISCONNECT, FLUSH = 0, 1, 2, 3
COMMAND_FUA = 1
# Has flags, takes flush and FUA.
EXPORT_FLAGS = 1 | 4 | 8


class VolatileDisk:
	def __init__(self, folder, name, size_bytes, seed):
		self.size_bytes = size_bytes
		self.random = random.Random(seed)
		self.lying = False
		self.lock = threading.Lock()
		# In the order they were answered: (offset, data, whether it is safe already).
		self.unflushed = []
		self.safe_path = folder / f"{name}.safe"
		self.socket_path = folder / f"{name}.socket"
		self.safe = self.sized_file(self.safe_path)
		self.cached_path = folder / f"{name}.cached"
		self.cached = self.sized_file(self.cached_path)
		self.socket_path.unlink(missing_ok=True)
		self.listener = socket.socket(socket.AF_UNIX)
		self.listener.bind(str(self.socket_path))
		self.listener.listen()
		threading.Thread(target=self.accept, daemon=True).start()

	def sized_file(self, path):
		descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
		os.ftruncate(descriptor, self.size_bytes)
		return descriptor

	def close(self):
		self.listener.close()
		for descriptor in (self.safe, self.cached):
			os.close(descriptor)
		for path in (self.safe_path, self.cached_path, self.socket_path):
			path.unlink(missing_ok=True)

	# The cut

	def freeze(self, path):
		"""Makes the image a cut at this moment could leave. Returns (bytes of unflushed writes that
		it dropped, that it kept)."""
		with self.lock:
			subprocess.run(["cp", "--sparse=always", "--reflink=auto", self.safe_path, path],
				check=True)
			unflushed = list(self.unflushed)
		dropped = kept = 0
		# Most of a cache may have been written out in the meantime, or next to nothing of it.
		chance = self.random.choice((0.0, 0.5, 0.9))
		with open(path, "r+b") as image:
			for offset, data, is_safe in unflushed:
				for part_offset, part in self.drawn_parts(offset, data, is_safe, chance):
					kept += len(part)
					os.pwrite(image.fileno(), part, part_offset)
				dropped += len(data)
		return dropped - kept, kept

	def drawn_parts(self, offset, data, is_safe, chance):
		if is_safe:
			return [(offset, data)]
		if self.random.random() < 0.5:
			return [(offset, data)] if self.random.random() < chance else []
		parts, position = [], 0
		while position < len(data):
			end = min(len(data), position + BLOCK_SIZE - (offset + position) % BLOCK_SIZE)
			if self.random.random() < chance:
				parts.append((offset + position, data[position:end]))
			position = end
		return parts

	def become(self, path):
		"""After a cut: from now on it is the disk that `freeze` left in `path`."""
		with self.lock:
			self.unflushed.clear()
			for target in (self.safe_path, self.cached_path):
				subprocess.run(["cp", "--sparse=always", path, target], check=True)

	# What the machine asks for

	def accept(self):
		while True:
			try:
				connection, _ = self.listener.accept()
			except OSError:
				return
			threading.Thread(target=self.serve, args=[connection], daemon=True).start()

	def serve(self, connection):
		try:
			with connection:
				if self.negotiate(connection):
					while self.answer(connection):
						pass
		except (EOFError, OSError):
			# QEMU was killed.
			pass

	def negotiate(self, connection):
		connection.sendall(b"NBDMAGIC" + struct.pack(">QH", OPTION_MAGIC,
			FIXED_NEWSTYLE | NO_ZEROES))
		receive(connection, 4)
		while True:
			_, option, length = struct.unpack(">QII", receive(connection, 16))
			receive(connection, length)
			if option == OPTION_ABORT:
				return False
			if option != OPTION_GO:
				connection.sendall(struct.pack(">QIII", REPLY_MAGIC, option,
					REPLY_UNSUPPORTED, 0))
				continue
			information = struct.pack(">HQH", 0, self.size_bytes, EXPORT_FLAGS)
			connection.sendall(struct.pack(">QIII", REPLY_MAGIC, option, REPLY_INFO,
				len(information)) + information)
			connection.sendall(struct.pack(">QIII", REPLY_MAGIC, option, REPLY_ACK, 0))
			return True

	def answer(self, connection):
		header = receive(connection, 28)
		_, flags, kind, handle, offset, length = struct.unpack(">IHHQQI", header)
		if kind == DISCONNECT:
			return False
		data = b""
		if kind == WRITE:
			written = receive(connection, length)
			with self.lock:
				os.pwrite(self.cached, written, offset)
				self.unflushed.append((offset, written,
					flags & COMMAND_FUA != 0 and not self.lying))
		elif kind == READ:
			data = os.pread(self.cached, length, offset)
		elif kind == FLUSH and not self.lying:
			with self.lock:
				for write_offset, written, _ in self.unflushed:
					os.pwrite(self.safe, written, write_offset)
				self.unflushed.clear()
		# Requests are answered one after the other, so that a flush finds every write in the
		# cache that was answered before it was asked for, and no other.
		connection.sendall(struct.pack(">IIQ", ANSWER_MAGIC, 0, handle) + data)
		return True


def receive(connection, length):
	buffer = bytearray(length)
	view = memoryview(buffer)
	while view:
		count = connection.recv_into(view)
		if count == 0:
			raise EOFError
		view = view[count:]
	return bytes(buffer)

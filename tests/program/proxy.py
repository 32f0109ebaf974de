"""A small HTTP proxy for tests: CONNECT only, in a thread; or what a bad one answers instead."""

import contextlib
import select
import socket
import threading


class Proxy:
	"""with Proxy(...) as proxy: ... `targets` says where a CONNECT to HOST:PORT really leads; what is
	not named there is taken at its word. `heads` are the requests that have come. `answers`, if
	given, is called with a connection whose request was read, instead of connecting it."""

	def __init__(self, targets=None, answers=None):
		self.targets = targets or {}
		self.answers = answers
		self.heads = []
		self.listener = socket.create_server(("127.0.0.1", 0))
		self.port = self.listener.getsockname()[1]
		self.url = f"http://127.0.0.1:{self.port}"

	def __enter__(self):
		threading.Thread(target=self._accept, daemon=True).start()
		return self

	def __exit__(self, *_):
		with contextlib.suppress(OSError):
			self.listener.shutdown(socket.SHUT_RDWR)
		self.listener.close()

	def _accept(self):
		with contextlib.suppress(OSError):
			while True:
				client, _ = self.listener.accept()
				threading.Thread(target=self._serve, args=(client,), daemon=True).start()

	def _serve(self, client):
		with client, contextlib.suppress(OSError):
			head = b""
			while not head.endswith(b"\r\n\r\n"):
				byte = client.recv(1)
				if not byte:
					return
				head += byte
			self.heads.append(head.decode())
			if self.answers is not None:
				self.answers(client)
				return
			method, target = head.decode().split()[:2]
			target = self.targets.get(target, target)
			host, _, port = target.rpartition(":")
			with socket.create_connection((host, int(port))) as server:
				client.sendall(b"HTTP/1.1 200 Connection established\r\nVia: a test\r\n\r\n")
				assert method == "CONNECT"
				_pump(client, server)


def _pump(client, server):
	while True:
		for one in select.select([client, server], [], [])[0]:
			data = one.recv(65536)
			if not data:
				return
			(server if one is client else client).sendall(data)

"""The two listening servers: HTTP/1.1 with keep-alive, a thread for each connection."""

import contextlib
import dataclasses
import email.utils
import http.server
import itertools
import json
import os
import secrets
import signal
import socket
import ssl
import struct
import sys
import threading
import time
import urllib.parse

from . import faults, imds, keyvault, login, tls
from .answer import Answer
from .store import write_whole

BODY_LIMIT = 1 << 20
_IDLE_SECONDS = 120
_HANDSHAKE_SECONDS = 30
_connection_numbers = itertools.count(1)


class _Closed(Exception):
	"""The connection ends here, with no further answer."""


@dataclasses.dataclass
class Request:
	method: str
	host: str
	path: str
	query: dict
	headers: object
	body: bytes
	operation: str
	key: str | None
	version: str | None
	note: dict  # what the log will say


class _Server(http.server.ThreadingHTTPServer):
	daemon_threads = True
	request_queue_size = 256
	allow_reuse_address = True

	def __init__(self, address, role, store, contexts=None):
		self.role = role
		self.store = store
		self.contexts = contexts
		self.key_vault = keyvault.KeyVault(store)
		super().__init__(address, _Handler)

	def server_bind(self):
		"""Without the reverse look-up of the ordinary one."""
		self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
		self.socket.bind(self.server_address)
		self.server_address = self.socket.getsockname()
		self.server_name, self.server_port = self.server_address[:2]

	def handle_error(self, request, client_address):
		error = sys.exc_info()[1]
		if not isinstance(error, (OSError, _Closed)):
			super().handle_error(request, client_address)


class _Handler(http.server.BaseHTTPRequestHandler):
	protocol_version = "HTTP/1.1"
	disable_nagle_algorithm = True
	timeout = _IDLE_SECONDS

	def setup(self):
		self.number = next(_connection_numbers)
		self.sni = None
		self.resets = False
		self._meet_connect_fault()
		if self.server.contexts is not None:
			self._start_tls()
		super().setup()

	def _start_tls(self):
		plain = self.request
		plain.settimeout(_HANDSHAKE_SECONDS)
		secure = self.server.contexts.default.wrap_socket(
			plain, server_side=True, do_handshake_on_connect=False
		)
		self.request = secure
		try:
			secure.do_handshake()
		except OSError as error:
			self._log(
				{
					"event": "tls-failed",
					"sni": getattr(secure, "devvault_sni", None),
					"error": getattr(error, "reason", None) or type(error).__name__,
				}
			)
			secure.close()
			raise _Closed from error
		self.sni = getattr(secure, "devvault_sni", None)

	def _meet_connect_fault(self):
		fault = faults.take(self.server.store, self.server.role, "connect")
		if fault is None:
			return
		effects = fault["effects"]
		time.sleep(effects.get("delay", 0))
		if effects.get("close") or effects.get("reset"):
			self._log({"event": "connection-refused", "fault": fault["id"]})
			if effects.get("reset"):
				_reset_on_close(self.request)
			self.request.close()
			raise _Closed

	def finish(self):
		with contextlib.suppress(OSError):
			super().finish()
		if isinstance(self.request, ssl.SSLSocket) and not self.resets:
			with contextlib.suppress(OSError):
				self.request.settimeout(1)
				self.request.unwrap()
		self.request.close()

	def _log(self, record):
		self.server.store.log(
			{
				"time": round(time.time(), 3),
				"server": self.server.role,
				"connection": self.number,
				**record,
			}
		)

	def log_message(self, format, *arguments):
		"""Silenced: requests.jsonl says more."""

	def version_string(self):
		return "IMDS/150.870.65.1854" if self.server.role == "imds" else "devvault"

	# Any method is answered by the same code.
	def do_GET(self):
		self._serve()

	do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_OPTIONS = do_GET

	def _serve(self):
		started = time.monotonic()
		request = self._read_request()
		role = request.note["server"]
		fault = faults.take(self.server.store, role, request.operation, request.host, request.key)
		effects = fault["effects"] if fault else {}
		answer = self._answer(request, fault)
		delay = effects.get("delay", 0)
		# Logged before the client sees any of the answer, so that a test may count at once.
		self._log(
			{
				**request.note,
				"status": answer.status,
				"code": answer.code,
				"inner": answer.inner,
				"fault": fault and fault["id"],
				"seconds": round(time.monotonic() - started + delay, 4),
			}
		)
		time.sleep(delay)
		try:
			self._end_by_fault(effects)
			self._send(request, fault, answer)
		except (OSError, _Closed):
			self.close_connection = True

	def _read_request(self):
		split = urllib.parse.urlsplit(self.path)
		query = urllib.parse.parse_qs(split.query, keep_blank_values=True)
		host = (self.headers.get("Host") or "").rpartition("@")[2].lower()
		if not host.startswith("["):
			host = host.partition(":")[0]
		path = urllib.parse.unquote(split.path)
		if self.server.role == "imds":
			role, (operation, key, version) = "imds", (imds.operation(path), None, None)
		elif host in login.HOSTS:
			role, (operation, key, version) = "login", (login.operation(path), None, None)
		elif host in self.server.store.state.read()["strangers"]:
			role, (operation, key, version) = "stranger", ("stranger", None, None)
		else:
			role, (operation, key, version) = "vault", keyvault.route(self.command, path)
		note = {
			"server": role,
			"method": self.command,
			"host": host,
			"sni": self.sni,
			"path": path,
			"query": {
				name: values[0] if len(values) == 1 else values for name, values in query.items()
			},
			"operation": operation,
			"key": key,
			"version": version,
			"identity": None,
			"bearer": self.headers.get("Authorization") is not None,
			"auth": "none",
			"tls": self.request.version() if isinstance(self.request, ssl.SSLSocket) else None,
			"user_agent": self.headers.get("User-Agent"),
		}
		return Request(
			self.command,
			host,
			path,
			query,
			self.headers,
			self._read_body(),
			operation,
			key,
			version,
			note,
		)

	def _read_body(self):
		"""The body by its length; a body of unknown or absurd length ends the connection later."""
		if self.headers.get("Transfer-Encoding"):
			self.close_connection = True
			return None
		length = self.headers.get("Content-Length", "0")
		if not length.isdigit() or int(length) > BODY_LIMIT:
			self.close_connection = True
			return None
		body = self.rfile.read(int(length))
		if len(body) < int(length):
			raise _Closed
		return body

	def _answer(self, request, fault):
		if fault and faults.replaces(fault):
			return faults.refusal(fault, request.note["server"])
		if request.body is None:
			return Answer(411, body=b"", content_type="text/plain")
		if self.sni and self.sni != request.host:
			return Answer(421, body=b"", content_type="text/plain")
		if request.note["server"] == "imds":
			return imds.handle(self.server.store, request, fault)
		if request.note["server"] == "login":
			return login.handle(self.server.store, request, fault)
		if request.note["server"] == "stranger":
			return Answer(200, {"stranger": request.host})
		return self.server.key_vault.handle(request)

	def _end_by_fault(self, effects):
		"""Ends the connection instead of answering, if the fault says so."""
		if effects.get("reset"):
			self.resets = True
			_reset_on_close(self.connection)
		if effects.get("reset") or effects.get("close"):
			raise _Closed

	def _send(self, request, fault, answer):
		if fault:
			faults.apply(fault, answer)
		effects = fault["effects"] if fault else {}
		kind = effects.get("body") if "raw_body" not in effects else None
		body = answer.encoded()
		head = self._head(request, answer, body, chunked=kind == "endless")
		if request.method == "HEAD":
			body = b""
		if kind == "endless":
			self._send_endless(head)
		elif kind == "cut":
			self.wfile.write(head + body[: len(body) // 2])
			raise _Closed
		elif "slow_drip" in effects:
			self._send_slowly(head + body, effects["slow_drip"])
		else:
			self.wfile.write(head + body)

	def _head(self, request, answer, body, chunked):
		reason = http.server.BaseHTTPRequestHandler.responses.get(answer.status, ("Unknown",))[0]
		now = self.server.store.now()
		headers = [
			("Server", self.version_string()),
			("Date", email.utils.formatdate(now, usegmt=True)),
		]
		if chunked:
			headers.append(("Transfer-Encoding", "chunked"))
		elif answer.status != 204:
			headers.append(("Content-Length", str(len(body))))
		if body or chunked:
			headers.append(("Content-Type", answer.content_type))
		if request.note["server"] == "vault":
			headers += [
				("Cache-Control", "no-cache"),
				("Pragma", "no-cache"),
				("x-ms-keyvault-region", "devvault"),
				("x-ms-request-id", _request_id()),
				("x-ms-keyvault-service-version", "1.9.0.0"),
				(
					"x-ms-keyvault-network-info",
					f"conn_type=Ipv4;addr={self.client_address[0]};act_addr_fam=InterNetwork;",
				),
				("Strict-Transport-Security", "max-age=31536000;includeSubDomains"),
				("X-Content-Type-Options", "nosniff"),
			]
		if self.close_connection:
			headers.append(("Connection", "close"))
		headers += answer.headers
		lines = [f"HTTP/1.1 {answer.status} {reason}"] + [
			f"{name}: {value}" for name, value in headers
		]
		return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

	def _send_endless(self, head):
		self.wfile.write(head)
		chunk = b"4000\r\n" + b"x" * 0x4000 + b"\r\n"
		while True:
			self.wfile.write(chunk)

	def _send_slowly(self, data, pause):
		for position in range(len(data)):
			self.wfile.write(data[position : position + 1])
			time.sleep(pause)


def _request_id():
	raw = secrets.token_hex(16)
	return f"{raw[:8]}-{raw[8:12]}-{raw[12:16]}-{raw[16:20]}-{raw[20:]}"


def _reset_on_close(connection):
	"""The peer sees RST where it would see FIN."""
	connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _wait_for_end_of_input(ends):
	while os.read(0, 4096):
		pass
	ends.set()


def serve(
	store,
	bind="127.0.0.1",
	imds_bind=None,
	imds_port=0,
	vault_port=0,
	ready_file=None,
	tls_max=None,
	until_stdin_closes=False,
):
	"""Runs until SIGTERM or SIGINT. A port of None leaves that server out."""
	store.check_initialised()
	ends = threading.Event()
	for number in (signal.SIGTERM, signal.SIGINT):
		signal.signal(number, lambda *_: ends.set())
	servers = {}
	if imds_port is not None:
		servers["imds"] = _Server((imds_bind or bind, imds_port), "imds", store)
	if vault_port is not None:
		servers["vault"] = _Server((bind, vault_port), "vault", store, tls.Contexts(store, tls_max))
	for server in servers.values():
		threading.Thread(target=server.serve_forever, daemon=True).start()
	ready = {"pid": os.getpid(), "bind": bind, "ca_file": store.tls_path("ca.pem")}
	for role, server in servers.items():
		ready[f"{role}_port"] = server.server_port
	if "imds" in servers:
		ready["imds_url"] = "http://%s:%d" % servers["imds"].server_address[:2]
	if ready_file:
		write_whole(ready_file, json.dumps(ready) + "\n", mode=0o644)
	if until_stdin_closes:
		threading.Thread(target=_wait_for_end_of_input, args=(ends,), daemon=True).start()
	ends.wait()
	for server in servers.values():
		server.socket.close()

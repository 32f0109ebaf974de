"""The vault agent as a process, as the supervisor starts it, against the vault double over real TLS."""

import atexit
import contextlib
import ctypes
import functools
import os
import pathlib
import re
import resource
import secrets
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests/program")]

import harness  # noqa: E402
from devvault import Devvault, encode_base64url  # noqa: E402

BYOK = os.environ.get("BYOK", str(ROOT / "build/byok"))
BYOK_ASAN = os.environ.get("BYOK_ASAN", BYOK)
BYOK_TSAN = os.environ.get("BYOK_TSAN", BYOK_ASAN)
CLIENT = "11111111-2222-3333-4444-555555555555"
STRANGER = "99999999-2222-3333-4444-555555555555"
SOCKET_FD = 3
PR_CAPBSET_DROP, CAP_SYS_RESOURCE = 24, 24

# The words of platform/status.h by their numbers.
STATUS = {number: word for word, (number, _) in harness.STATUSES.items()}

VERSION = 1
CONFIGURE, REQUEST, ANSWER = 1, 2, 3
GET_KEY, WRAP, UNWRAP, TOKEN = 1, 2, 3, 4
TEXT, WRAPPED, SETTINGS = 256, 704, 2048


class Header(ctypes.Structure):
	_fields_ = [(name, ctypes.c_uint32) for name in ("version", "type", "size", "id")]


class Configure(ctypes.Structure):
	_fields_ = [
		("header", Header),
		("imds_endpoint", ctypes.c_char * TEXT),
		("vault_connect_to", ctypes.c_char * TEXT),
		("ca_file", ctypes.c_char * TEXT),
		("proxy", ctypes.c_char * TEXT),
		("federated_token_file", ctypes.c_char * TEXT),
		("tenant", ctypes.c_char * TEXT),
		("authority_host", ctypes.c_char * TEXT),
		("attempt_timeout_ms", ctypes.c_uint32),
		("operation_deadline_ms", ctypes.c_uint32),
		("connection_count", ctypes.c_uint32),
	]


class Request(ctypes.Structure):
	_fields_ = [
		("header", Header),
		("operation", ctypes.c_uint32),
		("client_id", ctypes.c_char * TEXT),
		("key_url", ctypes.c_char * TEXT),
		("algorithm", ctypes.c_char * 32),
		("wrapped", ctypes.c_char * WRAPPED),
		("secret", ctypes.c_uint8 * 32),
		("secret_size", ctypes.c_uint32),
	]


class Answer(ctypes.Structure):
	_fields_ = [
		("header", Header),
		("status", ctypes.c_uint32),
		("operation", ctypes.c_uint32),
		("detail", ctypes.c_char * TEXT),
		("kid", ctypes.c_char * TEXT),
		("wrapped", ctypes.c_char * WRAPPED),
		("secret_bytes", ctypes.c_uint8 * 32),
		("secret_size", ctypes.c_uint32),
		("key_bits", ctypes.c_uint32),
		("not_before_s", ctypes.c_int64),
		("expires_s", ctypes.c_int64),
		("enabled", ctypes.c_uint32),
		("has_expired", ctypes.c_uint32),
		("retry_after_ms", ctypes.c_uint32),
		("attempts", ctypes.c_uint32),
		("waited_ms", ctypes.c_uint32),
		("settings", ctypes.c_char * SETTINGS),
	]

	@property
	def word(self):
		return STATUS[self.status]

	@property
	def secret(self):
		return bytes(self.secret_bytes)[: self.secret_size]


class Agent:
	"""Stands where the supervisor stands."""

	def __init__(
		self,
		vault,
		program=BYOK,
		deadline_ms=30000,
		attempt_ms=5000,
		connections=4,
		imds=None,
		connect_to=None,
		ca_file=None,
		before=lambda: None,
	):
		self.socket, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
		self.socket.settimeout(60)
		self.log = tempfile.TemporaryFile()
		self.process = subprocess.Popen(
			[program, "--role", "vault-agent", "nobody"],
			stdin=subprocess.DEVNULL,
			stderr=self.log,
			pass_fds=(SOCKET_FD,),
			preexec_fn=lambda: (before(), os.dup2(other.fileno(), SOCKET_FD)),
		)
		other.close()
		self.next_id = 100
		self.send(
			CONFIGURE,
			Configure(
				imds_endpoint=(imds or vault.imds_url).encode(),
				vault_connect_to=(connect_to or f"127.0.0.1:{vault.vault_port}").encode(),
				ca_file=(ca_file or vault.ca_file).encode(),
				attempt_timeout_ms=attempt_ms,
				operation_deadline_ms=deadline_ms,
				connection_count=connections,
			),
		)

	def __enter__(self):
		return self

	def __exit__(self, *unused):
		self.end()
		self.log.close()

	def end(self):
		"""Closes the supervisor's end; gives the exit status."""
		self.socket.close()
		try:
			return self.process.wait(timeout=30)
		except subprocess.TimeoutExpired:
			self.process.kill()
			self.process.wait()
			raise

	def log_text(self):
		self.log.seek(0)
		return self.log.read().decode(errors="replace")

	def send(self, kind, message, message_id=0):
		message.header = Header(VERSION, kind, ctypes.sizeof(message), message_id)
		self.socket.send(bytes(message))

	def ask_for(self, operation, key_url, client_id=CLIENT, algorithm="RSA-OAEP-256", wrapped="", secret=b""):
		"""Sends a request; gives its id."""
		self.next_id += 1
		request = Request(
			operation=operation,
			key_url=key_url.encode(),
			client_id=client_id.encode(),
			algorithm=algorithm.encode(),
			wrapped=wrapped.encode(),
			secret_size=len(secret),
		)
		request.secret[: len(secret)] = secret
		self.send(REQUEST, request, self.next_id)
		return self.next_id

	def receive(self):
		packet = self.socket.recv(65536)
		if not packet:
			raise AssertionError(f"the agent ended; it said:\n{self.log_text()}")
		assert len(packet) == ctypes.sizeof(Answer), len(packet)
		answer = Answer.from_buffer_copy(packet)
		assert answer.header.type == ANSWER
		return answer

	def ask(self, *arguments, **options):
		message_id = self.ask_for(*arguments, **options)
		answer = self.receive()
		assert answer.header.id == message_id
		return answer

	def get(self, key_url, **options):
		return self.ask(GET_KEY, key_url, **options)

	def wrap(self, key_url, secret, **options):
		return self.ask(WRAP, key_url, secret=secret, **options)

	def unwrap(self, key_url, wrapped, **options):
		return self.ask(UNWRAP, key_url, wrapped=wrapped, **options)


class Double:
	def __init__(self):
		self.folder = tempfile.mkdtemp(prefix="byok-agent-")
		atexit.register(shutil.rmtree, self.folder)
		os.chmod(self.folder, 0o755)
		self.vault = vault = Devvault(os.path.join(self.folder, "state"))
		atexit.register(vault.stop)
		vault.identity_add(CLIENT)
		self.kids = []
		for name in ("kv1", "kv2"):
			vault.vault_create(name)
			self.kids.append(vault.key_create(name, "disk"))
			vault.grant(name, CLIENT)
		self.secret = secrets.token_bytes(32)
		self.wrapped = vault.wrap(self.kids[0], self.secret)
		vault.start()


@functools.cache
def shared_double():
	"""One double serves all tests of this file: it is started with the first of them."""
	return Double()


class VaultAgentTest(unittest.TestCase):
	program = BYOK

	@classmethod
	def setUpClass(cls):
		double = shared_double()
		cls.folder, cls.vault = double.folder, double.vault
		cls.kid, cls.kid2 = double.kids
		cls.newest = cls.kid.rsplit("/", 1)[0]
		cls.secret, cls.wrapped = double.secret, double.wrapped

	def setUp(self):
		self.vault.fault_clear()
		self.vault.log_clear()

	def agent(self, **options):
		agent = Agent(self.vault, program=self.program, **options)
		self.addCleanup(agent.__exit__)
		return agent

	def unwrap_under(self, deadline_ms=5000, **fault):
		"""An unwrap while the vault has that fault."""
		self.vault.fault_clear()
		self.vault.log_clear()
		if fault:
			self.vault.fault_add(**fault)
		with Agent(self.vault, program=self.program, deadline_ms=deadline_ms) as agent:
			return agent.unwrap(self.kid, self.wrapped)

	def requests(self, **filters):
		return self.vault.log(**filters)


class WhenAllIsWell(VaultAgentTest):
	def test_what_was_wrapped_unwraps_to_the_same(self):
		agent = self.agent()
		secret = secrets.token_bytes(32)
		wrapped = agent.wrap(self.kid, secret)
		self.assertEqual(wrapped.word, "ok", wrapped.detail)
		self.assertEqual(wrapped.kid.decode(), self.kid)
		self.assertEqual(self.vault.unwrap(self.kid, wrapped.wrapped.decode()), secret)
		unwrapped = agent.unwrap(self.kid, wrapped.wrapped.decode())
		self.assertEqual(unwrapped.word, "ok", unwrapped.detail)
		self.assertEqual(unwrapped.secret, secret)
		self.assertEqual(unwrapped.kid.decode(), self.kid)

	def test_a_key_is_described(self):
		answer = self.agent().get(self.newest)
		self.assertEqual(answer.word, "ok", answer.detail)
		self.assertEqual(answer.kid.decode(), self.kid)
		self.assertEqual(
			(answer.key_bits, answer.enabled, answer.has_expired, answer.not_before_s, answer.expires_s),
			(2048, 1, 0, 0, 0),
		)

	def test_a_wrap_by_the_newest_version_says_which_that_is(self):
		answer = self.agent().wrap(self.newest, self.secret)
		self.assertEqual((answer.word, answer.kid.decode()), ("ok", self.kid))

	def test_a_key_url_in_capitals_is_the_same_key(self):
		answer = self.agent().unwrap(self.kid.upper().replace("/KEYS/DISK/", "/keys/DISK/"), self.wrapped)
		self.assertEqual((answer.word, answer.secret), ("ok", self.secret))

	def test_one_token_and_one_connection_serve_several_requests(self):
		agent = self.agent()
		for _ in range(3):
			self.assertEqual(agent.unwrap(self.kid, self.wrapped).word, "ok")
		self.assertEqual(len(self.requests(operation="token")), 1)
		unwraps = self.requests(operation="unwrapkey")
		self.assertEqual(len(unwraps), 3)
		self.assertEqual(len({entry["connection"] for entry in unwraps}), 1)

	def test_attempts_and_time_are_told(self):
		answer = self.agent().unwrap(self.kid, self.wrapped)
		self.assertEqual(answer.attempts, 2)
		self.assertGreater(answer.waited_ms, 0)

	def test_a_token_alone_can_be_asked_for(self):
		answer = self.agent().ask(TOKEN, self.kid)
		self.assertEqual(answer.word, "ok", answer.detail)
		self.assertEqual([entry["server"] for entry in self.requests()], ["imds"])

	def test_more_requests_than_are_worked_on_at_once_are_all_answered(self):
		agent = self.agent(deadline_ms=60000)
		ids = {agent.ask_for(GET_KEY, self.kid) for _ in range(40)}
		answers = [agent.receive() for _ in ids]
		self.assertEqual({answer.header.id for answer in answers}, ids)
		self.assertEqual({answer.word for answer in answers}, {"ok"})

	def test_as_many_requests_as_there_are_connections_wait_at_the_same_time(self):
		self.vault.fault_add(match="unwrapkey", delay=20)
		agent = self.agent(connections=8, attempt_ms=60000, deadline_ms=60000)
		for _ in range(12):
			agent.ask_for(UNWRAP, self.kid, wrapped=self.wrapped)
		self.vault.wait_for_log(count=8, timeout=15, operation="unwrapkey")
		self.assertEqual(len({entry["connection"] for entry in self.requests(operation="unwrapkey")}), 8)
		self.assertEqual(len(self.requests(operation="token")), 1)
		agent.process.kill()

	def test_where_little_memory_can_be_locked_fewer_connections_serve_all(self):
		def before():
			resource.setrlimit(resource.RLIMIT_MEMLOCK, (8 << 20, 8 << 20))
			ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_SYS_RESOURCE, 0, 0, 0)

		roots = pathlib.Path(self.vault.ca_file).read_text()
		large = os.path.join(self.folder, "large.pem")
		with open(large, "w") as file:
			file.write(roots * (220000 // len(roots)))
		self.vault.fault_add(match="unwrapkey", delay=1)
		for ca_file in (self.vault.ca_file, large):
			with self.subTest(ca_file):
				agent = self.agent(connections=16, ca_file=ca_file, before=before, deadline_ms=60000)
				for _ in range(20):
					agent.ask_for(UNWRAP, self.kid, wrapped=self.wrapped)
				words = [agent.receive().word for _ in range(20)]
				self.assertEqual(words, ["ok"] * 20)

	def test_a_vault_with_large_answers_takes_no_memory_from_another(self):
		wrapped2 = self.vault.wrap(self.kid2, self.secret)
		agent = self.agent(connections=12, deadline_ms=60000)
		self.vault.fault_add(match="unwrapkey", host="kv1", raw_body="x" * 65000, delay=1)
		self.vault.fault_add(match="unwrapkey", host="kv2", delay=1)
		for kid, wrapped, expected in ((self.kid, self.wrapped, "answer-syntax"), (self.kid2, wrapped2, "ok")):
			for _ in range(12):
				agent.ask_for(UNWRAP, kid, wrapped=wrapped)
			words = {agent.receive().word for _ in range(12)}
			self.assertIn(expected, words)
		self.assertEqual(words, {"ok"})

	def test_a_proxy_in_the_environment_is_not_used(self):
		names = ("http_proxy", "https_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy")
		os.environ.update({name: "http://127.0.0.1:9" for name in names})
		try:
			answer = self.agent().unwrap(self.kid, self.wrapped)
		finally:
			for name in names:
				del os.environ[name]
		self.assertEqual(answer.word, "ok", answer.detail)

	def test_an_expired_token_is_replaced_before_it_is_used(self):
		short = "33333333-2222-3333-4444-555555555555"
		self.vault.identity_add(short, token_lifetime=2)
		self.vault.grant("kv1", short)
		agent = self.agent()
		self.assertEqual(agent.unwrap(self.kid, self.wrapped, client_id=short).word, "ok")
		time.sleep(1.1)
		self.assertEqual(agent.unwrap(self.kid, self.wrapped, client_id=short).word, "ok")
		self.assertEqual(len(self.requests(operation="token")), 2)

	def test_an_old_token_serves_on_while_no_fresh_one_is_to_be_had(self):
		middle = "44444444-2222-3333-4444-555555555555"
		self.vault.identity_add(middle, token_lifetime=21)
		self.vault.grant("kv1", middle)
		agent = self.agent()
		self.assertEqual(agent.unwrap(self.kid, self.wrapped, client_id=middle).word, "ok")
		self.vault.fault_add(match="token", status=500)
		time.sleep(10.1)
		self.assertEqual(agent.unwrap(self.kid, self.wrapped, client_id=middle).word, "ok")
		self.assertEqual([entry["status"] for entry in self.requests(operation="token")], [200, 500])


class Keys(VaultAgentTest):
	program = BYOK_ASAN

	def test_keys_that_must_not_be_used_are_refused_with_the_reason(self):
		vault = self.vault
		vault.vault_create("loose", recovery_level="CustomizedRecoverable+Purgeable")
		vault.key_create("loose", "disk")
		vault.grant("loose", CLIENT)
		cases = {
			"key-type": vault.key_create("kv1", "curve", kty="EC"),
			"key-operations": vault.key_create("kv1", "sign", ops="sign,verify"),
			"key-purgeable": "https://loose.vault.azure.net/keys/disk",
			"key-gone": "https://kv1.vault.azure.net/keys/nothing",
		}
		agent = self.agent()
		for word, url in cases.items():
			with self.subTest(word):
				answer = agent.get(url)
				self.assertEqual(answer.word, word, answer.detail)
				self.assertEqual(answer.kid, b"")

	def test_a_disabled_key_is_described_and_does_not_unwrap(self):
		kid = self.vault.key_create("kv1", "off")
		wrapped = self.vault.wrap(kid, self.secret)
		self.vault.key_disable("kv1", "off")
		agent = self.agent()
		answer = agent.get(kid)
		self.assertEqual((answer.word, answer.enabled), ("ok", 0))
		self.assertEqual(agent.unwrap(kid, wrapped).word, "key-disabled")

	def test_an_expired_key_unwraps_but_does_not_wrap(self):
		kid = self.vault.key_create("kv1", "old")
		wrapped = self.vault.wrap(kid, self.secret)
		self.vault.key_expire("kv1", "old")
		agent = self.agent()
		answer = agent.get(kid)
		self.assertEqual((answer.word, answer.has_expired), ("ok", 1))
		self.assertGreater(answer.expires_s, 0)
		self.assertEqual(agent.unwrap(kid, wrapped).secret, self.secret)
		self.assertEqual(agent.wrap(kid, self.secret).word, "key-expired")

	def test_a_key_that_is_not_valid_yet_says_from_when_on(self):
		kid = self.vault.key_create("kv1", "soon", nbf="+3600")
		agent = self.agent()
		answer = agent.get(kid)
		self.assertEqual(answer.word, "ok", answer.detail)
		self.assertGreater(answer.not_before_s, time.time())
		self.assertEqual(agent.wrap(kid, self.secret).word, "key-not-yet-valid")

	def test_what_another_key_wrapped_does_not_unwrap(self):
		self.assertEqual(self.agent().unwrap(self.kid2, self.wrapped).word, "vault-request")

	def test_a_deleted_key_is_gone_and_a_recovered_one_works(self):
		kid = self.vault.key_create("kv1", "lost")
		wrapped = self.vault.wrap(kid, self.secret)
		agent = self.agent()
		self.vault.key_delete("kv1", "lost")
		self.assertEqual(agent.unwrap(kid, wrapped).word, "key-gone")
		self.vault.key_recover("kv1", "lost")
		self.assertEqual(agent.unwrap(kid, wrapped).secret, self.secret)


class Requests(VaultAgentTest):
	program = BYOK_ASAN

	def test_a_bad_request_is_answered_and_nothing_is_sent(self):
		agent = self.agent()
		cases = [
			("key-url", dict(key_url="https://kv1.vault.azure.net/secrets/disk")),
			("key-url", dict(key_url="https://kv1.vault.azure.net/keys/d\nisk")),
			("key-url-scheme", dict(key_url=self.kid.replace("https:", "http:"))),
			("key-url-host", dict(key_url="https://kv1vault.azure.net/keys/disk")),
			("key-url-host", dict(key_url="https://example.com/keys/disk")),
			("key-url-host", dict(key_url="https://kv1.vault.azure.net.example.com/keys/disk")),
			("key-url-suffix", dict(key_url="https://kv1.vault.azure.example/keys/disk")),
			("key-url-versionless", dict(key_url=self.newest, operation=UNWRAP, wrapped=self.wrapped)),
			("config", dict(client_id="my-identity")),
			("token", dict(operation=UNWRAP, wrapped="AAAA")),
			("token", dict(operation=UNWRAP, wrapped=self.wrapped, algorithm="RSA1_5")),
			("message", dict(operation=9)),
			("message", dict(operation=WRAP, secret=b"short")),
		]
		for word, options in cases:
			with self.subTest(options):
				answer = agent.ask(**{"operation": GET_KEY, "key_url": self.kid, **options})
				self.assertEqual(answer.word, word, answer.detail)
		self.assertEqual(self.requests(), [])

	def test_the_agent_ends_when_the_supervisor_does(self):
		agent = self.agent()
		self.assertEqual(agent.ask(TOKEN, self.kid).word, "ok")
		self.assertEqual(agent.end(), 0, agent.log_text())

	def test_the_agent_ends_in_the_middle_of_waiting(self):
		self.vault.fault_add(match="unwrapkey", status=503)
		agent = self.agent(deadline_ms=600000)
		agent.ask_for(UNWRAP, self.kid, wrapped=self.wrapped)
		while not self.requests(operation="unwrapkey"):
			time.sleep(0.02)
		self.assertEqual(agent.end(), 0, agent.log_text())

	def test_a_message_that_cannot_be_ends_the_agent(self):
		good = bytes(Request(header=Header(VERSION, REQUEST, ctypes.sizeof(Request), 1), operation=TOKEN))
		cases = {
			"cut": good[:-1],
			"too long": good + b"x",
			"short": good[:8],
			"another version": b"\2" + good[1:],
			"another type": bytes(Answer(header=Header(VERSION, ANSWER, ctypes.sizeof(Answer), 1))),
			"another size": good[:8] + b"\1\0\0\0" + good[12:],
		}
		for name, packet in cases.items():
			with self.subTest(name):
				agent = self.agent()
				agent.socket.send(packet)
				self.assertEqual(agent.process.wait(timeout=30), 10, agent.log_text())

	def test_settings_that_cannot_be_end_the_agent(self):
		empty = os.path.join(self.folder, "empty.pem")
		with open(empty, "w") as file:
			file.write("no certificate\n")
		cases = [
			(3, dict(imds="http://example.com")),
			(3, dict(imds="https://169.254.169.254")),
			(3, dict(imds="http://127.0.0.1.example.com")),
			(3, dict(connect_to="nowhere")),
			(3, dict(ca_file=empty)),
			(14, dict(ca_file="/nonexistent.pem")),
		]
		for status, options in cases:
			with self.subTest(options):
				agent = self.agent(**options)
				self.assertEqual(agent.process.wait(timeout=30), status, agent.log_text())


class Refusals(VaultAgentTest):
	program = BYOK_ASAN

	def test_each_refusal_of_the_vault_has_its_word(self):
		cases = [
			(400, "BadParameter", None, "vault-request"),
			(403, "Forbidden", "ForbiddenByRbac", "vault-rbac"),
			(403, "Forbidden", "AccessDenied", "vault-policy"),
			(403, "Forbidden", "ForbiddenByPolicy", "vault-policy"),
			(403, "Forbidden", "ForbiddenByFirewall", "vault-firewall"),
			(403, "Forbidden", "ForbiddenByConnection", "vault-private-link"),
			(403, "Forbidden", "KeyDisabled", "key-disabled"),
			(403, "Forbidden", "SomethingNew", "vault-forbidden"),
			(404, "KeyNotFound", None, "key-gone"),
			(404, "ResourceNotFound", None, "vault-not-found"),
			(405, "MethodNotAllowed", None, "vault-request"),
		]
		for status, code, inner, word in cases:
			with self.subTest(code=code, inner=inner):
				answer = self.unwrap_under(match="unwrapkey", status=status, code=code, inner=inner)
				self.assertEqual(answer.word, word)
				self.assertIn(f"HTTP {status} {code}", answer.detail.decode())
				self.assertIn(inner or "", answer.detail.decode())
				self.assertEqual(answer.secret, b"")
				self.assertEqual(len(self.requests(operation="unwrapkey")), 1, "tried again in vain")

	def test_each_passing_trouble_of_the_vault_is_tried_again_and_then_told(self):
		cases = [
			(408, "RequestTimeout", None, "vault-timeout"),
			(409, "Conflict", "ObjectIsBeingRecovered", "vault-conflict"),
			(429, "Throttled", None, "vault-throttled"),
			(500, "InternalServerError", None, "vault-unavailable"),
			(502, "BadGateway", None, "vault-unavailable"),
			(503, "ServiceUnavailable", None, "vault-unavailable"),
			(504, "GatewayTimeout", None, "vault-unavailable"),
		]
		for status, code, inner, word in cases:
			with self.subTest(code):
				fault = dict(match="unwrapkey", status=status, code=code, inner=inner)
				answer = self.unwrap_under(deadline_ms=5000, **fault)
				self.assertEqual(answer.word, word, answer.detail)
				answer = self.unwrap_under(deadline_ms=60000, times=2, **fault)
				self.assertEqual((answer.word, answer.secret), ("ok", self.secret))
				self.assertEqual(len(self.requests(operation="unwrapkey")), 3)
				self.assertEqual(answer.attempts, 4)

	def test_the_vaults_network_rules_and_rights_are_told_apart(self):
		self.vault.vault_create("fire")
		kid = self.vault.key_create("fire", "disk")
		wrapped = self.vault.wrap(kid, self.secret)
		agent = self.agent()
		self.assertEqual(agent.unwrap(kid, wrapped).word, "vault-rbac")
		self.vault.grant("fire", CLIENT)
		for network, word in (
			("firewall", "vault-firewall"),
			("private-link", "vault-private-link"),
			("open", "ok"),
		):
			self.vault.vault_set("fire", network=network)
			self.assertEqual(agent.unwrap(kid, wrapped).word, word)
		self.vault.vault_set("fire", access="policy")
		self.vault.revoke("fire", CLIENT)
		self.assertEqual(agent.unwrap(kid, wrapped).word, "vault-policy")

	def test_the_request_id_is_told(self):
		self.vault.fault_add(match="unwrapkey", status=403, code="Forbidden", inner="ForbiddenByRbac")
		agent = self.agent()
		detail = agent.unwrap(self.kid, self.wrapped).detail.decode()
		self.assertRegex(detail, r"request id [0-9a-f-]{36}")

	def test_a_retry_after_beyond_the_deadline_is_handed_on(self):
		for value in ("90", "Wed, 01 Jan 2098 00:00:00 GMT"):
			with self.subTest(value):
				answer = self.unwrap_under(
					match="unwrapkey", status=429, code="Throttled", retry_after=value
				)
				self.assertEqual(answer.word, "vault-throttled")
				self.assertGreaterEqual(answer.retry_after_ms, 90000)
				self.assertEqual(len(self.requests(operation="unwrapkey")), 1)

	def test_a_short_retry_after_is_waited_for(self):
		answer = self.unwrap_under(
			deadline_ms=30000, match="unwrapkey", status=429, code="Throttled", retry_after="2", times=1
		)
		self.assertEqual(answer.word, "ok", answer.detail)
		first, second = [entry["time"] for entry in self.requests(operation="unwrapkey")]
		self.assertNotEqual(first, second)

	def test_a_vault_in_trouble_holds_up_no_other(self):
		self.vault.fault_add(match="unwrapkey", host="kv1", status=503)
		wrapped2 = self.vault.wrap(self.kid2, self.secret)
		agent = self.agent(deadline_ms=600000)
		agent.ask_for(UNWRAP, self.kid, wrapped=self.wrapped)
		healthy = agent.ask_for(UNWRAP, self.kid2, wrapped=wrapped2)
		answer = agent.receive()
		self.assertEqual((answer.header.id, answer.word), (healthy, "ok"))


class Tokens(VaultAgentTest):
	program = BYOK_ASAN

	def test_a_refused_token_is_replaced_once(self):
		answer = self.unwrap_under(match="token", token="expired", times=1)
		self.assertEqual((answer.word, answer.secret), ("ok", self.secret))
		self.assertEqual([entry["status"] for entry in self.requests(operation="unwrapkey")], [401, 200])
		self.assertEqual(len(self.requests(operation="token")), 2)

	def test_a_token_that_is_refused_twice_is_told(self):
		for kind in ("expired", "wrong-audience", "bad-signature", "garbage"):
			with self.subTest(kind):
				answer = self.unwrap_under(match="token", token=kind)
				self.assertEqual(answer.word, "vault-unauthorized", answer.detail)
				self.assertEqual(len(self.requests(operation="unwrapkey")), 2)

	def test_a_token_that_is_none_never_reaches_the_vault(self):
		for kind, word in (("empty", "imds-answer"), ("huge", "imds-answer")):
			with self.subTest(kind):
				answer = self.unwrap_under(match="token", token=kind)
				self.assertEqual(answer.word, word, answer.detail)
				self.assertEqual(self.requests(server="vault"), [])

	def test_each_refusal_of_imds_has_its_word(self):
		cases = [
			(400, "bad_request_102", "Required metadata header not specified", "imds-refused"),
			(400, "invalid_resource", "AADSTS50001", "imds-refused"),
			(400, "unauthorized_client", "no", "imds-refused"),
			(403, "forbidden", "no", "imds-refused"),
			(
				400,
				"invalid_request",
				"Multiple user assigned identities exist, please specify the clientId",
				"identity-ambiguous",
			),
		]
		for status, code, message, word in cases:
			with self.subTest(code=code, message=message):
				answer = self.unwrap_under(match="token", status=status, code=code, message=message)
				self.assertEqual(answer.word, word, answer.detail)
				self.assertIn(f"HTTP {status} {code}", answer.detail.decode())
				self.assertEqual(len(self.requests(operation="token")), 1, "tried again in vain")

	def test_each_passing_trouble_of_imds_is_tried_again_and_then_told(self):
		cases = [
			(400, "Identity not found", "identity-none"),
			(400, "not ready", "imds-refused"),
			(404, "not ready", "imds-updating"),
			(408, "slow", "imds-timeout"),
			(410, "gone for a moment", "imds-updating"),
			(429, "too many", "imds-throttled"),
			(500, "broken", "imds-error"),
			(503, "broken", "imds-error"),
		]
		for status, message, word in cases:
			with self.subTest(status=status, message=message):
				fault = dict(match="token", status=status, code="invalid_request", message=message)
				answer = self.unwrap_under(deadline_ms=5000, **fault)
				self.assertEqual(answer.word, word, answer.detail)
				self.assertEqual(self.requests(server="vault"), [])
				answer = self.unwrap_under(deadline_ms=60000, times=2, **fault)
				self.assertEqual((answer.word, answer.secret), ("ok", self.secret))
				self.assertEqual(len(self.requests(operation="token")), 3)

	def test_an_identity_that_is_not_there_is_told(self):
		answer = self.agent(deadline_ms=5000).ask(TOKEN, self.kid, client_id=STRANGER)
		self.assertEqual(answer.word, "identity-none", answer.detail)

	def test_without_a_client_id_the_only_identity_serves(self):
		with tempfile.TemporaryDirectory() as folder, Devvault(os.path.join(folder, "state")) as vault:
			os.chmod(folder, 0o755)
			vault.identity_add(CLIENT)
			with Agent(vault, program=self.program) as agent:
				self.assertEqual(agent.ask(TOKEN, self.kid, client_id="").word, "ok")
			vault.identity_add(STRANGER)
			with Agent(vault, program=self.program) as agent:
				self.assertEqual(agent.ask(TOKEN, self.kid, client_id="").word, "identity-ambiguous")

	def test_imds_that_is_not_there_or_talks_nonsense_is_told(self):
		answer = self.agent(deadline_ms=5000, imds="http://127.0.0.1:1").ask(TOKEN, self.kid)
		self.assertEqual(answer.word, "imds-unreachable", answer.detail)
		cases = [
			("garbage", "imds-answer"),
			("html", "imds-answer"),
			("empty", "imds-answer"),
			("array", "imds-answer"),
			("huge", "imds-answer"),
			("endless", "imds-answer"),
			("cut", "imds-error"),
		]
		for body, word in cases:
			with self.subTest(body):
				answer = self.unwrap_under(match="token", body=body)
				self.assertEqual(answer.word, word, answer.detail)
				self.assertEqual(self.requests(server="vault"), [])

	def test_imds_that_is_slow_is_told(self):
		self.vault.fault_add(match="token", delay=10)
		answer = self.agent(deadline_ms=2500, attempt_ms=2500).ask(TOKEN, self.kid)
		self.assertEqual(answer.word, "imds-timeout", answer.detail)

	def test_a_redirect_of_imds_is_not_followed(self):
		answer = self.unwrap_under(match="token", redirect=f"https://kv1.vault.azure.net/")
		self.assertEqual(answer.word, "imds-answer", answer.detail)
		self.assertEqual(self.requests(server="vault"), [])


class TheWayToTheVault(VaultAgentTest):
	def test_certificates_that_must_not_be_trusted_are_told_apart(self):
		self.addCleanup(self.vault.certificate, "ok")
		cases = {
			"wrong-name": "tls-name",
			"wrong-ca": "tls-authority",
			"self-signed": "tls-authority",
			"expired": "tls-date",
			"not-yet-valid": "tls-date",
			"ok": "ok",
		}
		for mode, word in cases.items():
			with self.subTest(mode):
				self.vault.certificate(mode)
				answer = self.unwrap_under()
				self.assertEqual(answer.word, word, answer.detail)
				sent = [entry for entry in self.requests(server="vault") if entry.get("bearer")]
				self.assertEqual(len(sent), 1 if mode == "ok" else 0)

	def test_an_authority_that_is_not_in_the_ca_file_is_not_trusted(self):
		other = os.path.join(self.folder, "other.pem")
		with tempfile.TemporaryDirectory() as folder:
			stranger = Devvault(os.path.join(folder, "state"))
			shutil.copy(stranger.ca_file, other)
		os.chmod(other, 0o644)
		answer = self.agent(ca_file=other).unwrap(self.kid, self.wrapped)
		self.assertEqual(answer.word, "tls-authority", answer.detail)

	def test_a_host_that_is_no_vault_is_told(self):
		answer = self.agent(deadline_ms=5000).get("https://nothing.vault.azure.net/keys/disk")
		self.assertEqual(answer.word, "tls", answer.detail)

	def test_a_redirect_is_not_followed_and_no_token_goes_elsewhere(self):
		self.vault.stranger_add("example.com")
		answer = self.unwrap_under(match="unwrapkey", redirect="https://example.com/steal")
		self.assertEqual(answer.word, "vault-redirect", answer.detail)
		self.assertEqual(self.requests(server="stranger"), [])
		hosts = {entry["host"] for entry in self.requests() if entry.get("bearer")}
		self.assertEqual(hosts, {"kv1.vault.azure.net"})

	def test_a_vault_that_cannot_be_reached_is_told(self):
		cases = {
			"127.0.0.1:1": "vault-unreachable",
			"name.invalid:443": "vault-name",
		}
		for connect_to, word in cases.items():
			with self.subTest(connect_to):
				agent = self.agent(deadline_ms=5000, connect_to=connect_to)
				answer = agent.unwrap(self.kid, self.wrapped)
				self.assertEqual(answer.word, word, answer.detail)

	def test_a_name_is_looked_up_where_resolv_conf_is_a_link_out_of_etc(self):
		elsewhere = os.path.join(self.folder, "resolver")
		os.makedirs(elsewhere, exist_ok=True)
		os.chmod(elsewhere, 0o755)
		pathlib.Path(elsewhere, "resolv.conf").write_text("nameserver 127.0.0.53\n")
		with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
			try:
				# Not 127.0.0.1, which musl asks when it cannot read the file.
				server.bind(("127.0.0.53", 53))
			except OSError as error:
				self.skipTest(f"no name server can be played here: {error}")
			threading.Thread(target=answer_names, args=(server,), daemon=True).start()
			agent = self.agent(
				connect_to=f"vault.test:{self.vault.vault_port}",
				before=lambda: put_away_etc(elsewhere),
			)
			answer = agent.unwrap(self.kid, self.wrapped)
		self.assertEqual((answer.word, answer.secret), ("ok", self.secret), answer.detail)

	def test_a_vault_that_hangs_is_told(self):
		with socket.socket() as silent:
			silent.bind(("127.0.0.1", 0))
			silent.listen()
			agent = self.agent(
				deadline_ms=2500, attempt_ms=2500, connect_to=f"127.0.0.1:{silent.getsockname()[1]}"
			)
			answer = agent.unwrap(self.kid, self.wrapped)
		self.assertEqual(answer.word, "vault-timeout", answer.detail)

	def test_an_address_where_nobody_answers_is_told(self):
		with socket.socket() as full:
			full.bind(("127.0.0.1", 0))
			full.listen(0)
			waiting = [socket.socket() for _ in range(4)]
			for each in waiting:
				each.setblocking(False)
				each.connect_ex(full.getsockname())
			agent = self.agent(
				deadline_ms=2500, attempt_ms=2500, connect_to=f"127.0.0.1:{full.getsockname()[1]}"
			)
			answer = agent.unwrap(self.kid, self.wrapped)
			for each in waiting:
				each.close()
		self.assertEqual(answer.word, "vault-unreachable", answer.detail)

	def test_an_answer_that_is_slow_or_drips_is_told(self):
		for fault in (dict(delay=10), dict(slow_drip=1)):
			with self.subTest(fault):
				self.vault.fault_clear()
				self.vault.fault_add(match="unwrapkey", **fault)
				answer = self.agent(deadline_ms=2500, attempt_ms=2500).unwrap(self.kid, self.wrapped)
				self.assertEqual(answer.word, "vault-timeout", answer.detail)

	def test_a_connection_that_ends_is_told_and_tried_again(self):
		for fault in (dict(close=True), dict(reset=True), dict(body="cut")):
			with self.subTest(fault):
				answer = self.unwrap_under(deadline_ms=5000, match="unwrapkey", **fault)
				self.assertEqual(answer.word, "answer-cut", answer.detail)
				answer = self.unwrap_under(deadline_ms=60000, match="unwrapkey", times=1, **fault)
				self.assertEqual((answer.word, answer.secret), ("ok", self.secret))

	def test_a_connection_that_ends_before_tls_is_told(self):
		for fault in (dict(close=True), dict(reset=True)):
			with self.subTest(fault):
				answer = self.unwrap_under(deadline_ms=5000, match="connect", server="vault", **fault)
				self.assertEqual(answer.word, "tls", answer.detail)

	def test_a_kept_connection_that_the_vault_closed_is_opened_again(self):
		agent = self.agent()
		self.assertEqual(agent.unwrap(self.kid, self.wrapped).word, "ok")
		self.vault.restart()
		answer = agent.unwrap(self.kid, self.wrapped)
		self.assertEqual((answer.word, answer.secret), ("ok", self.secret), answer.detail)

	def shake_hands(self, ciphers):
		"""(whether a server with these ciphers came to terms, the agent's answer)"""
		stem = pathlib.Path(self.vault.ca_file).parent / "ok_any.vault.azure.net"
		context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
		context.maximum_version = ssl.TLSVersion.TLSv1_2
		context.set_ciphers(ciphers)
		context.load_cert_chain(f"{stem}.pem", f"{stem}.key")
		with socket.socket() as server:
			server.bind(("127.0.0.1", 0))
			server.listen()
			agent = self.agent(deadline_ms=5000, connect_to=f"127.0.0.1:{server.getsockname()[1]}")
			agent.ask_for(GET_KEY, self.kid)
			connection, _ = server.accept()
			server.close()
			try:
				context.wrap_socket(connection, server_side=True).close()
				is_agreed = True
			except ssl.SSLError:
				connection.close()
				is_agreed = False
			return is_agreed, agent.receive()

	def test_only_ciphers_with_forward_secrecy_and_authentication_are_offered(self):
		for ciphers in ("ECDHE+AESGCM+AES256", "ECDHE+AESGCM+AES128"):
			with self.subTest(ciphers):
				self.assertTrue(self.shake_hands(ciphers)[0])
		for ciphers in ("kRSA+AESGCM", "ECDHE+SHA1", "ECDHE+SHA256:!AESGCM:!CHACHA20", "ECDHE+CHACHA20"):
			with self.subTest(ciphers):
				is_agreed, answer = self.shake_hands(ciphers)
				self.assertEqual((is_agreed, answer.word), (False, "tls"), answer.detail)

	def test_something_that_is_not_http_is_told(self):
		with socket.socket() as speaker:
			speaker.bind(("127.0.0.1", 0))
			speaker.listen()
			agent = self.agent(deadline_ms=5000, connect_to=f"127.0.0.1:{speaker.getsockname()[1]}")
			agent.ask_for(GET_KEY, self.kid)
			connection, _ = speaker.accept()
			with connection:
				connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n" * 4)
				answer = agent.receive()
		self.assertEqual(answer.word, "tls", answer.detail)


def answer_names(server):
	"""A name server that knows one address for all names, and no IPv6."""
	with contextlib.suppress(OSError):
		while True:
			query, client = server.recvfrom(512)
			end = query.index(b"\0", 12) + 5
			is_ipv4 = query[end - 4 : end - 2] == b"\0\1"
			answer = b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4" + socket.inet_aton("127.0.0.1")
			server.sendto(
				query[:2] + b"\x81\x80\0\1" + (b"\0\1" if is_ipv4 else b"\0\0") + bytes(4)
				+ query[12:end] + (answer if is_ipv4 else b""),
				client,
			)


def put_away_etc(resolver_folder):
	"""In a mount namespace of its own: an /etc with nothing but a link, as systemd-resolved makes."""
	libc = ctypes.CDLL(None, use_errno=True)
	new_namespace, private_and_below = 0x20000, 0x40000 | 0x4000
	failed = (
		libc.unshare(new_namespace)
		or libc.mount(None, b"/", None, private_and_below, None)
		or libc.mount(b"tmpfs", b"/etc", b"tmpfs", 0, b"mode=755")
	)
	if failed:
		raise OSError(ctypes.get_errno(), "cannot make a mount namespace")
	os.symlink(os.path.join(resolver_folder, "resolv.conf"), "/etc/resolv.conf")


class Nonsense(VaultAgentTest):
	program = BYOK_ASAN

	def test_bodies_that_are_no_answer_are_told_apart(self):
		cases = {
			"garbage": "answer-syntax",
			"text": "answer-syntax",
			"html": "answer-syntax",
			"empty": "answer-syntax",
			"array": "answer-shape",
			"nested": "answer-too-large",
			"huge": "answer-too-large",
			"endless": "answer-too-large",
		}
		for body, word in cases.items():
			with self.subTest(body):
				self.assertEqual(self.unwrap_under(match="unwrapkey", body=body).word, word)

	def test_a_body_of_deep_brackets_is_not_json_to_us(self):
		answer = self.unwrap_under(match="unwrapkey", raw_body="[" * 5000 + "]" * 5000)
		self.assertEqual(answer.word, "answer-syntax")

	def test_an_answer_about_another_key_is_refused(self):
		for kid in ("wrong", "other-host", "https://kv1.vault.azure.net/keys/disk", "nonsense"):
			with self.subTest(kid):
				answer = self.unwrap_under(match="unwrapkey", kid=kid)
				self.assertEqual((answer.word, answer.secret), ("key-id", b""))
		self.assertEqual(self.unwrap_under(match="unwrapkey", kid="missing").word, "answer-shape")

	def test_an_answer_with_a_bad_value_is_refused(self):
		cases = {
			"garbage": "answer-shape",
			"missing": "answer-shape",
			"short": "wrapped-mismatch",
			"empty": "wrapped-mismatch",
			"A" * 2000: "wrapped-mismatch",
		}
		for value, word in cases.items():
			with self.subTest(value):
				answer = self.unwrap_under(match="unwrapkey", value=value)
				self.assertEqual((answer.word, answer.secret), (word, b""))

	def test_another_secret_of_the_right_size_is_handed_on_for_the_disk_to_judge(self):
		answer = self.unwrap_under(match="unwrapkey", value="wrong")
		self.assertEqual((answer.word, answer.secret_size), ("ok", 32))
		self.assertNotEqual(answer.secret, self.secret)

	def test_a_padded_value_is_read(self):
		answer = self.unwrap_under(match="unwrapkey", value="padded")
		self.assertEqual((answer.word, answer.secret), ("ok", self.secret))

	def test_attributes_that_are_no_attributes_are_refused(self):
		cases = {
			'attributes.enabled="yes"': "answer-shape",
			"attributes.nbf=-1": "answer-shape",
			'attributes.exp="soon"': "answer-shape",
			"attributes.recoveryLevel=Purgeable": "key-purgeable",
			"attributes.recoveryLevel=recoverable": "key-purgeable",
			"key.kty=EC-HSM": "key-type",
			"key.key_ops=[]": "key-operations",
			"key.n=AQAB": "key-type",
		}
		for assignment, word in cases.items():
			with self.subTest(assignment):
				self.vault.fault_clear()
				self.vault.fault_add(match="get", set=[assignment])
				self.assertEqual(self.agent().get(self.kid).word, word)
		for member in ("key", "attributes", "key.kid", "key.kty", "key.n", "attributes.enabled"):
			with self.subTest(unset=member):
				self.vault.fault_clear()
				self.vault.fault_add(match="get", unset=[member])
				self.assertEqual(self.agent().get(self.kid).word, "answer-shape")

	def test_no_line_of_the_log_is_forged_by_an_answer(self):
		self.vault.fault_add(
			match="unwrapkey",
			status=403,
			code="Forbidden\nerror: forged",
			header=["x-ms-request-id: \x1b[2J"],
		)
		agent = self.agent()
		self.assertEqual(agent.unwrap(self.kid, self.wrapped).word, "vault-forbidden")
		self.assertNotIn("forged", agent.log_text())
		self.assertNotIn("\x1b", agent.log_text())


class Secrets(VaultAgentTest):
	def test_nothing_secret_is_logged(self):
		agent = self.agent()
		agent.wrap(self.kid, self.secret)
		agent.unwrap(self.kid, self.wrapped)
		self.vault.fault_add(match="vault", status=500)
		agent = self.agent(deadline_ms=5000)
		agent.wrap(self.kid, self.secret)
		agent.unwrap(self.kid, self.wrapped)
		self.assertNotIn(encode_base64url(self.secret), agent.log_text())
		self.assertNotIn("eyJ", agent.log_text())

	def test_no_secret_stays_in_the_memory_of_the_agent_and_its_threads(self):
		if os.geteuid() != 0:
			self.skipTest("only root may look into the agent's memory")
		if b"__asan_init" in pathlib.Path(BYOK).read_bytes():
			self.skipTest("a sanitized program keeps memory that it has freed")
		self.vault.fault_add(match="unwrapkey", delay=1)
		agent = self.agent(connections=8)
		secret = secrets.token_bytes(32)
		wrapped = agent.wrap(self.kid, secret)
		for _ in range(8):
			agent.ask_for(UNWRAP, self.kid, wrapped=wrapped.wrapped.decode())
		self.assertEqual({agent.receive().secret for _ in range(8)}, {secret})
		threads = list(pathlib.Path(f"/proc/{agent.process.pid}/task").iterdir())
		self.assertEqual(len(threads), 9)
		for thread in threads:
			text = (thread / "status").read_text()
			for line in ("Seccomp:\t2", "NoNewPrivs:\t1", "CapEff:\t0000000000000000"):
				self.assertIn(line, text)
		memory = list(ordinary_memory(agent.process.pid))
		self.assertTrue(any(b"vault-agent" in content for _, content in memory), "nothing was read")
		for kind, text in (
			("secret", secret),
			("secret as text", encode_base64url(secret).encode()),
			("token", b"eyJ"),
		):
			self.assertEqual([name for name, content in memory if text in content], [], kind)


class ManyAtATime(VaultAgentTest):
	"""Under ThreadSanitizer, which ends an agent in which two threads race."""

	program = BYOK_TSAN

	def identity(self, client_id, lifetime_s):
		self.vault.identity_add(client_id, token_lifetime=lifetime_s)
		for name in ("kv1", "kv2"):
			self.vault.grant(name, client_id)
		return client_id

	def test_all_who_wait_for_a_token_share_the_one_failure(self):
		self.vault.fault_add(match="token", delay=30)
		agent = self.agent(connections=8, attempt_ms=2000, deadline_ms=2000)
		for _ in range(8):
			agent.ask_for(UNWRAP, self.kid, wrapped=self.wrapped)
		for _ in range(8):
			answer = agent.receive()
			self.assertEqual(answer.word, "imds-timeout", answer.detail)
			self.assertIn(b"IMDS: ", answer.detail)
		self.assertEqual(len(self.requests(operation="token")), 1)

	def test_a_refresh_that_hangs_holds_up_nobody_who_has_a_token(self):
		client = self.identity("55555555-2222-3333-4444-555555555555", 21)
		agent = self.agent(connections=4, attempt_ms=60000, deadline_ms=60000)
		self.assertEqual(agent.unwrap(self.kid, self.wrapped, client_id=client).word, "ok")
		self.vault.fault_add(match="token", delay=50)
		time.sleep(10.6)
		agent.ask_for(UNWRAP, self.kid, wrapped=self.wrapped, client_id=client)
		self.vault.wait_for_log(count=2, timeout=15, operation="token")
		self.assertEqual(agent.unwrap(self.kid, self.wrapped, client_id=client).word, "ok")
		agent.process.kill()

	def test_a_vault_that_hangs_on_all_connections_but_one_holds_up_no_other(self):
		self.vault.fault_add(match="unwrapkey", host="kv1", delay=50)
		wrapped2 = self.vault.wrap(self.kid2, self.secret)
		agent = self.agent(connections=4, attempt_ms=60000, deadline_ms=60000)
		for _ in range(3):
			agent.ask_for(UNWRAP, self.kid, wrapped=self.wrapped)
		for _ in range(5):
			self.assertEqual(agent.unwrap(self.kid2, wrapped2).word, "ok")
		agent.process.kill()

	def test_in_all_kinds_of_trouble_at_once_each_request_is_answered_once(self):
		clients = [CLIENT, self.identity("66666666-2222-3333-4444-555555555555", 1),
			self.identity("77777777-2222-3333-4444-555555555555", 2)]
		wrapped2 = self.vault.wrap(self.kid2, self.secret)
		for index, fault in enumerate((dict(status=429, code="Throttled", retry_after="1"),
				dict(reset=True), dict(status=503), dict(body="cut"), dict(delay=0.3), dict(close=True),
				dict(status=401), dict(slow_drip=0.01))):
			for operation in ("unwrapkey", "token", "get", "wrapkey"):
				self.vault.fault_add(match=operation, after=index * 4, times=3, **fault)
		agent = self.agent(connections=16, attempt_ms=5000, deadline_ms=60000)
		secrets_of = {}
		for index in range(120):
			client = clients[index % len(clients)]
			kid, wrapped = ((self.kid, self.wrapped), (self.kid2, wrapped2))[index // 3 % 2]
			if index % 10 == 8:
				agent.ask_for(GET_KEY, kid, client_id=client)
			elif index % 10 == 9:
				agent.ask_for(WRAP, kid, secret=self.secret, client_id=client)
			else:
				secrets_of[agent.ask_for(UNWRAP, kid, wrapped=wrapped, client_id=client)] = self.secret
		answers = [agent.receive() for _ in range(120)]
		self.assertEqual(len({answer.header.id for answer in answers}), 120)
		for answer in answers:
			self.assertIn(answer.word, ("ok", "answer-cut", "imds-answer", "vault-unauthorized", "tls"),
				answer.detail)
			if answer.word == "ok" and answer.header.id in secrets_of:
				self.assertEqual(answer.secret, self.secret)
		self.assertEqual(agent.end(), 0, agent.log_text())

	def test_the_agent_ends_with_all_its_threads_while_all_of_them_work(self):
		agent = self.agent(connections=16, attempt_ms=2000, deadline_ms=20000)
		self.assertEqual(agent.unwrap(self.kid, self.wrapped).word, "ok")
		self.vault.fault_add(match="unwrapkey", delay=30)
		for _ in range(40):
			agent.ask_for(UNWRAP, self.kid, wrapped=self.wrapped)
		self.vault.wait_for_log(count=16, timeout=30, operation="unwrapkey")
		self.assertEqual(agent.end(), 0, agent.log_text())


def ordinary_memory(pid):
	"""(name, bytes) of each writable mapping that is not secret memory. That is locked, in no dump (dd)
	and not inherited (dc), and cannot be read from outside at all on most kernels."""
	mappings = re.findall(
		r"^([0-9a-f]+)-([0-9a-f]+) rw.. .{14,}?([^\n ]*)\n(?:.*\n)*?VmFlags: (.*)$",
		pathlib.Path(f"/proc/{pid}/smaps").read_text(),
		re.MULTILINE,
	)
	with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
		for start, end, name, flags in mappings:
			if {"dd", "dc"} <= set(flags.split()):
				continue
			memory.seek(int(start, 16))
			yield f"{start} {name}", memory.read(int(end, 16) - int(start, 16))


def register(case, name):
	"""Makes a test of the harness of it."""

	def run(_):
		result = unittest.TestSuite([case(name)]).run(unittest.TestResult())
		if result.skipped:
			raise harness.Skip(result.skipped[0][1])
		harness.expect(result.wasSuccessful(), "\n".join(text for _, text in result.failures + result.errors))

	run.__name__ = name.removeprefix("test_")
	harness.test(run)


for each_case in VaultAgentTest.__subclasses__():
	for each_name in unittest.defaultTestLoader.getTestCaseNames(each_case):
		register(each_case, each_name)

if __name__ == "__main__":
	unittest.main()

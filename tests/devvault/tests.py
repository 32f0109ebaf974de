"""The double's own tests: what no client of Microsoft's shows. Run by `prove`."""

import base64
import concurrent.futures
import http.client
import json
import os
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
import unittest

from . import Devvault, StoreError, keys
from .store import RECOVERY_LEVELS, SUFFIXES

CLIENT = "11111111-2222-3333-4444-555555555555"
OTHER = "22222222-2222-3333-4444-555555555555"
TOKEN_QUERY = (
	"/metadata/identity/oauth2/token?api-version=2018-02-01"
	"&resource=https%3A%2F%2Fvault.azure.net"
)
SECRET = bytes(range(32))


def make_double(test_class, **options):
	folder = tempfile.mkdtemp(prefix="devvault-")
	test_class.addClassCleanup(shutil.rmtree, folder)
	vault = Devvault(os.path.join(folder, "state"), **options)
	test_class.addClassCleanup(vault.stop)
	vault.identity_add(CLIENT)
	vault.vault_create("kv1")
	vault.kid = vault.key_create("kv1", "disk")
	vault.grant("kv1", CLIENT, role="officer")
	vault.start()
	return vault


class Exchange:
	"""One answer: status, headers, body, and document where the body is JSON."""

	def __init__(self, response):
		self.status, self.headers, self.body = response.status, response.headers, response.read()
		try:
			self.document = json.loads(self.body)
		except (ValueError, RecursionError):
			self.document = None

	@property
	def error(self):
		"""(status, error.code, innererror.code)"""
		error = self.document["error"]
		return self.status, error["code"], error.get("innererror", {}).get("code")


def connect(vault, host="kv1.vault.azure.net", ca_file=None, tls_max=None, timeout=30):
	context = ssl.create_default_context(cafile=ca_file or vault.ca_file)
	if tls_max:
		context.maximum_version = tls_max
	plain = socket.create_connection(("127.0.0.1", vault.vault_port), timeout=timeout)
	connection = http.client.HTTPSConnection(host)
	try:
		connection.sock = context.wrap_socket(plain, server_hostname=host)
	except OSError:
		plain.close()
		raise
	return connection


def ask_vault(
	vault,
	method,
	path,
	body=None,
	host="kv1.vault.azure.net",
	token=None,
	version="7.4",
	connection=None,
	headers=None,
):
	"""token: a bearer, None for a good one, "" for none."""
	if token is None:
		resource = f"https://{host.partition('.')[2]}"
		token = vault.forge_token(CLIENT, resource=resource)
	own = connection is None
	connection = connection or connect(vault, host)
	sent = dict(headers or {})
	if token:
		sent["Authorization"] = f"Bearer {token}"
	if body is not None and "Content-Type" not in sent:
		sent["Content-Type"] = "application/json"
	target = path + (f"?api-version={version}" if version else "")
	data = json.dumps(body).encode() if isinstance(body, dict) else body
	try:
		connection.request(method, target, body=data, headers=sent)
		return Exchange(connection.getresponse())
	finally:
		if own:
			connection.close()


def ask_imds(vault, target=TOKEN_QUERY, headers=None, method="GET"):
	connection = http.client.HTTPConnection("127.0.0.1", vault.imds_port, timeout=30)
	try:
		connection.putrequest(method, target)
		for name, value in (headers if headers is not None else [("Metadata", "true")]):
			connection.putheader(name, value)
		connection.endheaders()
		return Exchange(connection.getresponse())
	finally:
		connection.close()


def wrap_body(value=SECRET, algorithm="RSA-OAEP-256"):
	return {"alg": algorithm, "value": keys.encode_base64url(value)}


class _Double(unittest.TestCase):
	@classmethod
	def setUpClass(cls):
		cls.vault = make_double(cls)

	def setUp(self):
		self.vault.fault_clear()
		self.vault.certificate("ok")
		self.vault.log_clear()

	def wrapped(self, kid=None, algorithm="RSA-OAEP-256"):
		return self.vault.wrap(kid or self.vault.kid, SECRET, algorithm)

	def unwrap_over_the_wire(self, kid=None, **options):
		kid = kid or self.vault.kid
		host, path = kid[len("https://") :].split("/", 1)
		return ask_vault(
			self.vault,
			"POST",
			f"/{path}/unwrapkey",
			{"alg": "RSA-OAEP-256", "value": self.wrapped(kid)},
			host=host,
			**options,
		)


class Imds(_Double):
	def refused(self, *arguments, **options):
		answer = ask_imds(self.vault, *arguments, **options)
		return answer.status, answer.document["error"]

	def test_a_token_is_given_with_every_value_a_string(self):
		answer = ask_imds(self.vault)
		self.assertEqual(200, answer.status)
		self.assertEqual({str}, {type(value) for value in answer.document.values()})
		self.assertEqual("https://vault.azure.net", answer.document["resource"])
		self.assertEqual("86399", answer.document["expires_in"])

	def test_the_metadata_header_is_needed_and_its_value_is_lower_case(self):
		for headers in ([], [("Metadata", "True")], [("Metadata", "true"), ("Metadata", "true")]):
			self.assertEqual((400, "invalid_request"), self.refused(headers=headers))

	def test_a_forwarded_request_is_refused(self):
		headers = [("Metadata", "true"), ("X-Forwarded-For", "10.0.0.1")]
		self.assertEqual((400, "invalid_request"), self.refused(headers=headers))

	def test_repeated_and_missing_parameters_are_refused(self):
		self.assertEqual((400, "invalid_request"), self.refused(TOKEN_QUERY + "&resource=x"))
		self.assertEqual(
			(400, "invalid_request"), self.refused(TOKEN_QUERY.replace("api-version", "version"))
		)
		self.assertEqual(
			(400, "invalid_resource"), self.refused(TOKEN_QUERY.replace("resource", "thing"))
		)
		self.assertEqual(
			(400, "invalid_request"), self.refused(TOKEN_QUERY.replace("2018-02-01", "1999-01-01"))
		)

	def test_only_get_is_allowed(self):
		self.assertEqual(405, ask_imds(self.vault, method="POST").status)

	def test_each_selector_finds_the_identity(self):
		identity = self.vault.identity_list()[0]
		for name, member in (
			("client_id", "client_id"),
			("object_id", "object_id"),
			("msi_res_id", "resource_id"),
		):
			self.assertEqual(
				200, ask_imds(self.vault, f"{TOKEN_QUERY}&{name}={identity[member]}").status, name
			)

	def test_an_unknown_identity_and_two_selectors_are_refused(self):
		self.assertEqual((400, "invalid_request"), self.refused(f"{TOKEN_QUERY}&client_id={OTHER}"))
		answer = ask_imds(self.vault, f"{TOKEN_QUERY}&client_id={OTHER}")
		self.assertEqual("Identity not found", answer.document["error_description"])
		self.assertEqual(
			(400, "invalid_request"), self.refused(f"{TOKEN_QUERY}&client_id={CLIENT}&object_id=x")
		)

	def test_several_identities_need_a_selector_unless_one_is_the_machines_own(self):
		self.vault.identity_add(OTHER)
		self.addCleanup(self.vault.identity_remove, OTHER)
		self.assertEqual((400, "invalid_request"), self.refused())
		self.assertEqual(200, ask_imds(self.vault, f"{TOKEN_QUERY}&client_id={OTHER}").status)
		self.vault.identity_add(OTHER, system=True)
		self.assertEqual(OTHER, ask_imds(self.vault).document["client_id"])

	def test_a_machine_without_an_identity_gets_no_token(self):
		self.vault.identity_remove(CLIENT)
		self.addCleanup(self.vault.identity_add, CLIENT)
		self.assertEqual((400, "invalid_request"), self.refused())

	def test_user_data_is_served_as_base64(self):
		self.vault.user_data("disks=2\n")
		answer = ask_imds(self.vault, "/metadata/instance?api-version=2021-02-01")
		self.assertEqual(b"disks=2\n", base64.b64decode(answer.document["compute"]["userData"]))
		answer = ask_imds(
			self.vault, "/metadata/instance/compute/userData?api-version=2021-02-01&format=text"
		)
		self.assertEqual(b"disks=2\n", base64.b64decode(answer.body))

	def test_a_metadata_service_that_is_not_there_yet_ends_the_connection(self):
		self.vault.fault_add(match="connect", server="imds", reset=True, times=1)
		with self.assertRaises(OSError):
			ask_imds(self.vault)
		self.assertEqual(200, ask_imds(self.vault).status)

	def test_faults_of_each_status_pass_and_end(self):
		for status in (404, 410, 429, 500):
			self.vault.fault_add(match="token", status=status, times=2, retry_after=1)
			self.assertEqual([status, status, 200], [ask_imds(self.vault).status for _ in range(3)])

	def test_a_token_with_a_fault_is_refused_by_the_vault(self):
		for kind, verdict in (
			("expired", "expired"),
			("wrong-audience", "wrong-audience"),
			("bad-signature", "invalid"),
			("garbage", "invalid"),
		):
			self.vault.fault_add(match="token", token=kind, times=1)
			token = ask_imds(self.vault).document["access_token"]
			self.assertEqual(401, ask_vault(self.vault, "GET", "/keys/disk", token=token).status)
			self.assertEqual(verdict, self.vault.log(operation="get")[-1]["auth"])


class Vaults(_Double):
	def test_a_good_token_reaches_the_key_and_an_old_one_does_not(self):
		good = ask_imds(self.vault).document["access_token"]
		self.assertEqual(200, ask_vault(self.vault, "GET", "/keys/disk", token=good).status)
		self.vault.clock(offset=86400 + 60)
		self.addCleanup(self.vault.clock, offset=0)
		self.assertEqual(
			(401, "Unauthorized", None),
			ask_vault(self.vault, "GET", "/keys/disk", token=good).error,
		)

	def test_a_trailing_slash_makes_another_audience(self):
		token = self.vault.forge_token(CLIENT, resource="https://vault.azure.net/")
		answer = ask_vault(self.vault, "GET", "/keys/disk", token=token)
		self.assertEqual((401, "Unauthorized", None), answer.error)
		self.assertIn("AKV10022", answer.document["error"]["message"])

	def test_the_challenge_names_the_resource_of_each_cloud(self):
		for suffix in SUFFIXES:
			host = self.vault.vault_create(f"cloud.{suffix}")
			answer = ask_vault(self.vault, "GET", "/keys/disk", host=host, token="")
			self.assertEqual((401, "Unauthorized", None), answer.error)
			self.assertIn(f'resource="https://{suffix}"', answer.headers["WWW-Authenticate"])

	def test_the_api_version_is_needed_and_checked(self):
		for version in ("", "6.9", "8.0"):
			self.assertEqual(
				(400, "BadParameter", None),
				ask_vault(self.vault, "GET", "/keys/disk", version=version).error,
			)
		for version in ("7.4", "7.5", "7.6", "2025-07-01"):
			self.assertEqual(
				200, ask_vault(self.vault, "GET", "/keys/disk", version=version).status
			)

	def test_what_openssl_wraps_the_vault_and_the_oracle_unwrap(self):
		with tempfile.TemporaryDirectory() as folder:
			shown = self.vault.key_show("kv1", "disk")["key"]
			numbers = [
				int.from_bytes(keys.decode_base64url(shown[name]), "big") for name in ("n", "e")
			]
			public = keys.rsa.RSAPublicNumbers(numbers[1], numbers[0]).public_key()
			path = os.path.join(folder, "public.pem")
			with open(path, "wb") as file:
				file.write(
					public.public_bytes(
						keys.serialization.Encoding.PEM,
						keys.serialization.PublicFormat.SubjectPublicKeyInfo,
					)
				)
			wrapped = subprocess.run(
				[
					"openssl",
					"pkeyutl",
					"-encrypt",
					"-pubin",
					"-inkey",
					path,
					"-pkeyopt",
					"rsa_padding_mode:oaep",
					"-pkeyopt",
					"rsa_oaep_md:sha256",
					"-pkeyopt",
					"rsa_mgf1_md:sha256",
				],
				input=SECRET,
				stdout=subprocess.PIPE,
				check=True,
			).stdout
		value = keys.encode_base64url(wrapped)
		self.assertEqual(SECRET, self.vault.unwrap(self.vault.kid, value))
		answer = ask_vault(
			self.vault, "POST", "/keys/disk/unwrapkey", {"alg": "RSA-OAEP-256", "value": value}
		)
		self.assertEqual(
			{"kid": self.vault.kid, "value": keys.encode_base64url(SECRET)}, answer.document
		)

	def test_names_are_case_insensitive_and_padding_is_accepted(self):
		value = self.wrapped()
		padded = value + "=" * (-len(value) % 4)
		self.assertNotEqual(value, padded)
		answer = ask_vault(
			self.vault, "POST", "/KEYS/Disk/unwrapKey", {"alg": "RSA-OAEP-256", "value": padded}
		)
		self.assertEqual(keys.encode_base64url(SECRET), answer.document["value"])

	def test_bad_bodies_are_bad_parameters(self):
		for body in (
			b"{",
			b"[]",
			{},
			{"alg": "RSA-OAEP-256"},
			{"alg": "A256KW", "value": "AAAA"},
			{"alg": "RSA-OAEP-256", "value": "a+b/"},
			{"alg": "RSA-OAEP-256", "value": self.wrapped()[:-4] + "AAAA"},
		):
			answer = ask_vault(self.vault, "POST", "/keys/disk/unwrapkey", body)
			self.assertEqual((400, "BadParameter", None), answer.error, body)
		answer = ask_vault(
			self.vault,
			"POST",
			"/keys/disk/unwrapkey",
			wrap_body(),
			headers={"Content-Type": "text/plain"},
		)
		self.assertEqual(415, answer.status)

	def test_more_bytes_than_fit_are_not_wrapped(self):
		self.assertEqual(
			200, ask_vault(self.vault, "POST", "/keys/disk/wrapkey", wrap_body(bytes(190))).status
		)
		self.assertEqual(
			(400, "BadParameter", None),
			ask_vault(self.vault, "POST", "/keys/disk/wrapkey", wrap_body(bytes(191))).error,
		)

	def test_a_key_outside_its_time_unwraps_and_does_not_wrap(self):
		for name, times, inner in (
			("late", {"exp": "-10"}, "KeyExpired"),
			("early", {"nbf": "+3600"}, "KeyNotYetValid"),
		):
			kid = self.vault.key_create("kv1", name, **times)
			self.assertEqual(
				(403, "Forbidden", inner),
				ask_vault(self.vault, "POST", f"/keys/{name}/wrapkey", wrap_body()).error,
			)
			self.assertEqual(200, self.unwrap_over_the_wire(kid).status)

	def test_a_disabled_key_wraps_only_as_long_as_the_vault_is_told_so(self):
		kid = self.vault.key_create("kv1", "off", disabled=True)
		self.assertEqual((403, "Forbidden", "KeyDisabled"), self.unwrap_over_the_wire(kid).error)
		self.assertEqual(
			200, ask_vault(self.vault, "POST", "/keys/off/wrapkey", wrap_body()).status
		)
		self.vault.vault_set("kv1", disabled_wrap="refuse")
		self.addCleanup(self.vault.vault_set, "kv1", disabled_wrap="allow")
		self.assertEqual(
			(403, "Forbidden", "KeyDisabled"),
			ask_vault(self.vault, "POST", "/keys/off/wrapkey", wrap_body()).error,
		)
		self.vault.key_enable("kv1", "off")
		self.assertEqual(200, self.unwrap_over_the_wire(kid).status)

	def test_keys_that_must_not_or_cannot_wrap_say_so(self):
		self.vault.key_create("kv1", "sign-only", ops=["sign", "verify"])
		self.vault.key_create("kv1", "curve", kty="EC")
		for name in ("sign-only", "curve"):
			for operation in ("wrapkey", "unwrapkey"):
				self.assertEqual(
					(403, "Forbidden", "KeyOperationForbidden"),
					ask_vault(self.vault, "POST", f"/keys/{name}/{operation}", wrap_body()).error,
				)

	def test_a_vanished_version_is_not_found_until_it_returns(self):
		kid = self.vault.key_create("kv1", "failover")
		newer = self.vault.key_rotate("kv1", "failover")
		version = newer.rpartition("/")[2]
		self.vault.key_vanish("kv1", "failover", version)
		self.assertEqual((404, "KeyNotFound", None), self.unwrap_over_the_wire(newer).error)
		self.assertEqual(kid, ask_vault(self.vault, "GET", "/keys/failover").document["key"]["kid"])
		self.vault.key_return("kv1", "failover", version)
		self.assertEqual(200, self.unwrap_over_the_wire(newer).status)

	def test_a_deleted_key_is_gone_for_good_after_its_retention(self):
		self.vault.vault_create("short", recovery_level="CustomizedRecoverable")
		self.vault.grant("short", CLIENT, role="officer")
		self.vault.key_create("short", "disk")
		host = "short.vault.azure.net"
		deleted = ask_vault(self.vault, "DELETE", "/keys/disk", host=host).document
		self.assertEqual(7 * 86400, deleted["scheduledPurgeDate"] - deleted["deletedDate"])
		self.vault.clock(offset=7 * 86400 + 1)
		self.addCleanup(self.vault.clock, offset=0)
		self.assertEqual(
			(404, "KeyNotFound", None),
			ask_vault(self.vault, "POST", "/deletedkeys/disk/recover", host=host).error,
		)

	def test_a_vault_without_soft_delete_loses_the_key_at_once(self):
		self.vault.vault_create("weak", recovery_level="Purgeable")
		self.vault.grant("weak", CLIENT, role="officer")
		self.vault.key_create("weak", "disk")
		host = "weak.vault.azure.net"
		self.assertNotIn(
			"recoveryId", ask_vault(self.vault, "DELETE", "/keys/disk", host=host).document
		)
		self.assertEqual(404, ask_vault(self.vault, "GET", "/deletedkeys/disk", host=host).status)

	def test_a_recovered_vault_has_lost_its_grants(self):
		host = self.vault.vault_create("phoenix")
		self.vault.key_create("phoenix", "disk")
		self.vault.grant("phoenix", CLIENT)
		self.assertEqual(200, ask_vault(self.vault, "GET", "/keys/disk", host=host).status)
		self.vault.vault_delete("phoenix")
		with self.assertRaises(ssl.SSLError):
			connect(self.vault, host)
		self.vault.vault_recover("phoenix")
		self.assertEqual(
			(403, "Forbidden", "ForbiddenByRbac"),
			ask_vault(self.vault, "GET", "/keys/disk", host=host).error,
		)

	def test_a_revoked_grant_bites_the_token_that_was_given_before(self):
		token = ask_imds(self.vault).document["access_token"]
		self.vault.revoke("kv1", CLIENT)
		self.addCleanup(self.vault.grant, "kv1", CLIENT, role="officer")
		self.assertEqual(
			(403, "Forbidden", "ForbiddenByRbac"),
			ask_vault(self.vault, "GET", "/keys/disk", token=token).error,
		)

	def test_throttling_counts_what_was_served_and_says_when_to_return_if_told_to(self):
		host = self.vault.vault_create("busy")
		self.vault.key_create("busy", "disk")
		self.vault.grant("busy", CLIENT)
		self.vault.vault_set("busy", throttle=2)
		ask = lambda: ask_vault(self.vault, "POST", "/keys/disk/wrapkey", wrap_body(), host=host)
		answers = [ask() for _ in range(3)]
		self.assertEqual([200, 200, 429], [answer.status for answer in answers])
		self.assertEqual("Throttled", answers[2].document["error"]["code"])
		self.assertIsNone(answers[2].headers["Retry-After"])
		self.vault.vault_set("busy", retry_after="7")
		self.assertEqual("7", ask().headers["Retry-After"])
		self.vault.vault_set("busy", throttle=3)
		self.assertEqual(200, ask().status)

	def test_every_recovery_level_is_shown_with_its_days(self):
		for level, days in RECOVERY_LEVELS.items():
			self.vault.vault_set("kv1", recovery_level=level)
			attributes = ask_vault(self.vault, "GET", "/keys/disk").document["attributes"]
			self.assertEqual(
				(level, days), (attributes["recoveryLevel"], attributes["recoverableDays"])
			)
		self.vault.vault_set("kv1", recovery_level="Recoverable")


class Faults(_Double):
	def get(self, **options):
		return ask_vault(self.vault, "GET", "/keys/disk", **options)

	def test_a_fault_meets_only_what_it_matches(self):
		self.vault.fault_add(match="unwrapkey", host="other.vault.azure.net", status=500)
		self.vault.fault_add(match="unwrapkey", key="other", status=500)
		self.vault.fault_add(match="wrapkey", status=500)
		self.assertEqual(200, self.unwrap_over_the_wire().status)
		self.vault.fault_add(
			match="vault", key="disk", status=503, code="ServiceUnavailable", inner="Deep"
		)
		self.assertEqual((503, "ServiceUnavailable", "Deep"), self.unwrap_over_the_wire().error)
		self.assertEqual(200, ask_imds(self.vault).status)

	def test_a_fault_skips_then_counts_then_ends(self):
		fault = self.vault.fault_add(match="get", after=1, times=2, status=500)
		self.assertEqual([200, 500, 500, 200], [self.get().status for _ in range(4)])
		self.assertEqual(
			[None, fault, fault, None],
			[record["fault"] for record in self.vault.log(operation="get")],
		)

	def test_a_fault_with_a_status_does_not_carry_the_request_out(self):
		self.vault.fault_add(match="create", status=500, times=1)
		body = {"kty": "RSA"}
		self.assertEqual(500, ask_vault(self.vault, "POST", "/keys/never/create", body).status)
		self.assertEqual(404, ask_vault(self.vault, "GET", "/keys/never").status)

	def test_bodies_of_every_kind(self):
		for kind in ("garbage", "text", "html", "array", "nested"):
			self.vault.fault_add(match="get", body=kind, times=1, size=1000)
			answer = self.get()
			self.assertEqual(200, answer.status)
			self.assertNotIsInstance(answer.document, dict, kind)
		self.vault.fault_add(match="get", body="empty", times=1)
		self.assertEqual(b"", self.get().body)
		self.vault.fault_add(match="get", body="huge", times=1)
		self.assertGreater(len(self.get().body), 1 << 20)
		self.vault.fault_add(match="get", raw_body='{"key":null}', times=1)
		self.assertEqual(b'{"key":null}', self.get().body)

	def test_a_cut_body_is_shorter_than_promised(self):
		self.vault.fault_add(match="get", body="cut", times=1)
		with self.assertRaises(http.client.IncompleteRead):
			self.get()

	def test_an_endless_body_ends_only_with_the_client(self):
		self.vault.fault_add(match="get", body="endless", times=1)
		connection = connect(self.vault)
		connection.request(
			"GET", "/keys/disk?api-version=7.4", headers={"Authorization": "Bearer x"}
		)
		response = connection.getresponse()
		self.assertEqual(1 << 21, len(response.read(1 << 21)))
		response.close()
		connection.close()
		self.assertEqual(1, len(self.vault.wait_for_log(operation="get")))

	def test_kids_and_values_can_be_wrong_in_every_way(self):
		stem = self.vault.kid.rpartition("/")[0]
		for change, shown in (
			("wrong", f"{stem}/{'f' * 32}"),
			("other-host", "https://other-" + self.vault.kid[8:]),
			("missing", None),
			("https://x.example/k", "https://x.example/k"),
		):
			self.vault.fault_add(match="get", kid=change, times=1)
			self.assertEqual(shown, self.get().document["key"].get("kid"))
		good = keys.encode_base64url(SECRET)
		values = {}
		for change in ("wrong", "garbage", "short", "empty", "padded", "missing", "AAAA"):
			self.vault.fault_add(match="unwrapkey", value=change, times=1)
			values[change] = self.unwrap_over_the_wire().document.get("value")
		self.assertEqual(len(good), len(values["wrong"]))
		self.assertNotEqual(good, values["wrong"])
		self.assertEqual(
			("!" + good[1:], keys.encode_base64url(SECRET[:-1]), "", good + "=", None, "AAAA"),
			tuple(
				values[name] for name in ("garbage", "short", "empty", "padded", "missing", "AAAA")
			),
		)

	def test_any_member_can_be_set_or_left_out(self):
		self.vault.fault_add(
			match="get",
			set=["attributes.recoveryLevel=Invented", "key.key_ops=[]", "new.deep=1"],
			unset=["attributes.enabled"],
			times=1,
		)
		document = self.get().document
		self.assertEqual(
			("Invented", [], {"deep": 1}),
			(document["attributes"]["recoveryLevel"], document["key"]["key_ops"], document["new"]),
		)
		self.assertNotIn("enabled", document["attributes"])

	def test_headers_redirects_and_retry_after_are_sent_as_given(self):
		self.vault.fault_add(
			match="get", redirect="https://evil.example/", header=["X-Test: a:b"], times=1
		)
		answer = self.get()
		self.assertEqual(
			(302, "https://evil.example/", "a:b"),
			(answer.status, answer.headers["Location"], answer.headers["X-Test"]),
		)
		self.vault.fault_add(
			match="get", status=429, retry_after="Wed, 21 Oct 2026 07:28:00 GMT", times=1
		)
		self.assertEqual("Wed, 21 Oct 2026 07:28:00 GMT", self.get().headers["Retry-After"])

	def test_a_connection_ends_without_an_answer(self):
		self.vault.fault_add(match="get", close=True, times=1)
		with self.assertRaises(http.client.RemoteDisconnected):
			self.get()
		self.vault.fault_add(match="get", reset=True, times=1)
		with self.assertRaises(ConnectionResetError):
			self.get()
		self.vault.fault_add(match="connect", server="vault", reset=True, times=1)
		with self.assertRaises(OSError):
			connect(self.vault)
		self.assertEqual(200, self.get().status)

	def test_delays_and_drips_slow_the_answer_down(self):
		self.vault.fault_add(match="get", delay=0.5, times=1)
		started = time.monotonic()
		self.assertEqual(200, self.get().status)
		self.assertGreaterEqual(time.monotonic() - started, 0.5)
		self.vault.fault_add(match="get", slow_drip=0.001, times=1)
		started = time.monotonic()
		self.assertEqual(200, self.get().status)
		self.assertGreaterEqual(time.monotonic() - started, 0.5)

	def test_a_stranger_answers_and_the_log_says_whether_a_token_came(self):
		self.vault.stranger_add("evil.example.com")
		self.assertEqual(
			200, ask_vault(self.vault, "GET", "/x", host="evil.example.com", token="").status
		)
		self.assertEqual(
			200, ask_vault(self.vault, "GET", "/x", host="evil.example.com", token="t").status
		)
		self.assertEqual(
			[False, True], [record["bearer"] for record in self.vault.log(host="evil.example.com")]
		)

	def test_unknown_faults_are_refused(self):
		for effects in (
			{},
			{"colour": "red"},
			{"body": "odd"},
			{"token": "odd"},
			{"set": ["no-value"]},
		):
			with self.assertRaises(StoreError):
				self.vault.fault_add(match="get", **effects)


class Transport(_Double):
	def verify_error(self, **options):
		with self.assertRaises(ssl.SSLCertVerificationError) as caught:
			connect(self.vault, **options)
		return caught.exception.verify_code

	def test_each_wrong_certificate_is_wrong_in_its_own_way(self):
		codes = {
			"wrong-name": 62,
			"wrong-ca": 20,
			"self-signed": 18,
			"expired": 10,
			"not-yet-valid": 9,
		}
		for mode, code in codes.items():
			self.vault.certificate(mode, host="kv1.vault.azure.net")
			self.assertEqual(code, self.verify_error(), mode)
		self.vault.certificate("ok")
		connect(self.vault).close()
		self.assertEqual([], self.vault.log(operation="get"))

	def test_tls_12_and_13_are_spoken_and_11_is_not(self):
		for version, name in (
			(ssl.TLSVersion.TLSv1_2, "TLSv1.2"),
			(ssl.TLSVersion.TLSv1_3, "TLSv1.3"),
		):
			connection = connect(self.vault, tls_max=version)
			self.assertEqual(name, connection.sock.version())
			connection.close()
		context = ssl.create_default_context(cafile=self.vault.ca_file)
		context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
		context.set_ciphers("ALL:@SECLEVEL=0")
		with socket.create_connection(("127.0.0.1", self.vault.vault_port)) as plain:
			with self.assertRaises(ssl.SSLError):
				context.wrap_socket(plain, server_hostname="kv1.vault.azure.net")

	def test_an_unknown_host_is_refused_in_the_handshake_and_logged(self):
		with self.assertRaisesRegex(ssl.SSLError, "UNRECOGNIZED_NAME"):
			connect(self.vault, "nobody.vault.azure.net")
		record = self.vault.wait_for_log(event="tls-failed")[0]
		self.assertEqual("nobody.vault.azure.net", record["sni"])

	def test_a_host_other_than_the_one_in_the_handshake_is_misdirected(self):
		self.vault.vault_create("kv2")
		self.assertEqual(
			421,
			ask_vault(
				self.vault, "GET", "/keys/disk", headers={"Host": "kv2.vault.azure.net"}
			).status,
		)

	def test_a_connection_serves_many_requests(self):
		connection = connect(self.vault)
		for _ in range(5):
			self.assertEqual(
				200, ask_vault(self.vault, "GET", "/keys/disk", connection=connection).status
			)
		connection.close()
		self.assertEqual(
			1, len({record["connection"] for record in self.vault.log(operation="get")})
		)

	def test_fifty_clients_at_once_are_served(self):
		wrapped = self.wrapped()
		token = self.vault.forge_token(CLIENT)

		def unwrap(_):
			return ask_vault(
				self.vault,
				"POST",
				"/keys/disk/unwrapkey",
				{"alg": "RSA-OAEP-256", "value": wrapped},
				token=token,
			).document["value"]

		with concurrent.futures.ThreadPoolExecutor(50) as pool:
			values = list(pool.map(unwrap, range(50)))
		self.assertEqual([keys.encode_base64url(SECRET)] * 50, values)

	def test_the_log_holds_no_token_and_no_value(self):
		token = ask_imds(self.vault).document["access_token"]
		self.unwrap_over_the_wire(token=token)
		with open(self.vault.store.log_path, encoding="utf-8") as file:
			text = file.read()
		for secret in (token, token[-20:], keys.encode_base64url(SECRET), self.wrapped()[:40]):
			self.assertNotIn(secret, text)
		self.assertEqual(
			[("token", 200), ("unwrapkey", 200)],
			[(record["operation"], record["status"]) for record in self.vault.log()],
		)


class Life(unittest.TestCase):
	def setUp(self):
		folder = tempfile.mkdtemp(prefix="devvault-")
		self.addCleanup(shutil.rmtree, folder)
		self.folder = os.path.join(folder, "state")

	def command(self, *words, **options):
		executable = os.path.join(os.path.dirname(os.path.abspath(__file__)), "devvault")
		return subprocess.run(
			[executable, *words],
			text=True,
			capture_output=True,
			env={**os.environ, "DEVVAULT_STATE": self.folder},
			check=False,
			**options,
		)

	def test_everything_survives_a_restart_and_a_kill(self):
		with Devvault(self.folder) as vault:
			vault.identity_add(CLIENT)
			vault.vault_create("kv1")
			kid = vault.key_create("kv1", "disk")
			vault.grant("kv1", CLIENT)
			token = ask_imds(vault).document["access_token"]
			value = ask_vault(
				vault, "POST", "/keys/disk/wrapkey", wrap_body(), token=token
			).document["value"]
			vault.fault_add(match="get", status=500, times=1)
			vault._process.kill()
			vault._process.wait()
			vault.start(imds_port=vault.imds_port, vault_port=vault.vault_port)
			self.assertEqual(500, ask_vault(vault, "GET", "/keys/disk", token=token).status)
			vault.restart()
			answer = ask_vault(
				vault,
				"POST",
				"/keys/disk/unwrapkey",
				{"alg": "RSA-OAEP-256", "value": value},
				token=token,
			)
			self.assertEqual(keys.encode_base64url(SECRET), answer.document["value"])
		self.assertEqual(SECRET, Devvault(self.folder).unwrap(kid, value))

	def test_the_command_line_does_it_all_without_a_server(self):
		self.assertEqual(0, self.command("init").returncode)
		self.assertEqual("kv1.vault.azure.net\n", self.command("vault", "create", "kv1").stdout)
		kid = self.command("key", "create", "kv1", "disk").stdout.strip()
		value = self.command(
			"wrap", "--kid", kid, "--value", keys.encode_base64url(SECRET)
		).stdout.strip()
		self.assertEqual(
			keys.encode_base64url(SECRET) + "\n",
			self.command("unwrap", "--kid", kid, "--value", value).stdout,
		)
		self.assertNotEqual(kid, self.command("key", "rotate", "kv1", "disk").stdout.strip())
		self.assertEqual(2, len(json.loads(self.command("key", "versions", "kv1", "disk").stdout)))

	def test_a_mistake_is_one_sentence_and_a_status(self):
		for words in (
			["log"],
			["key", "create", "nowhere", "disk"],
			["unwrap", "--kid", "x", "--value", "y"],
		):
			done = self.command(*words)
			self.assertEqual(
				(1, "", 1), (done.returncode, done.stdout, done.stderr.count("\n")), words
			)
			self.command("init")

	def test_a_server_can_be_left_out(self):
		with Devvault(self.folder, imds_port=None) as vault:
			self.assertNotIn("imds_port", vault.ready)
			with socket.create_connection(("127.0.0.1", vault.vault_port)):
				pass

	def test_a_taken_port_is_a_sentence(self):
		self.command("init")
		with socket.socket() as taken:
			taken.bind(("127.0.0.1", 0))
			taken.listen()
			done = self.command("serve", "--imds-port", str(taken.getsockname()[1]), timeout=30)
		self.assertEqual(1, done.returncode)
		self.assertIn("Address already in use", done.stderr)

	def test_the_server_ends_with_the_test_that_started_it(self):
		vault = Devvault(self.folder)
		vault.start()
		process = vault._process
		process.stdin.close()
		self.assertEqual(0, process.wait(timeout=30))

	def test_own_keys_of_each_size_are_brought_along(self):
		vault = Devvault(self.folder)
		vault.vault_create("kv1")
		path = os.path.join(self.folder, "own.pem")
		for size in keys.RSA_SIZES:
			with open(path, "wb") as file:
				file.write(keys.make("RSA", size))
			kid = vault.key_create("kv1", "own", pem=path)
			self.assertEqual(SECRET, vault.unwrap(kid, vault.wrap(kid, SECRET)))
			self.assertEqual(
				size // 8, len(keys.decode_base64url(vault.key_show("kv1", "own")["key"]["n"]))
			)

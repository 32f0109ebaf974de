"""Workload identity: a federated token in a file, exchanged at Entra ID, instead of managed identity."""

import os

from harness import CLIENT_ID, STATUSES, Skip, expect, expect_equal, log_of, stop, test, wait_until
from proxy import Proxy

SUBJECT = "system:serviceaccount:kafka:broker"
LOGIN = "login.microsoftonline.com"


class Workload:
	"""A double with a federated credential, its token file, and the way to both."""

	def __init__(self, t):
		if "CONFIG_WORKLOAD_IDENTITY=y" not in t.byok("version").stdout:
			raise Skip("this build has no workload identity")
		self.t = t
		self.vault = t.vault()
		self.vault.federation_add(CLIENT_ID, SUBJECT)
		# As Kubernetes does: the file is a link into a folder that is replaced.
		self.folder = t.path("tokens")
		self.folder.mkdir()
		t.folder.chmod(0o755)
		self.folder.chmod(0o755)
		self.file = self.folder / "azure-identity-token"
		self.versions = 0
		self.write()
		self.proxy = t.exits.enter_context(Proxy(
			{f"{host}:443": f"127.0.0.1:{self.vault.vault_port}"
				for host in (LOGIN, "login.microsoftonline.us", "login.partner.microsoftonline.cn",
					"login.chinacloudapi.cn")}))

	def write(self, text=None, **changes):
		self.versions += 1
		data = self.folder / f"..{self.versions}"
		data.mkdir()
		data.chmod(0o755)
		text = self.vault.federated_token(**({"subject": SUBJECT} | changes)) if text is None else text
		(data / self.file.name).write_text(text)
		(data / self.file.name).chmod(0o644)
		for link, target in ((self.folder / "..data", data.name), (self.file, f"..data/{self.file.name}")):
			new = link.with_name("new")
			new.symlink_to(target)
			new.replace(link)

	def settings(self, **values):
		# No IMDS: whatever asked it would fail.
		return self.t.vault_settings(self.vault, **({"imds_endpoint": "http://127.0.0.1:1",
			"federated_token_file": self.file, "tenant": self.vault.tenant(),
			"proxy": self.proxy.url, "attempt_timeout": 2, "operation_deadline": 2} | values))

	def format(self, expect="ok", key=None, **values):
		return self.t.byok("format", self.t.disk(), "--name", "data", "--key", key or self.vault.kid,
			"--config", self.settings(**values), expect=expect)


@test
def a_federated_token_opens_a_disk(t):
	workload = Workload(t)
	workload.format()
	t.byok("rescue", t.path("disk"), "--config", workload.settings(), "--output", t.path("secret"))
	vault = workload.vault
	expect_equal({entry["identity"] for entry in vault.log(operation="login")}, {CLIENT_ID})
	expect_equal({entry["auth"] for entry in vault.log(server="vault")}, {"valid"})
	expect_equal(vault.log(server="imds"), [], "requests to IMDS")
	# vault_connect_to is the vault's alone.
	targets = {head.split()[1] for head in workload.proxy.heads}
	expect_equal(targets, {f"{LOGIN}:443", f"127.0.0.1:{vault.vault_port}"})


@test
def each_cloud_has_its_own_entra_id_and_another_one_can_be_named(t):
	workload = Workload(t)
	vault = workload.vault
	for suffix, authority, host in (
			("vault.usgovcloudapi.net", "", "login.microsoftonline.us"),
			("managedhsm.azure.cn", "", "login.partner.microsoftonline.cn"),
			("vault.azure.cn", "https://login.chinacloudapi.cn/", "login.chinacloudapi.cn")):
		vault.vault_create(f"far.{suffix}")
		vault.grant(f"far.{suffix}", CLIENT_ID)
		vault.log_clear()
		workload.format(key=vault.key_create(f"far.{suffix}", "disk"), authority_host=authority)
		asked = vault.log(operation="login")
		expect_equal([(entry["host"], entry["query"]) for entry in asked],
			[(host, {"resource": f"https://{suffix}"})])


@test
def the_file_is_read_again_for_each_token(t):
	workload = Workload(t)
	vault = workload.vault
	vault.identity_add(CLIENT_ID, token_lifetime=2)
	workload.format()
	settings = workload.settings(data_path="nbd", probe_interval=1, probe_retry=1)

	def status():
		return t.run(t.program, "status", "--json", "--config", settings).stdout

	process = t.start("serve", t.path("disk"), "--config", settings,
		ready=lambda: '"serving"' in status())
	workload.write(expires_in=-600)
	wait_until(lambda: '"login-assertion"' in status() and '"lost"' in status(), "key that is lost")
	workload.write()
	wait_until(lambda: '"login-assertion"' not in status(), "key that is well again")
	expect_equal(stop(process), 0, log_of(process))


@test
def what_is_wrong_with_a_federated_token_is_told(t):
	workload = Workload(t)
	for number, changes in ((700211, {"issuer": "https://elsewhere.example/"}),
			(700212, {"audience": "https://kubernetes.default.svc"}),
			(700213, {"subject": "system:serviceaccount:kafka:other"}),
			(700024, {"expires_in": -600}), (700027, {"bad_signature": True})):
		workload.write(**changes)
		done = workload.format(expect="login-assertion")
		expect(f"HTTP 401 AADSTS{number}" in done.stderr, done.stderr)
	expect_equal(workload.vault.log(server="vault"), [], "requests to the vault")


@test
def a_token_file_that_is_none_is_never_sent(t):
	workload = Workload(t)
	good = workload.vault.federated_token(SUBJECT)
	for text in ("", "\n", "one.two", "one.two.three.four", "..", "a..c", ".b.c", "a.b.", good + " x",
			good.replace(".", "&client_id=", 1), good + "\0", "a.b.c\n\nd", "a.b." + "c" * 9000, "é.b.c"):
		workload.write(text)
		workload.format(expect="login-token-file")
	expect_equal(workload.proxy.heads, [], "connections")
	workload.write(good + "\r\n")
	workload.format()
	workload.file.unlink()
	workload.format(expect="login-token-file")
	t.byok("format", t.disk(), "--name", "data", "--key", workload.vault.kid, "--config",
		workload.settings(federated_token_file=t.path("nowhere") / "token"), expect="login-token-file")


@test
def a_token_file_that_the_agent_may_not_read_is_told(t):
	if os.geteuid() != 0:
		raise Skip("only root can be denied by becoming another user")
	workload = Workload(t)
	workload.file.resolve().chmod(0o600)
	done = workload.format(expect="login-token-file", agent_user="nobody")
	expect("Permission denied" in done.stderr, done.stderr)


@test
def an_unknown_client_or_tenant_is_told(t):
	workload = Workload(t)
	other = "99999999-2222-3333-4444-555555555555"
	done = workload.format(expect="login-client", identity=other)
	expect("AADSTS700016" in done.stderr, done.stderr)
	done = workload.format(expect="login-client", tenant=other)
	expect("AADSTS90002" in done.stderr, done.stderr)
	workload.format(expect="login-client", identity="")


@test
def each_failure_of_entra_id_is_told_apart(t):
	workload = Workload(t)
	vault = workload.vault
	for word, fault in (
			("login-throttled", dict(status=429, code="temporarily_unavailable")),
			("login-error", dict(status=503, code="temporarily_unavailable")),
			("login-timeout", dict(status=408)),
			("login-refused", dict(status=400, code="invalid_scope")),
			("login-assertion", dict(status=401, code="invalid_client")),
			("login-client", dict(status=400, code="unauthorized_client")),
			("login-refused", dict(status=400, raw_body="<html>")),
			("login-refused", dict(status=400, raw_body='{"error":"' + "x" * 300
				+ '","error_codes":["70021"]}')),
			("login-answer", dict(redirect="https://example.com/")),
			("login-answer", dict(status=204)),
			("login-answer", dict(body="garbage")),
			("login-answer", dict(body="huge")),
			("login-answer", dict(set=["access_token=7"])),
			("login-answer", dict(set=["token_type=mac"])),
			("login-answer", dict(set=["expires_in=0"])),
			("login-answer", dict(unset=["access_token"])),
			("login-answer", dict(token="empty")),
			("login-error", dict(body="cut")),
			("login-error", dict(close=True)),
			("login-timeout", dict(delay=5))):
		vault.fault_clear()
		vault.fault_add(match="login", **fault)
		done = workload.format(expect=word)
		expect("Entra ID:" in done.stderr, done.stderr)
	vault.fault_clear()
	for mode in ("wrong-name", "wrong-ca", "expired"):
		vault.certificate(mode, host=LOGIN)
		workload.format(expect="login-tls")
	workload.proxy.answers = lambda client: client.sendall(b"HTTP/1.1 502 Bad\r\n\r\n")
	workload.format(expect="proxy-error")
	expect_equal(vault.log(server="vault", bearer=True), [], "requests to the vault")


@test
def without_a_way_to_entra_id_that_is_told(t):
	workload = Workload(t)
	without_network = (t.tool("unshare"), "--net",
		*([] if os.geteuid() == 0 else ["--map-current-user"]))
	if t.run(*without_network, "true").returncode != 0:
		raise Skip("this machine grants no network namespace")
	done = t.run(*without_network, t.program, "format", t.disk(), "--name", "data", "--key",
		workload.vault.kid, "--config", workload.settings(proxy=""))
	expect_equal(done.returncode, STATUSES["login-unreachable"][0], done.stderr)


@test
def settings_that_cannot_be_are_named(t):
	workload = Workload(t)
	for key, value in (("tenant", ""), ("tenant", "common"), ("tenant", "contoso.example"),
			("authority_host", "https://login.microsoftonline.com.example"),
			("authority_host", "https://login.microsoftonline.com/x"),
			("authority_host", "http://login.microsoftonline.com"),
			("authority_host", "login.microsoftonline.com"),
			("authority_host", "https://evil.example/login.microsoftonline.com"),
			("federated_token_file", "token"), ("federated_token_file", "/token")):
		done = workload.format(expect="config", **{key: value})
		expect(f'{key} cannot be "{value}"' in done.stderr, done.stderr)
	expect_equal(workload.proxy.heads, [], "connections")


@test
def nothing_of_a_federated_token_is_said(t):
	workload = Workload(t)
	token = workload.file.read_text()
	for fault in (None, dict(status=400, raw_body='{"error":"%s"}' % token[:30]),
			dict(status=401, code="invalid_client", message=token)):
		workload.vault.fault_clear()
		if fault:
			workload.vault.fault_add(match="login", **fault)
		done = t.run(t.program, "format", t.disk(), "--name", "data", "--key", workload.vault.kid,
			"--config", workload.settings(log_level="debug"))
		for part in token.split("."):
			expect(part not in done.stdout + done.stderr, f"a part of the token: {done.stderr}")
	expect(done.returncode == STATUSES["login-assertion"][0], done.stderr)

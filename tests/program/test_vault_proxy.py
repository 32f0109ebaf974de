"""The vault through a proxy: a real one, a small one that can be looked into, and bad ones."""

import os
import socket
import time

from harness import CLIENT_ID, expect, expect_equal, log_of, stop, test, wait_until
from proxy import Proxy

VAULT = "bank.vault.azure.net:443"


def settings_through(t, vault, proxy_url, **values):
	"""The vault's name leads nowhere but through the proxy."""
	return t.settings(**{"identity": CLIENT_ID, "imds_endpoint": vault.imds_url,
		"ca_file": vault.ca_file, "proxy": proxy_url} | values)


def through(t, vault, **options):
	targets = {VAULT: f"127.0.0.1:{vault.vault_port}"}
	return t.exits.enter_context(Proxy(targets, **options))


def listens(port):
	with socket.socket() as own:
		return own.connect_ex(("127.0.0.1", port)) == 0


@test
def a_disk_is_formatted_and_rescued_through_tinyproxy(t):
	t.tool("tinyproxy")
	vault = t.vault()
	with socket.create_server(("127.0.0.1", 0)) as free:
		port = free.getsockname()[1]
	log = t.path("tinyproxy.log")
	t.start("-d", "-c", t.file("tinyproxy.conf", f"Port {port}\nListen 127.0.0.1\nAllow 127.0.0.1\n"
		f"LogLevel Connect\nLogFile \"{log}\"\nConnectPort {vault.vault_port}\n"),
		program=t.tool("tinyproxy"), ready=lambda: listens(port))
	settings = settings_through(t, vault, f"http://localhost:{port}/",
		vault_connect_to=f"127.0.0.1:{vault.vault_port}")
	disk = t.disk()
	t.byok("format", disk, "--name", "data", "--key", vault.kid, "--config", settings)
	t.byok("rescue", disk, "--config", settings, "--output", t.path("secret"))
	said = log.read_text()
	expect(f"CONNECT 127.0.0.1:{vault.vault_port}" in said, f"tinyproxy says nothing of it: {said}")
	expect(str(vault.imds_port) not in said, "IMDS was asked through the proxy")
	# What tinyproxy may not, it says.
	settings = settings_through(t, vault, f"http://localhost:{port}", operation_deadline=2)
	t.byok("rescue", disk, "--config", settings, "--output", t.path("2"), expect="proxy-refused")


@test
def the_proxy_sees_the_name_of_the_vault_and_nothing_else(t):
	vault = t.vault()
	proxy = through(t, vault)
	settings = settings_through(t, vault, proxy.url)
	t.byok("format", t.disk(), "--name", "data", "--key", vault.kid, "--config", settings)
	for head in proxy.heads:
		expect_equal(head,
			f"CONNECT {VAULT} HTTP/1.1\r\nHost: {VAULT}\r\nUser-Agent: byok\r\n\r\n")
	expect_equal(len(proxy.heads), 1, "connections for get, wrap and unwrap")
	expect_equal({entry["auth"] for entry in vault.log(server="vault")}, {"valid"})
	expect(vault.log(server="imds"), "IMDS was not asked")


@test
def without_the_setting_no_proxy_is_used_whatever_the_environment_says(t):
	vault = t.vault()
	proxy = through(t, vault)
	environment = os.environ | {name: proxy.url for name in
		("http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")}
	t.byok("format", t.disk(), "--name", "data", "--key", vault.kid, "--config",
		t.vault_settings(vault), env=environment)
	expect_equal(proxy.heads, [])


def send_slowly(client):
	while True:
		client.sendall(b"X")
		time.sleep(0.2)


def send_headers(client):
	client.sendall(b"HTTP/1.1 200 OK\r\n")
	while True:
		client.sendall(b"X-More: of the same\r\n" * 50)


def saying(answer):
	return lambda client: client.sendall(answer)


OK = b"HTTP/1.1 200 OK\r\n\r\n"
BAD = [
	("proxy-answer", "garbage", saying(bytes(range(256)) * 100)),
	("proxy-answer", "zeros", saying(bytes(9000))),
	("proxy-answer", "HTTP/2", saying(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")),
	("proxy-answer", "no number", saying(b"HTTP/1.1 OK\r\n\r\n")),
	("proxy-answer", "an empty line", saying(b"\n")),
	("proxy-answer", "a long line", saying(b"HTTP/1.1 200 " + b"y" * 20000)),
	("proxy-answer", "endless headers", send_headers),
	("proxy-answer", "an early end", saying(b"")),
	("proxy-answer", "an end in the head", saying(b"HTTP/1.1 200 OK\r\nVia: m")),
	("proxy-answer", "a body", saying(OK + b"<html>")),
	("proxy-password", "407", saying(b"HTTP/1.1 407 Who?\r\nProxy-Authenticate: Basic\r\n\r\n")),
	("proxy-refused", "403", saying(b"HTTP/1.0 403 Forbidden\r\n\r\n<html>no</html>")),
	("proxy-refused", "302", saying(b"HTTP/1.1 302 Found\r\nLocation: https://example.com\r\n\r\n")),
	("proxy-refused", "100", saying(b"HTTP/1.1 100 Continue\r\n\r\n")),
	("proxy-error", "502", saying(b"HTTP/1.1 502 Bad Gateway\r\n\r\n")),
	("proxy-error", "504", saying(b"HTTP/1.1 504 Gateway Timeout\r\n\r\n")),
	("proxy-timeout", "silence", lambda client: time.sleep(10)),
	("proxy-timeout", "one byte after the other", send_slowly),
	("tls", "an end behind the head", saying(OK)),
]


@test
def each_bad_answer_of_a_proxy_is_told_apart(t):
	vault = t.vault()
	disk = t.disk()
	for word, what, answers in BAD:
		with Proxy(answers=answers) as proxy:
			settings = settings_through(t, vault, proxy.url, attempt_timeout=1, operation_deadline=1)
			done = t.byok("format", disk, "--name", "data", "--key", vault.kid, "--config", settings,
				expect=word)
			expect(proxy.heads, f"the proxy with {what} was not asked")
			if word.startswith("proxy"):
				expect(f"by the proxy 127.0.0.1:{proxy.port}" in done.stderr, f"{what}: {done.stderr}")
			if what.isdigit():
				expect(f"HTTP {what}" in done.stderr, f"{what}: {done.stderr}")
	expect_equal(vault.log(server="vault"), [], "what the vault has seen")
	expect(not any(disk.read_bytes()), "the disk was written to")


@test
def a_proxy_that_is_not_there_is_told(t):
	vault = t.vault()
	with socket.create_server(("127.0.0.1", 0)) as free:
		port = free.getsockname()[1]
	for url in (f"http://127.0.0.1:{port}", "http://proxy.invalid:3128"):
		settings = settings_through(t, vault, url, attempt_timeout=5, operation_deadline=5)
		done = t.byok("format", t.disk(), "--name", "data", "--key", vault.kid, "--config", settings,
			expect="proxy-unreachable")
		expect(f"by the proxy {url[7:]}" in done.stderr, done.stderr)


@test
def a_proxy_that_leads_elsewhere_gets_no_token(t):
	vault = t.vault()
	vault.certificate("wrong-name")
	proxy = through(t, vault)
	t.byok("format", t.disk(), "--name", "data", "--key", vault.kid,
		"--config", settings_through(t, vault, proxy.url), expect="tls-name")
	expect_equal(vault.log(server="vault", bearer=True), [])


@test
def a_setting_that_names_no_http_proxy_is_refused(t):
	vault = t.vault()
	for url in ("127.0.0.1:3128", "https://127.0.0.1:3128", "socks5://127.0.0.1:1080", "http://",
			"http://127.0.0.1", "http://user:secret@127.0.0.1:3128", "http://127.0.0.1:3128/path",
			"http://127.0.0.1:80x"):
		done = t.byok("format", t.disk(), "--name", "data", "--key", vault.kid,
			"--config", settings_through(t, vault, url), expect="config")
		expect(f'proxy cannot be "{url}"' in done.stderr, done.stderr)


@test
def a_proxy_that_goes_and_comes_degrades_a_key_and_heals_it(t):
	vault = t.vault()
	proxy = through(t, vault)
	settings = settings_through(t, vault, proxy.url, data_path="nbd", probe_interval=1,
		probe_retry=1, attempt_timeout=2)
	disk = t.disk()
	t.byok("format", disk, "--name", "data", "--key", vault.kid, "--config", settings)

	def status():
		return t.run(t.program, "status", "--json", "--config", settings).stdout

	process = t.start("serve", disk, "--config", settings, ready=lambda: '"serving"' in status())
	# Connections are kept, so the vault ends the one that is there.
	proxy.answers = saying(b"HTTP/1.1 503 Service Unavailable\r\n\r\n")
	vault.restart()
	wait_until(lambda: '"degraded"' in status() and '"proxy-error"' in status(), "degraded key")
	proxy.answers = None
	wait_until(lambda: '"degraded"' not in status(), "key that is well again")
	expect_equal(stop(process), 0, log_of(process))

"""The metrics as Prometheus sees them: its own checker, a real node_exporter, and a real Prometheus that
evaluates the alerts of platform/prometheus. Debian's packages of them are unpacked under build/test and
never installed, since installing them starts services."""

import fcntl
import json
import os
import socket
import stat
import subprocess
import time
import urllib.parse
import urllib.request

from harness import TOP, Failure, Skip, expect, expect_equal, log_of, stop, test, wait_until
from test_supervisor import formatted, is_serving, served, states

RULES = TOP / "platform/prometheus/byok.rules.yml"
UNPACKED = TOP / "build/test/prometheus"
PACKAGES = ("prometheus", "prometheus-node-exporter")


def monitor(name):
	"""The path of a program of Prometheus'."""
	program = UNPACKED / "usr/bin" / name
	UNPACKED.mkdir(parents=True, exist_ok=True)
	with open(UNPACKED / "lock", "w") as lock:
		fcntl.flock(lock, fcntl.LOCK_EX)
		for package in PACKAGES:
			if (UNPACKED / f"{package}.done").exists():
				continue
			fetched = subprocess.run([TOP / "platform/deps/apt-private.sh", "deb", package],
				capture_output=True, text=True)
			if fetched.returncode != 0:
				raise Skip(fetched.stderr.strip())
			subprocess.run(["dpkg-deb", "-x", fetched.stdout.strip(), UNPACKED], check=True)
			(UNPACKED / f"{package}.done").touch()
	return program


def free_port():
	with socket.socket() as probe:
		probe.bind(("127.0.0.1", 0))
		return probe.getsockname()[1]


def fetch(port, path):
	try:
		with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
			return answer.read().decode()
	except OSError:
		return None


def query(port, expression):
	"""The values of a query now, by their labels."""
	text = fetch(port, "/api/v1/query?" + urllib.parse.urlencode({"query": expression}))
	found = json.loads(text)["data"]["result"] if text else []
	return [(one["metric"], float(one["value"][1])) for one in found]


def alerts(port):
	"""(name, state, labels) of what is pending or fires."""
	text = fetch(port, "/api/v1/alerts")
	found = json.loads(text)["data"]["alerts"] if text else []
	return [(one["labels"]["alertname"], one["state"], one["labels"]) for one in found]


def fires(port, name):
	return [labels for alert, state, labels in alerts(port) if (alert, state) == (name, "firing")]


def start_exporter(t, metrics):
	"""node_exporter as its package runs it: not as root, and with a folder in which a link leads to
	byok's file."""
	port, folder = free_port(), t.path("textfile")
	folder.mkdir()
	os.symlink(metrics, folder / "byok.prom")
	# The tests' folder is private; what an image has there is not.
	os.chmod(t.folder, 0o711)
	os.chmod(metrics.parent, 0o711)
	command = [monitor("prometheus-node-exporter"), f"--web.listen-address=127.0.0.1:{port}",
		"--collector.disable-defaults", "--collector.textfile",
		f"--collector.textfile.directory={folder}"]
	if os.geteuid() == 0:
		command = [t.tool("setpriv"), "--reuid=nobody", "--regid=nogroup", "--clear-groups", *command]
	t.start(*command[1:], program=command[0],
		ready=lambda: "byok_build_info" in (fetch(port, "/metrics") or ""))
	return port


def start_prometheus(t, exporter_port):
	"""Looks every second, and is told of trouble at once that real rules let pass for minutes."""
	port = free_port()
	rules = RULES.read_text()
	expect(rules.count("for: 5m") > 0, "no rule waits for 5 minutes")
	t.file("byok.rules.yml", rules.replace("for: 5m", "for: 1s"))
	config = t.file("prometheus.yml", f"""
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: [byok.rules.yml]
scrape_configs:
  - job_name: node
    static_configs: [{{targets: ["127.0.0.1:{exporter_port}"], labels: {{instance: broker-1}}}}]
""")
	t.start(f"--config.file={config}", f"--storage.tsdb.path={t.path('tsdb')}", "--log.level=warn",
		f"--web.listen-address=127.0.0.1:{port}", program=monitor("prometheus"),
		ready=lambda: query(port, "byok_build_info"))
	return port


def check_text(t, text):
	done = t.run(monitor("promtool"), "check", "metrics", input=text)
	expect_equal((done.returncode, done.stdout + done.stderr), (0, ""), "promtool check metrics")


@test
def the_metrics_are_as_prometheus_wants_them_and_end_with_the_service(t):
	vault = t.vault()
	settings, _, process = served(t, vault, "data1", "data2")
	path = t.path("run") / "metrics.prom"
	wait_until(lambda: 'byok_volumes{state="serving"} 2' in path.read_text(), "both volumes")
	text = path.read_text()
	expect_equal(stat.S_IMODE(path.stat().st_mode), 0o644, "mode of the file")
	check_text(t, text)
	for line in (f'key="{vault.kid}"', 'byok_key_attempts_total{operation="unwrap"} 2'):
		expect(line in text, f"{line} is not in {text}")
	# A second supervisor is refused, and leaves the first one's file alone.
	t.byok("serve", t.path("data1"), "--config", settings, expect="service-running")
	expect(path.exists(), "the file is gone with a supervisor that did not run")
	expect_equal(stop(process), 0, "exit status of byok serve")
	expect(not path.exists(), "the file outlives the service")


@test
def a_supervisor_that_dies_leaves_its_file_to_grow_old(t):
	vault = t.vault()
	_, _, process = served(t, vault, "data1")
	process.kill()
	process.wait()
	expect((t.path("run") / "metrics.prom").exists(), "the file is gone, so no alert can fire")


@test
def metrics_that_cannot_be_written_are_no_long_log(t):
	t.path("run/metrics.prom.new").mkdir(parents=True)
	_, _, process = served(t, t.vault(), "data1", probe_interval=1)
	time.sleep(4)
	expect_equal(log_of(process).count("cannot replace"), 1, "how often it is told")


@test
def a_worker_that_dies_is_counted(t):
	vault = t.vault()
	settings, _, _ = served(t, vault, "data1")
	os.kill(states(t, settings)["data1"]["worker_pid"], 9)
	wait_until(lambda: 'byok_workers_lost_total{volume="data1",disk="%s"} 1' % t.path("data1") in
		(t.path("run") / "metrics.prom").read_text(), "lost worker in the metrics")
	check_text(t, (t.path("run") / "metrics.prom").read_text())


@test
def the_shipped_alerts_are_valid_and_do_what_their_tests_say(t):
	for words in (("check", "rules", RULES), ("test", "rules", RULES.with_name("byok.rules.test.yml"))):
		done = t.run(monitor("promtool"), *words, cwd=RULES.parent)
		if done.returncode != 0:
			raise Failure(done.stdout + done.stderr)


@test
def prometheus_sees_a_key_that_is_lost_while_the_disk_is_served_and_comes_back(t):
	vault = t.vault()
	settings, _, _ = served(t, vault, "data1", probe_interval=1, probe_retry=1)
	port = start_prometheus(t, start_exporter(t, t.path("run") / "metrics.prom"))
	vault.key_disable("bank", "broker")
	labels = wait_until(lambda: fires(port, "ByokKeyLost"), "alert", 60)[0]
	expect_equal((labels["volume"], labels["state"], labels["cause"]),
		("data1", "lost", "key-disabled"), "labels of the alert")
	expect_equal([value for _, value in query(port, "byok_volume_serving")], [1.0], "serving")
	vault.key_enable("bank", "broker")
	wait_until(lambda: not fires(port, "ByokKeyLost"), "end of the alert", 60)
	wait_until(lambda: [labels["state"] for labels, _ in query(port, "byok_key_state")] == ["ok"],
		"key that is ok in Prometheus", 60)


@test
def prometheus_sees_a_disk_that_is_not_served_and_then_is(t):
	vault = t.vault()
	settings = t.vault_settings(vault, data_path="nbd")
	disk, _ = formatted(t, vault, "data1", settings)
	vault.fault_add(match="unwrapkey", status=403, code="Forbidden", inner="ForbiddenByFirewall")
	t.start("serve", disk, "--config", settings, ready=lambda: states(t, settings).get(
		"data1", {}).get("cause") == "vault-firewall")
	exporter = start_exporter(t, t.path("run") / "metrics.prom")
	check_text(t, fetch(exporter, "/metrics"))
	port = start_prometheus(t, exporter)

	labels = wait_until(lambda: fires(port, "ByokVolumeNotServed"), "alert", 60)[0]
	expect_equal((labels["volume"], labels["cause"], labels["instance"], labels["severity"]),
		("data1", "vault-firewall", "broker-1", "critical"), "labels of the alert")
	vault.fault_clear()
	wait_until(lambda: is_serving(t, settings, "data1"), "unlocked volume", 60)
	wait_until(lambda: [value for _, value in query(port, "byok_volume_serving")] == [1.0],
		"served volume in Prometheus", 60)
	wait_until(lambda: not alerts(port), "end of all alerts", 60)

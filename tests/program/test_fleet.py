"""Many brokers, as real processes, before one vault with a limit; `make fleet` simulates thousands.
FLEET_PROCESSES says how many."""

import json
import math
import os
import shutil
import time

from harness import CLIENT_ID, expect, expect_equal, test, wait_until

COUNT = int(os.environ.get("FLEET_PROCESSES", "8"))
AZURE_LIMIT = 4000 # operations in 10 s with an RSA key of 2048 bits
WINDOW_S = 10


def broker(t, vault, number, fleet_size):
	"""A machine's byok serve, with a folder of its own; gives the path of its volume's socket."""
	run = t.path(f"run-{number}")
	settings = t.file(f"byok-{number}.conf", "".join(f"{k} = {v}\n" for k, v in {
		"run_directory": run, "data_path": "nbd", "identity": CLIENT_ID,
		"imds_endpoint": vault.imds_url, "vault_connect_to": f"127.0.0.1:{vault.vault_port}",
		"ca_file": vault.ca_file, "fleet_size": fleet_size}.items()))
	disk = t.path(f"disk-{number}")
	shutil.copyfile(t.path("disk"), disk)
	t.start("serve", disk, "--config", settings)
	return run / "data.nbd"


@test
def brokers_that_start_at_once_are_all_served_though_the_vault_has_a_limit(t):
	vault = t.vault()
	t.byok("format", t.disk(size_mib=17), "--name", "data", "--key", vault.kid, "--config",
		t.vault_settings(vault))
	# Four of five may ask within one window. The fleet is as much larger than it is as the limit is
	# smaller than Azure's.
	limit = max(COUNT * 4 // 5, 1)
	vault.vault_set("bank", throttle=limit)
	vault.log_clear()
	begin = time.monotonic()
	sockets = [broker(t, vault, i, COUNT * AZURE_LIMIT // limit) for i in range(COUNT)]
	wait_until(lambda: all(s.exists() for s in sockets), "volume of every broker", 300)
	waited = time.monotonic() - begin
	requests = vault.log(operation="unwrapkey")
	expect_equal({r["status"] for r in requests} - {200, 429}, set(), "other answers of the vault")
	expect_equal(sum(r["status"] == 200 for r in requests), COUNT, "unwraps")
	# Each that is refused comes back when there is room for it. The simulation holds the ratio to
	# its bound; here the machine's load moves brokers in time, so it only must not be a storm.
	expect(len(requests) <= COUNT * 3, f"{len(requests)} requests of {COUNT} brokers")
	perfect = (math.ceil(COUNT / limit) - 1) * WINDOW_S + 1
	print(json.dumps({"scenario": "processes", "brokers": COUNT, "unlocked": len(sockets),
		"requests_ratio": round(len(requests) / COUNT, 3),
		"time_ratio": round(waited / perfect, 3), "worst_wait_s": round(waited, 1)}))

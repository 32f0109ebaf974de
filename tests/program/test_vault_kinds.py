"""Keys of every kind and size, in the vaults and managed HSMs of every cloud."""

import json
from datetime import datetime, timedelta

from harness import CLIENT_ID, expect, expect_equal, metadata_of, stop, test, wait_until

SUFFIXES = ["vault.azure.net", "vault.azure.cn", "vault.usgovcloudapi.net",
	"managedhsm.azure.net", "managedhsm.azure.cn", "managedhsm.usgovcloudapi.net"]


def goes_all_the_way(t, vault, host, **kind):
	"""Formats, checks, rotates and serves a disk under a new key; gives its header's token."""
	vault.vault_create(host)
	kid = vault.key_create(host, "broker", **kind)
	vault.grant(host, CLIENT_ID)
	settings = t.vault_settings(vault, data_path="nbd")
	name = "data-" + host.replace(".", "-")[:20] + str(kind.get("size", ""))
	disk = t.disk(name)
	t.byok("format", disk, "--name", name, "--key", kid, "--config", settings)
	formatted = metadata_of(t, disk)["metadata"]["tokens"]["0"]
	expect_equal(formatted["kid"], kid)
	made = datetime.strptime(formatted["created"], "%Y-%m-%dT%H:%M:%SZ")
	expect(abs(made - datetime.utcnow()) < timedelta(hours=1), f"it was made at {made}")
	expect_equal(len(vault.unwrap(kid, formatted["wrapped"], alg=formatted["alg"])), 32, "secret's size")
	newer = vault.key_rotate(host, "broker")
	t.byok("rotate", disk, "--config", settings)
	token = metadata_of(t, disk)["metadata"]["tokens"]["0"]
	expect_equal((token["kid"], token["alg"]), (newer, formatted["alg"]))
	process = t.start("serve", disk, "--config", settings,
		ready=lambda: "serving" in t.run(t.program, "status", "--config", settings).stdout)
	expect_equal(stop(process), 0, "exit status of byok serve")
	return token


@test
def rsa_keys_of_each_size_in_software_and_in_hsm(t):
	vault = t.vault()
	for size, length in ((2048, 342), (3072, 512), (4096, 683)):
		for kty in ("RSA", "RSA-HSM"):
			token = goes_all_the_way(t, vault, f"{kty}-{size}".lower(), kty=kty, size=size)
			expect_equal((token["alg"], len(token["wrapped"])), ("RSA-OAEP-256", length), f"{kty} {size}")


@test
def an_aes_key_of_a_managed_hsm_wraps_by_A256KW(t):
	token = goes_all_the_way(t, t.vault(), "bank.managedhsm.azure.net", kty="oct-HSM")
	expect_equal((token["alg"], len(token["wrapped"])), ("A256KW", 54))


@test
def an_aes_key_of_another_size_is_refused_before_anything_is_written(t):
	vault = t.vault()
	vault.vault_create("hsm.managedhsm.azure.net")
	vault.grant("hsm.managedhsm.azure.net", CLIENT_ID)
	disk = t.disk()
	for size in (128, 192):
		kid = vault.key_create("hsm.managedhsm.azure.net", f"aes{size}", kty="oct-HSM", size=size)
		t.byok("format", disk, "--name", "x", "--key", kid, "--config", t.vault_settings(vault),
			expect="key-type")
	expect(not any(disk.read_bytes()), "the disk was written to")


@test
def a_vault_that_wraps_otherwise_than_asked_is_not_believed(t):
	vault = t.vault()
	vault.vault_create("hsm.managedhsm.azure.net")
	vault.grant("hsm.managedhsm.azure.net", CLIENT_ID)
	aes = vault.key_create("hsm.managedhsm.azure.net", "aes", kty="oct-HSM")
	for kid, value in ((vault.kid, "A" * 54), (aes, "A" * 342)):
		vault.fault_add(match="wrapkey", value=value, times=1)
		t.byok("format", t.disk(), "--name", "x", "--key", kid, "--config", t.vault_settings(vault),
			expect="answer-shape")


@test
def a_disk_follows_its_key_to_a_version_of_another_kind(t):
	vault, host = t.vault(), "hsm.managedhsm.azure.net"
	vault.vault_create(host)
	vault.grant(host, CLIENT_ID)
	kid = vault.key_create(host, "broker", kty="RSA-HSM")
	settings = t.vault_settings(vault, data_path="nbd", key=kid.rpartition("/")[0],
		follow_interval=1, probe_interval=1, probe_retry=1)
	disk = t.disk()
	t.byok("format", disk, "--name", "data", "--config", settings)
	t.start("serve", disk, "--config", settings,
		ready=lambda: "serving" in t.run(t.program, "status", "--config", settings).stdout)
	for kty, algorithm in (("oct-HSM", "A256KW"), ("RSA-HSM", "RSA-OAEP-256")):
		newer = vault.key_create(host, "broker", kty=kty)
		wait_until(lambda: metadata_of(t, disk)["metadata"]["tokens"]["0"]["kid"] == newer,
			f"disk under the {kty} version")
		expect_equal(metadata_of(t, disk)["metadata"]["tokens"]["0"]["alg"], algorithm)


@test
def each_cloud_is_asked_with_a_token_for_its_own_resource(t):
	vault = t.vault()
	for suffix in SUFFIXES:
		vault.log_clear()
		goes_all_the_way(t, vault, f"kind.{suffix}")
		tokens = vault.log(operation="token")
		expect_equal({entry["query"]["resource"] for entry in tokens}, {f"https://{suffix}"}, suffix)
		auths = {entry["auth"] for entry in vault.log(server="vault")}
		expect_equal(auths, {"valid"}, f"tokens at {suffix}")


@test
def a_wrapped_secret_under_the_wrong_algorithm_is_a_bad_token(t):
	vault = t.vault()
	settings = t.vault_settings(vault, data_path="nbd")
	disk = t.disk()
	t.byok("format", disk, "--name", "data", "--key", vault.kid, "--config", settings)
	token = metadata_of(t, disk)["metadata"]["tokens"]["0"]
	for changed in ({"alg": "A256KW"}, {"alg": "RSA1_5"}, {"alg": "RSA-OAEP-256", "wrapped": "A" * 54}):
		token_file = t.file("token.json", json.dumps(token | changed))
		t.must("cryptsetup", "token", "remove", "--token-id", "0", disk)
		t.must("cryptsetup", "token", "import", "--token-id", "0", "--json-file", token_file, disk)
		vault.log_clear()
		t.byok("rescue", disk, "--config", settings, "--output", t.path("out"), expect="token")
		expect_equal(vault.log(), [], f"requests with {changed}")

"""Format and unlock against the vault double: every way in which key, identity, vault or the way to it
can be wrong. Each has its own exit status, and the disk stays blank."""

import time

from harness import CLIENT_ID, STATUSES, expect, expect_equal, metadata_of, test


def refused(t, vault, word, disk=None, url=None, object=None, **settings):
	disk = disk or t.disk()
	before = disk.read_bytes()
	done = t.byok("format", disk, "--name", "data", "--key", url or vault.kid,
		"--config", t.vault_settings(vault, **({"operation_deadline": 8, "attempt_timeout": 8} |
			settings)),
		expect=word, object=object)
	expect(disk.read_bytes() == before, "the disk was written to")
	return done


@test
def a_good_key_formats_a_disk_that_only_the_vault_opens(t):
	vault = t.vault()
	disk, recovery = t.disk(), t.path("recovery")
	t.byok("format", disk, "--name", "data", "--key", vault.kid, "--config", t.vault_settings(vault),
		"--recovery-key-file", recovery)
	token = metadata_of(t, disk)["metadata"]["tokens"]["0"]
	expect_equal(token["type"], "byok-akv")
	expect_equal(token["kid"], vault.kid)
	expect_equal(token["identity"], CLIENT_ID)
	secret = vault.unwrap(token["kid"], token["wrapped"])
	expect_equal(len(secret), 32, "the slot secret's size")
	import base64
	passphrase = t.file("passphrase", base64.b64encode(secret))
	for key_file in (passphrase, recovery):
		t.must("cryptsetup", "open", "--test-passphrase", "--key-file", key_file, disk)
	expect_equal(recovery.stat().st_mode & 0o777, 0o600, "the recovery key file's mode")


@test
def a_key_that_is_disabled_is_refused(t):
	vault = t.vault()
	vault.key_disable("bank", "broker")
	refused(t, vault, "key-disabled", object=vault.kid)


@test
def a_key_that_was_deleted_is_refused_and_the_advice_is_to_recover_it(t):
	vault = t.vault()
	vault.key_delete("bank", "broker")
	done = refused(t, vault, "key-gone", object=vault.kid)
	expect("recover it" in done.stderr, f"no advice: {done.stderr}")


@test
def a_key_that_has_expired_is_refused(t):
	vault = t.vault()
	vault.key_expire("bank", "broker")
	refused(t, vault, "key-expired")


@test
def a_key_that_is_not_valid_yet_is_refused(t):
	vault = t.vault()
	vault.key_set("bank", "broker", nbf="+3600")
	refused(t, vault, "key-not-yet-valid")


@test
def only_the_four_recovery_levels_with_purge_protection_are_accepted(t):
	vault = t.vault()
	for level, word in [("Purgeable", "key-purgeable"), ("Recoverable+Purgeable", "key-purgeable"),
			("CustomizedRecoverable+Purgeable", "key-purgeable"), ("Recoverable", "ok"),
			("Recoverable+ProtectedSubscription", "ok"), ("CustomizedRecoverable", "ok"),
			("CustomizedRecoverable+ProtectedSubscription", "ok")]:
		vault.vault_set("bank", recovery_level=level)
		disk = t.disk("disk-" + level)
		if word == "ok":
			t.byok("format", disk, "--name", "data", "--key", vault.kid, "--config",
				t.vault_settings(vault))
		else:
			refused(t, vault, word, disk=disk)


@test
def a_recovery_level_that_nobody_knows_or_that_is_missing_is_refused(t):
	vault = t.vault()
	vault.fault_add(match="get", set=['attributes.recoveryLevel="Recoverable+Somehow"'])
	refused(t, vault, "key-purgeable")
	vault.fault_clear()
	vault.fault_add(match="get", unset=["attributes.recoveryLevel"])
	refused(t, vault, "key-purgeable")


@test
def an_elliptic_key_is_refused(t):
	vault = t.vault()
	kid = vault.key_create("bank", "curve", kty="EC", curve="P-256")
	refused(t, vault, "key-type", url=kid)


@test
def a_key_that_may_only_sign_is_refused(t):
	vault = t.vault()
	kid = vault.key_create("bank", "signer", size=2048, ops="sign,verify")
	refused(t, vault, "key-operations", url=kid)


@test
def an_identity_that_the_machine_does_not_have_is_refused(t):
	vault = t.vault()
	done = t.byok("format", t.disk(), "--name", "data", "--key", vault.kid, "--config",
		t.vault_settings(vault, operation_deadline=2), "--identity",
		"99999999-2222-3333-4444-555555555555", expect="identity-none")
	expect("--identity" not in done.stdout, "")


@test
def settings_that_the_vault_agent_refuses_are_named(t):
	vault = t.vault()
	for word, setting, value in [("config", "vault_connect_to", "nowhere"),
			("config", "imds_endpoint", "http://example.com"), ("config", "identity", "bob"),
			("config", "ca_file", t.file("empty.pem", "no certificate\n")),
			("file", "ca_file", t.path("absent.pem"))]:
		done = refused(t, vault, word, **{setting: value})
		named = setting if word == "config" else str(value)
		expect(named in done.stderr, f"it does not name {named}: {done.stderr}")


@test
def several_identities_without_a_client_id_are_refused(t):
	vault = t.vault()
	vault.identity_add("22222222-2222-3333-4444-555555555555")
	settings = t.settings(imds_endpoint=vault.imds_url, ca_file=vault.ca_file,
		vault_connect_to=f"127.0.0.1:{vault.vault_port}", operation_deadline=2)
	t.byok("format", t.disk(), "--name", "data", "--key", vault.kid, "--config", settings,
		expect="identity-ambiguous")


@test
def no_metadata_service_is_told_apart_from_a_slow_one(t):
	vault = t.vault()
	refused(t, vault, "imds-unreachable", imds_endpoint="http://127.0.0.1:9")
	vault.fault_add(match="token", delay=30)
	refused(t, vault, "imds-timeout", attempt_timeout=2, operation_deadline=2)


@test
def each_answer_of_the_metadata_service_has_its_own_cause(t):
	vault = t.vault()
	for status, word in [(410, "imds-updating"), (429, "imds-throttled"), (500, "imds-error"),
			(403, "imds-refused")]:
		vault.fault_clear()
		vault.fault_add(match="token", status=status)
		refused(t, vault, word)
	vault.fault_clear()
	vault.fault_add(match="token", body="garbage")
	refused(t, vault, "imds-answer")


@test
def each_refusal_of_the_vault_has_its_own_cause(t):
	vault = t.vault()
	cases = [(401, "Unauthorized", None, "vault-unauthorized"),
		(403, "Forbidden", "ForbiddenByRbac", "vault-rbac"),
		(403, "Forbidden", "AccessDenied", "vault-policy"),
		(403, "Forbidden", "ForbiddenByPolicy", "vault-policy"),
		(403, "Forbidden", "ForbiddenByFirewall", "vault-firewall"),
		(403, "Forbidden", "ForbiddenByConnection", "vault-private-link"),
		(403, "Forbidden", "KeyDisabled", "key-disabled"),
		(403, "Forbidden", "SomethingElse", "vault-forbidden"),
		(404, "KeyNotFound", None, "key-gone"),
		(409, "Conflict", "ObjectIsBeingRecovered", "vault-conflict"),
		(429, "Throttled", None, "vault-throttled"),
		(500, "InternalServerError", None, "vault-unavailable"),
		(503, "ServiceUnavailable", None, "vault-unavailable"),
		(400, "BadParameter", None, "vault-request")]
	for status, code, inner, word in cases:
		vault.fault_clear()
		more = {"inner": inner} if inner else {}
		vault.fault_add(match="unwrapkey", status=status, code=code, **more)
		refused(t, vault, word)
	vault.fault_clear()
	vault.fault_add(match="unwrapkey", status=404, body="html")
	refused(t, vault, "vault-not-found")


@test
def each_kind_of_bad_answer_has_its_own_cause(t):
	vault = t.vault()
	for body, word in [("huge", "answer-too-large"), ("endless", "answer-too-large"),
			("cut", "answer-cut"), ("garbage", "answer-syntax"), ("html", "answer-syntax"),
			("empty", "answer-syntax"), ("array", "answer-shape")]:
		vault.fault_clear()
		vault.fault_add(match="unwrapkey", body=body)
		refused(t, vault, word)


@test
def a_vault_that_lies_about_the_key_or_the_secret_is_found_out(t):
	vault = t.vault()
	for fault, word in [({"kid": "wrong"}, "key-id"), ({"kid": "other-host"}, "key-id"),
			({"kid": "missing"}, "answer-shape"), ({"value": "wrong"}, "key-mismatch"),
			({"value": "short"}, "wrapped-mismatch"), ({"value": "missing"}, "answer-shape")]:
		vault.fault_clear()
		vault.fault_add(match="unwrapkey", **fault)
		refused(t, vault, word)


@test
def each_way_in_which_tls_cannot_be_trusted_has_its_own_cause(t):
	vault = t.vault()
	for mode, word in [("wrong-name", "tls-name"), ("wrong-ca", "tls-authority"),
			("self-signed", "tls-authority"), ("expired", "tls-date"),
			("not-yet-valid", "tls-date")]:
		vault.certificate(mode)
		refused(t, vault, word)
		expect(not vault.log(server="vault", bearer=True), "a token was sent to a stranger")


@test
def a_vault_that_nothing_listens_for_or_that_is_slow_is_told_apart(t):
	vault = t.vault()
	refused(t, vault, "vault-unreachable", vault_connect_to="127.0.0.1:9")
	refused(t, vault, "vault-name", vault_connect_to="no-such-host.invalid:443")
	vault.fault_add(match="get", delay=30)
	refused(t, vault, "vault-timeout", attempt_timeout=3, operation_deadline=3)


@test
def a_redirect_is_refused_and_the_token_goes_nowhere_else(t):
	vault = t.vault()
	vault.stranger_add("stranger.example")
	vault.fault_add(match="get", redirect="https://stranger.example/keys/broker")
	refused(t, vault, "vault-redirect")
	expect(not vault.log(server="stranger"), "the redirect was followed")


@test
def throttling_is_waited_out_as_long_as_the_vault_asks(t):
	vault = t.vault()
	vault.fault_add(match="unwrapkey", status=429, code="Throttled", retry_after=2, times=1)
	begin = time.monotonic()
	t.byok("format", t.disk(), "--name", "data", "--key", vault.kid, "--config",
		t.vault_settings(vault))
	expect(time.monotonic() - begin >= 2, "Retry-After was not honoured")
	expect_equal(len(vault.log(operation="unwrapkey")), 2, "unwrap requests")


@test
def an_expired_token_is_replaced_once_and_then_all_is_well(t):
	vault = t.vault()
	vault.fault_add(match="token", token="expired", times=1)
	t.byok("format", t.disk(), "--name", "data", "--key", vault.kid, "--config",
		t.vault_settings(vault))
	expect_equal(len(vault.log(operation="token")), 2, "token requests")


@test
def every_failure_has_an_exit_status_of_its_own(t):
	numbers = [number for number, _ in STATUSES.values()]
	expect_equal(len(numbers), len(set(numbers)), "the count of distinct exit statuses")
	# 126 to 192 are the shell's: what cannot be run, and 64 signals.
	expect(all(0 <= n < 126 or 192 < n < 255 for n in numbers), "a status collides with the shell's own")

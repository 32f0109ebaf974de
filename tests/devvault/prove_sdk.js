// Microsoft's own clients against the double. Started by `prove` inside a network namespace that
// holds 169.254.169.254, with the vaults' names in its /etc/hosts: as they would run on Azure.
"use strict";

const assert = require("node:assert/strict");
const crypto = require("node:crypto");
const fs = require("node:fs");
const { execFileSync } = require("node:child_process");
const { ManagedIdentityCredential, WorkloadIdentityCredential } = require("@azure/identity");
const { CryptographyClient, KeyClient } = require("@azure/keyvault-keys");

const CLIENT = "11111111-2222-3333-4444-555555555555";
const STRANGE_CLIENT = "99999999-2222-3333-4444-555555555555";
const SECRET = crypto.randomBytes(32);
const RETRY = { retryOptions: { maxRetries: 2, retryDelayInMs: 10, maxRetryDelayInMs: 20 } };
const NO_RETRY = { retryOptions: { maxRetries: 0 } };
const POLL = { intervalInMs: 20 };

const devvault = (...words) =>
	execFileSync(process.env.DEVVAULT, words, { encoding: "utf8" }).trim();
const lines = (text) =>
	text
		.split("\n")
		.filter(Boolean)
		.map((line) => JSON.parse(line));
const log = () => lines(devvault("log"));

const credential = new ManagedIdentityCredential({ clientId: CLIENT });
const clientOf = (host, options = RETRY) => new KeyClient(`https://${host}`, credential, options);
const cryptographyOf = (kid, options = RETRY) => new CryptographyClient(kid, credential, options);

const keep = clientOf("keep.vault.azure.net"); // purge protection
const loose = clientOf("loose.vault.azure.net"); // soft delete only

async function all(pages) {
	const found = [];
	for await (const one of pages) found.push(one);
	return found;
}

// What the SDK makes of a refusal: the HTTP status, error.code and innererror.code.
async function refusalOf(promise) {
	try {
		await promise;
	} catch (error) {
		return [error.statusCode, error.code, error.details?.error?.innerError?.code];
	}
	throw new Error("it was allowed");
}

const tests = {
	async "the token comes from the metadata address of a real machine"() {
		const token = await credential.getToken("https://vault.azure.net/.default");
		assert.ok(token.expiresOnTimestamp > Date.now() + 3600e3);
		const asked = log().find((record) => record.server === "imds" && record.status === 200);
		assert.equal(asked.host, "169.254.169.254");
		assert.equal(asked.identity, CLIENT);
	},
	async "the first request carries no token, and the challenge is followed"() {
		devvault("log", "--clear");
		await clientOf("keep.vault.azure.net").getKey("disk");
		const gets = log().filter((record) => record.operation === "get");
		assert.deepEqual(
			gets.map((record) => [record.bearer, record.status]),
			[
				[false, 401],
				[true, 200],
			],
		);
	},
	async "RSA keys of each size and EC keys are created"() {
		for (const keySize of [2048, 3072, 4096]) {
			const key = await keep.createRsaKey(`rsa-${keySize}`, { keySize });
			assert.equal(key.keyType, "RSA");
			assert.equal(key.key.n.length * 8, keySize);
			assert.match(
				key.id,
				new RegExp(`^https://keep.vault.azure.net/keys/rsa-${keySize}/[0-9a-f]{32}$`),
			);
		}
		const ec = await keep.createEcKey("ec", { curve: "P-384" });
		assert.deepEqual([ec.keyType, ec.key.crv, ec.key.x.length], ["EC", "P-384", 48]);
	},
	async "a key's properties say what protects it"() {
		const { properties } = await keep.getKey("disk");
		assert.deepEqual(
			[properties.recoveryLevel, properties.recoverableDays, properties.enabled],
			["Recoverable", 90, true],
		);
		const custom = (await loose.getKey("disk")).properties;
		assert.deepEqual(
			[custom.recoveryLevel, custom.recoverableDays],
			["CustomizedRecoverable+Purgeable", 7],
		);
		assert.ok(Math.abs(properties.createdOn - Date.now()) < 3600e3);
	},
	async "all seven recovery levels pass through the SDK"() {
		for (const level of [
			"Purgeable",
			"Recoverable+Purgeable",
			"Recoverable",
			"Recoverable+ProtectedSubscription",
			"CustomizedRecoverable+Purgeable",
			"CustomizedRecoverable",
			"CustomizedRecoverable+ProtectedSubscription",
		]) {
			devvault("vault", "set", "level", "--recovery-level", level);
			const { properties } = await clientOf("level.vault.azure.net").getKey("disk");
			assert.equal(properties.recoveryLevel, level);
		}
	},
	async "RSA-OAEP-256 wraps and unwraps in the vault, and the oracle opens it too"() {
		const key = await keep.getKey("disk");
		const client = cryptographyOf(key.id);
		devvault("log", "--clear");
		const wrapped = await client.wrapKey("RSA-OAEP-256", SECRET);
		assert.equal(
			log().filter((record) => record.operation === "wrapkey" && record.status === 200)
				.length,
			1,
		);
		assert.equal(wrapped.keyID, key.id);
		const opened = await client.unwrapKey("RSA-OAEP-256", wrapped.result);
		assert.deepEqual(Buffer.from(opened.result), SECRET);
		const value = Buffer.from(wrapped.result).toString("base64url");
		assert.equal(
			devvault("unwrap", "--kid", key.id, "--value", value),
			SECRET.toString("base64url"),
		);
	},
	async "what Node's OpenSSL wraps with n and e, the vault unwraps"() {
		const key = await keep.getKey("rsa-3072");
		const jwk = {
			kty: "RSA",
			n: Buffer.from(key.key.n).toString("base64url"),
			e: Buffer.from(key.key.e).toString("base64url"),
		};
		const wrapped = crypto.publicEncrypt(
			{
				key: crypto.createPublicKey({ key: jwk, format: "jwk" }),
				padding: crypto.constants.RSA_PKCS1_OAEP_PADDING,
				oaepHash: "sha256",
			},
			SECRET,
		);
		const opened = await cryptographyOf(key.id).unwrapKey("RSA-OAEP-256", wrapped);
		assert.deepEqual(Buffer.from(opened.result), SECRET);
	},
	async "RSA-OAEP and RSA1_5, which the SDK wraps by itself, unwrap in the vault"() {
		const client = cryptographyOf((await keep.getKey("disk")).id);
		for (const algorithm of ["RSA-OAEP", "RSA1_5"]) {
			const wrapped = await client.wrapKey(algorithm, SECRET);
			assert.deepEqual(
				Buffer.from((await client.unwrapKey(algorithm, wrapped.result)).result),
				SECRET,
			);
		}
	},
	async "encrypt and decrypt work as wrap and unwrap do"() {
		const client = cryptographyOf((await keep.getKey("disk")).id);
		const sealed = await client.encrypt({ algorithm: "RSA-OAEP-256", plaintext: SECRET });
		const opened = await client.decrypt({
			algorithm: "RSA-OAEP-256",
			ciphertext: sealed.result,
		});
		assert.deepEqual(Buffer.from(opened.result), SECRET);
	},
	async "an AES key of a managed HSM wraps and unwraps by A256KW, and the oracle opens it too"() {
		devvault("log", "--clear");
		const hsm = clientOf("far.managedhsm.azure.net");
		const key = await hsm.createOctKey("aes", { hsm: true, keySize: 256 });
		const asked = log().find((record) => record.operation === "token");
		assert.equal(asked.query.resource, "https://managedhsm.azure.net");
		assert.deepEqual(
			[key.keyType, key.keyOperations.includes("unwrapKey"), key.key.k],
			["oct-HSM", true, undefined],
		);
		const client = cryptographyOf(key.id);
		const wrapped = await client.wrapKey("A256KW", SECRET);
		assert.equal(wrapped.result.length, 40);
		const opened = await client.unwrapKey("A256KW", wrapped.result);
		assert.deepEqual(Buffer.from(opened.result), SECRET);
		const value = Buffer.from(wrapped.result).toString("base64url");
		assert.equal(
			devvault("unwrap", "--kid", key.id, "--alg", "A256KW", "--value", value),
			SECRET.toString("base64url"),
		);
		assert.equal((await refusalOf(client.unwrapKey("RSA-OAEP-256", wrapped.result)))[0], 400);
		assert.equal((await refusalOf(keep.createOctKey("aes", { hsm: true })))[0], 400);
	},
	async "a rotated key has a new version, and the old one still unwraps"() {
		const before = await keep.getKey("disk");
		const wrapped = await cryptographyOf(before.id).wrapKey("RSA-OAEP-256", SECRET);
		const after = await keep.rotateKey("disk");
		assert.notEqual(after.properties.version, before.properties.version);
		assert.equal((await keep.getKey("disk")).id, after.id);
		assert.equal(
			(await keep.getKey("disk", { version: before.properties.version })).id,
			before.id,
		);
		const opened = await cryptographyOf(before.id).unwrapKey("RSA-OAEP-256", wrapped.result);
		assert.deepEqual(Buffer.from(opened.result), SECRET);
		assert.deepEqual(
			await refusalOf(cryptographyOf(after.id).unwrapKey("RSA-OAEP-256", wrapped.result)),
			[400, "BadParameter", undefined],
		);
	},
	async "versions are listed over several pages"() {
		for (let i = 0; i < 4; i++) await keep.createRsaKey("many");
		const pages = await all(
			keep.listPropertiesOfKeyVersions("many").byPage({ maxPageSize: 3 }),
		);
		assert.deepEqual(
			pages.map((page) => page.length),
			[3, 1],
		);
		assert.equal(new Set(pages.flat().map((item) => item.version)).size, 4);
	},
	async "keys are listed"() {
		const names = (await all(keep.listPropertiesOfKeys())).map((item) => item.name);
		for (const name of ["disk", "many", "ec"]) assert.ok(names.includes(name), name);
	},
	async "tags, operations and dates are updated"() {
		const key = await keep.createRsaKey("changing");
		const expiresOn = new Date("2037-01-01T00:00:00Z"); // the SDK keeps seconds in 32 bits
		const changed = await keep.updateKeyProperties("changing", key.properties.version, {
			tags: { disk: "0" },
			expiresOn,
			keyOps: ["unwrapKey"],
		});
		assert.deepEqual(
			[changed.properties.tags, changed.properties.expiresOn, changed.keyOperations],
			[{ disk: "0" }, expiresOn, ["unwrapKey"]],
		);
		assert.deepEqual(
			await refusalOf(keep.updateKeyProperties("changing", "0".repeat(32), {})),
			[404, "KeyNotFound", undefined],
		);
	},
	async "a disabled version is shown, wraps and does not unwrap"() {
		const key = await keep.createRsaKey("off");
		const client = cryptographyOf(key.id);
		const wrapped = await client.wrapKey("RSA-OAEP-256", SECRET);
		await keep.updateKeyProperties("off", key.properties.version, { enabled: false });
		assert.equal((await keep.getKey("off")).properties.enabled, false);
		assert.deepEqual(await refusalOf(client.unwrapKey("RSA-OAEP-256", wrapped.result)), [
			403,
			"Forbidden",
			"KeyDisabled",
		]);
		await client.wrapKey("RSA-OAEP-256", SECRET);
		await keep.updateKeyProperties("off", key.properties.version, { enabled: true });
		assert.deepEqual(
			Buffer.from((await client.unwrapKey("RSA-OAEP-256", wrapped.result)).result),
			SECRET,
		);
	},
	async "an expired key unwraps and does not wrap"() {
		const key = await keep.createRsaKey("old");
		const client = cryptographyOf(key.id);
		const wrapped = await client.wrapKey("RSA-OAEP-256", SECRET);
		devvault("key", "expire", "keep", "old");
		assert.deepEqual(await refusalOf(client.wrapKey("RSA-OAEP-256", SECRET)), [
			403,
			"Forbidden",
			"KeyExpired",
		]);
		assert.deepEqual(
			Buffer.from((await client.unwrapKey("RSA-OAEP-256", wrapped.result)).result),
			SECRET,
		);
	},
	async "the SDK sees that a sign-only and an EC key do not unwrap"() {
		const key = await keep.createRsaKey("sign-only", { keyOps: ["sign", "verify"] });
		const ec = await keep.getKey("ec");
		for (const kid of [key.id, ec.id])
			await assert.rejects(
				cryptographyOf(kid).unwrapKey("RSA-OAEP-256", SECRET),
				/unwrapKey/,
			);
	},
	async "a deleted key is not found, keeps its name, and is recovered whole"() {
		const key = await keep.createRsaKey("gone");
		const wrapped = await cryptographyOf(key.id).wrapKey("RSA-OAEP-256", SECRET);
		const deleted = await (await keep.beginDeleteKey("gone", POLL)).pollUntilDone();
		assert.equal(
			deleted.properties.recoveryId,
			"https://keep.vault.azure.net/deletedkeys/gone",
		);
		assert.equal(
			deleted.properties.scheduledPurgeDate - deleted.properties.deletedOn,
			90 * 86400e3,
		);
		assert.deepEqual(await refusalOf(keep.getKey("gone")), [404, "KeyNotFound", undefined]);
		assert.deepEqual(
			await refusalOf(cryptographyOf(key.id).unwrapKey("RSA-OAEP-256", wrapped.result)),
			[404, "KeyNotFound", undefined],
		);
		assert.deepEqual(await refusalOf(keep.createRsaKey("gone")), [
			409,
			"Conflict",
			"ObjectIsDeletedButRecoverable",
		]);
		assert.deepEqual(
			(await all(keep.listDeletedKeys())).map((item) => item.name),
			["gone"],
		);
		assert.equal((await keep.getDeletedKey("gone")).id, key.id);
		await (await keep.beginRecoverDeletedKey("gone", POLL)).pollUntilDone();
		assert.deepEqual(
			Buffer.from(
				(await cryptographyOf(key.id).unwrapKey("RSA-OAEP-256", wrapped.result)).result,
			),
			SECRET,
		);
	},
	async "recovery takes its time, and the SDK waits for it"() {
		await keep.createRsaKey("slowly");
		await (await keep.beginDeleteKey("slowly", POLL)).pollUntilDone();
		devvault("vault", "set", "keep", "--recovery-seconds", "2");
		const poller = await keep.beginRecoverDeletedKey("slowly", POLL);
		assert.deepEqual(await refusalOf(keep.createRsaKey("slowly")), [
			409,
			"Conflict",
			"ObjectIsBeingRecovered",
		]);
		assert.equal((await poller.pollUntilDone()).name, "slowly");
		devvault("vault", "set", "keep", "--recovery-seconds", "0");
	},
	async "purge protection holds, and without it a purge is final"() {
		await keep.createRsaKey("held");
		await (await keep.beginDeleteKey("held", POLL)).pollUntilDone();
		assert.deepEqual((await refusalOf(keep.purgeDeletedKey("held"))).slice(0, 2), [
			403,
			"Forbidden",
		]);
		await loose.createRsaKey("loose");
		await (await loose.beginDeleteKey("loose", POLL)).pollUntilDone();
		await loose.purgeDeletedKey("loose");
		assert.deepEqual(await refusalOf(loose.getDeletedKey("loose")), [
			404,
			"KeyNotFound",
			undefined,
		]);
		assert.equal((await loose.createRsaKey("loose")).name, "loose");
	},
	async "a backup restored into another vault unwraps there"() {
		const key = await keep.getKey("many");
		const wrapped = await cryptographyOf(key.id).wrapKey("RSA-OAEP-256", SECRET);
		const restored = await loose.restoreKeyBackup(await keep.backupKey("many"));
		assert.equal(restored.id, key.id.replace("keep.", "loose."));
		assert.deepEqual(
			Buffer.from(
				(await cryptographyOf(restored.id).unwrapKey("RSA-OAEP-256", wrapped.result))
					.result,
			),
			SECRET,
		);
		assert.deepEqual(
			(await refusalOf(loose.restoreKeyBackup(await keep.backupKey("many")))).slice(0, 2),
			[409, "Conflict"],
		);
	},
	async "an imported key is the key that was imported"() {
		const pair = crypto.generateKeyPairSync("rsa", { modulusLength: 2048 });
		const jwk = pair.privateKey.export({ format: "jwk" });
		const material = { kty: "RSA" };
		for (const name of ["n", "e", "d", "p", "q", "dp", "dq", "qi"])
			material[name] = Buffer.from(jwk[name], "base64url");
		const key = await keep.importKey("brought", material);
		const wrapped = await cryptographyOf(key.id).wrapKey("RSA-OAEP-256", SECRET);
		assert.deepEqual(
			crypto.privateDecrypt({ key: pair.privateKey, oaepHash: "sha256" }, wrapped.result),
			SECRET,
		);
	},
	async "a rotation policy is kept"() {
		await keep.updateKeyRotationPolicy("disk", {
			expiresIn: "P90D",
			lifetimeActions: [{ action: "Rotate", timeAfterCreate: "P30D" }],
		});
		const policy = await keep.getKeyRotationPolicy("disk");
		assert.deepEqual(
			[policy.expiresIn, policy.lifetimeActions],
			["P90D", [{ action: "Rotate", timeAfterCreate: "P30D", timeBeforeExpiry: undefined }]],
		);
	},
	async "each kind of lost access has its own inner code"() {
		const host = "shut.vault.azure.net";
		const inner = async () => refusalOf(clientOf(host).getKey("disk"));
		assert.deepEqual(await inner(), [403, "Forbidden", "ForbiddenByRbac"]);
		devvault("vault", "set", host, "--access", "policy");
		assert.deepEqual(await inner(), [403, "Forbidden", "ForbiddenByPolicy"]);
		devvault("grant", host, CLIENT);
		assert.equal((await clientOf(host).getKey("disk")).name, "disk");
		devvault("vault", "set", host, "--network", "firewall");
		assert.deepEqual(await inner(), [403, "Forbidden", "ForbiddenByFirewall"]);
		devvault("vault", "set", host, "--network", "private-link");
		assert.deepEqual(await inner(), [403, "Forbidden", "ForbiddenByConnection"]);
	},
	async "a grant of unwrapKey alone unwraps and does nothing else"() {
		const kid = devvault("key", "create", "narrow", "disk");
		devvault("grant", "narrow", CLIENT, "--key", "disk", "--ops", "unwrapKey");
		const wrapped = Buffer.from(
			devvault("wrap", "--kid", kid, "--value", SECRET.toString("base64url")),
			"base64url",
		);
		const opened = await cryptographyOf(kid).unwrapKey("RSA-OAEP-256", wrapped);
		assert.deepEqual(Buffer.from(opened.result), SECRET);
		assert.deepEqual(await refusalOf(cryptographyOf(kid).wrapKey("RSA-OAEP-256", SECRET)), [
			403,
			"Forbidden",
			"ForbiddenByRbac",
		]);
	},
	async "a throttled and a failing vault are tried again by the SDK"() {
		for (const words of [
			["--status", "429", "--code", "Throttled", "--retry-after", "1"],
			["--status", "503", "--code", "ServiceUnavailable"],
		]) {
			devvault("log", "--clear");
			devvault("fault", "add", "--match", "get", "--times", "1", "--after", "1", ...words);
			assert.equal((await clientOf("keep.vault.azure.net").getKey("disk")).name, "disk");
			assert.deepEqual(
				log()
					.filter((record) => record.operation === "get")
					.map((record) => record.status),
				[401, Number(words[1]), 200],
			);
			devvault("fault", "clear");
		}
	},
	async "a refusal by script reaches the caller as it was written"() {
		devvault(
			"fault",
			"add",
			"--match",
			"unwrapkey",
			"--times",
			"2",
			"--status",
			"403",
			"--code",
			"Forbidden",
			"--inner",
			"KeyDisabled",
		);
		const kid = (await keep.getKey("disk")).id;
		assert.deepEqual(await refusalOf(cryptographyOf(kid).unwrapKey("RSA-OAEP-256", SECRET)), [
			403,
			"Forbidden",
			"KeyDisabled",
		]);
		devvault("fault", "clear");
	},
	async "an expired token and one for another service are refused"() {
		for (const kind of ["expired", "wrong-audience", "bad-signature"]) {
			devvault("fault", "add", "--match", "token", "--token", kind, "--times", "1");
			const fresh = new ManagedIdentityCredential({ clientId: CLIENT, ...NO_RETRY });
			// MSAL keeps tokens by client and resource: ask for one it has not seen.
			const { token } = await fresh.getToken(`https://${kind}.invalid/.default`);
			assert.ok(token);
			const client = new KeyClient(
				"https://keep.vault.azure.net",
				{ getToken: async () => ({ token, expiresOnTimestamp: Date.now() + 3600e3 }) },
				NO_RETRY,
			);
			assert.deepEqual((await refusalOf(client.getKey("disk"))).slice(0, 2), [
				401,
				"Unauthorized",
			]);
			devvault("fault", "clear");
		}
	},
	async "an identity that is not assigned, and none named among several, get no token"() {
		const strange = new ManagedIdentityCredential({ clientId: STRANGE_CLIENT, ...NO_RETRY });
		await assert.rejects(
			strange.getToken("https://vault.azure.net/.default"),
			/Identity not found/,
		);
		devvault("identity", "add", "22222222-2222-3333-4444-555555555555");
		const unnamed = new ManagedIdentityCredential(NO_RETRY);
		await assert.rejects(
			unnamed.getToken("https://vault.azure.net/.default"),
			/Multiple user assigned/,
		);
		devvault("identity", "remove", "22222222-2222-3333-4444-555555555555");
	},
	async "the vaults of the other clouds ask for tokens of their own"() {
		for (const host of [
			"far.vault.azure.cn",
			"far.vault.usgovcloudapi.net",
			"far.managedhsm.azure.cn",
			"far.managedhsm.usgovcloudapi.net",
		]) {
			devvault("log", "--clear");
			assert.equal((await clientOf(host).getKey("disk")).name, "disk");
			const asked = log().find((record) => record.operation === "token");
			assert.equal(asked.query.resource, `https://${host.slice(4)}`);
		}
	},
	async "a federated token is exchanged at each cloud's Entra ID, and opens its vault"() {
		const subject = "system:serviceaccount:kafka:broker";
		const file = `${process.env.HOME}/federated-token`;
		devvault("federation", "add", CLIENT, "--subject", subject);
		fs.writeFileSync(file, devvault("federated-token", "--subject", subject));
		const partner = "login.partner.microsoftonline.cn"; // what the SDK asks for both names
		for (const [authority, host, actual = authority] of [
			["login.microsoftonline.com", "keep.vault.azure.net"],
			["login.microsoftonline.us", "far.vault.usgovcloudapi.net"],
			[partner, "far.vault.azure.cn"],
			["login.chinacloudapi.cn", "far.managedhsm.azure.cn", partner],
		]) {
			const workload = new WorkloadIdentityCredential({
				clientId: CLIENT,
				tenantId: devvault("tenant"),
				tokenFilePath: file,
				authorityHost: `https://${authority}`,
			});
			devvault("log", "--clear");
			const key = await new KeyClient(`https://${host}`, workload, RETRY).getKey("disk");
			assert.equal(key.name, "disk");
			const asked = log().find((record) => record.operation === "login");
			assert.deepEqual([asked.host, asked.status, asked.identity], [actual, 200, CLIENT]);
			assert.equal(asked.query.resource, `https://${host.slice(host.indexOf(".") + 1)}`);
		}
	},
	async "a federated token that is wrong in any way is refused with its number"() {
		const subject = "system:serviceaccount:kafka:broker";
		const file = `${process.env.HOME}/wrong-token`;
		for (const [number, ...words] of [
			[700211, "--subject", subject, "--issuer", "https://elsewhere.example/"],
			[700212, "--subject", subject, "--audience", "https://kubernetes.default.svc"],
			[700213, "--subject", "system:serviceaccount:kafka:other"],
			[700024, "--subject", subject, "--expires-in", "-1000"],
			[700027, "--subject", subject, "--bad-signature"],
		]) {
			fs.writeFileSync(file, devvault("federated-token", ...words));
			const workload = new WorkloadIdentityCredential({
				clientId: CLIENT,
				tenantId: devvault("tenant"),
				tokenFilePath: file,
			});
			await assert.rejects(
				workload.getToken("https://vault.azure.net/.default"),
				new RegExp(`AADSTS${number}`),
			);
		}
	},
	async "each wrong certificate is refused, and no token is sent"() {
		const codes = {
			"wrong-name": "ERR_TLS_CERT_ALTNAME_INVALID",
			"wrong-ca": "UNABLE_TO_GET_ISSUER_CERT_LOCALLY",
			"self-signed": "DEPTH_ZERO_SELF_SIGNED_CERT",
			expired: "CERT_HAS_EXPIRED",
			"not-yet-valid": "CERT_NOT_YET_VALID",
		};
		devvault("log", "--clear");
		for (const [mode, code] of Object.entries(codes)) {
			const host = `${mode}.vault.azure.net`; // its own: connections are kept and resumed
			devvault("certificate", mode, "--host", host);
			const error = await clientOf(host, NO_RETRY)
				.getKey("disk")
				.catch((reason) => reason);
			assert.match(String(error.code), new RegExp(`^${code}$`), mode);
			assert.equal(log().filter((record) => record.host === host).length, 0);
			devvault("certificate", "ok", "--host", host);
			assert.equal((await clientOf(host).getKey("disk")).name, "disk");
		}
	},
};

async function main() {
	for (const [name, test] of Object.entries(tests)) {
		try {
			await test();
			console.log(`passed: ${name}`);
		} catch (error) {
			console.log(`failed: ${name}: ${error.stack}`);
		}
	}
}

main();

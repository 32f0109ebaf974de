"""What byok says of key URLs before it sends anything anywhere."""

from harness import expect, test

VERSION = "0123456789abcdef0123456789abcdef"

BAD_URLS = [
	("key-url", ["https://bank.vault.azure.net/", "https://bank.vault.azure.net/keys/",
		"https://bank.vault.azure.net/secrets/broker/" + VERSION,
		"https://bank.vault.azure.net/keys/bro_ker/" + VERSION,
		"https://bank.vault.azure.net/keys/broker/123",
		"https://bank.vault.azure.net/keys/broker/" + VERSION + "/more",
		"https://bank.vault.azure.net/keys/broker/" + VERSION + "?x=y",
		"https://bank.vault.azure.net:8443/keys/broker/" + VERSION,
		"https://me@bank.vault.azure.net/keys/broker/" + VERSION]),
	("key-url-scheme", ["nonsense", "http://bank.vault.azure.net/keys/broker/" + VERSION]),
	("key-url-host", ["https://example.com/keys/broker/" + VERSION,
		"https://bankvault.azure.net/keys/broker/" + VERSION,
		"https://bank.vault.azure.net.example.com/keys/broker/" + VERSION]),
	("key-url-suffix", ["https://bank.vault.azure.example/keys/broker/" + VERSION]),
	("key-url-versionless", ["https://bank.vault.azure.net/keys/broker"]),
]


@test
def each_kind_of_bad_key_url_is_told_apart_and_nothing_is_sent_or_written(t):
	vault = t.vault()
	settings = t.vault_settings(vault)
	disk = t.disk()
	before = disk.read_bytes()
	for word, urls in BAD_URLS:
		for url in urls:
			t.byok("format", disk, "--name", "data", "--config", settings, "--key", url,
				expect=word, object=url)
	expect(disk.read_bytes() == before, "the disk was written to")
	expect(not vault.log(), "something was asked of the vault or IMDS")

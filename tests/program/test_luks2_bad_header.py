"""Malformed LUKS2 headers: each is first shown to be malformed, is then refused with its own cause,
and nothing is written to the disk."""

import json
import os

import luks2
from harness import MIB, expect, expect_equal, test

PASSPHRASE = b"the key file"


def made(t, *options, name="disk", size_mib=32):
	"""A volume that cryptsetup made quickly, and its key file."""
	disk, key = t.disk(name, size_mib), t.file(f"{name}.key", PASSPHRASE)
	t.must("cryptsetup", "luksFormat", "-q", "--type", "luks2", "--pbkdf", "pbkdf2",
		"--pbkdf-force-iterations", 1000, *options, disk, key)
	return disk, key


def serve(t, disk, key, expect):
	t.byok("serve", "--disk", disk, "--key-file", key, "--nbd", t.path("refused.socket"),
		expect=expect, object=disk)


def refused(t, disk, key, cause):
	"""By serve, which writes nothing."""
	before = luks2.content_hash(disk)
	serve(t, disk, key, cause)
	expect_equal(luks2.content_hash(disk), before, "the disk's content")


def opens(t, disk, key):
	process, _ = t.nbd(disk, key)
	process.terminate()
	process.wait()


def cryptsetup_opens(t, disk, key):
	t.must("cryptsetup", "open", "--test-passphrase", "--key-file", key, disk)


@test
def what_is_not_luks_is_refused(t):
	key = t.file("key", PASSPHRASE)
	for name, content in (("blank", bytes(MIB)), ("noise", os.urandom(MIB)), ("short", b"LUKS"),
			("empty", b"")):
		refused(t, t.file(name, content), key, "not-luks")


@test
def luks1_is_refused_by_its_version(t):
	disk, key = t.disk(), t.file("key", PASSPHRASE)
	t.must("cryptsetup", "luksFormat", "-q", "--type", "luks1", "--pbkdf-force-iterations", 1000,
		disk, key)
	refused(t, disk, key, "luks-version")


@test
def a_cut_disk_is_refused(t):
	for size in (512, 4096, 20 * 1024, 32 * 1024, 8 * MIB, 16 * MIB - 1):
		disk, key = made(t, name=f"disk-{size}")
		os.truncate(disk, size)
		refused(t, disk, key, "header-truncated")
	disk, key = made(t)
	os.truncate(disk, 16 * MIB)
	refused(t, disk, key, "segment-outside")


@test
def each_damaged_copy_is_repaired_and_cryptsetup_agrees(t):
	for which in (0, 1):
		for offset in (0, 7, 8, 0x18, 0x68, 0x1c0, 4096, 5000):
			disk, key = made(t, name=f"disk-{which}-{offset}")
			size = luks2.header_size(disk)
			luks2.overwrite(disk, which * size + offset, b"\xaa\x55")
			expect(not luks2.read(disk, which, size).is_whole, "the damage is not there")
			opens(t, disk, key)
			expect(luks2.both_are_whole_and_equal(disk), f"{which}, {offset}: not repaired")
			cryptsetup_opens(t, disk, key)


@test
def two_damaged_copies_are_refused(t):
	disk, key = made(t)
	for which in (0, 1):
		luks2.overwrite(disk, which * luks2.header_size(disk) + 5000, b"damage")
		expect(not luks2.read(disk, which).is_whole, "the damage is not there")
	refused(t, disk, key, "header-damaged")


@test
def fields_that_cannot_be_are_refused(t):
	for name, value in (("label", b"x" * 48), ("uuid", b"x" * 40), ("offset", 0x1000)):
		disk, key = made(t, name=f"disk-{name}")
		luks2.change(disk, lambda copy: setattr(copy, name, value))
		expect_equal(getattr(luks2.read(disk), name), value, name)
		expect(luks2.read(disk).is_whole, "the checksum is wrong too")
		refused(t, disk, key, "header-fields")


@test
def the_newer_of_two_good_copies_wins(t):
	for newer in (0, 1):
		disk, key = made(t, "--label", "old", name=f"disk-{newer}")

		def edit(copy):
			copy.sequence_id += 1
			copy.label = b"new".ljust(48, b"\0")
		luks2.change(disk, edit, [newer])
		expect_equal(luks2.read(disk, newer).sequence_id,
			luks2.read(disk, 1 - newer).sequence_id + 1, "the newer one's sequence id")
		opens(t, disk, key)
		expect(luks2.both_are_whole_and_equal(disk), "the older one is not brought up to date")
		expect_equal(json.loads(t.byok("dump", disk, "--json").stdout)["name"], "new", "the label")
		cryptsetup_opens(t, disk, key)


@test
def a_damaged_copy_under_a_new_file_system_is_not_repaired(t):
	disk, key = made(t)
	size = luks2.header_size(disk)
	secondary = luks2.read(disk, 1)
	t.must("mkfs.ext4", "-q", "-F", disk)
	luks2.write(disk, secondary, 1)
	expect(not luks2.read(disk, 0, size).is_whole, "the primary is still there")
	expect(luks2.read(disk, 1, size).is_whole, "there is no secondary")
	refused(t, disk, key, "header-ambiguous")


@test
def unknown_requirements_are_refused(t):
	disk, key = made(t)
	luks2.change_metadata(disk,
		lambda m: m["config"].update(requirements={"mandatory": ["inline-hw-tags"]}))
	expect_equal(luks2.read(disk).metadata["config"]["requirements"]["mandatory"],
		["inline-hw-tags"], "the requirement")
	refused(t, disk, key, "requirement")


@test
def a_reencryption_that_has_begun_is_refused(t):
	disk, key = made(t)
	t.must("cryptsetup", "reencrypt", "--init-only", "-q", "--key-file", key, disk)
	expect("online-reencrypt" in luks2.read(disk).text, "there is no re-encryption")
	refused(t, disk, key, "reencryption")


@test
def null_ciphers_are_refused_in_data_and_in_keyslots(t):
	disk, key = made(t)
	luks2.change_metadata(disk, lambda m: m["segments"]["0"].update(encryption="cipher_null-ecb"))
	expect_equal(luks2.read(disk).metadata["segments"]["0"]["encryption"], "cipher_null-ecb",
		"the segment's cipher")
	refused(t, disk, key, "cipher-null")
	disk, key = made(t, name="second")
	luks2.change_metadata(disk,
		lambda m: m["keyslots"]["0"]["area"].update(encryption="cipher_null-ecb"))
	expect_equal(luks2.read(disk).metadata["keyslots"]["0"]["area"]["encryption"],
		"cipher_null-ecb", "the keyslot's cipher")
	refused(t, disk, key, "cipher-null")


@test
def ciphers_and_keys_of_other_kinds_are_refused(t):
	disk, key = made(t, "--key-size", 256)
	refused(t, disk, key, "cipher")
	disk, key = made(t, "--cipher", "aes-cbc-essiv:sha256", "--key-size", 256, name="cbc")
	refused(t, disk, key, "cipher")


@test
def a_segment_past_the_end_is_refused(t):
	disk, key = made(t)
	luks2.change_metadata(disk, lambda m: m["segments"]["0"].update(size=str(16 * MIB + 4096)))
	expect_equal(luks2.read(disk).metadata["segments"]["0"]["size"], "16781312", "the size")
	refused(t, disk, key, "segment-outside")


@test
def segments_of_other_kinds_are_refused(t):
	edits = {
		"integrity": lambda s: s["0"].update(integrity={"type": "hmac(sha256)",
			"journal_encryption": "none", "journal_integrity": "none"}),
		"sectors": lambda s: s["0"].update(sector_size=2048),
		"place": lambda s: s["0"].update(offset="0"),
	}
	for name, edit in edits.items():
		disk, key = made(t, name=name)
		before = luks2.read(disk).metadata
		luks2.change_metadata(disk, lambda m: edit(m["segments"]))
		expect(luks2.read(disk).metadata != before, "the defect is not there")
		refused(t, disk, key, "segment")


@test
def keyslot_areas_in_wrong_places_are_refused(t):
	for offset in (0, 16384, 16 * MIB, 2 ** 64 - 1):
		disk, key = made(t, name=f"disk-{offset}")
		luks2.change_metadata(disk, lambda m: m["keyslots"]["0"]["area"].update(offset=str(offset)))
		expect_equal(luks2.read(disk).metadata["keyslots"]["0"]["area"]["offset"], str(offset),
			"the offset")
		refused(t, disk, key, "keyslot-layout")
	disk, key = made(t, name="overlap")

	def overlap(metadata):
		metadata["keyslots"]["1"] = json.loads(json.dumps(metadata["keyslots"]["0"]))
		metadata["keyslots"]["1"]["area"]["offset"] = str(32768 + 258048 - 4096)
	luks2.change_metadata(disk, overlap)
	refused(t, disk, key, "keyslot-layout")


@test
def absurd_costs_are_refused_without_paying_them(t):
	disk, key = made(t)
	luks2.change_text(disk, '"iterations":1000,"salt"', '"iterations":4294967295,"salt"')
	refused(t, disk, key, "kdf-cost")
	disk, key = made(t, name="memory")
	argon2 = {"type": "argon2id", "time": 4, "memory": 2 ** 31, "cpus": 4}

	def replace(metadata):
		kdf = metadata["keyslots"]["0"]["kdf"]
		metadata["keyslots"]["0"]["kdf"] = argon2 | {"salt": kdf["salt"]}
	luks2.change_metadata(disk, replace)
	expect_equal(luks2.read(disk).metadata["keyslots"]["0"]["kdf"]["memory"], 2 ** 31, "memory")
	refused(t, disk, key, "kdf-cost")


@test
def text_that_is_not_json_is_refused(t):
	for name, old, new in (
			("comma", '"tokens":{}', '"tokens":{},,'), ("cut", '"config"', '"config'),
			("twice", '"tokens":{}', '"tokens":{},"tokens":{}'), ("number", ":4000", ":04000"),
			("blank", '{"keyslots"', ' {"keyslots"'), ("control", "luks1", "lu\x01ks1")):
		disk, key = made(t, name=name)
		luks2.change_text(disk, old, new)
		expect(luks2.read(disk).is_whole and new in luks2.read(disk).text, "no defect")
		refused(t, disk, key, "metadata-syntax")


@test
def bytes_behind_the_text_are_refused(t):
	disk, key = made(t)
	luks2.change(disk, lambda copy: setattr(copy, "area", copy.area[:-1] + b"x"))
	expect_equal(luks2.read(disk).area[-1:], b"x", "the last byte")
	refused(t, disk, key, "metadata-syntax")


@test
def json_of_another_shape_is_refused(t):
	def without(*path):
		def edit(metadata):
			for name in path[:-1]:
				metadata = metadata[name]
			del metadata[path[-1]]
		return edit

	def with_value(value, *path):
		def edit(metadata):
			for name in path[:-1]:
				metadata = metadata[name]
			expect(metadata.get(path[-1]) != value, "the value is there already")
			metadata[path[-1]] = value
		return edit
	edits = [without(name) for name in ("keyslots", "tokens", "segments", "digests", "config")]
	edits += [
		without("keyslots", "0", "kdf", "salt"), without("keyslots", "0", "area"),
		without("segments", "0", "iv_tweak"), without("digests", "0", "digest"),
		without("config", "json_size"), with_value([], "tokens"),
		with_value("12289", "config", "json_size"), with_value(12288, "config", "json_size"),
		with_value(64.5, "keyslots", "0", "key_size"), with_value({}, "keyslots", "0"),
		with_value(["7"], "digests", "0", "keyslots"), with_value([], "digests", "0", "segments"),
		with_value({"type": "x", "keyslots": ["9"]}, "tokens", "0"),
		with_value("not base64", "keyslots", "0", "kdf", "salt"),
		with_value(-1, "keyslots", "0", "kdf", "iterations"),
		with_value("1", "segments", "0", "offset"), with_value({}, "segments"),
	]
	disk, key = made(t)
	good = luks2.read(disk).text
	for edit in edits:
		luks2.change_metadata(disk, edit)
		expect(luks2.read(disk).text != good and luks2.read(disk).is_whole, "there is no defect")
		refused(t, disk, key, "metadata-shape")
		luks2.change(disk, lambda copy: copy.set_text(good))
	opens(t, disk, key)


@test
def metadata_that_are_too_large_say_so(t):
	disk, key = made(t, "--luks2-metadata-size", "256k")
	size = luks2.header_size(disk)
	expect_equal(size, 256 * 1024, "the header's size")
	opens(t, disk, key)
	luks2.change_metadata(disk,
		lambda m: m["tokens"].update({"0": {"type": "x", "keyslots": [], "a": "b" * 70000}}))
	cryptsetup_opens(t, disk, key)
	refused(t, disk, key, "metadata-too-large")


@test
def a_wrong_key_file_is_refused(t):
	disk, _ = made(t)
	refused(t, disk, t.file("wrong", PASSPHRASE + b"\n"), "wrong-key")
	refused(t, disk, t.file("cut", PASSPHRASE[:-1]), "wrong-key")

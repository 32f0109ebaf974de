"""Real keys: made, stored as PEM, described as JSON Web Keys, used to wrap and unwrap.

AES keys, which only a managed HSM has, are stored in a form of their own."""

import base64
import binascii
import dataclasses
import secrets

from cryptography.hazmat.primitives import hashes, keywrap, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

RSA_SIZES = (2048, 3072, 4096)
CURVES = {"P-256": ec.SECP256R1, "P-384": ec.SECP384R1, "P-521": ec.SECP521R1}
RSA_OPERATIONS = ["encrypt", "decrypt", "sign", "verify", "wrapKey", "unwrapKey"]
EC_OPERATIONS = ["sign", "verify"]
AES_OPERATIONS = ["encrypt", "decrypt", "wrapKey", "unwrapKey"]
AES_SIZES = {"A128KW": 128, "A192KW": 192, "A256KW": 256}
ALGORITHMS = ("RSA-OAEP-256", "RSA-OAEP", "RSA1_5", *AES_SIZES)
KINDS = ("RSA", "RSA-HSM", "EC", "EC-HSM", "oct-HSM")
_AES_MARK = b"devvault oct "


class KeyUseError(Exception):
	"""The bytes given do not fit the key or the algorithm."""


@dataclasses.dataclass
class AesKey:
	data: bytes

	@property
	def key_size(self):
		return len(self.data) * 8


def encode_base64url(data):
	return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode_base64url(text):
	"""Padding is accepted, and nothing outside the alphabet is."""
	if not isinstance(text, str):
		raise KeyUseError("not a string")
	stripped = text.rstrip("=")
	if not all(c.isascii() and (c.isalnum() or c in "-_") for c in stripped):
		raise KeyUseError("not base64url")
	try:
		return base64.urlsafe_b64decode(stripped + "=" * (-len(stripped) % 4))
	except binascii.Error as error:
		raise KeyUseError("not base64url") from error


def make(kty, size=None, curve=None):
	"""A new private key as PEM."""
	if kty in ("RSA", "RSA-HSM"):
		size = size or 2048
		if size not in RSA_SIZES:
			raise KeyUseError(f"RSA keys have 2048, 3072 or 4096 bits, not {size}")
		private = rsa.generate_private_key(public_exponent=65537, key_size=size)
	elif kty in ("EC", "EC-HSM"):
		curve = curve or "P-256"
		if curve not in CURVES:
			raise KeyUseError(f"unknown curve {curve}")
		private = ec.generate_private_key(CURVES[curve]())
	elif kty == "oct-HSM":
		size = size or 256
		if size not in AES_SIZES.values():
			raise KeyUseError(f"AES keys have 128, 192 or 256 bits, not {size}")
		private = AesKey(secrets.token_bytes(size // 8))
	else:
		raise KeyUseError(f"unsupported key type {kty}")
	return to_pem(private)


def to_pem(private):
	if isinstance(private, AesKey):
		return _AES_MARK + base64.b64encode(private.data)
	return private.private_bytes(
		serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
	)


def load(pem):
	if pem.startswith(_AES_MARK):
		return AesKey(base64.b64decode(pem[len(_AES_MARK) :]))
	return serialization.load_pem_private_key(pem, password=None)


def possible_operations(kty):
	if kty.startswith("oct"):
		return AES_OPERATIONS
	return RSA_OPERATIONS if kty.startswith("RSA") else EC_OPERATIONS


def default_operations(kty):
	return list(possible_operations(kty))


def kind_of(private):
	"""(kty, size, curve) of a key that was brought along."""
	if isinstance(private, AesKey):
		return "oct", private.key_size, None
	if isinstance(private, rsa.RSAPrivateKey):
		if private.key_size not in RSA_SIZES:
			raise KeyUseError(f"RSA keys have 2048, 3072 or 4096 bits, not {private.key_size}")
		return "RSA", private.key_size, None
	for name, curve in CURVES.items():
		if isinstance(private, ec.EllipticCurvePrivateKey) and isinstance(private.curve, curve):
			return "EC", None, name
	raise KeyUseError("unsupported kind of key")


def public_members(private):
	"""The members of a JSON Web Key that say what the public key is. An AES key has none."""
	if isinstance(private, AesKey):
		return {}
	numbers = private.public_key().public_numbers()
	if isinstance(private, rsa.RSAPrivateKey):
		return {"n": _integer(numbers.n, private.key_size // 8), "e": _integer(numbers.e, 3)}
	size = (private.key_size + 7) // 8
	_, _, curve = kind_of(private)
	return {"crv": curve, "x": _integer(numbers.x, size), "y": _integer(numbers.y, size)}


def _integer(value, size):
	return encode_base64url(value.to_bytes(size, "big"))


def from_jwk(jwk):
	"""A private key from the JSON Web Key of an import."""

	def number(name):
		return int.from_bytes(decode_base64url(jwk.get(name)), "big")

	try:
		if jwk.get("kty") in ("RSA", "RSA-HSM"):
			public = rsa.RSAPublicNumbers(number("e"), number("n"))
			return rsa.RSAPrivateNumbers(
				number("p"),
				number("q"),
				number("d"),
				number("dp"),
				number("dq"),
				number("qi"),
				public,
			).private_key()
		if jwk.get("kty") in ("EC", "EC-HSM") and jwk.get("crv") in CURVES:
			public = ec.EllipticCurvePublicNumbers(number("x"), number("y"), CURVES[jwk["crv"]]())
			return ec.EllipticCurvePrivateNumbers(number("d"), public).private_key()
	except ValueError as error:
		raise KeyUseError("the key material is not consistent") from error
	raise KeyUseError("unsupported kind of key")


def _padding(algorithm):
	if algorithm == "RSA1_5":
		return padding.PKCS1v15()
	if not algorithm.startswith("RSA"):
		raise KeyUseError(f"{algorithm} is no algorithm of this key")
	digest = hashes.SHA256() if algorithm == "RSA-OAEP-256" else hashes.SHA1()
	return padding.OAEP(padding.MGF1(digest), digest, None)


def _check_aes(private, algorithm):
	if AES_SIZES.get(algorithm) != private.key_size:
		raise KeyUseError(f"{algorithm} is no algorithm of this key")


def wrap(private, algorithm, data):
	if isinstance(private, AesKey):
		_check_aes(private, algorithm)
		try:
			return keywrap.aes_key_wrap(private.data, data)
		except ValueError as error:
			raise KeyUseError("the size of what is to be wrapped does not fit") from error
	if not isinstance(private, rsa.RSAPrivateKey):
		raise KeyUseError("only RSA keys wrap")
	try:
		return private.public_key().encrypt(data, _padding(algorithm))
	except ValueError as error:
		raise KeyUseError("too many bytes for this key") from error


def unwrap(private, algorithm, data):
	if isinstance(private, AesKey):
		_check_aes(private, algorithm)
		try:
			return keywrap.aes_key_unwrap(private.data, data)
		except (ValueError, keywrap.InvalidUnwrap) as error:
			raise KeyUseError("the value was not wrapped by this key") from error
	if not isinstance(private, rsa.RSAPrivateKey):
		raise KeyUseError("only RSA keys unwrap")
	scheme = _padding(algorithm)
	try:
		return private.decrypt(data, scheme)
	except ValueError as error:
		raise KeyUseError("the value was not wrapped by this key") from error

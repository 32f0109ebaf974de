"""The test CA (root, issuing CA, leaves) and the wrong certificates of each kind.

The chain has the shape of Azure's: an RSA root that the client holds, an issuing CA that the
server sends, leaves signed with SHA-384."""

import datetime
import os
import ssl
import threading

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from . import keys, login
from .store import SUFFIXES, vault_suffix, write_whole

MODES = ("ok", "wrong-name", "wrong-ca", "self-signed", "expired", "not-yet-valid")
_DAY = datetime.timedelta(days=1)


class Authority:
	"""A root with one issuing CA."""

	def __init__(self, store, prefix):
		self._store = store
		self._root = f"{prefix}ca"
		self._issuing = f"{prefix}issuing"

	def create(self):
		if os.path.exists(self._store.tls_path(f"{self._root}.pem")):
			return
		root_key, issuing_key = _new_key(), _new_key()
		root_name = _name(f"devvault test root ({self._root})")
		issuing_name = _name(f"devvault test issuing CA ({self._issuing})")
		root = _sign(root_key, root_name, root_name, root_key.public_key(), authority=True, depth=1)
		issuing = _sign(
			root_key, root_name, issuing_name, issuing_key.public_key(), authority=True, depth=0
		)
		self._write(self._issuing, issuing_key, [issuing])
		self._write(self._root, root_key, [root])

	def issue(self, file_name, host_names, start=-1, end=365):
		"""A leaf with its chain, valid from start to end, in days from now."""
		with open(self._store.tls_path(f"{self._issuing}.pem"), "rb") as file:
			issuing = x509.load_pem_x509_certificate(file.read())
		with open(self._store.tls_path(f"{self._issuing}.key"), "rb") as file:
			issuing_key = keys.load(file.read())
		key = _new_key()
		leaf = _sign(
			issuing_key,
			issuing.subject,
			_name(host_names[0]),
			key.public_key(),
			host_names=host_names,
			start=start,
			end=end,
		)
		self._write(file_name, key, [leaf, issuing])

	def self_issue(self, file_name, host_names):
		key = _new_key()
		name = _name(host_names[0])
		self._write(
			file_name, key, [_sign(key, name, name, key.public_key(), host_names=host_names)]
		)

	def _write(self, file_name, key, certificates):
		"""The certificates last: where they are, their key is too."""
		write_whole(self._store.tls_path(f"{file_name}.key"), keys.to_pem(key))
		write_whole(
			self._store.tls_path(f"{file_name}.pem"),
			b"".join(
				certificate.public_bytes(serialization.Encoding.PEM) for certificate in certificates
			),
		)


def _new_key():
	return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def _name(common_name):
	return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _sign(
	signer,
	issuer,
	subject,
	public_key,
	authority=False,
	depth=None,
	host_names=(),
	start=-1,
	end=3650,
):
	now = datetime.datetime.utcnow()
	builder = (
		x509.CertificateBuilder()
		.subject_name(subject)
		.issuer_name(issuer)
		.public_key(public_key)
		.serial_number(x509.random_serial_number())
		.not_valid_before(now + start * _DAY)
		.not_valid_after(now + end * _DAY)
		.add_extension(x509.BasicConstraints(authority, depth), critical=True)
		.add_extension(
			x509.KeyUsage(
				digital_signature=not authority,
				key_encipherment=not authority,
				key_cert_sign=authority,
				crl_sign=authority,
				content_commitment=False,
				data_encipherment=False,
				key_agreement=False,
				encipher_only=False,
				decipher_only=False,
			),
			critical=True,
		)
		.add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
		.add_extension(
			x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
		)
	)
	if host_names:
		builder = builder.add_extension(
			x509.SubjectAlternativeName([x509.DNSName(name) for name in host_names]), critical=False
		)
		builder = builder.add_extension(
			x509.ExtendedKeyUsage(
				[ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
			),
			critical=False,
		)
	return builder.sign(signer, hashes.SHA384())


def create_authorities(store):
	Authority(store, "").create()
	Authority(store, "foreign-").create()
	for suffix in SUFFIXES:
		_certificate_file(store, f"*.{suffix}", "ok")


def _certificate_file(store, name, mode):
	"""The stem of the files for a name and a mode, made when first asked for."""
	stem = f"{mode}_{name.replace('*', 'any')}"
	if os.path.exists(store.tls_path(f"{stem}.pem")):
		return stem
	good, foreign = Authority(store, ""), Authority(store, "foreign-")
	if mode == "ok":
		good.issue(stem, [name])
	elif mode == "wrong-name":
		good.issue(stem, ["somewhere-else.example.com"])
	elif mode == "wrong-ca":
		foreign.issue(stem, [name])
	elif mode == "self-signed":
		good.self_issue(stem, [name])
	elif mode == "expired":
		good.issue(stem, [name], start=-60, end=-30)
	elif mode == "not-yet-valid":
		good.issue(stem, [name], start=30, end=365)
	return stem


class Contexts:
	"""The TLS side of the server: which certificate a client sees, by the name it asks for."""

	def __init__(self, store, tls_max=None):
		self._store = store
		self._tls_max = ssl.TLSVersion.TLSv1_2 if tls_max == "1.2" else ssl.TLSVersion.TLSv1_3
		self._loaded = {}
		self._mutex = threading.Lock()
		self.default = self._load(f"*.{SUFFIXES[0]}", "ok")
		self.default.sni_callback = self._choose

	def _load(self, name, mode):
		with self._mutex:
			if (name, mode) not in self._loaded:
				stem = _certificate_file(self._store, name, mode)
				context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
				context.minimum_version = ssl.TLSVersion.TLSv1_2
				context.maximum_version = self._tls_max
				context.load_cert_chain(
					self._store.tls_path(f"{stem}.pem"), self._store.tls_path(f"{stem}.key")
				)
				self._loaded[name, mode] = context
			return self._loaded[name, mode]

	def _choose(self, connection, server_name, _context):
		host = (server_name or "").lower()
		connection.devvault_sni = host
		state = self._store.state.read()
		modes = state["certificates"]
		mode = modes.get(host, modes.get("*", "ok"))
		vault = state["vaults"].get(host)
		if vault is not None and vault["deleted"] is None:
			connection.context = self._load(f"*.{vault_suffix(host)}", mode)
		elif host in state["strangers"] or host in login.HOSTS:
			connection.context = self._load(host, mode)
		elif not host:
			connection.context = self._load(f"*.{SUFFIXES[0]}", mode)
		else:
			return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
		return None

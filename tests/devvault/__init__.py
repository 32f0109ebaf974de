"""devvault: a double of Azure's instance metadata service and Key Vault. See README.md."""

from .handle import Devvault
from .keys import decode_base64url, encode_base64url
from .store import RECOVERY_LEVELS, SUFFIXES, StoreError

__all__ = [
	"Devvault",
	"StoreError",
	"RECOVERY_LEVELS",
	"SUFFIXES",
	"decode_base64url",
	"encode_base64url",
]

"""An answer before it is put on the wire."""

import dataclasses
import json


@dataclasses.dataclass
class Answer:
	status: int
	document: object = None  # sent as JSON, unless body says otherwise
	headers: list = dataclasses.field(default_factory=list)
	body: bytes | None = None
	content_type: str = "application/json; charset=utf-8"
	code: str | None = None  # of an error, for the log
	inner: str | None = None

	def encoded(self):
		if self.body is not None:
			return self.body
		return b"" if self.document is None else json.dumps(self.document).encode()


class Refusal(Exception):
	"""Ends a request with an error in Key Vault's shape."""

	def __init__(self, status, code, message, inner=None, headers=()):
		super().__init__(message)
		self.status = status
		self.code = code
		self.message = message
		self.inner = inner
		self.headers = list(headers)

	def answer(self):
		error = {"code": self.code, "message": self.message}
		if self.inner:
			error["innererror"] = {"code": self.inner}
		return Answer(self.status, {"error": error}, self.headers, code=self.code, inner=self.inner)

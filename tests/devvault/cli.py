"""The command line. Every command but serve and log is a method of Admin, named alike."""

import argparse
import json
import os
import sys
import time

from . import faults, keys, login, server, tls
from .admin import NETWORKS, ROLES, Admin
from .store import RECOVERY_LEVELS, StoreError


def _names(text):
	return text.split(",")


def _parser():
	state = argparse.ArgumentParser(add_help=False)
	state.add_argument("--state", default=os.environ.get("DEVVAULT_STATE"), metavar="DIR")
	top = argparse.ArgumentParser(
		prog="devvault", description="A double of IMDS and Key Vault. See README.md."
	)
	commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

	def group(name):
		return commands.add_parser(name).add_subparsers(dest="verb", required=True, metavar="VERB")

	def command(parent, name, *positionals, **flags):
		parser = parent.add_parser(name, parents=[state])
		for positional in positionals:
			parser.add_argument(positional)
		for flag, keywords in flags.items():
			parser.add_argument(f"--{flag.replace('_', '-')}", **keywords)
		return parser

	text, number, switch = {}, {"type": int}, {"action": "store_true"}
	names, port = {"type": _names, "metavar": "A,B"}, {"type": int, "default": 0}
	command(commands, "init")
	command(
		commands,
		"serve",
		bind={"default": "127.0.0.1"},
		imds_bind=text,
		imds_port=port,
		vault_port=port,
		ready_file=text,
		no_imds=switch,
		no_vault=switch,
		tls_max={"choices": ["1.2", "1.3"]},
		until_stdin_closes=switch,
	)
	_add_vault_commands(command, commands, group, text, number, names)
	_add_key_commands(command, group("key"), text, number, switch, names)
	_add_fault_commands(command, group("fault"), text, number, switch)
	identity, issuer = group("identity"), {"default": login.ISSUER}
	command(
		identity,
		"add",
		"client_id",
		object_id=text,
		resource_id=text,
		system=switch,
		token_lifetime={"type": int, "default": 86400},
	)
	command(identity, "remove", "client_id")
	command(identity, "list")
	command(commands, "tenant")
	required = {"required": True}
	command(group("federation"), "add", "client_id", subject=required, issuer=issuer)
	command(
		commands,
		"federated-token",
		subject=required,
		issuer=issuer,
		audience={"default": login.AUDIENCE},
		expires_in={"type": int, "default": 3600},
		bad_signature=switch,
	)
	command(commands, "certificate", host=text).add_argument("mode", choices=tls.MODES)
	stranger = group("stranger")
	command(stranger, "add", "host")
	command(stranger, "remove", "host")
	command(commands, "clock", offset=number)
	command(commands, "user-data", file={"default": "-"})
	command(commands, "log", clear=switch, follow=switch)
	algorithm = {"default": "RSA-OAEP-256", "choices": keys.ALGORITHMS}
	command(commands, "unwrap", kid=required, value=required, alg=algorithm, raw=switch)
	command(commands, "wrap", kid=required, value=required, alg=algorithm)
	command(
		commands,
		"forge-token",
		client_id=required,
		resource={"default": "https://vault.azure.net"},
		expires_in={"type": int, "default": 3600},
		bad_signature=switch,
	)
	command(commands, "hosts", address={"default": "127.0.0.1"})
	return top


def _add_vault_commands(command, commands, group, text, number, names):
	vault = group("vault")
	level = {"choices": RECOVERY_LEVELS, "metavar": "LEVEL"}
	access = {"choices": ["rbac", "policy"]}
	command(
		vault,
		"create",
		"vault",
		recovery_level={**level, "default": "Recoverable"},
		retention_days=number,
		access={**access, "default": "rbac"},
	)
	command(
		vault,
		"set",
		"vault",
		recovery_level=level,
		retention_days=number,
		access=access,
		network={"choices": NETWORKS},
		throttle=number,
		retry_after=text,
		disabled_wrap={"choices": ["allow", "refuse"]},
		recovery_seconds=number,
	)
	for verb in ("delete", "recover", "purge"):
		command(vault, verb, "vault")
	command(vault, "list")
	command(commands, "grant", "vault", "client_id", key=text, ops=names, role={"choices": ROLES})
	command(commands, "revoke", "vault", "client_id", key=text, ops=names)


def _add_key_commands(command, key, text, number, switch, names):
	command(
		key,
		"create",
		"vault",
		"key",
		kty={"default": "RSA", "choices": keys.KINDS},
		size={"type": int, "choices": [*keys.RSA_SIZES, *keys.AES_SIZES.values()]},
		curve={"choices": keys.CURVES},
		ops=names,
		disabled=switch,
		nbf=text,
		exp=text,
		pem=text,
	)
	for verb in ("rotate", "delete", "purge", "versions"):
		command(key, verb, "vault", "key")
	for verb in ("enable", "disable"):
		command(key, verb, "vault", "key", version=text, all=switch)
	command(key, "expire", "vault", "key", version=text)
	command(key, "set", "vault", "key", version=text, nbf=text, exp=text, ops=names)
	command(key, "recover", "vault", "key", in_progress={"type": int, "default": 0})
	for verb in ("vanish", "return"):
		command(key, verb, "vault", "key", version={"required": True})
	command(key, "list", "vault")
	command(key, "show", "vault", "key", version=text)


def _add_fault_commands(command, fault, text, number, switch):
	seconds, repeatable = {"type": float}, {"action": "append"}
	command(
		fault,
		"add",
		match={"default": "*"},
		host=text,
		key=text,
		server={"choices": ["imds", "vault"]},
		times=number,
		after={"type": int, "default": 0},
		status=number,
		code=text,
		inner=text,
		message=text,
		retry_after=text,
		header=repeatable,
		redirect=text,
		delay=seconds,
		body={"choices": faults.BODIES},
		size=number,
		raw_body=text,
		kid=text,
		value=text,
		set=repeatable,
		unset=repeatable,
		token={"choices": faults.TOKENS},
		close=switch,
		reset=switch,
		slow_drip=seconds,
	)
	command(fault, "list")
	command(fault, "clear", id=number)


def _follow_log(path):
	position = 0
	while True:
		if os.path.exists(path):
			with open(path, encoding="utf-8") as file:
				file.seek(position)
				sys.stdout.write(file.read())
				position = file.tell()
		sys.stdout.flush()
		time.sleep(0.2)


def _serve(store, arguments):
	for role in ("imds", "vault"):
		if arguments.pop(f"no_{role}"):
			arguments[f"{role}_port"] = None
	server.serve(store, **arguments)


def _log(admin, clear, follow):
	if clear:
		admin.log_clear()
	elif follow:
		_follow_log(admin.store.log_path)
	else:
		for record in admin.log():
			print(json.dumps(record))


def _run(arguments):
	folder = arguments.pop("state")
	if not folder:
		raise StoreError("name the state folder with --state DIR or DEVVAULT_STATE")
	admin = Admin(folder)
	command, verb = arguments.pop("command"), arguments.pop("verb", None)
	name = (f"{command}_{verb}" if verb else command).replace("-", "_")
	if name == "init":
		admin.init()
		return
	admin.store.check_initialised()
	if name == "serve":
		_serve(admin.store, arguments)
	elif name == "log":
		_log(admin, **arguments)
	elif name == "user_data":
		path = arguments["file"]
		with open(0 if path == "-" else path, encoding="utf-8") as file:
			admin.user_data(file.read())
	elif name == "wrap":
		arguments["data"] = keys.decode_base64url(arguments.pop("value"))
		print(admin.wrap(**arguments))
	elif name == "unwrap":
		raw = arguments.pop("raw")
		data = admin.unwrap(**arguments)
		sys.stdout.buffer.write(data if raw else keys.encode_base64url(data).encode() + b"\n")
	elif name == "hosts":
		print("\n".join(admin.hosts(**arguments)))
	else:
		_print(getattr(admin, name)(**arguments))


def _print(result):
	if isinstance(result, (str, int)):
		print(result)
	elif result is not None:
		print(json.dumps(result, indent=1))


def main():
	arguments = vars(_parser().parse_args())
	try:
		_run(arguments)
	except (StoreError, keys.KeyUseError, OSError, ValueError) as error:
		print(f"devvault: {error}", file=sys.stderr)
		return 1
	except KeyboardInterrupt:
		return 130
	return 0

"""What several keys, and the world around them, must satisfy together. Pure but for looking whether files exist."""

import os
from collections.abc import Iterator
from pathlib import Path

import psycopg
from msgspec import structs
from psycopg.conninfo import conninfo_to_dict

from protocol.codec import encode
from protocol.errors import ProtocolError
from protocol.limits import MAX_FRAME_BYTES
from protocol.messages import Welcome
from protocol.values import Value
from runnerd.chain.abi import AbiFunction, parse_error, parse_function
from runnerd.chain.abi_types import ArrayOf, Elementary, Kind
from runnerd.chain.abi_values import to_abi
from runnerd.chain.address import address_bytes, parse_address
from runnerd.chain.errors import AbiError, NodeUrlInvalid
from runnerd.chain.node_url import parse_node_url
from runnerd.config.model import ActionGrant, Config, PluginConfig, ReadGrant, VaultConfig, WalletConfig
from runnerd.config.problem import Problem
from runnerd.triggers.schedule import ScheduleError
from runnerd.triggers.schedule import check as check_trigger

MAX_SOCKET_PATH = 107
LINK_TAIL = len("/links/") + 64 + len(".99999999/link")
SOURCES = ("path", "module", "entry_point")


def check(config: Config) -> list[Problem]:
    """All problems of a decoded configuration."""
    return [
        *_paths(config),
        *_database(config),
        *_chains(config),
        *_wallets(config.wallets),
        *(problem for name, vault in config.vaults.items() for problem in _vault(f"vaults.{name}", vault, config)),
        *_same_vaults(config.vaults),
        *(problem for name, plugin in config.plugins.items() for problem in _plugin(f"plugins.{name}", plugin, config)),
    ]


def _paths(config: Config) -> Iterator[Problem]:
    if len(os.fsencode(config.control_socket)) > MAX_SOCKET_PATH:
        yield Problem(
            "control_socket", f"is longer than {MAX_SOCKET_PATH} bytes, the kernel's limit: {config.control_socket}"
        )
    longest = max((len(name) for name in config.plugins), default=0)
    length = len(os.fsencode(config.runtime_dir))
    used = length + LINK_TAIL - 64 + longest
    if used > MAX_SOCKET_PATH:
        room = MAX_SOCKET_PATH - used + length
        yield Problem("runtime_dir", f"is too long for the sockets in it: at most {room} bytes with these plugin names")


def _database(config: Config) -> Iterator[Problem]:
    for key in ("dsn", "event_dsn"):
        dsn = getattr(config.database, key)
        try:
            conninfo_to_dict(dsn or "")
        except psycopg.Error:  # its text repeats parts of the string, and that may hold a password
            yield Problem(f"database.{key}", "is not a connection string: write postgresql://USER@HOST:PORT/DATABASE")


def _chains(config: Config) -> Iterator[Problem]:
    seen: dict[int, str] = {}
    for name, chain in config.chains.items():
        if chain.id in seen:  # two of us would give the same nonces of the same wallet
            yield Problem(f"chains.{name}.id", f"is the id of chains.{seen[chain.id]} too")
        seen[chain.id] = name
        try:
            parse_node_url(chain.rpc)
        except NodeUrlInvalid as error:
            yield Problem(f"chains.{name}.rpc", str(error))
        if chain.min_priority_fee_wei > chain.max_fee_per_gas_wei:
            yield Problem(f"chains.{name}.min_priority_fee_wei", "is above max_fee_per_gas_wei")


def _wallets(wallets: dict[str, WalletConfig]) -> Iterator[Problem]:
    seen: dict[Path, str] = {}
    for name, wallet in wallets.items():
        key = f"wallets.{name}"
        if (wallet.passphrase_file is None) == (wallet.passphrase_credential is None):
            yield Problem(key, "needs exactly one of passphrase_file and passphrase_credential")
        for field in ("keystore", "passphrase_file"):
            path = getattr(wallet, field)
            if path is not None and not path.is_file():
                yield Problem(f"{key}.{field}", f"no such file: {path}")
        if wallet.keystore in seen:
            yield Problem(f"{key}.keystore", f"is the keystore of wallets.{seen[wallet.keystore]} too")
        seen[wallet.keystore] = name


def _same_vaults(vaults: dict[str, VaultConfig]) -> Iterator[Problem]:
    seen: dict[tuple[str, str], str] = {}
    for name, vault in vaults.items():
        identity = (vault.chain, vault.address.lower())
        if identity in seen:
            yield Problem(f"vaults.{name}.address", f"is the address of vaults.{seen[identity]} too")
        seen[identity] = name


def _vault(key: str, vault: VaultConfig, config: Config) -> Iterator[Problem]:
    yield from _known(f"{key}.chain", vault.chain, config.chains, "chains")
    yield from _known(f"{key}.wallet", vault.wallet, config.wallets, "wallets")
    yield from _address(f"{key}.address", vault.address)
    for token in vault.expect_tokens:
        yield from _address(f"{key}.expect_tokens", token)
    for name, read in vault.reads.items():
        yield from _read(f"{key}.reads.{name}", read)
    for name, action in vault.actions.items():
        yield from _action(f"{key}.actions.{name}", action)
        if action.max_value_wei > vault.max_value_wei_per_day:
            text = f"is above max_value_wei_per_day = {vault.max_value_wei_per_day} of the vault"
            yield Problem(f"{key}.actions.{name}.max_value_wei", text)


def _address(key: str, address: str) -> Iterator[Problem]:
    try:
        if not any(address_bytes(parse_address(address))):
            yield Problem(key, "is the zero address")
    except AbiError as error:
        yield Problem(key, str(error))


def _read(key: str, read: ReadGrant) -> Iterator[Problem]:
    yield from _address(f"{key}.contract", read.contract)
    try:
        function = parse_function(read.function)
    except AbiError as error:
        yield Problem(f"{key}.function", str(error))
        return
    if not function.is_view:
        yield Problem(f"{key}.function", "must be a view: write `name(...) view returns (...)`")
    elif not function.outputs:
        yield Problem(f"{key}.function", "returns nothing: write `returns (type)`")
    yield from _errors(key, read.errors)


def _action(key: str, action: ActionGrant) -> Iterator[Problem]:
    yield from _address(f"{key}.contract", action.contract)
    yield from _errors(key, action.errors)
    try:
        function = parse_function(action.function)
    except AbiError as error:
        yield Problem(f"{key}.function", str(error))
        return
    if function.is_view:
        yield Problem(f"{key}.function", "is a view; an action changes something, a view is a read")
    unnamed = [parameter.type for parameter in function.inputs if not parameter.name]
    if unnamed:
        yield Problem(f"{key}.function", f"every argument needs a name, these have none: {', '.join(unnamed)}")
    if action.max_value_wei and not function.is_payable:
        yield Problem(f"{key}.max_value_wei", "the function is not payable: write `payable`, or leave this out")
    yield from _limits(key, action, function)


def _limits(key: str, action: ActionGrant, function: AbiFunction) -> Iterator[Problem]:
    parameters = {parameter.name: parameter.shape for parameter in function.inputs}
    for name, limit in action.limits.items():
        where = f"{key}.limits.{name}"
        if name not in parameters:
            yield Problem(where, f"{function.name} has no such argument; it has: {', '.join(parameters) or 'none'}")
            continue
        item = shape = parameters[name]
        while isinstance(item, ArrayOf):
            item = item.item
        is_integer = isinstance(item, Elementary) and item.kind in (Kind.UINT, Kind.INT)
        if (limit.min is not None or limit.max is not None) and not is_integer:
            yield Problem(where, f"min and max are for integers, {name} is {shape}; use one_of")
            continue
        values = [("min", limit.min), ("max", limit.max), *(("one_of", value) for value in limit.one_of or ())]
        for key_of_limit, value in values:
            if value is not None and isinstance(item, Elementary):
                yield from _fits(f"{where}.{key_of_limit}", value, item, name)
        if limit.min is not None and limit.max is not None and limit.min > limit.max:
            yield Problem(where, f"min = {limit.min} is above max = {limit.max}")


def _fits(key: str, value: Value, shape: Elementary, name: str) -> Iterator[Problem]:
    """A limit that no argument can meet would deny everything, without a word at the start."""
    try:
        to_abi(value, shape, name)
    except AbiError as error:
        yield Problem(key, str(error))


def _errors(key: str, errors: tuple[str, ...]) -> Iterator[Problem]:
    for fragment in errors:
        try:
            parse_error(fragment)
        except AbiError as error:
            yield Problem(f"{key}.errors", str(error))


def _plugin(key: str, plugin: PluginConfig, config: Config) -> Iterator[Problem]:
    yield from _known(f"{key}.vault", plugin.vault, config.vaults, "vaults")
    given = [name for name in SOURCES if getattr(plugin, name) is not None]
    if len(given) != 1:
        yield Problem(key, f"needs exactly one of {', '.join(SOURCES)}; it has {', '.join(given) or 'none'}")
    if plugin.path is not None and not plugin.path.exists():
        yield Problem(f"{key}.path", f"no such file: {plugin.path}")
    for path in plugin.sandbox.readable_paths:
        if not path.exists():
            yield Problem(f"{key}.sandbox.readable_paths", f"no such file: {path}")
    for trigger in plugin.triggers or ():
        try:
            check_trigger(trigger)
        except ScheduleError as error:
            yield Problem(f"{key}.triggers", str(error))
    try:
        encode(Welcome(params=plugin.params))
    except ProtocolError:
        yield Problem(f"{key}.params", f"do not fit the {MAX_FRAME_BYTES} bytes of one message")
    restart = plugin.restart
    if restart.backoff_max_s < restart.backoff_first_s:
        fields = [field.name for field in structs.fields(restart) if field.name.startswith("backoff")]
        yield Problem(f"{key}.restart", f"backoff_max_s is below backoff_first_s (see {', '.join(fields)})")


def _known(key: str, name: str, group: object, group_name: str) -> Iterator[Problem]:
    assert isinstance(group, dict)
    if name not in group:
        yield Problem(key, f"there is no [{group_name}.{name}]; there are: {', '.join(sorted(group)) or 'none'}")

"""What several keys, and the world around them, must satisfy together. Pure but for looking whether files exist."""

import os
from collections.abc import Iterator, Mapping
from itertools import pairwise

import psycopg
from msgspec import structs
from psycopg.conninfo import conninfo_to_dict

from protocol.codec import encode
from protocol.errors import ProtocolError
from protocol.limits import INT_MAX, MAX_FRAME_BYTES
from protocol.messages import Welcome
from protocol.triggers import Metric
from protocol.values import Value
from runnerd.chain.abi import AbiFunction, parse_error, parse_function
from runnerd.chain.abi_types import ArrayOf, Elementary, Kind
from runnerd.chain.abi_values import to_abi
from runnerd.chain.address import address_bytes, parse_address
from runnerd.chain.errors import AbiError, NodeUrlInvalid
from runnerd.chain.node_url import parse_node_url
from runnerd.config.consumers import check_consumers
from runnerd.config.http import check_http
from runnerd.config.model import (
    ActionGrant,
    ArgumentLimit,
    BudgetConfig,
    ChainConfig,
    Config,
    PluginConfig,
    ReadGrant,
    VaultConfig,
)
from runnerd.config.problem import Problem
from runnerd.config.sandbox import check_sandbox
from runnerd.config.wallets import check_wallets
from runnerd.triggers.chain_check import chain_problem
from runnerd.triggers.schedule import ScheduleError
from runnerd.triggers.schedule import check as check_trigger

MAX_SOCKET_PATH = 107
LINK_TAIL = len("/links/") + 64 + len(".99999999/link")
SOURCES = ("path", "module", "entry_point")
ADAPTER_KEYS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "erc7821": ((), ()),
    "eip7702": (("delegate",), ()),
    "safe": (("multisend",), ("intent_registry",)),
    "safe_multisig": (("multisend",), ("intent_registry",)),
    "roles": (("multisend", "roles_modifier", "role_key"), ("intent_registry",)),
}
"""Keys of `[vaults.NAME]` that each adapter needs, and those it may have."""


def check(config: Config) -> list[Problem]:
    """All problems of a decoded configuration."""
    return [
        *_paths(config),
        *_database(config),
        *_chains(config),
        *check_http(config.http),
        *check_wallets(config.wallets),
        *(problem for name, vault in config.vaults.items() for problem in _vault(f"vaults.{name}", vault, config)),
        *_same_vaults(config.vaults),
        *_address_lists(config),
        *(problem for name, plugin in config.plugins.items() for problem in _plugin(f"plugins.{name}", plugin, config)),
        *check_consumers(config),
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
        yield from _nodes(f"chains.{name}", chain)
        if chain.min_priority_fee_wei > chain.max_fee_per_gas_wei:
            yield Problem(f"chains.{name}.min_priority_fee_wei", "is above max_fee_per_gas_wei")


def _nodes(key: str, chain: ChainConfig) -> Iterator[Problem]:
    """Never repeats a url: it may hold a password."""
    places = [f"{key}.rpc"] if isinstance(chain.rpc, str) else [f"{key}.rpc[{i}]" for i in range(len(chain.urls))]
    if chain.private_rpc is not None:
        places.append(f"{key}.private_rpc")
    seen: dict[str, str] = {}
    for place, url in zip(places, (*chain.urls, *([chain.private_rpc] if chain.private_rpc else [])), strict=True):
        try:
            parse_node_url(url)
        except NodeUrlInvalid as error:
            yield Problem(place, str(error))
        if url in seen and not place.endswith("private_rpc"):
            yield Problem(place, f"is {seen[url]} too: one node has one voice")
        elif url in seen:
            yield Problem(place, f"is {seen[url]} too: what is sent there is public")
        seen.setdefault(url, place)
    if chain.quorum is not None and chain.quorum > len(chain.urls):
        yield Problem(f"{key}.quorum", f"is {chain.quorum}, and rpc names {len(chain.urls)} nodes")
    if chain.private_method is not None and chain.private_rpc is None:
        yield Problem(f"{key}.private_method", "needs private_rpc")


def _same_vaults(vaults: dict[str, VaultConfig]) -> Iterator[Problem]:
    seen: dict[tuple[str, str], str] = {}
    for name, vault in vaults.items():
        identity = (vault.chain, vault.address.lower())
        if identity in seen:
            yield Problem(f"vaults.{name}.address", f"is the address of vaults.{seen[identity]} too")
        seen[identity] = name


def _address_lists(config: Config) -> Iterator[Problem]:
    for name, addresses in config.address_lists.items():
        for address in addresses:
            yield from _address(f"address_lists.{name}", address)
    for vault_name, vault in config.vaults.items():
        for action_name, action in vault.actions.items():
            for argument, limit in action.limits.items():
                key = f"vaults.{vault_name}.actions.{action_name}.limits.{argument}"
                for which, listed in (("in_list", limit.in_list), ("not_in_list", limit.not_in_list)):
                    if listed is not None:
                        yield from _known(f"{key}.{which}", listed, config.address_lists, "address_lists")
                if limit.in_list is not None and config.address_lists.get(limit.in_list) == ():
                    yield Problem(f"{key}.in_list", f"address_lists.{limit.in_list} is empty: nothing could ever pass")


def _vault(key: str, vault: VaultConfig, config: Config) -> Iterator[Problem]:
    yield from _counts(key, vault)
    yield from _known(f"{key}.chain", vault.chain, config.chains, "chains")
    yield from _known(f"{key}.wallet", vault.wallet, config.wallets, "wallets")
    yield from _address(f"{key}.address", vault.address)
    for token in vault.expect_tokens:
        yield from _address(f"{key}.expect_tokens", token)
    yield from _adapter(key, vault)
    for name, read in vault.reads.items():
        yield from _read(f"{key}.reads.{name}", read)
    for name, action in vault.actions.items():
        yield from _action(f"{key}.actions.{name}", action)
        if action.max_value_wei > vault.max_value_wei_per_day:
            text = f"is above max_value_wei_per_day = {vault.max_value_wei_per_day} of the vault"
            yield Problem(f"{key}.actions.{name}.max_value_wei", text)


def _counts(key: str, budget: BudgetConfig | VaultConfig) -> Iterator[Problem]:
    per_hour, per_day = budget.max_transactions_per_hour, budget.max_transactions_per_day
    if per_hour is not None and per_day is not None and per_hour > per_day:
        yield Problem(f"{key}.max_transactions_per_hour", f"is above max_transactions_per_day = {per_day}")


def _adapter(key: str, vault: VaultConfig) -> Iterator[Problem]:
    needed, optional = ADAPTER_KEYS[vault.adapter]
    for name in sorted({name for keys in ADAPTER_KEYS.values() for name in (*keys[0], *keys[1])}):
        value = getattr(vault, name)
        if value is None:
            if name in needed:
                yield Problem(f"{key}.{name}", f'is missing: adapter = "{vault.adapter}" needs {", ".join(needed)}')
        elif name not in (*needed, *optional):
            kinds = [kind for kind, keys in ADAPTER_KEYS.items() if name in (*keys[0], *keys[1])]
            yield Problem(f"{key}.{name}", f'is not for adapter = "{vault.adapter}"; it is for: {", ".join(kinds)}')
        elif name != "role_key":
            yield from _address(f"{key}.{name}", value)
    for name, action in vault.actions.items():
        # The reference vault refuses this on chain. A Safe that calls itself may change its owners and modules.
        if vault.adapter != "erc7821" and action.contract.lower() == vault.address.lower():
            yield Problem(f"{key}.actions.{name}.contract", "is the vault itself: an action could change who owns it")


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
        yield from _sums(where, limit, name, str(shape), is_integer)
        is_address = isinstance(item, Elementary) and item.kind is Kind.ADDRESS
        if (limit.in_list is not None or limit.not_in_list is not None) and not is_address:
            yield Problem(where, f"in_list and not_in_list are for addresses, {name} is {shape}")


def _sums(key: str, limit: ArgumentLimit, name: str, shape: str, is_integer: bool) -> Iterator[Problem]:
    sums = [(which, getattr(limit, which)) for which in ("max_per_call", "max_per_hour", "max_per_day")]
    given = [(which, most) for which, most in sums if most is not None]
    if given and not is_integer:
        yield Problem(key, f"{given[0][0]} is for integers, {name} is {shape}")
    for which, most in given:
        if most > INT_MAX:
            yield Problem(f"{key}.{which}", "is above 2^256 - 1")
    for (shorter, less), (longer, more) in pairwise(given):
        if less > more:
            yield Problem(f"{key}.{shorter}", f"= {less} is above {longer} = {more}")


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
    yield from _counts(f"{key}.budget", plugin.budget)
    if plugin.vault in config.vaults:
        yield from _within(f"{key}.budget", plugin.budget, config.vaults[plugin.vault])
        chain = config.chains.get(config.vaults[plugin.vault].chain)
        if plugin.broadcast != "public" and chain is not None and chain.private_rpc is None:
            yield Problem(f"{key}.broadcast", f"{plugin.broadcast} needs private_rpc in the chain of its vault")
    given = [name for name in SOURCES if getattr(plugin, name) is not None]
    if len(given) != 1:
        yield Problem(key, f"needs exactly one of {', '.join(SOURCES)}; it has {', '.join(given) or 'none'}")
    if plugin.path is not None and not plugin.path.exists():
        yield Problem(f"{key}.path", f"no such file: {plugin.path}")
    yield from check_sandbox(key, plugin)
    if plugin.venv is not None and not (plugin.venv / "lib").is_dir():
        yield Problem(f"{key}.venv", f"is not a virtual environment, it has no lib: {plugin.venv}")
    if plugin.python is not None and not os.access(plugin.python, os.X_OK):
        yield Problem(f"{key}.python", f"is not a program: {plugin.python}")
    for i, trigger in enumerate(plugin.triggers or ()):
        try:
            check_trigger(trigger)
        except ScheduleError as error:
            yield Problem(f"{key}.triggers", str(error))
        wrong = chain_problem(trigger, config.chains)
        if wrong is not None:
            yield Problem(f"{key}.triggers[{i}].{wrong[0]}", wrong[1])
        if isinstance(trigger, Metric) and plugin.vault in config.vaults:
            yield from _known(f"{key}.triggers[{i}].read.name", trigger.read.name, config.vaults[plugin.vault].reads,
                              f"vaults.{plugin.vault}.reads")  # fmt: skip
    try:
        encode(Welcome(params=plugin.params))
    except ProtocolError:
        yield Problem(f"{key}.params", f"do not fit the {MAX_FRAME_BYTES} bytes of one message")
    restart = plugin.restart
    if restart.backoff_max_s < restart.backoff_first_s:
        fields = [field.name for field in structs.fields(restart) if field.name.startswith("backoff")]
        yield Problem(f"{key}.restart", f"backoff_max_s is below backoff_first_s (see {', '.join(fields)})")


def _within(key: str, budget: BudgetConfig, vault: VaultConfig) -> Iterator[Problem]:
    """A plugin's share that is more than the whole is most likely a slip."""
    for field in structs.fields(budget):
        share, whole = getattr(budget, field.name), getattr(vault, field.name)
        if share is not None and whole is not None and share > whole:
            yield Problem(f"{key}.{field.name}", f"is above {field.name} = {whole} of the vault")


def _known(key: str, name: str, group: object, group_name: str) -> Iterator[Problem]:
    assert isinstance(group, dict)
    if name not in group:
        yield Problem(key, f"there is no [{group_name}.{name}]; there are: {', '.join(sorted(group)) or 'none'}")

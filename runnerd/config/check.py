"""What several keys, and the world around them, must satisfy together. Pure but for looking whether files exist."""

import os
from collections.abc import Collection, Iterator, Mapping

import psycopg
from msgspec import structs
from psycopg.conninfo import conninfo_to_dict

from protocol.codec import encode
from protocol.errors import ProtocolError
from protocol.limits import MAX_FRAME_BYTES
from protocol.messages import Welcome
from protocol.triggers import Metric
from runnerd.chain.errors import NodeUrlInvalid
from runnerd.chain.node_url import parse_node_url
from runnerd.config.catalogues import check_action, check_address, check_read
from runnerd.config.consumers import check_consumers
from runnerd.config.extensions import check_custom, check_extensions
from runnerd.config.http import check_http
from runnerd.config.model import ChainConfig, Config, KeeperConfig, Place, VaultConfig
from runnerd.config.plugins import BudgetConfig, PluginConfig
from runnerd.config.problem import Problem
from runnerd.config.roles import check_roles, plugin_problems
from runnerd.config.routes import check_routes
from runnerd.config.sandbox import check_sandbox
from runnerd.config.wallets import check_wallets
from runnerd.triggers.chain_check import chain_problem
from runnerd.triggers.schedule import ScheduleError
from runnerd.triggers.schedule import check as check_trigger
from runnerd.triggers.source import TWICE, doubled, source_of

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


def check(config: Config, own_producers: Collection[str] = ()) -> list[Problem]:
    """All problems of a decoded configuration. `own_producers`: those that an embedding application brings."""
    producers = {*config.producers, *own_producers}
    return [
        *_paths(config),
        *_database(config),
        *_chains(config),
        *check_http(config.http),
        *check_wallets(config.wallets),
        *(problem for name, vault in config.vaults.items() for problem in _vault(f"vaults.{name}", vault, config)),
        *_same_vaults(config.vaults),
        *(problem for name, keeper in config.keepers.items() for problem in _keeper(f"keepers.{name}", keeper, config)),
        *check_roles(config),
        *_address_lists(config),
        *check_extensions(config.producers, config.services),
        *check_custom({name: plugin.triggers or () for name, plugin in config.plugins.items()}, producers),
        *(problem for name, plugin in config.plugins.items() for problem in _plugin(f"plugins.{name}", plugin, config)),
        *check_consumers(config),
        *check_routes(config),
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
            yield from check_address(f"address_lists.{name}", address)
    groups: tuple[tuple[str, Mapping[str, Place]], ...] = (("vaults", config.vaults), ("keepers", config.keepers))
    for place_key, place in ((f"{group}.{name}", place) for group, places in groups for name, place in places.items()):
        for action_name, action in place.actions.items():
            for argument, limit in action.limits.items():
                key = f"{place_key}.actions.{action_name}.limits.{argument}"
                for which, listed in (("in_list", limit.in_list), ("not_in_list", limit.not_in_list)):
                    if listed is not None:
                        yield from _known(f"{key}.{which}", listed, config.address_lists, "address_lists")
                if limit.in_list is not None and config.address_lists.get(limit.in_list) == ():
                    yield Problem(f"{key}.in_list", f"address_lists.{limit.in_list} is empty: nothing could ever pass")


def _vault(key: str, vault: VaultConfig, config: Config) -> Iterator[Problem]:
    yield from _counts(key, vault)
    yield from _known(f"{key}.chain", vault.chain, config.chains, "chains")
    yield from _known(f"{key}.wallet", vault.wallet, config.wallets, "wallets")
    yield from check_address(f"{key}.address", vault.address)
    for token in vault.expect_tokens:
        yield from check_address(f"{key}.expect_tokens", token)
    yield from _adapter(key, vault)
    for name, read in vault.reads.items():
        yield from check_read(f"{key}.reads.{name}", read)
    for name, action in vault.actions.items():
        yield from check_action(f"{key}.actions.{name}", action)
        if action.max_value_wei > vault.max_value_wei_per_day:
            text = f"is above max_value_wei_per_day = {vault.max_value_wei_per_day} of the vault"
            yield Problem(f"{key}.actions.{name}.max_value_wei", text)


def _keeper(key: str, keeper: KeeperConfig, config: Config) -> Iterator[Problem]:
    yield from _counts(key, keeper)
    yield from _known(f"{key}.chain", keeper.chain, config.chains, "chains")
    yield from _known(f"{key}.wallet", keeper.wallet, config.wallets, "wallets")
    for name, read in keeper.reads.items():
        yield from check_read(f"{key}.reads.{name}", read)
    for name, action in keeper.actions.items():
        yield from check_action(f"{key}.actions.{name}", action)


def _triggers(key: str, plugin: PluginConfig, config: Config) -> Iterator[Problem]:
    triggers, place = plugin.triggers or (), config.places.get(plugin.place)
    for i, trigger in enumerate(triggers):
        try:
            check_trigger(trigger)
        except ScheduleError as error:
            yield Problem(f"{key}[{i}].{error.key}", str(error))
        wrong = chain_problem(trigger, config.chains)
        if wrong is not None:
            missing = f"chains.{getattr(trigger, 'chain', None)}" if wrong[0] == "chain" else ""
            yield Problem(f"{key}[{i}].{wrong[0]}", wrong[1], missing=missing)
        if isinstance(trigger, Metric) and place is not None:
            yield from _known(f"{key}[{i}].read.name", trigger.read.name, place.reads,
                              f"{plugin.place_kind}s.{plugin.place}.reads")  # fmt: skip
    twice = doubled(triggers)
    if twice is not None:
        yield Problem(key, f"{source_of(twice)} {TWICE}")


def _counts(key: str, budget: BudgetConfig | Place) -> Iterator[Problem]:
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
            yield from check_address(f"{key}.{name}", value)
    for name, action in vault.actions.items():
        # The reference vault refuses this on chain. A Safe that calls itself may change its owners and modules.
        if vault.adapter != "erc7821" and action.contract.lower() == vault.address.lower():
            yield Problem(f"{key}.actions.{name}.contract", "is the vault itself: an action could change who owns it")


def _plugin(key: str, plugin: PluginConfig, config: Config) -> Iterator[Problem]:
    yield from plugin_problems(key, plugin, config)
    yield from _counts(f"{key}.budget", plugin.budget)
    place, what = config.places.get(plugin.place), plugin.place_kind
    if place is not None:
        yield from _within(f"{key}.budget", plugin.budget, place, what)
        chain = config.chains.get(place.chain)
        if plugin.broadcast != "public" and chain is not None and chain.private_rpc is None:
            yield Problem(f"{key}.broadcast", f"{plugin.broadcast} needs private_rpc in the chain of its {what}")
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
    yield from _triggers(f"{key}.triggers", plugin, config)
    try:
        encode(Welcome(params=plugin.params))
    except ProtocolError:
        yield Problem(f"{key}.params", f"do not fit the {MAX_FRAME_BYTES} bytes of one message")
    restart = plugin.restart
    if restart.backoff_max_s < restart.backoff_first_s:
        fields = [field.name for field in structs.fields(restart) if field.name.startswith("backoff")]
        yield Problem(f"{key}.restart", f"backoff_max_s is below backoff_first_s (see {', '.join(fields)})")


def _within(key: str, budget: BudgetConfig, place: Place, what: str) -> Iterator[Problem]:
    """A plugin's share that is more than the whole is most likely a slip."""
    for field in structs.fields(budget):
        share, whole = getattr(budget, field.name), getattr(place, field.name)
        if share is not None and whole is not None and share > whole:
            yield Problem(f"{key}.{field.name}", f"is above {field.name} = {whole} of the {what}")


def _known(key: str, name: str, group: object, group_name: str) -> Iterator[Problem]:
    assert isinstance(group, dict)
    if name not in group:
        there = ", ".join(sorted(group)) or "none"
        yield Problem(key, f"there is no [{group_name}.{name}]; there are: {there}", missing=f"{group_name}.{name}")

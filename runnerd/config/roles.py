"""Operator and keeper are never mixed: which plugin acts for what, and whose wallet may serve whom. Pure.

Called by `check`, and once more by `app` when the signers have said their addresses: two wallets may be one key.
"""

from collections.abc import Collection, Iterator, Mapping

from runnerd.config.grants import WHY_PERMISSIONLESS
from runnerd.config.model import Config
from runnerd.config.plugins import PluginConfig
from runnerd.config.problem import Problem

NEVER_MIXED = "the key of an operator never serves a keeper, nor the reverse"


def check_roles(config: Config) -> Iterator[Problem]:
    """What vaults and keepers must satisfy together."""
    operators: dict[str, str] = {}
    for name, vault in config.vaults.items():
        operators.setdefault(vault.wallet, f"vaults.{name}")
    for name, keeper in config.keepers.items():
        key = f"keepers.{name}"
        if name in config.vaults:
            yield Problem(key, f"there is a [vaults.{name}] too: vaults and keepers share their names, use another")
        if keeper.wallet in operators:
            remedy = f"make a wallet for keepers alone; allowed: {_listed(config.wallets.keys() - operators.keys())}"
            yield Problem(f"{key}.wallet", f"is the operator of {operators[keeper.wallet]}: {NEVER_MIXED}; {remedy}")
        for action_name, action in keeper.actions.items():
            if not action.permissionless:
                yield Problem(f"{key}.actions.{action_name}.permissionless", f"is not true: {WHY_PERMISSIONLESS}")


def plugin_problems(key: str, plugin: PluginConfig, config: Config) -> Iterator[Problem]:
    """Whether it names exactly the one place that fits its role."""
    fits = plugin.place_kind
    other = "vault" if fits == "keeper" else "keeper"
    named, wrong = getattr(plugin, fits), getattr(plugin, other)
    places: Mapping[str, object] = config.keepers if fits == "keeper" else config.vaults
    allowed = f"{fits} = one of: {_listed(places)}"
    if wrong is not None:
        if plugin.role == "keeper":
            yield Problem(f"{key}.vault", f"a keeper names no vault: leave it out, and write {allowed}")
        else:
            text = f'is for role = "keeper", and this one is an operator: write role = "keeper", or {allowed}'
            yield Problem(f"{key}.keeper", text)
    if named is None and wrong is None:
        yield Problem(f"{key}.{fits}", f'is missing: role = "{plugin.role}" needs {allowed}')
    elif named is not None and named not in places:
        missing = f"{fits}s.{named}"
        yield Problem(f"{key}.{fits}", f"there is no [{missing}]; there are: {_listed(places)}", missing=missing)


def same_keys(config: Config, addresses: Mapping[str, str]) -> Iterator[Problem]:
    """The same rule by `addresses` of the wallets (checksummed, by name): one key under two names serves one role."""
    operators = {addresses[vault.wallet]: (name, vault.wallet) for name, vault in config.vaults.items()
                 if vault.wallet in addresses}  # fmt: skip
    for name, keeper in config.keepers.items():
        address = addresses.get(keeper.wallet)
        if address in operators:
            vault, wallet = operators[address]
            text = f"wallets.{keeper.wallet} has the address of wallets.{wallet}, {address}"
            yield Problem(f"keepers.{name}.wallet", f"{text}, the operator of vaults.{vault}: {NEVER_MIXED}")


def _listed(names: Collection[str]) -> str:
    return ", ".join(sorted(names)) or "none"

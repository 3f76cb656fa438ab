"""A vault's or keeper's catalogue, ready for use: the reads and actions that are granted, with their ABI parsed once.

Built from the configuration, asked by snapshots (reads) and by policy (actions).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from runnerd.chain.abi import AbiFunction, parse_error, parse_function
from runnerd.chain.address import parse_address
from runnerd.config.grants import ActionGrant, ArgumentLimit, KeeperAction
from runnerd.config.model import KeeperConfig, Place
from runnerd.config.plugins import BudgetConfig

AddressLists: TypeAlias = Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadEntry:
    """A granted view function."""

    contract: str
    function: AbiFunction
    errors: tuple[AbiFunction, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionEntry:
    """A granted action and its limits."""

    contract: str
    function: AbiFunction
    max_value_wei: int
    limits: Mapping[str, ArgumentLimit]
    addresses: Mapping[str, frozenset[str]]
    """The address lists that its limits name, in lower case."""
    is_reducing: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """What plugins may read and ask for at one vault, or through one keeper."""

    vault: str
    """Its name, or the keeper's: they share one space of names."""
    max_actions: int
    budget: BudgetConfig
    reads: Mapping[str, ReadEntry]
    actions: Mapping[str, ActionEntry]
    expect_tokens: frozenset[str]
    errors: tuple[AbiFunction, ...]
    """Custom errors of all contracts in it, to name a revert."""
    is_keeper: bool = False

    @property
    def place(self) -> str:
        """Whose it is, in words."""
        return f"{'keeper' if self.is_keeper else 'vault'} {self.vault}"

    @property
    def reducing(self) -> frozenset[str]:
        """The actions that pass in reducing mode."""
        return frozenset(name for name, entry in self.actions.items() if entry.is_reducing)


def build_catalogue(name: str, vault: Place, lists: AddressLists | None = None) -> Catalogue:
    """The catalogue of `[vaults.NAME]` or `[keepers.NAME]`; `lists` are the `[address_lists]`.

    Raises AbiError; `config.check` has found those before, key by key.
    """
    errors: dict[str, AbiFunction] = {}
    fragments = [fragment for read in vault.reads.values() for fragment in read.errors]
    fragments += [fragment for action in vault.actions.values() for fragment in action.errors]
    for error in map(parse_error, fragments):
        errors[error.signature] = error
    return Catalogue(
        vault=name,
        max_actions=vault.max_actions,
        budget=BudgetConfig(
            max_value_wei_per_day=vault.max_value_wei_per_day,
            max_gas_wei_per_day=vault.max_gas_wei_per_day,
            max_transactions_per_hour=vault.max_transactions_per_hour,
            max_transactions_per_day=vault.max_transactions_per_day,
        ),
        reads={
            key: ReadEntry(
                contract=parse_address(grant.contract),
                function=parse_function(grant.function),
                errors=tuple(parse_error(fragment) for fragment in grant.errors),
            )
            for key, grant in vault.reads.items()
        },
        actions={key: _action(grant, lists or {}) for key, grant in vault.actions.items()},
        expect_tokens=frozenset(map(parse_address, vault.expect_tokens)),
        errors=tuple(errors.values()),
        is_keeper=isinstance(vault, KeeperConfig),
    )


def _action(grant: ActionGrant | KeeperAction, lists: AddressLists) -> ActionEntry:
    named = {name for limit in grant.limits.values() for name in (limit.in_list, limit.not_in_list) if name is not None}
    return ActionEntry(
        contract=parse_address(grant.contract),
        function=parse_function(grant.function),
        max_value_wei=grant.max_value_wei,
        limits=grant.limits,
        addresses={name: frozenset(address.lower() for address in lists[name]) for name in named},
        is_reducing=grant.reducing,
    )

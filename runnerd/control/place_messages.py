"""What `runnerctl status` is told of vaults and keepers."""

from msgspec import Struct


class VaultStatus(Struct, frozen=True, kw_only=True):
    """One vault."""

    name: str
    address: str
    chain: str
    operator: str
    paused: str | None
    problem: str | None
    spent_today_wei: int
    """Of the last 24 hours."""
    max_value_wei_per_day: int
    waiting_intents: int
    reducing: str | None = None
    paused_actions: list[str] = []
    """As `VAULT.ACTION`; who paused them is among the problems."""
    operator_balance_wei: int | None = None
    """None until a node has said it."""


class KeeperStatus(Struct, frozen=True, kw_only=True):
    """One keeper. What it has in common with a vault has the same name."""

    name: str
    chain: str
    address: str
    """Of its wallet."""
    balance_wei: int | None
    """None until a node has said it."""
    paused: str | None
    reducing: str | None
    problem: str | None
    waiting_intents: int
    paused_actions: list[str] = []

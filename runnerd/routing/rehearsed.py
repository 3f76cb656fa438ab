"""What a dry run found: the transaction that would be signed, or how far it came. Values, for whoever shows them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A rolling limit: what was used before, and what this Decision asks on top."""

    key: str
    of: str
    asked: int
    used: int
    limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsed:
    """Of one Decision. What is None was not come to. Amounts in wei."""

    decision: str | None = None
    """What the plugin asked for, as JSON: a Noop or Actions."""
    state_writes: tuple[str, ...] = ()
    """Keys that it would set or delete."""
    to: str | None = None
    calldata: bytes | None = None
    value_wei: int | None = None
    standings: tuple[Standing, ...] = ()
    block: int | None = None
    """At which it was simulated, if it succeeds there."""
    gas_limit: int | None = None
    max_fee_per_gas_wei: int | None = None
    max_priority_fee_per_gas_wei: int | None = None

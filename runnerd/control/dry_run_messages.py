"""What `fire --dry-run` is answered. Part of `control.messages`."""

from msgspec import Struct


class LimitView(Struct, frozen=True, kw_only=True):
    """A rolling limit that the Decision counts against: `used` before it, `asked` by it."""

    key: str
    of: str
    asked: int
    used: int
    limit: int


class DryRun(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type", tag="dry_run"):
    """What would have come of a call. Nothing of it is stored, and nothing was signed; what is None was not come to.

    `outcome` is `would act`, or that of a call that did not act; None if there was none in time.
    """

    call_id: int
    outcome: str | None = None
    reason: str | None = None
    decision: str | None = None
    """What the plugin asked for, as JSON: a Noop or Actions."""
    state_writes: list[str] = []
    """Keys of its state that it would have set or deleted."""
    to: str | None = None
    calldata: str | None = None
    value_wei: int | None = None
    limits: list[LimitView] = []
    block: int | None = None
    """The one at which the transaction was simulated, if it succeeds there."""
    gas_limit: int | None = None
    max_fee_per_gas_wei: int | None = None
    max_priority_fee_per_gas_wei: int | None = None

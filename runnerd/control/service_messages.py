"""What `status` says of a background service, and how a drain is asked for. Part of `control.messages`."""

from typing import Annotated

from msgspec import Meta, Struct


class ServiceStatus(Struct, frozen=True, kw_only=True):
    """A task beside the loop: whether it runs, why not, and how often it was started again."""

    name: str
    state: str
    reason: str
    restarts: int


class Drain(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type", tag="drain"):
    """Stop in order. `transactions_s`: how long to wait for what is in flight; None as configured."""

    transactions_s: Annotated[float, Meta(ge=0, le=86_400)] | None = None
    is_hurried: bool = False
    """Wait for nothing that goes on with the next start."""

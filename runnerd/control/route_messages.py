"""What `status` says of routes. Part of `control.messages`."""

from msgspec import Struct


class RouteStatus(Struct, frozen=True, kw_only=True):
    """One route: what leads to a plugin's job, and the tightest limits of all layers that cover it."""

    kind: str
    """`trigger`, `always`, `fallback`; `manual` for a job that nothing but `fire` calls."""
    source: str
    """Which trigger, or of what an `always` route gets copies."""
    plugin: str
    job: str
    parallel: int | None = None
    max_calls_per_s: int | None = None
    decide_deadline_s: float | None = None
    call_deadline_s: float | None = None

"""The tables about routes: `[router]`, and the limits of single jobs. Part of `config.model`, which has the others."""

from typing import Annotated, TypeAlias

from msgspec import Meta

from protocol.limits import MAX_TOPIC_BYTES
from protocol.messages import TriggerKind
from protocol.names import Name
from protocol.trigger import DEFAULT_JOB
from runnerd.config.table import Table

Topic: TypeAlias = Annotated[str, Meta(min_length=1, max_length=MAX_TOPIC_BYTES)]
_Seconds: TypeAlias = Annotated[float, Meta(gt=0, le=86_400 * 366)]
_Count: TypeAlias = Annotated[int, Meta(ge=1, le=1_000_000)]


class RouteLimits(Table, frozen=True):
    """`[plugins.NAME.jobs.JOB]`: limits of one job, beside the plugin's own. `[router.layers]` has the same keys, and
    they hold for the calls of all plugins together. What is left out has no limit here.

    A call is bounded by every layer that covers it: that of all routes, that of its plugin, and that of its job.
    """

    parallel: _Count | None = None
    """Calls that may be decided at once."""
    max_calls_per_s: _Count | None = None
    """Calls that triggers may make in a second, and at once. Calls of a producer that can wait (outbox, block, log,
    metric) wait where they come from; what others want beyond it is counted and dropped."""
    decide_deadline_s: _Seconds | None = None
    """`decide`, or the job's own method, may take so long."""
    call_deadline_s: _Seconds | None = None
    """A call that has not begun to decide this long after it fired is recorded as expired."""


class AlwaysRoute(Table, frozen=True):
    """`[[router.always]]`: a plugin's job that gets a copy of what others get."""

    plugin: str
    job: Name = DEFAULT_JOB
    triggers: tuple[TriggerKind, ...] = ()
    """Only of what these kinds of triggers fire; of all kinds if it is empty."""
    topics: tuple[Topic, ...] = ()
    """Only of events on these topics; of everything if it is empty."""


class FallbackRoute(Table, frozen=True):
    """`[router.fallback]`: a plugin's job that gets what nobody else takes."""

    plugin: str
    job: Name = DEFAULT_JOB
    topics: tuple[Topic, ...] = ()
    """Topics that are listened to even while no plugin has a trigger for them: of their notifications it gets those
    that no trigger takes."""


class RouterConfig(Table, frozen=True):
    """`[router]`: routes beside those that triggers make. The order in which they are written means nothing."""

    always: tuple[AlwaysRoute, ...] = ()
    fallback: FallbackRoute | None = None
    layers: RouteLimits = RouteLimits()
    """`[router.layers]`: limits of the calls of all plugins together."""

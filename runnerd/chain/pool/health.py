"""Is this node of a chain to be used, and which one first? Pure: values in, values out, `now` among them.

`node` tells it what a node answered, `pool` asks for the order. It knows nothing of urls and requests.
A node takes part in three states: `in` (read from, and its word counts as proof), `probation` (answers again, is read
from when no other is left), `out`.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TypeAlias, assert_never

MAX_FAILURES = 3
"""So many requests in a row without a usable answer, and a node is out."""
MAX_ERROR_RATE = 0.5
"""Of the requests of late, exponentially weighted: for a node that answers every other time."""
ERROR_WEIGHT = 0.1
NO_ERROR_RATE = 0.001
"""What is below is forgotten."""
PROBATION_POLLS = 3
"""Good polls in a row that bring a node back in."""
AHEAD_POLLS = 3
"""A node above all others is out after so many polls: by then the others were asked as well."""
STICKY_BLOCKS = 1
"""The node that is read from stays the same while it is at most so far behind the highest. Nodes hear of a block some
hundred milliseconds apart: without this, two good ones would take turns at every block."""


class NodeState(StrEnum):
    """How far a node is trusted to answer."""

    IN = "in"
    PROBATION = "probation"
    OUT = "out"


class Fault(StrEnum):
    """Why a node is not in, or came out last."""

    NOT_ASKED = "not asked yet"
    WRONG_CHAIN = "wrong chain"
    SILENT = "no answer"
    ERRORS = "too many errors"
    LAGGING = "lags"
    AHEAD = "runs ahead"
    LIES = "contradicted a quorum"


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """What is known of one node. `head` is the highest block in its last answer, None before the first."""

    state: NodeState = NodeState.OUT
    fault: Fault | None = Fault.NOT_ASKED
    detail: str = ""
    head: int | None = None
    head_asked_at: float = -math.inf
    good_polls: int = 0
    ahead_polls: int = 0
    failures: int = 0
    failed_at: float = -math.inf
    error_rate: float = 0.0

    @property
    def reason(self) -> str:
        """Why it is not in; empty when it is."""
        if self.fault is None:
            return ""
        return f"{self.fault}: {self.detail}" if self.detail else self.fault.value


# --- what a node did -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answered:
    """A usable answer to whatever it was asked, and if only "no"."""


@dataclass(frozen=True, slots=True)
class Failed:
    """No usable answer. `asked_at` and `now` are monotonic seconds."""

    why: str
    asked_at: float
    now: float


@dataclass(frozen=True, slots=True)
class Polled:
    """It named its newest block, and is of the right chain.

    Both are `reference_head` of its answer and what the others had: `known_before` when it was asked, which shows that
    it lags; `known_now` when it answered, which shows that it runs ahead.
    """

    head: int
    asked_at: float
    known_before: int
    known_now: int


@dataclass(frozen=True, slots=True)
class ForeignChain:
    """It says that it serves another chain."""

    chain_id: int


@dataclass(frozen=True, slots=True)
class Lied:
    """A quorum says something else about a state that cannot change any more."""

    what: str


Event: TypeAlias = Answered | Failed | Polled | ForeignChain | Lied


def step(health: Health, event: Event, *, max_lag: int, probation_polls: int = PROBATION_POLLS) -> Health:
    """What is known after `event`."""
    match event:
        case Answered():
            return _answered(health)
        case Failed():
            return _failed(health, event)
        case Polled():
            return _polled(health, event, max_lag, probation_polls)
        case ForeignChain():
            return _out(health, Fault.WRONG_CHAIN, f"it serves chain {event.chain_id}")
        case Lied():
            return _out(health, Fault.LIES, event.what)
        case _:
            assert_never(event)


def _answered(health: Health) -> Health:
    if not health.failures and not health.error_rate:  # the usual case, at every answer
        return health
    rate = health.error_rate * (1 - ERROR_WEIGHT)
    return replace(health, failures=0, error_rate=rate if rate > NO_ERROR_RATE else 0.0)


def _failed(health: Health, event: Failed) -> Health:
    if event.asked_at < health.failed_at:
        return health  # one broken connection fails all that wait on it: they are one failure
    rate = health.error_rate * (1 - ERROR_WEIGHT) + ERROR_WEIGHT
    failures = health.failures + 1
    failed = replace(health, failures=failures, failed_at=event.now, error_rate=rate, good_polls=0)
    match health.state:
        case NodeState.IN if failures >= MAX_FAILURES:
            return _out(failed, Fault.SILENT, event.why)
        case NodeState.IN if rate > MAX_ERROR_RATE:
            return _out(failed, Fault.ERRORS, event.why)
        case NodeState.IN:
            return failed
        case NodeState.PROBATION:
            return _out(failed, Fault.SILENT, event.why)
        case NodeState.OUT:
            keeps = health.fault in (Fault.WRONG_CHAIN, Fault.LIES)  # silence does not clear it of that
            return failed if keeps else _out(failed, Fault.SILENT, event.why)
        case _:
            assert_never(health.state)


def _polled(health: Health, event: Polled, max_lag: int, probation_polls: int) -> Health:
    health = _answered(health)
    if event.asked_at < health.head_asked_at:
        return health  # two questions were under way, and this is the answer to the older one
    health = replace(health, head=event.head, head_asked_at=event.asked_at)
    if event.head < event.known_before - max_lag:
        behind = event.known_before - event.head
        return _out(health, Fault.LAGGING, f"{behind} blocks behind {event.known_before}")
    if event.head > event.known_now + max_lag:
        health = replace(health, ahead_polls=health.ahead_polls + 1)
        if health.state is not NodeState.IN or health.ahead_polls >= AHEAD_POLLS:
            return _out(health, Fault.AHEAD, f"says {event.head}, most others {event.known_now}")
        return health
    if health.state is NodeState.IN:
        return replace(health, ahead_polls=0) if health.ahead_polls else health
    good = health.good_polls + 1
    if health.fault is Fault.NOT_ASKED or good >= probation_polls:
        return replace(health, state=NodeState.IN, fault=None, detail="", good_polls=0, ahead_polls=0, error_rate=0.0)
    return replace(health, state=NodeState.PROBATION, good_polls=good, ahead_polls=0)


def _out(health: Health, fault: Fault, detail: str) -> Health:
    return replace(health, state=NodeState.OUT, fault=fault, detail=detail, good_polls=0, ahead_polls=0)


# --- all nodes of a chain --------------------------------------------------------------------------------------------


def voting_heads(healths: Iterable[Health]) -> list[int]:
    """The heights of those that answer and are of the right chain, also while one is out for its height.

    A lone node that names an absurd height would otherwise push the honest ones out, and then decide alone.
    """
    return [each.head for each in healths if each.head is not None and _has_vote(each)]


def reference_head(heads: Iterable[int], max_lag: int) -> int | None:
    """The height that nodes are measured by: the highest one, unless a majority stands together below it.

    Two nodes have no majority against each other: the highest wins, and what they do not agree on is not proof.
    """
    heads = sorted(heads, reverse=True)
    for i, top in enumerate(heads):
        together = sum(1 for head in heads[i:] if head >= top - max_lag)
        if 2 * together > len(heads):
            return top
    return heads[0] if heads else None


def rank(
    healths: Sequence[Health], latencies_s: Sequence[float], *, max_lag: int, used: int | None = None
) -> list[int]:
    """Indices of the nodes that may be read from, best first: those in, highest first, then those on probation.

    With none in, everybody who has not disqualified himself. `used` is the one that was best before, and remains it
    unless another is clearly better.
    """
    reference = reference_head(voting_heads(healths), max_lag)
    tiers = [_tier(health, reference, max_lag) for health in healths]
    has_good = 0 in tiers
    usable = [i for i, tier in enumerate(tiers) if tier is not None and (tier <= 1 or not has_good)]
    order = sorted(
        usable, key=lambda i: (tiers[i], healths[i].failures > 0, -(healths[i].head or 0), latencies_s[i], i)
    )
    if used in order and used != order[0] and _may_stay(healths[used], tiers[used], healths[order[0]]):
        order.remove(used)
        order.insert(0, used)
    return order


def _may_stay(used: Health, tier: int | None, best: Health) -> bool:
    return tier == 0 and used.failures == 0 and (best.head or 0) - (used.head or 0) <= STICKY_BLOCKS


def _tier(health: Health, reference: int | None, max_lag: int) -> int | None:
    match health.state:
        case NodeState.IN:
            is_suspect = health.head is not None and reference is not None and health.head > reference + max_lag
            return None if is_suspect else 0
        case NodeState.PROBATION:
            return 1
        case NodeState.OUT:
            assert health.fault is not None
            return _LAST_RESORT.get(health.fault)
        case _:
            assert_never(health.state)


_LAST_RESORT = {Fault.NOT_ASKED: 2, Fault.LAGGING: 3, Fault.ERRORS: 4, Fault.SILENT: 4, Fault.WRONG_CHAIN: 5}
"""Who is tried when nobody is well. Each is asked for its chain again before it is believed; who lied is not asked."""


def _has_vote(health: Health) -> bool:
    return health.state is not NodeState.OUT or health.fault in (Fault.LAGGING, Fault.AHEAD)

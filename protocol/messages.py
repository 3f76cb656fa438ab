"""The messages of a link, one struct each. `protocol/README.md` is the document, `codec` turns them into frames.

All are frozen, tagged by `type`, and refuse unknown fields. Times are UTC. No floats, no untyped values.
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, TypeAlias

import msgspec
from msgspec import Meta, Struct

from protocol.actions import Name, Outcome
from protocol.limits import (
    MAX_ATTEMPT,
    MAX_GRACE_MS,
    MAX_JOBS,
    MAX_LOG_MESSAGE_LENGTH,
    MAX_NAME_LENGTH,
    MAX_PAYLOAD_LENGTH,
    MAX_READS,
    MAX_SOURCE_LENGTH,
    MAX_STATE_KEY_LENGTH,
    MAX_STATE_VALUE_LENGTH,
    MAX_STATE_WRITES,
    MAX_TEXT_LENGTH,
    MAX_TOPIC_BYTES,
    MAX_TRACEBACK_LENGTH,
    MAX_TRIGGERS,
)
from protocol.trigger import DEFAULT_JOB
from protocol.triggers import Read, Trigger
from protocol.values import Value

Id: TypeAlias = Annotated[int, Meta(ge=1, le=(1 << 63) - 1)]
Attempt: TypeAlias = Annotated[int, Meta(ge=1, le=MAX_ATTEMPT)]
Version: TypeAlias = Annotated[int, Meta(ge=1, le=(1 << 31) - 1)]
Utc: TypeAlias = Annotated[datetime, Meta(tz=True)]
Reason: TypeAlias = Annotated[str, Meta(max_length=MAX_TEXT_LENGTH)]
StateKey: TypeAlias = Annotated[str, Meta(min_length=1, max_length=MAX_STATE_KEY_LENGTH)]
StateValue: TypeAlias = Annotated[str, Meta(max_length=MAX_STATE_VALUE_LENGTH)]
"""JSON text as the plugin's SDK encoded it: opaque to the supervisor, compared byte for byte."""

Param: TypeAlias = bool | int | str | list[bool | int | str] | dict[str, bool | int | str | list[bool | int | str]]


class Message(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type"):
    """Root of everything that travels on a link."""


class TriggerKind(StrEnum):
    CRON = "cron"
    EVENT = "event"
    BLOCK = "block"
    LOG = "log"
    METRIC = "metric"
    WEBHOOK = "webhook"
    CUSTOM = "custom"
    MANUAL = "manual"
    ANSWER = "answer"
    """What the supervisor itself decided: the answer to a call of a chain. No worker is given it."""


class LogLevel(StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


# --- opening -------------------------------------------------------------------------------------------------------


class Hello(Message, frozen=True, tag="hello"):
    """Worker → supervisor, first: the plugin is imported, and this is what it declares of itself."""

    version: Version
    generation: Id
    plugin: Name
    vault: Annotated[str, Meta(max_length=MAX_NAME_LENGTH)]
    triggers: Annotated[tuple[Trigger, ...], Meta(max_length=MAX_TRIGGERS)]
    reads: Annotated[tuple[Read, ...], Meta(max_length=MAX_READS)]
    digest: Annotated[str, Meta(pattern=r"^sha256:[0-9a-f]{64}\Z")]
    jobs: Annotated[tuple[Name, ...], Meta(min_length=1, max_length=MAX_JOBS)] = (DEFAULT_JOB,)


class Welcome(Message, frozen=True, tag="welcome"):
    """Supervisor → worker: the Hello is accepted; calls may follow. Carries the plugin's `params`."""

    params: dict[str, Param]


class Refused(Message, frozen=True, tag="refused"):
    """Either way, last: this side will not go on. A worker sends it when the plugin cannot be loaded."""

    reason: Annotated[str, Meta(max_length=MAX_TRACEBACK_LENGTH)]


# --- a call --------------------------------------------------------------------------------------------------------


class BlockRef(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The block at which all reads of a call were taken."""

    number: Annotated[int, Meta(ge=0)]
    hash: str
    timestamp: Annotated[int, Meta(ge=0)]


class Origin(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a call comes from: which of the plugin's triggers fired (`source`), for what (`id`, once per plugin), and
    on whose word. `block` is the one that a chain's trigger is about.
    """

    source: Annotated[str, Meta(max_length=MAX_SOURCE_LENGTH)]
    id: Annotated[str, Meta(max_length=MAX_SOURCE_LENGTH)]
    principal: Annotated[str, Meta(max_length=MAX_SOURCE_LENGTH)]
    block: BlockRef | None = None


class Call(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The JobCall as its plugin sees it. `attempt` counts from 1 and grows when a call ended its worker.

    `is_dry_run`: nothing of what is decided will be done, and no state be kept.
    """

    id: Id
    attempt: Attempt
    trigger: TriggerKind
    topic: Annotated[str, Meta(max_length=MAX_TOPIC_BYTES)] | None
    payload: Annotated[str, Meta(max_length=MAX_PAYLOAD_LENGTH)]
    due_at: Utc
    fired_at: Utc
    origin: Origin
    job: Name = DEFAULT_JOB
    is_dry_run: bool = False

    def json(self) -> Any:
        """The payload read as JSON. Raises msgspec.DecodeError (a ValueError) when it is not."""
        return msgspec.json.decode(self.payload)


class VaultRef(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The vault that a plugin acts for, and the names of the actions granted there."""

    name: str
    address: str
    chain_id: int
    actions: tuple[str, ...]


class Decide(Message, frozen=True, tag="decide"):
    """Supervisor → worker: decide now. The whole context; the ledger stores exactly this frame, for replay."""

    call: Call
    now: Utc
    block: BlockRef
    vault: VaultRef
    reads: dict[str, Value]


class StatePut(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="put", tag_field="kind"):
    """Set a key when the Decision commits."""

    key: StateKey
    value: StateValue


class StateDelete(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="delete", tag_field="kind"):
    """Remove a key when the Decision commits."""

    key: StateKey


StateWrite: TypeAlias = StatePut | StateDelete


class Decision(Message, frozen=True, tag="decision"):
    """Worker → supervisor: what `decide` returned, and the state writes that commit with it."""

    call_id: Id
    attempt: Attempt
    outcome: Outcome
    state_writes: Annotated[tuple[StateWrite, ...], Meta(max_length=MAX_STATE_WRITES)] = ()


class DecideFailed(Message, frozen=True, tag="decide_failed"):
    """Worker → supervisor: `decide` raised, or returned something that is not a Decision. Not a crash."""

    call_id: Id
    attempt: Attempt
    error: Reason
    traceback: Annotated[str, Meta(max_length=MAX_TRACEBACK_LENGTH)]


# --- state ---------------------------------------------------------------------------------------------------------


class StateGet(Message, frozen=True, tag="state_get"):
    """Worker → supervisor: the committed value of a key."""

    request_id: Id
    key: StateKey


class StateCompareAndSet(Message, frozen=True, tag="state_compare_and_set"):
    """Worker → supervisor: set `key` to `value` now, if its value is `expected` (None: absent, or remove)."""

    request_id: Id
    key: StateKey
    expected: StateValue | None
    value: StateValue | None


class StateReply(Message, frozen=True, tag="state_reply"):
    """Supervisor → worker. To a get: the committed value, None when absent. To a compare-and-set: `is_swapped` says
    whether it took place; `value` is then the new one, and None otherwise (it does not tell what stood in the way).
    """

    request_id: Id
    value: StateValue | None
    is_swapped: bool = False


class StateRefused(Message, frozen=True, tag="state_refused"):
    """Supervisor → worker: a state request was not carried out, and why."""

    request_id: Id
    reason: Reason


# --- the rest ------------------------------------------------------------------------------------------------------


class LogRecord(Message, frozen=True, tag="log"):
    """Worker → supervisor: one `ctx.log` line. Fields, not a pickle."""

    level: LogLevel
    message: Annotated[str, Meta(max_length=MAX_LOG_MESSAGE_LENGTH)]
    call_id: Id | None = None


class Ping(Message, frozen=True, tag="ping"):
    """Supervisor → worker: is your event loop alive?"""

    nonce: Id


class Pong(Message, frozen=True, tag="pong"):
    """Worker → supervisor: the answer to a Ping, with its nonce."""

    nonce: Id


class Stop(Message, frozen=True, tag="stop"):
    """Supervisor → worker: take no more calls, finish those that run within `grace_ms`, exit 0."""

    grace_ms: Annotated[int, Meta(ge=0, le=MAX_GRACE_MS)]


FromWorker: TypeAlias = Hello | Refused | Decision | DecideFailed | StateGet | StateCompareAndSet | LogRecord | Pong
FromSupervisor: TypeAlias = Welcome | Refused | Decide | StateReply | StateRefused | Ping | Stop

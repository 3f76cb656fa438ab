"""What the http process may ask of the supervisor, and what it is told: typed, bounded, the same on both ends.

The process is where strangers' bytes arrive, so it is not believed: each question about calls carries the caller's
credential, which the supervisor checks. Without one a question is worth what anybody may know: the three pages.
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final, Literal, TypeAlias

import msgspec
from msgspec import Meta, Struct

from protocol.limits import MAX_PAYLOAD_LENGTH
from protocol.names import Name
from protocol.trigger import DEFAULT_JOB

MAX_BODY_BYTES: Final = MAX_PAYLOAD_LENGTH
"""Bytes, where the ledger counts characters: whoever fits here fits there."""
MAX_QUESTION_BYTES: Final = 2 << 20
"""JSON takes up to six bytes for one of a body."""
MAX_ANSWER_BYTES: Final = 64 << 20
"""The metrics of a thousand plugins take 2 MiB."""
MAX_WAIT_S: Final = 60.0
MAX_KEY_LENGTH: Final = 200
OUTCOMES: Final = ("acted", "noop", "denied", "failed", "expired", "dead")
"""Of calls: `store.calls.JobOutcome`, which this side does not import (a test compares them)."""

IdempotencyKey: TypeAlias = Annotated[str, Meta(max_length=MAX_KEY_LENGTH, pattern=r"^[!-~]*\Z")]
"""May be empty. Without a line break, as names are: what is signed has one meaning only."""
CallId: TypeAlias = Annotated[int, Meta(ge=1, le=(1 << 63) - 1)]
Wait: TypeAlias = Annotated[float, Meta(ge=0, le=MAX_WAIT_S)]


class _Message(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type"):
    """Root of all."""


# --- who asks --------------------------------------------------------------------------------------------------------


class Bearer(_Message, frozen=True, tag="bearer"):
    """The secret itself, as it came."""

    token: Annotated[str, Meta(max_length=256)]


class Signature(_Message, frozen=True, tag="signature"):
    """A proof of having the secret, made at `at` (Unix seconds) over what is asked: see `webhooks.keys.content_of`."""

    key: Name
    at: Annotated[int, Meta(ge=0, le=1 << 40)]
    digest: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


Credential: TypeAlias = Bearer | Signature


# --- questions -------------------------------------------------------------------------------------------------------


class GetPage(_Message, frozen=True, tag="page"):
    """One of the pages that anybody may see."""

    word: Literal["metrics", "health", "ready"]


class MakeCall(_Message, frozen=True, tag="make"):
    """Make a JobCall. The same `idempotency_key` is the same call."""

    credential: Credential
    plugin: Name
    job: Name = DEFAULT_JOB
    payload: Annotated[str, Meta(max_length=MAX_PAYLOAD_LENGTH)] = ""
    idempotency_key: IdempotencyKey = ""
    wait_s: Wait = 0.0


class GetCall(_Message, frozen=True, tag="call"):
    """What has become of a call."""

    credential: Credential
    call_id: CallId
    wait_s: Wait = 0.0


class GetEvents(_Message, frozen=True, tag="events"):
    """The outcomes after position `after`, or from now on; waits for the first. `is_opening`: of a new listener."""

    credential: Credential
    plugin: Name | None = None
    after: Annotated[int, Meta(ge=0, le=(1 << 63) - 1)] | None = None
    wait_s: Wait = 0.0
    is_opening: bool = False


Question: TypeAlias = GetPage | MakeCall | GetCall | GetEvents


# --- answers ---------------------------------------------------------------------------------------------------------


class Page(_Message, frozen=True, tag="page_answer"):
    """A page. The content type `metrics` stands for Prometheus' own."""

    status: int
    content_type: str
    body: str


class CallView(_Message, frozen=True, tag="call_answer"):
    """A call, as its caller may see it: no payload."""

    id: int
    plugin: str
    job: str
    state: str
    outcome: str | None
    reason: str | None
    transaction: str | None
    created_at: datetime
    finished_at: datetime | None
    is_new: bool = False


class Outcome(Struct, frozen=True, kw_only=True):
    """One finished call, at its position among all that ever finished."""

    position: int
    call: CallView


class Events(_Message, frozen=True, tag="events_answer"):
    """Outcomes, oldest first, and the position up to which there are no more."""

    outcomes: list[Outcome]
    position: int


class Why(StrEnum):
    """Kinds of refusals. `http.problems` has a status and words for each."""

    INVALID = "invalid"
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not-found"
    KEY_REUSED = "idempotency-key-reused"
    RATE_LIMITED = "rate-limited"
    UNAVAILABLE = "unavailable"


class Refusal(_Message, frozen=True, tag="refusal"):
    """It is not done; `detail` says why and what to do, `retry_after_s` when it may be tried again."""

    why: Why
    detail: str
    retry_after_s: int | None = None


Answer: TypeAlias = Page | CallView | Events | Refusal


# --- on the wire -----------------------------------------------------------------------------------------------------


class Asked(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A question with its number."""

    number: Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
    question: Question


class Answered(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The answer to the question of this number."""

    number: int
    answer: Answer


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that the http process is told of the configuration; the listening socket comes with it."""

    tls_cert: str | None
    tls_key: str | None
    log_level: str


encode = msgspec.json.Encoder().encode
decode_asked = msgspec.json.Decoder(Asked).decode
decode_answered = msgspec.json.Decoder(Answered).decode
decode_settings = msgspec.json.Decoder(Settings).decode

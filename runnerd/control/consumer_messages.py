"""Requests and replies of `runnerctl consumers`, and what `status` says of one. Part of `control.messages`."""

from datetime import datetime
from typing import Annotated, TypeAlias

from msgspec import Meta, Struct

from runnerd.control.message import Message

MAX_LETTERS = 1_000
CallIds: TypeAlias = Annotated[
    list[Annotated[int, Meta(ge=1, le=(1 << 63) - 1)]], Meta(min_length=1, max_length=MAX_LETTERS)
]


class GetConsumers(Message, frozen=True, tag="consumers"):
    """Who hears of results, and how far is each?"""


class GetDeadLetters(Message, frozen=True, tag="dead_letters"):
    """What was given up, newest first; of one consumer or of all."""

    consumer: str | None = None
    limit: Annotated[int, Meta(ge=1, le=MAX_LETTERS)] = 20


class RetryDeadLetters(Message, frozen=True, tag="retry_dead_letters"):
    """Hand the results of these calls over once more; None: all that were given up."""

    consumer: str
    call_ids: CallIds | None = None


class DropDeadLetters(Message, frozen=True, tag="drop_dead_letters"):
    """Forget them."""

    consumer: str
    call_ids: CallIds | None = None


class ForgetConsumer(Message, frozen=True, tag="forget_consumer"):
    """Forget the place and the dead letters of one that is not configured any more."""

    consumer: str


ConsumerRequest: TypeAlias = GetConsumers | GetDeadLetters | RetryDeadLetters | DropDeadLetters | ForgetConsumer


class ConsumerStatus(Struct, frozen=True, kw_only=True):
    """One consumer. `waiting`: results that it has not heard of; `dead`: that were given up; `moved_at`: when it last
    heard of one. `kind` is "" for one that is not configured any more."""

    name: str
    kind: str
    waiting: int
    dead: int
    moved_at: datetime | None
    trouble: str | None


class Consumers(Message, frozen=True, tag="consumers_reply"):
    """All of them."""

    now: datetime
    consumers: list[ConsumerStatus]


class DeadLetter(Struct, frozen=True, kw_only=True):
    """A result that a consumer does not hear of. `is_wanted`: it is handed over once more."""

    consumer: str
    call_id: int
    plugin: str
    outcome: str
    attempts: int
    reason: str
    at: datetime
    is_wanted: bool


class DeadLetters(Message, frozen=True, tag="dead_letters_reply"):
    """Newest first."""

    letters: list[DeadLetter]


ConsumerReply: TypeAlias = Consumers | DeadLetters

"""Request and reply of `runnerctl outbox`: how far each plugin has come. Part of `control.messages`."""

from datetime import datetime

from msgspec import Struct

from runnerd.control.message import Message


class GetOutbox(Message, frozen=True, tag="outbox"):
    """Who follows the outbox, and what waits for whom?"""


class FollowerStatus(Struct, frozen=True, kw_only=True):
    """A plugin on a topic. `position`: the last event that it has seen. `events` wait for it, the first `since` then;
    None when the outbox does not answer."""

    plugin: str
    topic: str
    position: int | None
    events: int | None
    since: datetime | None
    waits_for: str = ""
    """What keeps it, if events wait."""


class Outbox(Message, frozen=True, tag="outbox_reply"):
    """All followers. `trouble`: why the outbox is not read now."""

    now: datetime
    followers: list[FollowerStatus]
    trouble: str | None = None

"""Positions in an outbox: how they are kept, and how an outbox is recognised that was set back."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runnerd.triggers.outbox_position import (
    Head,
    Position,
    end_of,
    from_text,
    key_of,
    plugin_of,
    setback,
    to_text,
    topic_of,
)

AT = datetime(2026, 1, 1, 12, 0, 0, 123456, tzinfo=UTC)
ONE, OTHER = "0b9b6b3c-one", "77777777-other"


@given(
    id_=st.integers(0, (1 << 63) - 1),
    at=st.none() | st.datetimes(datetime(2000, 1, 1), datetime(2999, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
)
def test_position_survives_the_ledger(id_: int, at: datetime | None) -> None:
    """To the microsecond: that is what tells two events of one id apart."""
    position = Position(outbox=ONE, id=id_, at=at)
    assert from_text(to_text(position)) == position


@pytest.mark.parametrize("topic", ["flow", "two words", " x "])
def test_key_tells_plugin_and_topic(topic: str) -> None:
    """A topic may have spaces."""
    key = key_of("alpha.1", topic)
    assert (plugin_of(key), topic_of(key)) == ("alpha.1", topic)


def test_new_follower_begins_at_the_end() -> None:
    """At the last event that can be seen, not at the last id that was given: the one between may be on its way."""
    assert end_of(Head(outbox=ONE, given=9, newest=7)) == Position(outbox=ONE, id=7)


@pytest.mark.parametrize(
    "position,given_,created_at,says",
    [
        (Position(outbox=ONE, id=7, at=AT), 7, AT, None),
        (Position(outbox=ONE, id=7, at=AT), 7, None, None),
        (Position(outbox=ONE, id=7, at=AT), 900, AT, None),
        (Position(outbox=ONE, id=0), 0, None, None),
        (Position(outbox=OTHER, id=900, at=AT), 7, None, None),
        (Position(outbox=ONE, id=8, at=AT), 7, None, "no id above 7"),
        (Position(outbox=ONE, id=7, at=AT), 9, AT + timedelta(microseconds=1), "another one"),
    ],
)
def test_setback_is_recognised(position: Position, given_: int, created_at: datetime | None, says: str | None) -> None:
    """By ids that are not given yet, or another event of the same id; never of another outbox, or of a pruned one."""
    found = setback(position, Head(outbox=ONE, given=given_, newest=5), created_at)
    assert found is None if says is None else found is not None and says in found

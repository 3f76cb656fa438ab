"""From events to calls: which triggers, which payload, how many fit."""

import json
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from protocol.limits import MAX_PAYLOAD_LENGTH, MAX_SOURCE_LENGTH
from protocol.triggers import Event
from runnerd.triggers.outbox_calls import Examined, Wanted, calls_of, examine, identity_of
from runnerd.triggers.outbox_link import Row
from tests.support.virtual_time import EPOCH

OUTBOX = "0b9b6b3c-1111-2222-3333-444455556666"
CREATED = EPOCH - timedelta(hours=3)
BUY = Event(topic="flow", mode="outbox", where={"side": "buy"})
ALL = Event(topic="flow", mode="outbox")
SETTLE = Event(topic="flow", mode="outbox", job="settle")


def wanted(*triggers: Event) -> Wanted:
    return Wanted(plugin="alpha", topic="flow", triggers=triggers, call_deadline=timedelta(seconds=60))


def row(number: int, payload: str | None = "", size: int = 0, key: str | None = None) -> Row:
    return Row(id=number, key=key, payload=payload, size=size, created_at=CREATED)


def event(number: int, payload: str = "") -> Examined:
    return examine(row(number, payload), None, is_filtered=True)


def test_call_tells_where_it_comes_from_and_when() -> None:
    """Due when the event was created, which may be long ago; its deadline begins when it is taken."""
    (call,), count = calls_of(wanted(ALL), [event(7, "x")], OUTBOX, 10, EPOCH)
    assert count == 1
    assert (call.identity, call.principal) == ("outbox 0b9b6b3c flow 7", "outbox:flow")
    assert (call.topic, call.payload, call.source) == ("flow", "x", "outbox flow")
    assert (call.due_at, call.fired_at, call.deadline_at) == (CREATED, EPOCH, EPOCH + timedelta(seconds=60))
    assert call.is_owed


def test_each_trigger_has_an_identity_of_its_own() -> None:
    """Two of one plugin on one topic: an event for both is two calls. Short, whatever they filter."""
    long = Event(topic="flow", mode="outbox", where={f"n{n}": "x" * 500 for n in range(32)})
    identities = [identity_of(trigger, OUTBOX, 7) for trigger in (ALL, BUY, SETTLE, long)]
    assert len(set(identities)) == 4
    assert max(map(len, identities)) < 200
    made, _ = calls_of(wanted(ALL, BUY, SETTLE), [event(7, '{"side": "buy"}')], OUTBOX, 10, EPOCH)
    assert [call.job for call in made] == ["decide", "decide", "settle"]
    assert [call.identity for call in made] == identities[:3]
    assert identity_of(ALL, "f" * 36, 7) not in identities


def test_events_of_one_key_are_a_source_of_their_own() -> None:
    """What overlaps is told by it; the identity is the event's alone. It fits into a frame."""
    longest = Event(topic="x" * 63, mode="outbox", where={f"n{n}": "x" * 500 for n in range(32)}, job="j" * 64)
    keyed = [examine(row(number, key=key), None, is_filtered=False) for number, key in ((1, "a"), (2, "b"), (3, None))]
    made, _ = calls_of(wanted(ALL), keyed, OUTBOX, 10, EPOCH)
    assert [call.source for call in made] == ["outbox flow key a", "outbox flow key b", "outbox flow"]
    event = replace(examine(row(1, key="k" * 500), None, is_filtered=True), is_unread=True)
    (call,), _ = calls_of(wanted(longest), [event], OUTBOX, 10, EPOCH)
    assert len(call.source) <= MAX_SOURCE_LENGTH


def test_what_nobody_wants_is_passed() -> None:
    """It takes no room."""
    events = [event(1, '{"side": "sell"}'), event(2, "not JSON"), event(3, '{"side": "buy"}'), event(4)]
    made, count = calls_of(wanted(BUY), events, OUTBOX, 1, EPOCH)
    assert ([call.payload for call in made], count) == (['{"side": "buy"}'], 4)
    assert calls_of(wanted(BUY), events, OUTBOX, 0, EPOCH) == ([], 2)


@given(
    sides=st.lists(st.sampled_from(["buy", "sell"]), max_size=30),
    room=st.integers(0, 12),
    triggers=st.sampled_from([(ALL,), (BUY,), (ALL, BUY), (ALL, BUY, SETTLE)]),
)
def test_taken_in_rooms_of_any_size_nothing_is_lost_doubled_or_disordered(
    sides: list[str], room: int, triggers: tuple[Event, ...]
) -> None:
    """Each time as many whole events as fit, at least one: together they are what one large room would take."""
    events = [event(number, json.dumps({"side": side})) for number, side in enumerate(sides, 1)]
    whole, count = calls_of(wanted(*triggers), events, OUTBOX, 1_000, EPOCH)
    assert count == len(events)
    taken, rest = [], events
    for _ in range(len(events) + 1):
        made, count = calls_of(wanted(*triggers), rest, OUTBOX, room, EPOCH)
        assert len(made) <= max(room, len(triggers) if room else 0)
        taken += made
        rest = rest[count:]
        if room and rest:
            assert count
    if room:
        assert [call.identity for call in taken] == [call.identity for call in whole]
        ids = [int(call.identity.split()[3]) for call in taken]
        assert all(first <= second for first, second in pairwise(ids))
    else:
        assert taken == []


def test_largest_payload_is_carried_whole() -> None:
    """In characters, as the wire counts."""
    payload = "ü" * MAX_PAYLOAD_LENGTH
    found = examine(row(1, payload, 2 * MAX_PAYLOAD_LENGTH), None, is_filtered=False)
    assert (found.carried, found.is_large) == (payload, False)


def test_larger_payload_is_carried_as_a_reference_and_still_filtered() -> None:
    """Whether it came with its row, or was read alone."""
    payload = json.dumps({"side": "buy", "x": "y" * MAX_PAYLOAD_LENGTH})
    for found in (
        examine(row(5, payload, len(payload)), None, is_filtered=True),
        examine(row(5, None, len(payload)), payload, is_filtered=True),
    ):
        assert (found.is_large, found.is_unread) == (True, False)
        assert msgspec.json.decode(found.carried) == {"outbox_event": 5, "payload_bytes": len(payload)}
        sell = Event(topic="flow", mode="outbox", where={"side": "sell"})
        made, _ = calls_of(wanted(BUY, sell), [found], OUTBOX, 10, EPOCH)
        assert [call.payload for call in made] == [found.carried]


def test_payload_that_nobody_looks_into_passes_every_filter() -> None:
    """A plugin can do without an event that it did not want, not without one that it did."""
    found = examine(row(5, None, 1 << 30), None, is_filtered=True)
    assert found.is_unread
    made, _ = calls_of(wanted(BUY), [found], OUTBOX, 10, EPOCH)
    assert [call.payload for call in made] == [found.carried]

"""Hypothesis strategies: any valid message of the wire, and JSON that is nearly one."""

import string
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

from protocol.actions import Act, Action, Noop, is_blank
from protocol.expectations import BalanceChange, SharePrice
from protocol.limits import (
    INT_MAX,
    INT_MIN,
    MAX_ACTIONS,
    MAX_ARRAY_LENGTH,
    MAX_ATTEMPT,
    MAX_CHANGE_BPS,
    MAX_EXPECTATIONS,
    MAX_GRACE_MS,
    MAX_NAME_LENGTH,
    MAX_STATE_KEY_LENGTH,
    MAX_TEXT_LENGTH,
    MAX_TOPIC_BYTES,
    PROTOCOL_VERSION,
)
from protocol.messages import (
    BlockRef,
    Call,
    Decide,
    DecideFailed,
    Decision,
    Hello,
    LogLevel,
    LogRecord,
    Message,
    Origin,
    Ping,
    Pong,
    Refused,
    StateCompareAndSet,
    StateDelete,
    StateGet,
    StatePut,
    StateRefused,
    StateReply,
    Stop,
    TriggerKind,
    VaultRef,
    Welcome,
)
from protocol.triggers import Block, Cron, Custom, Event, Log, Metric, Read, Webhook
from protocol.values import Value

THOROUGH = settings(max_examples=100, deadline=None)
QUICK = settings(max_examples=25, deadline=None)

# Every character that UTF-8 has: no surrogates. The interesting ones come more often than by chance.
_any_character = st.characters(exclude_categories=["Cs"])
_odd_character = st.sampled_from('\x00\x1b\n"\\/\x7f\u0085\u200b\u2028\u202e\ufeff\uffff\U0001f600\U0010ffff')
_character = _odd_character | _any_character


def texts(max_size: int, min_size: int = 0) -> st.SearchStrategy[str]:
    """Text of any characters; now and then as long as it may be."""
    short = st.text(_character, min_size=min_size, max_size=min(max_size, min_size + 12))
    return short | st.sampled_from("x\u00e9\U0001f600\x01").map(lambda c: c * max_size)


names = st.builds(
    lambda first, rest: first + rest,
    st.sampled_from(string.ascii_letters + "_"),
    st.text(string.ascii_letters + string.digits + "_.-", max_size=8) | st.just("z" * (MAX_NAME_LENGTH - 1)),
)
integers = st.integers(INT_MIN, INT_MAX) | st.sampled_from([INT_MIN, INT_MAX, -1, 0, 1, 2**63, 2**64, 2**255])
_scalars: st.SearchStrategy[Any] = st.booleans() | integers | texts(60)


def _lists(items: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(items, max_size=3) | st.just([1] * MAX_ARRAY_LENGTH)


values: st.SearchStrategy[Value] = _scalars | _lists(_scalars | _lists(_scalars | _lists(_scalars)))
ids = st.integers(1, 2**63 - 1)
attempts = st.integers(1, MAX_ATTEMPT)
naturals = st.integers(0, INT_MAX)
times = st.datetimes(min_value=datetime(1, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  # the zone is the next word
block_refs = st.builds(BlockRef, number=naturals, hash=texts(66), timestamp=naturals)
reasons = texts(MAX_TEXT_LENGTH)
state_keys = texts(MAX_STATE_KEY_LENGTH, min_size=1)
state_values = texts(200)
topics = st.text(_character.filter(lambda c: c != "\x00"), min_size=1).map(
    lambda text: text.encode()[:MAX_TOPIC_BYTES].decode(errors="ignore")
)
arguments = st.dictionaries(names, values, max_size=3)

actions = st.builds(Action, names, arguments, st.integers(0, INT_MAX))
tokens = st.none() | st.binary(min_size=20, max_size=20).map(lambda address: f"0x{address.hex()}")
_bounds = st.tuples(integers, integers).map(sorted)
balance_changes = st.builds(
    lambda token, bounds, open_end: BalanceChange(
        token, None if open_end == "below" else bounds[0], None if open_end == "above" else bounds[1]
    ),
    tokens,
    _bounds,
    st.sampled_from(["below", "above", "none"]),
)
few_arguments = st.dictionaries(names, _scalars, max_size=3)
share_prices = st.builds(SharePrice, names, st.integers(0, MAX_CHANGE_BPS), few_arguments)
expectations = st.lists(balance_changes | share_prices, max_size=MAX_EXPECTATIONS)
acts = st.builds(Act, st.lists(actions, min_size=1, max_size=MAX_ACTIONS), expectations)
noops = st.builds(Noop, reasons.filter(lambda text: not is_blank(text)))
outcomes = acts | noops
intervals = st.integers(50, 366 * 86_400_000).map(lambda milliseconds: Decimal(milliseconds) / 1000)
crons = st.builds(Cron, every_seconds=intervals) | st.builds(Cron, expression=texts(200, 1), timezone=texts(64, 1))
_where = st.dictionaries(texts(40, 1), st.booleans() | st.integers(INT_MIN, INT_MAX) | texts(40), max_size=3)
_addresses = st.binary(min_size=20, max_size=20).map(lambda address: f"0x{address.hex()}")
_chains = st.none() | texts(64, 1)
_confirmations = st.integers(0, 10_000)
triggers = (
    crons
    | st.builds(Event, topic=topics, mode=st.sampled_from(["notify", "outbox"]), where=_where, job=names)
    | st.builds(Block, chain=_chains, every=st.integers(1, 1_000_000), confirmations=_confirmations)
    | st.builds(
        Log,
        addresses=st.lists(_addresses, min_size=1, max_size=3).map(tuple),
        event=texts(200, 1),
        where=_where,
        chain=_chains,
        confirmations=_confirmations,
    )
    | st.builds(Metric, read=st.builds(Read, names), above=integers, hysteresis=st.integers(0, INT_MAX))
    | st.builds(Webhook, overlap=st.sampled_from(["parallel", "skip", "queue", "coalesce"]))
    | st.builds(Custom, producer=names, options=_where)
)
reads = st.builds(Read, names, arguments, st.none() | names)
state_writes = st.builds(StatePut, key=state_keys, value=state_values) | st.builds(StateDelete, key=state_keys)
_plain_params: st.SearchStrategy[Any] = st.booleans() | st.integers(-(10**30), 10**30) | texts(40)
_params = _plain_params | st.lists(_plain_params, max_size=3)

MESSAGES: dict[type[Message], st.SearchStrategy[Message]] = {
    Hello: st.builds(
        Hello,
        version=st.just(PROTOCOL_VERSION),
        generation=ids,
        plugin=names,
        vault=texts(MAX_NAME_LENGTH),
        triggers=st.lists(triggers, max_size=4).map(tuple),
        reads=st.lists(reads, max_size=4).map(tuple),
        digest=st.binary(min_size=32, max_size=32).map(lambda digest: f"sha256:{digest.hex()}"),
    ),
    Welcome: st.builds(
        Welcome,
        params=st.dictionaries(texts(20), _params | st.dictionaries(texts(20), _params, max_size=3), max_size=4),
    ),
    Refused: st.builds(Refused, reason=texts(16_000)),
    Decide: st.builds(
        Decide,
        call=st.builds(
            Call,
            id=ids,
            attempt=attempts,
            trigger=st.sampled_from(TriggerKind),
            topic=st.none() | topics,
            payload=texts(100),
            due_at=times,
            fired_at=times,
            origin=st.builds(
                Origin, source=texts(100), id=texts(100), principal=texts(100), block=st.none() | block_refs
            ),
            job=names,
        ),
        now=times,
        block=block_refs,
        vault=st.builds(
            VaultRef,
            name=texts(64),
            address=texts(42),
            chain_id=integers,
            actions=st.lists(names, max_size=4).map(tuple),
        ),
        reads=st.dictionaries(names, values, max_size=4),
    ),
    Decision: st.builds(
        Decision,
        call_id=ids,
        attempt=attempts,
        outcome=outcomes,
        state_writes=st.lists(state_writes, max_size=4).map(tuple),
    ),
    DecideFailed: st.builds(DecideFailed, call_id=ids, attempt=attempts, error=reasons, traceback=texts(16_000)),
    StateGet: st.builds(StateGet, request_id=ids, key=state_keys),
    StateCompareAndSet: st.builds(
        StateCompareAndSet,
        request_id=ids,
        key=state_keys,
        expected=st.none() | state_values,
        value=st.none() | state_values,
    ),
    StateReply: st.builds(StateReply, request_id=ids, value=st.none() | state_values, is_swapped=st.booleans()),
    StateRefused: st.builds(StateRefused, request_id=ids, reason=reasons),
    LogRecord: st.builds(LogRecord, level=st.sampled_from(LogLevel), message=texts(4_000), call_id=st.none() | ids),
    Ping: st.builds(Ping, nonce=ids),
    Pong: st.builds(Pong, nonce=ids),
    Stop: st.builds(Stop, grace_ms=st.integers(0, MAX_GRACE_MS)),
}

NASTY_TOKENS = [
    b"null", b"true", b"1.5", b"1.0", b"-0.0", b"1e3", b"1e400", b"-1e-400", b"NaN", b"-Infinity", b"9" * 4300,
    b"9" * 5000, b"-" + b"9" * 20_000, str(2**256).encode(), str(-(2**255) - 1).encode(), b"0x10", b"01", b"+1",
    b'"NaN"', b'"sNaN123"', b'"-Infinity"', b'"1e999999999"', b'"0.5000000000000000000000000000000001"', b'""',
    b'" "', b'"\\u200b\\u3164"', b'"\\ud800"', b'"\\udfff\\ud800"', b'"\xed\xa0\x80"', b'"\xff"', b'"\\x"', b'"\x01"',
    b'"' + b"x" * 20_000 + b'"', b"[]", b"{}", b"[" * 5_000, b"[" * 900 + b"]" * 900, b'{"a":' * 5_000, b"[[[[1]]]]",
    b'{"type":"pong"}', b'{"kind":"noop","reason":"x"}', b"/**/1", b"\xef\xbb\xbf1", b"1,1", b"1}", b"",
]  # fmt: skip
"""Where a JSON value is expected: things that break number, text and nesting rules of one parser or another."""


def acting(args: dict[str, Any]) -> Decision:
    """The smallest Decision that acts."""
    return Decision(call_id=1, attempt=1, outcome=Act(actions=(Action("a", args),)))

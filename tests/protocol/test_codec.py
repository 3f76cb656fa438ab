"""Whatever arrives is a message or a ProtocolError; never another exception, never half a message."""

import json
import math
import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.actions import Act, Action, Noop
from protocol.codec import decode_from_supervisor, decode_from_worker, encode
from protocol.errors import ProtocolError
from protocol.limits import (
    MAX_ACTIONS,
    MAX_FRAME_BYTES,
    MAX_STATE_WRITES,
    MAX_VALUES_PER_ACTION,
    MAX_VALUES_PER_FRAME,
    PROTOCOL_VERSION,
)
from protocol.messages import Decision, LogLevel, LogRecord, Message, Pong, StateDelete, StateGet, StatePut
from tests.protocol.golden import SUPERVISOR_FRAMES, WORKER_FRAMES
from tests.protocol.strategies import NASTY_TOKENS, THOROUGH, acting

DECODERS: dict[str, Callable[[bytes], Message]] = {
    "worker": decode_from_worker,
    "supervisor": decode_from_supervisor,
}
FRAMES = [frame for _, frame in [*WORKER_FRAMES.values(), *SUPERVISOR_FRAMES.values()]]
TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*|true|false|null|[\[\]{}:,]')

senders = pytest.mark.parametrize("sender", DECODERS)
any_frame = st.sampled_from(FRAMES)


def check(sender: str, frame: bytes) -> None:
    """The whole promise of a decoder, for any bytes: a refusal fit for a terminal, or a message that can be sent on."""
    decode = DECODERS[sender]
    try:
        message = decode(frame)
    except ProtocolError as refusal:
        text = str(refusal)
    else:
        assert decode(encode(message)) == message
        return
    assert text.isprintable()
    assert len(text) < 300


@senders
@given(frame=st.binary(max_size=200))
@THOROUGH
def test_noise_is_refused_in_order(sender: str, frame: bytes) -> None:
    """Random bytes."""
    check(sender, frame)


@given(
    data=st.recursive(
        st.sampled_from([None, True, 0, -1, 2**70, 1.5, math.nan, math.inf, "", "hello", "pong", "act", "\ud800"]),
        lambda inner: (
            st.lists(inner, max_size=2)
            | st.dictionaries(st.sampled_from(["type", "kind", "version", "nonce"]), inner, max_size=3)
        ),
        max_leaves=6,
    )
)
@THOROUGH
def test_foreign_json_is_refused_in_order(data: object) -> None:
    """JSON (and Python's NaN and Infinity) of another shape."""
    for sender in DECODERS:
        check(sender, json.dumps(data).encode())


@senders
@given(data=st.data(), frame=any_frame)
@THOROUGH
def test_a_damaged_frame_is_refused_in_order(sender: str, data: st.DataObject, frame: bytes) -> None:
    """Real frames with bytes changed, cut out, doubled or put in."""
    start = data.draw(st.integers(0, len(frame)), label="start")
    end = data.draw(st.integers(start, len(frame)), label="end")
    put_in = data.draw(st.binary(max_size=8) | st.just(frame[start:end] * 2), label="put in")
    check(sender, frame[:start] + put_in + frame[end:])


@senders
@given(data=st.data(), frame=any_frame, nasty=st.sampled_from(NASTY_TOKENS))
@THOROUGH
def test_a_frame_with_a_nasty_value_is_refused_in_order(
    sender: str, data: st.DataObject, frame: bytes, nasty: bytes
) -> None:
    """Real frames with one token exchanged: huge numbers, NaN, floats, deep nesting, half surrogates, wrong kinds."""
    token = data.draw(st.sampled_from(list(TOKEN.finditer(frame))), label="token")
    check(sender, frame[: token.start()] + nasty + frame[token.end() :])


@pytest.mark.parametrize("nasty", NASTY_TOKENS, ids=lambda token: f"{len(token)} bytes {token[:12]!r}")
def test_every_place_of_every_frame_bears_every_nasty_value(nasty: bytes) -> None:
    """The same, exhaustively: one decoder each, no chance involved."""
    for sender, frames in (("worker", WORKER_FRAMES), ("supervisor", SUPERVISOR_FRAMES)):
        for _, frame in frames.values():
            for token in TOKEN.finditer(frame):
                if token.group()[:1] not in b"[]{}:,":
                    check(sender, frame[: token.start()] + nasty + frame[token.end() :])


VALUE = b'{"type":"decision","call_id":1,"attempt":1,"outcome":{"kind":"act","actions":[{"name":"a","args":{"x":%s}}]}}'


@pytest.mark.parametrize(
    "value, reason",
    [
        (b"1.0", "got `float`"),
        (b"1e3", "got `float`"),
        (b"-0.0", "got `float`"),
        (b"1e400", "out of range"),
        (b"NaN", "malformed"),
        (b"Infinity", "malformed"),
        (b"null", "got `null`"),
        (b"{}", "got `object`"),
        (str(2**256).encode(), "does not fit int256 or uint256"),
        (str(-(2**255) - 1).encode(), "does not fit int256 or uint256"),
        (b"9" * 100_000, "out of range"),
        (b'"\\ud800"', "surrogate"),
        (b'"\xed\xa0\x80"', "utf-8"),
        (b"[[[[1]]]]", "got `array`"),
        (b"[" * 500_000, "got `array`"),
        (b"[" + b"1," * 256 + b"1]", "length <= 256"),
        (b'"' + b"x" * 8_193 + b'"', "length <= 8192"),
        (b"1 // one", "malformed"),
        (b"'1'", "malformed"),
        (b"01", "malformed"),
    ],
    ids=lambda value: repr(value[:20]),
)
def test_a_value_that_is_not_of_the_protocol_is_refused(value: bytes, reason: str) -> None:
    """No float, no null, no table, nothing out of range, too long or too deep; the reason says which."""
    with pytest.raises(ProtocolError, match=reason):
        decode_from_worker(VALUE % value)


@pytest.mark.parametrize(
    "value", [b"[[[1]]]", b"[" + b"1," * 255 + b"1]", b'"' + b"x" * 8_192 + b'"', b"-0", b"true", b'"\\ud83d\\ude00"']
)
def test_a_value_at_the_bounds_is_accepted(value: bytes) -> None:
    """Control of the refusals: the same frame, at the bounds."""
    decode_from_worker(VALUE % value)


@pytest.mark.parametrize(
    "frame, reason",
    [
        (b"", "truncated"),
        (b"[]", "got `array`"),
        (b'"pong"', "got `str`"),
        (b'{"nonce":1}', "missing required field `type`"),
        (b'{"type":"pang","nonce":1}', "Invalid value 'pang'"),
        (b'{"type":"ping","nonce":1}', "Invalid value 'ping'"),
        (b'{"type":7,"nonce":1}', "type"),
        (b'{"type":"pong"}', "missing required field `nonce`"),
        (b'{"type":"pong","nonce":1,"x":0}', "unknown field `x`"),
        (b'{"type":"pong","nonce":true}', "got `bool`"),
        (b'{"type":"pong","nonce":1.0}', "got `float`"),
        (b'{"type":"pong","nonce":"1"}', "got `str`"),
        (b'{"type":"pong","nonce":0}', ">= 1"),
        (b'{"type":"pong","nonce":9223372036854775808}', "<= 9223372036854775807"),
        (b'{"type":"pong","nonce":1}{"type":"pong","nonce":1}', "trailing"),
        (b'{"type":"pong","nonce":1}\x00', "trailing"),
        (b'\xef\xbb\xbf{"type":"pong","nonce":1}', "malformed"),
        ('{"type":"pong","nonce":1}'.encode("utf-16"), "malformed"),
        (b'{"type":"pong","x":' + b"[" * 100_000, "unknown field"),
        (b'{"a":' * 100_000, "texts in a frame"),
        (b"[" * 100_000, "recursion|malformed|Expected"),
    ],
    ids=lambda frame: repr(frame[:30]),
)
def test_a_frame_that_is_not_a_message_is_refused(frame: bytes, reason: str) -> None:
    """The rules of an envelope: one object, a known type of this direction, known fields of their kinds, no more."""
    with pytest.raises(ProtocolError, match=reason):
        decode_from_worker(frame)


DECIDE = SUPERVISOR_FRAMES["decide"][1]


@pytest.mark.parametrize(
    "was, now, reason",
    [
        (b"06:00:00Z", b"06:00:00", "time"),
        (b'"2026-11-21T06:00:00Z"', b"1795240800", "got `int`"),
        (b"2026-11-21T06:00:00Z", b"2026-13-21T06:00:00Z", "RFC3339"),
        (b'"attempt":1', b'"attempt":0', ">= 1"),
        (b'"attempt":1', b'"attempt":2147483648', "<= 2147483647"),
        (b'"trigger":"event"', b'"trigger":"tide"', "Invalid enum value 'tide'"),
        (b'"topic":"trades",', b"", "missing required field `topic`"),
        (b'"number":1042', b'"number":-1', ">= 0"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_a_call_that_is_out_of_bounds_is_refused(was: bytes, now: bytes, reason: str) -> None:
    """The worker checks what the supervisor sends by the same document."""
    assert DECIDE.replace(was, now) != DECIDE
    with pytest.raises(ProtocolError, match=reason):
        decode_from_supervisor(DECIDE.replace(was, now, 1))


def test_white_space_and_the_order_of_fields_do_not_matter() -> None:
    """A frame is JSON: an encoder of another language may write it its own way."""
    assert decode_from_worker(b' \t{ "nonce" : 1 ,\r\n "type" : "p\\u006fng" }\n') == Pong(nonce=1)


@pytest.mark.parametrize(
    "frame, last",
    [(b'{"type":"pong","nonce":1,"nonce":2}', Pong(nonce=2)), (VALUE % b'1,"x":2', acting({"x": 2}))],
)
def test_of_a_doubled_key_the_last_counts(frame: bytes, last: Message) -> None:
    """Nobody reads the frame a second time in another way: what is judged and recorded is what was decoded here."""
    assert decode_from_worker(frame) == last


def test_a_frame_of_the_largest_size_is_read_and_a_larger_one_is_not() -> None:
    """The bound is on bytes, before anything is parsed."""
    pong = b'{"type":"pong","nonce":1}'
    assert decode_from_worker(pong.ljust(MAX_FRAME_BYTES)) == Pong(nonce=1)
    for decode in DECODERS.values():
        with pytest.raises(ProtocolError, match=f"frame of {MAX_FRAME_BYTES + 1} bytes"):
            decode(pong.ljust(MAX_FRAME_BYTES + 1))


def test_what_a_refusal_quotes_cannot_drive_a_terminal() -> None:
    """Names out of a hostile frame are cut and stripped of control characters."""
    with pytest.raises(ProtocolError) as caught:
        decode_from_worker(b'{"type":"pong","\\u001b[2J\\u202e' + b"x" * 10_000 + b'":1}')
    check("worker", b'{"type":"pong","\\u001b[2J\\u202e' + b"x" * 10_000 + b'":1}')
    assert "?[2J?" in str(caught.value)


# --- Hello of another version ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "hello",
    [
        WORKER_FRAMES["hello"][1].replace(b'"version":3', b'"version":4'),
        WORKER_FRAMES["hello"][1].replace(b'"version":3', b'"version":4,"capabilities":["stream",{"a":[1.5]}]'),
        b'{"type":"hello","version":4}',
        b'{"capabilities":{"type":"pong"},"version":4,"type":"hello"}',
    ],
    ids=["same fields", "more fields", "fewer fields", "other order"],
)
def test_a_hello_of_another_version_is_named_with_both_versions(hello: bytes) -> None:
    """The operator reads what to do, even when nothing else of a future Hello can be read."""
    with pytest.raises(ProtocolError, match=f"speaks protocol 4, this runnerd speaks {PROTOCOL_VERSION}.*install the"):
        decode_from_worker(hello)


@pytest.mark.parametrize("version", [b"0", b"-1", b"2147483648", b"9" * 4000, b"1.5", b"true", b'"2"', b"null"])
def test_a_hello_with_a_version_that_is_none_is_just_refused(version: bytes) -> None:
    """No other side is blamed for it, and its digits are not repeated."""
    with pytest.raises(ProtocolError, match="not a message of this protocol"):
        decode_from_worker(b'{"type":"hello","version":' + version + b"}")


def test_a_broken_hello_of_this_version_is_not_called_another_version() -> None:
    """The reason is what is wrong with it."""
    hello = WORKER_FRAMES["hello"][1]
    with pytest.raises(ProtocolError, match="unknown field `x`"):
        decode_from_worker(hello.replace(b'"version":3', b'"version":3,"x":1'))
    with pytest.raises(ProtocolError, match="missing required field"):
        decode_from_worker(b'{"type":"hello","version":3}')


def test_a_version_in_another_message_is_just_an_unknown_field() -> None:
    """Only a Hello speaks for its side."""
    with pytest.raises(ProtocolError, match="unknown field `version`"):
        decode_from_worker(b'{"type":"pong","nonce":1,"version":2}')


# --- encoding --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "message, reason",
    [
        (LogRecord(level=LogLevel.INFO, message="\ud800"), "LogRecord cannot be encoded: UnicodeEncodeError"),
        (StateGet(request_id=1, key="\udfff"), "StateGet cannot be encoded: UnicodeEncodeError"),
        (Pong(nonce=10**5000), "Pong cannot be encoded: ValueError"),
        (LogRecord(level=LogLevel.INFO, message="x" * MAX_FRAME_BYTES), "LogRecord takes 10486.. bytes, the limit is"),
        (LogRecord(level=LogLevel.INFO, message=object()), "LogRecord cannot be encoded: TypeError"),  # type: ignore[arg-type]
    ],
    ids=["surrogate", "surrogate in a key", "number", "size", "type"],
)
def test_a_message_that_is_no_frame_is_refused_by_its_sender(message: Message, reason: str) -> None:
    """The sender's own mistake, or its plugin's, is a ProtocolError too, and names the message."""
    with pytest.raises(ProtocolError, match=reason):
        encode(message)


def test_a_deep_message_is_refused_by_its_sender() -> None:
    """Arguments changed behind the struct's back must not end in a RecursionError."""
    action = Action("a", {"x": []})
    inner = action.args["x"]
    for _ in range(100_000):
        deeper: list[object] = []
        inner.append(deeper)  # type: ignore[union-attr,arg-type]
        inner = deeper  # type: ignore[assignment]
    with pytest.raises(ProtocolError, match="RecursionError"):
        encode(Decision(call_id=1, attempt=1, outcome=Noop("x"), state_writes=(StatePut(key="k", value=action),)))  # type: ignore[arg-type]


# --- what decoding may cost ------------------------------------------------------------------------------------------


def decision_with(actions: bytes, state_writes: bytes = b"") -> bytes:
    """A Decision's frame with these Actions, as JSON."""
    return (
        b'{"type":"decision","call_id":1,"attempt":1,"outcome":{"kind":"act","actions":['
        + actions + b']},"state_writes":[' + state_writes + b"]}"
    )  # fmt: skip


def nested(item: bytes, *lengths: int) -> bytes:
    """Lists of lists of `item`, the innermost length first."""
    for length in lengths:
        item = b"[" + b",".join([item] * length) + b"]"
    return item


COSTLY = {
    "integers": decision_with(b'{"name":"a","args":{"x":' + nested(b"1", 256, 256, 7) + b"}}"),
    "texts": decision_with(b'{"name":"a","args":{"x":' + nested(b'""', 256, 256, 5) + b"}}"),
    "lists": decision_with(b'{"name":"a","args":{"x":' + nested(b"[]", 256, 256, 5) + b"}}"),
    "Actions": decision_with(b",".join([b'{"name":"a"}'] * 80_000)),
    "state writes": decision_with(b'{"name":"a"}', b",".join([b'{"kind":"delete","key":"k"}'] * 37_000)),
}


@pytest.mark.parametrize("frame", COSTLY.values(), ids=COSTLY)
def test_frame_that_would_take_long_is_refused_before_it_is_decoded(frame: bytes) -> None:
    """Each took 0.02 to 0.5 s of the supervisor's loop; they are counted in a few ms."""
    assert len(frame) <= MAX_FRAME_BYTES
    with pytest.raises(ProtocolError, match=r"^more than \d+ (values|texts|objects) in a frame$"):
        decode_from_worker(frame)


@pytest.mark.parametrize("kind", ["{", ","])
def test_text_may_hold_any_number_of_commas_and_braces(kind: str) -> None:
    """A plugin's state is JSON in a string, with escaped quotes and backslashes."""
    text = (f'"\\{kind}"' * 8_000)[:65_000]
    writes = tuple(StatePut(key=f"k{number}", value=text) for number in range(6))
    message = Decision(call_id=1, attempt=1, outcome=Noop("quiet"), state_writes=writes)
    frame = encode(message)
    assert frame.count(kind.encode()) > MAX_VALUES_PER_FRAME
    assert decode_from_worker(frame) == message


def test_largest_decision_that_may_be_made_is_decoded() -> None:
    """All Actions with all their values: the bounds of a frame leave room for what the bounds of its parts allow."""
    args = {f"a{number}": [number] * 256 for number in range(3)} | {"last": [True] * 251}
    actions = tuple(Action("swap", args) for _ in range(MAX_ACTIONS))
    writes = tuple(StateDelete(key=f"k{number}") for number in range(MAX_STATE_WRITES))
    message = Decision(call_id=1, attempt=1, outcome=Act(actions=actions), state_writes=writes)
    assert decode_from_worker(encode(message)) == message
    with pytest.raises(ValueError, match=f"more than {MAX_VALUES_PER_ACTION} values"):
        Action("swap", args | {"one": 1, "two": 2})


def test_number_of_actions_is_refused_whatever_their_names() -> None:
    """Fewer objects than a frame may have, more than a Decision may: the type's own bound."""
    with pytest.raises(ProtocolError, match="length <= 16"):
        decode_from_worker(decision_with(b",".join([b'{"name":"a"}'] * 17)))

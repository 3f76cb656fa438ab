"""`ctx.state`: a plugin's durable key-value store, scoped by its name.

`put` and `delete` are kept here and travel with the Decision, so they commit with it or not at all.
`compare_and_set` goes to the supervisor at once and is atomic: two calls that run in parallel claim work with it.
"""

import asyncio
import math
from collections.abc import Coroutine
from typing import Any, Protocol, TypeVar

import msgspec

from protocol.limits import MAX_STATE_KEY_LENGTH, MAX_STATE_VALUE_LENGTH, MAX_STATE_WRITES
from protocol.messages import StateDelete, StatePut, StateWrite
from protocol.values import is_unicode

MAX_VALUE_DEPTH = 32

T = TypeVar("T")

# Sorted keys: equal values have equal text, and text is what compare_and_set compares.
_encoder = msgspec.json.Encoder(order="sorted")


class StateTransport(Protocol):
    """How the committed state is reached: over the link in a worker, in memory in a unit test."""

    async def fetch(self, key: str) -> str | None: ...

    async def compare_and_set(self, key: str, expected: str | None, value: str | None) -> bool: ...


class State:
    """The view of one call. Values are what JSON can hold, and integers of any size in it; None means absent.

    What `get` returns is the caller's own: changing it changes nothing here, `put` it back. Tuples come back as lists.
    """

    def __init__(self, transport: StateTransport) -> None:
        self._transport = transport
        self._writes: dict[str, StateWrite] = {}

    async def get(self, key: str, default: Any = None) -> Any:
        """The value of `key`: this call's own `put` if there is one, else what is committed, else `default`."""
        written = self._writes.get(_key(key))
        if isinstance(written, StatePut):
            return msgspec.json.decode(written.value)
        if isinstance(written, StateDelete):
            return default
        text = await self._transport.fetch(key)
        return default if text is None else msgspec.json.decode(text)

    def put(self, key: str, value: Any) -> None:
        """Set `key` when this call's Decision commits; None removes it.

        Raises ValueError when the value is too large, or nothing that JSON can hold.
        """
        if value is None:
            self.delete(key)
        else:
            self._write(StatePut(key=_key(key), value=text_of(value)))

    def delete(self, key: str) -> None:
        """Remove `key` when this call's Decision commits."""
        self._write(StateDelete(key=_key(key)))

    async def compare_and_set(self, key: str, expected: Any, value: Any) -> bool:
        """Set `key` to `value` now if its committed value equals `expected`; True if it was set. None is absent."""
        before = None if expected is None else text_of(expected)
        after = None if value is None else text_of(value)
        return await self._transport.compare_and_set(_key(key), before, after)

    @property
    def writes(self) -> tuple[StateWrite, ...]:
        """What travels with the Decision; the last write of a key wins."""
        return tuple(self._writes.values())

    def _write(self, write: StateWrite) -> None:
        if write.key not in self._writes and len(self._writes) == MAX_STATE_WRITES:
            raise ValueError(f"a Decision may write at most {MAX_STATE_WRITES} state keys")
        self._writes[write.key] = write


class BlockingState:
    """The same store for a plain `def decide`, which runs in a thread: every method blocks until it is answered."""

    def __init__(self, state: State, loop: asyncio.AbstractEventLoop) -> None:
        self._state = state
        self._loop = loop

    def get(self, key: str, default: Any = None) -> Any:
        """As `State.get`."""
        return self._wait(self._state.get(key, default))

    def put(self, key: str, value: Any) -> None:
        """As `State.put`."""
        self._state.put(key, value)

    def delete(self, key: str) -> None:
        """As `State.delete`."""
        self._state.delete(key)

    def compare_and_set(self, key: str, expected: Any, value: Any) -> bool:
        """As `State.compare_and_set`."""
        return self._wait(self._state.compare_and_set(key, expected, value))

    @property
    def writes(self) -> tuple[StateWrite, ...]:
        """As `State.writes`."""
        return self._state.writes

    def _wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()


def _key(key: object) -> str:
    if not isinstance(key, str) or not 1 <= len(key) <= MAX_STATE_KEY_LENGTH or not is_unicode(key):
        raise ValueError(f"a state key is a string of 1 to {MAX_STATE_KEY_LENGTH} characters")
    return str(key)


def text_of(value: Any) -> str:
    """The one JSON text of a value: what travels, and what compare_and_set compares. Raises ValueError."""
    text = _encoder.encode(_plain(value)).decode()
    if len(text) > MAX_STATE_VALUE_LENGTH:
        raise ValueError(
            f"a state value is at most {MAX_STATE_VALUE_LENGTH} characters of JSON, this one has {len(text)}"
        )
    return text


def _plain(value: object, depth: int = 0) -> object:
    """A copy of `value` that comes back as it went in. The encoder alone would write NaN as null, bytes as base64."""
    match value:
        case None | bool():
            return value
        case int():
            return int(value)
        case float() if math.isfinite(value):
            return float(value)
        case str() if is_unicode(value):
            return str(value)
        case list() | tuple() | dict() if depth == MAX_VALUE_DEPTH:
            raise ValueError(f"a state value is nested deeper than {MAX_VALUE_DEPTH}")
        case list() | tuple():
            return [_plain(item, depth + 1) for item in value]
        case dict():
            for key in value:
                if not isinstance(key, str) or not is_unicode(key):
                    raise ValueError(f"a key within a state value must be text, not {key!r}")
            return {str(key): _plain(item, depth + 1) for key, item in value.items()}
        case _:
            raise ValueError(f"{value!r:.100} cannot be kept in state; allowed: what JSON can hold")

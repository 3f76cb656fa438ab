"""`ctx.state`: a plugin's durable key-value store, scoped by its name.

`put` and `delete` are kept here and travel with the Decision, so they commit with it or not at all.
`compare_and_set` goes to the supervisor at once and is atomic: two calls that run in parallel claim work with it.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, Protocol, TypeVar

import msgspec

from protocol.limits import MAX_STATE_KEY_LENGTH, MAX_STATE_VALUE_LENGTH, MAX_STATE_WRITES
from protocol.messages import StateDelete, StatePut, StateWrite

T = TypeVar("T")

# Sorted keys: equal values have equal text, and text is what compare_and_set compares.
_encoder = msgspec.json.Encoder(order="sorted")


class StateTransport(Protocol):
    """How the committed state is reached: over the link in a worker, in memory in a unit test."""

    async def fetch(self, key: str) -> str | None: ...

    async def compare_and_set(self, key: str, expected: str | None, value: str | None) -> bool: ...


class State:
    """The view of one call. Values are what JSON can hold; None means absent."""

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
        """Set `key` when this call's Decision commits. Raises ValueError when the value is too large or not JSON."""
        self._write(StatePut(key=_key(key), value=_text(value)))

    def delete(self, key: str) -> None:
        """Remove `key` when this call's Decision commits."""
        self._write(StateDelete(key=_key(key)))

    async def compare_and_set(self, key: str, expected: Any, value: Any) -> bool:
        """Set `key` to `value` now if its committed value equals `expected`; True if it was set. None is absent."""
        before = None if expected is None else _text(expected)
        after = None if value is None else _text(value)
        return await self._transport.compare_and_set(_key(key), before, after)

    @property
    def writes(self) -> tuple[StateWrite, ...]:
        """What travels with the Decision; the last write of a key wins."""
        return tuple(self._writes.values())

    def _write(self, write: StateWrite) -> None:
        self._writes[write.key] = write
        if len(self._writes) > MAX_STATE_WRITES:
            raise ValueError(f"a Decision may write at most {MAX_STATE_WRITES} state keys")


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


def _key(key: str) -> str:
    if not isinstance(key, str) or not 1 <= len(key) <= MAX_STATE_KEY_LENGTH:
        raise ValueError(f"a state key is a string of 1 to {MAX_STATE_KEY_LENGTH} characters")
    return key


def _text(value: Any) -> str:
    text = _encoder.encode(value).decode()
    if len(text) > MAX_STATE_VALUE_LENGTH:
        raise ValueError(
            f"a state value is at most {MAX_STATE_VALUE_LENGTH} characters of JSON, this one has {len(text)}"
        )
    return text

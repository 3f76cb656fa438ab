"""Runs a plugin as a pure function: no process, no network, no mock. For plugin authors' unit tests.

decided = run(RangeMaker, reads={"spot": 200_000}, params={"width": 50})
assert decided.actions[0].name == "mint_range"
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from protocol.actions import Act, Action, Noop, Outcome
from protocol.codec import decode_from_worker, encode
from protocol.errors import ProtocolError
from protocol.expectations import Expectation
from protocol.messages import BlockRef, Call, Decision, LogLevel, Origin, Param, StatePut, TriggerKind, VaultRef
from protocol.trigger import DEFAULT_JOB
from protocol.values import PlainValue, to_value
from workers.decide import DecideError, decide, is_async
from workers.sdk.context import Context, Log
from workers.sdk.plugin import PluginError, declaration_of
from workers.sdk.state import BlockingState, State, text_of

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
BLOCK = BlockRef(number=1, hash="0x" + "00" * 32, timestamp=int(EPOCH.timestamp()))
VAULT = VaultRef(name="test", address="0x" + "11" * 20, chain_id=31337, actions=())


@dataclass(frozen=True, slots=True)
class Decided:
    """What a call came to: the outcome, the whole state after it, and the lines it logged."""

    outcome: Outcome
    state: dict[str, Any]
    log: tuple[tuple[LogLevel, str], ...]

    @property
    def actions(self) -> tuple[Action, ...]:
        """The Actions; empty for a Noop."""
        return self.outcome.actions if isinstance(self.outcome, Act) else ()

    @property
    def expect(self) -> tuple[Expectation, ...]:
        """What it expects of its own effects; empty if it said nothing of them."""
        return self.outcome.expect if isinstance(self.outcome, Act) else ()

    @property
    def noop(self) -> str | None:
        """The reason of a Noop, else None."""
        return self.outcome.reason if isinstance(self.outcome, Noop) else None


class MemoryState:
    """Committed state in a dict: the transport that stands in for the supervisor's table."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.texts = {key: text_of(value) for key, value in values.items() if value is not None}

    async def fetch(self, key: str) -> str | None:
        """The committed JSON text of `key`."""
        return self.texts.get(key)

    async def compare_and_set(self, key: str, expected: str | None, value: str | None) -> bool:
        """Set `key` if its text is `expected`."""
        if self.texts.get(key) != expected:
            return False
        self.store(key, value)
        return True

    def store(self, key: str, value: str | None) -> None:
        """Set or, with None, remove `key`."""
        if value is None:
            self.texts.pop(key, None)
        else:
            self.texts[key] = value


def run(
    plugin: Any,
    *,
    reads: Mapping[str, PlainValue] | None = None,
    params: Mapping[str, Param] | None = None,
    state: Mapping[str, Any] | None = None,
    job: str = DEFAULT_JOB,
    trigger: TriggerKind = TriggerKind.MANUAL,
    topic: str | None = None,
    payload: str = "",
    origin: Origin | None = None,
    attempt: int = 1,
    now: datetime = EPOCH,
    block: BlockRef = BLOCK,
    vault: VaultRef = VAULT,
) -> Decided:
    """Call `plugin` (a class, or an instance to call it again) once.

    Raises PluginError when the class is not a plugin, DecideError when `decide` raised or returned nonsense,
    exactly as the worker would report it.
    """
    declared = declaration_of(plugin if isinstance(plugin, type) else type(plugin))
    instance = plugin() if isinstance(plugin, type) else plugin
    if job not in declared.jobs:
        raise PluginError(f"there is no job {job!r}; there is {', '.join(declared.jobs)}")
    method = getattr(instance, declared.jobs[job])
    memory = MemoryState(state or {})
    lines: list[tuple[LogLevel, str]] = []
    call = Call(
        id=1, attempt=attempt, trigger=trigger, topic=topic, payload=payload, due_at=now, fired_at=now, job=job,
        origin=origin or Origin(source="test", id="test 1", principal="test"),
    )  # fmt: skip

    async def once() -> Outcome:
        view = State(memory)
        context = Context(
            call=call,
            now=now,
            block=block,
            vault=vault,
            reads={key: to_value(value) for key, value in (reads or {}).items()},
            params=dict(params or {}),
            state=view if is_async(method) else BlockingState(view, asyncio.get_running_loop()),
            log=Log(lambda level, text: lines.append((level, text))),
        )
        outcome = await decide(method, context)
        try:
            decode_from_worker(encode(Decision(call_id=1, attempt=1, outcome=outcome, state_writes=view.writes)))
        except ProtocolError as error:
            raise DecideError(str(error)) from None
        for write in view.writes:
            memory.store(write.key, write.value if isinstance(write, StatePut) else None)
        return outcome

    outcome = asyncio.run(once())
    return Decided(outcome, {key: msgspec.json.decode(text) for key, text in memory.texts.items()}, tuple(lines))


__all__ = ["BLOCK", "EPOCH", "VAULT", "DecideError", "Decided", "run"]

"""What a producer must bring to be held to the conformance suite, and how to add one.

Write `tests/triggers/conformance/NAME_adapter.py` with a class that is an `Adapter`, and end it with
`ADAPTER = ThatClass()`: the suite finds it by its file name. The producer runs in a process of its own (`host`), with
the real router, store and ledger, and is killed there by SIGKILL at crash points; `source` belongs to the test's
process and causes stimuli. An adapter is therefore made twice, and what both must know (a URL, a table) is in
`Source.params`.

The suite counts by name: `Source.cause` returns the names of what it has caused, and `Source.name_of` reads that name
from a call. Each name must be called for exactly once per plugin.

A producer that goes on from a stored position gives its calls `is_owed=True`: the router then takes them whatever the
bounds of their plugin, because the position moves on and nobody would ask for them again.
"""

import importlib
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from msgspec import Struct

from protocol.triggers import Trigger
from runnerd.clock import Clock
from runnerd.routing.results import Results
from runnerd.routing.router import Router
from runnerd.services.metrics import Metrics
from runnerd.store.store import Store
from runnerd.triggers.producer import Producer

HERE = Path(__file__).parent
SUFFIX = "_adapter"


class Seen(Struct, frozen=True, kw_only=True):
    """Of a call that was made, or that the router did not take: what a source may know it by. `due_at` is ISO, UTC."""

    plugin: str
    identity: str
    payload: str
    due_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a producer is built of, in the host's process. `dsn`: the ledger's database. `params`: the source's."""

    router: Router
    results: Results
    store: Store
    metrics: Metrics
    clock: Clock
    dsn: str
    params: Mapping[str, str]


class Source(Protocol):
    """Causes stimuli, in the test's process."""

    params: Mapping[str, str]

    async def cause(self, count: int) -> list[str]:
        """Cause so many stimuli, one after the other; returns their names when they all have happened."""

    async def repeat(self) -> None:
        """Have what was delivered delivered once more: as a reconnect, a doubled doorbell, a twin would."""

    def name_of(self, seen: Seen) -> str:
        """Which stimulus this call is for."""


class Adapter(Protocol):
    """One producer. Attributes are read by both processes; a plain class may define them as class variables."""

    name: str
    keeps: bool
    """Whether what happens while nobody listens is there still when somebody does. If not, it may be lost, and that is
    all that may be lost."""
    is_bounded: bool
    """Whether the router may refuse its calls beyond a plugin's bounds, and count them. If not, none is refused."""
    twins: int
    """How many of this producer the host runs when deliveries are doubled: more than one, if their identities agree."""
    flood: int
    """How many stimuli are more than a plugin can take at once, where it takes one each `take_s` seconds."""
    take_s: float

    def prepare(self) -> None:
        """In the host's process, before its loop runs: fork what has to be forked."""

    def source(self, dsn: str) -> AbstractAsyncContextManager[Source]:
        """The outside world, on this ledger's server. Everything it starts ends with it."""

    def triggers(self, params: Mapping[str, str]) -> Sequence[Trigger]:
        """What both plugins declare."""

    def build(self, parts: Parts) -> Producer:
        """The producer, not running."""

    def is_listening(self, producer: Producer) -> bool:
        """Whether it hears by now what is caused from now on."""


def find_names() -> list[str]:
    """Of all adapters."""
    return sorted(path.stem.removesuffix(SUFFIX) for path in HERE.glob(f"*{SUFFIX}.py"))


def find_adapter(name: str) -> Adapter:
    """The adapter in the file of this name."""
    return cast("Adapter", importlib.import_module(adapter_module(name)).ADAPTER)


def adapter_module(name: str) -> str:
    """That file, as a module."""
    return f"tests.triggers.conformance.{name}{SUFFIX}"

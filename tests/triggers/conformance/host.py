"""One producer in a process of its own: `python -m tests.triggers.conformance.host ORDER`, ORDER in JSON (`Order`).

The router, store and ledger are real. The plugins are not: each takes the calls that it is offered in order, one each
`take_s` seconds, and ends them. Prints "ready" when the producer listens, answers "report" on standard input with a
`Report`, stops in order when standard input ends; and kills itself at the crash point that its order names.
"""

import asyncio
import os
import signal
import sys
from collections import Counter, deque
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import Any, cast

import msgspec
import uvloop
from msgspec import Struct

from runnerd import crash_points
from runnerd.clock import SystemClock
from runnerd.config.routing import AlwaysRoute, RouterConfig
from runnerd.process import die_with_parent
from runnerd.routing.layers import Layers
from runnerd.routing.results import Results
from runnerd.routing.router import Router
from runnerd.routing.routes import Routes
from runnerd.services.metrics import Metrics
from runnerd.store.calls import JobCall, JobOutcome, NewCall
from runnerd.store.store import Store
from runnerd.supervisor.ahead import Ahead
from runnerd.supervisor.machine import Phase, WorkerState
from runnerd.tasks import Tasks
from runnerd.triggers.producer import Terms
from runnerd.triggers.producers import Producers
from tests.triggers.conformance.adapter import Adapter, Parts, Seen, find_adapter

PLUGINS = ("alpha", "beta")
AUDITOR = "auditor"
TERMS = Terms(call_deadline=timedelta(hours=1), chain="local", vault="demo")
LISTEN_EVERY_S = 0.005


class Order(Struct, frozen=True, kw_only=True):
    """How to run. `crash_nth`: at which passage of the point."""

    adapter: str
    dsn: str
    params: Mapping[str, str]
    crash_at: str | None = None
    crash_nth: int = 1
    twins: int = 1
    room: int = 1_000_000
    take_s: float = 0.0
    is_audited: bool = False
    """Whether one more plugin, AUDITOR, gets a copy of what the others get."""


class Report(Struct, frozen=True, kw_only=True):
    """Calls that were not taken, and how many of these the metrics have."""

    refused: Sequence[Seen]
    counted: int


class TakingHost:
    """A plugin that ends each call after a while; of new ones it takes those for which it has room."""

    def __init__(self, name: str, results: Results, order: Order, refused: list[Seen]) -> None:
        self.name = name
        self.state = WorkerState(phase=Phase.READY)
        self.declared = None
        self.layers = Layers()
        self._results = results
        self._order = order
        self._refused = refused
        self._waiting: deque[tuple[JobCall, Ahead | None]] = deque()
        self._tasks = Tasks()
        self._is_taking = False

    def room(self, jobs: Collection[str]) -> int:
        return self._order.room - len(self._waiting)

    def refusal(self, call: NewCall, coming: int) -> str | None:
        if len(self._waiting) + coming < self._order.room:
            return None
        if not call.is_owed:  # which is taken all the same
            self._refused.append(seen_in(call))
        return "queue is full"

    def is_open(self, call: NewCall) -> bool:
        return False  # the triggers of this suite are all parallel

    def offer(self, call: JobCall, *, is_owed: bool = False) -> None:
        self._put(call, None)

    def offer_ahead(self, call: JobCall) -> Ahead | None:
        ahead = Ahead(call)
        self._put(call, ahead)
        return ahead

    def _put(self, call: JobCall, ahead: Ahead | None) -> None:
        self._waiting.append((call, ahead))
        if not self._is_taking:
            self._is_taking = True
            self._tasks.spawn(self._take(), f"take:{call.plugin}")

    def offer_again(self, calls: Sequence[JobCall]) -> None:
        for call in calls:
            self.offer(call)

    async def close(self) -> None:
        await self._tasks.cancel()

    async def _take(self) -> None:
        while self._waiting:
            if self._order.take_s:
                await asyncio.sleep(self._order.take_s)
            call, ahead = self._waiting.popleft()
            finish = self._results.finish(call, JobOutcome.NOOP, "taken")
            await (finish if ahead is None else ahead.then(finish))
        self._is_taking = False


def seen_in(call: NewCall) -> Seen:
    return Seen(
        plugin=call.plugin, identity=call.identity, payload=call.payload, due_at=call.due_at.isoformat()
    )  # fmt: skip


def crash_at(point: str, nth: int) -> None:
    """End this process as a power cut would, at the nth passage of the point."""
    passages: Counter[str] = Counter()

    def on_reached(name: str) -> None:
        passages[name] += 1
        if name == point and passages[name] == nth:
            os.kill(os.getpid(), signal.SIGKILL)

    crash_points.listen(on_reached)


async def run(order: Order, adapter: Adapter) -> None:
    """Until standard input ends."""
    clock = SystemClock()
    metrics = Metrics(phase.value for phase in Phase)
    store = Store(order.dsn)
    await store.open()
    results = Results(store, clock)
    always = (AlwaysRoute(plugin=AUDITOR),) if order.is_audited else ()
    router = Router(store, results, metrics, clock, Routes(RouterConfig(always=always)))
    refused: list[Seen] = []
    hosts = {name: TakingHost(name, results, order, refused) for name in (*PLUGINS, AUDITOR)}
    router.hosts.update(cast("Any", hosts))
    await router.load()
    if order.crash_at is not None:
        crash_at(order.crash_at, order.crash_nth)
    parts = Parts(
        router=router, results=results, store=store, metrics=metrics, clock=clock, dsn=order.dsn, params=order.params
    )
    producers = [adapter.build(parts) for _ in range(order.twins)]
    registries = [Producers([producer]) for producer in producers]
    for registry in registries:
        registry.start()
        for name in PLUGINS:
            await registry.declare(name, adapter.triggers(order.params), TERMS)
    await router.recover()
    while not all(map(adapter.is_listening, producers)):  # noqa: ASYNC110  # no producer has an event for it
        await asyncio.sleep(LISTEN_EVERY_S)
    print("ready", flush=True)
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while await reader.readline():
        print(msgspec.json.encode(Report(refused=refused, counted=_counted(metrics))).decode(), flush=True)
    for registry in registries:
        await registry.close()
    for host in hosts.values():
        await host.close()
    await store.close()


def _counted(metrics: Metrics) -> int:
    samples = (sample for family in metrics.registry.collect() for sample in family.samples)
    return sum(int(sample.value) for sample in samples if sample.name == "runnerd_calls_refused_total")


if __name__ == "__main__":
    die_with_parent(os.getppid())
    given = msgspec.json.decode(sys.argv[1], type=Order)
    found = find_adapter(given.adapter)
    found.prepare()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(given, found))

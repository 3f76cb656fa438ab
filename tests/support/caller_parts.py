"""Fakes of what a `Caller` works with: the worker's seat, snapshots, the executor and the ledger. All in memory.

`CallerBench` puts them together. What a call came to is in `bench.results`; a call that ends twice fails the test.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from protocol.actions import Noop
from protocol.codec import decode_from_supervisor
from protocol.messages import BlockRef, Decide, DecideFailed, Decision, Hello, TriggerKind, VaultRef
from protocol.triggers import Read
from runnerd.clock import Clock
from runnerd.config.plugins import PluginConfig
from runnerd.executor.decided import Decided
from runnerd.pauses import Pauses
from runnerd.routing.results import Results
from runnerd.services.metrics import Metrics
from runnerd.store.calls import JobOutcome, JobResult
from runnerd.store.errors import StoreError
from runnerd.store.ledger import Ledger, Rows
from runnerd.store.statement import Statement
from runnerd.supervisor import machine
from runnerd.supervisor.caller import Caller
from runnerd.supervisor.context import HostServices, Snapshot
from runnerd.supervisor.machine import Phase, WorkerState, transition
from runnerd.supervisor.starvation import Watch
from runnerd.supervisor.worker import Birthplace
from runnerd.tasks import Tasks
from tests.support.virtual_time import VirtualClock

VAULT = VaultRef(name="main", address="0x" + "11" * 20, chain_id=31337, actions=("mint",))
BLOCK = BlockRef(number=7, hash="0x" + "ab" * 32, timestamp=1_700_000_000)


class FakeLedger:
    """Keeps the statements of every commit, in order; `refusal` is raised instead while it is set."""

    def __init__(self) -> None:
        self.commits: list[tuple[Statement, ...]] = []
        self.refusal: StoreError | None = None

    async def commit(self, *statements: Statement, is_idempotent: bool = True) -> list[Rows]:
        await asyncio.sleep(0)
        if self.refusal is not None:
            raise self.refusal
        self.commits.append(statements)
        return [[] for _ in statements]

    def submit(self, *statements: Statement, is_idempotent: bool = True) -> asyncio.Future[list[Rows]]:
        return asyncio.get_running_loop().create_task(self.commit(*statements, is_idempotent=is_idempotent))

    async def fetch(self, statement: Statement) -> Rows:
        return []

    def written(self, text: str) -> list[dict[str, object]]:
        """Parameters of the committed statements whose SQL holds `text`."""
        return [dict(s.parameters) for statements in self.commits for s in statements if text in s.sql]


class FakeSnapshots:
    """Gives one block at once, or when `gate` is set; raises `failure` while there is one."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.failure: Exception | None = None
        self.reads: dict[str, int] = {}
        self.is_at_hand = False
        """Whether there is one without asking."""

    def at_hand(self, vault: str, reads: Sequence[Read]) -> Snapshot | None:
        return Snapshot(block=BLOCK, vault=VAULT, reads={}) if self.is_at_hand else None

    def check(self, vault: str, reads: Sequence[Read]) -> str | None:
        return None

    async def take(self, vault: str, reads: Sequence[Read]) -> Snapshot:
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        return Snapshot(block=BLOCK, vault=VAULT, reads=dict(self.reads))


class FakeExecutor:
    """Records each Decision and, once the gate is open, ends its call as a noop; or raises `failure` if it is set."""

    def __init__(self, results: Results) -> None:
        self._results = results
        self.accepted: list[Decided] = []
        self.failure: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def accept(self, decided: Decided) -> None:
        self.accepted.append(decided)
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        await self._results.finish(decided.call, JobOutcome.NOOP, "accepted")


class FakeBirthplace:
    """Where no worker is ever born."""

    async def spawn(self, request: object, deadline_s: float) -> object:
        raise AssertionError("this test starts no worker")


def build_services(
    clock: Clock,
    ledger: Ledger,
    *,
    birthplace: Birthplace | None = None,
    runtime_dir: str = "/nonexistent",
) -> tuple[HostServices, FakeSnapshots, FakeExecutor]:
    """What hosts share, with fakes behind every seam."""
    results = Results(ledger, clock)
    snapshots, executor = FakeSnapshots(), FakeExecutor(results)
    services = HostServices(
        clock=clock,
        store=ledger,
        results=results,
        metrics=Metrics(phase.value for phase in Phase),
        pauses=Pauses(),
        birthplace=birthplace or FakeBirthplace(),  # type: ignore[arg-type]  # its spawn never returns
        runtime_dir=runtime_dir,
        snapshots=snapshots,
        executor=executor,
        on_declared=lambda *_: None,
    )
    return services, snapshots, executor


@dataclass
class FakeSeat:
    """A worker's place, moved by the real state machine; frames go to `asked`, and aborting only notes the reason."""

    config: PluginConfig
    clock: Clock
    name: str = "alpha"
    declared: Hello | None = None
    state: WorkerState = field(default_factory=WorkerState)
    asked: list[Decide] = field(default_factory=list)
    aborts: list[str] = field(default_factory=list)
    watch: Watch | None = None
    is_held_up: bool = False

    @property
    def has_worker(self) -> bool:
        return self.state.phase in machine.SERVING

    def send_frame(self, frame: bytes) -> None:
        message = decode_from_supervisor(frame)
        assert isinstance(message, Decide)
        self.asked.append(message)

    def abort_worker(self, reason: str) -> None:
        self.aborts.append(reason)

    def end_worker(self, reason: str) -> None:
        self.aborts.append(reason)

    def dispatch(self, event: machine.Event) -> None:
        self.state, _ = transition(self.state, event, self.clock.monotonic(), self.config.restart)


class CallerBench:
    """A Caller with its fakes, and the worker's side of the conversation. Make it inside a running loop."""

    def __init__(self, clock: VirtualClock | None = None, ledger: Ledger | None = None, **config: object) -> None:
        self.clock = clock or VirtualClock()
        self.ledger = FakeLedger()
        self.services, self.snapshots, self.executor = build_services(self.clock, ledger or self.ledger)
        self.seat = FakeSeat(PluginConfig(vault="main", **config), self.clock)  # type: ignore[arg-type]  # by name
        self.tasks = Tasks()
        self.caller = Caller(self.seat, self.services, self.tasks, lambda: self.seat.is_held_up)
        self.results: dict[int, JobResult] = {}
        self.services.results.add_consumer(self._on_result)

    def _on_result(self, result: JobResult) -> None:
        assert result.call.id not in self.results, f"call {result.call.id} has a second result: {result}"
        self.results[result.call.id] = result

    def outcome(self, call_id: int) -> str:
        """`outcome: reason` of a call that has ended."""
        result = self.results[call_id]
        return f"{result.outcome}: {result.reason}"

    # --- the worker --------------------------------------------------------------------------------------------------

    def worker_ready(self) -> None:
        """A worker is started and says Hello, as the host would take it."""
        self.seat.dispatch(machine.Start())
        self.say_hello()

    def say_hello(self) -> None:
        self.seat.dispatch(machine.HelloAccepted())
        self.caller.pump()

    def worker_ends(self, event: machine.Event | None = None) -> None:
        """The worker ends, in the order in which the host tells: first the calls, then the state machine."""
        event = event or machine.Exited("killed")
        self.caller.on_worker_end("killed", is_blameless=isinstance(event, machine.Lost))
        self.dispatch(event)

    def dispatch(self, event: machine.Event) -> None:
        """As the host does it."""
        before = self.seat.state.phase
        self.seat.dispatch(event)
        if self.seat.state.phase is Phase.QUARANTINED is not before:
            self.caller.give_up_waiting(f"plugin is quarantined: {self.seat.state.reason}")

    def answer(self, call_id: int, attempt: int | None = None) -> str | None:
        """The worker decides: nothing to do."""
        return self.caller.on_answer(
            Decision(call_id=call_id, attempt=attempt or self._attempt_of(call_id), outcome=Noop("quiet"))
        )

    def fail(self, call_id: int) -> str | None:
        """`decide` raises."""
        return self.caller.on_answer(
            DecideFailed(call_id=call_id, attempt=self._attempt_of(call_id), error="ValueError: no", traceback="")
        )

    def _attempt_of(self, call_id: int) -> int:
        return next(asked.call.attempt for asked in reversed(self.seat.asked) if asked.call.id == call_id)

    # --- time --------------------------------------------------------------------------------------------------------

    async def settle(self) -> None:
        """Let everything happen that can happen without time passing."""
        for _ in range(20):
            await asyncio.sleep(0)

    async def until(self, is_so: Callable[[], bool], deadline_s: float = 60.0) -> None:
        """Let (virtual) time pass until something is so; fails at the deadline."""
        until = asyncio.get_running_loop().time() + deadline_s
        while not is_so():
            assert asyncio.get_running_loop().time() < until, "it did not happen"
            await asyncio.sleep(0.05)

    async def close(self) -> None:
        """End what runs."""
        await self.caller.recall()
        self.caller.close(None)
        await self.tasks.cancel()


CRON = TriggerKind.CRON

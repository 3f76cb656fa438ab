"""One plugin's shell: it carries out what the state machine decides, and takes each call from the queue to its answer.

Everything here belongs to this plugin alone. It owns no policy: restarts are `machine`, order and blame are `desk`,
what an answer may do is the executor.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import zmq

from protocol.codec import encode
from protocol.errors import ProtocolError
from protocol.messages import (
    BlockRef,
    Call,
    Decide,
    DecideFailed,
    Decision,
    FromWorker,
    Hello,
    StateCompareAndSet,
    StateGet,
    TriggerKind,
    VaultRef,
    Welcome,
)
from protocol.triggers import Read, Trigger
from protocol.values import Value
from runnerd.clock import Clock
from runnerd.config.model import PluginConfig
from runnerd.errors import RunnerdError
from runnerd.executor.decided import Decided
from runnerd.log import fields
from runnerd.pauses import Pauses
from runnerd.results import Results
from runnerd.services.metrics import Metrics
from runnerd.store import calls, workers
from runnerd.store.calls import JobCall, JobOutcome
from runnerd.store.store import Store
from runnerd.supervisor import machine
from runnerd.supervisor.desk import Deciding, Desk, blame
from runnerd.supervisor.machine import Phase, WorkerState, transition
from runnerd.supervisor.spawning import spawn_request
from runnerd.supervisor.state_desk import StateDesk
from runnerd.supervisor.worker import Birthplace, Listener, Worker
from runnerd.tasks import Tasks
from runnerd.triggers import schedule

logger = logging.getLogger("runnerd.host")


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What the chain looked like at one block, for one call."""

    block: BlockRef
    vault: VaultRef
    reads: dict[str, Value]


class SnapshotFailed(RunnerdError):
    """The reads of a call could not be taken; the call failed and nothing was done. See the named read or the node."""


class Snapshots(Protocol):
    """Where a call's context comes from."""

    def check(self, vault: str, reads: Sequence[Read]) -> str | None:
        """Why these reads cannot be served from the vault's catalogue, or None."""
        ...

    async def take(self, vault: str, reads: Sequence[Read]) -> Snapshot:
        """All reads at one block. Raises SnapshotFailed."""
        ...


class Executor(Protocol):
    """Where a Decision goes."""

    async def accept(self, decided: Decided) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class HostServices:
    """What all hosts share: references to the parts they work with."""

    clock: Clock
    store: Store
    results: Results
    metrics: Metrics
    pauses: Pauses
    birthplace: Birthplace
    zmq_context: "zmq.Context[zmq.Socket[bytes]]"
    runtime_dir: str
    snapshots: Snapshots
    executor: Executor
    on_declared: Callable[[str, tuple[Trigger, ...]], None]
    """Called with the plugin's triggers each time a worker is ready."""


@dataclass(slots=True)
class _Open:
    """A call that is with the worker: its context, and where the answer goes."""

    deciding: Deciding
    context: str
    generation: int
    overdue: asyncio.TimerHandle


class PluginHost:
    """Supervises one plugin. All methods are called in the loop; `offer` and the commands return at once."""

    def __init__(self, name: str, config: PluginConfig, services: HostServices, last_generation: int = 0) -> None:
        self.name = name
        self.config = config
        self.state = WorkerState(generation=last_generation, since=services.clock.monotonic())
        self.declared: Hello | None = None
        self._first_generation = last_generation + 1
        self.worker: Worker | None = None
        self._services = services
        self._desk = Desk(config.parallel, config.queue)
        self._open: dict[int, _Open] = {}
        self._guilty: int | None = None
        self._wake: asyncio.TimerHandle | None = None
        self._sweep: asyncio.TimerHandle | None = None
        self._tasks = Tasks()
        self._state_desk = StateDesk(name, services.store)
        self._at_rest = asyncio.Event()
        self._at_rest.set()

    # --- commands ----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Run it; clears quarantine and the restart budget."""
        self._dispatch(machine.Start())

    def restart(self) -> None:
        """Stop it in order and start it again. Waiting calls stay."""
        self._dispatch(machine.StopRequested(then_start=True))

    def refuse(self, reason: str) -> None:
        """It must not run (its vault was refused): quarantined without a process."""
        self._at_rest.set()
        self.state = machine.WorkerState(
            phase=Phase.QUARANTINED,
            generation=self.state.generation,
            since=self._services.clock.monotonic(),
            reason=reason,
        )
        self._record("quarantined", reason)

    async def stop(self, reason: str | None = None) -> None:
        """Stop it in order and wait. With `reason`, waiting calls end as failed; without, they stay queued in the ledger."""
        self._dispatch(machine.StopRequested())
        limit_s = self.config.stop_grace_s + 5
        try:
            await asyncio.wait_for(self._at_rest.wait(), limit_s)
        except TimeoutError:
            logger.error("worker did not end", extra=fields("worker_stuck", plugin=self.name))
        for timer in (self._wake, self._sweep):
            if timer is not None:
                timer.cancel()
        if reason is not None:
            for call in self._desk.take_all_waiting():
                await self._services.results.finish(call, JobOutcome.FAILED, reason)
        await self._tasks.finish(limit_s)

    # --- calls -------------------------------------------------------------------------------------------------------

    def offer(self, call: JobCall) -> None:
        """Take a committed JobCall. It ends in one JobResult, whatever happens to the worker."""
        if self.state.phase in (Phase.QUARANTINED, Phase.STOPPED):
            self._end(call, JobOutcome.FAILED, f"plugin is {self.state.phase}: {self.state.reason}")
        elif not self._desk.put(call):
            self._end(call, JobOutcome.FAILED, f"queue is full ({self.config.queue} calls wait)")
        else:
            self._pump()
            self._sweep_later()

    @property
    def restarts(self) -> int:
        """Starts of a worker since runnerd started, without the first."""
        return max(0, self.state.generation - self._first_generation)

    @property
    def waiting(self) -> int:
        """Calls in the queue."""
        return self._desk.waiting

    @property
    def deciding(self) -> int:
        """Calls that are being decided."""
        return len(self._desk.running)

    def _pump(self) -> None:
        while self.state.phase in machine.SERVING:
            call = self._desk.take(self._services.clock.monotonic())
            if call is None:
                return
            self._tasks.spawn(self._ask(call), f"call:{self.name}:{call.id}")

    async def _ask(self, call: JobCall) -> None:
        """Give `call` to the worker, or end it if there is a reason not to."""
        refusal = self._refusal(call)
        if refusal is not None:
            self._drop(call, *refusal)
            return
        hello = self.declared
        assert hello is not None  # a serving worker has said Hello
        try:
            snapshot = await self._services.snapshots.take(self.config.vault, hello.reads)
            frame = encode(self._decide_message(call, snapshot))
        except (SnapshotFailed, ProtocolError) as error:
            self._drop(call, JobOutcome.FAILED, f"snapshot: {error}")
            return
        if self.state.phase not in machine.SERVING or self.worker is None:
            self._desk.end(call.id)
            self._desk.put_back(call)
            return
        deciding = self._desk.running[call.id]
        overdue = asyncio.get_running_loop().call_later(self.config.decide_deadline_s, self._overdue, call.id)
        started = Deciding(deciding.call, self._services.clock.monotonic())
        self._open[call.id] = _Open(started, frame.decode(), self.state.generation, overdue)
        self.worker.send_frame(frame)

    def _refusal(self, call: JobCall) -> tuple[JobOutcome, str] | None:
        if self._services.clock.now() >= call.deadline_at:
            return JobOutcome.EXPIRED, "its deadline passed before it could be decided"
        pause = self._services.pauses.of(self.name, self.config.vault)
        if pause is not None:
            return JobOutcome.DENIED, str(pause)
        if call.trigger is TriggerKind.CRON and self.state.skips_left:
            left = self.state.skips_left
            self._dispatch(machine.TickSkipped())
            return JobOutcome.EXPIRED, f"skipped, the plugin is unhealthy ({left - 1} more): {self.state.reason}"[:500]
        return None

    def _decide_message(self, call: JobCall, snapshot: Snapshot) -> Decide:
        return Decide(
            call=Call(
                id=call.id,
                attempt=call.attempts + 1,
                trigger=call.trigger,
                topic=call.topic,
                payload=call.payload,
                due_at=call.due_at,
                fired_at=call.fired_at,
            ),
            now=self._services.clock.now(),
            block=snapshot.block,
            vault=snapshot.vault,
            reads=snapshot.reads,
        )

    def _drop(self, call: JobCall, outcome: JobOutcome, reason: str) -> None:
        self._desk.end(call.id)
        self._end(call, outcome, reason)
        self._pump()

    def _end(self, call: JobCall, outcome: JobOutcome, reason: str) -> None:
        self._tasks.spawn(self._services.results.finish(call, outcome, reason), f"finish:{self.name}:{call.id}")

    def _overdue(self, call_id: int) -> None:
        """`decide` took longer than its deadline: the worker is ended, and this call is to blame."""
        if self.worker is not None and call_id in self._open:
            self._guilty = call_id
            self.worker.abort(f"decide of call {call_id} took longer than {self.config.decide_deadline_s:g} s")

    def _sweep_later(self) -> None:
        if self._sweep is None and self._desk.waiting:
            delay_s = min(self.config.call_deadline_s, 1.0)
            self._sweep = asyncio.get_running_loop().call_later(delay_s, self._sweep_expired)

    def _sweep_expired(self) -> None:
        self._sweep = None
        for call in self._desk.take_expired(self._services.clock.now()):
            why = f"its deadline passed in the queue (plugin was {self.state.phase})"
            self._end(call, JobOutcome.EXPIRED, why)
        self._sweep_later()

    # --- what the worker says ----------------------------------------------------------------------------------------

    def _on_hello(self, hello: Hello) -> None:
        problem = self._hello_problem(hello)
        if problem is not None:
            self._dispatch(machine.Refused(problem))
            return
        self.declared = hello
        assert self.worker is not None  # the Hello came through it
        self.worker.send(Welcome(params=self.config.params))
        self._dispatch(machine.HelloAccepted())
        self._services.on_declared(self.name, self.triggers)
        self._pump()

    def _hello_problem(self, hello: Hello) -> str | None:
        wanted = self.config.class_name or self.name
        if self.state.phase is not Phase.STARTING:
            return "bad protocol: a second Hello"
        if hello.generation != self.state.generation:
            return f"bad protocol: Hello of generation {hello.generation}, this is {self.state.generation}"
        if hello.plugin != wanted:
            return f"the class calls itself {hello.plugin!r}; set class_name = {hello.plugin!r} under [plugins.{self.name}]"
        if hello.vault and hello.vault != self.config.vault:
            return f"the class is written for vault {hello.vault!r}, the configuration gives it {self.config.vault!r}"
        for trigger in hello.triggers if self.config.triggers is None else ():
            try:
                schedule.check(trigger)
            except schedule.ScheduleError as error:
                return str(error)
        return self._services.snapshots.check(self.config.vault, hello.reads)

    @property
    def triggers(self) -> tuple[Trigger, ...]:
        """The operator's triggers, or those that the class declares."""
        if self.config.triggers is not None:
            return self.config.triggers
        return self.declared.triggers if self.declared else ()

    def _on_message(self, message: FromWorker) -> None:
        match message:
            case Decision() | DecideFailed():
                self._on_answer(message)
            case StateGet() | StateCompareAndSet():
                worker = self.worker
                if worker is None or not self._state_desk.has_room:
                    self._dispatch(machine.Refused("bad protocol: too many state requests at once"))
                    return
                self._tasks.spawn(self._state_desk.answer(message, worker.send), f"state:{self.name}")
            case _:
                self._dispatch(machine.Refused(f"bad protocol: {type(message).__name__} at this point"))

    def _on_answer(self, answer: Decision | DecideFailed) -> None:
        opened = self._open.get(answer.call_id)
        if opened is None or opened.deciding.attempt != answer.attempt:
            self._dispatch(machine.Refused(f"bad protocol: an answer to call {answer.call_id}, which is not with it"))
            return
        del self._open[answer.call_id]
        opened.overdue.cancel()
        self._desk.end(answer.call_id)
        decide_ms = (self._services.clock.monotonic() - opened.deciding.since) * 1000
        self._services.metrics.decided(self.name, decide_ms / 1000)
        call = opened.deciding.call
        if isinstance(answer, DecideFailed):
            self._dispatch(machine.CallRaised(answer.error))
            logger.warning(
                "decide raised: %s\n%s", answer.error, answer.traceback,
                extra=fields("decide_failed", plugin=self.name, call=call.id),
            )  # fmt: skip
            self._end(call, JobOutcome.FAILED, f"decide raised {answer.error}"[:500])
        else:
            self._dispatch(machine.CallReturned())
            self._tasks.spawn(self._accept(opened, answer, decide_ms), f"accept:{self.name}:{call.id}")
        self._pump()

    async def _accept(self, opened: _Open, answer: Decision, decide_ms: float) -> None:
        assert self.declared is not None  # it answered a call
        await self._services.executor.accept(
            Decided(
                call=opened.deciding.call,
                vault=self.config.vault,
                generation=opened.generation,
                digest=self.declared.digest,
                attempt=answer.attempt,
                context=opened.context,
                outcome=answer.outcome,
                state_writes=answer.state_writes,
                decided_at=self._services.clock.now(),
                decide_ms=decide_ms,
            )
        )

    # --- the machine -------------------------------------------------------------------------------------------------

    def _dispatch(self, event: machine.Event) -> None:
        before = self.state.phase
        self.state, effects = transition(self.state, event, self._services.clock.monotonic(), self.config.restart)
        if self.state.phase is not before:
            self._on_phase(before)
        for effect in effects:
            self._carry_out(effect)

    def _on_phase(self, before: Phase) -> None:
        phase = self.state.phase
        self._services.metrics.phase(self.name, phase)
        logger.info(
            "%s: %s -> %s%s", self.name, before, phase, f" ({self.state.reason})" if self.state.reason else "",
            extra=fields("worker_state", plugin=self.name, generation=self.state.generation, state=phase.value),
        )  # fmt: skip
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None
        if self.state.wake_at is not None:
            delay_s = self.state.wake_at - self._services.clock.monotonic()
            self._wake = asyncio.get_running_loop().call_later(delay_s, self._dispatch, machine.Woke())
        if phase in machine.LIVE:
            self._at_rest.clear()
        elif self.worker is None:
            self._at_rest.set()
        if phase is Phase.QUARANTINED:
            for call in self._desk.take_all_waiting():
                self._end(call, JobOutcome.FAILED, f"plugin is quarantined: {self.state.reason}"[:500])

    def _carry_out(self, effect: machine.Effect) -> None:
        match effect:
            case machine.Spawn(generation):
                self._spawn(generation)
            case machine.StopWorker():
                if self.worker is not None:
                    self.worker.stop(self.config.stop_grace_s)
            case machine.KillWorker():
                if self.worker is not None:
                    self.worker.kill(self.state.reason or "refused")
            case machine.Record(kind, detail):
                self._record(kind, detail)

    def _spawn(self, generation: int) -> None:
        request = spawn_request(self.name, generation, self.config, self._services.runtime_dir)
        worker: Worker
        worker = Worker(
            request,
            Listener(
                on_hello=lambda hello: self._on_hello(hello) if self.worker is worker else None,
                on_message=lambda message: self._on_message(message) if self.worker is worker else None,
                on_refused=lambda reason: self._on_refused(worker, reason),
                on_end=lambda reason: self._on_end(worker, reason),
                on_denied=lambda syscall: self._on_denied(worker, syscall),
            ),
        )
        self.worker = worker
        self._services.metrics.started(self.name)
        deadline_s = self.config.hello_deadline_s
        birth = worker.start(self._services.birthplace, self._services.zmq_context, deadline_s)
        self._tasks.spawn(birth, f"birth:{worker.id}")

    def _on_refused(self, worker: Worker, reason: str) -> None:
        if self.worker is worker:
            self._dispatch(machine.Refused(reason))

    def _on_end(self, worker: Worker, reason: str) -> None:
        if self.worker is not worker:
            return
        self.worker = None
        tail = worker.stderr_tail
        if tail and self.state.phase is not Phase.STOPPING:
            reason = f"{reason}; stderr ends: {tail[-300:]}"
        self._release_calls(reason)
        if worker.is_lost:
            self._dispatch(machine.Lost(reason))
        else:
            self._dispatch(machine.Exited(reason[:500], random.uniform(-1, 1)))  # noqa: S311  # jitter, not a secret
        if self.state.phase not in machine.LIVE:
            self._at_rest.set()

    def _on_denied(self, worker: Worker, syscall: str) -> None:
        self._services.metrics.denied_syscall(self.name, syscall)
        if worker.count_denial(syscall):
            self._record("denied syscall", syscall)

    def _release_calls(self, reason: str) -> None:
        """The worker is gone: its calls wait for the next one, or have ended too many workers."""
        running = [opened.deciding for opened in self._open.values()]
        for opened in self._open.values():
            opened.overdue.cancel()
        self._open.clear()
        blamed, innocent = blame(running, self._guilty)
        self._guilty = None
        for deciding in running:
            self._desk.end(deciding.call.id)
        if self.state.phase is Phase.STOPPING:  # a commanded stop is never a crash, and blames nobody
            blamed, innocent = [], [deciding.call for deciding in running]
        for call in reversed(innocent):
            self._desk.put_back(call)
        for call in blamed:
            if call.attempts >= self.config.attempts:
                self._end(call, JobOutcome.DEAD, f"it ended its worker {call.attempts} times, last: {reason}"[:500])
            else:
                self._desk.put_back(call)
                count = calls.count_attempt(call.id, call.attempts)
                self._tasks.spawn(self._services.store.commit(count), f"attempt:{self.name}:{call.id}")
        self._sweep_later()

    def _record(self, kind: str, detail: str) -> None:
        at = self._services.clock.now()
        event = workers.event(self.name, self.state.generation, kind, detail[:2_000], at)
        self._tasks.spawn(self._services.store.commit(event), f"record:{self.name}")

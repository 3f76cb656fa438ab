"""One plugin's shell: carries out what the state machine decides about its worker, passes on what the worker says.

Everything here belongs to this plugin alone. It owns no policy: restarts are `machine`, calls are `caller`, and what an
answer may do is the executor.
"""

import asyncio
import logging
import random
from collections.abc import Collection, Sequence

from protocol.messages import DecideFailed, Decision, FromWorker, Hello, StateCompareAndSet, StateGet, Welcome
from protocol.triggers import Trigger
from runnerd.config.plugins import PluginConfig
from runnerd.executor.decided import state_limits_of
from runnerd.log import fields
from runnerd.store import workers
from runnerd.store.calls import JobCall, NewCall
from runnerd.supervisor import machine
from runnerd.supervisor.ahead import Ahead
from runnerd.supervisor.bounds import Bounds
from runnerd.supervisor.caller import Caller
from runnerd.supervisor.context import HostServices, PluginHeld
from runnerd.supervisor.greeting import hello_problem
from runnerd.supervisor.intake import intake_of
from runnerd.supervisor.limits import limits_of
from runnerd.supervisor.machine import Phase, WorkerState, transition
from runnerd.supervisor.patience import patient_timeout
from runnerd.supervisor.spawning import spawn_request
from runnerd.supervisor.starvation import Watch
from runnerd.supervisor.state_desk import StateDesk
from runnerd.supervisor.worker import Listener, Worker
from runnerd.tasks import Tasks

logger = logging.getLogger("runnerd.host")

STOP_MARGIN_S = 5.0
MAX_DETAIL = 2_000
MAX_REASON = 500


class PluginHost:
    """Supervises one plugin. All methods are called in the loop; `offer` and the commands return at once."""

    def __init__(self, name: str, config: PluginConfig, services: HostServices, last_generation: int = 0) -> None:
        self.name = name
        self.config = config
        self.state = WorkerState(generation=last_generation, since=services.clock.monotonic())
        self.declared: Hello | None = None
        self.worker: Worker | None = None
        self._first_generation = last_generation + 1
        self._services = services
        self._tasks = Tasks()
        self._state_desk = StateDesk(name, services.store, state_limits_of(config), self.end_worker)
        self._caller = Caller(self, services, self._tasks, self._state_desk.is_held_up)
        self.layers = self._caller.layers
        self._intake = intake_of(config, services.all_routes.rate)
        self.is_awaited = False
        """It will run, though not now: what is offered waits."""
        self.is_ending = False
        """It was told to stop for good; another host may take its place, and nothing starts it any more."""
        self._birth: asyncio.Task[None] | None = None
        self._wake: asyncio.TimerHandle | None = None
        self._at_rest = asyncio.Event()
        self._at_rest.set()

    # --- commands ----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Run it; clears quarantine and the restart budget. Raises PluginHeld."""
        self._check_stays()
        self.is_awaited = False
        self.dispatch(machine.Start())

    def restart(self) -> None:
        """Stop it in order and start it again. Waiting calls stay. Raises PluginHeld."""
        self._check_stays()
        self.dispatch(machine.StopRequested(then_start=True))

    def hold(self, reason: str, *, is_awaited: bool = False) -> None:
        """It does not run for now: disabled, or (`is_awaited`: its calls wait) its chain has not answered.

        Only before its first start.
        """
        self.is_awaited = is_awaited
        self.state = WorkerState(
            generation=self.state.generation, since=self._services.clock.monotonic(), reason=reason
        )

    def refuse(self, reason: str) -> None:
        """It must not run: its vault was refused. Quarantined without a process, and not probed."""
        self.hold(reason)
        self.dispatch(machine.Forbidden(reason))

    async def rest(self) -> None:
        """Give its worker nothing any more, and return when it has decided what it has: see `decide_deadline_s`."""
        await self._caller.rest()

    async def stop(self, reason: str | None = None) -> None:
        """Stop it for good, in order, and wait. Its calls end for `reason`; without one they are `take_waiting`'s."""
        self.is_ending = True
        self.is_awaited = reason is None
        self.dispatch(machine.StopRequested())
        limit_s = self.config.stop_grace_s + STOP_MARGIN_S
        try:
            async with patient_timeout(limit_s):
                await self._at_rest.wait()
        except TimeoutError:
            logger.error("the worker did not end", extra=fields("worker_stuck", plugin=self.name))
            if self._birth is not None:
                self._birth.cancel()  # takes back what is being born
            if self.worker is not None:
                self.worker.kill("did not stop in time")  # closes its link as well
                self._on_end(self.worker, "did not stop in time")
        if self._wake is not None:
            self._wake.cancel()
        await self._caller.recall()
        self._caller.close(reason)
        await self._tasks.finish(limit_s)

    def offer(self, call: JobCall, *, is_owed: bool = False) -> None:
        """Take a committed JobCall. It ends in one JobResult, whatever happens to the worker."""
        (self._caller.keep if self.is_awaited else self._caller.offer)(call, is_owed=is_owed)

    def offer_ahead(self, call: JobCall) -> Ahead | None:
        """Give its worker a call that is being stored; None if it is to be offered when it is."""
        return None if self.is_awaited or self.is_ending else self._caller.offer_ahead(call)

    def refusal(self, call: NewCall, coming: int = 0) -> str | None:
        """Why a trigger's next call is not taken; None if it is. `coming`: those that are being stored before it."""
        waiting = self._caller.desk.waiting_beside(call.source, call.job, call.overlap)
        return self._intake.refusal(self._services.clock.monotonic(), waiting + coming, call.job)

    def is_open(self, call: NewCall) -> bool:
        """Whether an older call of the same trigger is here and not decided."""
        return self._caller.desk.is_open(call.source, call.job)

    def room(self, jobs: Collection[str] = ()) -> int:
        """How many calls of `jobs` a producer that can wait may make now: none while there is no worker."""
        return self._intake.room(self._services.clock.monotonic(), self.waiting, jobs) if self.has_worker else 0

    def offer_again(self, calls: Sequence[JobCall]) -> None:
        """Take calls that had places before, in a former process or at the host before this one: whatever the bound."""
        self._caller.offer_again(calls, is_awaited=self.is_awaited)

    def take_waiting(self) -> list[JobCall]:
        """The calls that no worker was given, once it has stopped: for the host that takes its place."""
        return self._caller.take_waiting()

    def _check_stays(self) -> None:
        if self.is_ending:
            raise PluginHeld(f"{self.name} cannot start now: it is being reloaded or removed; ask again in a moment")

    @property
    def restarts(self) -> int:
        """Starts of a worker since runnerd started, without the first."""
        return max(0, self.state.generation - self._first_generation)

    @property
    def waiting(self) -> int:
        """Calls in the queue."""
        return self._caller.waiting

    @property
    def deciding(self) -> int:
        """Calls that are being decided."""
        return self._caller.deciding

    @property
    def triggers(self) -> tuple[Trigger, ...]:
        """The operator's triggers, or those that the class declares."""
        if self.config.triggers is not None:
            return self.config.triggers
        return self.declared.triggers if self.declared else ()

    # --- caller.Seat -------------------------------------------------------------------------------------------------

    @property
    def has_worker(self) -> bool:
        """Whether a worker that said Hello can be given a call."""
        return self.state.phase in machine.SERVING and self.worker is not None and not self.worker.is_gone

    @property
    def watch(self) -> Watch | None:
        """Of the worker's process; None while there is none."""
        return self.worker.watch if self.worker is not None else None

    def send_frame(self, frame: bytes) -> None:
        """Give it to the worker."""
        if self.worker is not None:
            self.worker.send_frame(frame)

    def abort_worker(self, reason: str) -> None:
        """End the worker, with its stacks written first."""
        if self.worker is not None:
            self.worker.abort(reason)

    def end_worker(self, reason: str) -> None:
        """End the worker at once: it did what it may not."""
        if self.worker is not None:
            self.worker.kill(reason)

    def dispatch(self, event: machine.Event) -> None:
        """Ask the state machine, and carry out what it says."""
        before = self.state
        self.state, effects = transition(before, event, self._services.clock.monotonic(), self.config.restart)
        if self.state.wake_at != before.wake_at:
            self._set_alarm()
        if self.state.phase is not before.phase:
            self._on_phase(before.phase)
        for effect in effects:
            self._carry_out(effect, before.generation)

    # --- what the worker says ----------------------------------------------------------------------------------------

    def _on_hello(self, hello: Hello) -> None:
        problem = hello_problem(
            hello, "" if self.worker is None else self.worker.digest, self.name, self.config, self.state,
            self._services.snapshots, self._services.chains, self._services.producers,
        )  # fmt: skip
        if problem is not None:
            self.dispatch(machine.Refused(problem[:MAX_REASON]))
            return
        if self.state.phase is Phase.STOPPING:  # told to stop before it could hear it
            self._carry_out(machine.StopWorker(), self.state.generation)
            return
        self.declared = hello
        if self.worker is not None:
            self.worker.send(Welcome(params=self.config.params))
        self.dispatch(machine.HelloAccepted())
        self._services.on_declared(self.name, self.triggers)
        self._caller.pump()

    def _hears(self, worker: Worker) -> bool:
        """Whether what `worker` says counts: it is the present one, and was not refused."""
        return self.worker is worker and self.state.phase in machine.LIVE

    def _on_message(self, worker: Worker, message: FromWorker) -> None:
        problem: str | None = None
        match message:
            case Decision() | DecideFailed():
                problem = self._caller.on_answer(message)
            case StateGet() | StateCompareAndSet() if self._state_desk.has_room:
                reply = self._state_desk.answer(message, worker.send, lambda: self.worker is worker)
                self._tasks.spawn(reply, f"state:{self.name}")
            case StateGet() | StateCompareAndSet():
                problem = "too many state requests at once"
            case _:
                problem = f"{type(message).__name__} at this point"
        if problem is not None:
            self.dispatch(machine.Refused(f"bad protocol: {problem}"))

    def _on_refused(self, worker: Worker, reason: str) -> None:
        if self.worker is worker:
            self.dispatch(machine.Refused(reason[:MAX_REASON]))

    def _on_denied(self, worker: Worker, syscall: str) -> None:
        self._services.metrics.denied_syscall(self.name, syscall)
        if worker.denials[syscall] == 1:
            self._record("denied syscall", syscall, worker.generation)

    def _on_attack(self, worker: Worker, what: str) -> None:
        self._services.metrics.attacked(self.name, what)
        self._record("attack", what, worker.generation)
        if self.worker is worker:
            self.dispatch(machine.Refused(f"attack: {what}", is_final=True))

    def _on_end(self, worker: Worker, reason: str) -> None:
        if self.worker is not worker:
            return
        self.worker = None
        if worker.last_words and self.state.phase is not Phase.STOPPING:
            reason = f"{reason}; stderr: {worker.last_words}"
        self._caller.on_worker_end(reason, is_blameless=worker.is_lost)
        if worker.is_lost:
            self.dispatch(machine.Lost(reason[:MAX_REASON]))
        else:
            self.dispatch(machine.Exited(reason[:MAX_REASON], random.uniform(-1, 1)))  # noqa: S311  # jitter, no secret
        if self.state.phase not in machine.LIVE:
            self._at_rest.set()

    # --- what the machine wants --------------------------------------------------------------------------------------

    def _on_phase(self, before: Phase) -> None:
        phase = self.state.phase
        self._services.metrics.phase(self.name, phase)
        logger.log(
            logging.WARNING if phase in (Phase.BACKOFF, Phase.QUARANTINED, Phase.UNHEALTHY) else logging.INFO,
            "%s: %s -> %s%s", self.name, before, phase, f" ({self.state.reason})" if self.state.reason else "",
            extra=fields("worker_state", plugin=self.name, generation=self.state.generation, state=phase.value),
        )  # fmt: skip
        if phase in machine.LIVE:
            self._at_rest.clear()
        elif self.worker is None:
            self._at_rest.set()
        if phase is Phase.QUARANTINED:
            self._caller.give_up_waiting(f"plugin is quarantined: {self.state.reason}")

    def _set_alarm(self) -> None:
        if self._wake is not None:
            self._wake.cancel()
        if self.state.wake_at is not None:
            delay_s = self.state.wake_at - self._services.clock.monotonic()
            self._wake = asyncio.get_running_loop().call_later(delay_s, self.dispatch, machine.Woke())

    def _carry_out(self, effect: machine.Effect, generation_before: int) -> None:
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
                self._record(kind, detail, generation_before)  # what ended, even if the next is on its way already

    def _spawn(self, generation: int) -> None:
        worker: Worker
        worker = Worker(
            spawn_request(self.name, generation, self.config, self._services.runtime_dir),
            Listener(
                on_hello=lambda hello: self._on_hello(hello) if self._hears(worker) else None,
                on_message=lambda message: self._on_message(worker, message) if self._hears(worker) else None,
                on_refused=lambda reason: self._on_refused(worker, reason),
                on_end=lambda reason: self._on_end(worker, reason),
                on_denied=lambda syscall: self._on_denied(worker, syscall),
                on_attack=lambda what: self._on_attack(worker, what),
            ),
            Bounds(limits_of(self.config), self._services.monitor, self._services.cgroups, self._services.noise),
        )
        self.worker = worker
        self._services.metrics.started(self.name)
        birth = worker.start(self._services.birthplace, self.config.hello_deadline_s)
        self._birth = self._tasks.spawn(birth, f"birth:{worker.id}")

    def _record(self, kind: str, detail: str, generation: int) -> None:
        event = workers.event(self.name, generation, kind, detail[:MAX_DETAIL], self._services.clock.now())
        self._tasks.spawn(self._services.store.commit(event), f"record:{self.name}")

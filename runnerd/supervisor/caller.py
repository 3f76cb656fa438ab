"""Takes each call of one plugin from the queue to the worker's answer, and on to the executor or to its end.

Order, bounds and blame are `desk`; whether there is a worker at all is the host's (`Seat`). Every call that comes in
here ends in exactly one JobResult, whatever happens to workers meanwhile.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial

from protocol.codec import encode
from protocol.errors import ProtocolError
from protocol.messages import DecideFailed, Decision, TriggerKind
from protocol.triggers import Read
from runnerd.crash_points import reached
from runnerd.errors import explain
from runnerd.log import fields
from runnerd.routing.layers import layers_of
from runnerd.store import calls
from runnerd.store.calls import JobCall, JobOutcome
from runnerd.store.errors import StateOverLimit, StoreError
from runnerd.store.statement import Statement
from runnerd.supervisor import machine
from runnerd.supervisor.ahead import Ahead
from runnerd.supervisor.context import HostServices, Snapshot, SnapshotFailed, decide_message
from runnerd.supervisor.desk import Deciding, Desk, blame
from runnerd.supervisor.machine import Phase
from runnerd.supervisor.opened import Opened
from runnerd.supervisor.patience import Deadline
from runnerd.supervisor.seat import Seat
from runnerd.tasks import Tasks

logger = logging.getLogger("runnerd.calls")

MAX_REASON = 500
SWEEP_S = 1.0


class Caller:
    """The calls of one plugin. Everything runs in the loop; `offer` returns at once."""

    def __init__(self, seat: Seat, services: HostServices, tasks: Tasks, is_held_up: Callable[[], bool]) -> None:
        """`is_held_up`: whether the worker waits for the ledger, which is away or slow; that time is not its own."""
        self._seat = seat
        self._services = services
        self._tasks = tasks
        self._asking = Tasks()
        self._is_held_up = is_held_up
        self.layers = layers_of({seat.name: seat.config}, services.all_routes.limits)
        of_jobs = {job: limits.parallel for job, limits in seat.config.jobs.items() if limits.parallel is not None}
        self.desk = Desk(seat.config.parallel, seat.config.queue, of_jobs, services.all_routes.places, self.pump)
        self._is_resting = False
        self._open: dict[int, Opened] = {}
        self._guilty: int | None = None
        self._sweep: asyncio.TimerHandle | None = None
        self._end_of_plugin: str | None = None

    @property
    def waiting(self) -> int:
        """Calls in the queue."""
        return self.desk.waiting

    @property
    def deciding(self) -> int:
        """Calls that were taken from the queue and not answered."""
        return len(self.desk.running)

    def offer(self, call: JobCall, *, is_owed: bool = False) -> None:
        """Take a committed JobCall. `is_owed`: whatever the bound."""
        state = self._seat.state
        if state.phase in (Phase.QUARANTINED, Phase.STOPPED):
            self._end(call, JobOutcome.FAILED, f"plugin is {state.phase}: {state.reason}")
        else:
            self.keep(call, is_owed=is_owed)

    def keep(self, call: JobCall, *, is_owed: bool = False) -> None:
        """Take a committed JobCall though there may be no worker for a while: it waits, at most until its deadline."""
        if is_owed:
            self._put_back([call])
            self.pump()
        elif self.desk.put(call):
            self._end_superseded()
            self.pump()
            self._sweep_later()
        else:
            self._end(call, JobOutcome.FAILED, f"queue is full ({self._seat.config.queue} calls wait)")

    def offer_ahead(self, call: JobCall) -> Ahead | None:
        """Give the worker a call that is being stored, if it would be given at once; None: offer it when it is."""
        seat, desk = self._seat, self.desk
        if not seat.has_worker or self._is_resting or desk.waiting:
            return None
        reads = seat.declared.reads if seat.declared is not None else ()
        snapshot = self._services.snapshots.at_hand(seat.config.place, reads)
        if snapshot is None or self._refusal(call) is not None or not desk.put(call):
            return None
        if desk.take(self._services.clock.monotonic()) is None:  # no place, or beside a suspect
            desk.take_all_waiting()
        elif self._send(call, snapshot, ahead := Ahead(call)) is None:
            return ahead
        desk.end(call.id)
        desk.decline()
        return None

    def offer_again(self, accepted: Sequence[JobCall], *, is_awaited: bool) -> None:
        """Take calls that had places before, at another host or in a former process: all of them, and they come first.

        `is_awaited`: even of a plugin that is stopped, because it will be started.
        """
        if self._seat.state.phase is Phase.STOPPED and not is_awaited:
            for call in accepted:
                self.offer(call)
        else:
            self._wait_again(accepted)
            self.pump()

    async def rest(self) -> None:
        """Start nothing any more, and return when nothing is being decided: each call has its deadline."""
        self._is_resting = True
        await self.desk.is_idle.wait()

    def pump(self) -> None:
        """Start what may start."""
        while self._seat.has_worker and not self._is_resting:
            call = self.desk.take(self._services.clock.monotonic())
            if call is None:
                break
            reads = self._seat.declared.reads if self._seat.declared is not None else ()
            snapshot = self._services.snapshots.at_hand(self._seat.config.place, reads)
            if snapshot is None:
                self._asking.spawn(self._ask(call, reads), f"call:{self._seat.name}:{call.id}")
            elif (refusal := self._refusal(call) or self._send(call, snapshot)) is not None:
                self.desk.end(call.id)
                self._end(call, *refusal)
        self.desk.decline()

    def on_answer(self, answer: Decision | DecideFailed) -> str | None:
        """The worker's answer to a call. Returns what is wrong with it, if it answers nothing that it was asked."""
        opened = self._open.get(answer.call_id)
        if opened is None or opened.deciding.attempt != answer.attempt:
            return f"an answer to call {answer.call_id}, which is not with it"
        del self._open[answer.call_id]
        opened.overdue.cancel()
        self.desk.end(answer.call_id, is_stored=isinstance(answer, DecideFailed))
        decide_ms = (self._services.clock.monotonic() - opened.deciding.since) * 1000
        self._services.metrics.decided(self._seat.name, decide_ms / 1000)
        call = opened.deciding.call
        event = machine.CallRaised(answer.error) if isinstance(answer, DecideFailed) else machine.CallReturned()
        if not call.is_dry_run:  # which changes nothing, not even how the plugin is
            self._seat.dispatch(event)
        if isinstance(answer, DecideFailed):
            logger.warning(
                "decide raised %s\n%s", answer.error, answer.traceback,
                extra=fields("decide_failed", plugin=self._seat.name, call=call.id),
            )  # fmt: skip
            self._end(call, JobOutcome.FAILED, f"decide raised {answer.error}", opened)
        else:
            accept = opened.decide(self._accept(opened, answer, decide_ms), self.desk.stored)
            self._tasks.spawn(accept, f"accept:{self._seat.name}:{call.id}")
        self.pump()
        return None

    def on_worker_end(self, reason: str, *, is_blameless: bool = False) -> None:
        """The worker is gone: its calls wait for the next one, or have ended too many workers.

        `is_blameless`: it ended through no fault of its plugin.
        """
        running: list[Deciding] = []
        for opened in self._open.values():
            opened.overdue.cancel()
            self.desk.end(opened.call.id)
            if opened.ahead is not None and not opened.ahead.settled.done():
                opened.ahead.is_dropped = True  # when it is stored it is offered, to the next worker
            elif not opened.call.is_dry_run:
                running.append(opened.deciding)
            else:  # whoever asked may ask again
                self._end(opened.call, JobOutcome.FAILED, f"its worker ended: {reason}")
        self._open.clear()
        blamed, innocent = blame(running, self._guilty)
        self._guilty = None
        # A commanded stop is never a crash, and blames nobody either.
        if is_blameless or self._seat.state.phase is Phase.STOPPING:
            blamed, innocent = [], [deciding.call for deciding in running]
        for call in blamed:
            count = calls.count_attempt(call.id, call.attempts)
            self._tasks.spawn(self._count(count), f"attempt:{self._seat.name}:{call.id}")
            if call.attempts >= self._seat.config.attempts:
                self._end(call, JobOutcome.DEAD, f"it ended its worker {call.attempts} times, last: {reason}")
            else:
                innocent.append(call)
        self._wait_again(innocent)

    def give_up_waiting(self, reason: str) -> None:
        """Nobody will decide what waits: end it."""
        for call in self.desk.take_all_waiting():
            self._end(call, JobOutcome.FAILED, reason)

    async def recall(self) -> None:
        """No worker will come: calls that were taken and never sent, since their snapshot is not there, wait again."""
        await self._asking.cancel()
        unsent = [deciding.call for call_id, deciding in self.desk.running.items() if call_id not in self._open]
        for call in unsent:
            self.desk.end(call.id)
        self._put_back(unsent)

    def take_waiting(self) -> list[JobCall]:
        """Empty the queue; whoever takes the calls answers for their results."""
        return self.desk.take_all_waiting()

    def close(self, reason: str | None) -> None:
        """The plugin ends, and so do its calls, for `reason`; without one they stay queued in the ledger."""
        if self._sweep is not None:
            self._sweep.cancel()
        if reason is not None:
            self._end_of_plugin = reason
            self.give_up_waiting(reason)

    # --- one call ----------------------------------------------------------------------------------------------------

    async def _ask(self, call: JobCall, reads: Sequence[Read]) -> None:
        """Give `call` to the worker, or end it if there is a reason not to."""
        refusal = self._refusal(call)
        if refusal is None:
            try:
                snapshot = await self._services.snapshots.take(self._seat.config.place, reads)
            except SnapshotFailed as error:
                refusal = JobOutcome.FAILED, f"snapshot: {error}"
            except Exception as error:  # a defect of ours must not keep the call, and its place, for ever
                refusal = self._defect(call, error)
            else:
                if not self._seat.has_worker:  # it ended while the chain was asked; the call was never with it
                    self.desk.end(call.id)
                    self._wait_again([call])
                    return
                refusal = self._send(call, snapshot)
        if refusal is not None:
            self.desk.end(call.id)
            self._end(call, *refusal)
            self.pump()

    def _send(self, call: JobCall, snapshot: Snapshot, ahead: Ahead | None = None) -> tuple[JobOutcome, str] | None:
        """Give `call` to the worker, which is there; or why that cannot be."""
        seat, clock = self._seat, self._services.clock
        try:
            frame = encode(decide_message(call, snapshot, clock.now()))
        except ProtocolError as error:
            return JobOutcome.FAILED, f"snapshot: {error}"
        except Exception as error:
            return self._defect(call, error)
        limit_s = self.layers.effective(seat.name, call.job).decide_deadline_s or seat.config.decide_deadline_s
        overdue = Deadline(limit_s, partial(self._overdue, call.id, limit_s), seat.watch, self._is_held_up)
        deciding = Deciding(call, clock.monotonic())
        self._open[call.id] = Opened(deciding, frame.decode(), seat.state.generation, overdue, ahead)
        seat.send_frame(frame)
        return None

    def _defect(self, call: JobCall, error: Exception) -> tuple[JobOutcome, str]:
        logger.error("no context", exc_info=error, extra=fields("context_failed", plugin=self._seat.name, call=call.id))
        return JobOutcome.FAILED, explain(error)

    def _refusal(self, call: JobCall) -> tuple[JobOutcome, str] | None:
        if self._services.clock.now() >= call.deadline_at:
            return JobOutcome.EXPIRED, "its deadline passed before it could be decided"
        pause = self._services.pauses.of(self._seat.name, self._seat.config.place)
        if pause is not None:
            return JobOutcome.DENIED, str(pause)
        state = self._seat.state
        if call.trigger is TriggerKind.CRON and state.skips_left:
            self._seat.dispatch(machine.TickSkipped())
            return JobOutcome.EXPIRED, f"skipped, {state.skips_left - 1} more: plugin is unhealthy: {state.reason}"
        return None

    async def _accept(self, opened: Opened, answer: Decision, decide_ms: float) -> None:
        seat, now = self._seat, self._services.clock.now()
        decided = opened.decided(answer, seat.config, seat.declared, now, decide_ms)
        try:
            await self._services.executor.accept(decided)
        except StoreError as error:  # nothing of the Decision stands; what cannot be stored never can
            self._end(decided.call, JobOutcome.FAILED, f"the Decision cannot be stored: {error}")
            if isinstance(error, StateOverLimit) and self._seat.state.generation == opened.generation:
                self._end_worker(decided.call, str(error))
        except Exception as error:  # a defect of ours must not keep the call for ever
            logger.exception("no Decision", extra=fields("accept_failed", plugin=self._seat.name, call=decided.call.id))
            self._end(decided.call, JobOutcome.FAILED, explain(error))

    def _end_worker(self, guilty: JobCall, reason: str) -> None:
        """For what it decided in `guilty`, which has ended: the calls that are with it are not to blame."""
        if self._seat.has_worker:
            if self._guilty is None:
                self._guilty = guilty.id
            self._seat.end_worker(reason)

    async def _count(self, count: Statement) -> None:
        await self._services.store.commit(count)
        reached("blame.stored")

    def _end(self, call: JobCall, outcome: JobOutcome, reason: str, opened: Opened | None = None) -> None:
        finish = self._services.results.finish(call, outcome, reason[:MAX_REASON])
        work = finish if opened is None else opened.once_stored(finish)
        self._tasks.spawn(work, f"finish:{self._seat.name}:{call.id}")

    def _wait_again(self, taken: Sequence[JobCall]) -> None:
        """No worker has these calls any more: they wait for the next one, or end if there will be none."""
        state = self._seat.state
        reason = f"plugin is quarantined: {state.reason}" if state.phase is Phase.QUARANTINED else self._end_of_plugin
        if reason is None:
            self._put_back(taken)
            return
        for call in taken:
            self._end(call, JobOutcome.FAILED, reason)

    def _put_back(self, taken: Sequence[JobCall]) -> None:
        self.desk.put_back(*taken)
        self._end_superseded()
        self._sweep_later()

    def _end_superseded(self) -> None:
        """A crash before these results are stored changes nothing: the next start finds the same calls."""
        for superseded in self.desk.take_superseded():
            self._end(superseded.call, JobOutcome.EXPIRED, f"superseded by call {superseded.by}")

    def _overdue(self, call_id: int, limit_s: float) -> None:
        """`decide` took longer than its deadline: the worker is ended, and the first such call is to blame."""
        if call_id in self._open and self._guilty is None:
            self._guilty = call_id
            self._seat.abort_worker(f"decide of call {call_id} took longer than {limit_s:g} s")

    def _sweep_later(self) -> None:
        if self._sweep is None and self.desk.waiting:
            self._sweep = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep_expired)

    def _sweep_expired(self) -> None:
        self._sweep = None
        for call in self.desk.take_expired(self._services.clock.now()):
            self._end(
                call, JobOutcome.EXPIRED, f"its deadline passed in the queue (plugin was {self._seat.state.phase})"
            )
        self._sweep_later()

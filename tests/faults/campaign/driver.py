"""Drives one campaign on one chain: faults by the plan while plugins act, looks of the checker, rest and judgement.

The daemon is kept running like systemd would. Nothing here knows how the executor works: only when it has come to rest.
"""

import math
import signal
import time
from collections.abc import Callable, Collection
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Final

import psycopg

from runnerd.control.client import ask
from runnerd.control.messages import ControlError, Fire, Fired
from tests.faults.campaign import chain_faults, process_faults
from tests.faults.campaign.foreign import Stranger
from tests.faults.campaign.plan import CRASH, Fault, plan
from tests.faults.campaign.report import Report
from tests.faults.campaign.world import BLOCK_TIME_S, CONFIRMATIONS, World, build_world
from tests.faults.checker import Case, Witness, check_safety, check_settled, oldest_gap

MAX_ARMED: Final = 10
"""RPC faults that may wait at once: more would leave no request unharmed, and nothing would ever go forward."""
PAUSE_DEADLINE_S: Final = 0.6
LOOK_EVERY: Final = 50
JUDGE_EVERY: Final = 500
FIRE_EVERY: Final = 7
REST_DEADLINE_S: Final = 90.0
DEATH_POINT: Final = "death.stored"
STRANGE_POINTS: Final = ("stranger.stored", "adopted.stored", DEATH_POINT, DEATH_POINT)
"""The last one is seldom reached: the stranger has to take a nonce that was ours."""
DEATH_DEADLINE_S: Final = 2 * CONFIRMATIONS * BLOCK_TIME_S
POLL_S: Final = 0.2
SLOW_GAP_BLOCKS: Final = 60
"""Worth a line."""
MAX_GAP_BLOCKS: Final = 600
"""While faults go on. Two minutes: zero room, base fees and dead daemons delay a nonce, nothing may forget it."""
OPEN: Final = """
select (select count(*) from job_calls where state <> 'done')
     + (select count(*) from intents where state not in ('final', 'reverted', 'denied', 'cancelled', 'expired'))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to do: how many faults, of which seed; only some kinds, or in a broken order, if wanted."""

    seed: int
    faults: int
    kinds: Collection[str] = ()
    points: Collection[str] = ()
    broken: str | None = None
    judge_every: int = JUDGE_EVERY
    say: Callable[[str], None] = print
    say_every_s: float = 30.0
    longest_s: float = math.inf
    """Faults stop after so many seconds, however many there were."""
    rest_deadline_s: float = REST_DEADLINE_S


def run_campaign(order: Order) -> Report:
    """All of it. What is wrong is in the report."""
    report = Report(order.seed, order.faults, order.broken)
    order.say(f"FAULT_SEED={order.seed} N={order.faults}" + (f" BREAK={order.broken}" if order.broken else ""))
    with build_world(report.hit, order.broken) as world:
        campaign = _Campaign(world, order, report)
        try:
            campaign.attack()
            campaign.rest()
            campaign.judge()
        finally:
            report.starts, report.unexpected = world.daemon.starts, world.daemon.unexpected
            report.reached = world.daemon.page.counts
        if not report.is_clean:
            report.problems.append(f"the end of the log:\n{world.daemon.log_tail()}")
    return report


class _Campaign:
    def __init__(self, world: World, order: Order, report: Report) -> None:
        self._world = world
        self._order = order
        self._report = report
        self._witness = Witness()
        self._stranger = Stranger(world)
        self._accepted: set[str] = set()
        self._slow: set[int] = set()
        self._said_at = time.monotonic()

    def attack(self) -> None:
        """Until enough faults have happened, or something is wrong already."""
        world, report = self._world, self._report
        world.daemon.keep()
        process_faults.wait_progress(world)
        for fault in plan(self._order.seed, kinds=self._order.kinds, points=self._order.points):
            is_over = time.monotonic() - report.began > self._order.longest_s
            if report.total >= self._order.faults or is_over or not report.is_clean:
                return
            world.daemon.keep()
            self._do(fault)
            world.faulty.wait_requests(fault.pause, PAUSE_DEADLINE_S)
            if fault.number % FIRE_EVERY == 0:
                self._fire(fault)
            if fault.number % LOOK_EVERY == LOOK_EVERY - 1:
                self._look(fault)
            if fault.number % self._order.judge_every == self._order.judge_every - 1:
                report.problems += check_safety(self._case()).problems

    def rest(self) -> None:
        """Faults stop, nobody asks for anything new, and everything must come to its end."""
        world = self._world
        world.faulty.disarm()
        world.daemon.page.disarm()
        world.daemon.page.clock_offset_s = 0.0
        chain_faults.calm(world)
        world.database.wait_ready()
        world.daemon.keep()
        world.silence_plugins()
        before = world.daemon.starts
        began = time.monotonic()
        while time.monotonic() - began < self._order.rest_deadline_s:
            world.daemon.keep()
            self._stranger.settle()
            if world.daemon.starts == before:
                # Again and again: during the start it is not heard, or fatal. Who starts now has read the file.
                world.daemon.expect_end()
                world.daemon.signal(signal.SIGHUP)
            if self._is_at_rest():
                break
            time.sleep(POLL_S)
        self._report.settled_s = time.monotonic() - began
        code = world.daemon.stop()
        if code != 0:
            self._report.problems.append(f"the daemon does not stop in order: exit code {code}")

    def judge(self) -> None:
        """The last word is the checker's."""
        self._witness.look(self._world.database.dsn)
        self._note()
        self._report.findings = check_settled(self._case())

    def _do(self, fault: Fault) -> None:
        if fault.kind.startswith("rpc ") and fault.kind != "rpc wrong chain id":
            self._world.faulty.arm(fault)  # counted when it happens
            if not self._world.faulty.wait_armed(MAX_ARMED, PAUSE_DEADLINE_S):
                self._report.missed["rpc (no request came)"] += self._world.faulty.disarm()
            return
        has_happened = self._inject(fault)
        if fault.kind == "rpc wrong chain id":
            return  # its proxy counts it
        (self._report.done if has_happened else self._report.missed)[fault.kind] += 1
        if fault.kind == CRASH and has_happened:
            self._report.crashed_at[str(fault.parameters["point"])] += 1

    def _inject(self, fault: Fault) -> bool:
        """Do it. Whether it could be done: there may be nothing to drop, or nobody to kill."""
        for do in (self._hurt_chain, self._hurt_processes, self._hurt_database):
            has_happened = do(fault)
            if has_happened is not None:
                return has_happened
        if fault.kind == "foreign transaction":
            return self._act_as_stranger(fault)
        if fault.kind == "clock jump":  # there and back: every second one sets it right
            page = self._world.daemon.page
            page.clock_offset_s = 0.0 if page.clock_offset_s else fault.seconds_of("seconds")
            return True
        raise AssertionError(f"nobody does {fault}")

    def _act_as_stranger(self, fault: Fault) -> bool:
        """The supervisor may die at one of the points that nothing else reaches."""
        page, daemon = self._world.daemon.page, self._world.daemon
        point = fault.dice.choice(STRANGE_POINTS)
        page.arm(point, 1)
        daemon.expect_end()
        is_done = self._stranger.act()
        if is_done and point == DEATH_POINT:
            # Its nonce may have been one of ours: proven only when it is final.
            until = time.monotonic() + DEATH_DEADLINE_S
            while page.killed_at is None and time.monotonic() < until:
                time.sleep(POLL_S)
        if page.killed_at is not None:
            self._report.crashed_at[page.killed_at] += 1
        page.disarm()
        return is_done

    def _hurt_chain(self, fault: Fault) -> bool | None:
        world = self._world
        match fault.kind:
            case "drop transaction":
                return chain_faults.drop_one(world, fault)
            case "drop all transactions":
                return chain_faults.drop_all(world)
            case "reorg":
                return chain_faults.reorg(world, fault.number_of("depth"))
            case "blocks without room":
                return chain_faults.fill_blocks(world, fault.number_of("blocks"))
            case "base fee jump":
                return chain_faults.jump_base_fee(world, fault.number_of("blocks"))
            case _:
                return None

    def _hurt_processes(self, fault: Fault) -> bool | None:
        world = self._world
        match fault.kind:
            case "kill at a crash point":
                return process_faults.crash(world, fault)
            case "kill supervisor":
                return process_faults.kill_supervisor(world, fault)
            case "stop supervisor":
                return process_faults.stop_supervisor(world)
            case "freeze supervisor":
                return process_faults.freeze_supervisor(world, fault.seconds_of("seconds"))
            case "kill worker":
                return process_faults.kill_workers(world, fault)
            case "kill zygote":
                return process_faults.kill_zygote(world)
            case "rpc wrong chain id":
                return process_faults.start_with_wrong_chain(world, fault)
            case _:
                return None

    def _hurt_database(self, fault: Fault) -> bool | None:
        database = self._world.database
        match fault.kind:
            case "database sessions ended":
                database.end_sessions()
            case "database answers lost":
                database.lose_answers(0.05)
            case "database silent":
                database.fall_silent(fault.seconds_of("seconds"))
            case "database restart":
                database.restart(str(fault.parameters["signal"]))
            case _:
                return None
        return True

    def _fire(self, fault: Fault) -> None:
        """A person asks for a call, under a key: once it is confirmed it must not be lost."""
        key = f"campaign-{fault.number}"
        plugin = self._world.plugins[fault.number % len(self._world.plugins)]
        with suppress(ControlError):
            reply = ask(self._world.daemon.control_socket, Fire(plugin=plugin, key=key), timeout_s=1.0)
            if isinstance(reply, Fired):
                self._accepted.add(key)

    def _look(self, fault: Fault) -> None:
        with suppress(psycopg.OperationalError):  # the database may be away: that is one of the faults
            self._witness.look(self._world.database.dsn)
            gap = oldest_gap(self._case())
            if gap is not None:
                self._report.longest_gap = max(self._report.longest_gap, gap[1])
                if gap[1] > SLOW_GAP_BLOCKS and gap[0] not in self._slow:
                    self._slow.add(gap[0])
                    self._order.say(f"nonce {gap[0]} has waited for {gap[1]} blocks at {fault}; {self._daemon_says()}")
                if gap[1] > MAX_GAP_BLOCKS:
                    self._report.problems.append(f"nonce {gap[0]} has waited for {gap[1]} blocks")
        self._note()
        self._report.starts = self._world.daemon.starts
        if time.monotonic() - self._said_at > self._order.say_every_s:
            self._said_at = time.monotonic()
            self._order.say(self._report.progress(fault))

    def _daemon_says(self) -> str:
        return f"the daemon's last warnings:\n{self._world.daemon.log_tail(8)}"

    def _note(self) -> None:
        """What was seen on the way becomes a problem of the report, once."""
        for seen in (self._witness.problems, self._world.daemon.stalls):
            self._report.problems += seen
            seen.clear()

    def _case(self) -> Case:
        return self._world.case(frozenset(self._stranger.hashes), frozenset(self._accepted))

    def _is_at_rest(self) -> bool:
        """Nothing is open, twice in a row: a reload may be about to hand on what waits."""
        for _ in range(2):
            try:
                with closing(psycopg.connect(self._world.database.dsn, connect_timeout=5)) as connection:
                    row = connection.execute(OPEN.encode()).fetchone()
            except psycopg.OperationalError:
                return False
            if row is None or row[0] != 0:
                return False
            time.sleep(POLL_S * 2)
        return True

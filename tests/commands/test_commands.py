"""Commands of the control socket that come close together, or late: the last one counts, and nobody waits in vain."""

import asyncio
from collections.abc import Coroutine
from typing import Any, cast

import pytest

from protocol.trigger import DEFAULT_JOB
from runnerd.commands.commands import Commands
from runnerd.commands.patience import LEDGER_DEADLINE_S, told_when_late
from runnerd.control.client import TIMEOUT_S
from runnerd.control.messages import ControlError, Done, Fire, Fired, Pause, Pending, Reduce, Resume
from runnerd.control.record_messages import GetRuns
from runnerd.pauses import Pauses, Scope
from runnerd.routing.results import Results
from runnerd.store.calls import JobOutcome
from runnerd.store.errors import StoreUnavailable
from runnerd.store.ledger import Rows
from runnerd.store.statement import Statement
from tests.control.test_messages import REQUESTS
from tests.support.aio import run_async
from tests.support.caller_parts import FakeLedger
from tests.support.calls import job_call
from tests.support.plugins_bench import plugin_config
from tests.support.virtual_time import VirtualClock, VirtualTimeLoop

ME = "uid:1000"
STANDING = {"id": 1, "job": DEFAULT_JOB, "payload": "", "transaction": None}
"""The call that stands under every key."""


class OneHost:
    """A configured plugin."""

    config = plugin_config()
    declared = None


class KnownCalls:
    """A router that knows every key already."""

    def __init__(self, ledger: FakeLedger) -> None:
        self.ledger = ledger
        self.hosts = {"alpha": OneHost()}
        self.is_draining = False

    def addressed(self, call: object) -> object:
        return call

    async def submit(self, new_calls: object, *cursors: Statement) -> list[object]:
        await self.ledger.commit(*cursors)
        return []


class LateLedger(FakeLedger):
    """Call 1 has no outcome when it is first asked for, and its result is told before the answer is there."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__()
        self.results = Results(self, clock)
        self.asked = 0

    async def fetch(self, statement: Statement) -> Rows:
        self.asked += 1
        if self.asked == 1:
            await self.results.finish(job_call(1), JobOutcome.NOOP, "quiet")
            return [{**STANDING, "outcome": None, "reason": None}]
        return [{**STANDING, "outcome": "noop", "reason": "quiet"}]


class Bench:
    """Commands with a ledger and a router in memory."""

    def __init__(self, kind: type[LateLedger] = LateLedger) -> None:
        clock = VirtualClock()
        self.ledger = kind(clock)
        self.pauses = Pauses()
        self.commands = Commands(
            cast("Any", KnownCalls(self.ledger)), cast("Any", None), self.ledger.results, self.pauses,
            cast("Any", self.ledger), cast("Any", None), {"main": {"mint"}}, cast("Any", None), cast("Any", None),
            cast("Any", None), cast("Any", None), clock,
        )  # fmt: skip


def run(scenario: Coroutine[Any, Any, None]) -> None:
    """On virtual time."""
    run_async(scenario, loop_factory=VirtualTimeLoop)


@pytest.mark.parametrize("last", [Pause, Resume])
def test_of_a_pause_and_a_resume_close_together_the_last_one_counts(last: type[Pause] | type[Resume]) -> None:
    """In memory as in the ledger, where commits keep their order."""

    async def scenario() -> None:
        bench = Bench()
        await bench.commands.handle(Pause(scope="vault", name="main"), ME)
        first = Resume if last is Pause else Pause
        await asyncio.gather(
            *(bench.commands.handle(command(scope="vault", name="main"), ME) for command in (first, last))
        )
        assert ((Scope.VAULT, "main") in bench.pauses.active) is (last is Pause)

    run(scenario())


def test_pause_of_what_is_configured_no_more_can_be_taken_back() -> None:
    """Else it would stand for ever; a name that was never paused is still refused."""

    async def scenario() -> None:
        bench = Bench()
        row = {"scope": "plugin", "name": "gone", "paused_by": ME, "paused_at": VirtualClock().now(), "mode": "paused"}
        bench.pauses.load([row])
        with pytest.raises(ControlError, match="there is no plugin 'other'"):
            await bench.commands.handle(Resume(scope="plugin", name="other"), ME)
        with pytest.raises(ControlError, match="there is no vault or keeper 'gone'"):
            await bench.commands.handle(Resume(scope="vault", name="gone"), ME)
        assert await bench.commands.handle(Resume(scope="plugin", name="gone"), ME) == Done(text="resumed")
        assert bench.pauses.active == {}

    run(scenario())


def test_waiting_for_a_known_key_ends_although_its_result_is_told_meanwhile() -> None:
    """Between the look into the ledger and the listening: it would wait its whole time for what has been."""

    async def scenario() -> None:
        bench = Bench()
        reply = await bench.commands.handle(Fire(plugin="alpha", key="daily", wait_s=3_600), ME)
        assert isinstance(reply, Fired)
        assert (reply.is_new, reply.outcome, reply.reason) == (False, "noop", "quiet")
        assert asyncio.get_running_loop().time() < 1

    run(scenario())


@pytest.mark.parametrize("other", [{"job": "settle"}, {"payload": "7"}])
def test_a_key_is_refused_for_another_job_or_payload(other: dict[str, str]) -> None:
    """Nothing was made of it: told the former call, a script would take that for this one. As HTTP has it."""

    async def scenario() -> None:
        bench = Bench()
        with pytest.raises(ControlError, match="this --key made call 1 with another payload or job; take a new key"):
            await bench.commands.handle(Fire(plugin="alpha", key="daily", **other), ME)  # type: ignore[arg-type]
        again = await bench.commands.handle(Fire(plugin="alpha", key="daily"), ME)
        assert isinstance(again, Fired)
        assert (again.call_id, again.is_new) == (1, False)

    run(scenario())


class StuckLedger(LateLedger):
    """Commits wait until the database is `back`, in their order; queries fail meanwhile."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(clock)
        self.back = asyncio.Event()

    async def commit(self, *statements: Statement, is_idempotent: bool = True) -> list[Rows]:
        await self.back.wait()
        return await super().commit(*statements, is_idempotent=is_idempotent)

    async def fetch(self, statement: Statement) -> Rows:
        raise StoreUnavailable("couldn't get a connection after 5.00 sec")


def test_while_the_database_is_away_a_pause_is_in_force_and_a_resume_waits() -> None:
    """Each is told in less time than runnerctl waits, and both are stored in their order when it is back."""

    async def scenario() -> None:
        bench = Bench(StuckLedger)
        with pytest.raises(
            Pending, match=r"database is not reachable; vault main is paused in this process, not stored"
        ):
            await bench.commands.handle(Pause(scope="vault", name="main"), ME)
        assert bench.pauses.of("alpha", "main") is not None
        with pytest.raises(Pending, match=r"database is not reachable; vault main is not resumed yet"):
            await bench.commands.handle(Resume(scope="vault", name="main"), ME)
        assert bench.pauses.of("alpha", "main") is not None
        cast("StuckLedger", bench.ledger).back.set()
        await bench.commands.close()
        assert [len(commit) for commit in bench.ledger.commits] == [2, 2]
        assert bench.pauses.active == {}

    run(scenario())


def test_while_the_database_is_away_fire_and_queries_say_so() -> None:
    """A call may have been made: the same key finds it again. What is refused in any case is refused as ever."""

    async def scenario() -> None:
        bench = Bench(StuckLedger)
        with pytest.raises(
            Pending, match=r"not reachable; the call may have been made, .*fire again with the same --key"
        ):
            await bench.commands.handle(Fire(plugin="alpha", key="daily", wait_s=5), ME)
        with pytest.raises(Pending, match="fired again without a --key it is a second one"):
            await bench.commands.handle(Fire(plugin="alpha"), ME)
        with pytest.raises(Pending, match="not reachable; nothing was decided: try again"):
            await bench.commands.handle(Fire(plugin="alpha", is_dry_run=True, wait_s=60), ME)
        with pytest.raises(ControlError, match="the database is not reachable: see runnerctl status") as refused:
            await bench.commands.handle(GetRuns(plugin="alpha", limit=1), ME)
        assert not isinstance(refused.value, Pending)
        with pytest.raises(ControlError, match="there is no plugin 'beta'"):
            await bench.commands.handle(Pause(scope="plugin", name="beta"), ME)
        assert LEDGER_DEADLINE_S < TIMEOUT_S
        await bench.commands.close()

    run(scenario())


def test_each_command_that_changes_the_ledger_alone_says_what_holds_meanwhile() -> None:
    """One that is added and forgotten there would time out without a word of the database."""
    asking = {
        "adopt",
        "fire",
        "proposals",
        "reject_proposal",
        "sign_proposal",
    }  # others as well, or with words of its own
    reading = {"consumers", "dead_letters", "fees", "history", "keys", "outbox", "runs", "status", "transactions"}
    told = {type(request).__struct_config__.tag for request in REQUESTS if told_when_late(request) is not None}
    tags = {type(request).__struct_config__.tag for request in REQUESTS}
    assert tags - told == asking | reading


def test_reducing_never_loosens_a_pause() -> None:
    """It sounds like stopping and would let more pass: refused, until the pause is resumed."""

    async def scenario() -> None:
        bench = Bench()
        await bench.commands.handle(Reduce(scope="vault", name="main"), ME)
        assert bench.pauses.reducing_of("alpha", "main") is not None
        await bench.commands.handle(Pause(scope="vault", name="main"), ME)
        assert bench.pauses.of("alpha", "main") is not None
        with pytest.raises(ControlError, match=r"vault main is paused by uid:1000 .* resume it first"):
            await bench.commands.handle(Reduce(scope="vault", name="main"), ME)
        await bench.commands.handle(Resume(scope="vault", name="main"), ME)
        assert bench.pauses.active == {}

    run(scenario())


def test_action_is_named_with_its_vault() -> None:
    """What is not in a catalogue is refused with what there is; an action cannot be half off."""

    async def scenario() -> None:
        bench = Bench()
        with pytest.raises(ControlError, match=r"there is no action 'mint'; there are: main\.mint"):
            await bench.commands.handle(Pause(scope="action", name="mint"), ME)
        with pytest.raises(ControlError, match="an action is paused or not"):
            await bench.commands.handle(Reduce(scope="action", name="main.mint"), ME)
        done = await bench.commands.handle(Pause(scope="action", name="main.mint"), ME)
        assert isinstance(done, Done)
        assert done.text.startswith("action main.mint is paused by uid:1000")

    run(scenario())

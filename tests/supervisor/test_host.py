"""The shell around the state machine: no order of births, messages, ends and commands reaches an illegal transition.

On virtual time, with puppets for workers: real `Worker`, real caller and desk, no process.
"""

import asyncio
import gc
import logging
import os
import weakref
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protocol.actions import Noop
from protocol.messages import Decision, LogLevel, LogRecord, Pong, Refused
from protocol.triggers import Custom, Event, Trigger
from runnerd.config.plugins import PluginConfig, RestartPolicy, SandboxConfig
from runnerd.store.calls import JobResult
from runnerd.supervisor.birth import BirthFailed, BirthRefused, ZygoteGone
from runnerd.supervisor.cgroups import Cgroups
from runnerd.supervisor.context import PluginHeld
from runnerd.supervisor.host import PluginHost
from runnerd.supervisor.machine import Phase
from runnerd.supervisor.worker_log import FLOOD_REPORTS, REPORT_DROPPED_S
from tests.support.aio import run_async
from tests.support.caller_parts import FakeLedger, build_services
from tests.support.calls import job_call
from tests.support.nursery import Nursery, hello, say
from tests.support.virtual_time import VirtualClock, VirtualTimeLoop


class HostBench:
    """One host with a nursery. A defect (an exception in a callback or a task) fails the test at its end."""

    def __init__(self, runtime_dir: Path, **config: object) -> None:
        self.nursery = Nursery()
        self.clock = VirtualClock()
        self.ledger = FakeLedger()
        self.services, self.snapshots, self.executor = build_services(
            self.clock, self.ledger, birthplace=self.nursery, runtime_dir=str(runtime_dir)
        )
        self.declared: list[tuple[str, tuple[Trigger, ...]]] = []
        object.__setattr__(self.services, "producers", {"mailbox"})
        object.__setattr__(self.services, "on_declared", lambda *declared: self.declared.append(declared))
        self.host = PluginHost("alpha", PluginConfig(vault="main", **config), self.services)  # type: ignore[arg-type]
        self.results: dict[int, JobResult] = {}
        self.services.results.add_consumer(self._on_result)
        self.defects: list[str] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: self.defects.append(repr(context.get("exception", context))))

    def _on_result(self, result: JobResult) -> None:
        assert result.call.id not in self.results
        self.results[result.call.id] = result

    def outcome(self, call_id: int) -> str:
        return f"{self.results[call_id].outcome}: {self.results[call_id].reason}"

    def history(self) -> list[str]:
        """The kinds of what was recorded."""
        return [str(row["kind"]) for row in self.ledger.written("worker_events")]

    async def settle(self) -> None:
        for _ in range(25):
            await asyncio.sleep(0)

    async def ready(self) -> None:
        """Start it, and let its worker say Hello."""
        self.host.start()
        await self.settle()
        say(self.host, hello(self.host))
        await self.settle()
        assert self.host.state.phase is Phase.READY

    async def close(self) -> None:
        self.nursery.gate.set()
        self.nursery.close()
        await self.host.stop("the test is over")
        await self.settle()
        assert not self.defects, self.defects


Scenario = Callable[[HostBench], Coroutine[Any, Any, None]]


@pytest.fixture
def run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Iterator[Callable[..., None]]:
    """Runs a scenario on a host of the given configuration; fails if a task of the host fails."""

    def runner(scenario: Scenario, **config: object) -> None:
        async def whole() -> None:
            bench = HostBench(tmp_path, **config)
            try:
                await scenario(bench)
            finally:
                await bench.close()

        run_async(whole(), loop_factory=VirtualTimeLoop, deadline_s=86_400)

    with caplog.at_level(logging.ERROR):
        yield runner
    assert "task_failed" not in [getattr(r, "runnerd_fields", {}).get("action") for r in caplog.records]


def test_hello_makes_it_ready_and_a_crash_starts_the_next_at_once(run: Callable[..., None]) -> None:
    """And each step is in the plugin's history."""

    async def scenario(bench: HostBench) -> None:
        await bench.ready()
        bench.nursery.only.end(-9)
        await bench.settle()
        assert bench.host.state.phase is Phase.STARTING
        say(bench.host, hello(bench.host))
        await bench.settle()
        assert (bench.host.state.phase, bench.host.state.generation, bench.host.restarts) == (Phase.READY, 2, 1)
        assert bench.history() == ["ready", "exited", "ready"]

    run(scenario)


@pytest.mark.parametrize(
    "wrong, reason",
    [
        ({"generation": 7}, "bad protocol: Hello of generation 7, this is 1"),
        (
            {"triggers": (Event(topic="t"), Event(topic="t", overlap="queue"))},
            "the trigger event t stands twice: leave one out, or let them differ by job or filter",
        ),
        (
            {"triggers": (Custom(producer="nope"),)},
            "the trigger custom nope: producer: there is no [producers.nope]; there are: mailbox",
        ),
        ({"plugin": "beta"}, "the class calls itself 'beta': set class_name = 'beta' under [plugins.alpha]"),
        ({"vault": "other"}, "the class is written for vault 'other', the configuration gives it 'main'"),
    ],
    ids=["generation", "trigger twice", "producer", "name", "vault"],
)
def test_wrong_hello_is_quarantined(run: Callable[..., None], wrong: dict[str, Any], reason: str) -> None:
    """With what is wrong, and what to do about it."""

    async def scenario(bench: HostBench) -> None:
        bench.host.start()
        await bench.settle()
        say(bench.host, hello(bench.host, **wrong))
        await bench.settle()
        assert (bench.host.state.phase, bench.host.state.reason) == (Phase.QUARANTINED, reason)
        assert bench.declared == []

    run(scenario)


def test_everything_after_a_refusal_is_ignored(run: Callable[..., None]) -> None:
    """A second bad answer, a second Refused, a Hello: the worker is dying, and has nothing more to say."""

    async def scenario(bench: HostBench) -> None:
        await bench.ready()
        bench.host.offer(job_call(1))
        await bench.settle()
        bench.nursery.holds_ends = True
        bad = Decision(call_id=9, attempt=1, outcome=Noop("x"))
        late = Decision(call_id=1, attempt=1, outcome=Noop("x"))
        say(
            bench.host,
            bad,
            bad,
            Refused(reason="twice"),
            Refused(reason="thrice"),
            hello(bench.host),
            late,
            Pong(nonce=1),
        )
        await bench.settle()
        assert bench.host.state.phase is Phase.QUARANTINED
        assert bench.host.state.reason == "bad protocol: an answer to call 9, which is not with it"
        assert bench.nursery.signals == [("alpha#1", "SIGKILL")]
        assert bench.host.worker is not None
        assert bench.host.worker._link is not None
        assert bench.host.worker._link._is_closed, "what waits there must not even be decoded"
        bench.nursery.only.end(-9)
        await bench.settle()
        assert bench.outcome(1).startswith("failed: plugin is quarantined")

    run(scenario)


def test_worker_that_has_ended_is_freed_at_once(run: Callable[..., None]) -> None:
    """Nothing that it refers to refers to it: a crash loop leaves no work for the garbage collector."""

    async def scenario(bench: HostBench) -> None:
        await bench.ready()
        ended = weakref.ref(bench.host.worker)
        gc.collect()
        gc.disable()
        try:
            bench.nursery.only.end(-9)
            await bench.settle()
            assert ended() is None
        finally:
            gc.enable()

    run(scenario)


def test_restart_of_a_dying_worker_waits_for_its_end_and_keeps_its_calls(run: Callable[..., None]) -> None:
    """No second worker beside it, and the call that it had is decided by the next one."""

    async def scenario(bench: HostBench) -> None:
        await bench.ready()
        bench.host.offer(job_call(1))
        await bench.settle()
        bench.nursery.holds_ends = True
        say(bench.host, Decision(call_id=9, attempt=1, outcome=Noop("x")))
        bench.host.restart()
        await bench.settle()
        assert len(bench.nursery.asked) == 1
        bench.nursery.only.end(-9)
        await bench.settle()
        say(bench.host, hello(bench.host))
        await bench.settle()
        say(bench.host, Decision(call_id=1, attempt=1, outcome=Noop("x")))
        await bench.settle()
        assert bench.outcome(1) == "noop: accepted"
        assert bench.nursery.most_alive == 1

    run(scenario)


def test_stop_of_a_dying_worker_comes_to_rest_when_it_has_ended(run: Callable[..., None]) -> None:
    """And not only when the patience is over."""

    async def scenario(bench: HostBench) -> None:
        await bench.ready()
        bench.nursery.holds_ends = True
        say(bench.host, Refused(reason="no"))
        stopping = asyncio.get_running_loop().create_task(bench.host.stop("removed"))
        await bench.settle()
        assert not stopping.done()
        bench.nursery.only.end(-9)
        await stopping
        assert bench.host.state.phase is Phase.STOPPED
        assert bench.clock.monotonic() < 1

    run(scenario)


def test_worker_told_to_stop_before_it_was_born_is_told_again_when_it_says_hello(run: Callable[..., None]) -> None:
    """It did not hear the first time; and what it declares is not fired any more."""

    async def scenario(bench: HostBench) -> None:
        bench.nursery.gate.clear()
        bench.host.start()
        await bench.settle()
        bench.host.restart()
        await asyncio.sleep(3)
        bench.nursery.gate.set()
        await bench.settle()
        say(bench.host, hello(bench.host))
        assert bench.declared == []
        await asyncio.sleep(2.9)
        assert bench.nursery.signals == []
        await asyncio.sleep(0.2)  # its grace has begun with the command, not with the Hello
        assert bench.nursery.signals == [("alpha#1", "SIGKILL")]
        assert bench.host.state.generation == 2

    run(scenario)


@pytest.mark.parametrize("command", ["stop", "abort"])
def test_worker_that_is_ended_before_it_was_born_does_not_live(run: Callable[..., None], command: str) -> None:
    """Nobody could be killed then; whoever is born afterwards is killed at birth, with that reason."""

    async def scenario(bench: HostBench) -> None:
        bench.nursery.gate.clear()
        bench.host.start()
        await bench.settle()
        if command == "stop":
            bench.host.restart()
            await asyncio.sleep(8)  # beyond the grace
        else:
            bench.host.abort_worker("hangs")
        bench.nursery.gate.set()
        await bench.settle()
        assert bench.nursery.signals == [("alpha#1", "SIGKILL")]
        assert (bench.host.state.phase, bench.host.state.generation) == (Phase.STARTING, 2)
        if command == "abort":
            assert bench.ledger.written("worker_events")[-1]["detail"] == "hangs (killed by SIGKILL)"

    run(scenario)


def test_hello_again_and_again_while_stopping_wins_no_time(run: Callable[..., None]) -> None:
    """The grace is given once, and a second Hello is a violation in any phase."""

    async def scenario(bench: HostBench) -> None:
        await bench.ready()
        bench.nursery.holds_ends = True
        bench.host.restart()
        await bench.settle()
        say(bench.host, hello(bench.host))
        assert bench.nursery.signals == [("alpha#1", "SIGKILL")]
        assert bench.host.worker is not None
        bench.host.worker.stop(1_000.0)
        bench.nursery.only.end(-9)
        await bench.settle()
        assert bench.host.state.generation == 2

    run(scenario)


def test_stop_that_is_said_again_does_not_move_its_deadline(run: Callable[..., None]) -> None:
    """The second one only tells the worker what is left."""

    async def scenario(bench: HostBench) -> None:
        await bench.ready()
        worker = bench.host.worker
        assert worker is not None
        bench.nursery.holds_ends = True
        bench.host.restart()
        for _ in range(10):
            await asyncio.sleep(1)
            worker.stop(5.0)
        assert ("alpha#1", "SIGKILL") in bench.nursery.signals

    run(scenario, stop_grace_s=5.0)


@pytest.mark.parametrize("failure", [ValueError("alpha#1 exists already"), RuntimeError("cannot start")])
def test_defect_at_a_birth_is_an_end_and_not_starting_for_ever(
    run: Callable[..., None], failure: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """With its traceback in the log; the next generation is tried as after any failed start."""

    async def scenario(bench: HostBench) -> None:
        bench.nursery.failure = failure
        bench.host.start()
        await bench.settle()
        assert (bench.host.state.phase, bench.host.state.generation) == (Phase.STARTING, 2)
        detail = str(bench.ledger.written("worker_events")[0]["detail"])
        assert detail.startswith(f"internal error: {type(failure).__name__}: ")

    run(scenario)
    assert "worker_start_failed" in [getattr(r, "runnerd_fields", {}).get("action") for r in caplog.records]


def test_worker_that_cannot_be_dialled_leaves_nothing(run: Callable[..., None], tmp_path: Path) -> None:
    """The process is killed, its descriptors are closed, and the plugin is in backoff."""

    async def scenario(bench: HostBench) -> None:
        object.__setattr__(bench.services, "runtime_dir", str(tmp_path / ("x" * 120)))
        before = len(list(Path("/proc/self/fd").iterdir()))
        bench.host.start()
        await bench.settle()
        assert bench.nursery.signals == [("alpha#1", "SIGKILL"), ("alpha#2", "SIGKILL")]
        assert bench.host.state.phase is Phase.BACKOFF
        assert bench.host.state.reason.startswith("internal error: OSError: AF_UNIX path too long")
        assert bench.nursery.most_alive == 1
        assert len(list(Path("/proc/self/fd").iterdir())) == before

    run(scenario, hello_deadline_s=3_000.0)


def test_defect_in_handling_a_message_ends_the_worker(
    run: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    """Half a handshake would leave it `starting` for ever: its timer is gone, and it says Hello only once."""

    async def scenario(bench: HostBench) -> None:
        def fail(*_: object) -> None:
            raise KeyError("a defect")

        object.__setattr__(bench.services, "on_declared", fail)
        bench.host.start()
        await bench.settle()
        assert bench.host.worker is not None
        bench.host.worker._hear(hello(bench.host))
        await bench.settle()
        assert bench.host.state.phase is Phase.QUARANTINED
        assert bench.host.state.reason == "internal error: KeyError: 'a defect'"

    run(scenario)
    (record,) = [r for r in caplog.records if getattr(r, "runnerd_fields", {}).get("action") == "message_failed"]
    assert record.exc_info


def test_loss_of_the_zygote_during_a_birth_blames_nobody(run: Callable[..., None]) -> None:
    """Nor does its absence: births are tried again until there is one."""

    async def scenario(bench: HostBench) -> None:
        for _ in range(8):
            bench.nursery.failure = ZygoteGone("the zygote ended: killed by SIGKILL")
            if bench.host.state.phase is Phase.STOPPED:
                bench.host.start()
            else:
                bench.nursery.only.lose()
            await bench.settle()
        assert (bench.host.state.phase, bench.host.state.crashes) == (Phase.STARTING, ())
        assert set(bench.history()) == {"lost"}

    run(scenario)


def test_worker_that_is_being_ended_is_given_no_more_calls(run: Callable[..., None]) -> None:
    """It has a second to write its stacks; a call that is sent meanwhile would count as one that ended its worker."""

    async def scenario(bench: HostBench) -> None:
        await bench.ready()
        bench.nursery.holds_ends = True
        bench.host.abort_worker("decide took too long")
        bench.host.offer(job_call(1))
        await bench.settle()
        assert bench.host.state.phase is Phase.READY
        assert (bench.host.waiting, bench.host.deciding) == (1, 0)
        bench.nursery.only.end(-6)
        await bench.settle()
        say(bench.host, hello(bench.host))
        await bench.settle()
        say(bench.host, Decision(call_id=1, attempt=1, outcome=Noop("x")))
        await bench.settle()
        assert bench.outcome(1) == "noop: accepted"

    run(scenario)


def test_denied_call_is_recorded_and_logged_once_in_a_generation(
    run: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    """A worker may make a thousand of one name: the metric counts them."""

    async def scenario(bench: HostBench) -> None:
        await bench.ready()
        worker = bench.host.worker
        assert worker is not None
        for _ in range(3):
            worker._on_denial("socket", ())
        worker._on_denial("unknown", ())
        await bench.settle()
        assert bench.history() == ["ready", "denied syscall", "denied syscall"]

    with caplog.at_level(logging.WARNING):
        run(scenario)
    logged = [getattr(r, "runnerd_fields", {}) for r in caplog.records]
    assert [entry["syscall"] for entry in logged if entry.get("action") == "sandbox_denied"] == ["socket", "unknown"]


def test_flood_of_log_lines_ends_the_worker_after_half_a_minute(run: Callable[..., None]) -> None:
    """A burst is cut, and so is a plugin that talks too much: only one that goes on with ten times as much is ended."""

    async def scenario(bench: HostBench) -> None:
        async def talk(lines: int, periods: int) -> None:
            for _ in range(periods):
                say(bench.host, *[LogRecord(level=LogLevel.INFO, message="x")] * lines, Pong(nonce=1))
                await asyncio.sleep(REPORT_DROPPED_S)

        await bench.ready()
        await talk(lines=500, periods=6)
        await talk(lines=2_000, periods=FLOOD_REPORTS - 1)
        await talk(lines=0, periods=1)
        assert bench.host.state.generation == 1
        await talk(lines=2_000, periods=FLOOD_REPORTS)
        assert bench.host.state.generation == 2
        assert bench.host.state.reason.startswith("over its log limit: 5")
        assert "lines in 30 s, 10 a second are taken" in bench.host.state.reason

    run(scenario, sandbox=SandboxConfig(log_lines_per_s=10))


def test_worker_ended_by_the_kernel_for_its_memory_is_named_so(run: Callable[..., None], tmp_path: Path) -> None:
    """`killed by SIGKILL` alone would tell the operator nothing. One that ends by itself is not blamed."""

    async def scenario(bench: HostBench) -> None:
        object.__setattr__(bench.services, "cgroups", Cgroups(tree))
        await bench.ready()
        worker = tree / "workers/alpha.1"
        assert bench.nursery.only.id == "alpha#1"
        assert bench.nursery.asked[0].cgroup == str(worker)
        (worker / "memory.events").write_text("oom_kill 1")
        bench.nursery.only.end(-9)
        await bench.settle()
        over = "over its memory limit: 1024 of 1024 MiB, and ended by the kernel (killed by SIGKILL)"
        assert bench.host.state.reason == over
        bench.nursery.only.end(-9)
        await bench.settle()
        assert bench.host.state.reason == "killed by SIGKILL"

    tree = tmp_path / "tree"
    for directory in ("", "supervisor", "workers", "workers/alpha.1", "workers/alpha.2"):
        (tree / directory).mkdir()
        for name in ("cgroup.procs", "cgroup.subtree_control", "memory.max", "memory.oom.group", "pids.max"):
            (tree / directory / name).touch()
    (tree / "cgroup.controllers").write_text("memory pids")
    run(scenario)


def test_start_in_backoff_replaces_the_alarm(run: Callable[..., None]) -> None:
    """The old alarm would be a Woke in a phase that knows none."""

    async def scenario(bench: HostBench) -> None:
        await bench.ready()
        for _ in range(2):
            bench.nursery.only.end(1)
            await bench.settle()
        assert bench.host.state.phase is Phase.BACKOFF
        bench.host.start()
        await asyncio.sleep(5)
        assert [request.generation for request in bench.nursery.asked] == [1, 2, 3]

    run(scenario, hello_deadline_s=100.0)


def test_what_could_not_be_loaded_says_the_error_first(
    run: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    """A traceback ends with it; what shows a reason cuts the end. The log has all of it."""
    trace = "".join([
        "Traceback (most recent call last):\n",
        '  File "/opt/workers/loop.py", line 90, in serve\n    plugin = load(code)\n' * 40,
        '  File "/srv/drift.py", line 3, in <module>\n    import nothing\n',
        "ModuleNotFoundError: No module named 'nothing'\n",
    ])  # fmt: skip

    async def scenario(bench: HostBench) -> None:
        bench.host.start()
        await bench.settle()
        say(bench.host, Refused(reason=trace))
        assert bench.host.state.phase is Phase.QUARANTINED
        reason = "ModuleNotFoundError: No module named 'nothing' (at /srv/drift.py:3)"
        assert bench.host.state.reason == f'{reason} | File "/srv/drift.py", line 3, in <module>'
        (told,) = [each.getMessage() for each in caplog.records if each.getMessage().startswith("alpha was not loaded")]
        assert told.endswith(trace)

    with caplog.at_level(logging.WARNING):
        run(scenario)


def test_quarantined_plugin_is_probed_and_the_alarm_is_set_again(run: Callable[..., None]) -> None:
    """Every 15 minutes, until it is cleared; a worker that will not die is killed once more instead."""

    async def scenario(bench: HostBench) -> None:
        bench.nursery.failure = BirthRefused("seccomp", "libseccomp is not installed")
        bench.host.start()
        await bench.settle()
        assert bench.host.state.reason == "sandbox refused: seccomp is missing: libseccomp is not installed"
        await asyncio.sleep(901)
        assert len(bench.nursery.asked) == 2
        bench.nursery.holds_ends = True
        say(bench.host, Refused(reason="still not"))
        await asyncio.sleep(901)
        assert bench.nursery.signals == [("alpha#2", "SIGKILL")] * 2
        bench.nursery.only.end(-9)
        await asyncio.sleep(901)
        assert len(bench.nursery.asked) == 3

    run(scenario, hello_deadline_s=3_000.0)


def test_death_of_the_zygote_starts_the_worker_again_uncounted(run: Callable[..., None]) -> None:
    """Also many times: it is not the plugin's fault, and its calls are not to blame either."""

    async def scenario(bench: HostBench) -> None:
        await bench.ready()
        bench.host.offer(job_call(1))
        for _ in range(8):
            await bench.settle()
            bench.nursery.only.lose()
            await bench.settle()
            say(bench.host, hello(bench.host))
        await bench.settle()
        assert (bench.host.state.phase, bench.host.state.crashes) == (Phase.READY, ())
        say(bench.host, Decision(call_id=1, attempt=1, outcome=Noop("x")))
        await bench.settle()
        assert bench.outcome(1) == "noop: accepted"

    run(scenario)


def test_births_that_fail_use_up_the_budget(run: Callable[..., None]) -> None:
    """Five in ten minutes quarantine, with the last reason."""

    async def scenario(bench: HostBench) -> None:
        bench.nursery.failure = BirthFailed("no memory")
        bench.nursery.fails_always = True
        bench.host.start()
        await asyncio.sleep(60)
        assert len(bench.nursery.asked) == 5
        expected = "crashed 5 times in 600 s, last: could not be started: no memory"
        assert (bench.host.state.phase, bench.host.state.reason) == (Phase.QUARANTINED, expected)

    run(scenario, hello_deadline_s=3_000.0)


def test_last_words_of_a_worker_are_in_the_reason(run: Callable[..., None]) -> None:
    """What it wrote to stderr before it ended."""

    async def scenario(bench: HostBench) -> None:
        await bench.ready()
        puppet = bench.nursery.only
        os.write(puppet.stderr_write_fd, b"Traceback\nMemoryError: \x00 much\n")
        puppet.end(1)
        await bench.settle()
        assert bench.host.state.reason == "exit code 1; stderr: Traceback | MemoryError: \x00 much"
        assert (
            bench.ledger.written("worker_events")[-1]["detail"]
            == "exit code 1; stderr: Traceback | MemoryError: · much"
        )

    run(scenario)


def test_removed_plugin_leaves_no_call_behind(run: Callable[..., None]) -> None:
    """Waiting, being asked, or with the worker: each ends with the reason."""

    async def scenario(bench: HostBench) -> None:
        await bench.ready()
        for call_id in (1, 2):
            bench.host.offer(job_call(call_id))
        await bench.settle()
        bench.snapshots.gate.clear()
        bench.host.offer(job_call(3))
        await bench.settle()
        stopping = asyncio.get_running_loop().create_task(bench.host.stop("removed from the configuration"))
        await bench.settle()
        bench.host.offer(job_call(4))
        say(bench.host, Decision(call_id=1, attempt=1, outcome=Noop("x")))
        bench.nursery.only.end(0)
        await bench.settle()
        bench.snapshots.gate.set()
        await stopping
        assert bench.outcome(1) == "noop: accepted"
        assert {bench.outcome(call_id) for call_id in (2, 3, 4)} == {"failed: removed from the configuration"}

    run(scenario)


def test_host_that_is_being_replaced_is_not_revived(run: Callable[..., None]) -> None:
    """A command of the operator comes while it stops, and after: there would be two workers of one plugin."""

    async def scenario(bench: HostBench) -> None:
        await bench.ready()
        bench.nursery.holds_ends = True
        stopping = asyncio.get_running_loop().create_task(bench.host.stop())
        await bench.settle()
        for command in (bench.host.restart, bench.host.start):
            with pytest.raises(PluginHeld, match="it is being reloaded or removed; ask again"):
                command()
        bench.nursery.only.end(0)
        await stopping
        with pytest.raises(PluginHeld):
            bench.host.start()
        assert (bench.host.state.phase, len(bench.nursery.asked)) == (Phase.STOPPED, 1)

    run(scenario)


def test_call_whose_snapshot_does_not_come_goes_to_the_next_host(run: Callable[..., None]) -> None:
    """It was taken from the queue and never sent: nobody else would answer for it."""

    async def scenario(bench: HostBench) -> None:
        await bench.ready()
        bench.snapshots.gate.clear()
        for call_id in (1, 2, 3):
            bench.host.offer(job_call(call_id))
        await bench.settle()
        stopping = asyncio.get_running_loop().create_task(bench.host.stop())
        await bench.settle()
        bench.nursery.only.end(0)
        await stopping
        bench.host.offer(job_call(4))
        assert [call.id for call in bench.host.take_waiting()] == [1, 2, 3, 4]
        assert (bench.results, bench.host.deciding) == ({}, 0)

    run(scenario, parallel=2)


def test_worker_that_does_not_end_is_given_up_and_its_call_waits_again(run: Callable[..., None]) -> None:
    """It is killed, whatever it says later counts for nothing, and the stop is over."""

    async def scenario(bench: HostBench) -> None:
        await bench.ready()
        bench.host.offer(job_call(1))
        await bench.settle()
        bench.nursery.holds_ends = True
        await bench.host.stop()
        assert (bench.host.worker, bench.host.state.phase) == (None, Phase.STOPPED)
        assert ("alpha#1", "SIGKILL") in bench.nursery.signals
        assert [call.id for call in bench.host.take_waiting()] == [1]
        bench.nursery.only.end(-9)
        await bench.settle()
        assert bench.host.state.phase is Phase.STOPPED

    run(scenario)


def test_birth_that_takes_longer_than_the_stop_is_taken_back(run: Callable[..., None]) -> None:
    """Else a worker without a host would be born."""

    async def scenario(bench: HostBench) -> None:
        bench.nursery.gate.clear()
        bench.host.start()
        await bench.settle()
        await bench.host.stop()
        assert asyncio.get_running_loop().time() < 15  # grace and margin once, not twice
        bench.nursery.gate.set()
        await bench.settle()
        assert (bench.nursery.alive, bench.host.state.phase) == ({}, Phase.STOPPED)

    run(scenario, hello_deadline_s=3_000.0)


def test_calls_that_had_places_get_them_again_whatever_the_bound(run: Callable[..., None]) -> None:
    """They were accepted before; the bound is for what is new."""

    async def scenario(bench: HostBench) -> None:
        bench.host.hold("its chain has not answered yet", is_awaited=True)
        bench.host.offer_again([job_call(call_id) for call_id in (1, 2, 3)])
        bench.host.offer(job_call(4))
        await bench.settle()
        assert bench.host.waiting == 3
        assert {call_id: bench.outcome(call_id) for call_id in bench.results} == {
            4: "failed: queue is full (2 calls wait)"
        }

    run(scenario, queue=2)


def test_calls_for_a_plugin_that_is_switched_off_end_with_that(run: Callable[..., None]) -> None:
    """Also those that another host left."""

    async def scenario(bench: HostBench) -> None:
        bench.host.hold("enabled = false")
        bench.host.offer_again([job_call(1)])
        await bench.settle()
        assert bench.outcome(1) == "failed: plugin is stopped: enabled = false"

    run(scenario)


# --- any order -------------------------------------------------------------------------------------------------------


class HostChaos:
    """What may happen around a host, a method each; one that cannot happen now does nothing."""

    def __init__(self, bench: HostBench) -> None:
        self.bench = bench
        self.offered = 0
        self.stopping: list[asyncio.Task[None]] = []

    def start(self) -> None:
        with suppress(PluginHeld):
            self.bench.host.start()

    def restart(self) -> None:
        with suppress(PluginHeld):
            self.bench.host.restart()

    def stop(self) -> None:
        self.stopping.append(asyncio.get_running_loop().create_task(self.bench.host.stop()))

    def offer(self) -> None:
        self.offered += 1
        self.bench.host.offer(job_call(self.offered, fired_at=self.bench.clock.now()))

    def say_hello(self) -> None:
        self._say(hello(self.bench.host))

    def say_foreign_hello(self) -> None:
        self._say(hello(self.bench.host, plugin="beta"))

    def say_nonsense_twice(self) -> None:
        self._say(*[Decision(call_id=99_999, attempt=1, outcome=Noop("x"))] * 2)

    def say_refused(self) -> None:
        self._say(Refused(reason="no"))

    def decide(self) -> None:
        for call_id, opened in list(self.bench.host._caller._open.items())[:1]:
            self._say(Decision(call_id=call_id, attempt=opened.deciding.attempt, outcome=Noop("x")))

    def break_link(self) -> None:
        worker = self.bench.host.worker
        if worker is not None and worker._link is not None and not worker._link._is_closed:
            worker._link._break("garbage")

    def crash(self) -> None:
        for puppet in list(self.bench.nursery.alive.values()):
            puppet.end(1)

    def lose(self) -> None:
        for puppet in list(self.bench.nursery.alive.values()):
            puppet.lose()

    def hold_births(self) -> None:
        self.bench.nursery.gate.clear()

    def allow_births(self) -> None:
        self.bench.nursery.gate.set()

    def fail_a_birth(self) -> None:
        self.bench.nursery.failure = BirthFailed("no memory")

    def refuse_a_birth(self) -> None:
        self.bench.nursery.failure = BirthRefused("landlock", "too old")

    def hold_ends(self) -> None:
        self.bench.nursery.holds_ends = True

    def allow_ends(self) -> None:
        self.bench.nursery.holds_ends = False

    def _say(self, *messages: Any) -> None:
        worker = self.bench.host.worker
        if worker is not None and worker._born is not None:
            say(self.bench.host, *messages)


STEPS = [name for name in vars(HostChaos) if not name.startswith("_")]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(STEPS), st.sampled_from([0, 0, 0, 3, 70, 1_000])), max_size=40))
def test_no_order_of_events_reaches_an_illegal_transition(
    run: Callable[..., None], steps: list[tuple[str, int]]
) -> None:
    """Nor a second worker, nor a call without a result. A defect fails in the bench, a failed task in the fixture."""

    async def scenario(bench: HostBench) -> None:
        chaos = HostChaos(bench)
        bench.host.start()
        for name, seconds in steps:
            getattr(chaos, name)()
            await bench.settle()
            await asyncio.sleep(seconds)
            assert bench.nursery.most_alive <= 1
            assert (bench.host.worker is not None) is bench.host.state.has_worker
        bench.nursery.gate.set()
        bench.nursery.holds_ends = False
        bench.nursery.close()
        await asyncio.gather(*chaos.stopping)
        await bench.settle()
        bench.nursery.close()
        await bench.host.stop("the test is over")
        await bench.settle()
        assert sorted(bench.results) == list(range(1, chaos.offered + 1))

    run(scenario, restart=RestartPolicy(crashes_to_quarantine=3))

"""Plugins that take their time: a deadline ends each of them, deaf or not, and nobody else waits."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol.messages import Ping
from runnerd.control.messages import Restart
from tests.hostile.conftest import PLUGINS
from tests.support.scene import Scene
from tests.support.worker_process import decide, start_worker

pytestmark = pytest.mark.hostile

SLOTH = str(PLUGINS["sloth"]["path"])
BLOCKING = ("spin", "hold_the_interpreter_in_c", "count_in_c", "be_deaf")
PATIENCE_S = 1.0
"""For a call of another plugin meanwhile; without a sloth it takes 10 ms."""


@pytest.fixture(autouse=True)
def nobody_else_waits(fort: Scene) -> Iterator[None]:
    """Others answer as before, and the sloth is back."""
    fort.wait_plugin("sloth", lambda plugin: plugin.state in ("ready", "unhealthy"))
    others = {name: pid for name, pid in fort.pids().items() if name != "sloth"}
    yield
    assert {name: pid for name, pid in fort.pids().items() if name != "sloth"} == others
    assert fort.fire("bystander", do="noop").outcome == "noop"


@pytest.mark.parametrize("deed", [*BLOCKING, "swallow_cancellation"])
def test_a_decision_that_never_comes_is_not_waited_for(fort: Scene, deed: str) -> None:
    """The worker is ended at the deadline, whatever it holds and ignores; the call is dead, with that reason."""
    pid = fort.plugin("sloth").pid
    fired = fort.fire("sloth", wait_s=0, do=deed)
    waits_s = []
    while not (run := fort.run(fired.call_id)).outcome:
        started = time.monotonic()
        assert fort.fire("bystander", do="noop").outcome == "noop"
        waits_s.append(time.monotonic() - started)

    assert run.outcome == "dead"
    assert "took longer than 0.4 s" in (run.reason or "")
    assert max(waits_s) < PATIENCE_S
    assert not Path(f"/proc/{pid}").exists()


def test_an_answer_after_the_deadline_decides_nothing(fort: Scene) -> None:
    """Deaf to the signal that asks for its stacks it has a second more, and answers in it."""
    fired = fort.fire("sloth", do="be_deaf", seconds=0.8)

    assert fired.outcome == "dead", fired
    assert fort.rows("select 1 from decisions where call_id = %s", fired.call_id) == []


def test_whoever_blocks_at_exit_is_not_waited_for(fort: Scene) -> None:
    """A worker leaves without asking the interpreter: neither atexit nor a destructor runs."""
    former = fort.plugin("sloth")
    assert fort.fire("sloth", do="block_at_exit").outcome == "noop"
    started = time.monotonic()

    fort.daemon.ask(Restart(plugin="sloth"))
    fort.wait_plugin("sloth", lambda plugin: plugin.state == "ready" and plugin.generation > former.generation)

    assert time.monotonic() - started < 5
    assert not Path(f"/proc/{former.pid}").exists()


# --- the controls: without a supervisor and its deadlines they do hold up --------------------------------------------


@pytest.mark.parametrize("deed", BLOCKING)
def test_outside_nothing_comes_from_it_any_more(short_dir: Path, deed: str) -> None:
    """An unsandboxed worker with nobody to end it: its event loop answers no Ping, and SIGTERM may not end it."""
    with start_worker(short_dir, SLOTH) as worker:
        worker.open()
        worker.send(decide(payload=f'{{"do": "{deed}"}}'))
        assert worker.process.stdout is not None
        assert worker.process.stdout.readline() == b"begun\n"
        worker.send(Ping(nonce=1))
        assert not worker.has_frame_within(0.3)
        if deed == "be_deaf":
            for number in (signal.SIGTERM, signal.SIGABRT, signal.SIGINT):
                os.kill(worker.process.pid, number)
            with pytest.raises(subprocess.TimeoutExpired):
                worker.process.wait(0.2)


def test_outside_it_does_block_at_exit() -> None:
    """A program that ends as programs do."""
    with subprocess.Popen([sys.executable, SLOTH, "block_at_exit"]) as program:
        try:
            with pytest.raises(subprocess.TimeoutExpired):
                program.wait(1.0)
        finally:
            program.kill()

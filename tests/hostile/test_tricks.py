"""Python turned against the worker around it: that is all it reaches. Others act on, and the plugin comes back."""

import subprocess
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from runnerd.control.messages import Restart
from tests.hostile.conftest import PLUGINS
from tests.support.scene import Scene
from tests.support.secrets import secrets_in
from tests.support.worker_process import WorkerProcess, decide, start_worker

pytestmark = pytest.mark.hostile

TRICKSTER = str(PLUGINS["trickster"]["path"])
FAILED, DEAD, EITHER = ("failed",), ("dead",), ("noop", "failed", "dead")
TRICKS = {
    "raise_a_base_exception": FAILED,
    "exit_the_program": FAILED,
    "interrupt_from_the_keyboard": FAILED,
    "raise_what_cannot_be_shown": FAILED,
    "stop_the_loop": EITHER,
    "cancel_every_task": EITHER,
    "exit_at_once": DEAD,
    "forget_every_module": EITHER,
    "trace_everything": EITHER,
    "recurse_without_end": (*FAILED, *DEAD),
    "overwrite_none": EITHER,
    "close_every_descriptor": DEAD,
}
"""Trick → what may come of its call. What may be either way is up to the interpreter's version."""


@pytest.fixture(autouse=True)
def nobody_else_notices(fort: Scene) -> Iterator[None]:
    """Others have the same processes and act; the trickster is new, and works."""
    others = {name: pid for name, pid in fort.pids().items() if name != "trickster"}
    yield
    assert {name: pid for name, pid in fort.pids().items() if name != "trickster"} == others
    assert fort.fire("bystander", do="noop").outcome == "noop"
    former = fort.plugin("trickster").generation
    fort.daemon.ask(Restart(plugin="trickster"))
    fort.wait_plugin("trickster", lambda plugin: plugin.state == "ready" and plugin.generation > former)
    assert fort.fire("trickster", do="find_by_digest", digests=[]).outcome == "noop"


@pytest.mark.parametrize("trick", TRICKS)
def test_a_trick_costs_the_plugin_its_call_or_its_worker(fort: Scene, trick: str) -> None:
    """The call has an outcome that says so."""
    fired = fort.fire("trickster", wait_s=0, do=trick)

    assert fort.wait_run(fired.call_id).outcome in TRICKS[trick]


@pytest.mark.parametrize(
    "trick, reason",
    [("patch_the_sdk", "not a message of this protocol"), ("patch_the_codec", "which is not with it")],
)
def test_a_patched_sdk_convinces_nobody(fort: Scene, trick: str, reason: str) -> None:
    """What the worker checks is for its author; what counts is checked again by the supervisor."""
    frame = '{"type":"decision","call_id":999999,"attempt":1,"outcome":{"kind":"noop","reason":"forged"}}'
    fired = fort.fire("trickster", wait_s=0, do=trick, frame=frame)

    status = fort.wait_plugin("trickster", lambda plugin: plugin.state == "quarantined")
    assert "bad protocol: " in status.reason
    assert reason in status.reason
    # Before a new worker can be given it again: that one would be tricked as well.
    assert fort.wait_run(fired.call_id).outcome in ("failed", "dead")


def test_a_walk_through_the_garbage_collector_finds_no_secret(fort: Scene) -> None:
    """Nor in any frame, module or class that is to be reached; what the plugin was given itself is found."""
    secrets = {**secrets_in(fort.directory), "dsn": fort.dsn.encode(), "url": fort.venue.url.encode()}
    digests = {sha256(secret).hexdigest(): name for name, secret in secrets.items()}
    control = sha256(b"find_by_digest").hexdigest()

    fired = fort.fire("trickster", do="find_by_digest", digests=[control, *digests])

    assert fired.reason == f"found: {control}", [digests.get(found, found) for found in (fired.reason or "").split(",")]


# --- the controls: outside they do harm -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "trick", ["raise_a_base_exception", "exit_the_program", "exit_at_once", "recurse_without_end", "overwrite_none"]
)
def test_outside_a_program_does_not_survive_it(trick: str) -> None:
    """The same function in a program without a worker loop, or a process of its own, around it."""
    code = f"import runpy; trick = runpy.run_path({TRICKSTER!r})[{trick!r}]; print('begun', flush=True); trick({{}})"
    lines = f"{code}; print('alive', flush=True)"

    done = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, timeout=20, check=False)

    assert done.stdout == "begun\n"


@pytest.mark.parametrize("trick", ["patch_the_sdk", "patch_the_codec"])
def test_outside_a_patched_sdk_sends_what_it_likes(short_dir: Path, trick: str) -> None:
    """The worker does not notice: the frame is on the wire."""
    with start_worker(short_dir, TRICKSTER) as worker:
        worker.open()
        worker.send(decide(payload=f'{{"do": "{trick}", "frame": "mine"}}'))
        assert _answer(worker) in (
            b"mine",
            b'{"kind":"act","actions":[{"name":"../../transfer","args":{},"value_wei":0}]}',
        )


def _answer(worker: WorkerProcess) -> bytes:
    frame = worker.receive_frame()
    return frame[frame.find(b'{"kind"') :].partition(b',"state_writes"')[0] if b"kind" in frame else frame

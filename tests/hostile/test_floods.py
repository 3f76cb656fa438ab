"""What one plugin can use up: bounded, and paid by that plugin alone."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol.limits import LOG_BURST, MAX_LOG_MESSAGE_LENGTH, MAX_LOG_RECORDS_PER_S
from tests.hostile.conftest import MEMORY_MIB, TOKEN
from tests.support.leaks import find_descendants
from tests.support.scene import Scene, mint
from tests.support.secrets import find_in_memory, find_in_processes, secrets_in

pytestmark = pytest.mark.hostile

MANY = 400
"""Threads or descriptors: more than a worker may have, fewer than a host allows."""
ROOM_S = 20
"""Seconds of a flood that the rate limit is allowed here: no test takes that long."""
PATIENCE_S = 1.0
"""For a call of another plugin meanwhile; without a flood it takes 10 ms."""
MAX_LINES = LOG_BURST + ROOM_S * MAX_LOG_RECORDS_PER_S


@pytest.fixture(autouse=True)
def nobody_else_notices(fort: Scene) -> Iterator[None]:
    """After each flood the other plugins have the same processes, and act."""
    fort.wait_plugin("anarchist", lambda plugin: plugin.state == "ready")
    others = {name: pid for name, pid in fort.pids().items() if name != "anarchist"}
    yield
    assert {name: pid for name, pid in fort.pids().items() if name != "anarchist"} == others
    assert fort.fire("bystander", do="act", actions=[mint()]).outcome == "acted"
    fort.wait_plugin("anarchist", lambda plugin: plugin.state in ("ready", "unhealthy"))
    fort.fire("anarchist", do="remember", hex="00")


def test_a_flood_of_log_lines_is_cut(fort: Scene) -> None:
    """Ninety thousand lines of ctx.log: a burst and a rate get through, the rest is dropped; the link works on."""
    pid = fort.plugin("anarchist").pid
    for _ in range(3):
        fired = fort.fire("anarchist", 60, do="flood_the_log", lines=30_000)
        assert fired.outcome == "noop", fired
        assert fort.fire("anarchist", do="remember", hex="00").outcome == "noop"

    assert fort.plugin("anarchist").pid == pid
    flood = [record for record in fort.log("plugin_log") if record["message"].startswith("flood ")]
    assert 0 < len(flood) <= MAX_LINES


def test_a_flood_of_stdout_is_cut(fort: Scene) -> None:
    """Lines without end and lines without number: the pipe is drained, the log stays small."""
    before = fort.daemon.log.stat().st_size

    fired = fort.fire("anarchist", 60, do="flood_stdout", bytes=4 << 20, lines=100_000)

    assert fired.outcome in ("noop", "dead", "failed"), fired
    lines = [record for record in fort.log("plugin_output") if record["plugin"] == "anarchist"]
    assert 0 < len(lines) <= MAX_LINES
    assert max(len(line["message"]) for line in lines) <= MAX_LOG_MESSAGE_LENGTH
    assert fort.daemon.log.stat().st_size - before < 16 << 20


def test_a_flood_of_denied_system_calls_ends_the_worker(fort: Scene) -> None:
    """Each is answered by the supervisor; after a thousand the worker is ended, with that reason."""
    generation = fort.plugin("anarchist").generation
    fired = fort.fire("anarchist", 60, do="flood_with_denials", calls=5_000)

    assert fired.outcome == "dead"
    assert "the sandbox denied it too many system calls" in (fired.reason or "")
    assert fort.plugin("anarchist").generation > generation


@pytest.mark.parametrize("deed", ["hoard_memory", "hoard_memory_in_c"])
def test_a_memory_hog_meets_its_limit(fort: Scene, deed: str) -> None:
    """256 MiB are configured: beyond them Python raises, C gets nothing; the host does not notice."""
    fired = fort.fire("anarchist", 60, do=deed, most=2 * MEMORY_MIB)

    assert fired.outcome in ("failed", "dead")
    assert "MemoryError" in (fired.reason or "") or "it ended its worker 3 times" in (fired.reason or "")
    peak = max((record.get("max_rss_bytes", 0) for record in fort.log("worker_reaped")), default=0)
    assert peak < 512 << 20


@pytest.mark.parametrize(
    "deed, error", [("hoard_threads", "can't start new thread"), ("hoard_descriptors", "Too many open files")]
)
def test_threads_and_descriptors_are_bounded(fort: Scene, deed: str, error: str) -> None:
    """The plugin gets an error of its own, or is ended if somebody looks in between; there is room for all others."""
    if deed == "hoard_threads" and "namespaces" in fort.plugin("anarchist").missing_layers:
        pytest.skip("without a user namespace the kernel counts threads per user: bounded by memory alone")
    fired = fort.fire("anarchist", 60, do=deed, most=MANY)

    assert fired.outcome in ("failed", "dead"), fired
    assert error in (fired.reason or "") or " limit: " in (fired.reason or "")


def test_a_worker_that_spins_in_every_thread_holds_up_nobody(fort: Scene) -> None:
    """It has the time that nobody else wants: others answer as if it were not there."""
    pid = fort.plugin("anarchist").pid
    fired = fort.fire("anarchist", do="spin_in_every_thread", most=1.0)
    assert fired.outcome == "noop", fired
    assert pid is not None
    assert len(list(Path(f"/proc/{pid}/task").iterdir())) > 8

    for _ in range(10):
        started = time.monotonic()
        assert fort.fire("bystander", do="noop").outcome == "noop"
        assert time.monotonic() - started < PATIENCE_S


@pytest.mark.parametrize(
    "deed, reason", [("write_a_million_keys", "at most 256 state keys"), ("write_more_than_a_frame", "the limit is")]
)
def test_a_decision_can_write_so_much_state_and_no_more(fort: Scene, deed: str, reason: str) -> None:
    """Its call fails, and nothing of it is stored. Frames past the SDK: `test_forgeries`."""
    fired = fort.fire("anarchist", 60, do=deed)

    assert fired.outcome == "failed"
    assert reason in (fired.reason or "")
    assert fort.rows("select 1 from plugin_state where plugin = 'anarchist'") == []


# --- what is to be found in a worker --------------------------------------------------------------------------------


@pytest.mark.skipif(os.geteuid() != 0, reason="a worker is not dumpable: looking at it needs root")
def test_a_workers_environment_and_arguments_say_nothing(fort: Scene) -> None:
    """Its environment at birth is the zygote's, which is nearly empty; its arguments are its title."""
    workers = {
        pid: command for pid, command in find_descendants(fort.daemon.process.pid).items() if "worker:" in command
    }
    assert len(workers) >= 3

    for pid, command in workers.items():
        names = {entry.split(b"=")[0] for entry in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0") if entry}
        assert names <= {b"LANG"}, names
        assert command.startswith("worker: ")
    assert find_in_processes(workers, secrets_in(fort.directory)) == {}


@pytest.mark.skipif(os.geteuid() != 0, reason="reading another process's memory needs root")
def test_a_workers_memory_holds_no_secret(fort: Scene) -> None:
    """No key, no passphrase, no way to the database or the node; a string that the plugin was given is found.

    The anarchist has walked through all that is to be reached from it before, and holds a copy of every text.
    """
    planted = os.urandom(24)
    fort.fire("anarchist", do="remember", hex=planted.hex())
    secrets = {
        **secrets_in(fort.directory),
        "dsn": fort.dsn.encode(),
        "socket of the database": fort.dsn.split("host=")[1].split()[0].encode(),
        "variable of the daemon": TOKEN.encode(),
        "url of the node": fort.venue.url.encode(),
        "keystore": str(fort.directory / "operator.json").encode(),
    }

    walked = fort.fire("anarchist", do="walk_through_everything")
    assert walked.outcome == "noop", walked
    assert find_in_memory(fort.daemon.process.pid, secrets) >= {
        "key",
        "url of the node",
        "keystore",
        "variable of the daemon",
    }
    zygote = next(pid for pid, line in find_descendants(fort.daemon.process.pid).items() if line == "runnerd: zygote")
    pids = {**fort.pids(), "zygote": zygote}
    del pids["prober"]  # it is told where everything is
    for name, pid in pids.items():
        assert pid is not None
        found = find_in_memory(pid, {**secrets, "planted": planted})
        assert found == ({"planted"} if name == "anarchist" else set()), (name, json.dumps(sorted(found)))

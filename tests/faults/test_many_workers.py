"""A hundred plugins: restarts leave nothing behind, and the deaths that travel are over in a moment.

`RESTARTS=1000` is the long run.
"""

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.busy_host import Stopwatch
from tests.support.counted_daemon import ask_counts, counted
from tests.support.leaks import find_descendants, find_descriptors, find_socket_files, wait_until_gone
from tests.support.scene import Scene, Stage, puppet, wait_for
from tests.support.short_dir import make_short_dir

pytestmark = [pytest.mark.faults, pytest.mark.slow]

PLUGINS = 100
RESTARTS = int(os.environ.get("RESTARTS", "200"))
WARM_UP = 100
"""Restarts before the first count: caches, pools and the allocator's arenas have their size then."""
MAX_GROWTH = 0.05
NODE_CONNECTIONS = 4
"""They come and go as the chain is asked."""
FORGIVING = {"crashes_to_quarantine": 1_000_000, "backoff_first_s": 0.01, "backoff_max_s": 0.01}
NAMES = tuple(f"plugin-{number:03}" for number in range(PLUGINS))


@pytest.fixture(scope="module")
def crowd(stage: Stage) -> Iterator[Scene]:
    """A daemon with a hundred plugins; nothing but the tests calls them."""
    plugins = dict.fromkeys(NAMES, puppet(restart=FORGIVING))
    with make_short_dir() as directory, stage.scene(plugins, command=counted(directory / "counts")) as scene:
        yield scene


@dataclass(frozen=True, slots=True)
class Footprint:
    """All that supervisor and zygote hold at one moment."""

    processes: int
    supervisor_fds: Counter[str]
    zygote_fds: int
    socket_files: int
    link_directories: int
    tasks: tuple[str, ...]
    objects: int
    supervisor_bytes: int
    zygote_bytes: int


def footprint(crowd: Scene) -> Footprint:
    """At rest: all are ready, the zygote has its spare, and what was being written is written."""
    supervisor = crowd.daemon.process.pid
    wait_for(lambda: "worker: spare" in find_descendants(supervisor).values(), "the spare")
    zygote = next(pid for pid, command in find_descendants(supervisor).items() if command == "runnerd: zygote")
    command = crowd._command
    counts = wait_for(lambda: _counts_at_rest(supervisor, Path(command[-1])), "no task of a restart")
    runtime = crowd.directory / "run"
    return Footprint(
        processes=len(find_descendants(supervisor)),
        supervisor_fds=Counter(_kind_of(target) for target in find_descriptors(supervisor).values()),
        zygote_fds=len(find_descriptors(zygote)),
        socket_files=len(find_socket_files(runtime)),
        link_directories=len(list((runtime / "links").iterdir())),
        tasks=tuple(counts["tasks"]),
        objects=sum(counts["objects"].values()),
        supervisor_bytes=_resident_bytes(supervisor),
        zygote_bytes=_resident_bytes(zygote),
    )


def test_restarts_leave_nothing_behind(crowd: Scene) -> None:
    """No process, descriptor, socket file, directory or task more than before; no memory beyond a few per cent."""
    restart(crowd, WARM_UP)
    before = footprint(crowd)
    began = time.monotonic()
    restart(crowd, RESTARTS)
    took_s = time.monotonic() - began
    after = footprint(crowd)

    print(f"{RESTARTS} restarts in {took_s:.1f} s\nbefore: {before}\nafter:  {after}")
    for what in ("processes", "zygote_fds", "socket_files", "link_directories", "tasks"):
        assert getattr(after, what) == getattr(before, what), what
    more = after.supervisor_fds - before.supervisor_fds
    assert more.total() <= NODE_CONNECTIONS, more
    for what in ("objects", "supervisor_bytes", "zygote_bytes"):
        growth = getattr(after, what) / getattr(before, what) - 1
        print(f"{what}: {growth:+.2%}")
        assert growth < MAX_GROWTH, what


def test_the_zygotes_death_brings_all_back_within_2_s(crowd: Scene) -> None:
    """Another zygote, and a hundred other workers."""
    status = crowd.daemon.status()
    zygote, before = status.zygote_pid, crowd.pids()
    assert zygote is not None
    logged = crowd.daemon.log.stat().st_size
    stopwatch, killed_at = Stopwatch(crowd.daemon.process.pid), time.time()
    os.kill(zygote, signal.SIGKILL)

    readies = wait_for(lambda: _readies(crowd, logged), "a hundred that are ready")
    took_s = max(readies) - killed_at
    own_s = stopwatch.own_s(took_s)
    print(f"all {PLUGINS} were ready {took_s:.2f} s after the zygote's death; without what others took {own_s:.2f} s")
    assert own_s < 2.0
    assert set(before.values()).isdisjoint(crowd.pids().values())


def test_no_process_outlives_the_supervisor_by_1_s(crowd: Scene) -> None:
    """kill -9 with a hundred workers."""
    below = find_descendants(crowd.daemon.process.pid)
    assert len(below) > PLUGINS

    stopwatch = Stopwatch(crowd.daemon.process.pid)
    crowd.daemon.kill()
    took_s = wait_until_gone(below, deadline_s=10.0)
    own_s = stopwatch.own_s(took_s)
    print(f"all {len(below)} processes were gone after {took_s:.2f} s; without what others took {own_s:.2f} s")
    assert own_s < 1.0


def restart(crowd: Scene, count: int) -> None:
    """`kill -9` of all workers at once, and again when all are back."""
    assert count % PLUGINS == 0
    for _ in range(count // PLUGINS):
        logged = crowd.daemon.log.stat().st_size
        for name, pid in crowd.pids().items():
            assert pid is not None, name
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: _readies(crowd, logged), "a hundred that are ready again", 60)  # noqa: B023


def _readies(crowd: Scene, since: int) -> list[float]:
    """When each became ready, in the log from this byte on; nothing until all are."""
    with crowd.daemon.log.open("rb") as log:
        log.seek(since)
        lines = log.read().splitlines(keepends=True)
    records = [json.loads(line) for line in lines if b'"worker_state"' in line and line.endswith(b"}\n")]
    ready = {
        record["plugin"]: datetime.fromisoformat(record["time"]).timestamp()
        for record in records
        if record["state"] == "ready"
    }
    return list(ready.values()) if len(ready) == PLUGINS else []


def _counts_at_rest(pid: int, path: Path) -> dict[str, Any] | None:
    counts = ask_counts(pid, path)
    return counts if not any(name.startswith(("birth:", "record:")) for name in counts["tasks"]) else None


def _resident_bytes(pid: int) -> int:
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text("ascii")
    return 1024 * int(next(line for line in rollup.splitlines() if line.startswith("Rss:")).split()[1])


def _kind_of(target: str) -> str:
    return target.partition(":")[0]

"""So many sandboxed plugins under one real daemon: how soon they run, what they cost, how punctual their cron is.

Everything is looked at from outside: the daemon's log, /proc and the ledger. Times that are compared are the daemon's.
"""

import os
import re
import signal
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg

from deploy.demo.world import Daemon
from runnerd.control.messages import Restart
from runnerd.triggers.schedule import phase_of
from tests.bench.spans import cpu_seconds
from tests.bench.world import Follower, bench_world, is_state, noop, time_of
from tests.support.leaks import find_descendants

MIB = 2**20
READY_DEADLINE_S = 120.0
RESTARTS = 20
SPARE_S = 0.02
"""From the fork of the spare until it waits for its task."""
SETTLE_S = 3.0
"""Before the hold: what the start has left to do is done."""
LATE_S = 5.0
"""After the hold, before the ledger is asked: calls that are later than this are missed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """From the exec of `runnerd` until all of its plugins are ready, and what they then hold."""

    size: int
    all_ready_s: float
    first_to_last_s: float
    """From the first worker's start until the last is ready."""
    supervisor_rss: int
    supervisor_pss: int
    zygote_pss: int
    worker_pss: float
    worker_private: float
    descriptors: float
    """All those of the supervisor, per worker."""
    start_s: Sequence[float]
    restart_s: Sequence[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """A 1 Hz cron on all, held for `seconds`. Lateness is from the slot until `decide` gets it (`Decide.now`)."""

    size: int
    seconds: int
    wanted: int
    decided: int
    late_s: Sequence[float]
    cpu_share: float
    """Of one core, by the supervisor alone."""

    @property
    def missed(self) -> int:
        """Slots without a Decision."""
        return self.wanted - self.decided


def measure_start(size: int) -> Start:
    """Plugins that wait for an event each: nothing but the start is under way."""
    names = [f"crowd-{number}" for number in range(size)]
    plugins = {name: noop(triggers=[{"kind": "event", "topic": name}]) for name in names}
    with bench_world(plugins) as (daemon, _, _):
        follower = Follower(daemon.log)
        began = _started_at(daemon)
        ready = follower.wait_for(lambda record: is_state(record, "ready"), size, READY_DEADLINE_S)
        first = min(time_of(record) for record in follower.records if is_state(record, "starting"))
        last = max(map(time_of, ready))
        status = daemon.status()
        workers = [plugin.pid for plugin in status.plugins if plugin.pid]
        assert len(workers) == size, f"{len(workers)} of {size} workers"
        memory = [memory_of(pid) for pid in workers]
        supervisor = memory_of(status.pid)
        start_s, restart_s = _restarts(daemon, follower, names)
        return Start(
            size=size,
            all_ready_s=last - began,
            first_to_last_s=last - first,
            supervisor_rss=supervisor["Rss"],
            supervisor_pss=supervisor["Pss"],
            zygote_pss=sum(memory_of(pid)["Pss"] for pid in find_descendants(status.pid) if _is_zygote(pid)),
            worker_pss=statistics.mean(one["Pss"] for one in memory),
            worker_private=statistics.mean(one["Private_Clean"] + one["Private_Dirty"] for one in memory),
            descriptors=_descriptors(status.pid) / size,
            start_s=start_s,
            restart_s=restart_s,
        )


def measure_hold(size: int, seconds: int, spread_s: float = 0.0) -> Hold:
    """A 1 Hz cron on each plugin; the slots of `seconds` whole seconds, once all are ready.

    They are all due at once, or spread through `spread_s`, as `cron_spread_s` does it: then late is who is fired later
    than its part of that.
    """
    one = noop(triggers=[{"kind": "cron", "every_seconds": 1}], cron_spread_s=spread_s)
    with bench_world({f"crowd-{number}": one for number in range(size)}) as (daemon, _, dsn):
        Follower(daemon.log).wait_for(lambda record: is_state(record, "ready"), size, READY_DEADLINE_S)
        time.sleep(SETTLE_S)  # nothing tells when the last of it is done, and no assertion hangs on it
        first = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=1)
        until = first + timedelta(seconds=seconds)
        pid = daemon.process.pid
        _sleep_until(first)
        before = cpu_seconds(pid)
        _sleep_until(until)
        cpu_share = (cpu_seconds(pid) - before) / seconds
        time.sleep(LATE_S)  # the definition of missed: later than this
        with psycopg.connect(dsn, autocommit=True) as connection:
            rows = connection.execute(_LATENESS, {"first": first, "until": until}).fetchall()
        return Hold(
            size=size,
            seconds=seconds,
            wanted=size * seconds,
            decided=len(rows),
            late_s=[late - phase_of(name, "every 1 s", spread_s).total_seconds() for name, late in rows],
            cpu_share=cpu_share,
        )


_LATENESS = """
    select c.plugin, extract(epoch from (d.context::jsonb ->> 'now')::timestamptz - c.due_at)::float8
    from job_calls c join decisions d on d.call_id = c.id
    where c.trigger = 'cron' and c.due_at >= %(first)s and c.due_at < %(until)s
"""


def memory_of(pid: int) -> dict[str, int]:
    """`/proc/PID/smaps_rollup` in bytes, by name: Rss, Pss, Private_Clean …"""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return {name: int(kib) * 1024 for name, kib in re.findall(r"^(\w+): +(\d+) kB$", text, re.MULTILINE)}


def _is_zygote(pid: int) -> bool:
    """It has a guardian, which is its parent."""
    return Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"runnerd: zygote")


def _descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def _started_at(daemon: Daemon) -> float:
    """When the kernel made the process: the bench was still waiting for its name then."""
    ticks = int(Path(f"/proc/{daemon.process.pid}/stat").read_text().rpartition(")")[2].split()[19])
    uptime_s = float(Path("/proc/uptime").read_text().split()[0])
    return time.time() - uptime_s + ticks / os.sysconf("SC_CLK_TCK")


def _sleep_until(moment: datetime) -> None:
    time.sleep(max(0.0, (moment - datetime.now(UTC)).total_seconds()))  # a measured span of the clock


def _restarts(daemon: Daemon, follower: Follower, names: Sequence[str]) -> tuple[list[float], list[float]]:
    """Seconds from start to ready, and from `kill -9` to ready again, of the first restart of a plugin each.

    Crashes that have nothing to do with each other: the zygote has its spare again before the next one.
    """
    start_s, restart_s = [], []
    pids = {plugin.name: plugin.pid for plugin in daemon.status().plugins if plugin.pid and not plugin.restarts}
    assert pids, "every worker has been restarted: this machine is too busy to measure"
    for number in range(RESTARTS):
        fresh = [name for name in names if name in pids]
        name = fresh[number * len(fresh) // RESTARTS]
        pid = pids[name]
        _wait_for_spare(daemon.process.pid)
        follower.read()
        killed = time.time()
        os.kill(pid, signal.SIGKILL)
        began, ready = _next_life(follower, name)
        start_s.append(ready - began)
        restart_s.append(ready - killed)
        if len(names) < RESTARTS:  # it will be killed again: a restart that is not its first would wait
            daemon.ask(Restart(plugin=name))
            _next_life(follower, name)
            pids = {plugin.name: plugin.pid for plugin in daemon.status().plugins if plugin.pid}
    return start_s, restart_s


def _wait_for_spare(supervisor: int) -> None:
    until = time.monotonic() + READY_DEADLINE_S
    while "worker: spare" not in find_descendants(supervisor).values():
        assert time.monotonic() < until, "the zygote makes no spare"
        time.sleep(0.02)  # between two measurements; a process that was forked tells nobody
    time.sleep(SPARE_S)  # a process that waits looks like one that is about to


def _next_life(follower: Follower, name: str) -> tuple[float, float]:
    """When its next worker began to start, and was ready."""
    states = follower.wait_for(
        lambda record: record.get("plugin") == name and (is_state(record, "starting") or is_state(record, "ready")),
        2,
        READY_DEADLINE_S,
    )
    return time_of(states[0]), time_of(states[1])

"""`make bench`: every figure of one run, on this machine, beside its target. Takes about three minutes."""

import json
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import psycopg

from deploy.demo.world import Daemon, Venue, build_venue, make_keystore, render_config, running_daemon
from runnerd.config.load import load_config
from runnerd.control.messages import GetHistory, History, Restart
from runnerd.store.embedded import EmbeddedPostgres
from tests.bench.decisions import SIZE as PROFILED
from tests.bench.decisions import decide_many, noop_plugins, profile_decisions
from tests.bench.figures import Figure, percentile, spread
from tests.bench.floor import GAP_S, measure_floor
from tests.bench.recovery import measure_recovery
from tests.bench.stuck import measure_stuck
from tests.bench.throughput import measure_throughput
from tests.support.anvil import start_anvil

PLUGINS = Path(__file__).parent / "plugins"
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "300"))
SIZES = (1, 100, 500)


def main() -> None:
    """Measure, and print each figure as soon as it is known."""
    version = sys.version.split()[0]
    print(f"runnerd bench: {os.cpu_count()} cores, Python {version}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC")
    for figures in (_latency, _workers, profile_decisions, measure_throughput, measure_recovery, measure_stuck):
        for figure in figures():
            print(figure, flush=True)


# --- NOTIFY → accepted ------------------------------------------------------------------------------------------


def _latency() -> Iterator[Figure]:
    with _world({"one-action": {"path": str(PLUGINS / "one_action.py"), "queue": 10_000}}) as (daemon, venue, dsn):
        daemon.wait_ready("one-action")
        _notify_slowly(dsn, 20)  # connections, prepared statements and caches are warm afterwards
        sent = _notify_slowly(dsn, ROUNDS)
        took = _accepted_after(dsn, sent)
        floor = measure_floor(venue.w3, venue.url, dsn, ROUNDS)
        yield Figure("floor: NOTIFY, round trip, 3 commits, sign, send", spread(floor))
        ratio = percentile(took, 50) / percentile(floor, 50)
        yield Figure("NOTIFY -> transaction accepted by the node", spread(took))
        ratio99 = percentile(took, 99) / percentile(floor, 99)
        yield Figure("  ratio to the floor", f"p50 {ratio:.2f}, p99 {ratio99:.2f}", "p50 <= 3", ratio <= 3)


def _notify_slowly(dsn: str, rounds: int) -> dict[str, float]:
    sent: dict[str, float] = {}
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.prepare_threshold = 0
        for number in range(rounds):
            time.sleep(GAP_S)  # one at a time: latency, not throughput; the floor keeps the same pace
            payload = f"{number} {time.time_ns()}"
            sent[payload] = time.time()
            connection.execute("select pg_notify('bench', %s)", (payload,))
    return sent


def _accepted_after(dsn: str, sent: dict[str, float]) -> list[float]:
    query = """
        select c.payload, min(a.accepted_at) from job_calls c join attempts a on a.call_id = c.id
        where a.accepted_at is not null group by c.payload
    """
    until = time.monotonic() + 30
    rows: dict[str, datetime] = {}
    with psycopg.connect(dsn, autocommit=True) as connection:
        while time.monotonic() < until:
            rows = {row[0]: row[1] for row in connection.execute(query).fetchall()}
            if sent.keys() <= rows.keys():
                return [rows[payload].timestamp() - at for payload, at in sent.items()]
            time.sleep(0.1)  # after the measured part: times are the ledger's
    raise TimeoutError(f"{len(sent)} were announced, {len(rows)} accepted")


# --- workers and decisions --------------------------------------------------------------------------------------


def _workers() -> Iterator[Figure]:
    for size in SIZES:
        plugins = noop_plugins(size)
        names = list(plugins)
        with _world(plugins) as (daemon, _, dsn):
            status = daemon.wait_ready(*names, deadline_s=120)
            memory = [plugin.memory_bytes / 2**20 for plugin in status.plugins if plugin.memory_bytes]
            mean = statistics.mean(memory)
            yield Figure(f"private memory per worker, {size} workers", f"{mean:.2f} MiB", "<= 4 MiB", mean <= 4)
            if size <= 100:
                yield from _restarts(daemon, names, size)
                if size < PROFILED:  # with more they are measured together with their profile
                    yield Figure(f"decisions (noop), {size} plugins", str(decide_many(dsn, names, 3_000)))


def _restarts(daemon: Daemon, names: list[str], size: int) -> Iterator[Figure]:
    killed: dict[str, float] = {}
    for number in range(20):
        name = names[number % len(names)]
        # A restart that is not the first of its streak waits for its backoff; a commanded one clears the streak.
        before = next(plugin for plugin in daemon.status().plugins if plugin.name == name)
        assert before.pid is not None
        killed[f"{name}#{before.generation + 1}"] = time.time()
        os.kill(before.pid, signal.SIGKILL)
        _wait_generation(daemon, name, before.generation + 1)
        _clear(daemon, name)
    starts, readies = _states(daemon)
    start = [readies[worker] - starts[worker] for worker in killed]
    restart = [readies[worker] - at for worker, at in killed.items()]
    yield Figure(
        f"worker start -> ready, {size} workers", spread(start), "p50 <= 15 ms", percentile(start, 50) <= 0.015
    )
    yield Figure(
        f"kill -9 -> ready again, {size} workers", spread(restart), "p50 <= 25 ms", percentile(restart, 50) <= 0.025
    )


def _clear(daemon: Daemon, name: str) -> None:
    generation = next(plugin.generation for plugin in daemon.status().plugins if plugin.name == name)
    daemon.ask(Restart(plugin=name))
    _wait_generation(daemon, name, generation + 1)


def _wait_generation(daemon: Daemon, name: str, generation: int) -> None:
    # Not by status: that looks at the memory of every worker, and would be measured as well.
    until = time.monotonic() + 30
    while time.monotonic() < until:
        history = daemon.ask(GetHistory(plugin=name, limit=5))
        assert isinstance(history, History)
        if any(event.kind == "ready" and event.generation >= generation for event in history.events):
            return
        time.sleep(0.01)  # between two looks; the times come from the log
    raise TimeoutError(f"{name} did not come back as generation {generation}")


def _states(daemon: Daemon) -> tuple[dict[str, float], dict[str, float]]:
    """When each generation began to start, and when it was ready, from the log."""
    starts: dict[str, float] = {}
    readies: dict[str, float] = {}
    for line in daemon.log.read_text().splitlines():
        record = json.loads(line)
        if record.get("action") == "worker_state":
            worker = f"{record['plugin']}#{record['generation']}"
            at = datetime.fromisoformat(record["time"]).timestamp()
            if record["state"] == "starting":
                starts[worker] = at
            elif record["state"] == "ready":
                readies.setdefault(worker, at)
    return starts, readies


# --- the world --------------------------------------------------------------------------------------------------


@contextmanager
def _world(plugins: dict[str, dict[str, object]]) -> Iterator[tuple[Daemon, Venue, str]]:
    """A node with a block each 0.25 s, the venue, and a daemon with these plugins; and the DSN of its database."""
    with tempfile.TemporaryDirectory(prefix="rd-") as name, start_anvil(block_time_s=0.25) as anvil:
        directory = Path(name)
        directory.chmod(0o755)
        venue = build_venue(anvil.url, make_keystore(directory))
        config = render_config(venue, plugins, chain={"confirmations": 1, "poll_s": 0.1})
        (directory / "runnerd.toml").write_text(config.replace('log_level = "debug"', 'log_level = "info"'))
        with running_daemon(directory) as daemon:
            loaded = load_config(directory / "runnerd.toml")
            daemon.wait_until(lambda _: True)
            yield daemon, venue, EmbeddedPostgres(loaded.data_dir, loaded.runtime_dir).dsn


if __name__ == "__main__":
    main()

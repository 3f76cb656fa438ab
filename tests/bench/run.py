"""`make bench`: every figure of one run, on this machine, beside its target. Takes some forty minutes.

Twenty of them are two long runs: `BENCH_DRIFT_S` and `BENCH_SUSTAINED_S` shorten them.
"""

import os
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
from runnerd.store.embedded import EmbeddedPostgres
from tests.bench.bystanders import measure_bystanders
from tests.bench.crowd import Start
from tests.bench.decisions import decide_many, noop_plugins, profile_decisions
from tests.bench.drift import measure_drift
from tests.bench.figures import Figure, percentile, spread
from tests.bench.floor import GAP_S, measure_floor
from tests.bench.growth import measure_growth
from tests.bench.recovery import measure_recovery
from tests.bench.rivals import ALIVE, measure_rivals
from tests.bench.stuck import measure_stuck
from tests.bench.throughput import measure_throughput
from tests.bench.triggers import measure_triggers
from tests.bench.world import PLUGINS
from tests.support.anvil import start_anvil

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "300"))


def main() -> None:
    """Measure, and print each figure as soon as it is known."""
    version = sys.version.split()[0]
    print(f"runnerd bench: {os.cpu_count()} cores, Python {version}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC")
    for figures in (
        _latency, measure_triggers, measure_drift, _decisions, _crowds, measure_throughput, measure_recovery,
        measure_stuck, measure_bystanders,
    ):  # fmt: skip
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


# --- crowds of workers, and their decisions ---------------------------------------------------------------------


def _crowds() -> Iterator[Figure]:
    """Growth with the number of plugins; and beside the rivals, with as many as those have."""
    starts: dict[int, Start] = {}
    yield from measure_growth(lambda start: starts.update({start.size: start}))
    yield from measure_rivals(starts.get(ALIVE))


def _decisions() -> Iterator[Figure]:
    names = list(plugins := noop_plugins(1))
    with _world(plugins) as (daemon, _, dsn):
        daemon.wait_ready(*names, deadline_s=120)
        yield Figure("decisions (noop), 1 plugin", str(decide_many(dsn, names, 3_000)))
    yield from profile_decisions()


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

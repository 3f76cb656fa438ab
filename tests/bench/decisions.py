"""How many Decisions a second are recorded durably, and where their time goes. `python -m tests.bench.decisions` alone.

The rate is of this machine as it is now. CPU microseconds per Decision, by process, hardly change with what else runs
on it; the profile divides those of the supervisor.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from deploy.demo.world import Daemon, build_venue, make_keystore, render_config
from runnerd.config.load import load_config
from runnerd.store.embedded import EmbeddedPostgres
from tests.bench.figures import Figure
from tests.bench.spans import cpu_seconds
from tests.support.anvil import start_anvil

PLUGIN = Path(__file__).parent / "plugins" / "noop.py"
DECISIONS = int(os.environ.get("BENCH_DECISIONS", "9000"))
SIZE = 100
TARGET_PER_S = 3_000
TOP = int(os.environ.get("BENCH_TOP", "12"))
DEADLINE_S = 120.0


def noop_plugins(size: int) -> dict[str, dict[str, object]]:
    """Plugins that answer a notification on the topic of their own name."""
    return {
        name: {
            "path": str(PLUGIN),
            "class_name": "noop",
            "triggers": [{"kind": "event", "topic": name}],
            "queue": 100_000,
            "call_deadline_s": 600,
        }
        for name in (f"noop-{number}" for number in range(size))
    }


@dataclass(frozen=True, slots=True)
class Run:
    """One burst: all are notified at once, and the clock runs from the first call's row to the last one's end."""

    decided: int
    seconds: float
    wrong: int

    @property
    def rate(self) -> float:
        """Decisions a second."""
        return self.decided / self.seconds

    def __str__(self) -> str:
        return f"{self.rate:,.0f}/s ({self.decided} recorded durably, {self.wrong} not noop)"


def decide_many(dsn: str, names: Sequence[str], count: int) -> Run:
    """`count` Decisions, spread over the plugins `names`."""
    each = max(1, count // len(names))
    with psycopg.connect(dsn, autocommit=True) as connection:
        before = connection.execute("select coalesce(max(id), 0) from job_calls").fetchone()[0]  # type: ignore[index]
        with connection.pipeline():
            for number in range(each):
                for name in names:
                    # Distinct payloads: PostgreSQL folds equal notifications of one transaction into one.
                    connection.execute("select pg_notify(%s, %s)", (name, str(number)))
        query = "select count(*), min(fired_at), max(finished_at) from job_calls where id > %s and state = 'done'"
        until = time.monotonic() + DEADLINE_S
        done, first, last = 0, None, None
        while done < each * len(names) and time.monotonic() < until:
            time.sleep(0.2)  # seldom, so that looking costs the run nothing; times are the ledger's
            done, first, last = connection.execute(query, (before,)).fetchone()  # type: ignore[misc]
        wrong = connection.execute(
            "select count(*) from job_calls where id > %s and outcome <> 'noop'", (before,)
        ).fetchone()[0]  # type: ignore[index]
    assert first is not None
    assert last is not None
    return Run(done, (last - first).total_seconds(), wrong)


def profile_decisions(size: int = SIZE, count: int = DECISIONS) -> Iterator[Figure]:
    """Rate, CPU per Decision by process, and the supervisor's by layer and by function."""
    with _sampled_daemon(size) as (daemon, dsn, out):
        names = list(noop_plugins(size))
        daemon.wait_ready(*names, deadline_s=120)
        decide_many(dsn, names, max(size, count // 10))  # connections, prepared statements and caches are warm then
        before = _cpu_by_process(daemon.process.pid)
        daemon.process.send_signal(signal.SIGUSR1)
        run = decide_many(dsn, names, count)
        after = _cpu_by_process(daemon.process.pid)
        daemon.process.send_signal(signal.SIGUSR2)
        is_met = run.rate >= TARGET_PER_S and not run.wrong
        yield Figure(f"decisions (noop), {size} plugins", str(run), f">= {TARGET_PER_S:,}/s", is_met)
        us = {name: (after[name] - before[name]) * 1e6 / run.decided for name in after}
        parts = ", ".join(f"{name} {us[name]:.0f}" for name in sorted(us, key=us.__getitem__, reverse=True))
        yield Figure("  CPU µs per decision", f"{sum(us.values()):.0f}: {parts}")
        yield from _profile(out, us["supervisor"])


def _profile(out: Path, supervisor_us: float) -> Iterator[Figure]:
    until = time.monotonic() + 30
    while not out.exists():
        assert time.monotonic() < until, "the sampler wrote nothing"
        time.sleep(0.05)  # another process writes it; a file tells nobody
    found = json.loads(out.read_text())
    total = sum(found["layers"].values())
    for layer, samples in Counter(found["layers"]).most_common():
        share = samples / total
        yield Figure(f"    {layer}", f"{share:6.1%} {share * supervisor_us:6.0f} µs")
    for function, samples in Counter(found["functions"]).most_common(TOP):
        share = samples / total
        yield Figure("      by function", f"{share:6.1%} {share * supervisor_us:6.0f} µs {function}")


def _cpu_by_process(supervisor: int) -> dict[str, float]:
    """CPU seconds so far of the supervisor, its database, its workers and the rest of its tree."""
    seconds = {"supervisor": cpu_seconds(supervisor), "postgres": 0.0, "workers": 0.0, "others": 0.0}
    for pid in _descendants(supervisor):
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
            spent = cpu_seconds(pid)
        except OSError:  # it ended meanwhile
            continue
        if b"postgres" in command:
            seconds["postgres"] += spent
        elif b"worker" in command:
            seconds["workers"] += spent
        else:
            seconds["others"] += spent
    return seconds


def _descendants(pid: int) -> Iterator[int]:
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found = [int(child) for child in children.read_text().split()]
        except OSError:
            continue
        for child in found:
            yield child
            yield from _descendants(child)


@contextmanager
def _sampled_daemon(size: int) -> Iterator[tuple[Daemon, str, Path]]:
    with tempfile.TemporaryDirectory(prefix="rd-") as name, start_anvil(block_time_s=0.25) as anvil:
        directory = Path(name)
        directory.chmod(0o755)
        venue = build_venue(anvil.url, make_keystore(directory))
        config = render_config(venue, noop_plugins(size), chain={"confirmations": 1, "poll_s": 0.1})
        file = directory / "runnerd.toml"
        file.write_text(config.replace('log_level = "debug"', 'log_level = "info"'))
        out = directory / "samples.json"
        log = directory / "runnerd.log"
        with log.open("ab") as sink:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.bench.sampler", str(out), "--config", str(file)],
                stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, start_new_session=True,
            )  # fmt: skip
        daemon = Daemon(directory, process, log)
        try:
            loaded = load_config(file)
            daemon.wait_until(lambda _: True)
            yield daemon, EmbeddedPostgres(loaded.data_dir, loaded.runtime_dir).dsn, out
        finally:
            try:
                daemon.stop()
            finally:
                daemon.kill()


if __name__ == "__main__":
    for figure in profile_decisions():
        print(figure, flush=True)

"""Events without end, half of them through the outbox and half by NOTIFY: none lost, none doubled, and memory flat.

`python -m tests.bench.sustained` alone: `BENCH_SUSTAINED_S` seconds, `BENCH_SUSTAINED_RATE` events a second.
"""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import resources
from itertools import count
from typing import Final

import psycopg

from deploy.demo.world import Daemon
from tests.bench.arena import Arena, open_arena, stamped
from tests.bench.crowd import memory_of
from tests.bench.figures import Figure
from tests.bench.sheet import Sheet, courses

SECONDS: Final = int(os.environ.get("BENCH_SUSTAINED_S", "600"))
RATE: Final = int(os.environ.get("BENCH_SUSTAINED_RATE", "1000"))
PUBLISH_EVERY_S: Final = 0.02
SAMPLE_EVERY_S: Final = 2.0
DRAIN_S: Final = 60.0
MIB: Final = 1 << 20
SKIPPED: Final = 0.2
"""Of the run, before memory has to be flat: caches and prepared statements fill."""
MAX_SLOPE: Final = 0.1
"""MiB a minute: less than 150 MiB a day, which no restart for an update would let come to pass."""
TOPICS: Final = ("by_notify", "by_outbox")
COUNTED = """
    select count(*), count(distinct payload), count(*) filter (where outcome = 'noop'),
           percentile_cont(array[0.5, 0.99]) within group (order by
               case when outcome = 'noop' then reason::bigint - split_part(payload, ' ', 2)::bigint end)
    from job_calls where topic = %s and state = 'done' and payload ~ '^[0-9]+ [0-9]+$'
"""
INTRO = """
{rate:,} events a second for {seconds} s, half of them notifications and half rows of the outbox, each decided durably
by a plugin of its own. Lost and doubled are counted by their numbers in the ledger at the end. Memory is what the
process alone holds (private pages); its slope is the least-squares line over the last 80 % of the run.
"""


@dataclass(slots=True)
class Course:
    """A process's private memory over the run: seconds and bytes."""

    points: list[tuple[float, float]] = field(default_factory=list)

    def sample(self, at: float, pid: int) -> None:
        """Now."""
        memory = memory_of(pid)
        self.points.append((at, float(memory["Private_Clean"] + memory["Private_Dirty"])))

    @property
    def last_mib(self) -> float:
        """At the end."""
        return self.points[-1][1] / MIB

    @property
    def mib_per_min(self) -> float:
        """The slope of the last part."""
        points = [(at, value) for at, value in self.points if at >= SKIPPED * self.points[-1][0]]
        middle = sum(at for at, _ in points) / len(points)
        spread = sum((at - middle) ** 2 for at, _ in points)
        return sum((at - middle) * value for at, value in points) / spread * 60 / MIB if spread else 0.0


def measure_sustained(arena: Arena) -> Iterator[Figure]:
    """What came of all events, and what they left in memory."""
    sheet = Sheet("sustained", f"{RATE:,} events a second", INTRO.format(rate=RATE, seconds=SECONDS))
    plugins = {
        "notified": stamped(triggers=[{"kind": "event", "topic": TOPICS[0]}]),
        "outboxed": stamped(triggers=[{"kind": "event", "topic": TOPICS[1], "mode": "outbox"}]),
    }
    with arena.daemon(plugins) as (daemon, dsn):
        with psycopg.connect(dsn, autocommit=True) as connection:
            install = (resources.files("runnerd.triggers") / "outbox.sql").read_text("utf-8")
            connection.execute(install.encode())
            _wait_for_both(connection)
            courses_of = {"supervisor": Course(), "worker": Course()}
            sent, took_s = _publish(connection, daemon, courses_of)
            for topic in TOPICS:
                yield _counted(sheet, connection, topic, sent)
        yield sheet.add("  sent", f"{len(TOPICS) * sent:,} in {took_s:.0f} s: {len(TOPICS) * sent / took_s:,.0f}/s")
    for name, course in courses_of.items():
        slope = course.mib_per_min
        text = f"{slope:+.3f} MiB/min, {course.last_mib:.1f} MiB at the end"
        yield sheet.add(f"  {name}'s memory", text, f"<= {MAX_SLOPE:g} MiB/min", slope <= MAX_SLOPE)
    drawn = {name: [(at, value / MIB) for at, value in course.points] for name, course in courses_of.items()}
    sheet.draw(courses("private memory", "MiB", drawn))
    sheet.write()


def _wait_for_both(connection: "psycopg.Connection[tuple[object, ...]]") -> None:
    """Until an event of each kind was decided."""
    until = time.monotonic() + 60
    query = "select count(distinct topic) from job_calls where topic = any(%s) and state = 'done'"
    while connection.execute(query, (list(TOPICS),)).fetchone() != (len(TOPICS),):
        assert time.monotonic() < until, "the plugins do not hear their topics"
        _send(connection, ["warm"])
        time.sleep(0.2)  # a plugin that listens tells nobody


def _publish(
    connection: "psycopg.Connection[tuple[object, ...]]", daemon: Daemon, courses_of: dict[str, Course]
) -> tuple[int, float]:
    """Events of each topic at an even pace, and samples of memory. How many of each, and in how many seconds."""
    pids = {
        "supervisor": daemon.process.pid,
        "worker": next(plugin.pid for plugin in daemon.status().plugins if plugin.name == "outboxed"),
    }
    numbers, sent = count(1), 0
    began = time.monotonic()
    sample_at = 0.0
    while (elapsed := time.monotonic() - began) < SECONDS:
        wanted = int(elapsed * RATE / len(TOPICS))
        if wanted > sent:
            _send(connection, [f"{next(numbers)} {time.monotonic_ns()}" for _ in range(wanted - sent)])
            sent = wanted
        if elapsed >= sample_at:
            sample_at += SAMPLE_EVERY_S
            for name, pid in pids.items():
                assert pid is not None
                courses_of[name].sample(elapsed, pid)
        time.sleep(PUBLISH_EVERY_S)  # the pace
    return sent, time.monotonic() - began


def _send(connection: "psycopg.Connection[tuple[object, ...]]", payloads: list[str]) -> None:
    with connection.pipeline():
        for payload in payloads:
            connection.execute("select pg_notify(%s, %s)", (TOPICS[0], payload))
            connection.execute("select runnerd_outbox.publish(%s, %s)", (TOPICS[1], payload))


def _counted(sheet: Sheet, connection: "psycopg.Connection[tuple[object, ...]]", topic: str, sent: int) -> Figure:
    until = time.monotonic() + DRAIN_S
    while True:
        row = connection.execute(COUNTED, (topic,)).fetchone()
        assert row is not None
        calls, distinct, decided, latencies_ns = row
        if distinct == sent or time.monotonic() > until:
            break
        time.sleep(0.5)  # what is on its way arrives
    lost, doubled = sent - distinct, calls - distinct  # type: ignore[operator]
    middle, tail = (float(value) / 1e6 for value in latencies_ns)  # type: ignore[attr-defined]
    text = f"{lost} lost, {doubled} doubled of {sent:,}; sent -> `decide` p50 {middle:.1f}, p99 {tail:.1f} ms"
    return sheet.add(
        f"{SECONDS} s, {RATE // len(TOPICS)}/s {topic.replace('_', ' ')}", text, "0 lost, 0 doubled",
        lost == doubled == 0 and decided == calls,
    )  # fmt: skip


if __name__ == "__main__":
    with open_arena() as opened:
        for figure in measure_sustained(opened):
            print(figure, flush=True)

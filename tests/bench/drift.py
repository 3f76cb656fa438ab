"""How late a plugin at 1 Hz is called; whether a slot is left out, or comes twice. `python -m tests.bench.drift` alone.

Times are the ledger's: of each call its slot, when it was fired, and when its Decision was recorded. Ten minutes, or
`BENCH_DRIFT_S`.
"""

import os
import time
from collections.abc import Iterator

import psycopg

from tests.bench.figures import Figure, percentile, spread
from tests.bench.sheet import Sheet, courses, latencies
from tests.bench.world import bench_world, noop

LONG_S = int(os.environ.get("BENCH_DRIFT_S", "600"))
MAX_LATE_S = 0.002
WARM_S = 5
LOOK_S = 0.2
DEADLINE_S = 30
CALLS = """
select extract(epoch from c.due_at)::float8, extract(epoch from c.fired_at)::float8,
       extract(epoch from d.decided_at)::float8
from job_calls c left join decisions d on d.call_id = c.id where c.trigger = 'cron' order by c.due_at
"""
INTRO = """
A plugin with `every_seconds=1`, for {seconds} s on an otherwise idle daemon. *fired*: when its JobCall was made, which
is then committed; *Decision at hand*: when the answer of the sandboxed process had come.
"""


def measure_drift(seconds: int = LONG_S) -> Iterator[Figure]:
    """Lateness and order of so many slots, after a few that warm the process up."""
    sheet = Sheet("drift", "A cron of 1 Hz", INTRO.format(seconds=seconds))
    with bench_world({"tick": noop(triggers=[{"kind": "cron", "every_seconds": 1}])}) as (daemon, _, dsn):
        daemon.wait_ready("tick")
        with psycopg.connect(dsn, autocommit=True) as connection:
            end = time.monotonic() + WARM_S + seconds + DEADLINE_S
            while True:
                rows = connection.execute(CALLS).fetchall()
                if sum(decided is not None for _, _, decided in rows) >= WARM_S + seconds:
                    break
                if time.monotonic() > end:
                    raise TimeoutError(f"{len(rows)} slots of {WARM_S + seconds} within {end:g} s")
                time.sleep(LOOK_S)  # between two looks; every time is the ledger's
    measured = rows[WARM_S : WARM_S + seconds]
    late = [fired - due for due, fired, _ in measured]
    decided = [decided - due for due, _, decided in measured if decided is not None]
    slots = [round(due) for due, _, _ in measured]
    p99 = percentile(late, 99)
    yield sheet.add(f"1 Hz for {seconds} s: slot -> fired", spread(late), "p99 < 2 ms", p99 < MAX_LATE_S)
    yield sheet.add("  slot -> Decision at hand", spread(decided))
    doubled, left_out = len(slots) - len(set(slots)), slots[-1] - slots[0] + 1 - len(set(slots))
    text = f"{doubled} doubled, {left_out} left out, first to last {late[-1] - late[0]:+.6f} s"
    yield sheet.add("  double fires, gaps, drift", text, "0, 0", doubled == left_out == 0)
    sheet.draw(latencies("late", {"slot -> fired": late, "slot -> Decision at hand": decided}))
    course = [(slot - slots[0], seconds_late * 1e3) for slot, seconds_late in zip(slots, late, strict=True)]
    sheet.draw(courses("slot -> fired", "ms", {"each slot": course}))
    sheet.write()


if __name__ == "__main__":
    for figure in measure_drift():
        print(figure, flush=True)

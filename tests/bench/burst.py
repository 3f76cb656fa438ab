"""500 events in one block: events a second until all are decided, beside Silverback. `python -m tests.bench.burst`."""

import json
import os
import statistics
import time
from collections.abc import Iterator
from typing import Final

import psycopg

from tests.bench.arena import Arena, open_arena, stamped, wait_for_calls
from tests.bench.echo import POKED
from tests.bench.figures import Figure
from tests.bench.sheet import Sheet, bars
from tests.bench.silverback import running_bots

EVENTS: Final = int(os.environ.get("BENCH_EVENTS", "500"))
BURSTS: Final = int(os.environ.get("BENCH_BURSTS", "5"))
"""Of which the first warms up."""
MIN_RATIO: Final = 5.0
FINISHED = """
    select count(*), count(distinct identity), max(id), extract(epoch from max(finished_at))::float8
    from job_calls where trigger = 'log' and state = 'done' and id > %s
"""
INTRO = """
{events} transactions in one block, each of which writes a log that the plugin is called for. The clock runs from just
before the block is mined. *ours*: until the last Decision is recorded, with the disk synced; each log exactly once,
which is checked. *Silverback*: until the last handler is entered; nothing is kept. Median of {bursts} bursts after one
that warms up.
"""


def measure_burst(arena: Arena) -> Iterator[Figure]:
    """Both rates, and their ratio."""
    intro = INTRO.format(events=EVENTS, bursts=BURSTS - 1)
    sheet = Sheet("burst", f"{EVENTS} events in one block", intro)
    ours, theirs = _ours(arena), _bots(arena)
    rates = {"ours": statistics.median(ours), "Silverback": statistics.median(theirs)}
    yield sheet.add(f"{EVENTS} events in a block, durable, once each", _shown(ours))
    yield sheet.add("  Silverback: handlers entered", _shown(theirs))
    ratio = rates["ours"] / rates["Silverback"]
    yield sheet.add("  ratio to Silverback", f"{ratio:.1f}", f">= {MIN_RATIO:g}", ratio >= MIN_RATIO)
    sheet.draw(bars(f"{EVENTS} events in a block", "events a second", rates))
    sheet.write()


def _shown(rates: list[float]) -> str:
    return f"{statistics.median(rates):,.0f}/s ({min(rates):,.0f} to {max(rates):,.0f})"


def _ours(arena: Arena) -> list[float]:
    trigger = {"kind": "log", "addresses": [arena.stimulus], "event": POKED}
    rates, last = [], 0
    with arena.daemon({"stamped": stamped(triggers=[trigger])}) as (_, dsn):
        for burst in range(BURSTS):
            numbers = _numbers()
            _, began = arena.poke_all(numbers)
            ended = wait_for_calls(dsn, "log", EVENTS, after=last)["stamped"]
            decided = sorted(int(json.loads(payload)["args"]["id"]) for payload, _ in ended)
            assert decided == list(numbers), "not each event was decided exactly once"
            with psycopg.connect(dsn) as connection:
                row = connection.execute(FINISHED, (last,)).fetchone()
            assert row is not None
            count, distinct, last, finished = row
            assert count == distinct == EVENTS
            if burst:
                rates.append(EVENTS / (finished - began))
    return rates


def _bots(arena: Arena) -> list[float]:
    rates = []
    with running_bots(arena, "log", 1) as (bot,):
        for burst in range(BURSTS):
            numbers = _numbers()
            began, _ = arena.poke_all(numbers)
            entered = bot.wait_for("log", numbers)
            if burst:
                rates.append(EVENTS / ((max(entered) - began) / 1e9))
    return rates


def _numbers() -> range:
    """New ones."""
    first = time.monotonic_ns() // 1_000
    return range(first, first + EVENTS)


if __name__ == "__main__":
    with open_arena() as opened:
        for figure in measure_burst(opened):
            print(figure, flush=True)

"""10,000 blocks of downtime: how fast they are made up for, in order. `python -m tests.bench.catchup` alone.

`BENCH_DOWNTIME_BLOCKS` for fewer: to make them takes the node longer than to hear of them.
"""

import os
import time
from collections.abc import Iterator
from typing import Final

import psycopg

from deploy.demo.world import running_daemon
from tests.bench.arena import Arena, open_arena, stamped
from tests.bench.figures import Figure
from tests.bench.sheet import Sheet, bars

BLOCKS: Final = int(os.environ.get("BENCH_DOWNTIME_BLOCKS", "10000"))
STEP: Final = 500
BEFORE: Final = 3
DEADLINE_S: Final = 300.0
LOOK_S: Final = 0.1
DECIDED: Final = "select count(*) from job_calls where trigger = 'block' and state = 'done'"
NUMBERS: Final = "select (payload::jsonb->>'number')::bigint from job_calls where trigger = 'block' order by id"
INTRO = """
runnerd is stopped, {blocks} blocks are mined, and it is started again. The clock runs from the exec until the plugin
has decided the last of them: each is a durable JobCall and a recorded Decision. Order and number are the ledger's.
"""


def measure_catchup(arena: Arena) -> Iterator[Figure]:
    """Blocks a second, and whether each came once and in its place."""
    sheet = Sheet("catchup", f"{BLOCKS:,} blocks of downtime", INTRO.format(blocks=f"{BLOCKS:,}"))
    plugin = stamped(triggers=[{"kind": "block"}], queue=1_000, max_calls_per_s=1_000_000)
    with arena.daemon({"stamped": plugin}) as (daemon, dsn):
        last = [arena.mine()[0] for _ in range(BEFORE)][-1]
        _wait_for(dsn, BEFORE)
        daemon.stop()
        for _ in range(0, BLOCKS, STEP):
            arena.node.rpc("anvil_mine", hex(STEP))
        began = time.monotonic()
        with running_daemon(arena.directory):
            _wait_for(dsn, BEFORE + BLOCKS)
            took_s = time.monotonic() - began
    with psycopg.connect(dsn) as connection:
        numbers = [number for (number,) in connection.execute(NUMBERS).fetchall()]
    is_whole = numbers == list(range(last - BEFORE + 1, last + BLOCKS + 1))
    yield sheet.add(f"{BLOCKS:,} blocks, from the exec", f"{took_s:.1f} s: {BLOCKS / took_s:,.0f}/s")
    yield sheet.add("  each once, in order", "yes" if is_whole else "no", "yes", is_whole)
    sheet.draw(bars("made up for", "blocks a second", {"ours": BLOCKS / took_s}))
    sheet.write()


def _wait_for(dsn: str, count: int) -> None:
    """Until so many blocks are decided. Raises TimeoutError."""
    until = time.monotonic() + DEADLINE_S
    with psycopg.connect(dsn, autocommit=True) as connection:
        while True:
            row = connection.execute(DECIDED).fetchone()
            if row is not None and row[0] >= count:
                return
            if time.monotonic() > until:
                raise TimeoutError(f"{row} of {count} blocks within {DEADLINE_S:g} s")
            time.sleep(LOOK_S)  # the ledger rings no bell here


if __name__ == "__main__":
    with open_arena() as opened:
        for figure in measure_catchup(opened):
            print(figure, flush=True)

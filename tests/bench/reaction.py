"""Block → `decide`, and event → reaction mined, beside Silverback: `python -m tests.bench.reaction` (`BENCH_ROUNDS`).

One at a time on one node, with one plugin and with ten: ours first, then as many Silverback bots.
"""

import json
import os
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Final

from tests.bench.arena import Arena, Watcher, open_arena, stamped, wait_for_calls
from tests.bench.echo import POKED
from tests.bench.figures import Figure, percentile, spread
from tests.bench.sheet import Sheet, latencies
from tests.bench.silverback import running_bots
from tests.bench.world import PLUGINS

ROUNDS: Final = int(os.environ.get("BENCH_ROUNDS", "300"))
SIZES: Final = (1, 10)
GAP_S: Final = 0.1
WARM: Final = 10
FIRST_NUMBER: Final = 1_000_000
INTRO = """
One node that mines each transaction at once, one block or event at a time, 0.1 s between them. *block*: from just
before a block is asked for until the first line of the handler runs. *reaction*: from just before the event's
transaction is sent until a listener hears from the node that the answer is mined. Ours commits a JobCall, a Decision,
an intent and the signed bytes on the way, simulates, and sends a batch through a vault; Silverback 0.7 keeps nothing,
estimates nothing (`required_confirmations=0`, a gas limit, nonce and fees given, as in its own latency test), and
sends a plain call. Both hear of blocks over a websocket. Ten plugins are ten sandboxed processes of one daemon, with
one wallet; ten bots are ten processes with a wallet each.
"""

Taken = dict[str, list[float]]


def measure_reaction(arena: Arena) -> Iterator[Figure]:
    """Both kinds, both sizes."""
    sheet = Sheet("reaction", "Blocks and events, beside Silverback", INTRO)
    for size in SIZES:
        crowd = "1 plugin" if size == 1 else f"{size} plugins"
        ours, theirs = _ours_blocks(arena, size), _bots_blocks(arena, size)
        yield from _compare(sheet, f"block mined -> `decide`, {crowd}", ours, theirs)
        ours, theirs = _ours_reactions(arena, size), _bots_reactions(arena, size)
        yield from _compare(sheet, f"event -> reaction mined, {crowd}", ours, theirs)
    sheet.write()


def _compare(sheet: Sheet, name: str, ours: list[float], theirs: list[float]) -> Iterator[Figure]:
    yield sheet.add(name, spread(ours))
    yield sheet.add("  Silverback, the same", spread(theirs))
    for percent in (50, 99):
        ratio = percentile(theirs, percent) / percentile(ours, percent)
        yield sheet.add(f"  p{percent}: Silverback takes so many times as long", f"{ratio:.2f}", "> 1", ratio > 1)
    sheet.draw(latencies(name, {"ours": ours, "Silverback": theirs}))


# --- blocks ----------------------------------------------------------------------------------------------------------


def _mine(arena: Arena) -> dict[int, int]:
    """When each block was asked for, without the first ones."""
    mined = {}
    for number in range(WARM + ROUNDS):
        time.sleep(GAP_S)  # one at a time: latency, not throughput
        block, at = arena.mine()
        if number >= WARM:
            mined[block] = at
    return mined


def _ours_blocks(arena: Arena, size: int) -> list[float]:
    plugins = {f"stamped-{who}": stamped(triggers=[{"kind": "block"}]) for who in range(size)}
    with arena.daemon(plugins) as (_, dsn):
        mined = _mine(arena)
        ended = wait_for_calls(dsn, "block", (WARM + ROUNDS) * size)
    took = []
    for calls in ended.values():
        entered = {int(json.loads(payload)["number"]): at for payload, at in calls}
        assert len(entered) == len(calls), "a block was decided twice"
        took += [(entered[block] - at) / 1e9 for block, at in mined.items()]
    return took


def _bots_blocks(arena: Arena, size: int) -> list[float]:
    with running_bots(arena, "block", size) as bots:
        mined = _mine(arena)
        took = []
        for bot in bots:
            entered = bot.wait_for("block", list(mined))
            took += [(at - before) / 1e9 for at, before in zip(entered, mined.values(), strict=True)]
    return took


# --- reactions -------------------------------------------------------------------------------------------------------


def _react(arena: Arena, size: int) -> list[float]:
    """Seconds until each had reacted, without the first ones."""
    took = []
    first = FIRST_NUMBER + time.monotonic_ns() // 1_000_000
    with closing(Watcher(arena)) as watcher:
        for number in range(first, first + WARM + ROUNDS):
            time.sleep(GAP_S)  # one at a time: latency, not throughput
            at = arena.poke(number)
            reacted = watcher.wait_for(number, range(size))
            if number >= first + WARM:
                took += [(moment - at) / 1e9 for moment in reacted]
    return took


def _ours_reactions(arena: Arena, size: int) -> list[float]:
    trigger = {"kind": "log", "addresses": [arena.stimulus], "event": POKED}
    plugins = {
        f"reacting-{who}": {
            "path": str(PLUGINS / "reacting.py"),
            "class_name": "reacting",
            "params": {"who": who},
            "triggers": [trigger],
            "max_calls_per_s": 100_000,
        }
        for who in range(size)
    }
    with arena.daemon(plugins):
        return _react(arena, size)


def _bots_reactions(arena: Arena, size: int) -> list[float]:
    with running_bots(arena, "log,react", size):
        return _react(arena, size)


if __name__ == "__main__":
    with open_arena() as opened:
        for figure in measure_reaction(opened):
            print(figure, flush=True)

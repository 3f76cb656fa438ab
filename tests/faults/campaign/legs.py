"""A long campaign in legs: each has a chain, a ledger and a daemon of its own, and is judged by itself.

anvil is why: it keeps every block in memory, and the longer the chain the longer a reorg takes. A leg is replayed alone
by its own seed.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from tests.faults.campaign.driver import Order, run_campaign
from tests.faults.campaign.plan import WEIGHTS
from tests.faults.campaign.report import Report

LONGEST: Final = 2_500
"""Faults of one leg, at most."""
LONG: Final = 5_000
"""From so many faults on, every kind of fault and every crash point must have been among them."""
UNPROVOKED: Final = frozenset({"filler.stored", "outbox.read"})
"""The first is reached only when a reorg takes a stranger's transaction back after we went on behind it: too seldom to
wait for, and tests/executor/test_auditor.py makes it happen. Nobody follows an outbox here: at the second one dies in
tests/triggers/conformance."""


def run_legs(order: Order) -> Report:
    """All of `order`. Ends with the first leg in which something is wrong, or when its time is over."""
    total = Report(order.seed, order.faults, order.broken)
    for leg in legs(order):
        if total.duration_s > order.longest_s:
            break
        total.add(run_campaign(replace(leg, longest_s=order.longest_s - total.duration_s)))
        order.say(f"FAULT_SEED={leg.seed} N={leg.faults}: {total.summary()}")
        if not total.is_clean:
            break
    if total.total >= LONG and total.is_clean and not order.kinds:
        total.problems += _left_out(total)
    return total


def legs(order: Order) -> Iterator[Order]:
    """Parts of about the same size; the first one has the seed of the whole, the others those that follow it."""
    count = max(1, -(-order.faults // LONGEST))
    for number in range(count):
        faults = order.faults * (number + 1) // count - order.faults * number // count
        yield replace(order, seed=order.seed + number, faults=faults)


def _left_out(report: Report) -> list[str]:
    """A long campaign that never did something has not shown what it claims."""
    points = [point for point in report.reached if not report.crashed_at[point] and point not in UNPROVOKED]
    left_out = [f"no such fault in a long campaign: {kind}" for kind in sorted(WEIGHTS.keys() - report.done.keys())]
    return left_out + [f"no kill at this point in a long campaign: {point}" for point in points]

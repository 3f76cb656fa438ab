"""The fault campaign, short: `make faults N=10000` is the long one. And the proof that it can fail."""

import os
from collections import Counter
from itertools import islice

import pytest

from runnerd.crash_points import CRASH_POINTS
from tests.faults.campaign.driver import Order, run_campaign
from tests.faults.campaign.legs import LONGEST, legs
from tests.faults.campaign.plan import CRASH, WEIGHTS, plan
from tests.faults.campaign.report import Report
from tests.support.crashing_daemon import BROADCAST_BEFORE_STORE

SEED = int(os.environ.get("FAULT_SEED", "20261128"))
FAULTS = 205
MANY = 3_000
MANY_LEGS = 10_001


def test_a_seed_is_a_sequence() -> None:
    """The same faults with the same parameters in the same order; another seed, another sequence."""
    first, again, other = (list(islice(plan(seed), 500)) for seed in (7, 7, 8))
    assert first == again
    assert [fault.dice.random() for fault in first] == [fault.dice.random() for fault in again]
    assert first != other


def test_a_long_sequence_has_every_kind_and_every_crash_point() -> None:
    """Nothing is left to luck: crash points come in turn."""
    faults = list(islice(plan(SEED), MANY))
    assert {fault.kind for fault in faults} == WEIGHTS.keys()
    crashes = [fault.parameters["point"] for fault in faults if fault.kind == CRASH]
    assert set(crashes[: len(CRASH_POINTS)]) == set(CRASH_POINTS)


def test_a_long_campaign_has_legs_that_can_be_replayed_alone() -> None:
    """None is longer than the node holds out, none is left out, and each has a seed of its own."""
    parts = list(legs(Order(seed=SEED, faults=MANY_LEGS)))
    assert sum(part.faults for part in parts) == MANY_LEGS
    assert max(part.faults for part in parts) <= LONGEST
    assert [part.seed for part in parts] == list(range(SEED, SEED + len(parts)))
    assert [part.seed for part in legs(Order(seed=SEED, faults=FAULTS))] == [SEED]


def test_a_leg_counts_in_the_whole() -> None:
    """What was done is added up, what is wrong anywhere is wrong, and the longest wait is the longest of all."""
    whole = Report(1, 2)
    for wait in (3, 2):
        leg = Report(1, 1, done=Counter(reorg=2), reached={"a": 1}, starts=4, longest_gap=wait)
        leg.findings.effects, leg.findings.outcomes = 5, {"acted": 5}
        whole.add(leg)
    assert (whole.total, whole.reached, whole.starts, whole.longest_gap) == (4, {"a": 2}, 8, 3)
    assert (whole.findings.effects, whole.findings.outcomes, whole.is_clean) == (10, {"acted": 10}, True)
    bad = Report(1, 1)
    bad.findings.add("duplicate effects", ["0x1"])
    whole.add(bad)
    assert not whole.is_clean


@pytest.mark.faults
@pytest.mark.slow
def test_faults_at_random_leave_one_effect_per_decision() -> None:
    """Plugins act all the time; whatever is killed, cut, dropped or reorged, the independent checker finds nothing."""
    report = run_campaign(Order(seed=SEED, faults=FAULTS))
    print(report)
    assert report.total >= FAULTS
    assert report.is_clean, str(report)
    assert report.findings.effects > 0


@pytest.mark.faults
@pytest.mark.slow
def test_bytes_that_are_sent_before_they_are_stored_fail_the_campaign() -> None:
    """The same judge, a daemon that does two steps in the wrong order: a kill between them is found out."""
    report = run_campaign(
        Order(
            seed=SEED, faults=30, kinds=(CRASH,), points=("attempt.signed",),
            broken=BROADCAST_BEFORE_STORE, judge_every=2, rest_deadline_s=0.0,
        )
    )  # fmt: skip
    assert not report.is_clean
    assert any("THE OPERATOR THAT IS NOT IN THE LEDGER" in problem for problem in report.problems), str(report)

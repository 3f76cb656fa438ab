"""Knobs of a chain: turned within bounds, kept over a restart, and never in the way of the chain."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runnerd.chain.fees import FeeSettings
from runnerd.config.model import ChainConfig
from runnerd.knobs import BOUNDS, Knob, Knobs, Turned
from tests.support.virtual_time import EPOCH

GWEI = 10**9
CAP, TIP, PATIENCE = Knob.MAX_FEE_PER_GAS_WEI, Knob.MIN_PRIORITY_FEE_WEI, Knob.REPLACE_AFTER_BLOCKS
CONFIG = ChainConfig(
    id=1, rpc="http://127.0.0.1:1", max_fee_per_gas_wei=50 * GWEI, min_priority_fee_wei=GWEI, replace_after_blocks=3
)


def row(name: str, value: int) -> dict[str, Any]:
    """As it stands in the ledger."""
    return {"chain": "x", "name": name, "value": value, "set_by": "uid:1", "set_at": EPOCH}


def test_each_knob_is_a_key_of_the_configuration() -> None:
    """And stands there until it is turned."""
    knobs = Knobs(CONFIG)
    assert [knobs.value(knob) for knob in (CAP, TIP, PATIENCE)] == [50 * GWEI, GWEI, 3]
    assert set(BOUNDS) == set(Knob)
    assert knobs.settings == FeeSettings(max_fee_cap_wei=50 * GWEI, min_tip_wei=GWEI)


def test_a_knob_goes_as_far_as_its_key() -> None:
    """One more would be refused in the configuration, too."""
    for knob in (CAP, TIP):
        assert Knobs(CONFIG).find_problem({CAP: 2**63 - 1, knob: 2**63 - 1}) is None
        assert Knobs(CONFIG).find_problem({CAP: 2**63 - 1, knob: 2**63}) is not None
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"id": 1, "rpc": "x", "max_fee_per_gas_wei": BOUNDS[CAP][1] + 1}, ChainConfig)
    msgspec.convert({"id": 1, "rpc": "x", "max_fee_per_gas_wei": BOUNDS[CAP][1]}, ChainConfig)


def test_what_stands_in_the_ledger_counts_instead() -> None:
    """After a restart as before it, with who turned it."""
    knobs = Knobs(CONFIG)
    knobs.load([row("max_fee_per_gas_wei", 9 * GWEI), row("replace_after_blocks", 1)])
    assert [knobs.value(knob) for knob in (CAP, TIP, PATIENCE)] == [9 * GWEI, GWEI, 1]
    assert knobs.turned[CAP] == Turned(9 * GWEI, "uid:1", EPOCH)
    assert TIP not in knobs.turned
    assert knobs.settings == FeeSettings(max_fee_cap_wei=9 * GWEI, min_tip_wei=GWEI)


@pytest.mark.parametrize("name, value", [("blob_fee", 1), ("max_fee_per_gas_wei", 0), ("replace_after_blocks", 1_001)])
def test_what_another_release_wrote_is_left_alone(name: str, value: int) -> None:
    """A row that means nothing here, or is out of bounds here, must not keep runnerd from starting."""
    knobs = Knobs(CONFIG)
    knobs.load([row(name, value)])
    assert knobs.turned == {}
    assert knobs.settings == Knobs(CONFIG).settings


@pytest.mark.parametrize(
    "wanted, problem",
    [
        ({CAP: 1}, "min_priority_fee_wei = 1000000000 is above max_fee_per_gas_wei = 1"),
        ({TIP: 50 * GWEI + 1}, "min_priority_fee_wei = 50000000001 is above max_fee_per_gas_wei = 50000000000"),
        ({CAP: 0}, "max_fee_per_gas_wei = 0 is not allowed: 1 to 9223372036854775807"),
        ({TIP: -1}, "min_priority_fee_wei = -1 is not allowed: 0 to 9223372036854775807"),
        ({PATIENCE: 0}, "replace_after_blocks = 0 is not allowed: 1 to 1000"),
        ({PATIENCE: 1_001}, "replace_after_blocks = 1001 is not allowed: 1 to 1000"),
        ({TIP: 50 * GWEI}, None),
        ({CAP: 1, TIP: 1}, None),
        ({}, None),
    ],
)
def test_problem_names_the_knob_and_what_is_allowed(wanted: dict[Knob, int], problem: str | None) -> None:
    """Values are judged together, with those that stay as they are."""
    assert Knobs(CONFIG).find_problem(wanted) == problem


def test_problem_is_judged_by_what_is_turned_already() -> None:
    """Not by the configuration."""
    knobs = Knobs(CONFIG)
    knobs.load([row("max_fee_per_gas_wei", 2 * GWEI)])
    assert knobs.find_problem({TIP: 3 * GWEI}) is not None
    assert knobs.find_problem({TIP: 2 * GWEI}) is None


def test_turned_by_hand_and_reset() -> None:
    """In force at once, beside what was turned before; reset forgets all of it."""
    knobs = Knobs(CONFIG)
    knobs.turn({CAP: 9 * GWEI}, "uid:1", EPOCH)
    knobs.turn({PATIENCE: 1}, "uid:2", EPOCH)
    assert [knobs.value(knob) for knob in (CAP, TIP, PATIENCE)] == [9 * GWEI, GWEI, 1]
    assert [knobs.configured(knob) for knob in (CAP, TIP, PATIENCE)] == [50 * GWEI, GWEI, 3]
    assert (knobs.turned[CAP].by, knobs.turned[PATIENCE].by) == ("uid:1", "uid:2")
    knobs.reset()
    assert knobs.settings == Knobs(CONFIG).settings


any_value = st.integers(-1, (1 << 63) + 1)


@given(st.dictionaries(st.sampled_from(Knob), any_value), st.dictionaries(st.sampled_from(Knob), any_value))
def test_fees_can_be_made_whatever_is_configured_and_turned(
    configured: dict[Knob, int], turned: dict[Knob, int]
) -> None:
    """A configuration that changed under turned knobs: the cap wins, and nothing raises while fees are made."""
    bounded = {knob.value: min(max(value, BOUNDS[knob][0]), BOUNDS[knob][1]) for knob, value in configured.items()}
    knobs = Knobs(ChainConfig(id=1, rpc="http://127.0.0.1:1", **bounded))  # type: ignore[arg-type]  # all are ints
    knobs.load([row(knob.value, value) for knob, value in turned.items()])
    assert knobs.settings.max_fee_cap_wei == knobs.value(CAP)
    assert knobs.settings.min_tip_wei == min(knobs.value(TIP), knobs.value(CAP))


@given(st.dictionaries(st.sampled_from(Knob), any_value))
def test_what_has_no_problem_is_used_as_it_is(wanted: dict[Knob, int]) -> None:
    """An operator gets what he asked for, or a reason."""
    knobs = Knobs(CONFIG)
    if knobs.find_problem(wanted) is None:
        knobs.load([row(knob.value, value) for knob, value in wanted.items()])
        assert {knob: knobs.value(knob) for knob in wanted} == wanted
        assert knobs.settings.min_tip_wei == knobs.value(TIP)

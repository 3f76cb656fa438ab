"""The pure core of the pool: who is in, who is out and comes back how, and which node is read from."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runnerd.chain.pool.health import (
    AHEAD_POLLS,
    MAX_FAILURES,
    PROBATION_POLLS,
    Answered,
    Event,
    Failed,
    Fault,
    ForeignChain,
    Health,
    Lied,
    NodeState,
    Polled,
    rank,
    reference_head,
    step,
    voting_heads,
)

LAG = 5
IN = Health(state=NodeState.IN, fault=None, head=100)


def good(at: float, head: int = 100) -> Polled:
    """A poll that agrees with all others."""
    return Polled(head, at, head, head)


def failed(at: float) -> Failed:
    """A failure of a request that began when the one before had ended."""
    return Failed("refused", at, at)


def after(health: Health, *events: Event) -> Health:
    """What is known after all of them."""
    for event in events:
        health = step(health, event, max_lag=LAG)
    return health


def out(fault: Fault, head: int | None = 100) -> Health:
    """A node that is out."""
    return Health(state=NodeState.OUT, fault=fault, head=head)


# --- one node --------------------------------------------------------------------------------------------------------


def test_node_that_was_never_asked_is_in_at_its_first_good_poll() -> None:
    """Probation is for those who were out."""
    assert after(Health(), good(1)).state is NodeState.IN


@pytest.mark.parametrize("fault", [fault for fault in Fault if fault is not Fault.NOT_ASKED])
def test_node_that_was_out_comes_back_after_good_polls_in_a_row(fault: Fault) -> None:
    """And a failure in between sends it back to the beginning."""
    health = out(fault)
    for poll in range(1, PROBATION_POLLS):
        health = after(health, good(poll))
        assert (health.state, health.good_polls) == (NodeState.PROBATION, poll)
    assert after(health, failed(10)).state is NodeState.OUT
    assert after(health, failed(10), good(11)).good_polls == 1
    assert after(health, good(12)) == Health(state=NodeState.IN, fault=None, head=100, head_asked_at=12)


def test_failures_in_a_row_put_it_out_and_one_answer_begins_anew() -> None:
    """An answer to anything counts."""
    failing = [failed(at) for at in range(MAX_FAILURES - 1)]
    health = after(IN, *failing, Answered(), *(failed(at + 10) for at in range(MAX_FAILURES - 1)))
    assert health.state is NodeState.IN
    health = after(health, failed(20))
    assert (health.state, health.reason) == (NodeState.OUT, "no answer: refused")


def test_failures_at_once_are_one_failure() -> None:
    """A connection breaks, and with it all that wait on it."""
    health = after(IN, *(Failed("broken", asked_at=i / 100, now=1) for i in range(50)))
    assert (health.state, health.failures) == (NodeState.IN, 1)


def test_node_that_answers_every_third_time_is_out_for_its_error_rate() -> None:
    """It never fails often enough in a row."""
    health = IN
    for i in range(0, 90, 3):
        health = after(health, failed(i), failed(i + 1))
        if health.state is NodeState.OUT:
            break
        health = after(health, Answered())
    assert health.fault is Fault.ERRORS


def test_node_that_fails_once_in_ten_stays_in() -> None:
    """Public endpoints do."""
    health = IN
    for i in range(500):
        health = after(health, failed(i * 10.0), *[Answered()] * 9)
        assert health.state is NodeState.IN


@pytest.mark.parametrize("head, is_in", [(100 - LAG, True), (100 - LAG - 1, False)])
def test_node_lags_when_others_had_more_before_it_was_asked(head: int, is_in: bool) -> None:
    """Not when a block came while it answered: then it may have it as well."""
    assert (after(IN, Polled(head, 1, 100, 100)).state is NodeState.IN) is is_in
    assert after(IN, Polled(head, 1, head, 100)).state is NodeState.IN


def test_node_that_runs_ahead_is_out_after_the_others_were_asked_too() -> None:
    """The first to hear of many blocks is in the right for a moment; one that stays alone is not."""
    health = IN
    for poll in range(1, AHEAD_POLLS):
        health = after(health, Polled(1_000, poll, 100, 100))
        assert health.state is NodeState.IN
    assert after(health, Polled(1_000, 9, 100, 1_000)).ahead_polls == 0
    health = after(health, Polled(1_000, 9, 100, 100))
    assert (health.state, health.reason) == (NodeState.OUT, "runs ahead: says 1000, most others 100")
    assert after(Health(), Polled(1_000, 1, 100, 100)).state is NodeState.OUT


def test_late_answer_of_an_older_question_changes_nothing() -> None:
    """Two polls at once, the older answer comes last."""
    health = after(Health(), good(2, head=101))
    assert after(health, Polled(3, asked_at=1, known_before=100, known_now=100)) == health


@pytest.mark.parametrize("start", [IN, Health(), out(Fault.SILENT), Health(state=NodeState.PROBATION, head=1)])
@pytest.mark.parametrize("event, fault", [(ForeignChain(5), Fault.WRONG_CHAIN), (Lied("eth_call"), Fault.LIES)])
def test_wrong_chain_and_lies_put_it_out_at_once_and_silence_does_not_clear_it(
    start: Health, event: Event, fault: Fault
) -> None:
    """Such a node is not even a last resort."""
    health = after(start, event)
    assert (health.state, health.fault) == (NodeState.OUT, fault)
    assert after(health, *(failed(at) for at in range(10))).fault is fault


events = st.one_of(
    st.just(Answered()),
    st.builds(failed, st.floats(0, 1e6)),
    st.builds(Polled, st.integers(0, 300), st.floats(0, 1e6), st.integers(0, 300), st.integers(0, 300)),
    st.builds(ForeignChain, st.integers(0, 9)),
    st.builds(Lied, st.just("x")),
)


@given(st.lists(events, max_size=60))
def test_every_history_keeps_the_rules(history: list[Event]) -> None:
    """In: no fault, few failures, and it was polled. Out: a reason. Only polls bring a node towards `in`."""
    health = Health()
    order = [NodeState.OUT, NodeState.PROBATION, NodeState.IN]
    for event in history:
        before, health = health, after(health, event)
        match health.state:
            case NodeState.IN:
                assert health.fault is None
                assert health.failures < MAX_FAILURES
                assert health.head is not None
            case NodeState.PROBATION:
                assert 0 < health.good_polls < PROBATION_POLLS
                assert health.failures == 0
            case NodeState.OUT:
                assert health.reason
        if order.index(health.state) > order.index(before.state):
            assert isinstance(event, Polled)
        assert 0 <= health.error_rate < 1
        if before.state is NodeState.OUT and before.fault is not Fault.NOT_ASKED:
            assert health.state is not NodeState.IN  # never past probation


# --- all nodes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "heads, reference",
    [
        ([], None),
        ([7], 7),
        ([100, 10**9], 10**9),  # two: the highest
        ([100, 98, 10**9], 100),  # a majority stands together
        ([100, 94, 10**9], 10**9),  # these two do not
        ([200, 200, 100], 200),
        ([100, 101, 200, 201], 201),  # two against two
        ([100, 101, 102, 200, 201], 102),
        ([5, 5, 0], 5),
        ([5, 200, 201, 10**9], 10**9),  # half is no majority
    ],
)
def test_reference_is_the_highest_head_that_no_majority_contradicts(heads: list[int], reference: int | None) -> None:
    """One outlier is outvoted, half of the nodes are not a majority."""
    for order in itertools.permutations(heads):
        assert reference_head(order, LAG) == reference


@given(st.lists(st.integers(1_000, 1_000 + LAG), min_size=2, max_size=7), st.data())
def test_minority_of_liars_moves_no_honest_node(honest: list[int], data: st.DataObject) -> None:
    """Whatever heights fewer than half of the nodes name, no honest one lags and none runs ahead."""
    liars = data.draw(st.lists(st.integers(0, 1 << 62), max_size=len(honest) - 1))
    reference = reference_head([*honest, *liars], LAG)
    assert reference is not None
    for head in honest:
        assert reference - LAG <= head <= reference + LAG


def test_node_out_for_its_height_still_votes_and_others_do_not() -> None:
    """Or a liar that pushed the honest ones out would decide alone from then on."""
    voting = {fault for fault in Fault if voting_heads([out(fault)])}
    assert voting == {Fault.LAGGING, Fault.AHEAD}
    assert voting_heads([IN, Health(state=NodeState.PROBATION, head=3), Health()]) == [100, 3]


def state_of(index: int) -> Health:
    """All kinds of nodes, by number."""
    kinds = [
        IN,
        Health(state=NodeState.IN, fault=None, head=101),
        Health(state=NodeState.IN, fault=None, head=105, failures=1, failed_at=1),
        Health(state=NodeState.IN, fault=None, head=10**9),
        Health(state=NodeState.PROBATION, fault=Fault.SILENT, head=100, good_polls=1),
        *(out(fault) for fault in Fault),
    ]
    return kinds[index]


KINDS = range(5 + len(Fault))


@pytest.mark.parametrize("used", [None, 0, 1, 2])
def test_every_three_nodes_are_ranked_by_the_rules(used: int | None) -> None:
    """All combinations: those in first and highest; liars and outliers never; others only when none is in."""
    for indices in itertools.product(KINDS, repeat=3):
        healths = [state_of(index) for index in indices]
        order = rank(healths, [0.1, 0.1, 0.1], max_lag=LAG, used=used)
        reference = reference_head(voting_heads(healths), LAG) or 0
        assert len(set(order)) == len(order)
        ranked = [healths[i] for i in order]
        assert not any(health.fault in (Fault.LIES, Fault.AHEAD) for health in ranked)
        sound = [h for h in healths if h.state is NodeState.IN and (h.head or 0) <= reference + LAG]
        if sound:
            assert {id(h) for h in sound} == {id(h) for h in ranked if h.state is NodeState.IN}
            assert all(h.state is not NodeState.OUT for h in ranked)
            assert ranked[0].state is NodeState.IN
            steady = [h for h in sound if not h.failures]
            if steady:
                assert ranked[0].failures == 0
                assert max(h.head or 0 for h in steady) - (ranked[0].head or 0) <= 1
            if used is not None and healths[used] in steady and all(h.failures == 0 for h in sound):
                is_close = max(h.head or 0 for h in sound) - (healths[used].head or 0) <= 1
                assert (order[0] == used) is is_close
        states = [order_of(h) for h in ranked[1:]]
        assert states == sorted(states)


def order_of(health: Health) -> int:
    """In, then probation, then out."""
    return [NodeState.IN, NodeState.PROBATION, NodeState.OUT].index(health.state)


def test_node_that_is_read_from_stays_while_it_is_a_block_behind() -> None:
    """Two good nodes do not take turns; one that is clearly higher is taken, and so is the other after a failure."""
    low, high = IN, Health(state=NodeState.IN, fault=None, head=101)
    assert rank([low, high], [1, 1], max_lag=LAG, used=0) == [0, 1]
    assert rank([low, high], [1, 1], max_lag=LAG) == [1, 0]
    higher = Health(state=NodeState.IN, fault=None, head=102)
    assert rank([low, higher], [1, 1], max_lag=LAG, used=0) == [1, 0]
    assert rank([after(high, failed(1)), low], [1, 1], max_lag=LAG, used=0) == [1, 0]


def test_of_equal_nodes_the_fastest_is_taken_then_the_first() -> None:
    """The order of the configuration decides last."""
    assert rank([IN, IN, IN], [0.3, 0.1, 0.1], max_lag=LAG) == [1, 2, 0]
    assert rank([IN, IN], [math.inf, math.inf], max_lag=LAG) == [0, 1]

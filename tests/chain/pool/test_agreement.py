"""What counts as the same answer, and when enough nodes gave it. Pure."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runnerd.chain.errors import RpcMalformed, RpcRefused
from runnerd.chain.json_values import JsonValue
from runnerd.chain.jsonrpc import Request
from runnerd.chain.logs import MAX_LOGS
from runnerd.chain.pool.agreement import (
    MAX_DEPTH,
    MAX_VALUES,
    Vote,
    can_win,
    comparable,
    contradictions,
    is_pinned,
    keys_of,
    winner,
)

RECEIPT: dict[str, Any] = {
    "transactionHash": "0xAB", "blockHash": "0xcd", "blockNumber": "0x5", "status": "0x1", "gasUsed": "0x5208",
    "effectiveGasPrice": "0x1", "logs": [{"address": "0xAa", "topics": ["0x1"], "data": "0x", "removed": False}],
}  # fmt: skip
RECEIPT_METHOD = "eth_getTransactionReceipt"


@pytest.mark.parametrize(
    "other",
    [
        RECEIPT | {"transactionHash": "0xab"},
        RECEIPT | {"l1Fee": "0x7", "type": "0x2"},
        RECEIPT | {"logs": [{"address": "0xaA", "topics": ["0x1"], "data": "0x", "blockTimestamp": "0x9"}]},
    ],
)
def test_receipts_agree_in_spite_of_case_and_of_fields_that_some_nodes_add(other: JsonValue) -> None:
    """Only what the chain fixes is compared."""
    assert comparable(RECEIPT_METHOD, RECEIPT) == comparable(RECEIPT_METHOD, other)


@pytest.mark.parametrize(
    "other",
    [
        None,
        *(RECEIPT | {name: "0x0"} for name in ("transactionHash", "blockHash", "blockNumber", "status", "gasUsed")),
        RECEIPT | {"logs": []},
        RECEIPT | {"logs": [{"address": "0xaa", "topics": ["0x1"], "data": "0x01"}]},
        RECEIPT | {"logs": [["0xaa", ["0x1"], "0x"]]},  # no log, though all of one is in it
    ],
)
def test_receipts_that_differ_in_what_the_chain_fixes_do_not_agree(other: JsonValue) -> None:
    """Each field alone is enough."""
    assert comparable(RECEIPT_METHOD, RECEIPT) != comparable(RECEIPT_METHOD, other)


def test_other_results_are_compared_whole() -> None:
    """Types included; the order of an object's fields is none of its content."""
    assert comparable("x", {"a": 1, "b": ["0xA", None]}) == comparable("x", {"b": ["0xa", None], "a": 1})
    pairs: list[tuple[JsonValue, JsonValue]] = [
        (True, 1), (None, False), ([], {}), ("0x1", "0x01"), ("A", "a"), ({"a": None}, {}), ([1, 2], [2, 1]),
    ]  # fmt: skip
    for one, other in pairs:
        assert comparable("x", one) != comparable("x", other)


def nested(depth: int, *, as_lists: bool) -> JsonValue:
    """A value inside `depth` lists or objects."""
    value: JsonValue = "0x1"
    for _ in range(depth):
        value = [value] if as_lists else {"a": value}
    return value


@pytest.mark.parametrize("as_lists", [True, False])
@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 520, 900])
def test_result_that_is_nested_too_deeply_is_malformed(depth: int, as_lists: bool) -> None:
    """JSON may be nested so deeply that a walk by recursion ends in a RecursionError, which nobody expects."""
    with pytest.raises(RpcMalformed, match="x: malformed answer: nested too deeply"):
        comparable("x", nested(depth, as_lists=as_lists))
    with pytest.raises(RpcMalformed, match="nested too deeply"):
        comparable(RECEIPT_METHOD, RECEIPT | {"logs": [{"topics": nested(depth, as_lists=as_lists)}]})
    allowed = nested(MAX_DEPTH, as_lists=as_lists)
    assert comparable("x", allowed) == comparable("x", nested(MAX_DEPTH, as_lists=as_lists))


def test_receipt_with_more_logs_than_fit_into_a_transaction_is_malformed() -> None:
    """A log can be two bytes of JSON: 300 KB of them held up the event loop for half a second."""
    log: JsonValue = {"address": "0xaa", "topics": [], "data": "0x"}
    assert comparable(RECEIPT_METHOD, RECEIPT | {"logs": [log] * MAX_LOGS}) is not None
    with pytest.raises(RpcMalformed, match=f"at logs: {MAX_LOGS + 1} logs, more than {MAX_LOGS}"):
        comparable(RECEIPT_METHOD, RECEIPT | {"logs": [{}] * (MAX_LOGS + 1)})


def test_result_with_more_values_than_the_longest_receipt_is_malformed() -> None:
    """Wherever they are, and of whatever method."""
    results: list[JsonValue] = [[0] * MAX_VALUES, {"a": [[]] * MAX_VALUES}, [[0] * 1_000] * 1_000]
    for result in results:
        with pytest.raises(RpcMalformed, match=f"more than {MAX_VALUES} values"):
            comparable("x", result)
    with pytest.raises(RpcMalformed, match=f"more than {MAX_VALUES} values"):
        comparable(RECEIPT_METHOD, RECEIPT | {"logs": [{"topics": ["0x1"] * MAX_VALUES}]})
    assert comparable("x", [0] * (MAX_VALUES - 1)) is not None


def test_revert_is_an_answer_and_any_other_refusal_is_none() -> None:
    """Nodes word a revert differently, its data are the chain's."""
    requests: list[Request] = [("eth_call", [])]
    geth = RpcRefused(3, "execution reverted: x", "0x08c379a0")
    other = RpcRefused(3, "execution reverted", "0x08c379a0")
    assert keys_of(requests, [geth], comparable) == keys_of(requests, [other], comparable)
    assert keys_of(requests, [RpcRefused(3, "execution reverted", "0x11223344")], comparable) != keys_of(
        requests, [geth], comparable
    )
    limited = RpcRefused(-32005, "rate limited")
    assert keys_of(requests, [limited], comparable) is limited


def vote(node: str, *keys: object) -> Vote:
    """Of one node; without keys it has none."""
    return Vote(node, "words", keys or None)


def test_quorum_needs_the_same_answer_to_all_requests() -> None:
    """Half of one and half of another is nothing."""
    votes = [vote("a", 1, 1), vote("b", 1, 2), vote("c", 2, 1)]
    assert winner(votes, 2) is None
    assert winner([*votes, vote("d", 1, 2)], 2) == (1, 2)


def test_two_quorums_at_once_prove_nothing() -> None:
    """With a quorum of two, four nodes may split into halves."""
    assert winner([vote("a", 1), vote("b", 1), vote("c", 2), vote("d", 2)], 2) is None


def test_nodes_without_a_vote_neither_agree_nor_contradict() -> None:
    """Two time-outs are not a quorum for anything."""
    votes = [vote("a"), vote("b"), vote("c", 1)]
    assert winner(votes, 2) is None
    assert winner(votes, 1) == (1,)
    assert contradictions(votes, (1,), [("eth_call", [])]) == {}


def test_contradiction_names_the_first_method_that_differs() -> None:
    """For the metric."""
    votes = [vote("a", 1, 1), vote("b", 1, 2), vote("c", 1, 1)]
    assert contradictions(votes, (1, 1), [("eth_call", []), ("eth_getCode", [])]) == {"b": "eth_getCode"}


@given(st.lists(st.sampled_from([None, 1, 2]), max_size=6), st.integers(0, 3), st.integers(1, 4))
def test_giving_up_early_misses_no_quorum(said: list[int | None], to_come: int, needed: int) -> None:
    """Exactly when the largest group could not become large enough."""
    votes = [vote(str(i), *(() if key is None else (key,))) for i, key in enumerate(said)]
    best = max(said.count(1), said.count(2))
    assert can_win(votes, to_come, needed) is (best + to_come >= needed)


def test_only_requests_that_name_a_block_by_hash_are_pinned() -> None:
    """A number can mean another block tomorrow."""
    assert is_pinned(("eth_call", [{}, {"blockHash": "0x1", "requireCanonical": True}]))
    assert is_pinned(("eth_getBlockByHash", ["0x1", False]))
    assert is_pinned(("eth_getLogs", [{"blockHash": "0x1"}]))
    assert not is_pinned(("eth_call", [{}, "latest"]))
    assert not is_pinned(("eth_getTransactionReceipt", ["0x1"]))

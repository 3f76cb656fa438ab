"""What one mined transaction changed: logs, traces and blocks as nodes give them, and what is not concluded."""

from typing import Any

import pytest
from hypothesis import given as given_values
from hypothesis import strategies as st

from runnerd.chain.errors import ChainError, RpcMalformed, RpcRefused
from runnerd.chain.json_values import JsonValue
from runnerd.chain.logs import TRANSFER, Log, decode_logs, token_change
from runnerd.chain.past import (
    build_past,
    decode_neighbours,
    decode_parent,
    decode_past,
    decode_trace,
    given,
    or_none,
)
from runnerd.chain.probe import Measure

TOKEN, OTHER = "0x" + "C1" * 20, "0x" + "c2" * 20
VAULT, VENUE = "0x" + "Ab" * 20, "0x" + "33" * 20
HASH, PARENT = "0x" + "0b" * 32, "0x" + "0a" * 32


def topic(address: str) -> str:
    return "0x" + "00" * 12 + address[2:].lower()


def transfer(sender: str, receiver: str, value: int, token: str = TOKEN) -> Log:
    return Log(address=token, topics=(TRANSFER, topic(sender), topic(receiver)), data=f"0x{value:064x}")


# --- logs ------------------------------------------------------------------------------------------------------------


def test_the_topic_is_the_one_that_everybody_knows() -> None:
    """As in each block explorer."""
    assert TRANSFER == "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"


@given_values(
    st.lists(st.tuples(st.sampled_from([VAULT, VENUE]), st.sampled_from([VAULT, VENUE]), st.integers(0, 2**255)))
)
def test_what_came_in_less_what_went_out_is_the_change(moves: list[tuple[str, str, int]]) -> None:
    """At any size; to oneself is nothing; the case of addresses does not matter."""
    logs = [transfer(*move) for move in moves]
    expected = sum(value for _, to, value in moves if to == VAULT) - sum(value for by, _, value in moves if by == VAULT)
    assert token_change(logs, TOKEN.lower(), VAULT.upper().replace("0X", "0x")) == expected


def test_other_logs_change_nothing() -> None:
    """Another token's, another event, the same event with an id in a fourth topic (ERC-721), or without a number."""
    good = transfer(VENUE, VAULT, 5)
    odd = [
        transfer(VENUE, VAULT, 7, OTHER),
        Log(address=TOKEN, topics=("0x" + "11" * 32, *good.topics[1:]), data=good.data),
        Log(address=TOKEN, topics=(*good.topics, "0x" + f"{9:064x}"), data=good.data),
        Log(address=TOKEN, topics=good.topics[:2], data=good.data),
        Log(address=TOKEN, topics=(), data=good.data),
        Log(address=TOKEN, topics=good.topics, data="0x"),
    ]
    assert token_change(odd, TOKEN, VAULT) == 0
    assert token_change([*odd, good], TOKEN, VAULT) == 5


@pytest.mark.parametrize(
    "answer",
    [
        None,
        {},
        {"logs": None},
        {"logs": [{}]},
        {"logs": [{"address": TOKEN, "topics": [HASH] * 5, "data": "0x"}]},
        {"logs": [{"address": "0x1", "topics": [], "data": "0x"}]},
        {"logs": [{"address": TOKEN, "topics": [], "data": "0x0"}]},
    ],
)
def test_odd_logs_prove_nothing(answer: JsonValue) -> None:
    """Neither do they accuse."""
    with pytest.raises(RpcMalformed):
        decode_logs(answer)
    assert decode_logs({"logs": [], "status": "0x1"}) == ()


# --- traces ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pre, post, change",
    [
        ({VAULT: {"balance": "0xa"}}, {VAULT: {"balance": "0x7"}}, -3),
        ({VAULT.lower(): {"balance": "0xa", "nonce": 1}}, {VAULT.lower(): {"nonce": 2}}, 0),
        ({}, {VAULT: {"balance": "0x7"}}, 7),
        ({VENUE: {"balance": "0xa"}}, {VENUE: {"balance": "0x7"}}, 0),
        ({VAULT: {}}, {VAULT: {"balance": "0x7"}}, 7),
        ({}, {}, 0),
    ],
)
def test_a_trace_shows_the_change_of_one_account(pre: dict[str, Any], post: dict[str, Any], change: int) -> None:
    """What is not in `post` did not change."""
    assert decode_trace({"pre": pre, "post": post}, VAULT) == change


@pytest.mark.parametrize(
    "answer", [None, {}, {VAULT: {"balance": "0xa"}}, {"pre": {}}, {"pre": {VAULT: 5}, "post": {}}]
)
def test_an_odd_trace_is_none(answer: JsonValue) -> None:
    """Such as that of a tracer which does not know diffMode."""
    with pytest.raises(RpcMalformed):
        decode_trace(answer, VAULT)


# --- blocks ----------------------------------------------------------------------------------------------------------


def test_a_measure_is_read_before_and_after_the_block() -> None:
    """By hash: never a mixture of two chains."""
    at = [{"blockHash": block, "requireCanonical": True} for block in (PARENT, HASH)]
    assert build_past(Measure(to=VAULT), PARENT, HASH) == [("eth_getBalance", [VAULT, block]) for block in at]
    view = Measure(to=VENUE, data=b"\x01", is_signed=True)
    assert build_past(view, PARENT, HASH) == [("eth_call", [{"to": VENUE, "data": "0x01"}, block]) for block in at]
    assert decode_past(Measure(to=VAULT), "0xff") == 255
    assert decode_past(view, "0x" + "ff" * 32) == -1
    assert decode_past(view, "0x" + "00" * 31 + "05" + "77") == 5
    assert decode_past(view, "0x") is None


def test_neighbours_are_those_that_come_from_or_go_to_whom_it_concerns() -> None:
    """Without the transaction itself, and whatever the case of the hex digits."""
    mine: JsonValue = {"hash": HASH.upper().replace("0X", "0x"), "from": VAULT, "to": VENUE}
    others: list[JsonValue] = [
        {"hash": "0x" + f"{n:064x}", "from": sender, "to": to}
        for n, (sender, to) in enumerate([(VENUE, OTHER), (VAULT.lower(), None), (OTHER, VAULT), (OTHER, None)])
    ]
    block: JsonValue = {"transactions": [mine, *others]}
    assert decode_neighbours(block, HASH, VAULT) == "2 other transactions of operator or vault"
    assert decode_neighbours({"transactions": [mine]}, HASH, VAULT) == ""
    with pytest.raises(RpcMalformed):
        decode_neighbours({"transactions": [HASH]}, HASH, VAULT)


def test_a_block_that_the_node_does_not_know_has_no_parent() -> None:
    """Null is an answer."""
    assert decode_parent({"hash": HASH, "parentHash": PARENT}) == PARENT
    with pytest.raises(RpcMalformed):
        decode_parent(None)


def test_evidence_that_is_refused_is_missing_and_a_defect_is_not_hidden() -> None:
    """Only what a node did is caught."""
    assert or_none(lambda: given(RpcRefused(-32000, "missing trie node"))) is None
    assert or_none(lambda: given(5)) == 5
    with pytest.raises(ChainError):
        given(RpcRefused(1, "no"))
    with pytest.raises(ZeroDivisionError):
        or_none(lambda: 1 // 0)

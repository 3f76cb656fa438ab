"""Proof: enough nodes, the same words, at a block that all of them have. Who contradicts it is named."""

import asyncio

import pytest

from runnerd.chain.errors import NoQuorum, RpcRefused
from runnerd.chain.json_values import JsonValue
from runnerd.chain.jsonrpc import Request
from runnerd.chain.logs import MAX_LOGS
from tests.chain.pool.fleet import Fleet
from tests.support.aio import run_async
from tests.support.virtual_time import VirtualTimeLoop

RECEIPT: Request = ("eth_getTransactionReceipt", ["0x1"])
PINNED: Request = ("eth_getCode", ["0x1", {"blockHash": "0xab"}])


def test_no_more_nodes_are_asked_than_are_needed() -> None:
    """Two of four, in one round trip each."""

    async def scenario() -> None:
        fleet = Fleet(4)
        await fleet.poll()
        fleet.clear()
        assert await fleet.network.agreed([PINNED, RECEIPT]) == [None, None]
        assert sorted(fleet.trips) == [[], [], *[[["eth_getCode", "eth_getTransactionReceipt"]]] * 2]

    run_async(scenario())


def test_another_node_is_asked_for_each_that_fails_or_disagrees() -> None:
    """Until two agree; that is not the answer that came first."""

    async def scenario() -> None:
        fleet = Fleet(4)
        await fleet.poll()
        fleet.nodes[0].results["eth_getCode"] = "0xbad1"
        fleet.nodes[1].is_down = True
        for node in fleet.nodes[2:]:
            node.results["eth_getCode"] = "0x600d"
        assert await fleet.network.agreed([PINNED]) == ["0x600d"]

    run_async(scenario())


@pytest.mark.parametrize("quorum", [2, 3])
def test_without_a_quorum_each_node_is_named_with_what_it_said(quorum: int) -> None:
    """And nobody is called a liar: who is right is not known."""

    async def scenario() -> None:
        fleet = Fleet(3, quorum=quorum)
        await fleet.poll()
        fleet.nodes[0].results["eth_getCode"] = "0x01"
        fleet.nodes[1].results["eth_getCode"] = "0x02"
        fleet.nodes[2].is_down = True
        with pytest.raises(NoQuorum) as caught:
            await fleet.network.agreed([PINNED])
        assert caught.value.needed == quorum
        said = dict(caught.value.said)
        assert set(said) == {"http://a", "http://b", "http://c"}
        assert "0x01" in said["http://a"]
        assert fleet.metrics.lies == []

    run_async(scenario())


def test_node_that_is_out_has_no_vote() -> None:
    """Two are configured, one lags: its word does not make a proof, and one alone is none."""

    async def scenario() -> None:
        fleet = Fleet(2)
        fleet.nodes[1].height = 50
        await fleet.network.rpc.learn()
        await fleet.poll()
        assert fleet.states() == ["in", "out"]
        with pytest.raises(NoQuorum, match=r"no 2 nodes agree .*http://b: lags: 50 blocks behind 100"):
            await fleet.network.agreed([RECEIPT])

    run_async(scenario())


def test_node_on_probation_has_no_vote_yet() -> None:
    """It answers again, and has to do so for a while."""

    async def scenario() -> None:
        fleet = Fleet(2)
        fleet.nodes[1].is_down = True
        await fleet.network.rpc.learn()
        fleet.nodes[1].is_down = False
        await fleet.poll()
        assert fleet.states() == ["in", "probation"]
        with pytest.raises(NoQuorum):
            await fleet.network.agreed([RECEIPT])
        await fleet.poll()
        await fleet.poll()
        assert await fleet.network.agreed([RECEIPT]) == [None]

    run_async(scenario())


def test_lone_node_is_believed() -> None:
    """Said loudly at the start; also while it has failed a moment ago."""

    async def scenario() -> None:
        fleet = Fleet(1)
        fleet.nodes[0].is_down = True
        with pytest.raises(NoQuorum, match="is down"):
            await fleet.network.agreed([RECEIPT])
        fleet.nodes[0].is_down = False
        assert await fleet.network.agreed([RECEIPT]) == [None]

    run_async(scenario())


def test_nodes_that_were_never_asked_are_asked_for_their_heads_first() -> None:
    """The first question of a process may be one for proof."""

    async def scenario() -> None:
        fleet = Fleet(2)
        assert await fleet.network.agreed([RECEIPT]) == [None]
        assert fleet.states() == ["in", "in"]

    run_async(scenario())


@pytest.mark.parametrize(
    "request_, min_head, is_lie", [(PINNED, None, True), (RECEIPT, 90, True), (RECEIPT, None, False)]
)
def test_contradiction_of_a_quorum_is_a_lie_only_where_nothing_can_change(
    request_: Request, min_head: int | None, is_lie: bool
) -> None:
    """At a block hash, or by nodes that all have the final block; else it may be news."""

    async def scenario() -> None:
        fleet = Fleet(3)
        await fleet.poll()
        method, _ = request_
        fleet.nodes[0].results[method] = "0xbad1"
        assert await fleet.network.agreed([request_], min_head=min_head) == [None]
        assert fleet.metrics.lies == ([("http://a", method)] if is_lie else [])
        assert fleet.states()[0] == ("out" if is_lie else "in")
        await fleet.network.close()

    run_async(scenario())


def test_node_below_the_wanted_block_neither_votes_nor_lies() -> None:
    """It says at which block it is, in the same round trip."""

    async def scenario() -> None:
        fleet = Fleet(3)
        await fleet.poll()
        fleet.nodes[0].results["eth_getTransactionReceipt"] = "0xold"
        for node in fleet.nodes[1:]:
            node.height = 103
        fleet.clear()
        assert await fleet.network.agreed([RECEIPT], min_head=102) == [None]
        assert fleet.trips[0] == [["eth_getBlockByNumber", "eth_getTransactionReceipt"]]
        assert fleet.metrics.lies == []
        with pytest.raises(NoQuorum, match="http://b: its latest block is 103, wanted is 104"):
            await fleet.network.agreed([RECEIPT], min_head=104)

    run_async(scenario())


def test_by_tag_each_node_counts_only_what_is_final_for_itself() -> None:
    """One node's word that a block is finalized is no proof, also when others have the same receipt."""

    async def scenario() -> None:
        fleet = Fleet(3, finality="finalized")
        await fleet.poll()
        fleet.nodes[0].finalized = 100
        with pytest.raises(NoQuorum, match="http://b: its finalized block is 0, wanted is 100"):
            await fleet.network.agreed_when_final(100, [RECEIPT])
        fleet.nodes[2].finalized = 101
        assert await fleet.network.agreed_when_final(100, [RECEIPT]) == [None]

    run_async(scenario())


def test_by_depth_each_node_counts_only_when_it_is_that_far_itself() -> None:
    """A block is final when so many are on top of it."""

    async def scenario() -> None:
        fleet = Fleet(2, confirmations=5)
        await fleet.poll()
        top = fleet.nodes[0].height
        assert await fleet.network.agreed_when_final(top - 4, [RECEIPT]) == [None]
        with pytest.raises(NoQuorum, match=f"its latest block is {top}, wanted is {top + 1}"):
            await fleet.network.agreed_when_final(top - 3, [RECEIPT])

    run_async(scenario())


def test_refusals_make_no_quorum_and_reverts_do() -> None:
    """Two rate limits prove nothing, two equal reverts that the call reverts."""

    async def scenario() -> None:
        fleet = Fleet(2)
        await fleet.poll()
        for node in fleet.nodes:
            node.results["eth_getCode"] = RpcRefused(-32005, "limit exceeded")
        with pytest.raises(NoQuorum, match="limit exceeded"):
            await fleet.network.agreed([PINNED])
        for i, node in enumerate(fleet.nodes):
            node.results["eth_getCode"] = RpcRefused(3, f"execution reverted{i}", "0x11")
        (answer,) = await fleet.network.agreed([PINNED])
        assert isinstance(answer, RpcRefused)

    run_async(scenario())


def deep(levels: int) -> JsonValue:
    """Objects inside each other."""
    value: JsonValue = None
    for _ in range(levels):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    "request_, nonsense, words",
    [
        (PINNED, deep(520), "nested too deeply"),
        (PINNED, deep(900), "nested too deeply"),
        (RECEIPT, {"logs": [{}] * (MAX_LOGS + 1)}, f"more than {MAX_LOGS}"),
        # What is compared of it is well, and its words are of all of it.
        (("eth_getBlockByHash", ["0x1", False]), {"number": "0x1", "more": deep(5_000)}, "nested too deeply"),
    ],
)
def test_answer_that_cannot_be_compared_is_a_failure_of_its_node_alone(
    request_: Request, nonsense: JsonValue, words: str
) -> None:
    """The others are asked all the same, and it counts against the node's health."""

    async def scenario() -> None:
        fleet = Fleet(3)
        await fleet.poll()
        fleet.nodes[0].results[request_[0]] = nonsense
        assert await fleet.network.agreed([request_]) == [None]
        assert fleet.metrics.errors == ["http://a"]
        assert fleet.network.rpc.nodes[0].health.failures == 1
        assert fleet.metrics.lies == []
        fleet.nodes[1].is_down = True
        with pytest.raises(NoQuorum, match=rf"http://a: .*{words}.*http://b: .*is down"):
            await fleet.network.agreed([request_])

    run_async(scenario())


def test_node_that_answers_nonsense_is_asked_last_and_in_the_end_not_at_all() -> None:
    """Each of its answers came, so that no three of them are failures in a row: its rate of errors puts it out."""

    async def scenario() -> None:
        fleet = Fleet(3)
        await fleet.poll()
        fleet.clear()
        fleet.nodes[0].results["eth_getCode"] = deep(600)
        for _ in range(5):
            await fleet.network.agreed([PINNED])
        assert [len(trips) for trips in fleet.trips] == [1, 5, 5]
        fleet.nodes[1].is_down = True
        while fleet.states()[0] == "in":
            with pytest.raises(NoQuorum):
                await fleet.network.agreed([PINNED])
        assert "nested too deeply" in fleet.network.rpc.nodes[0].health.reason

    run_async(scenario())


def test_callers_key_says_what_must_be_equal() -> None:
    """For an answer of which only a part is used."""

    async def scenario() -> None:
        fleet = Fleet(2)
        await fleet.poll()
        for i, node in enumerate(fleet.nodes):
            node.results["eth_getCode"] = {"used": "0x1", "other": i}
        with pytest.raises(NoQuorum):
            await fleet.network.agreed([PINNED])
        (answer,) = await fleet.network.agreed(
            [PINNED], key=lambda _, result: result["used"] if isinstance(result, dict) else None
        )
        assert isinstance(answer, dict)

    run_async(scenario())


def test_slow_node_is_not_waited_for_when_enough_others_agree() -> None:
    """A third is asked after a second; whoever is left over is cancelled."""

    async def scenario() -> None:
        fleet = Fleet(3)
        await fleet.poll()
        fleet.nodes[0].held = asyncio.Event()
        assert await fleet.network.agreed([PINNED]) == [None]
        assert asyncio.get_running_loop().time() < 2
        assert [len(trips) for trips in fleet.trips] == [2, 2, 2]

    run_async(scenario(), loop_factory=VirtualTimeLoop)


def test_agreed_nonce_is_what_a_quorum_counts() -> None:
    """For the start: one node's number would move the wallet's for ever."""

    async def scenario() -> None:
        fleet = Fleet(3)
        fleet.nodes[0].results["eth_getTransactionCount"] = "0xff"
        for node in fleet.nodes[1:]:
            node.results["eth_getTransactionCount"] = "0x7"
        assert await fleet.network.fetch_agreed_nonce("0x1") == 7

    run_async(scenario())

"""Several nodes behave as one: which is asked, what happens when it does not answer, who is never asked."""

import asyncio
import logging

import pytest

from runnerd.chain.errors import NoPrivateLane, RpcRefused, RpcUnavailable, WrongChain
from runnerd.chain.json_values import JsonValue
from runnerd.chain.rpc import NodeBatches
from runnerd.chain.types import Block
from tests.chain.fake_node import wire_block
from tests.chain.pool.fleet import Fleet
from tests.support.aio import run_async
from tests.support.until import until
from tests.support.virtual_time import VirtualTimeLoop

HASH = "0x" + "ab" * 32
BALANCE = ("eth_getBalance", ["0x1", "latest"])


async def ask(node: NodeBatches, block: Block) -> tuple[int, object]:
    """A decision with two round trips."""
    (first,) = await node.batch([("eth_call", [block.number])])
    (second,) = await node.batch([("eth_getCode", [block.number])])
    return block.number, (first, second)


def test_first_question_is_asked_when_every_node_was_asked_for_its_head() -> None:
    """The highest is read from, whatever its place in the configuration."""

    async def scenario() -> None:
        fleet = Fleet(3)
        fleet.nodes[2].height = 102
        fleet.nodes[2].results["eth_getBalance"] = "0x7"
        assert await fleet.network.rpc.call(*BALANCE) == "0x7"
        poll = [["eth_chainId", "eth_getBlockByNumber"]]
        assert fleet.trips == [poll, poll, [*poll, ["eth_getBalance"]]]
        assert fleet.network.rpc.url_for_display == "http://c"
        await fleet.network.close()

    run_async(scenario())


def test_dead_and_silent_nodes_do_not_hold_up_the_first_question() -> None:
    """One that is well is enough; a silent one is waited for a second."""

    async def scenario() -> None:
        fleet = Fleet(3)
        fleet.nodes[0].is_down = True
        fleet.nodes[1].held = asyncio.Event()
        fleet.nodes[2].results["eth_getBalance"] = "0x7"
        assert await fleet.network.rpc.call(*BALANCE) == "0x7"
        assert fleet.states() == ["out", "out", "in"]
        await fleet.network.close()

    run_async(scenario(), loop_factory=VirtualTimeLoop)


def test_read_that_is_not_answered_is_asked_of_the_next_node() -> None:
    """And the next read goes there at once."""

    async def scenario() -> None:
        fleet = Fleet(2)
        await fleet.poll()
        fleet.nodes[0].is_down = True
        fleet.nodes[1].results["eth_getBalance"] = "0x7"
        fleet.clear()
        assert await fleet.network.rpc.call(*BALANCE) == "0x7"
        assert await fleet.network.rpc.batch([BALANCE]) == ["0x7"]
        assert fleet.trips == [[["eth_getBalance"]], [["eth_getBalance"]] * 2]
        assert fleet.metrics.errors == ["http://a"]

    run_async(scenario())


def test_refusal_is_an_answer_and_is_asked_of_nobody_else() -> None:
    """A revert would be asked of every node otherwise."""

    async def scenario() -> None:
        fleet = Fleet(2)
        await fleet.poll()
        fleet.nodes[0].results["eth_getBalance"] = RpcRefused(3, "execution reverted")
        fleet.clear()
        with pytest.raises(RpcRefused):
            await fleet.network.rpc.call(*BALANCE)
        assert fleet.trips == [[["eth_getBalance"]], []]

    run_async(scenario())


def test_without_any_answer_each_node_is_named() -> None:
    """Which it was, and why."""

    async def scenario() -> None:
        fleet = Fleet(2)
        await fleet.poll()
        for node in fleet.nodes:
            node.is_down = True
        with pytest.raises(RpcUnavailable, match="no node answered: http://a: is down; http://b: is down"):
            await fleet.network.rpc.batch([BALANCE])

    run_async(scenario())


def test_transaction_is_not_sent_to_a_second_node_behind_the_callers_back() -> None:
    """Whoever sends wants to know to whom."""

    async def scenario() -> None:
        fleet = Fleet(2)
        await fleet.poll()
        fleet.nodes[0].is_down = True
        fleet.clear()
        with pytest.raises(RpcUnavailable):
            await fleet.network.rpc.call("eth_sendRawTransaction", ["0x01"])
        assert fleet.trips[1] == []

    run_async(scenario())


# --- one decision, one node ------------------------------------------------------------------------------------------


def test_decision_whose_node_fails_half_way_is_asked_again_as_a_whole_elsewhere() -> None:
    """No mixture of two nodes: the first read is asked again too, at the other node's block."""

    async def scenario() -> None:
        fleet = Fleet(2)
        await fleet.poll()
        fleet.nodes[1].height = 99
        await fleet.poll(1)
        for node, value in zip(fleet.nodes, ("0x0a", "0x0b"), strict=True):
            node.results = {"eth_call": value, "eth_getCode": value}
        first = fleet.nodes[0]

        async def half_way(node: NodeBatches, block: Block) -> tuple[int, object]:
            (one,) = await node.batch([("eth_call", [block.number])])
            first.is_down = True
            (two,) = await node.batch([("eth_getCode", [block.number])])
            return block.number, (one, two)

        assert await fleet.network.at_newest_block(half_way) == (99, ("0x0b", "0x0b"))

    run_async(scenario())


def test_known_block_takes_one_round_trip_of_one_node() -> None:
    """As with one node: the batch asks for the head as well, and nobody else is asked."""

    async def scenario() -> None:
        fleet = Fleet(3)
        await fleet.poll()
        fleet.clear()

        async def once(node: NodeBatches, block: Block) -> int:
            await node.batch([("eth_call", [block.number])])
            return block.number

        assert await fleet.network.at_newest_block(once) == 100
        assert fleet.trips == [[["eth_getBlockByNumber", "eth_call"]], [], []]

    run_async(scenario())


def test_node_that_lags_behind_is_not_read_from() -> None:
    """Six blocks behind with `max_lag_blocks = 5`; five are fine."""

    async def scenario() -> None:
        fleet = Fleet(3, max_lag_blocks=5)
        fleet.nodes[0].height, fleet.nodes[1].height = 94, 95
        await fleet.network.rpc.learn()
        await fleet.poll()
        assert fleet.states() == ["out", "in", "in"]
        assert fleet.network.rpc.nodes[0].health.reason == "lags: 6 blocks behind 100"
        assert (await fleet.network.at_newest_block(ask))[0] == 100
        assert fleet.metrics.up == {"http://a": False, "http://b": True, "http://c": True}
        assert fleet.metrics.heads == {"http://a": 94, "http://b": 95, "http://c": 100}

    run_async(scenario())


@pytest.mark.parametrize("liar", [0, 1, 2])
def test_lone_node_far_ahead_pushes_nobody_out(liar: int) -> None:
    """From the first question on, and whoever is asked first."""

    async def scenario() -> None:
        fleet = Fleet(3)
        fleet.nodes[liar].height = 10**12
        await fleet.network.rpc.learn()
        for _ in range(4):
            await fleet.poll()
            assert fleet.network.head.latest is not None
            assert fleet.network.head.latest.number == 100
        assert fleet.states() == ["out" if i == liar else "in" for i in range(3)]
        assert fleet.network.rpc.nodes[liar].health.reason == f"runs ahead: says {10**12}, most others 100"

    run_async(scenario())


def test_many_blocks_at_once_put_nobody_out() -> None:
    """The first to hear of them is not ahead for long, the others do not lag: they were asked before."""

    async def scenario() -> None:
        fleet = Fleet(3)
        await fleet.poll()
        for node in fleet.nodes:
            node.height = 1_000
        for i in (1, 0, 2):
            await fleet.poll(i)
            assert fleet.states() == ["in"] * 3
        assert fleet.network.head.latest is not None
        assert fleet.network.head.latest.number == 1_000

    run_async(scenario())


# --- chain ids -------------------------------------------------------------------------------------------------------


def test_node_of_another_chain_sees_no_transaction() -> None:
    """It is asked for its chain before."""

    async def scenario() -> None:
        fleet = Fleet(1)
        fleet.nodes[0].chain_id = 5
        with pytest.raises(WrongChain, match="it serves chain 5, not 1"):
            await fleet.network.rpc.call("eth_sendRawTransaction", ["0x01"])
        assert fleet.trips == [[["eth_chainId"]]]
        assert await fleet.network.fetch_chain_id() == 5

    run_async(scenario())


def test_reads_of_a_node_of_another_chain_are_not_used() -> None:
    """The answers come in the same round trip, and the right node is asked instead."""

    async def scenario() -> None:
        fleet = Fleet(2)
        fleet.nodes[0].chain_id, fleet.nodes[0].height = 5, 10**6
        fleet.nodes[1].results["eth_getBalance"] = "0x7"
        assert await fleet.network.rpc.call(*BALANCE) == "0x7"
        assert await fleet.network.fetch_chain_id() == 1
        assert fleet.network.rpc.nodes[0].health.reason == "wrong chain: it serves chain 5"
        assert [name async for name, _ in await fleet.network.rpc.ask_each([BALANCE])] == ["http://b"]

    run_async(scenario())


def test_node_names_its_chain_again_after_it_was_away() -> None:
    """Another one may answer at its url: in the next round trip, not in one of its own."""

    async def scenario() -> None:
        fleet = Fleet(1)
        node = fleet.nodes[0]
        await fleet.poll()
        node.is_down = True
        with pytest.raises(RpcUnavailable):
            await fleet.network.rpc.batch([BALANCE])
        assert fleet.states() == ["in"]  # one failure is none
        node.is_down = False
        node.chain_id = 5
        fleet.clear()
        with pytest.raises(WrongChain):
            await fleet.network.rpc.batch([BALANCE])
        assert fleet.trips == [[["eth_chainId", "eth_getBalance"]]]

    run_async(scenario())


def test_all_nodes_of_another_chain_are_a_finding_and_one_silent_node_is_none() -> None:
    """What is not known yet may turn out well."""

    async def scenario() -> None:
        fleet = Fleet(2)
        fleet.nodes[0].chain_id, fleet.nodes[1].is_down = 5, True
        with pytest.raises(RpcUnavailable):
            await fleet.network.fetch_chain_id()
        fleet.nodes[1].is_down, fleet.nodes[1].chain_id = False, 5
        assert await fleet.network.fetch_chain_id() == 5

    run_async(scenario())


# --- out and back ----------------------------------------------------------------------------------------------------


def test_node_goes_out_and_comes_back_by_probation(caplog: pytest.LogCaptureFixture) -> None:
    """Each change is one record; meanwhile the other one is read from, and is kept."""

    async def scenario() -> None:
        fleet = Fleet(2)
        await fleet.poll()
        fleet.nodes[0].is_down = True
        for _ in range(3):
            await fleet.poll(0)
        assert fleet.states() == ["out", "in"]
        fleet.nodes[0].is_down = False
        seen = []
        for _ in range(3):
            await fleet.poll(0)
            seen.append(fleet.states()[0])
        assert seen == ["probation", "probation", "in"]
        assert fleet.network.rpc.url_for_display == "http://b"

    with caplog.at_level(logging.INFO):
        run_async(scenario())
    records = [record.runnerd_fields for record in caplog.records]  # type: ignore[attr-defined]  # of `fields`
    assert [(each["action"], each["node"]) for each in records] == [
        ("node_in", "http://a"), ("node_in", "http://b"), ("node_chosen", "http://b"), ("node_out", "http://a"),
        ("node_probation", "http://a"), ("node_in", "http://a"),
    ]  # fmt: skip


def test_lone_node_needs_no_probation() -> None:
    """Nobody stands in for it meanwhile."""

    async def scenario() -> None:
        fleet = Fleet(1)
        for is_down, state in ((False, "in"), (True, "in"), (True, "in"), (True, "out"), (False, "in")):
            fleet.nodes[0].is_down = is_down
            await fleet.poll()
            assert fleet.states() == [state]

    run_async(scenario())


def test_polling_one_node_is_not_held_up_by_another(caplog: pytest.LogCaptureFixture) -> None:
    """A silent node is waited for by nobody; a dead one is asked less and less often."""

    async def scenario() -> None:
        fleet = Fleet(3)
        fleet.nodes[0].held = asyncio.Event()
        fleet.nodes[1].is_down = True
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as tasks:
            polling = tasks.create_task(fleet.network.head.run(1.0), name="test:head")
            await asyncio.sleep(0.5)
            fleet.nodes[2].height = 101
            began = loop.time()
            block = await fleet.network.head.wait_beyond(100, timeout_s=10)
            assert block is not None
            assert loop.time() - began < 1
            await asyncio.sleep(300)
            polling.cancel()
        assert len(fleet.nodes[0].trips) == 1
        assert len(fleet.nodes[1].trips) < 20
        assert len(fleet.nodes[2].trips) > 250
        await fleet.network.close()

    with caplog.at_level(logging.CRITICAL):
        run_async(scenario(), deadline_s=1_000, loop_factory=VirtualTimeLoop)


def test_announced_block_is_polled_at_once_and_news_of_one_node_ring_at_the_one_in_use() -> None:
    """A doorbell; what the poll says is the truth."""

    async def scenario() -> None:
        fleet = Fleet(2)
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as tasks:
            polling = tasks.create_task(fleet.network.head.run(60.0), name="test:head")
            await asyncio.sleep(1)
            assert fleet.network.rpc.url_for_display == "http://a"
            for node in fleet.nodes:
                node.height = 101
            fleet.nodes[1].ring()
            block = await fleet.network.head.wait_beyond(100, timeout_s=50)
            assert block is not None
            assert loop.time() < 2
            assert fleet.network.rpc.url_for_display == "http://a"
            polling.cancel()

    run_async(scenario(), loop_factory=VirtualTimeLoop)


def test_announced_header_of_a_lone_node_is_its_newest_block_without_another_question() -> None:
    """From a node that is in; one that is not above what is known, or lacks what others have, only rings."""

    async def scenario() -> None:
        fleet = Fleet(1)
        (node,), head = fleet.nodes, fleet.network.head
        node.hear(wire_block(200))
        assert fleet.network.head.latest is None, "it has not named its chain yet"
        await fleet.poll()
        fleet.clear()
        known = head.latest
        assert known is not None
        async with asyncio.TaskGroup() as tasks:
            polling = tasks.create_task(head.run(3_600.0), name="test:head")
            await asyncio.sleep(1)
            fleet.clear()
            waiting = tasks.create_task(head.wait_change(known, 5), name="test:wait")
            await asyncio.sleep(0)
            node.hear(wire_block(known.number + 1))
            block = await waiting
            assert block is not None
            assert (block.number, block.parent_hash) == (known.number + 1, wire_block(known.number + 1)["parentHash"])
            await asyncio.sleep(1)
            assert not node.trips
            lacking: list[JsonValue] = [
                wire_block(known.number),
                wire_block(known.number + 2) | {"baseFeePerGas": None},
                wire_block(known.number + 2) | {"parentHash": None},
                {"number": "nonsense"},
                None,
            ]
            for asked, heard in enumerate(lacking):
                node.hear(heard)
                await asyncio.sleep(1)
                assert len(node.trips) == asked + 1, heard
            polling.cancel()

    run_async(scenario(), loop_factory=VirtualTimeLoop)


def test_announced_header_is_taken_and_polled_too_where_nodes_are_compared() -> None:
    """Health goes by polls."""

    async def scenario() -> None:
        fleet = Fleet(2)
        async with asyncio.TaskGroup() as tasks:
            polling = tasks.create_task(fleet.network.head.run(3_600.0), name="test:head")
            await asyncio.sleep(1)
            fleet.clear()
            fleet.nodes[0].height = 101
            fleet.nodes[0].hear(wire_block(101))
            assert fleet.network.head.latest is not None
            assert fleet.network.head.latest.number == 101
            await asyncio.sleep(1)
            assert len(fleet.nodes[0].trips) == 1
            polling.cancel()

    run_async(scenario(), loop_factory=VirtualTimeLoop)


def test_node_that_rings_without_end_is_polled_at_a_bounded_rate() -> None:
    """At most fifty times a second."""

    async def scenario() -> None:
        fleet = Fleet(1)
        async with asyncio.TaskGroup() as tasks:
            polling = tasks.create_task(fleet.network.head.run(60.0), name="test:head")
            for _ in range(1_000):
                fleet.nodes[0].ring()
                await asyncio.sleep(0.001)
            polling.cancel()
        assert len(fleet.nodes[0].trips) <= 60

    run_async(scenario(), loop_factory=VirtualTimeLoop)


# --- to all, and past all --------------------------------------------------------------------------------------------


def test_broadcast_goes_to_all_nodes_and_the_first_answer_is_not_held_up() -> None:
    """Whoever leaves the loop leaves the others on their way."""

    async def scenario() -> None:
        fleet = Fleet(3)
        await fleet.poll()
        for node in fleet.nodes:
            node.results["eth_sendRawTransaction"] = HASH
        fleet.nodes[0].held = released = asyncio.Event()
        fleet.nodes[1].is_down = True
        fleet.clear()
        heard = []
        async for name, answer in await fleet.network.broadcast([b"\x01\x02"]):
            heard.append((name, answer))
            if answer == [HASH]:
                break
        assert heard[-1] == ("http://c", [HASH])
        assert ("eth_sendRawTransaction", ["0x0102"]) in fleet.nodes[2].requests
        released.set()
        await until(lambda: ("eth_sendRawTransaction", ["0x0102"]) in fleet.nodes[0].requests)
        await fleet.network.close()
        assert all(node.is_closed for node in (*fleet.nodes, fleet.private)) is (fleet.network.private is not None)

    run_async(scenario())


def test_asking_each_gives_every_answer_and_every_error() -> None:
    """A node that was out for silence is left alone while others answer."""

    async def scenario() -> None:
        fleet = Fleet(4)
        await fleet.poll()
        fleet.nodes[0].is_down = True
        for _ in range(3):
            await fleet.poll(0)
        fleet.nodes[1].is_down = True
        fleet.nodes[2].results["eth_x"] = 1
        fleet.nodes[3].results["eth_x"] = RpcRefused(-32000, "no")
        found = {name: said async for name, said in await fleet.network.rpc.ask_each([("eth_x", [])])}
        assert set(found) == {"http://b", "http://c", "http://d"}
        assert isinstance(found["http://b"], RpcUnavailable)
        assert found["http://c"] == [1]
        said = found["http://d"]
        assert isinstance(said, list)
        (refused,) = said
        assert isinstance(refused, RpcRefused)

    run_async(scenario())


def test_closing_ends_a_broadcast_for_those_who_listen() -> None:
    """With an error, not for ever."""

    async def scenario() -> None:
        fleet = Fleet(1)
        fleet.nodes[0].held = asyncio.Event()
        answers = await fleet.network.broadcast([b"\x01"])
        await fleet.network.close()
        ((_, answer),) = [each async for each in answers]
        assert isinstance(answer, RpcUnavailable)

    run_async(scenario())


@pytest.mark.parametrize(
    "config, sent",
    [
        ({}, ("eth_sendRawTransaction", ["0x0102"])),
        (
            {"private_method": "eth_sendPrivateTransaction", "private_blocks": 10},
            ("eth_sendPrivateTransaction", [{"tx": "0x0102", "maxBlockNumber": hex(110)}]),
        ),
    ],
)
def test_private_transaction_goes_to_the_private_endpoint_alone(config: dict[str, object], sent: object) -> None:
    """By either method; a failure is raised, and nothing falls back."""

    async def scenario() -> None:
        fleet = Fleet(1, private_rpc="http://private", **config)
        fleet.private.results = {"eth_sendRawTransaction": HASH, "eth_sendPrivateTransaction": HASH}
        assert await fleet.network.send_privately(b"\x01\x02") == HASH
        assert fleet.private.requests == [sent]
        fleet.private.is_down = True
        with pytest.raises(RpcUnavailable):
            await fleet.network.send_privately(b"\x01\x02")
        assert fleet.trips == [[["eth_chainId", "eth_getBlockByNumber"]]]
        await fleet.network.close()
        assert fleet.private.is_closed

    run_async(scenario())


def test_without_a_private_endpoint_nothing_is_sent() -> None:
    """Not even publicly."""

    async def scenario() -> None:
        fleet = Fleet(1)
        with pytest.raises(NoPrivateLane, match=r"\[chains.x\] has no private_rpc"):
            await fleet.network.send_privately(b"\x01")
        assert fleet.trips == [[]]

    run_async(scenario())

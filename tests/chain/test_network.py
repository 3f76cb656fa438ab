"""Asking at the newest block: in one round trip when we know it, and never an answer of another block."""

from collections.abc import Callable, Sequence
from typing import Literal

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from runnerd.chain.errors import RpcRefused
from runnerd.chain.json_values import JsonParam, JsonValue
from runnerd.chain.jsonrpc import Request
from runnerd.chain.rpc import NodeBatches
from runnerd.chain.types import Block
from runnerd.config.model import ChainConfig
from runnerd.executor.intent import Rules
from runnerd.knobs import Knob, Turned
from runnerd.network import BLOCK_TRIES, open_network
from tests.chain.fake_node import BLOCK, FakeNode, wire_block
from tests.support.aio import run_async
from tests.support.virtual_time import EPOCH


class CountingNode(FakeNode):
    """Counts round trips: a batch is one."""

    def __init__(self, answer: Callable[[str, Sequence[JsonParam]], JsonValue | RpcRefused]) -> None:
        super().__init__(answer)
        self.round_trips = 0

    async def call(self, method: str, params: Sequence[JsonParam], *, timeout_s: float | None = None) -> JsonValue:
        self.round_trips += 1
        return await super().call(method, params, timeout_s=timeout_s)

    async def batch(
        self, requests: Sequence[Request], *, timeout_s: float | None = None
    ) -> list[JsonValue | RpcRefused]:
        self.round_trips += 1
        return await super().batch(requests, timeout_s=timeout_s)


class Chain:
    """A node at `height` that serves states of `served` only (None: of any block)."""

    def __init__(self) -> None:
        self.height = 1
        self.served: int | None = None
        self.node = CountingNode(self.answer)
        config = ChainConfig(id=1, rpc="http://127.0.0.1:1")
        self.network = open_network("x", config, connect=lambda _: self.node)

    def answer(self, method: str, params: Sequence[JsonParam]) -> JsonValue | RpcRefused:
        if method == "eth_chainId":
            return "0x1"
        if method == "eth_getBlockByNumber":
            return wire_block(self.height)
        if self.served is not None and params[0] != self.served:
            return RpcRefused(-32000, "header not found", method=method)
        return str(params[0])

    async def ask(self, node: NodeBatches, block: Block) -> tuple[int, JsonValue]:
        (answer,) = await node.batch([("eth_call", [block.number])])
        if isinstance(answer, RpcRefused):
            raise answer
        return block.number, answer

    @property
    def asked(self) -> list[str]:
        """The methods since the last look."""
        methods = [method for method, _ in self.node.requests]
        self.node.requests.clear()
        return methods


@given(st.integers(-1, 1 << 70), st.integers(0, 1 << 70))
@example(cap=(1 << 63) - 1, tip=0)
@example(cap=1 << 63, tip=0)
@example(cap=0, tip=0)
def test_every_fee_cap_that_the_configuration_takes_makes_a_network(cap: int, tip: int) -> None:
    """A value that only the daemon refuses would end it without the name of its key."""
    tables = {"id": 1, "rpc": "http://127.0.0.1:1", "max_fee_per_gas_wei": cap, "min_priority_fee_wei": min(tip, cap)}
    try:
        config = msgspec.convert(tables, ChainConfig)
    except msgspec.ValidationError:
        assert not 0 < cap < 1 << 63
    else:
        assert open_network("x", config).fees.max_fee_cap_wei == cap


def test_a_knob_that_is_turned_counts_at_once() -> None:
    """For fees and for patience; the rest of the rules is the configuration's."""
    network = Chain().network
    assert network.rules == Rules(confirmations=2, replace_after_blocks=2, is_final_by_tag=False)
    network.knobs.turned[Knob.REPLACE_AFTER_BLOCKS] = Turned(7, "uid:1", EPOCH)
    network.knobs.turned[Knob.MAX_FEE_PER_GAS_WEI] = Turned(10**9, "uid:1", EPOCH)
    assert (network.rules.replace_after_blocks, network.fees.max_fee_cap_wei) == (7, 10**9)


def test_finality_by_tag_is_a_rule() -> None:
    """`finality = "finalized"`."""
    config = ChainConfig(id=1, rpc="http://127.0.0.1:1", confirmations=9, finality="finalized")
    assert open_network("x", config).rules == Rules(confirmations=9, replace_after_blocks=2, is_final_by_tag=True)


@pytest.mark.parametrize(
    "market, base_fee_wei, expected",
    [("auto", 7, False), ("auto", None, True), ("legacy", 7, True), ("eip1559", None, False)],
)
def test_fee_market_is_read_off_the_block_unless_it_is_configured(
    market: Literal["auto", "eip1559", "legacy"], base_fee_wei: int | None, expected: bool
) -> None:
    """Some chains have a base fee and take no transaction of type 2."""
    network = open_network("x", ChainConfig(id=1, rpc="http://127.0.0.1:1", fee_market=market))
    assert network.is_legacy(msgspec.structs.replace(BLOCK, base_fee_wei=base_fee_wei)) is expected


def test_without_a_known_block_the_newest_is_asked_first() -> None:
    """The first question of all, and in the same round trip the node names its chain."""

    async def scenario() -> None:
        chain = Chain()
        assert await chain.network.at_newest_block(chain.ask) == (1, "1")
        assert chain.asked == ["eth_chainId", "eth_getBlockByNumber", "eth_call"]
        assert chain.node.round_trips == 2

    run_async(scenario())


def test_a_known_block_is_confirmed_in_the_same_round_trip() -> None:
    """The head says which block, the batch says whether it still is the newest."""

    async def scenario() -> None:
        chain = Chain()
        await chain.network.head.fetch()
        chain.node.requests.clear()
        chain.node.round_trips = 0
        assert await chain.network.at_newest_block(chain.ask) == (1, "1")
        assert chain.asked == ["eth_getBlockByNumber", "eth_call"]
        assert chain.node.round_trips == 1

    run_async(scenario())


def test_an_answer_of_an_older_block_is_thrown_away() -> None:
    """A block came since the last poll: what is returned was asked at it."""

    async def scenario() -> None:
        chain = Chain()
        await chain.network.head.fetch()
        chain.height = 2
        assert await chain.network.at_newest_block(chain.ask) == (2, "2")
        assert chain.network.head.latest is not None
        assert chain.network.head.latest.number == 2

    run_async(scenario())


def test_a_fresh_block_needs_no_confirmation() -> None:
    """Within `fresh_s` of the last answer."""

    async def scenario() -> None:
        chain = Chain()
        await chain.network.head.fetch()
        chain.node.requests.clear()
        chain.height = 2
        assert await chain.network.at_newest_block(chain.ask, fresh_s=60) == (1, "1")
        assert chain.asked == ["eth_call"]

    run_async(scenario())


@pytest.mark.parametrize("fresh_s", [0.0, 60.0])
def test_a_block_that_the_node_has_pruned_is_asked_again_at_the_newest(fresh_s: float) -> None:
    """Refused at the one we knew, served at the one that is."""

    async def scenario() -> None:
        chain = Chain()
        await chain.network.head.fetch()
        chain.height = chain.served = 2
        assert await chain.network.at_newest_block(chain.ask, fresh_s) == (2, "2")

    run_async(scenario())


def test_a_node_that_refuses_always_is_believed_in_the_end() -> None:
    """The refusal is raised, after a bounded number of tries."""

    async def scenario() -> None:
        chain = Chain()
        await chain.network.head.fetch()
        chain.node.requests.clear()
        chain.served = 99
        with pytest.raises(RpcRefused, match="header not found"):
            await chain.network.at_newest_block(chain.ask)
        assert chain.asked.count("eth_call") == BLOCK_TRIES + 1

    run_async(scenario())


def test_a_late_answer_does_not_move_the_head_back() -> None:
    """Two questions at once, the older answer comes last: it is used for its own question only."""

    async def scenario() -> None:
        chain = Chain()
        known = await chain.network.head.fetch()
        chain.height = 3
        newest = await chain.network.head.fetch()
        late = chain.network.head.note(wire_block(2), known)
        assert late.number == 2
        assert chain.network.head.latest is newest

    run_async(scenario())

"""Who used a nonce: found on a real node among many blocks, whatever is before, after and beside it."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import pytest
from eth_account import Account
from eth_utils.address import to_checksum_address

from runnerd.chain.errors import RpcMalformed, RpcRefused
from runnerd.chain.json_values import JsonParam, JsonValue
from runnerd.chain.pool.agreement import comparable
from runnerd.chain.rpc import Rpc
from runnerd.chain.search import BY_HASH, FoundTransaction, find_transaction, identity, read_transaction
from tests.chain.fake_node import FakeNode
from tests.support.anvil import Anvil, start_anvil

TARGET = "0x" + "ab" * 20
INIT_CODE = "0x600a600c600039600a6000f3602a60005260206000f3"
QUIET = 40
"""Empty blocks before and after what is looked for."""


@dataclass(frozen=True, slots=True)
class History:
    """A chain on which `sender` has used six nonces among a neighbour's; `head` is its last block."""

    anvil: Anvil
    sender: str
    hashes: tuple[str, ...]
    """By nonce: 0 alone in a block; 1, 2, 3 in one block; 4 creates a contract; 5 carries value and no data."""
    head: int


def mine(anvil: Anvil, *transactions: dict[str, str]) -> list[str]:
    """One block with these, in this order of arrival."""
    hashes = [str(anvil.rpc("eth_sendTransaction", {"gas": "0x30d40", **each})) for each in transactions]
    anvil.rpc("evm_mine")
    return hashes


@pytest.fixture(scope="module")
def history() -> Iterator[History]:
    with start_anvil(prune_history=False, extra_args=("--no-mining",)) as anvil:
        sender, neighbour = anvil.accounts[:2]
        noise = {"from": neighbour, "to": TARGET}
        call = {"from": sender, "to": TARGET}
        anvil.rpc("anvil_mine", hex(QUIET))
        hashes = mine(anvil, noise, {**call, "data": "0xAABBCCDD00"})[1:]
        mine(anvil, noise)
        several = [{**call, "data": f"0x0000000{n}"} for n in (1, 2, 3)]
        _, *three = mine(anvil, noise, *several, noise)[:-1]
        hashes += three
        hashes += mine(anvil, {"from": sender, "data": INIT_CODE})
        hashes += mine(anvil, {**call, "value": hex(1 << 62)}, noise)[:1]
        anvil.rpc("anvil_mine", hex(QUIET))
        head = int(anvil.rpc("eth_blockNumber"), 16)
        yield History(anvil, to_checksum_address(sender), tuple(hashes), head)


def find(history: History, nonce: int, head: int | None = None, sender: str = "") -> FoundTransaction | None:
    """As the auditor asks."""

    async def ask() -> FoundTransaction | None:
        async with Rpc(history.anvil.url) as rpc:
            return await find_transaction(rpc, sender or history.sender, nonce, history.head if head is None else head)

    return asyncio.run(ask())


@pytest.mark.integration
@pytest.mark.parametrize("nonce", range(6))
def test_each_nonce_is_found_where_it_was_used(history: History, nonce: int) -> None:
    """The node itself says the same of that hash."""
    found = find(history, nonce)
    assert found is not None
    known = history.anvil.rpc("eth_getTransactionByHash", history.hashes[nonce])
    assert (found.hash, found.nonce) == (history.hashes[nonce], nonce)
    assert (found.block, found.block_hash) == (int(known["blockNumber"], 16), known["blockHash"])
    assert found.value_wei == int(known["value"], 16)


@pytest.mark.integration
def test_found_transaction_says_what_it_did(history: History) -> None:
    """Target and selector for the alert, in the form in which runnerd writes them everywhere."""
    target = to_checksum_address(TARGET)
    seen = [(each.target, each.selector, each.value_wei) for nonce in range(6) if (each := find(history, nonce))]
    assert seen == [
        (target, "0xaabbccdd", 0),
        (target, "0x00000001", 0),
        (target, "0x00000002", 0),
        (target, "0x00000003", 0),
        (None, None, 0),  # a created contract: what it carries is no call
        (target, None, 1 << 62),
    ]


@pytest.mark.integration
def test_several_in_one_block_are_told_apart(history: History) -> None:
    """They share the block, and the account's nonce jumps by three."""
    blocks = {each.block_hash for nonce in (1, 2, 3) if (each := find(history, nonce))}
    assert len(blocks) == 1


@pytest.mark.integration
def test_nonce_that_is_not_used_yet_is_not_found(history: History) -> None:
    """At the head, or at an earlier block than the one that uses it; the block itself is enough."""
    assert find(history, 6) is None
    first = find(history, 0)
    assert first is not None
    assert find(history, 0, head=first.block - 1) is None
    assert find(history, 0, head=first.block) == first
    assert find(history, 0, head=0) is None
    assert find(history, 0, sender=to_checksum_address("0x" + "77" * 20)) is None


@pytest.mark.integration
def test_nonce_that_was_there_from_the_beginning_belongs_to_no_transaction(history: History) -> None:
    """A genesis may give an account a nonce; so does `anvil_setNonce`, in the middle of a chain."""
    anvil, ours = history.anvil, anvil_account(history, 3)
    snapshot = anvil.rpc("evm_snapshot")
    anvil.rpc("anvil_setNonce", ours, "0x5")
    anvil.rpc("evm_mine")
    try:
        assert find(history, 2, head=history.head + 1, sender=to_checksum_address(ours)) is None
    finally:
        anvil.rpc("evm_revert", snapshot)


def anvil_account(history: History, number: int) -> str:
    """As anvil writes it."""
    return history.anvil.accounts[number]


@pytest.mark.integration
def test_the_search_costs_few_requests(history: History) -> None:
    """Twice the logarithm of the distance: an alert must not be a flood."""

    class Counting(Rpc):
        asked = 0

        async def call(self, method: str, params: Sequence[JsonParam], *, timeout_s: float | None = None) -> JsonValue:
            self.asked += 1
            return await super().call(method, params, timeout_s=timeout_s)

    async def ask() -> int:
        async with Counting(history.anvil.url) as rpc:
            assert await find_transaction(rpc, history.sender, 0, history.head) is not None
            return rpc.asked

    assert asyncio.run(ask()) <= 2 * history.head.bit_length() + 2


# --- what a real node does not say -----------------------------------------------------------------------------------

SENDER = to_checksum_address(Account.from_key(b"\1" * 32).address)


def wire(**changes: JsonValue) -> dict[str, JsonValue]:
    """A transaction as a node writes it."""
    usual: dict[str, JsonValue] = {
        "hash": "0x" + "1A" * 32, "nonce": "0x3", "from": SENDER.lower(), "to": TARGET, "input": "0x", "value": "0x0",
    }  # fmt: skip
    return {**usual, **changes}


def scripted(*transactions: JsonValue, pruned_below: int = 0, used_from: int = 7) -> FakeNode:
    """Nonce 3 is used from block `used_from` on; states before `pruned_below` are gone."""

    def answer(method: str, params: Sequence[JsonParam]) -> JsonValue | RpcRefused:
        number = int(str(params[1] if method == "eth_getTransactionCount" else params[0]), 16)
        if method == "eth_getBlockByNumber":
            return {"hash": "0x" + "BB" * 32, "transactions": list(transactions)} if number == used_from else None
        if number < pruned_below:
            return RpcRefused(-32000, "missing trie node")
        return hex(4 if number >= used_from else 3)

    return FakeNode(answer)


def ask_scripted(node: FakeNode, head: int = 100) -> FoundTransaction | None:
    return asyncio.run(find_transaction(node, SENDER, 3, head))


def test_hashes_are_in_lower_case_and_data_may_be_odd() -> None:
    """Whatever a node writes."""
    found = ask_scripted(scripted("0x12", None, wire(nonce="0x2"), wire(input="0xabc", to="nowhere")))
    assert found == FoundTransaction(
        hash="0x" + "1a" * 32,
        sender=SENDER,
        nonce=3,
        block=7,
        block_hash="0x" + "bb" * 32,
        target=None,
        selector=None,
        value_wei=0,
    )


def test_a_transaction_by_its_hash_is_read_when_it_is_mined() -> None:
    """The same as in its block; one that waits is none, and one without a sender is nobody's."""
    mined = wire(blockHash="0x" + "BB" * 32, blockNumber="0x7")
    found = read_transaction(mined)
    assert found is not None
    assert (found.sender, found.nonce, found.block, found.block_hash) == (SENDER, 3, 7, "0x" + "bb" * 32)
    assert read_transaction(wire(blockHash=None, blockNumber=None)) is None
    assert read_transaction(None) is None
    assert read_transaction({**mined, "from": "nobody"}) == replace(found, sender="")
    with pytest.raises(RpcMalformed):
        read_transaction({**mined, "blockNumber": "seven"})


@pytest.mark.parametrize("changed", ["hash", "from", "nonce", "blockHash", "blockNumber"])
def test_nodes_agree_on_a_transaction_by_whose_and_where_it_is(changed: str) -> None:
    """Letter case and what some nodes add do not matter; another sender of the same hash does."""
    mined = wire(blockHash="0x" + "BB" * 32, blockNumber="0x7")
    said = identity(BY_HASH, mined)
    assert identity(BY_HASH, {**mined, "from": str(mined["from"]).upper(), "yParity": "0x1"}) == said
    assert identity(BY_HASH, {**mined, changed: "0x" + "0" * 40}) != said
    assert identity(BY_HASH, None) != said
    assert identity("eth_chainId", "0x1") == comparable("eth_chainId", "0x1")


@pytest.mark.parametrize("transactions", [(), (wire(**{"from": TARGET}),), (wire(nonce="0x4"),)])
def test_block_without_the_transaction_gives_none(transactions: tuple[JsonValue, ...]) -> None:
    """An EIP-7702 authorization uses a nonce and is none; or a reorg came between two answers."""
    assert ask_scripted(scripted(*transactions)) is None


def test_pruned_node_finds_what_it_has_the_state_for() -> None:
    """And says nothing of what is older: it is no error of ours that would be tried for ever."""
    assert ask_scripted(scripted(wire(), pruned_below=0)) is not None
    assert ask_scripted(scripted(wire(), pruned_below=50)) is None
    assert ask_scripted(scripted(wire(), used_from=99, pruned_below=90)) is not None


def test_node_that_cannot_say_anything_is_an_error() -> None:
    """Not of this block: another node may."""
    with pytest.raises(RpcRefused, match="missing trie node"):
        ask_scripted(scripted(pruned_below=101))


@pytest.mark.parametrize("name", ["hash", "nonce", "value"])
def test_malformed_transaction_is_an_error_that_names_the_method(name: str) -> None:
    """It would be stored and shown."""
    with pytest.raises(RpcMalformed, match="eth_getBlockByNumber"):
        ask_scripted(scripted(wire(**{name: "0xyz"})))

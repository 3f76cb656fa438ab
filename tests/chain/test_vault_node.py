"""The whole way on a real node and the reference vault: read, simulate, price, encode, sign, send, once."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from runnerd.chain.abi import parse_error, parse_function
from runnerd.chain.errors import ReadFailed, RpcRefused
from runnerd.chain.fees import Fees, FeeSettings, bump
from runnerd.chain.head import Head
from runnerd.chain.reads import ReadRequest, fetch_reads
from runnerd.chain.rpc import Rpc
from runnerd.chain.simulate import CallMessage, Reverted, Simulated
from runnerd.chain.types import decode_hash, decode_quantity
from runnerd.wallets.keystore import KeystoreSigner, create_keystore, unlock_keystore
from runnerd.wallets.passphrase import Passphrase
from runnerd.wallets.transaction import SignedTransaction, UnsignedTransaction
from tests.chain.asking import fetch_market, simulate
from tests.chain.conftest import Node
from tests.chain.venue import ETHER, SPOT, Venue, open_venue

pytestmark = pytest.mark.integration

SETTINGS = FeeSettings(max_fee_cap_wei=10**12)
INTENT = b"\x77" * 32
VIEW_COUNT = parse_function("positionCount() view returns (uint256)")
VIEW_POSITION = parse_function(
    "position(uint256 id) view returns ((address holder, uint256 a, uint256 b, uint256 stake))"
)
VIEW_EXECUTED = parse_function("executed(bytes32 intentId) view returns (bool)")


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> KeystoreSigner:
    path: Path = tmp_path_factory.mktemp("wallet") / "keystore.json"
    create_keystore(path, Passphrase(b"test"), kdf_work=2)
    return unlock_keystore(path, Passphrase(b"test"))


@pytest.fixture
def venue(node: Node, signer: KeystoreSigner) -> Venue:
    return open_venue(node.anvil, signer)


def on_node(node: Node, scenario: Callable[[Rpc], Awaitable[None]]) -> None:
    async def run() -> None:
        async with Rpc(node.urls["ipc"]) as rpc:
            await scenario(rpc)

    asyncio.run(run())


def reads_of(venue: Venue) -> list[ReadRequest]:
    return [
        ReadRequest(name="spot", to=venue.market, function=parse_function("spot() view returns (uint256)")),
        ReadRequest(name="count", to=venue.market, function=VIEW_COUNT),
    ]


async def build(rpc: Rpc, venue: Venue, data: bytes, gas_limit: int, fees: Fees) -> UnsignedTransaction:
    nonce = await rpc.call("eth_getTransactionCount", [venue.operator, "latest"])
    return UnsignedTransaction(
        chain_id=31_337,
        nonce=decode_quantity(nonce, "eth_getTransactionCount"),
        to=venue.vault.address,
        value_wei=0,
        data=data,
        gas_limit=gas_limit,
        max_fee_per_gas_wei=fees.max_fee_per_gas_wei,
        max_priority_fee_per_gas_wei=fees.max_priority_fee_per_gas_wei,
    )


async def send(rpc: Rpc, signed: SignedTransaction) -> str:
    return decode_hash(await rpc.call("eth_sendRawTransaction", ["0x" + signed.raw.hex()]), "eth_sendRawTransaction")


def message(venue: Venue, data: bytes) -> CallMessage:
    return CallMessage(sender=venue.operator, to=venue.vault.address, data=data)


def test_a_batch_takes_effect_as_one_transaction(node: Node, venue: Venue, signer: KeystoreSigner) -> None:
    """Two mints, one signature: simulated, priced, signed and accepted under the hash that we computed ourselves."""

    async def scenario(rpc: Rpc) -> None:
        block = await Head(rpc).fetch()
        data = venue.vault.build([venue.mint(), venue.mint(SPOT + 1, value_wei=20)], INTENT).data
        simulated = await simulate(rpc, block, message(venue, data))
        assert isinstance(simulated, Simulated)
        transaction = await build(rpc, venue, data, simulated.gas_limit, (await fetch_market(rpc, SETTINGS)).suggested)
        signed = await signer.sign(transaction)
        assert await send(rpc, signed) == signed.hash
        receipt = venue.receipt(signed.hash)
        assert receipt.status == 1
        assert receipt.gas_used <= simulated.gas_limit
        head = await Head(rpc).fetch()
        position = ReadRequest(name="position", to=venue.market, function=VIEW_POSITION, args={"id": 2})
        values = await fetch_reads(rpc, head, [*reads_of(venue), position])
        assert values == {"spot": SPOT, "count": 2, "position": [venue.vault.address, SPOT + 1, 2**256 - 1, 20]}
        # The block before does not know of it: reads are those of the block that is asked for.
        assert (await fetch_reads(rpc, block, reads_of(venue)))["count"] == 0

    on_node(node, scenario)


def test_an_intent_takes_effect_once(node: Node, venue: Venue, signer: KeystoreSigner) -> None:
    """The vault refuses the second execution of an id, in the simulation and on chain: one effect per decision."""

    async def scenario(rpc: Rpc) -> None:
        data = venue.vault.build([venue.mint()], INTENT).data
        fees = (await fetch_market(rpc, SETTINGS)).suggested
        for expected in (1, 0):
            signed = await signer.sign(await build(rpc, venue, data, 500_000, fees))
            assert await send(rpc, signed) == signed.hash
            assert venue.receipt(signed.hash).status == expected
        block = await Head(rpc).fetch()
        refused = await simulate(rpc, block, message(venue, data))
        assert isinstance(refused, Reverted)
        assert refused.reason == "vault: intent already executed"
        executed = ReadRequest(
            name="executed", to=venue.vault.address, function=VIEW_EXECUTED, args={"intentId": "0x" + INTENT.hex()}
        )
        assert await fetch_reads(rpc, block, [*reads_of(venue), executed]) == {
            "spot": SPOT,
            "count": 1,
            "executed": True,
        }

    on_node(node, scenario)


@pytest.mark.parametrize(
    "change, reason",
    [
        ({"strike": 0}, "market: strike is zero"),
        ({"value_wei": 0}, "market: stake is zero"),
        ({"value_wei": 2 * ETHER}, "vault: per-transaction cap"),
    ],
)
def test_one_failing_call_reverts_the_batch_with_its_reason(
    node: Node, venue: Venue, change: dict[str, int], reason: str
) -> None:
    """The reason of the innermost contract reaches the operator; the good call before it has no effect."""

    async def scenario(rpc: Rpc) -> None:
        data = venue.vault.build([venue.mint(), venue.mint(**change)], INTENT).data
        block = await Head(rpc).fetch()
        refused = await simulate(rpc, block, message(venue, data))
        assert isinstance(refused, Reverted)
        assert refused.reason == reason
        assert refused.data is not None

    on_node(node, scenario)


def test_only_the_operator_may_execute(node: Node, venue: Venue) -> None:
    """At start runnerd compares this view with its own address."""

    async def scenario(rpc: Rpc) -> None:
        assert venue.vault.find_problem(await rpc.batch(venue.vault.build_admission())) is None
        data = venue.vault.build([venue.mint()], INTENT).data
        stranger = CallMessage(sender=venue.owner, to=venue.vault.address, data=data)
        refused = await simulate(rpc, await Head(rpc).fetch(), stranger)
        assert isinstance(refused, Reverted)
        assert refused.reason == "vault: caller is not the operator"

    on_node(node, scenario)


def test_failed_reads_are_named_and_decoded(node: Node, venue: Venue) -> None:
    """A revert, an address without a contract and a wrong fragment, told apart by name."""

    async def scenario(rpc: Rpc) -> None:
        block = await Head(rpc).fetch()
        nowhere = ReadRequest(name="nowhere", to="0x" + "99" * 20, function=VIEW_COUNT)
        unknown = ReadRequest(name="unknown", to=venue.market, function=VIEW_POSITION, args={"id": 99})
        absent = ReadRequest(name="absent", to=venue.market, function=parse_function("nope() view returns (uint256)"))
        with pytest.raises(ReadFailed) as failed:
            await fetch_reads(rpc, block, [*reads_of(venue), nowhere, unknown, absent])
        reasons = {failure.name: failure.reason for failure in failed.value.failures}
        assert reasons == {
            "nowhere": "positionCount returned nothing: no contract at this address, or not this function",
            "unknown": "reverted: market: unknown position",
            "absent": "reverted: reverted without a reason",
        }

    on_node(node, scenario)


def test_declared_custom_errors_are_named(node: Node, venue: Venue) -> None:
    """A contract that reverts with its own calldata stands for one with custom errors."""
    stale = parse_error("Stale(uint256 age)")
    echo = "0x" + "55" * 20

    async def scenario(rpc: Rpc) -> None:
        await rpc.call("anvil_setCode", [echo, "0x366000600037366000fd"])
        read = ReadRequest(
            name="price", to=echo, function=parse_function("Stale(uint256 age) view"), args={"age": 9}, errors=(stale,)
        )
        with pytest.raises(ReadFailed, match=r"read price: reverted: Stale\(age=9\)"):
            await fetch_reads(rpc, await Head(rpc).fetch(), [read])

    on_node(node, scenario)


def test_a_block_that_a_reorg_removed_is_refused(node: Node, venue: Venue) -> None:
    """Reads and simulations are for a canonical block, or for none."""

    async def scenario(rpc: Rpc) -> None:
        await rpc.call("evm_mine", [])
        orphan = await Head(rpc).fetch()
        await rpc.call("anvil_reorg", [1, []])
        assert (await Head(rpc).fetch()).hash != orphan.hash
        with pytest.raises(RpcRefused):
            await fetch_reads(rpc, orphan, reads_of(venue))
        with pytest.raises(RpcRefused):
            await simulate(rpc, orphan, message(venue, b""))

    on_node(node, scenario)


def test_a_bump_replaces_a_pending_transaction(node: Node, venue: Venue, signer: KeystoreSigner) -> None:
    """The node's own replacement rule accepts it; the same fees are refused as underpriced."""

    async def scenario(rpc: Rpc) -> None:
        await rpc.call("evm_setAutomine", [False])
        try:
            fees = (await fetch_market(rpc, SETTINGS)).suggested
            data = venue.vault.build([venue.mint()], INTENT).data
            first = await build(rpc, venue, data, 500_000, fees)
            stored = await signer.sign(first)
            await send(rpc, stored)
            other = venue.vault.build([venue.mint(SPOT + 5)], INTENT).data
            with pytest.raises(RpcRefused):
                await send(rpc, await signer.sign(await build(rpc, venue, other, 500_000, fees)))
            raised = bump(fees, await fetch_market(rpc, SETTINGS), SETTINGS.max_fee_cap_wei)
            assert isinstance(raised, Fees)
            replacement = await signer.sign(await build(rpc, venue, other, 500_000, raised))
            await send(rpc, replacement)
            await rpc.call("evm_mine", [])
            assert venue.receipt(replacement.hash).status == 1
            assert await rpc.call("eth_getTransactionReceipt", [stored.hash]) is None
        finally:
            await rpc.call("evm_setAutomine", [True])

    on_node(node, scenario)


def test_the_base_fee_of_the_next_block_drives_the_suggestion(node: Node, venue: Venue) -> None:
    """eth_feeHistory's last base fee is not yet in any block."""

    async def scenario(rpc: Rpc) -> None:
        await rpc.call("anvil_setNextBlockBaseFeePerGas", [hex(7 * 10**9)])
        await rpc.call("evm_mine", [])
        block = await Head(rpc).fetch()
        assert block.base_fee_wei == 7 * 10**9
        fees = (await fetch_market(rpc, SETTINGS)).suggested
        # An empty block lowers the next base fee by an eighth (EIP-1559).
        expected = 2 * (7 * 10**9 * 7 // 8) + fees.max_priority_fee_per_gas_wei
        assert fees.max_fee_per_gas_wei == expected

    on_node(node, scenario)

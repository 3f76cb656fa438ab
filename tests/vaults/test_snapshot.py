"""A call's context without reads: the block of the last poll, and a node is asked only if that is too old."""

from collections.abc import Sequence

from protocol.messages import VaultRef
from protocol.triggers import Read
from runnerd.chain.json_values import JsonParam, JsonValue
from runnerd.config.model import ChainConfig, VaultConfig
from runnerd.network import open_network
from runnerd.vaults.catalogue import build_catalogue
from runnerd.vaults.snapshot import VaultSnapshots
from tests.chain.fake_node import FakeNode, wire_block
from tests.support.aio import run_async

VAULT = VaultRef(name="main", address="0x" + "11" * 20, chain_id=1, actions=())
POLL_S = 60.0


def test_a_block_of_the_last_poll_is_at_hand_until_it_is_old() -> None:
    """The same snapshot for all calls of that block; another one as soon as a poll has seen another block."""
    height = 7

    def answer(method: str, params: Sequence[JsonParam]) -> JsonValue:
        return "0x1" if method == "eth_chainId" else wire_block(height)

    async def scenario() -> None:
        nonlocal height
        config = ChainConfig(id=1, rpc="http://127.0.0.1:1", poll_s=POLL_S)
        network = open_network("x", config, connect=lambda _: FakeNode(answer))
        vault = VaultConfig(chain="x", address=VAULT.address, wallet="w")
        snapshots = VaultSnapshots({"main": (VAULT, build_catalogue("main", vault), network)})
        assert snapshots.at_hand("main", ()) is None  # nobody has polled yet

        taken = await snapshots.take("main", ())
        found = snapshots.at_hand("main", ())
        assert found == taken
        assert found is snapshots.at_hand("main", ())
        assert snapshots.at_hand("main", (Read(name="spot", args={}),)) is None  # reads are of now

        height = 8
        await network.head.fetch()
        newer = snapshots.at_hand("main", ())
        assert newer is not None
        assert (taken.block.number, newer.block.number) == (7, 8)

        head = network.rpc.best.head
        head._fetched_at -= 2 * POLL_S - 1
        assert snapshots.at_hand("main", ()) is newer
        head._fetched_at -= 2
        assert snapshots.at_hand("main", ()) is None

    run_async(scenario())

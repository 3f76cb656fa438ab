"""The node drops, delays and takes back transactions: each decision still has exactly one effect.

A node of its own, which makes a block only when the test says so.
"""

from collections.abc import Iterator

import pytest

from tests.faults.books import check_books
from tests.support.anvil import Anvil, start_anvil
from tests.support.scene import Scene, Stage, mint, puppet, wait_for

pytestmark = pytest.mark.faults

NEVER_S = 86_400
CONFIRMATIONS = 2
REPLACE_AFTER = 3
GWEI = 10**9


@pytest.fixture(scope="module")
def still_node() -> Iterator[Anvil]:
    """An EVM node that mines when it is told to."""
    with start_anvil(block_time_s=NEVER_S, prune_history=False) as anvil:
        yield anvil


@pytest.fixture(scope="module")
def scene(stage: Stage, still_node: Anvil) -> Iterator[Scene]:
    """A daemon on that node."""
    chain = {"confirmations": CONFIRMATIONS, "replace_after_blocks": REPLACE_AFTER, "poll_s": 0.05}
    with stage.scene({"puppet": puppet()}, node=still_node, chain=chain) as scene:
        yield scene


def test_a_transaction_that_the_node_dropped_lands_once(scene: Scene, still_node: Anvil) -> None:
    """A mempool forgets: after some blocks without a receipt the bytes, or a replacement at their nonce, go out."""
    call_id, tx_hash = _send(scene)
    still_node.rpc("anvil_dropTransaction", tx_hash)
    assert still_node.rpc("eth_getTransactionByHash", tx_hash) is None

    run = _mine_until_done(scene, still_node, call_id)

    assert run == "acted"
    assert len(scene.effects_of(call_id)) == 1
    check_books(scene)


def test_a_transaction_below_the_base_fee_is_replaced_and_lands_once(scene: Scene, still_node: Anvil) -> None:
    """The base fee rose beyond what was signed: a replacement at the same nonce, and only one lands."""
    call_id, first = _send(scene)
    for _ in range(REPLACE_AFTER + 1):
        still_node.rpc("anvil_setNextBlockBaseFeePerGas", hex(20 * GWEI))
        _mine(scene, still_node)
    assert still_node.rpc("eth_getTransactionReceipt", first) is None
    wait_for(lambda: len(_attempts(scene, call_id)) > 1, "a replacement")

    assert _mine_until_done(scene, still_node, call_id) == "acted"

    attempts = _attempts(scene, call_id)
    assert len({attempt["nonce"] for attempt in attempts}) == 1
    assert int(str(attempts[-1]["fee"])) > int(str(attempts[0]["fee"]))
    (effect,) = scene.effects_of(call_id)
    assert effect.transaction != first
    check_books(scene)


def test_a_receipt_that_a_reorg_takes_back_becomes_final_elsewhere(scene: Scene, still_node: Anvil) -> None:
    """Included, not final, and gone: it is sent again, included in another block, and only then final."""
    call_id, tx_hash = _send(scene)
    _mine(scene, still_node)
    wait_for(lambda: scene.run(call_id).intent_state == "included", "its inclusion")
    before = still_node.rpc("eth_getTransactionReceipt", tx_hash)

    still_node.rpc("anvil_reorg", 1, [])
    assert still_node.rpc("eth_getTransactionReceipt", tx_hash) is None
    assert scene.run(call_id).outcome is None

    assert _mine_until_done(scene, still_node, call_id) == "acted"
    (effect,) = scene.effects_of(call_id)
    after = still_node.rpc("eth_getTransactionReceipt", effect.transaction)
    assert after["blockHash"] != before["blockHash"]
    (row,) = scene.rows("select * from attempts where call_id = %s and included_block is not null", call_id)
    assert row["included_block_hash"] == after["blockHash"]
    check_books(scene)


def _send(scene: Scene) -> tuple[int, str]:
    """Fire, and wait until the node has the transaction; its call and hash."""
    fired = scene.fire("puppet", wait_s=0, do="act", actions=[mint()])
    wait_for(lambda: scene.run(fired.call_id).intent_state == "sent", "the node's acceptance")
    (attempt,) = _attempts(scene, fired.call_id)
    return fired.call_id, str(attempt["hash"])


def _mine(scene: Scene, node: Anvil) -> None:
    """One block, and wait until runnerd has seen it."""
    node.rpc("evm_mine")
    head = int(node.rpc("eth_blockNumber"), 16)
    scene.daemon.wait_until(lambda status: (status.chains[0].head or 0) >= head)


def _mine_until_done(scene: Scene, node: Anvil, call_id: int) -> str:
    """Block after block until the call has its outcome."""
    for _ in range(30):
        _mine(scene, node)
        outcome = scene.run(call_id).outcome
        if outcome:
            return outcome
    raise AssertionError(f"no outcome after 30 blocks: {scene.run(call_id)}\n{scene.daemon.log_tail()}")


def _attempts(scene: Scene, call_id: int) -> list[dict[str, object]]:
    return scene.rows(
        "select hash, nonce, max_fee_per_gas_wei as fee from attempts where call_id = %s order by signed_at", call_id
    )

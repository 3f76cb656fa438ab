"""`runnerctl adopt`, `cancel` and `fees` against the real daemon: each as an operator types it, with its exit code."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.anvil import Anvil, start_anvil
from tests.support.scene import Scene, Stage, mint, puppet, wait_for

pytestmark = pytest.mark.integration

RUNNERCTL = Path(sys.executable).with_name("runnerctl")
GWEI = 10**9
NOTHING = "0x" + "00" * 20


@pytest.fixture(scope="module")
def own_node() -> Iterator[Anvil]:
    """A node whose blocks these tests hold up, and that finds what is a few blocks old."""
    with start_anvil(block_time_s=0.2, prune_history=False) as anvil:
        yield anvil


@pytest.fixture
def scene(stage: Stage, own_node: Anvil) -> Iterator[Scene]:
    """A daemon that a test may restart."""
    with stage.scene({"puppet": puppet()}, node=own_node) as scene:
        yield scene


def run(scene: Scene, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """runnerctl with this scene's configuration."""
    command = [str(RUNNERCTL), "--config", str(scene.config), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_stranger_pauses_the_vault_until_it_is_adopted(scene: Scene, own_node: Anvil) -> None:
    """The status names the command; after it the vault goes on at the nonce behind the stranger."""
    assert scene.fire("puppet", do="act", actions=[mint()]).outcome == "acted"
    operator = scene.venue.operator
    own_node.rpc("anvil_impersonateAccount", operator)
    stranger = own_node.rpc(
        "eth_sendTransaction",
        {"from": operator, "to": NOTHING, "value": "0x1", "gas": hex(50_000), "maxFeePerGas": hex(500 * GWEI)},
    )
    own_node.rpc("anvil_stopImpersonatingAccount", operator)
    told = f"runnerctl adopt {stranger}"
    scene.daemon.wait_until(lambda status: any(told in problem for problem in status.problems))
    assert scene.fire("puppet", do="act", actions=[mint()]).outcome == "denied"

    wrong = run(scene, "adopt", "0x" + "ee" * 32)
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert f"to adopt: {stranger} on local" in wrong.stderr
    right = run(scene, "adopt", stranger)
    assert (right.returncode, right.stderr) == (0, "")
    assert right.stdout == f"adopted {stranger}, nonce 1 of {operator}; resumed: demo\n"
    assert scene.daemon.status().problems == []
    fired = scene.fire("puppet", do="act", actions=[mint()])
    assert fired.outcome == "acted"
    assert scene.run(fired.call_id).nonce == 2


def test_cancelled_call_does_not_act(scene: Scene, own_node: Anvil) -> None:
    """No block comes, so it is stuck; its no-op is what the next block takes."""
    own_node.rpc("evm_setIntervalMining", 0)
    try:
        fired = scene.fire("puppet", wait_s=0, do="act", actions=[mint()])
        wait_for(lambda: scene.run(fired.call_id).intent_state == "sent", "it is sent")
        done = run(scene, "cancel", str(fired.call_id))
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == f"call {fired.call_id} is being cancelled by a no-op at nonce 0; see runnerctl tx\n"
        wait_for(
            lambda: [tx.kind for tx in scene.transactions() if tx.accepted_at] == ["noop", "batch"], "the no-op is sent"
        )
    finally:
        own_node.rpc("evm_setIntervalMining", 1)
    ended = scene.wait_run(fired.call_id)
    assert ended.outcome == "denied"
    assert (ended.reason or "").startswith("cancelled by uid:")
    assert ended.intent_state == "cancelled"
    assert scene.effects() == []
    again = run(scene, "cancel", str(fired.call_id))
    assert again.returncode == 1
    assert f"call {fired.call_id} has ended already, as denied" in again.stderr
    assert scene.fire("puppet", do="act", actions=[mint()]).outcome == "acted"


def test_turned_fees_count_at_once_and_after_a_restart(scene: Scene) -> None:
    """Shown in the status, until they are reset."""
    assert run(scene, "fees", "local", "--min-priority-fee-wei", str(3 * GWEI)).returncode == 0
    refused = run(scene, "fees", "local", "--replace-after-blocks", "0")
    assert refused.returncode == 1
    assert "replace_after_blocks = 0 is not allowed: 1 to 1000" in refused.stderr
    assert scene.fire("puppet", do="act", actions=[mint()]).outcome == "acted"
    scene.kill()
    scene.start("puppet")
    assert scene.fire("puppet", do="act", actions=[mint()]).outcome == "acted"
    assert [tx.max_priority_fee_wei for tx in scene.transactions()] == [3 * GWEI, 3 * GWEI]
    assert "turned: min_priority_fee_wei = 3000000000" in run(scene, "status").stdout
    reset = run(scene, "fees", "local", "--reset", "--json")
    assert [knob["turned_by"] for knob in json.loads(reset.stdout)["knobs"]] == [None, None, None]
    assert scene.daemon.status().chains[0].knobs == {}

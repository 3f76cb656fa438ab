"""The node answers wrongly, late, or not at all: an unclear answer concludes nothing, and nothing is done twice."""

from collections.abc import Iterator

import pytest

from tests.faults.books import check_books
from tests.support.rpc_proxy import RpcProxy, rpc_proxy
from tests.support.scene import Scene, Stage, mint, puppet, wait_for

pytestmark = pytest.mark.faults

SEND = "eth_sendRawTransaction"


@pytest.fixture(scope="module")
def proxy(stage: Stage) -> Iterator[RpcProxy]:
    """In front of the session's node."""
    with rpc_proxy(stage.node.url) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def scene(stage: Stage, proxy: RpcProxy) -> Iterator[Scene]:
    """A daemon behind the proxy, which gives an answer half a second."""
    with stage.scene({"puppet": puppet()}, url=proxy.url, chain={"rpc_timeout_s": 0.5}) as scene:
        yield scene


@pytest.fixture(autouse=True)
def _good_again(scene: Scene, proxy: RpcProxy) -> Iterator[None]:
    """After each test the node is as it should be, and the books balance."""
    yield
    proxy.open()
    assert scene.fire("puppet", do="act", actions=[mint()]).outcome == "acted"
    check_books(scene)


@pytest.mark.parametrize("is_forwarded", [True, False], ids=["the node has it", "the node never saw it"])
def test_a_broadcast_whose_connection_breaks_takes_effect_once(
    scene: Scene, proxy: RpcProxy, is_forwarded: bool
) -> None:
    """A closed connection does not say whether the bytes arrived: the same bytes are sent again."""
    trap = proxy.hang_up(SEND, is_forwarded=is_forwarded)
    fired = scene.fire("puppet", wait_s=0, do="act", actions=[mint()])
    trap.wait()
    proxy.open()

    assert scene.wait_run(fired.call_id).outcome == "acted"
    assert len(scene.effects_of(fired.call_id)) == 1


def test_a_broadcast_without_an_answer_takes_effect_once(scene: Scene, proxy: RpcProxy) -> None:
    """The node took it and says nothing: the call ends when the chain shows it, not when the node does."""
    trap = proxy.lose_answer(SEND)
    fired = scene.fire("puppet", wait_s=0, do="act", actions=[mint()])
    trap.wait()

    assert scene.wait_run(fired.call_id).outcome == "acted"
    assert len(scene.effects_of(fired.call_id)) == 1


@pytest.mark.parametrize("message", ["internal error", "insufficient funds for gas * price + value", "already known"])
def test_a_refused_broadcast_concludes_nothing(scene: Scene, proxy: RpcProxy, message: str) -> None:
    """Whatever words a node finds, the bytes may be out: they are sent again until the chain has answered."""
    trap = proxy.refuse(SEND, -32000, message)
    fired = scene.fire("puppet", wait_s=0, do="act", actions=[mint()])
    trap.wait()
    assert scene.run(fired.call_id).outcome is None
    proxy.open()

    assert scene.wait_run(fired.call_id).outcome == "acted"
    assert len(scene.effects_of(fired.call_id)) == 1


def test_a_simulation_that_cannot_be_had_signs_nothing(scene: Scene, proxy: RpcProxy) -> None:
    """No answer is no success: the intent waits, unsigned, until the node answers again."""
    trap = proxy.refuse("eth_estimateGas", -32603, "backend is overloaded")
    fired = scene.fire("puppet", wait_s=0, do="act", actions=[mint()])
    trap.wait()
    assert scene.run(fired.call_id).intent_state == "planned"
    assert scene.rows("select 1 from attempts where call_id = %s", fired.call_id) == []
    proxy.open()

    assert scene.wait_run(fired.call_id).outcome == "acted"


def test_reads_that_cannot_be_had_fail_the_call_with_the_reason(scene: Scene, proxy: RpcProxy) -> None:
    """A plugin never decides on half a snapshot."""
    proxy.refuse("eth_call", -32603, "backend is overloaded")

    fired = scene.fire("puppet", do="act", actions=[mint()])

    assert fired.outcome == "failed"
    assert "backend is overloaded" in (fired.reason or "")
    assert scene.rows("select 1 from decisions where call_id = %s", fired.call_id) == []


def test_a_node_that_is_away_is_a_problem_until_it_is_back(scene: Scene, proxy: RpcProxy) -> None:
    """Seen in the status by itself, and gone by itself; no worker is restarted for it."""
    pids = scene.pids()
    proxy.hang_up("eth_getBlockByNumber", is_forwarded=False)
    scene.daemon.wait_until(lambda status: status.health == "degraded" and "chain local" in "".join(status.problems))

    proxy.open()

    scene.daemon.wait_until(lambda status: status.health == "healthy")
    assert scene.pids() == pids


def test_a_node_that_answers_with_another_hash_is_not_believed(scene: Scene, proxy: RpcProxy) -> None:
    """The hash is ours, computed before the node saw the bytes; what the node says of it is only logged."""
    proxy.alter(SEND, lambda _: "0x" + "66" * 32)
    fired = scene.fire("puppet", wait_s=0, do="act", actions=[mint()])
    wait_for(lambda: scene.log("node_lies"), "the alarm")
    proxy.open()

    run = scene.wait_run(fired.call_id)
    assert run.outcome == "acted"
    assert run.transaction in {effect.transaction for effect in scene.effects_of(fired.call_id)}

"""What is checked before anything is signed: the chain's id, the vault's operator, and that the node answers at all.

One daemon with four vaults: a good one, one whose operator is somebody else, one on a chain with another id, and one
behind a node that is down.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from deploy.demo.world import build_venue
from tests.support.anvil import start_anvil
from tests.support.rpc_proxy import RpcProxy, rpc_proxy
from tests.support.scene import BLOCK_TIME_S, Scene, Stage, mint, puppet, wait_for

pytestmark = pytest.mark.integration

OTHER_ID = 999
DARK_ID = 31338


@dataclass(frozen=True, slots=True)
class Mixed:
    """The daemon, and the door to the node that is down."""

    scene: Scene
    door: RpcProxy
    owner: str


@pytest.fixture(scope="module")
def mixed(stage: Stage) -> Iterator[Mixed]:
    """See the module."""
    plugins = {name: puppet(vault=vault) for name, vault in
               (("good", "demo"), ("alien", "alien"), ("stray", "stray"), ("patient", "dark"))}  # fmt: skip
    with (
        start_anvil(block_time_s=BLOCK_TIME_S, chain_id=DARK_ID) as dark,
        rpc_proxy(dark.url, is_listening=False) as door,
        stage.scene(plugins, start=False) as scene,
    ):
        theirs = build_venue(stage.node.url, scene.venue.owner)  # its operator is its owner
        stray = build_venue(stage.node.url, scene.venue.operator)
        hidden = build_venue(dark.url, scene.venue.operator)
        with scene.config.open("a") as file:
            file.write(f"""
[chains.other]
id = {OTHER_ID}
rpc = "{stage.node.url}"
[chains.dark]
id = {DARK_ID}
rpc = "{door.url}"
poll_s = 0.1
[vaults.alien]
chain = "local"
address = "{theirs.vault.address}"
wallet = "operator"
[vaults.stray]
chain = "other"
address = "{stray.vault.address}"
wallet = "operator"
[vaults.dark]
chain = "dark"
address = "{hidden.vault.address}"
wallet = "operator"
[vaults.dark.reads.spot]
contract = "{hidden.market.address}"
function = "spot() view returns (uint256)"
[vaults.dark.reads.positions]
contract = "{hidden.market.address}"
function = "positionCount() view returns (uint256)"
""")
        scene.start("good")
        yield Mixed(scene, door, theirs.owner)


def test_a_call_that_runs_while_the_daemon_gets_ready_is_decided_once(mixed: Mixed) -> None:
    """A node that is down delays readiness by seconds; what other plugins decide meanwhile is nobody's leftover."""
    scene = mixed.scene
    fired = scene.fire("good", wait_s=0, do="wait", until="ready", put={"n": 1})
    wait_for(lambda: scene.log("ready"), "readiness")
    scene.rows("insert into plugin_state values ('good', 'ready', '1') returning 1")

    assert scene.wait_run(fired.call_id).reason == "waited, attempt 1"
    assert scene.fire("good", do="act", actions=[mint()]).outcome == "acted"
    assert scene.log("task_failed") == []
    assert len(scene.log("call_finished")) == 2


def test_a_vault_with_another_operator_is_refused(mixed: Mixed) -> None:
    """Its plugin does not run, and the reason says whose vault it is and what its owner must call."""
    plugin = mixed.scene.plugin("alien")

    assert (plugin.state, plugin.pid) == ("quarantined", None)
    assert f"the vault's operator is {mixed.owner}" in plugin.reason
    assert f"setOperator({mixed.scene.venue.operator})" in plugin.reason


def test_a_node_of_another_chain_is_refused(mixed: Mixed) -> None:
    """Signing for the wrong chain is how funds get lost: nothing of that chain runs."""
    plugin = mixed.scene.plugin("stray")

    assert (plugin.state, plugin.pid) == ("quarantined", None)
    assert f"the node serves chain 31337, [chains.other] says id = {OTHER_ID}" in plugin.reason


def test_a_call_for_a_refused_plugin_fails_with_the_reason(mixed: Mixed) -> None:
    """An operator who fires it is told why, at once."""
    fired = mixed.scene.fire("alien", do="noop")

    assert fired.outcome == "failed"
    assert "the vault's operator is" in (fired.reason or "")


def test_the_status_is_degraded_and_names_each_problem(mixed: Mixed) -> None:
    """The good vault works; the three others are problems in words."""
    status = mixed.scene.daemon.status()

    assert status.health == "degraded"
    text = "\n".join(status.problems)
    for part in ("vault alien: ", "chain other: the node serves chain 31337", f"chain dark: node {mixed.door.url}"):
        assert part in text


def test_a_plugin_starts_when_its_node_appears(mixed: Mixed) -> None:
    """Nothing has to be restarted: the chain is asked again until it answers."""
    assert mixed.scene.plugin("patient").state == "stopped"

    mixed.door.listen()

    mixed.scene.wait_plugin("patient", lambda plugin: plugin.state == "ready")
    assert mixed.scene.fire("patient", do="noop").outcome == "noop"
    assert not [problem for problem in mixed.scene.daemon.status().problems if "chain dark" in problem]

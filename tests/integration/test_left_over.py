"""Intents that a former run planned for a vault that is not served any more: they end, and say why."""

import pytest

from runnerd.chain.address import parse_address
from tests.support.scene import Scene, Stage, puppet, wait_for

pytestmark = pytest.mark.integration

STRANGER = parse_address("0x" + "0c" * 20)


def test_planned_intents_of_vaults_that_are_not_served_end_with_the_reason(stage: Stage) -> None:
    """One vault left the configuration, the other has another operator now: nobody would ever sign or end them."""
    with stage.scene({"calm": puppet()}) as scene:
        scene.stop()
        gone, refused = (_plan(scene, vault) for vault in ("gone", "demo"))
        scene.venue.vault.functions.setOperator(STRANGER).transact({"from": scene.venue.owner})

        scene.start_unready()
        wait_for(lambda: len(scene.log("ready")) == 2, "readiness, for the second time")

        assert scene.wait_run(gone).reason == "not signed: vault gone is not configured any more"
        reason = scene.wait_run(refused).reason or ""
        assert reason.startswith(f"not signed: the vault's operator is {STRANGER}")
        assert {row["state"] for row in scene.rows("select state from intents")} == {"denied"}


def _plan(scene: Scene, vault: str) -> int:
    """A decided call with its intent, as a process that was killed before it signed leaves them."""
    (call,) = scene.rows(
        """
        insert into job_calls (plugin, trigger, identity, payload, principal, due_at, fired_at, deadline_at, state)
        values ('calm', 'manual', %s, '', 'test', now(), now(), now() + interval '1 hour', 'decided') returning id
        """,
        vault,
    )
    scene.rows(
        """
        insert into intents (call_id, plugin, vault, chain_id, wallet, target, calldata, value_wei, state, created_at,
                             updated_at, deadline_at)
        values (%s, 'calm', %s, 31337, %s, %s, '', 0, 'planned', now(), now(), now() + interval '10 minutes')
        returning call_id
        """,
        call["id"], vault, STRANGER, STRANGER,
    )  # fmt: skip
    return int(call["id"])

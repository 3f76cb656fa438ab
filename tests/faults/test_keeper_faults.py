"""The supervisor killed while a keeper's transaction is on its way: one refresh, of one transaction, for each call."""

from collections.abc import Iterator

import pytest

from deploy.demo.keepers import Upkeep, build_upkeep
from deploy.demo.world import make_keystore, render_config, render_tables
from tests.support.scene import Scene, Stage, puppet, wait_for

pytestmark = pytest.mark.faults

MOMENTS = {
    "decided": "select 1 from intents where call_id = %s",
    "signed": "select 1 from attempts where call_id = %s",
    "sent": "select 1 from attempts where call_id = %s and accepted_at is not null",
    "included": "select 1 from intents where call_id = %s and state in ('included', 'final')",
}
"""What stands in the ledger when it is killed, by name."""


@pytest.fixture
def kept(stage: Stage) -> Iterator[tuple[Scene, Upkeep]]:
    """A daemon with a keeper and nothing else."""
    with stage.scene({}, start=False) as scene:
        upkeep = build_upkeep(scene.venue, make_keystore(scene.directory, "keeper"))
        feed, market = upkeep.feed.address, scene.venue.market.address
        tables: dict[str, dict[str, object]] = {
            "wallets.keeper": {"keystore": "keeper.json", "passphrase_file": "keeper-passphrase"},
            "keepers.nav": {"chain": "local", "wallet": "keeper"},
            "keepers.nav.reads.spot": {"contract": market, "function": "spot() view returns (uint256)"},
            "keepers.nav.reads.positions": {"contract": market, "function": "positionCount() view returns (uint256)"},
            "keepers.nav.actions.refresh": {"contract": feed, "function": "refresh()", "permissionless": True},
        }
        plugins: dict[str, dict[str, object]] = {"sweeper": puppet(role="keeper", keeper="nav")}
        scene.config.write_text(render_config(scene.venue, plugins, dsn=scene.dsn) + render_tables(tables))
        scene.start("sweeper")
        yield scene, upkeep


def test_a_keepers_call_has_its_effect_once_whenever_the_supervisor_is_killed(kept: tuple[Scene, Upkeep]) -> None:
    """The node's log and the wallet's nonce say so, not the ledger."""
    scene, upkeep = kept
    for moment, query in MOMENTS.items():
        fired = scene.fire("sweeper", wait_s=0, do="act", actions=[("refresh", {}, 0)])
        wait_for(lambda: scene.rows(query, fired.call_id), f"it is {moment}")  # noqa: B023  # it is called here
        scene.kill()
        scene.start("sweeper")
        assert scene.wait_run(fired.call_id).outcome == "acted", moment
    refreshed = upkeep.feed.events.Refreshed().get_logs(from_block=0)
    assert [event["args"]["caller"] for event in refreshed].count(upkeep.wallet) == len(MOMENTS)
    assert scene.venue.w3.eth.get_transaction_count(scene.venue.w3.to_checksum_address(upkeep.wallet)) == len(MOMENTS)

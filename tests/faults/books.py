"""What must hold of a ledger and its chain, whatever was killed in between."""

from tests.support.scene import Scene, wait_for

DEADLINE_S = 60.0


def check_books(scene: Scene) -> int:
    """Every call has one outcome; every acted call has exactly one effect on chain and every other none; no nonce is
    missing. Returns how many took effect. The daemon runs, and nobody fires any more.
    """
    wait_for(lambda: not scene.rows("select 1 from job_calls where state <> 'done'"), "all outcomes", DEADLINE_S)
    calls = {row["id"]: row["outcome"] for row in scene.rows("select id, outcome from job_calls")}
    call_of = {row["hash"]: row["call_id"] for row in scene.rows("select hash, call_id from attempts")}
    effects = scene.effects()

    assert {effect.transaction for effect in effects} <= call_of.keys(), "an effect that the ledger does not know"
    acted = sorted(call for call, outcome in calls.items() if outcome == "acted")
    assert sorted(call_of[effect.transaction] for effect in effects) == acted
    assert len({effect.intent for effect in effects}) == len(effects)

    rows = scene.rows("select nonce from attempts where included_block is not null order by nonce")
    assert [row["nonce"] for row in rows] == list(range(len(rows)))
    on_chain = scene.venue.w3.eth.get_transaction_count(scene.venue.operator)  # type: ignore[arg-type]
    (wallet,) = scene.rows("select next_nonce from wallets")
    assert (on_chain, wallet["next_nonce"]) == (len(rows), len(rows))
    return len(effects)

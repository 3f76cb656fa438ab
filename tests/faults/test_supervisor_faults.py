"""kill -9 of the supervisor at the worst moments: after the restart there is one effect per decision, and no process
of the dead one."""

import json
import random
import time

import psycopg
import pytest
from eth_account import Account

from runnerd.control.messages import Resume
from tests.faults.books import check_books
from tests.support.leaks import find_descendants, wait_until_gone
from tests.support.rpc_proxy import rpc_proxy
from tests.support.scene import Scene, Stage, mint, puppet, wait_for

pytestmark = pytest.mark.faults

SEND = "eth_sendRawTransaction"
KILLS = 5
SEED = 20261121
LONGEST_LIFE_S = 2.5
"""Past the start, which takes about one second and a half: some kills hit it, some the work."""


@pytest.mark.parametrize("is_forwarded", [False, True], ids=["never sent", "sent, answer lost"])
def test_a_kill_between_storing_and_broadcasting_leaves_one_effect(stage: Stage, is_forwarded: bool) -> None:
    """The attempt stands in the ledger before anyone sees it: the restart sends the same bytes, under the same hash."""
    patient = {
        "replace_after_blocks": 1_000
    }  # or the restart, which takes many blocks here, signs a replacement as well
    with (
        rpc_proxy(stage.node.url) as proxy,
        stage.scene({"puppet": puppet()}, url=proxy.url, chain=patient) as scene,
    ):
        assert scene.fire("puppet", do="act", actions=[mint()]).outcome == "acted"
        trap = proxy.lose_answer(SEND) if is_forwarded else proxy.hold(SEND)
        fired = scene.fire("puppet", wait_s=0, do="act", actions=[mint(), mint()])
        trap.wait()
        stored = _attempts(scene, fired.call_id)
        assert [row["raw"] for row in stored] == [trap.calls[0]["params"][0]]

        scene.kill()
        if not is_forwarded:
            assert scene.effects_of(fired.call_id) == []
        proxy.open()
        scene.start("puppet")

        run = scene.wait_run(fired.call_id)
        assert (run.outcome, run.transaction) == ("acted", stored[0]["hash"])
        assert _attempts(scene, fired.call_id) == stored
        (effect,) = scene.effects_of(fired.call_id)
        assert (effect.transaction, effect.calls) == (stored[0]["hash"], 2)
        assert scene.fire("puppet", do="act", actions=[mint()]).outcome == "acted"
        assert check_books(scene) == 3


def test_a_kill_while_decide_runs_decides_the_call_again(stage: Stage) -> None:
    """The call was durable before it was given to the worker: the next process decides it, once, and acts once."""
    with stage.scene({"puppet": puppet()}) as scene:
        fired = scene.fire("puppet", wait_s=0, do="wait", until="go", then=[mint()])
        wait_for(lambda: scene.state("puppet", f"begun:{fired.call_id}"), "decide has begun")

        scene.kill()
        with psycopg.connect(scene.dsn, autocommit=True) as connection:
            connection.execute("insert into plugin_state values ('puppet', 'go', '1')")
        scene.start("puppet")

        run = scene.wait_run(fired.call_id)
        assert (run.outcome, run.attempts) == ("acted", 0)
        assert run.generation is not None
        assert run.generation > 1
        assert check_books(scene) == 1


def test_no_process_outlives_the_supervisor_and_the_private_cluster_recovers(stage: Stage) -> None:
    """kill -9: http, zygote, workers and PostgreSQL are gone in a moment; the next start finds the ledger as it was."""
    with stage.scene({"puppet": puppet(), "other": puppet()}, has_dsn=False) as scene:
        fired = scene.fire("puppet", do="act", actions=[mint()], put={"kept": 7})
        below = find_descendants(scene.daemon.process.pid)
        commands = " ".join(below.values())
        for name in ("runnerd: http", "runnerd: zygote", "worker: puppet #1", "worker: other #1", "postgres"):
            assert name in commands

        scene.daemon.kill()
        took_s = wait_until_gone(below, deadline_s=2.0)
        print(f"all {len(below)} processes were gone {took_s * 1000:.0f} ms after the supervisor")

        scene.start("puppet", "other")
        assert scene.run(fired.call_id).transaction == fired.transaction
        assert scene.fire("puppet", do="get", key="kept").reason == "7"
        assert check_books(scene) == 1


@pytest.mark.slow
def test_kills_at_random_moments_lose_nothing_and_double_nothing(stage: Stage) -> None:
    """Ten kills while cron and events act all the time, some of them during the start: the books still balance."""
    moments = random.Random(SEED)
    plugins = {
        "clock": puppet(triggers=[{"kind": "cron", "every_seconds": 0.1}]),
        "ear": puppet(triggers=[{"kind": "event", "topic": "orders"}]),
    }
    with stage.scene(plugins) as scene:
        acting = {"do": "act", "actions": [mint()]}
        scene.fire("clock", do="noop", put={"instruction": acting})
        for _ in range(KILLS):
            life_s = moments.uniform(0.2, LONGEST_LIFE_S)
            until = time.monotonic() + life_s
            while time.monotonic() < until:
                scene.announce("orders", acting)
                # The pace of events up to a random moment: time itself is what is varied here.
                time.sleep(min(0.15, max(0.0, until - time.monotonic())))
            scene.kill()
            scene.start_unready()
        scene.daemon.wait_ready(*plugins)
        scene.fire("clock", do="noop", delete=["instruction"])

        effects = check_books(scene)
        # The clock goes on ticking, without an action: its newest call may be open at any time.
        counted = "select outcome, count(*) as n from job_calls where state = 'done' group by outcome order by outcome"
        outcomes = scene.rows(counted)
        print(f"{KILLS} kills, {effects} effects, outcomes:", {row["outcome"]: row["n"] for row in outcomes})
        assert effects > KILLS
        assert {row["outcome"] for row in outcomes} <= {"acted", "noop", "expired"}


def test_a_foreign_transaction_of_the_operator_pauses_the_vault_at_the_next_start(stage: Stage) -> None:
    """One operator regime per vault: somebody else used the key meanwhile, so nothing is signed until resumed."""
    with stage.scene({"puppet": puppet()}) as scene:
        assert scene.fire("puppet", do="act", actions=[mint()]).outcome == "acted"
        assert scene.stop() == 0
        passphrase = (scene.directory / "passphrase").read_text().strip()
        key = Account.decrypt(json.loads((scene.directory / "operator.json").read_text()), passphrase)
        w3 = scene.venue.w3
        signed = Account.sign_transaction(
            {"to": scene.venue.owner, "value": 1, "nonce": 1, "gas": 21_000, "chainId": 31337,
             "maxFeePerGas": 10**10, "maxPriorityFeePerGas": 10**9}, key,
        )  # fmt: skip
        w3.eth.wait_for_transaction_receipt(w3.eth.send_raw_transaction(signed.raw_transaction), poll_latency=0.02)

        scene.start("puppet")
        denied = scene.fire("puppet", do="act", actions=[mint()])
        assert denied.outcome == "denied"
        assert "vault demo is paused by runnerd: transaction" in (denied.reason or "")
        assert "not ours: runnerctl adopt HASH if it was meant so, or resume" in (denied.reason or "")
        scene.daemon.ask(Resume(scope="vault", name="demo"))
        acted = scene.fire("puppet", do="act", actions=[mint()])
        assert (acted.outcome, scene.run(acted.call_id).nonce) == ("acted", 2)


def _attempts(scene: Scene, call_id: int) -> list[dict[str, object]]:
    return scene.rows("select hash, nonce, '0x' || encode(raw, 'hex') as raw from attempts where call_id = %s", call_id)

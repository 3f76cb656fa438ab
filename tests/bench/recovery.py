"""1,000 intents in flight, the supervisor killed and the node's mempool lost: how soon are the same bytes out again?"""

import os
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from tests.bench.figures import Figure
from tests.support.anvil import Anvil, start_anvil
from tests.support.postgres import PostgresServer, host_postgres
from tests.support.scene import Scene, Stage, mint, puppet, wait_for
from tests.support.short_dir import make_short_dir

IN_FLIGHT = int(os.environ.get("BENCH_IN_FLIGHT", "1000"))
TARGET_S = 2.0
POLL_S = 0.01
NEVER_S = 100_000


def measure_recovery() -> Iterator[Figure]:
    """Seconds from exec until ready, and until the node has every transaction again, byte for byte."""
    with (
        start_anvil(block_time_s=NEVER_S, extra_args=["--gas-limit", "2000000000"]) as node,
        make_short_dir() as directory,
        host_postgres(directory / "data", directory / "run") as (_, report),
    ):
        stage = Stage(node, PostgresServer(report["dsn"]))
        plugins = {
            "seeder": puppet(
                triggers=[{"kind": "event", "topic": "seed"}], queue=10 * IN_FLIGHT, call_deadline_s=600,
                intent_deadline_s=3_600,
            )
        }  # fmt: skip
        with stage.scene(plugins, start=False, wallet={"max_in_flight": IN_FLIGHT}) as scene:
            text = scene.config.read_text()
            scene.config.write_text(text.replace('log_level = "debug"', 'log_level = "info"'))
            scene.start("seeder")
            yield from _measure(scene, node)


def _measure(scene: Scene, node: Anvil) -> Iterator[Figure]:
    actions = [mint(value_wei=10**9)]
    # Distinct payloads: PostgreSQL folds equal notifications of one transaction into one.
    scene.announce("seed", *({"do": "act", "actions": actions, "number": number} for number in range(IN_FLIGHT)))
    wait_for(lambda: _pending(node) >= IN_FLIGHT, "all in the mempool", 60)
    accepted = "select count(*) as n from attempts where accepted_at is not null"
    wait_for(lambda: scene.rows(accepted)[0]["n"] >= IN_FLIGHT, "all accepted", 60)
    before = _attempts(scene)
    scene.kill()
    node.rpc("anvil_dropAllTransactions")
    assert _pending(node) == 0, "the mempool is lost"
    logged = len(scene.log())
    began = time.time()
    daemon = scene.start_unready()
    while _pending(node) < IN_FLIGHT:
        assert daemon.process.poll() is None, daemon.log_tail()
        assert time.time() - began < 60, f"{_pending(node)} of {IN_FLIGHT} are out again"
        time.sleep(POLL_S)  # nobody rings
    resent_s = time.time() - began
    records = wait_for(lambda: _when_ready(scene.log()[logged:]), "it is ready")
    ready_s = _at(records[-1]) - began
    assert _hashes(node) == before.keys(), "the mempool holds what the ledger has"
    assert _attempts(scene) == before, "nothing was signed anew"
    yield Figure(f"killed with {IN_FLIGHT} in flight -> ready", f"{ready_s:.2f} s", "< 2 s", ready_s < TARGET_S)
    yield Figure("  -> identical bytes at the node again", f"{resent_s:.2f} s", "< 2 s", resent_s < TARGET_S)
    for record in records:
        yield Figure(f"    {record.get('action', '-')}", f"{_at(record) - began:.2f} s")


def _pending(node: Anvil) -> int:
    return int(node.rpc("txpool_status")["pending"], 16)


def _hashes(node: Anvil) -> set[str]:
    senders = node.rpc("txpool_content")["pending"].values()
    return {transaction["hash"] for by_nonce in senders for transaction in by_nonce.values()}


def _attempts(scene: Scene) -> dict[str, bytes]:
    return {row["hash"]: bytes(row["raw"]) for row in scene.rows("select hash, raw from attempts")}


def _when_ready(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The records up to `ready`; none while it is not."""
    actions = [record.get("action") for record in records]
    return records[: actions.index("ready") + 1] if "ready" in actions else []


def _at(record: dict[str, Any]) -> float:
    return datetime.fromisoformat(record["time"]).timestamp()


if __name__ == "__main__":
    for figure in measure_recovery():
        print(figure, flush=True)

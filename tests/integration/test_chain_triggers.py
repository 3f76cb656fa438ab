"""Blocks and logs call a plugin through the whole daemon: in order, over a kill, with progress in the status."""

import json
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from tests.support.scene import Scene, Stage, puppet, wait_for

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def calls(scene: Scene, trigger: str) -> list[dict[str, Any]]:
    """Of the ledger, in the order in which they were made."""
    with psycopg.connect(scene.dsn, row_factory=dict_row) as connection:
        query = "select * from job_calls where trigger = %s order by id"
        return list(connection.execute(query, (trigger,)))


def test_blocks_come_in_order_over_a_kill(stage: Stage) -> None:
    """Each block once, from the first to the last, also those of the downtime; `decide` is told what it is about."""
    triggers = [{"kind": "block"}]
    with stage.scene({"watcher": puppet(triggers=triggers)}) as scene:
        wait_for(lambda: len(calls(scene, "block")) >= 5, "five blocks")
        scene.kill()
        before = len(calls(scene, "block"))
        head = int(stage.node.rpc("eth_blockNumber"), 16)
        wait_for(lambda: int(stage.node.rpc("eth_blockNumber"), 16) > head + 5, "blocks of the downtime")
        scene.start("watcher")
        wait_for(lambda: len(calls(scene, "block")) >= before + 10, "more blocks")
        wait_for(lambda: all(call["state"] == "done" for call in calls(scene, "block")[: before + 10]), "decisions")

        rows = calls(scene, "block")
        numbers = [row["block_number"] for row in rows]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        assert all(json.loads(row["payload"])["hash"] == row["block_hash"] for row in rows)
        assert {row["outcome"] for row in rows[: before + 10]} == {"noop"}
        (producer,) = [one for one in scene.daemon.status().producers if one.name == "block"]
        assert producer.state == "running"
        assert producer.progress.startswith("watcher on ")


def test_a_worker_whose_trigger_cannot_be_is_refused_with_the_reason(stage: Stage, tmp_path: Any) -> None:
    """As it is when the operator writes it."""
    file = tmp_path / "plugins" / "odd.py"
    file.parent.mkdir()
    file.write_text(
        "from workers.sdk import Noop, Plugin, triggers\n\n"
        "class Odd(Plugin):\n"
        "    name = 'odd'\n"
        "    triggers = [triggers.Log(addresses=['0x' + '11' * 20], event='Trade(uint7 size)')]\n\n"
        "    async def decide(self, ctx):\n        return Noop('never')\n"
    )
    with stage.scene({"odd": {"path": str(file)}}, start=False) as scene:
        scene.start_unready()
        plugin = scene.wait_plugin("odd", lambda plugin: plugin.state == "quarantined")
        assert "'uint7' is not an ABI type" in plugin.reason

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
        # Five blocks a second: it keeps up with them.
        wait_for(lambda: "behind" not in progress(scene, "block"), "the head")


def test_a_metric_calls_once_for_each_crossing(stage: Stage) -> None:
    """With the value; and not again while it stays beyond the bound, over a restart too."""
    with stage.scene({}, start=False) as scene:
        spot = int(scene.venue.market.functions.spot().call())
    trigger = {"kind": "metric", "read": {"name": "spot"}, "above": spot + 10, "hysteresis": 5}
    with stage.scene({"watcher": puppet(triggers=[trigger])}) as scene:
        move = scene.venue.market.functions.setSpot
        scene.venue.send(move(spot + 11))
        (first,) = wait_for(lambda: calls(scene, "metric"), "a call")
        assert json.loads(first["payload"])["value"] == spot + 11
        assert (first["principal"], first["topic"]) == (f"chain:{scene.daemon.status().chains[0].name}", None)
        scene.kill()
        scene.start("watcher")
        scene.venue.send(move(spot + 20))
        scene.venue.send(move(spot + 5))
        wait_for(lambda: f"spot = {spot + 5} " in progress(scene, "metric"), "the value that came back")
        assert len(calls(scene, "metric")) == 1
        scene.venue.send(move(spot + 30))
        wait_for(lambda: len(calls(scene, "metric")) == 2, "a second call")


def progress(scene: Scene, name: str) -> str:
    """Of a producer, in the status."""
    return next(one.progress for one in scene.daemon.status().producers if one.name == name)


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

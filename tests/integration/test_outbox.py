"""The outbox with a whole daemon: installed, followed, filtered, looked at, pruned; and a daemon that is killed."""

import json
from collections.abc import Mapping
from typing import Any

import psycopg
import pytest

from runnerd.control.outbox_messages import GetOutbox, Outbox
from tests.cli.running import run_process
from tests.support.scene import Scene, Stage, puppet, wait_for

pytestmark = pytest.mark.integration

PLUGINS: dict[str, Mapping[str, object]] = {
    "orderly": puppet(
        triggers=[{"kind": "event", "topic": "orders", "mode": "outbox", "overlap": "queue"}],
        max_calls_per_s=10_000,
        restart={"backoff_first_s": 0.05, "crashes_to_quarantine": 100},
    ),
    "picky": puppet(
        triggers=[{"kind": "event", "topic": "orders", "mode": "outbox", "where": {"side": "buy", "pool.id": 3}}],
        max_calls_per_s=10_000,
    ),
}


def runnerctl(scene: Scene, *args: str) -> str:
    done = run_process("--config", str(scene.config), *args)
    assert done.returncode == 0, done.stderr
    return done.stdout


def publish(scene: Scene, *instructions: Mapping[str, object], key: str | None = None) -> None:
    with psycopg.connect(scene.dsn, autocommit=True) as connection:
        for instruction in instructions:
            connection.execute("select runnerd_outbox.publish('orders', %s, %s)", (json.dumps(instruction), key))


def noop(number: int, **more: Any) -> dict[str, object]:
    return {"do": "noop", "reason": f"event {number}", **more}


def ended(scene: Scene, plugin: str) -> list[tuple[str, str]]:
    """Outcome and reason of its calls, in the order in which they ended."""
    query = "select outcome, reason from job_calls where plugin = %s and state = 'done' order by finished_at, id"
    return [(row["outcome"], row["reason"]) for row in scene.rows(query, plugin)]


def followers(scene: Scene) -> dict[str, int | None]:
    reply = scene.daemon.ask(GetOutbox())
    assert isinstance(reply, Outbox)
    return {one.plugin: one.events for one in reply.followers}


def test_an_operator_installs_it_and_events_are_decided_in_order(stage: Stage) -> None:
    """Not installed is a problem in words; then events come, and the status says how far; `prune` takes what is old."""
    with stage.scene(PLUGINS) as scene:
        scene.daemon.wait_until(lambda s: any("runnerctl outbox install" in problem for problem in s.problems))
        assert "is in" in runnerctl(scene, "outbox", "install")
        scene.daemon.wait_until(lambda s: s.health == "healthy" and followers(scene) == {"orderly": 0, "picky": 0})
        picked = {"side": "buy", "pool": {"id": 3}}
        publish(scene, *[noop(number, **(picked if number % 10 == 0 else {})) for number in range(1, 201)])
        wait_for(lambda: ended(scene, "orderly")[199:], "200 decided events")
        assert ended(scene, "orderly") == [("noop", f"event {number}") for number in range(1, 201)]
        wait_for(lambda: ended(scene, "picky")[19:], "20 that were picked")
        assert {reason for _, reason in ended(scene, "picky")} == {f"event {number}" for number in range(10, 201, 10)}
        wait_for(lambda: followers(scene) == {"orderly": 0, "picky": 0}, "nothing waits")
        status = json.loads(runnerctl(scene, "outbox", "status", "--json"))
        assert [(one["plugin"], one["topic"], one["position"]) for one in status["followers"]] == [
            ("orderly", "orders", 200), ("picky", "orders", 200),
        ]  # fmt: skip
        assert "last event 200" in runnerctl(scene, "status")
        assert runnerctl(scene, "outbox", "prune") == "0 events are deleted\n"
        assert runnerctl(scene, "outbox", "prune", "--older-than-days", "0") == "200 events are deleted\n"
        publish(scene, noop(201))
        wait_for(lambda: ended(scene, "orderly")[200:], "an event after the pruned ones")


def test_a_daemon_that_is_killed_decides_each_event_once_and_in_order(stage: Stage) -> None:
    """Again and again under load; and a call that ends its worker is counted out without losing its successors."""
    with stage.scene({"orderly": PLUGINS["orderly"]}) as scene:
        runnerctl(scene, "outbox", "install")
        wait_for(lambda: followers(scene) == {"orderly": 0}, "it is followed")
        total = 0
        for _ in range(3):
            publish(scene, *[noop(total + number) for number in range(1, 151)])
            total += 150
            wait_for(lambda: ended(scene, "orderly")[total - 100 :], "some are decided")  # noqa: B023  # called here
            scene.kill()
            publish(scene, *[noop(total + number) for number in range(1, 51)])
            total += 50
            scene.start("orderly")
        publish(scene, {"do": "die"}, *[noop(total + number) for number in range(1, 21)])
        total += 20
        wait_for(lambda: ended(scene, "orderly")[total:], "all are decided")
        outcomes = ended(scene, "orderly")
        assert [reason for outcome, reason in outcomes if outcome == "noop"] == [
            f"event {number}" for number in range(1, total + 1)
        ]
        assert [outcome for outcome, _ in outcomes if outcome != "noop"] == ["dead"]
        identities = scene.rows("select identity from job_calls")
        assert len({row["identity"] for row in identities}) == len(identities) == total + 1


def test_events_of_one_key_wait_for_one_another_and_those_of_two_do_not(stage: Stage) -> None:
    """`overlap = "queue"` holds for each key."""
    with stage.scene({"orderly": PLUGINS["orderly"]}) as scene:
        runnerctl(scene, "outbox", "install")
        wait_for(lambda: followers(scene) == {"orderly": 0}, "it is followed")
        meet = {"do": "meet", "room": "keys", "seats": 2}
        publish(scene, meet, noop(1), noop(2), key="one")  # the first waits for somebody, and these for it
        publish(scene, noop(3), meet, noop(4), key="two")
        wait_for(lambda: ended(scene, "orderly")[5:], "all are decided: those of two keys have met")
        reasons = [reason for _, reason in ended(scene, "orderly")]
        assert reasons.count("met") == 2
        first_met = reasons.index("met")
        assert reasons.index("event 3") < first_met < reasons.index("event 1") < reasons.index("event 2")
        assert first_met < reasons.index("event 4")

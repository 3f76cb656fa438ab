"""Results go out of the real daemon: whoever hangs or fails delays nobody, a kill loses nothing, and order is kept."""

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from tests.support.receiver import HANG, Post, Receiver, receiving
from tests.support.scene import Scene, Stage, puppet, wait_for

pytestmark = pytest.mark.integration

CALLS = 20
ECHO = """
from workers.sdk import Context, Noop, Plugin
from workers.sdk.triggers import Event

class Echo(Plugin):
    name = "echo"
    triggers = (Event(topic="trades"),)

    def decide(self, ctx: Context) -> Noop:
        return Noop("heard")
"""


def configure(scene: Scene, **consumers: dict[str, object] | Receiver) -> None:
    """Add consumers to the configuration: a Receiver stands for a webhook to it."""
    secret = scene.directory / "hook.secret"
    secret.touch(mode=0o600)
    secret.write_text("a secret of this test")
    text = scene.config.read_text()
    hook = {"kind": "webhook", "secret_file": "hook.secret", "allow_private": True}
    for name, one in consumers.items():
        keys = {**hook, "url": one.url} if isinstance(one, Receiver) else one
        lines = [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
        text += "\n".join([f"[consumers.{name}]", *lines, ""])
    scene.config.write_text(text)


def runnerctl(scene: Scene, *args: str) -> str:
    """As an operator types it; what it prints."""
    command = [str(Path(sys.executable).with_name("runnerctl")), "--config", str(scene.config), *args]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode in (0, 1), done.stderr
    return done.stdout


@dataclass
class Crowd:
    """A daemon with consumers of all sorts."""

    scene: Scene
    hanging: Receiver
    broken: Receiver
    picky: Receiver
    well: Receiver
    ops: Receiver


@pytest.fixture
def crowd(stage: Stage) -> Iterator[Crowd]:
    """One that hangs, one that fails, one that refuses; and those that work: a webhook, a channel, a chat."""
    with ExitStack() as stack:
        hanging, broken, picky, well, ops = (
            stack.enter_context(receiving(lambda _, status=status: status))  # type: ignore[misc]
            for status in (HANG, 500, 400, 200, 200)
        )
        scene = stack.enter_context(stage.scene({"alpha": puppet(), "beta": puppet()}, start=False))
        configure(
            scene, hanging=hanging, broken=broken, picky=picky, well=well,
            bell={"kind": "notify", "channel": "results", "plugins": ["alpha"]},
            chat={"kind": "apprise", "url_file": "chat.url", "outcomes": ["noop"], "plugins": ["beta"]},
        )  # fmt: skip
        chat = scene.directory / "chat.url"
        chat.touch(mode=0o600)
        chat.write_text(ops.url.replace("http://", "json://"))
        scene.start("alpha", "beta")
        yield Crowd(scene, hanging, broken, picky, well, ops)


def test_nobody_delays_the_others_and_a_kill_loses_and_disorders_nothing(crowd: Crowd) -> None:
    """Two claims on one daemon: its start is what takes the time."""
    nobody_is_delayed(crowd)
    a_kill_between_delivery_and_cursor_brings_the_same_delivery_again(crowd)


def nobody_is_delayed(crowd: Crowd) -> None:
    """Neither calls, nor the others; each is seen in the status, and what was refused can be had again."""
    scene, picky, well = crowd.scene, crowd.picky, crowd.well
    with psycopg.connect(scene.dsn, autocommit=True) as indexer:
        indexer.execute("listen results")
        fired = [scene.fire(name, do="noop", reason=f"{n}") for n in range(CALLS) for name in ("alpha", "beta")]
        ids = [one.call_id for one in fired]
        assert {one.outcome for one in fired} == {"noop"}
        wait_for(lambda: len(well.posts) >= len(ids), "the one that works")
        heard = [json.loads(note.payload)["id"] for note in indexer.notifies(timeout=10, stop_after=CALLS)]
    assert well.ids == ids
    wait_for(lambda: len(crowd.ops.posts) == CALLS, "a message for each")
    assert heard == ids[::2]
    assert set(crowd.hanging.ids) == set(crowd.broken.ids) == {ids[0]}, "they are still at the first"

    status = scene.daemon.wait_until(
        lambda status: (
            {one.name: one.waiting for one in status.consumers}
            == {"hanging": 2 * CALLS, "broken": 2 * CALLS, "picky": 0, "well": 0, "bell": 0, "chat": 0}
        )
    )
    assert any(text.startswith(f"consumer broken: call {ids[0]}, attempt ") for text in status.problems)
    assert f"consumer picky: {2 * CALLS} results were given up; see runnerctl consumers dead picky" in status.problems
    with urllib.request.urlopen(f"{status.http}/metrics", timeout=10) as page:
        metrics = page.read().decode()
    assert f'runnerd_consumer_waiting{{consumer="hanging"}} {2 * CALLS}.0' in metrics
    assert f'runnerd_consumer_delivered_total{{consumer="well"}} {2 * CALLS}.0' in metrics
    assert f'runnerd_consumer_dead_letters{{consumer="picky"}} {2 * CALLS}.0' in metrics

    picky.answer = lambda _: 204
    picky.posts.clear()
    assert runnerctl(scene, "consumers", "retry", "picky", str(ids[3]), str(ids[1])) == (
        "2 dead letters are handed over once more; see runnerctl consumers dead picky\n"
    )
    wait_for(lambda: picky.ids == [ids[1], ids[3]], "what was wanted again")
    dropped = runnerctl(scene, "consumers", "drop", "picky", str(ids[0]))
    assert dropped == "a dead letter is forgotten\n"
    left = wait_for(
        lambda: [
            letters
            for letters in [json.loads(runnerctl(scene, "consumers", "dead", "picky", "--limit", "100", "--json"))]
            if len(letters["letters"]) == 2 * CALLS - 3
        ],
        "the others",
    )  # fmt: skip
    assert {letter["reason"] for letter in left[0]["letters"]} == {"127.0.0.1 answered 400"}
    listed = json.loads(runnerctl(scene, "consumers", "list", "--json"))
    assert [(one["name"], one["kind"]) for one in listed["consumers"]] == [
        ("hanging", "webhook"), ("broken", "webhook"), ("picky", "webhook"), ("well", "webhook"),
        ("bell", "notify"), ("chat", "apprise"),
    ]  # fmt: skip


def a_kill_between_delivery_and_cursor_brings_the_same_delivery_again(crowd: Crowd) -> None:
    """In order and none missing; who drops a delivery that it has seen hears each result once."""
    scene, well = crowd.scene, crowd.well
    before = len(well.posts)
    killed: list[Post] = []

    def kill(post: Post) -> int:
        """The result is with its receiver, and nobody ever moves the cursor for it."""
        if post.json["reason"] == "the last":
            killed.append(post)
            scene.daemon.process.kill()
            scene.daemon.process.wait()
            well.answer = lambda _: 200
        return 200

    well.answer = kill
    reasons = ["one", "two", "three", "the last"]
    ids = [scene.fire("alpha", 0, do="noop", reason=reason).call_id for reason in reasons]
    wait_for(lambda: killed, "the kill")
    scene.kill()
    scene.start("alpha")
    ids += [scene.fire("alpha", do="noop", reason=reason).call_id for reason in ("after", "the end")]
    wait_for(lambda: ids[-1] in well.ids, "the last one")

    posts = well.posts[before:]
    again = [post for post in posts if post.delivery == killed[0].delivery]
    assert len(again) == 2, "once before and once after the kill"
    assert again[0].json == again[1].json
    by_delivery = dict.fromkeys(post.delivery for post in posts)
    assert len(by_delivery) == len(ids)
    numbers = {row["id"]: row["result_no"] for row in scene.rows("select id, result_no from job_calls")}
    heard = list(dict.fromkeys(post.json["id"] for post in posts))
    assert sorted(heard) == sorted(ids)
    assert heard == sorted(heard, key=lambda call: numbers[call])


def test_a_consumer_whose_channel_a_class_listens_to_is_held(stage: Stage) -> None:
    """The plugin goes on. Announced, each of its results would bring the next; that of another one called it once."""
    with stage.scene({"echo": {"path": "echo.py"}}, start=False) as scene:
        (scene.directory / "echo.py").write_text(ECHO)
        configure(scene, loop={"kind": "notify", "channel": "trades"})
        daemon = scene.start("echo")
        fired = scene.fire("echo")
        said = f"consumer loop: call {fired.call_id} waits: trades calls echo again with each of its results"
        daemon.wait_until(lambda status: any(problem.startswith(said) for problem in status.problems))
        assert [run.trigger for run in scene.runs()] == ["manual"]

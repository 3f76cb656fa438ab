"""`runnerctl consumers`: what it shows, what it asks the daemon, what it refuses."""

import json
import re
from pathlib import Path

import pytest

from runnerd.cli.exits import ExitCode
from runnerd.control.consumer_messages import (
    Consumers,
    ConsumerStatus,
    DeadLetter,
    DeadLetters,
    DropDeadLetters,
    ForgetConsumer,
    GetConsumers,
    GetDeadLetters,
    RetryDeadLetters,
)
from runnerd.control.messages import Done, Failure, Reply, Request
from tests.cli.running import invoke
from tests.cli.samples import HOSTILE, NOW, ago, status
from tests.support.fake_daemon import FakeDaemon, fake_daemon

CONSUMERS = [
    ConsumerStatus(name="hook", kind="webhook", waiting=3, dead=1, moved_at=ago(300), trouble="call 7, attempt 2: no"),
    ConsumerStatus(name="bell", kind="notify", waiting=0, dead=0, moved_at=ago(2), trouble=None),
]
LETTER = DeadLetter(
    consumer="hook", call_id=1201, plugin="alpha", outcome="acted", attempts=12, reason=HOSTILE, at=ago(60),
    is_wanted=True,
)  # fmt: skip


def answer(request: Request) -> Reply:
    match request:
        case GetConsumers():
            return Consumers(now=NOW, consumers=CONSUMERS)
        case GetDeadLetters():
            return DeadLetters(letters=[LETTER])
        case RetryDeadLetters(consumer="absent"):
            return Failure(reason="there is no consumer 'absent'; there are: hook")
        case _:
            return Done(text="done as told")


def asked(daemon: FakeDaemon, path: Path, *args: str) -> Request:
    """What the command asked for."""
    assert invoke("--socket", str(path), "consumers", *args).exit_code == ExitCode.DONE
    return daemon.requests[-1]


def test_the_list_shows_what_waits_and_what_is_wrong(short_dir: Path) -> None:
    """Exit code 1 while something is; JSON is what the daemon said."""
    path = short_dir / "control.sock"
    with fake_daemon(path, answer):
        shown = invoke("--socket", str(path), "consumers", "list")
        assert shown.exit_code == ExitCode.ATTENTION
        hook, bell = [re.split(r" {2,}", line.strip()) for line in shown.stdout.splitlines()[1:]]
        assert hook == ["hook", "webhook", "3", "1", "5 min ago", "call 7, attempt 2: no"]
        assert bell == ["bell", "notify", "0", "0", "2 s ago"]
        as_json = invoke("--socket", str(path), "consumers", "list", "--json")
        assert [one["waiting"] for one in json.loads(as_json.stdout)["consumers"]] == [3, 0]


def test_the_status_says_how_far_each_one_is(short_dir: Path) -> None:
    """A line for each; what is wrong is among the problems."""
    path = short_dir / "control.sock"
    with fake_daemon(path, lambda _: status(consumers=CONSUMERS)):
        shown = invoke("--socket", str(path), "status").stdout
        assert "hook hears of results by webhook: 3 wait, 1 given up" in shown
        assert "bell hears of results by notify: all heard\n" in shown
        as_json = json.loads(invoke("--socket", str(path), "status", "--json").stdout)
        assert as_json["consumers"][0] == {
            "name": "hook", "kind": "webhook", "waiting": 3, "dead": 1, "moved_at": "2026-11-21T14:00:30Z",
            "trouble": "call 7, attempt 2: no",
        }  # fmt: skip


def test_dead_letters_show_their_reason_as_plain_text(short_dir: Path) -> None:
    """Receivers choose parts of it."""
    path = short_dir / "control.sock"
    with fake_daemon(path, answer) as daemon:
        shown = invoke("--socket", str(path), "consumers", "dead", "hook", "--limit", "5", columns=200)
        assert daemon.requests[-1] == GetDeadLetters(consumer="hook", limit=5)
        assert "1201" in shown.stdout
        assert "handed over once more" in shown.stdout
        assert "\x1b" not in shown.stdout
        assert len(shown.stdout.splitlines()) == 2


def test_retry_drop_and_forget_ask_for_exactly_that(short_dir: Path) -> None:
    """Some calls, or all of them."""
    path = short_dir / "control.sock"
    with fake_daemon(path, answer) as daemon:
        assert asked(daemon, path, "retry", "hook", "--all") == RetryDeadLetters(consumer="hook")
        assert asked(daemon, path, "retry", "hook", "7", "9") == RetryDeadLetters(consumer="hook", call_ids=[7, 9])
        assert asked(daemon, path, "drop", "hook", "7") == DropDeadLetters(consumer="hook", call_ids=[7])
        assert asked(daemon, path, "forget", "old") == ForgetConsumer(consumer="old")
        refused = invoke("--socket", str(path), "consumers", "retry", "absent", "--all")
        assert (refused.exit_code, "there are: hook" in refused.stderr) == (ExitCode.ATTENTION, True)


@pytest.mark.parametrize("args", [("retry", "hook"), ("drop", "hook"), ("drop", "hook", "7", "--all"), ("retry",)])
def test_nothing_is_retried_or_dropped_by_default(args: tuple[str, ...]) -> None:
    """Either calls, or --all."""
    assert invoke("consumers", *args).exit_code == ExitCode.USAGE

"""`runnerctl pause`, `reduce`, `resume` and `restart`: exactly one scope, and the daemon's word for what was done."""

import pytest

from runnerd.cli.exits import ExitCode
from runnerd.control.messages import Pause, Reduce, Request, Restart, Resume
from tests.cli.running import invoke
from tests.support.fake_daemon import FakeDaemon


@pytest.mark.parametrize(
    "args,request_",
    [
        (["pause", "range-maker"], Pause(scope="plugin", name="range-maker")),
        (["pause", "--vault", "main"], Pause(scope="vault", name="main")),
        (["pause", "--all"], Pause(scope="all", name="*")),
        (["pause", "--action", "main.mint"], Pause(scope="action", name="main.mint")),
        (["reduce", "range-maker"], Reduce(scope="plugin", name="range-maker")),
        (["reduce", "--vault", "main"], Reduce(scope="vault", name="main")),
        (["reduce", "--all"], Reduce(scope="all", name="*")),
        (["resume", "--action", "main.mint"], Resume(scope="action", name="main.mint")),
        (["resume", "range-maker"], Resume(scope="plugin", name="range-maker")),
        (["resume", "--vault", "main"], Resume(scope="vault", name="main")),
        (["resume", "--all"], Resume(scope="all", name="*")),
        (["restart", "range-maker"], Restart(plugin="range-maker")),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_each_scope_is_asked_for_as_the_protocol_has_it(busy: FakeDaemon, args: list[str], request_: Request) -> None:
    """And what the daemon says it did is printed."""
    result = invoke("--socket", str(busy.path), *args)
    assert result.exit_code == ExitCode.DONE
    assert busy.requests == [request_]
    assert result.stdout.startswith("done: ")


@pytest.mark.parametrize("command", ["pause", "reduce", "resume"])
@pytest.mark.parametrize("args", [[], ["a", "--all"], ["a", "--vault", "v"], ["--vault", "v", "--all"]])
def test_a_kill_switch_guesses_nothing(busy: FakeDaemon, command: str, args: list[str]) -> None:
    """None or two scopes: refused, and nothing was sent."""
    result = invoke("--socket", str(busy.path), command, *args)
    assert result.exit_code == ExitCode.USAGE
    assert "give exactly one of PLUGIN, --vault VAULT and --all" in result.stderr
    assert busy.requests == []

"""What a plugin may call a reason must not reach the terminal as anything but letters."""

import json
from pathlib import Path

import pytest

from runnerd.control.chain_messages import Fees, GetFees, KnobStatus
from runnerd.control.messages import Done, Fire, Fired, Reply, Request
from runnerd.control.record_messages import (
    GetHistory,
    GetRuns,
    GetTransactions,
    History,
    HistoryEvent,
    Runs,
    Transactions,
)
from runnerd.control.status_messages import GetStatus
from tests.cli.running import invoke
from tests.cli.samples import HASH, HOSTILE, ago, chain, plugin, run, status, transaction, vault
from tests.support.fake_daemon import fake_daemon


def hostile(request: Request) -> Reply:
    """Every text that a plugin, a contract or a node can choose is `HOSTILE`."""
    match request:
        case GetStatus():
            one = plugin(
                "evil", reason=HOSTILE, last_reason=HOSTILE, paused=HOSTILE, reducing=HOSTILE, triggers=[HOSTILE]
            )
            return status(
                problems=[HOSTILE], plugins=[one], chains=[chain(problem=HOSTILE, knobs={HOSTILE: 1})],
                vaults=[vault(problem=HOSTILE, paused=HOSTILE, reducing=HOSTILE, paused_actions=[HOSTILE])],
                open_intents={HOSTILE: 1},
            )  # fmt: skip
        case GetRuns():
            decision = json.dumps({"kind": "act", "actions": [{"name": "a", "args": {"text": HOSTILE}}]})
            return Runs(
                runs=[
                    run(3, 1, reason=HOSTILE, decision=decision, payload=HOSTILE, topic=HOSTILE, transaction=HASH),
                    run(2, 2, plugin=HOSTILE, outcome=HOSTILE, decision=HOSTILE, trigger="manual", principal=HOSTILE),
                    run(1, 3, outcome=None, intent_state=HOSTILE, transaction=HOSTILE, cancelling=HOSTILE),
                ]
            )
        case GetHistory():
            kinds = ("exited", "denied syscall", HOSTILE)
            events = [HistoryEvent(at=ago(1), generation=1, kind=kind, detail=HOSTILE) for kind in kinds]
            return History(plugin="evil", events=events)
        case GetTransactions():
            return Transactions(
                transactions=[transaction(HOSTILE, error=HOSTILE, plugin=HOSTILE, state=HOSTILE, kind=HOSTILE)]
            )
        case GetFees():
            return Fees(chain=HOSTILE, knobs=[KnobStatus(name=HOSTILE, value=1, configured=2, turned_by=HOSTILE)])
        case Fire():
            return Fired(call_id=1, is_new=True, outcome=HOSTILE, reason=HOSTILE, transaction=HOSTILE)
        case _:
            return Done(text=HOSTILE)


@pytest.mark.parametrize("columns", [80, 200])
@pytest.mark.parametrize(
    "command",
    ["status", "why evil", "runs", "tx", "fire evil --wait", "pause --all", "resume --all", "restart evil",
     "cancel 1", f"adopt {HASH}", "fees evil", "status --json", "why evil --json", "runs --json", "tx --json",
     "fire evil --json", "fees evil --json"],
)  # fmt: skip
def test_no_control_character_and_no_markup_reaches_the_terminal(socket: Path, command: str, columns: int) -> None:
    """Even with colours on: the only escape sequences are our own, and `[bold red]` is six letters and brackets."""
    with fake_daemon(socket, hostile):
        plain = invoke("--socket", str(socket), *command.split(), columns=columns)
        coloured = invoke("--socket", str(socket), *command.split(), columns=columns, env={"FORCE_COLOR": "1"})
    for output in (plain.stdout, plain.stderr):
        assert all(character.isprintable() or character == "\n" for character in output)
    # SGR sequences with digits are rich's own; the plugin's would need an ESC of its own.
    left = coloured.stdout
    while (at := left.find("\x1b[")) >= 0:
        end = left.index("m", at)
        assert left[at + 2 : end].replace(";", "").isdigit()
        left = left[:at] + left[end + 1 :]
    assert all(character.isprintable() or character == "\n" for character in left)


def test_markup_is_shown_and_not_obeyed(socket: Path) -> None:
    """The operator sees what the plugin wrote."""
    with fake_daemon(socket, hostile):
        shown = invoke("--socket", str(socket), "why", "evil", columns=200).stdout
    assert "[bold red]owned[/] ·[2J·]0;pwned· first⏎second·31m ·gnp.exe [link=http://evil]x[/link]" in shown


def test_a_hostile_reason_takes_one_line_of_the_status(socket: Path) -> None:
    """A line break in it must not look like a row of the table."""
    with fake_daemon(socket, hostile):
        lines = invoke("--socket", str(socket), "status", columns=200).stdout.splitlines()
    assert not any(line.startswith("second") for line in lines)

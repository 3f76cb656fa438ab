"""`runnerctl adopt`, `cancel` and `fees`: what is asked for, what is refused here, and how knobs look."""

import json
from pathlib import Path

import pytest

from runnerd.cli.exits import ExitCode
from runnerd.control.chain_messages import Adopt, Cancel, Fees, GetFees, TurnFees
from runnerd.control.messages import Failure, Reply, Request
from runnerd.control.record_messages import GetRuns, Runs
from tests.cli.running import invoke
from tests.cli.samples import FEES, HASH, answer, chain, run, status
from tests.support.fake_daemon import FakeDaemon, fake_daemon


@pytest.mark.parametrize(
    "args,request_",
    [
        (["adopt", HASH], Adopt(hash=HASH)),
        (["adopt", "0x" + HASH[2:].upper()], Adopt(hash=HASH)),
        (["cancel", "4711"], Cancel(call_id=4711)),
    ],
)
def test_command_is_asked_for_and_the_answer_printed(busy: FakeDaemon, args: list[str], request_: Request) -> None:
    """A hash in the form in which nodes write it."""
    result = invoke("--socket", str(busy.path), *args)
    assert result.exit_code == ExitCode.DONE
    assert busy.requests == [request_]
    assert result.stdout.startswith("done: ")


@pytest.mark.parametrize(
    "args,says",
    [
        (["adopt"], "missing argument 'HASH'"),
        (["adopt", HASH[:-1]], "is not a transaction's hash: 0x and 64 hex digits"),
        (["adopt", HASH + "\n"], "is not a transaction's hash"),
        (["adopt", "4f" * 32], "is not a transaction's hash"),
        (["cancel", "0"], "'0' is not the number of a call, as runnerctl runs lists them"),
        (["cancel", str(1 << 63)], "is not the number of a call"),
        (["cancel", "x"], "'x' is not the number of a call"),
        (["keys", "create", "bad name", "--plugin", "a"], "'bad name' cannot be a name; allowed: 1 to 64 letters"),
        (["fees"], "missing argument 'CHAIN'"),
        (["fees", "base", "--max-fee-per-gas-wei", "2 gwei"], "'2 gwei' is not a valid integer"),
        (["fees", "base", "--replace-after-blocks", "2", "--reset"], "--reset goes alone"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_what_cannot_be_meant_is_refused_here(busy: FakeDaemon, args: list[str], says: str) -> None:
    """Nothing is sent."""
    result = invoke("--socket", str(busy.path), *args)
    assert result.exit_code == ExitCode.USAGE
    assert says in result.stderr
    assert busy.requests == []


@pytest.mark.parametrize("args", [["adopt", HASH], ["cancel", "7"], ["fees", "base", "--max-fee-per-gas-wei", "0"]])
def test_refusal_of_the_daemon_is_one_line_and_exit_code_1(socket: Path, args: list[str]) -> None:
    """As for pause and resume."""
    with fake_daemon(socket, lambda _: Failure(reason="not now; allowed: later")):
        result = invoke("--socket", str(socket), *args)
    assert result.exit_code == ExitCode.ATTENTION
    assert result.stderr == "runnerctl: not now; allowed: later\n"


@pytest.mark.parametrize(
    "options,request_",
    [
        ([], GetFees(chain="base")),
        (["--reset"], TurnFees(chain="base", is_reset=True)),
        (["--max-fee-per-gas-wei", "80000000000"], TurnFees(chain="base", max_fee_per_gas_wei=80 * 10**9)),
        (["--min-priority-fee-wei", "0", "--replace-after-blocks", "2"],
         TurnFees(chain="base", min_priority_fee_wei=0, replace_after_blocks=2)),
    ],
)  # fmt: skip
def test_fees_shows_each_knob_with_who_turned_it(busy: FakeDaemon, options: list[str], request_: Request) -> None:
    """After a change as well: what counts now, beside what the configuration says."""
    result = invoke("--socket", str(busy.path), "fees", "base", *options)
    assert result.exit_code == ExitCode.DONE
    assert busy.requests == [request_]
    head, cap, tip, patience = (line.split() for line in result.stdout.splitlines())
    assert head == ["KNOB", "VALUE", "CONFIGURED", "TURNED", "BY", "AT", "(UTC)"]
    assert cap[:6] == ["max_fee_per_gas_wei", "80", "gwei", "50", "gwei", "uid:1000"]
    assert cap[-1] == "14:04:30"
    assert tip == ["min_priority_fee_wei", "0.001", "gwei", "0.001", "gwei", "–", "–"]
    assert patience == ["replace_after_blocks", "3", "blocks", "3", "blocks", "–", "–"]


def test_fees_as_json_are_exact(busy: FakeDaemon) -> None:
    """Integers of wei, for programs; null where nobody turned it."""
    reply = json.loads(invoke("--socket", str(busy.path), "fees", "base", "--json").stdout)
    assert reply["chain"] == "base"
    assert [(knob["name"], knob["value"], knob["configured"], knob["turned_by"]) for knob in reply["knobs"]] == [
        ("max_fee_per_gas_wei", 80_000_000_000, 50_000_000_000, "uid:1000"),
        ("min_priority_fee_wei", 1_000_000, 1_000_000, None),
        ("replace_after_blocks", 3, 3, None),
    ]


def test_untouched_knobs_say_so(socket: Path) -> None:
    """Nobody has to compare columns."""
    with fake_daemon(socket, lambda _: Fees(chain="base", knobs=FEES.knobs[1:])):
        assert invoke("--socket", str(socket), "fees", "base").stdout.endswith("as configured\n")


def test_status_shows_a_turned_knob_at_its_chain(socket: Path) -> None:
    """The configuration does not tell it, and it outlasts the one who turned it."""
    with fake_daemon(socket, lambda _: status(chains=[chain(knobs={"replace_after_blocks": 2}), chain(name="other")])):
        lines = invoke("--socket", str(socket), "status").stdout.splitlines()
    (line,) = [index for index, line in enumerate(lines) if "turned:" in line]
    assert lines[line].strip() == "turned: replace_after_blocks = 2; see runnerctl fees base"
    assert lines[line - 1].startswith("base")


def test_runs_and_why_tell_how_a_cancelled_call_stands(socket: Path) -> None:
    """Under way, and at its end: by whom, and what took its place."""
    going = run(
        2, 1, state="decided", outcome=None, reason=None, finished_at=None, intent_state="sent", nonce=12,
        cancelling="cancelled by uid:1000", transaction=HASH,
    )  # fmt: skip
    ended = run(
        1, 9, outcome="denied", intent_state="cancelled", nonce=11, transaction="0x" + "55" * 32,
        reason="cancelled by uid:1000; a no-op took its nonce 11 in block 9", cancelling="cancelled by uid:1000",
    )  # fmt: skip

    def reply(request: Request) -> Reply:
        return Runs(runs=[going, ended]) if isinstance(request, GetRuns) else answer(request)

    with fake_daemon(socket, reply):
        runs = " ".join(invoke("--socket", str(socket), "runs", columns=200).stdout.split())
        why = " ".join(invoke("--socket", str(socket), "why", "range-maker").stdout.split())
    assert "cancelled by uid:1000; a no-op took its nonce 11 in block 9" in runs
    assert "open a no-op is to take its place at nonce 12: cancelled by uid:1000" in why
    assert "denied cancelled by uid:1000; a no-op took its nonce 11 in block 9" in why
    assert "nonce 11, cancelled" in why

"""`runnerctl fire`: what is checked before anything is sent, and what the exit code says of the result."""

import json
from pathlib import Path

import pytest

from protocol.limits import MAX_PAYLOAD_LENGTH
from runnerd.cli.exits import ExitCode
from runnerd.control.dry_run_messages import DryRun, LimitView
from runnerd.control.messages import Fire, Fired
from tests.cli.running import invoke
from tests.cli.samples import HASH, HOSTILE
from tests.support.fake_daemon import FakeDaemon, fake_daemon


def test_without_wait_it_prints_the_call_and_where_to_look(busy: FakeDaemon) -> None:
    """Exit code 0: the call stands in the ledger."""
    result = invoke("--socket", str(busy.path), "fire", "range-maker")
    assert (result.exit_code, result.stdout) == (ExitCode.DONE, "call         817\n")
    assert "runnerctl why range-maker" in result.stderr
    assert busy.requests == [Fire(plugin="range-maker")]


def test_with_wait_it_prints_outcome_reason_and_the_whole_hash(busy: FakeDaemon) -> None:
    """One word before each value, so that `awk` finds them."""
    result = invoke("--socket", str(busy.path), "fire", "range-maker", "--wait", "--timeout", "5", columns=80)
    assert result.exit_code == ExitCode.DONE
    assert [line.split(maxsplit=1) for line in result.stdout.splitlines()] == [
        ["call", "817"],
        ["outcome", "acted"],
        ["reason", "included in block 7"],
        ["transaction", HASH],
    ]
    assert busy.requests == [Fire(plugin="range-maker", wait_s=5.0)]


@pytest.mark.parametrize(
    "outcome,code",
    [("acted", 0), ("noop", 0), ("denied", 1), ("failed", 1), ("expired", 1), ("dead", 1), (None, 3)],
)
def test_the_exit_code_says_what_came_of_it(socket: Path, outcome: str | None, code: int) -> None:
    """acted and noop are 0, anything else 1, and a call without result in time 3."""
    with fake_daemon(socket, lambda _: Fired(call_id=1, is_new=True, outcome=outcome, reason=outcome)):
        result = invoke("--socket", str(socket), "fire", "a", "--wait", "--timeout", "0.5")
    assert result.exit_code == code
    assert ("no result within 0.5 s" in result.stderr) == (outcome is None)


def test_the_payload_reaches_the_daemon_as_it_was_typed(busy: FakeDaemon) -> None:
    """Not re-encoded: spaces and the order of keys are the operator's, and so are numbers of any size."""
    typed = '{ "b": 340282366920938463463374607431768211456,  "a": [1.50] }'
    invoke("--socket", str(busy.path), "fire", "range-maker", "--payload", typed, "--key", "k")
    assert busy.requests == [Fire(plugin="range-maker", payload=typed, key="k")]


@pytest.mark.parametrize(
    "args,says",
    [
        (["--payload", "{size: 5}"], "not JSON (JSON is malformed: "),
        (["--payload", "NaN"], "not JSON"),
        (["--payload", "[" * 20_000], "nested too deeply"),
        (["--payload", "\udcff"], "not JSON"),
        (["--payload", f'"{"x" * MAX_PAYLOAD_LENGTH}"'], "the limit is 256,000"),
        (["--timeout", "5"], "--timeout needs --wait"),
        (["--wait", "--timeout", "0"], "0.0 is not in the range"),
        (["--key", ""], "must have 1 to 200 characters"),
        (["--dry-run", "--key", "k"], "--key makes two calls one; a dry run is none"),
    ],
    ids=["unquoted", "NaN", "deep", "not UTF-8", "long", "timeout alone", "no time", "empty key", "dry key"],
)
def test_what_cannot_be_right_is_refused_before_anything_is_sent(busy: FakeDaemon, args: list[str], says: str) -> None:
    """One line with what is allowed, exit code 64, and no call."""
    result = invoke("--socket", str(busy.path), "fire", "range-maker", *args)
    assert result.exit_code == ExitCode.USAGE
    assert says in result.stderr
    assert result.stderr.count("\n") == 1
    assert busy.requests == []


def test_a_refusal_of_the_daemon_is_exit_code_1(busy: FakeDaemon) -> None:
    """Its own words, which name what exists."""
    result = invoke("--socket", str(busy.path), "fire", "nobody")
    assert result.exit_code == ExitCode.ATTENTION
    assert result.stderr == "runnerctl: there is no plugin 'nobody'; there are: range-maker\n"


def test_a_key_that_was_used_before_is_told(socket: Path) -> None:
    """The operator must not think that a second call was made."""
    with fake_daemon(socket, lambda _: Fired(call_id=9, is_new=False, outcome="noop", reason="quiet")):
        result = invoke("--socket", str(socket), "fire", "a", "--key", "k")
    assert "fired before with this key" in result.stdout
    assert "noop" in result.stdout


def test_json_is_the_reply_with_the_same_exit_codes(busy: FakeDaemon, tmp_path: Path) -> None:
    """For scripts: one object on stdout."""
    result = invoke("--socket", str(busy.path), "fire", "range-maker", "--wait", "--json")
    assert json.loads(result.stdout)["transaction"] == HASH
    assert result.exit_code == ExitCode.DONE


FOUND = DryRun(
    call_id=9,
    outcome="would act",
    reason="simulation at block 7 succeeds",
    decision='{"kind":"act","actions":[{"name":"mint","args":{"strike":5},"value_wei":1000000000000000}]}',
    state_writes=["last"],
    to="0x" + "ab" * 20,
    calldata="0x" + "cd" * 100,
    value_wei=10**15,
    limits=[LimitView(key="max_value_wei_per_day", of="vault main", asked=10**15, used=3, limit=10**18)],
    block=7,
    gas_limit=123_456,
    max_fee_per_gas_wei=2 * 10**9,
    max_priority_fee_per_gas_wei=10**9,
)


def test_a_dry_run_shows_what_would_be_done_and_where_limits_stand(socket: Path) -> None:
    """The first line says that nothing happened; the calldata is whole, however narrow the terminal."""
    with fake_daemon(socket, lambda _: FOUND) as daemon:
        result = invoke("--socket", str(socket), "fire", "a", "--job", "settle", "--dry-run", columns=60)
    assert result.exit_code == ExitCode.DONE
    assert daemon.requests == [Fire(plugin="a", job="settle", is_dry_run=True, wait_s=120.0)]
    words = result.stdout.splitlines()
    assert words[0].split(maxsplit=2) == ["dry", "run", "nothing was signed, counted or stored"]
    text = " ".join("".join(words[1:]).split())
    assert "mint(strike=5) with 0.001" in text
    assert "would write last" in text
    assert "cd" * 100 in "".join(result.stdout.split())
    assert "max_value_wei_per_day of vault main: 0.001 ether of 1 ether that are left" in text
    assert "2 gwei per gas" in text
    assert "123,456" in text


@pytest.mark.parametrize("outcome,code", [("would act", 0), ("noop", 0), ("denied", 1), ("failed", 1), (None, 3)])
def test_the_exit_code_of_a_dry_run(socket: Path, outcome: str | None, code: int) -> None:
    """0 where a real call would be good; JSON has all of it."""
    with fake_daemon(socket, lambda _: DryRun(call_id=1, outcome=outcome, reason=HOSTILE)):
        result = invoke("--socket", str(socket), "fire", "a", "--dry-run")
        as_json = invoke("--socket", str(socket), "fire", "a", "--dry-run", "--json")
    assert (result.exit_code, as_json.exit_code) == (code, code)
    assert "\x1b" not in result.stdout
    assert json.loads(as_json.stdout)["outcome"] == outcome


def test_what_fell_back_says_who_has_taken_it(socket: Path) -> None:
    """The operator may have misspelt a name."""
    with fake_daemon(socket, lambda _: Fired(call_id=1, is_new=True, fell_back_to="catcher/catch")):
        result = invoke("--socket", str(socket), "fire", "typo")
    assert "catcher/catch  (the fallback: typo does not take it)" in result.stdout
    assert result.stderr.endswith("runnerctl why catcher\n")

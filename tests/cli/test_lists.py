"""`runnerctl runs` and `runnerctl tx`: the ledger, and whether every hash can be copied."""

import json
from pathlib import Path

import pytest

from runnerd.cli.exits import ExitCode
from runnerd.control.record_messages import GetRuns, GetTransactions, Runs, Transactions
from tests.cli.running import invoke
from tests.cli.samples import HASH, OTHER_HASH, RUNS, TRANSACTIONS
from tests.support.fake_daemon import FakeDaemon, fake_daemon


@pytest.mark.parametrize("columns", [80, 120, 200])
@pytest.mark.parametrize("command", ["runs", "tx"])
def test_every_hash_is_whole_at_every_width(busy: FakeDaemon, command: str, columns: int) -> None:
    """It is what one pastes into an explorer."""
    result = invoke("--socket", str(busy.path), command, columns=columns)
    assert result.exit_code == ExitCode.DONE
    assert max(map(len, result.stdout.splitlines())) <= columns
    words = result.stdout.split()
    assert HASH in words
    assert OTHER_HASH in words


def test_a_hash_is_whole_even_on_a_terminal_that_is_too_narrow(busy: FakeDaemon) -> None:
    """The terminal breaks the line, and copies it as one."""
    for command in ("runs", "tx", "why range-maker"):
        assert HASH in invoke("--socket", str(busy.path), *command.split(), columns=40).stdout.split()


def test_runs_shows_what_came_of_each_call(busy: FakeDaemon) -> None:
    """Trigger, time, how long it took, outcome and reason; a call under way shows where it is."""
    shown = invoke("--socket", str(busy.path), "runs", columns=200).stdout.splitlines()
    assert shown[0].split() == [
        "CALL",
        "PLUGIN",
        "TRIGGER",
        "FIRED",
        "(UTC)",
        "TOOK",
        "OUTCOME",
        "TRANSACTION",
        "REASON",
    ]
    assert len(shown) == len(RUNS) + 1
    acted = next(line for line in shown if HASH in line)
    for word in ("811", "event trades", "6 s", "acted", "included in block 23456780"):
        assert word in acted
    assert " sent " in next(line for line in shown if OTHER_HASH in line)


def test_runs_asks_for_the_plugin_and_the_number_that_were_given(busy: FakeDaemon) -> None:
    """The daemon chooses; nothing is filtered here."""
    invoke("--socket", str(busy.path), "runs", "--plugin", "range-maker", "-n", "3")
    assert busy.requests == [GetRuns(plugin="range-maker", limit=3)]


def test_tx_shows_fees_in_gwei_and_where_each_hash_stands(busy: FakeDaemon) -> None:
    """What was paid, of what was allowed; the node's last word when it did not take it."""
    shown = " ".join(invoke("--socket", str(busy.path), "tx", "-n", "5").stdout.split())
    assert busy.requests == [GetTransactions(limit=5)]
    assert f"{HASH} final nonce 12, call 811 of range-maker for main, chain 8453, 0.05 ether" in shown
    assert "fee in gwei: 342,027 = 284,312 gas × 1.203 (max 2.5, tip 0.001)" in shown
    assert "fee in gwei: at most 1,030,000 = 412,000 gas × 2.5 (tip 0.001)" in shown
    assert "node: node error -32000: replacement transaction underpriced" in shown
    assert "reverted in block 23456780" in shown
    assert "not accepted by a node yet" in shown


def test_tx_tells_a_no_op_from_what_it_cancels(busy: FakeDaemon) -> None:
    """Two hashes at one nonce: one did nothing and is in a block, the other was to act and never did."""
    shown = " ".join(invoke("--socket", str(busy.path), "tx").stdout.split())
    noop, _, rest = shown.partition("0x" + "55" * 32)[2].partition("0x" + "66" * 32)
    assert noop.startswith(" cancelled no-op at nonce 10, cancels call 805 of range-maker for main, chain 8453, signed")
    assert "in block 23456780" in noop
    assert "ether" not in noop
    assert rest.startswith(" cancelled nonce 10, call 805 of range-maker for main, chain 8453, 0.05 ether, signed")
    assert "never took effect" in rest.partition("fee in gwei")[0]


def test_json_is_what_the_daemon_said(busy: FakeDaemon) -> None:
    """Amounts are exact integers of wei there."""
    runs = json.loads(invoke("--socket", str(busy.path), "runs", "--json").stdout)["runs"]
    assert [one["id"] for one in runs] == [one.id for one in RUNS]
    transactions = json.loads(invoke("--socket", str(busy.path), "tx", "--json").stdout)["transactions"]
    assert transactions[1]["effective_gas_price_wei"] == TRANSACTIONS[1].effective_gas_price_wei


def test_an_empty_ledger_says_so(socket: Path) -> None:
    """Nothing at all would look like a defect."""
    with fake_daemon(
        socket, lambda request: Runs(runs=[]) if isinstance(request, GetRuns) else Transactions(transactions=[])
    ):
        assert invoke("--socket", str(socket), "runs").stdout == "no calls yet\n"
        assert invoke("--socket", str(socket), "tx").stdout == "no transactions yet\n"

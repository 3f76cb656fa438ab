"""`make demo`: a stranger's first two minutes. A real node, a real database, the real daemon, five sandboxed plugins.

Tells what happens while it happens, and ends with the ledger: every call, its reason, its transaction, and what the
sandbox refused. DEMO_KEEP=1 keeps everything running until Ctrl-C.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psycopg
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from deploy.demo.keepers import Upkeep, build_upkeep, keeper_plugins, keeper_tables
from deploy.demo.world import (
    PLUGINS,
    Daemon,
    Venue,
    build_venue,
    make_keystore,
    render_config,
    render_tables,
    running_daemon,
)
from runnerd.config.load import load_config
from runnerd.control.record_messages import GetHistory, GetRuns, GetTransactions, History, Runs, Transactions
from runnerd.control.status_messages import Status
from runnerd.store.embedded import EmbeddedPostgres
from tests.support.anvil import start_anvil

SHOW_S = 40.0
STATE_STYLE = {"ready": "green", "quarantined": "red", "backoff": "yellow", "unhealthy": "yellow", "starting": "cyan"}
OUTCOME_STYLE = {"acted": "bold green", "denied": "red", "failed": "red", "dead": "bold red", "expired": "dim"}

console = Console(width=None if sys.stdout.isatty() else 150, highlight=False)


class Story:
    """What happened, as it happened: shown beside the live table on a terminal, printed line by line elsewhere."""

    def __init__(self) -> None:
        self.lines: list[Text] = []
        self._began = time.monotonic()

    def tell(self, text: str) -> None:
        """One more line."""
        line = Text.assemble((f"{time.monotonic() - self._began:5.1f} s  ", "dim"), text)
        self.lines.append(line)
        if not console.is_terminal:
            console.print(line)


def main() -> None:
    """Build the world, run the show, print the ledger, leave nothing behind."""
    # A SIGTERM to the demo must run the same clean-up as Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    directory = Path(tempfile.mkdtemp(prefix="runnerd-demo-"))
    directory.chmod(0o755)
    story = Story()
    try:
        _run(directory, story)
    except KeyboardInterrupt:
        console.print("stopped")
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _run(directory: Path, story: Story) -> None:
    console.rule("runnerd demo")
    console.print("Three strategies and two keepers that nobody has to trust, one transaction per decision.\n")
    with start_anvil(block_time_s=1) as anvil:
        story.tell(f"an EVM node runs at {anvil.url} (anvil, a block a second)")
        operator = make_keystore(directory)
        venue = build_venue(anvil.url, operator)
        story.tell(f"vault {venue.vault.address} holds 100 ether; its operator is {operator}")
        upkeep = build_upkeep(venue, make_keystore(directory, "keeper"))
        story.tell(f"two keepers share a wallet without any right: {upkeep.wallet}")
        config = render_config(
            venue,
            {
                "range-maker": {"path": str(PLUGINS / "range_maker.py"), "params": {"width": 500}},
                "flow-follower": {"path": str(PLUGINS / "flow_follower.py"), "params": {"min_size": 10}},
                "intruder": {
                    "path": str(PLUGINS / "intruder.py"),
                    "params": {"keystore": str(directory / "operator.json"), "port": int(anvil.url.rpartition(":")[2])},
                    "restart": {"crashes_to_quarantine": 3},
                },
                **keeper_plugins(upkeep),
            },
        )
        (directory / "runnerd.toml").write_text(config + render_tables(keeper_tables(upkeep)))
        with running_daemon(directory) as daemon:
            status = daemon.wait_ready("range-maker", "flow-follower", "nav-refresh", "settlement")
            story.tell(f"runnerd is {status.health}: pid {status.pid}, embedded PostgreSQL, {status.http}/metrics")
            _show(daemon, venue, story)
            _ledger(daemon, upkeep)
            if os.environ.get("DEMO_KEEP"):
                _keep(daemon, directory)
        console.print("\nrunnerd drained and stopped; nothing is left running.")


def _show(daemon: Daemon, venue: Venue, story: Story) -> None:
    """The live part: things happen at their seconds while the table is redrawn."""
    acts = [
        (3.0, lambda: _announce(daemon, story, {"id": 1, "side": "buy", "size": 25})),
        (6.0, lambda: _move_price(venue, story, 201_000)),
        (9.0, lambda: _fire(daemon, story)),
        (12.0, lambda: _announce(daemon, story, {"id": 2, "side": "sell", "size": 3})),
        (15.0, lambda: _kill_worker(daemon, story)),
        (20.0, lambda: _move_price(venue, story, 199_500)),
        (24.0, lambda: _announce(daemon, story, {"id": 3, "side": "sell", "size": 90})),
    ]
    began = time.monotonic()
    with Live(console=console, refresh_per_second=8, transient=True, auto_refresh=False) as live:
        while time.monotonic() - began < SHOW_S:
            if acts and time.monotonic() - began >= acts[0][0]:
                acts.pop(0)[1]()
            if console.is_terminal:
                live.update(Group(_plugin_table(daemon.status()), Text(), *story.lines[-12:]), refresh=True)
            time.sleep(0.1)  # how often the acts and the table are looked after
    if console.is_terminal:
        for line in story.lines:
            console.print(line)


def _announce(daemon: Daemon, story: Story, trade: dict[str, object]) -> None:
    """What an indexer does: one pg_notify in the database that runnerd listens to."""
    config = load_config(daemon.directory / "runnerd.toml")
    database = EmbeddedPostgres(config.data_dir, config.runtime_dir)
    with psycopg.connect(database.dsn, autocommit=True) as connection:
        connection.execute("select pg_notify('trades', %s)", (json.dumps(trade),))
    story.tell(f"an indexer announces trade {trade['id']}: {trade['side']} {trade['size']} (pg_notify)")


def _move_price(venue: Venue, story: Story, spot: int) -> None:
    venue.send(venue.market.functions.setSpot(spot))
    story.tell(f"the market moves to {spot / 100:,.2f}")


def _fire(daemon: Daemon, story: Story) -> None:
    runnerctl = [str(Path(sys.executable).with_name("runnerctl")), "--socket", str(daemon.socket)]
    fire = ["fire", "flow-follower", "--payload", json.dumps({"id": 99, "side": "buy", "size": 50}), "--wait"]
    done = subprocess.run([*runnerctl, *fire], capture_output=True, text=True, check=False)
    story.tell("an operator types: runnerctl fire flow-follower --wait")
    for line in (done.stdout + done.stderr).splitlines():
        story.tell(f"    {line}")


def _kill_worker(daemon: Daemon, story: Story) -> None:
    before = {plugin.name: plugin.pid for plugin in daemon.status().plugins}
    pid = before["range-maker"]
    if pid is None:
        return
    began = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    after = daemon.wait_until(
        lambda status: any(p.name == "range-maker" and p.state == "ready" and p.pid != pid for p in status.plugins)
    )
    took_ms = (time.monotonic() - began) * 1000
    pids = {plugin.name: plugin.pid for plugin in after.plugins}
    kept = "the others kept theirs" if pids["flow-follower"] == before["flow-follower"] else "flow-follower changed too"
    story.tell(f"kill -9 {pid} (range-maker): back as pid {pids['range-maker']}, seen after {took_ms:.0f} ms; {kept}")


def _keep(daemon: Daemon, directory: Path) -> None:
    console.print(
        f"\nDEMO_KEEP: still running (Ctrl-C ends it). Try: runnerctl --config {directory}/runnerd.toml status"
    )
    daemon.process.wait()


# --- tables ----------------------------------------------------------------------------------------------------------


def _plugin_table(status: Status) -> Table:
    table = Table(title=f"runnerd is {status.health}", title_justify="left", expand=True)
    for column in ("plugin", "state", "pid", "gen", "memory", "last outcome", "reason"):
        table.add_column(column, no_wrap=True, overflow="ellipsis", ratio=1 if column == "reason" else None)
    for plugin in status.plugins:
        table.add_row(
            plugin.name,
            Text(plugin.state, STATE_STYLE.get(plugin.state, "")),
            str(plugin.pid or ""),
            str(plugin.generation),
            f"{(plugin.memory_bytes or 0) / 2**20:.1f} MiB" if plugin.memory_bytes else "",
            Text(plugin.last_outcome or "", OUTCOME_STYLE.get(plugin.last_outcome or "", "")),
            Text(plugin.last_reason or plugin.reason),
        )
    return table


def _ledger(daemon: Daemon, upkeep: Upkeep) -> None:
    console.print()
    console.rule("the ledger: every call, its reason, its transaction")
    runs = daemon.ask(GetRuns(limit=200))
    assert isinstance(runs, Runs)
    table = Table(expand=True)
    for column in ("call", "plugin", "trigger", "outcome"):
        table.add_column(column, no_wrap=True)
    table.add_column("reason / transaction", overflow="fold", ratio=1)
    quiet = 0
    for run in reversed(runs.runs):
        is_quiet = run.outcome == "noop" and not (run.reason or "").startswith("could")
        quiet += is_quiet
        if is_quiet and quiet > 6:  # a few of them tell the story
            continue
        detail = Text(run.reason or "(open)")
        if run.transaction:
            detail.append(f"\n{run.transaction}", "cyan")
        outcome = run.outcome or run.state
        table.add_row(str(run.id), run.plugin, run.trigger, Text(outcome, OUTCOME_STYLE.get(outcome, "")), detail)
    console.print(table)
    console.print(f"({len(runs.runs)} calls; {max(0, quiet - 6)} more uneventful noops are not shown)\n")
    _transactions(daemon, upkeep.venue)
    _kept_up(daemon, upkeep)
    _refused(daemon)


def _transactions(daemon: Daemon, venue: Venue) -> None:
    console.rule("on chain: many actions, one transaction")
    transactions = daemon.ask(GetTransactions(limit=50))
    assert isinstance(transactions, Transactions)
    executed = {
        "0x" + event["transactionHash"].hex().removeprefix("0x"): event["args"]["calls"]
        for event in venue.vault.events.Executed().get_logs(from_block=0)
    }
    for transaction in reversed(transactions.transactions):
        if transaction.vault != "demo":
            continue  # a keeper's
        calls = executed.get(transaction.hash, 0)
        console.print(
            f"  call {transaction.call_id:>3}  {transaction.plugin:<14} {transaction.hash}  "
            f"{calls} call{'s' if calls != 1 else ''}, nonce {transaction.nonce}, {transaction.state}"
        )
    console.print(f"  positions opened at the market: {venue.market.functions.positionCount().call()}\n")


def _kept_up(daemon: Daemon, upkeep: Upkeep) -> None:
    """A keeper's wallet calls the contracts itself: what it did is in their logs."""
    console.rule("what the keepers kept up, with a wallet of their own")
    transactions = daemon.ask(GetTransactions(limit=50))
    assert isinstance(transactions, Transactions)
    kept = [transaction for transaction in reversed(transactions.transactions) if transaction.vault != "demo"]
    for transaction in kept:
        console.print(
            f"  call {transaction.call_id:>3}  {transaction.plugin:<14} {transaction.hash}  "
            f"keeper {transaction.vault}, nonce {transaction.nonce}, {transaction.state}"
        )
    for event in upkeep.feed.events.Refreshed().get_logs(from_block=0):
        console.print(f"  block {event['blockNumber']}: NAV {event['args']['nav'] / 10**18:.6f} ether published")
    for event in upkeep.rounds.events.Settled().get_logs(from_block=0):
        settled = event["args"]
        console.print(
            f"  block {event['blockNumber']}: round {settled['round']} settled at {settled['price'] / 100:,.2f}"
        )
    console.print()


def _refused(daemon: Daemon) -> None:
    console.rule("what the sandbox and the policy refused the intruder")
    history = daemon.ask(GetHistory(plugin="intruder", limit=50))
    assert isinstance(history, History)
    for event in reversed(history.events):
        if event.kind in ("denied syscall", "quarantined"):
            console.print(Text(f"  kernel → runnerd: {event.kind}: {event.detail}"))
    runs = daemon.ask(GetRuns(plugin="intruder", limit=50))
    assert isinstance(runs, Runs)
    for run in reversed(runs.runs):
        if run.outcome in ("denied", "dead") or (run.reason or "").lower().startswith("could"):
            console.print(Text(f"  call {run.id}: {run.outcome}: {run.reason}"))


if __name__ == "__main__":
    main()

"""A stage for black-box tests: one real node and one real PostgreSQL for the session, and real daemons on them.

`stage.scene(plugins)` is a vault, a market, a ledger and a configuration, with a `runnerd` to start, kill and ask. What
a test may look at is what an operator may: control socket, ledger, chain, log, processes.
"""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import psycopg
import pytest
from psycopg.rows import dict_row

from deploy.demo.world import (
    Daemon,
    Venue,
    build_venue,
    make_keystore,
    render_config,
    start_daemon,
)
from runnerd.control.messages import Fire, Fired
from runnerd.control.record_messages import (
    GetHistory,
    GetRuns,
    GetTransactions,
    History,
    HistoryEvent,
    Run,
    Runs,
    Transaction,
    Transactions,
)
from runnerd.control.status_messages import PluginStatus
from runnerd.store.embedded import EmbeddedPostgres
from tests.support.anvil import Anvil, start_anvil
from tests.support.leaks import find_descendants, wait_until_gone
from tests.support.postgres import PostgresServer
from tests.support.preloaded import Preloaded, preloaded
from tests.support.short_dir import make_short_dir

T = TypeVar("T")
Plugins = Mapping[str, Mapping[str, object]]

PUPPET = Path(__file__).resolve().parents[1] / "integration/plugins/puppet.py"
PYTHON = (sys.executable, "-m")
RUNNERD = (*PYTHON, "runnerd")
"""Forked by a Python that has it imported, as is any other module."""
RUNNERD_PROGRAM = (str(Path(sys.executable).with_name("runnerd")),)
"""A new interpreter, with an environment and a command line of its own."""
RUNNERCTL = Path(sys.executable).with_name("runnerctl")
BLOCK_TIME_S = 0.2
OWNER_WEI = 10**22
POLL_S = 0.01
DEADLINE_S = 30.0


def puppet(**config: object) -> dict[str, object]:
    """`[plugins.NAME]` of a plugin that obeys its payload, whatever NAME is."""
    return {"path": str(PUPPET), "class_name": "puppet", **config}


def mint(*, strike: int = 200_000, value_wei: int = 10**15) -> tuple[str, dict[str, object], int]:
    """An action of the puppet that succeeds."""
    return "mint_binary", {"strike": strike, "above": True}, value_wei


def wait_for(find: Callable[[], T | None], what: str, deadline_s: float = DEADLINE_S) -> T:
    """The first thing found that is not None, false or empty. Fails with `what` at the deadline."""
    until = time.monotonic() + deadline_s
    while True:
        found = find()
        if found:
            return found
        assert time.monotonic() < until, f"not within {deadline_s:g} s: {what}"
        time.sleep(POLL_S)


def free_port() -> int:
    """A port on loopback that nobody listens on: for a daemon that must be found again after a restart."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


class Effect(NamedTuple):
    """One `Executed` event of the vault: what took place on chain."""

    transaction: str
    intent: str
    calls: int
    value_wei: int


class Scene:
    """One vault and its runnerd, in a directory of its own."""

    def __init__(
        self, directory: Path, venue: Venue, dsn: str, python: Preloaded | None, command: Sequence[str]
    ) -> None:
        self._python = python
        self._command = tuple(command)
        self.directory = directory
        self.venue = venue
        self.dsn = dsn
        self._daemon: Daemon | None = None

    # --- the daemon --------------------------------------------------------------------------------------------------

    @property
    def daemon(self) -> Daemon:
        """The last one started."""
        assert self._daemon is not None, "not started"
        return self._daemon

    @property
    def config(self) -> Path:
        """Its configuration file."""
        return self.directory / "runnerd.toml"

    def start(self, *ready: str, deadline_s: float = 60.0) -> Daemon:
        """Start runnerd and wait until these plugins are ready."""
        self.start_unready().wait_ready(*ready, deadline_s=deadline_s)
        return self.daemon

    def start_unready(self) -> Daemon:
        """Start runnerd and do not wait."""
        if self._python is not None and self._command[:2] == PYTHON:
            self._daemon = self._fork(self._python, *self._command[2:])
        else:
            self._daemon = start_daemon(self.directory, self._command)
        return self._daemon

    def _fork(self, python: Preloaded, module: str, *arguments: str) -> Daemon:
        log = self.directory / "runnerd.log"
        with log.open("ab") as sink:
            fds = {1: sink.fileno(), 2: sink.fileno()}
            process = python.start(module, *arguments, "--config", str(self.config), fds=fds)
        return Daemon(self.directory, process, log)

    def kill(self) -> None:
        """`kill -9` of the supervisor, and wait until every process of it is gone."""
        pids = [self.daemon.process.pid, *find_descendants(self.daemon.process.pid)]
        self.daemon.kill()
        wait_until_gone(pids)

    def kill_if_running(self) -> None:
        """Whatever happened: no process of this scene lives on."""
        if self._daemon is not None:
            self._daemon.kill()

    def stop(self) -> int:
        """SIGTERM; the exit code. 0 if none runs."""
        return self._daemon.stop() if self._daemon is not None and self._daemon.process.poll() is None else 0

    def plugin(self, name: str) -> PluginStatus:
        """A plugin's line of the status."""
        return next(plugin for plugin in self.daemon.status().plugins if plugin.name == name)

    def wait_plugin(
        self, name: str, is_so: Callable[[PluginStatus], bool], deadline_s: float = DEADLINE_S
    ) -> PluginStatus:
        """The first status of a plugin for which `is_so` holds."""
        status = self.daemon.wait_until(lambda s: any(p.name == name and is_so(p) for p in s.plugins), deadline_s)
        return next(plugin for plugin in status.plugins if plugin.name == name)

    def pids(self) -> dict[str, int | None]:
        """The worker of each plugin."""
        return {plugin.name: plugin.pid for plugin in self.daemon.status().plugins}

    def log(self, action: str | None = None) -> list[dict[str, Any]]:
        """Its log records, of one action or of all."""
        lines = self.daemon.log.read_text("utf-8", errors="replace").splitlines()
        records = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
        return [record for record in records if action in (None, record.get("action"))]

    def postmaster(self) -> int | None:
        """The main process of its private cluster; None while there is none."""
        try:
            return int((self.directory / "data/postgres/postmaster.pid").read_text().splitlines()[0])
        except (FileNotFoundError, IndexError, ValueError):
            return None

    def runnerctl(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """The command as an operator runs it."""
        command = [str(RUNNERCTL), "--config", str(self.config), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    # --- calls -------------------------------------------------------------------------------------------------------

    def fire(
        self, plugin: str, wait_s: float = DEADLINE_S, *, idempotency_key: str | None = None, **instruction: object
    ) -> Fired:
        """Call a plugin with an instruction, by the control socket, and wait for the result."""
        fire = Fire(plugin=plugin, payload=json.dumps(instruction), key=idempotency_key, wait_s=wait_s)
        fired = self.daemon.ask(fire, timeout_s=wait_s + 10)
        assert isinstance(fired, Fired)
        return fired

    def announce(self, topic: str, *instructions: Mapping[str, object]) -> None:
        """`pg_notify` in the ledger's database: all in one transaction, so that they arrive at once."""
        with psycopg.connect(self.dsn) as connection:
            for instruction in instructions:
                connection.execute("select pg_notify(%s, %s)", (topic, json.dumps(instruction)))

    def runs(self, plugin: str | None = None, limit: int = 200) -> list[Run]:
        """The last calls, newest first."""
        reply = self.daemon.ask(GetRuns(plugin=plugin, limit=limit))
        assert isinstance(reply, Runs)
        return reply.runs

    def run(self, call_id: int) -> Run:
        """One of the last calls."""
        return next(run for run in self.runs(limit=1_000) if run.id == call_id)

    def wait_run(self, call_id: int, deadline_s: float = DEADLINE_S) -> Run:
        """A call with its outcome."""
        return wait_for(
            lambda: next((run for run in self.runs(limit=1_000) if run.id == call_id and run.outcome), None),
            f"an outcome of call {call_id}", deadline_s,
        )  # fmt: skip

    def transactions(self) -> list[Transaction]:
        """What was signed, newest first."""
        reply = self.daemon.ask(GetTransactions(limit=1_000))
        assert isinstance(reply, Transactions)
        return reply.transactions

    def history(self, plugin: str) -> list[HistoryEvent]:
        """What happened to its workers, newest first."""
        reply = self.daemon.ask(GetHistory(plugin=plugin, limit=200))
        assert isinstance(reply, History)
        return reply.events

    # --- the ledger and the chain ------------------------------------------------------------------------------------

    def rows(self, query: str, *parameters: object) -> list[dict[str, Any]]:
        """Rows of the ledger itself."""
        with psycopg.connect(self.dsn, autocommit=True, row_factory=dict_row) as connection:
            return connection.execute(query.encode(), parameters).fetchall()

    def state(self, plugin: str, key: str) -> Any:
        """A committed value of a plugin's state; None if there is none."""
        found = self.rows("select value from plugin_state where plugin = %s and key = %s", plugin, key)
        return json.loads(found[0]["value"]) if found else None

    def effects(self) -> list[Effect]:
        """What the vault executed, oldest first."""
        return [
            Effect(
                "0x" + event["transactionHash"].hex().removeprefix("0x"),
                "0x" + bytes(event["args"]["intentId"]).hex(),
                event["args"]["calls"],
                event["args"]["value"],
            )
            for event in self.venue.vault.events.Executed().get_logs(from_block=0)
        ]

    def effects_of(self, call_id: int) -> list[Effect]:
        """What took place on chain for one call, by the hashes that the ledger has for it."""
        hashes = {row["hash"] for row in self.rows("select hash from attempts where call_id = %s", call_id)}
        return [effect for effect in self.effects() if effect.transaction in hashes]


class Stage:
    """A node, a database server, and what forks daemons: without it each is a new interpreter.

    Each scene has a vault, a key and a database of its own.
    """

    def __init__(self, node: Anvil, postgres: PostgresServer, python: Preloaded | None = None) -> None:
        self.node = node
        self._postgres = postgres
        self._python = python

    @contextmanager
    def scene(
        self,
        plugins: Plugins,
        *,
        node: Anvil | None = None,
        url: str | None = None,
        start: bool = True,
        has_dsn: bool = True,
        operator: str | None = None,
        command: Sequence[str] = RUNNERD,
        **tables: Mapping[str, object],
    ) -> Iterator[Scene]:
        """A new scene, with its daemon running unless `start` is False.

        `node` if it is not the session's, `url` if runnerd reaches it another way; `chain`, `vault` and `wallet` for
        extra keys. `operator` with a `wallet` of another kind: the address of a key elsewhere, and its table.
        `command` if it is not RUNNERD. `has_dsn=False`: with a cluster of its own, which takes two seconds more.
        """
        with make_short_dir() as directory, self._database() if has_dsn else nullcontext() as dsn:
            operator = operator or make_keystore(directory)
            node = node or self.node
            node.rpc("anvil_setBalance", node.accounts[0], hex(OWNER_WEI))  # it pays for every scene of the session
            venue = build_venue(node.url, operator)
            dsn_there = dsn or EmbeddedPostgres(directory / "data", directory / "run").dsn
            scene = Scene(directory, venue, dsn_there, self._python, command)
            scene.config.write_text(render_config(venue, plugins, url=url, dsn=dsn, **tables))
            with _ended(scene):
                if start:
                    scene.start(*plugins)
                yield scene

    @contextmanager
    def _database(self) -> Iterator[str]:
        dsn = self._postgres.create_database()
        try:
            yield dsn
        finally:
            self._postgres.drop_database(dsn)


@contextmanager
def _ended(scene: Scene) -> Iterator[None]:
    """Stops the daemon after the block, and fails if it does not end in order."""
    try:
        yield
        code = scene.stop()
        assert code == 0, f"runnerd ended with {code}:\n{scene.daemon.log_tail()}"
    finally:
        scene.kill_if_running()


@pytest.fixture(scope="session")
def node() -> Iterator[Anvil]:
    """The session's EVM node, which makes a block every fifth of a second."""
    with start_anvil(block_time_s=BLOCK_TIME_S) as anvil:
        yield anvil


@pytest.fixture(scope="session")
def python() -> Iterator[Preloaded]:
    """What forks the daemons."""
    with preloaded() as server:
        yield server


@pytest.fixture(scope="session")
def stage(node: Anvil, postgres: PostgresServer, python: Preloaded) -> Stage:
    """Builds scenes."""
    return Stage(node, postgres, python)


def is_root() -> bool:
    """Whether the tests run as root."""
    return os.geteuid() == 0

"""The world of the triggers' benchmarks: one node and one PostgreSQL for ours and for others, daemons one by one."""

import http.client
import json
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import psycopg
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from deploy.demo.world import Daemon, Venue, build_venue, make_keystore, render_config, running_daemon
from tests.bench.echo import REACT, REACT_SELECTOR, deploy_echo, poking, topic_of
from tests.bench.world import PLUGINS, SHARED_MEMORY
from tests.support.anvil import Anvil, start_anvil
from tests.support.postgres import PostgresServer, host_postgres
from tests.support.short_dir import make_short_dir

CHAIN_ID: Final = 1337
"""What Silverback's framework takes every local node to be."""
POKER: Final = "0x" + "be" * 20
"""Who causes events. The node's own accounts are the bots'."""
NUDGE_S: Final = 0.25
"""anvil leaves a transaction in its pool that came while it mined another one: then a block is mined for it."""
CALLS_DEADLINE_S: Final = 60.0
LOOK_S: Final = 0.05


class Asking:
    """Requests to the node over one connection that is kept: what is measured is not how one connects."""

    def __init__(self, url: str) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
        self._connection.connect()

    def rpc(self, method: str, *params: object) -> Any:
        """One request. Raises RuntimeError with the node's error."""
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        self._connection.request("POST", "/", body, {"Content-Type": "application/json"})
        answer = json.loads(self._connection.getresponse().read())
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return answer["result"]


@dataclass(slots=True)
class Arena:
    """A node that mines each transaction at once, a server, a venue, and two contracts that write logs."""

    node: Anvil
    server: PostgresServer
    venue: Venue
    directory: Path
    runtime_dir: Path
    stimulus: str
    reaction: str
    asking: Asking

    @contextmanager
    def daemon(self, plugins: Mapping[str, Mapping[str, object]], **chain: object) -> Iterator[tuple[Daemon, str]]:
        """Our daemon with these plugins, ready; and the DSN of its ledger, which is its event database too.

        It hears of blocks over a websocket; the database syncs each commit, and the links lie in memory, as in
        production.
        """
        dsn = self.server.create_database()
        keys = {"id": CHAIN_ID, "confirmations": 1, "poll_s": 1.0, **chain}
        config = render_config(
            self.venue, plugins, url=self.node.ws_url, dsn=dsn, chain=keys, wallet={"max_in_flight": 1_000}
        )
        config = config.replace('log_level = "debug"', 'log_level = "info"')
        config = config.replace('runtime_dir = "run"', f'runtime_dir = "{self.runtime_dir}"')
        config += f'[vaults.demo.actions.react]\ncontract = "{self.reaction}"\nfunction = "{REACT}"\n'
        (self.directory / "runnerd.toml").write_text(config)
        with running_daemon(self.directory) as daemon:
            daemon.wait_ready(*plugins)
            yield daemon, dsn

    def mine(self) -> tuple[int, int]:
        """A block; its number, and the moment before it was asked for (CLOCK_MONOTONIC, ns)."""
        at = time.monotonic_ns()
        self.asking.rpc("evm_mine")
        return int(self.asking.rpc("eth_blockNumber"), 16), at

    def poke(self, number: int) -> int:
        """A transaction that writes the stimulus' log, mined at once; the moment before it was sent."""
        transaction = poking(POKER, self.stimulus, number)
        at = time.monotonic_ns()
        self.asking.rpc("eth_sendTransaction", transaction)
        return at

    def poke_all(self, numbers: range) -> tuple[int, float]:
        """One block with a log for each number; the moment before it was mined, also as seconds since the epoch."""
        self.asking.rpc("evm_setAutomine", False)
        try:
            for number in numbers:
                self.asking.rpc("eth_sendTransaction", poking(POKER, self.stimulus, number))
            at, now = time.monotonic_ns(), time.time()
            self.asking.rpc("evm_mine")
            block = self.asking.rpc("eth_getBlockByNumber", "latest", False)
            assert len(block["transactions"]) == len(numbers), "they are not all in one block"
            return at, now
        finally:
            self.asking.rpc("evm_setAutomine", True)


@contextmanager
def open_arena() -> Iterator[Arena]:
    """For the length of the block."""
    memory = SHARED_MEMORY if Path(SHARED_MEMORY).is_dir() else None
    with (
        tempfile.TemporaryDirectory(prefix="rd-", dir=memory) as runtime_dir,
        make_short_dir() as directory,
        start_anvil(prune_history=False, chain_id=CHAIN_ID) as node,
        host_postgres(directory / "pg", directory / "pgrun") as (_, report),
    ):
        server = PostgresServer(report["dsn"])
        with psycopg.connect(server.dsn) as connection:
            assert connection.execute("show fsync").fetchone() == ("on",), "durable is what is measured"
        venue = build_venue(node.url, make_keystore(directory))
        node.rpc("anvil_setBalance", POKER, hex(10**24))
        node.rpc("anvil_impersonateAccount", POKER)
        stimulus, reaction = deploy_echo(node, "Poked"), deploy_echo(node, "Reacted")
        allow = venue.vault.functions.setAllowed(venue.w3.to_checksum_address(reaction), REACT_SELECTOR, True)
        venue.send(allow)
        yield Arena(
            node, server, venue, directory, Path(runtime_dir), stimulus, venue.w3.to_checksum_address(reaction),
            Asking(node.url),
        )  # fmt: skip


def stamped(**config: object) -> dict[str, object]:
    """`[plugins.NAME]` of the plugin that says when it was entered."""
    path = str(PLUGINS / "stamped.py")
    return {"path": path, "class_name": "stamped", "max_calls_per_s": 100_000, "queue": 100_000, **config}


class Ended(dict[str, list[tuple[str, int]]]):
    """Of each plugin the calls that have ended: payload, and the moment of `decide` (CLOCK_MONOTONIC, ns)."""

    @property
    def count(self) -> int:
        """Of all plugins."""
        return sum(map(len, self.values()))


def wait_for_calls(dsn: str, trigger: str, count: int, after: int = 0) -> Ended:
    """Until so many calls with an id above `after` have ended; all of these. Raises TimeoutError."""
    query = "select plugin, payload, reason, outcome from job_calls where trigger = %s and state = 'done' and id > %s"
    until = time.monotonic() + CALLS_DEADLINE_S
    with psycopg.connect(dsn, autocommit=True) as connection:
        while True:
            rows = connection.execute(query, (trigger, after)).fetchall()
            if len(rows) >= count:
                break
            if time.monotonic() > until:
                raise TimeoutError(f"{len(rows)} of {count} calls within {CALLS_DEADLINE_S:g} s")
            time.sleep(LOOK_S)  # after the measured part: the plugins have noted the times
    wrong = [row for row in rows if row[3] != "noop"]
    assert not wrong, f"{len(wrong)} calls went wrong, as {wrong[0]}"
    ended = Ended()
    for plugin, payload, reason, _ in rows:
        ended.setdefault(plugin, []).append((payload, int(reason)))
    return ended


class Watcher:
    """Hears of each reaction as the node tells it, and when (CLOCK_MONOTONIC, ns): by number and by who it was."""

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self._heard: dict[tuple[int, int], int] = {}
        self._news = threading.Condition()
        self._connection: ClientConnection = connect(arena.node.ws_url)
        wanted = {"address": arena.reaction, "topics": [topic_of("Reacted")]}
        request = {"jsonrpc": "2.0", "id": 1, "method": "eth_subscribe", "params": ["logs", wanted]}
        self._connection.send(json.dumps(request))
        assert "result" in json.loads(self._connection.recv())
        self._thread = threading.Thread(target=self._hear, daemon=True)
        self._thread.start()

    def wait_for(self, number: int, whos: range, deadline_s: float = 30.0) -> list[int]:
        """When each of these had reacted. Raises TimeoutError."""
        wanted = [(number, who) for who in whos]
        until = time.monotonic() + deadline_s
        with self._news:
            while not all(key in self._heard for key in wanted):
                if time.monotonic() > until:
                    raise TimeoutError(f"of the reactions to {number} came {[k for k in wanted if k in self._heard]}")
                if not self._news.wait(NUDGE_S):
                    self._arena.asking.rpc("evm_mine")
            return [self._heard[key] for key in wanted]

    def close(self) -> None:
        """Hear no more."""
        self._connection.close()
        self._thread.join()

    def _hear(self) -> None:
        try:
            for message in self._connection:
                at = time.monotonic_ns()
                data = bytes.fromhex(json.loads(message)["params"]["result"]["data"][2:])
                with self._news:
                    self._heard.setdefault((int.from_bytes(data[:32]), int.from_bytes(data[32:64])), at)
                    self._news.notify_all()
        except ConnectionClosed:
            pass

"""The world of a benchmark: a node, the demo's venue, a PostgreSQL that runs already, and a daemon with plugins."""

import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from deploy.demo.world import Daemon, Venue, build_venue, make_keystore, render_config, running_daemon
from tests.support.anvil import start_anvil
from tests.support.postgres import PostgresServer, host_postgres
from tests.support.short_dir import make_short_dir

PLUGINS = Path(__file__).parent / "plugins"
BLOCK_TIME_S = 0.25
LOOK_S = 0.02
SHARED_MEMORY = "/dev/shm"  # a file system in memory, as /run is, and below it a directory of our own


def noop(**config: object) -> dict[str, object]:
    """`[plugins.NAME]` of the plugin that answers everything with a Noop, whatever NAME is."""
    return {"path": str(PLUGINS / "noop.py"), "class_name": "noop", **config}


@dataclass(slots=True)
class Follower:
    """The daemon's log, read once: asking the daemon itself would be measured as well."""

    path: Path
    records: list[dict[str, Any]] = field(default_factory=list)
    _offset: int = 0
    _rest: bytes = b""

    def read(self) -> list[dict[str, Any]]:
        """What was logged since the last time; kept in `records` as well."""
        with self.path.open("rb") as log:
            log.seek(self._offset)
            text = self._rest + log.read()
            self._offset = log.tell()
        *lines, self._rest = text.split(b"\n")
        fresh = [json.loads(line) for line in lines if line.startswith(b"{")]
        self.records += fresh
        return fresh

    def wait_for(self, is_so: Callable[[dict[str, Any]], bool], count: int, deadline_s: float) -> list[dict[str, Any]]:
        """The first `count` records from now on for which `is_so` holds. Raises TimeoutError."""
        until = time.monotonic() + deadline_s
        found: list[dict[str, Any]] = []
        while len(found) < count:
            if time.monotonic() > until:
                raise TimeoutError(f"{len(found)} of {count} within {deadline_s:g} s; last: {self.records[-5:]}")
            found += filter(is_so, self.read())
            if len(found) < count:
                time.sleep(LOOK_S)  # between two looks; every time comes from the log
        return found[:count]


def time_of(record: Mapping[str, Any]) -> float:
    """When it was logged, in seconds since the epoch."""
    return datetime.fromisoformat(record["time"]).timestamp()


def is_state(record: Mapping[str, Any], state: str) -> bool:
    """Whether a worker got into this state."""
    return record.get("action") == "worker_state" and record.get("state") == state


@contextmanager
def bench_world(
    plugins: Mapping[str, Mapping[str, object]],
) -> Iterator[tuple[Daemon, Venue, str]]:
    """A node with a block each 0.25 s, the venue, and a daemon with these plugins; and the DSN of its ledger.

    The database runs before the daemon and syncs each commit, and the links lie in memory, as in production.
    """
    memory = SHARED_MEMORY if Path(SHARED_MEMORY).is_dir() else None
    with (
        tempfile.TemporaryDirectory(prefix="rd-", dir=memory) as runtime_dir,
        make_short_dir() as directory,
        start_anvil(block_time_s=BLOCK_TIME_S) as anvil,
        host_postgres(directory / "pg", directory / "pgrun") as (_, report),
    ):
        dsn = PostgresServer(report["dsn"]).create_database()
        venue = build_venue(anvil.url, make_keystore(directory))
        config = render_config(venue, plugins, dsn=dsn, chain={"confirmations": 1, "poll_s": 0.1})
        config = config.replace('log_level = "debug"', 'log_level = "info"')
        config = config.replace('runtime_dir = "run"', f'runtime_dir = "{runtime_dir}"')
        (directory / "runnerd.toml").write_text(config)
        with running_daemon(directory) as daemon:
            yield daemon, venue, dsn

"""The fort: one daemon with a prober, an anarchist and a bystander, and all around it that there is to attack."""

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.support.scene import Scene, Stage, puppet

HERE = Path(__file__).parent
PROBES = HERE / "probes.py"
REPOSITORY = HERE.parents[1]
FORGIVING = {"crashes_to_quarantine": 100, "backoff_first_s": 0.02, "backoff_max_s": 0.02}
PLUGINS: dict[str, dict[str, object]] = {
    "prober": {
        "path": str(HERE / "plugins/prober.py"),
        "params": {"probes": str(PROBES)},
        "sandbox": {"readable_paths": [str(PROBES)]},
        "restart": FORGIVING,
    },
    "anarchist": {
        "path": str(HERE / "plugins/anarchist.py"),
        "sandbox": {"memory_mib": 256},
        "restart": FORGIVING,
    },
    "bystander": puppet(),
}
VICTIM = "import sys, time; print(id(sys), flush=True); time.sleep(600)"


@pytest.fixture(scope="session")
def fort(stage: Stage) -> Iterator[Scene]:
    """See the module."""
    with stage.scene(PLUGINS) as scene:
        yield scene


@pytest.fixture(scope="module")
def targets(fort: Scene) -> Iterator[dict[str, object]]:
    """What the probes attack. All of it is there and reachable for any process of this user."""
    with contextlib.ExitStack() as stack:
        victim = stack.enter_context(
            subprocess.Popen([sys.executable, "-c", VICTIM], stdout=subprocess.PIPE, text=True)
        )
        stack.callback(victim.kill)
        assert victim.stdout is not None
        scratch = fort.directory / "scratch"
        scratch.mkdir(exist_ok=True)
        file = scratch / "file"
        file.write_text("theirs")
        abstract = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        abstract.bind(f"\0runnerd-test-{os.getpid()}")
        abstract.listen(64)
        datagram = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        datagram.bind(str(scratch / "datagram"))
        stack.callback((scratch / "datagram").unlink)
        database = psycopg.conninfo.conninfo_to_dict(fort.dsn)
        bystander = fort.plugin("bystander")
        links = fort.directory / "run/links"
        yield {
            "keystore": str(fort.directory / "operator.json"),
            "passphrase": str(fort.directory / "passphrase"),
            "config": str(fort.config),
            "log": str(fort.daemon.log),
            "data_dir": str(fort.directory / "data"),
            "other_code": str(PLUGINS["anarchist"]["path"]),
            "supervisor_code": str(REPOSITORY / "runnerd/app.py"),
            "links": str(links),
            "other_link": str(links / f"bystander.{bystander.generation}/link"),
            "control_socket": str(fort.daemon.socket),
            "postgres_socket": f"{database['host']}/.s.PGSQL.{database['port']}",
            "abstract": f"runnerd-test-{os.getpid()}",
            "datagram_socket": str(scratch / "datagram"),
            "port": int(fort.venue.url.rpartition(":")[2]),
            "supervisor": fort.daemon.process.pid,
            "victim": victim.pid,
            "victim_address": int(victim.stdout.readline()),
            "scratch": str(scratch),
            "file": str(file),
        }

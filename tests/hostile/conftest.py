"""The fort: one daemon with attackers and a bystander, and all around it that there is to attack.

Where `WITHOUT` names a layer of the sandbox, the fort's workers lack it: `prove` shows which tests notice.
"""

import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from tests.support.leaks import find_descendants
from tests.support.scene import RUNNERD_PROGRAM, Scene, Stage, puppet

HERE = Path(__file__).parent
PROBES = HERE / "probes"
REPOSITORY = HERE.parents[1]
WITHOUT = "RUNNERD_HOSTILE_WITHOUT"
VARIABLE = "RUNNERD_TEST_TOKEN"
TOKEN = secrets.token_hex()
"""The daemon has it in its environment, as `VARIABLE`."""
GRANTED = "granted"
"""A directory of the scene that the prober may read, and that its owner may write."""
FORGIVING = {"crashes_to_quarantine": 100, "backoff_first_s": 0.02, "backoff_max_s": 0.02}
MEMORY_MIB = 256


def attacker(file: str, **config: object) -> dict[str, object]:
    """`[plugins.NAME]` of a plugin that is started again whatever it does."""
    plugin = {"path": str(HERE / f"plugins/{file}.py"), "class_name": file, "restart": FORGIVING}
    return {**plugin, "sandbox": {"memory_mib": MEMORY_MIB}, **config}


PLUGINS: dict[str, dict[str, object]] = {
    "bystander": puppet(),
    "prober": attacker("prober", params={"probes": str(PROBES)}, sandbox={"readable_paths": [str(PROBES), GRANTED]}),
    "anarchist": attacker("anarchist"),
    "forger": attacker("forger"),
    "sloth": attacker("sloth", decide_deadline_s=0.4, stop_grace_s=0.4, attempts=1),
    "trickster": attacker("trickster", attempts=1),
    "chameleon": attacker("chameleon", path="chameleon.py"),
}
VICTIM = """
import ctypes, time
memory = ctypes.create_string_buffer(8)
print(ctypes.addressof(memory), flush=True)
time.sleep(600)
"""


@pytest.fixture(scope="session")
def fort(stage: Stage) -> Iterator[Scene]:
    """See the module."""
    layer = os.environ.get(WITHOUT)
    command = (sys.executable, str(HERE / "weak_daemon.py"), layer) if layer else RUNNERD_PROGRAM
    with stage.scene(PLUGINS, start=False, command=command) as scene, pytest.MonkeyPatch.context() as environment:
        (scene.directory / GRANTED).mkdir()
        (scene.directory / "credentials").mkdir()
        (scene.directory / "credentials/passphrase").write_text("theirs")
        shutil.copy(HERE / "plugins/chameleon.py", scene.directory)
        environment.setenv("CREDENTIALS_DIRECTORY", str(scene.directory / "credentials"))
        environment.setenv(VARIABLE, TOKEN)
        scene.start(*PLUGINS)
        yield scene


@pytest.fixture(scope="session")
def outside() -> Iterator[Callable[[str, dict[str, object]], str]]:
    """Runs a probe in a plain process of this user: `succeeded`, or the traceback."""
    command = [sys.executable, "-I", "-S", str(PROBES / "__main__.py")]
    # What a careless parent would leave open.
    with PROBES.joinpath("__main__.py").open("rb") as inherited:
        server = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, pass_fds=[inherited.fileno()],
            env={**os.environ, VARIABLE: TOKEN},
        )  # fmt: skip
    with server:
        assert server.stdin is not None
        assert server.stdout is not None
        stdin, stdout = server.stdin, server.stdout

        def run(name: str, targets: dict[str, object]) -> str:
            print(json.dumps({"name": name, "targets": targets}), file=stdin, flush=True)
            return str(json.loads(stdout.readline()))

        yield run
        stdin.close()


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
        granted = fort.directory / GRANTED
        granted.joinpath("keystore").symlink_to(fort.directory / "operator.json")
        granted.joinpath("own").touch()
        stack.callback(granted.joinpath("keystore").unlink)
        abstract = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        abstract.bind(f"\0runnerd-test-{os.getpid()}")
        abstract.listen(64)
        abstract_datagram = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        abstract_datagram.bind(f"\0runnerd-test-datagram-{os.getpid()}")
        datagram = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        datagram.bind(str(scratch / "datagram"))
        stack.callback((scratch / "datagram").unlink)
        ipv6_port = 0
        with contextlib.suppress(OSError):  # a host without IPv6: its probes are skipped
            ipv6 = stack.enter_context(socket.create_server(("::1", 0), family=socket.AF_INET6, backlog=64))
            ipv6_port = ipv6.getsockname()[1]
        database = psycopg.conninfo.conninfo_to_dict(fort.dsn)
        bystander = fort.plugin("bystander")
        links = fort.directory / "run/links"
        below = find_descendants(fort.daemon.process.pid)
        yield {
            "keystore": str(fort.directory / "operator.json"),
            "passphrase": str(fort.directory / "passphrase"),
            "config": str(fort.config),
            "log": str(fort.daemon.log),
            "data_dir": str(fort.directory / "data"),
            "credentials": str(fort.directory / "credentials"),
            "granted": str(granted),
            "variable": VARIABLE,
            "other_code": str(PLUGINS["anarchist"]["path"]),
            "supervisor_code": str(REPOSITORY / "runnerd/runner/app.py"),
            "links": str(links),
            "other_link": str(links / f"bystander.{bystander.generation}/link"),
            "control_socket": str(fort.daemon.socket),
            "postgres_socket": f"{database['host']}/.s.PGSQL.{database['port']}",
            "abstract": f"runnerd-test-{os.getpid()}",
            "abstract_datagram": f"runnerd-test-datagram-{os.getpid()}",
            "datagram_socket": str(scratch / "datagram"),
            "port": int(fort.venue.url.rpartition(":")[2]),
            "port6": ipv6_port,
            "max_files": 256,
            "supervisor": fort.daemon.process.pid,
            "zygote": next(pid for pid, command in below.items() if command == "runnerd: zygote"),
            "victim": victim.pid,
            "victim_address": int(victim.stdout.readline()),
            "namespaces": {path.name: str(path.readlink()) for path in Path("/proc/self/ns").iterdir()},
            "scratch": str(scratch),
            "file": str(file),
        }

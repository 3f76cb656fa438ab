"""The http process in hostile hands: what it holds, what the kernel lets it do, and what the supervisor lets it ask.

Each denial with its control: the same deed before the process is confined, or by a process that is not.
"""

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.integration.test_webhooks import CALLS, WEBHOOK, create_key, do, send
from tests.support.leaks import find_descendants
from tests.support.scene import Scene, Stage, puppet
from tests.support.secrets import find_in_memory, find_in_processes, secrets_in

pytestmark = pytest.mark.hostile

PROBE = """
import ctypes, errno, json, os, pathlib, signal, socket, subprocess, sys, threading
sys.path.insert(0, {root!r})
from runnerd.http.confinement import confine
directory = pathlib.Path({directory!r})
libc = ctypes.CDLL(None, use_errno=True)
listener = socket.create_server(("127.0.0.1", 0))
unix = socket.socket(socket.AF_UNIX)
unix.bind(str(directory / "sock")); unix.listen()
inside, outside = socket.socketpair()

def call(number):
    if libc.syscall(number, 0, os.getpid(), 0, 0) < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))

def write(name):
    (directory / name).write_text("x")

def rename():
    write_first = directory / "old"
    os.rename(write_first, directory / "new"); os.rename(directory / "new", write_first)

DEEDS = {{
    "open a file": lambda: (directory / "passphrase").read_text(),
    "write a file": lambda: write("written"),
    "list a directory": lambda: os.listdir(directory),
    "rename": rename,
    "remove": lambda: (os.link(directory / "old", directory / "tmp"), os.unlink(directory / "tmp")),
    "change a mode": lambda: os.chmod(directory / "old", 0o600),
    "connect to the control socket": lambda: socket.socket(socket.AF_UNIX).connect(str(directory / "sock")),
    "connect to a node": lambda: socket.create_connection(listener.getsockname()).close(),
    "listen elsewhere": lambda: socket.create_server(("127.0.0.1", 0)).close(),
    "start a program": lambda: subprocess.run(["/bin/true"], check=True),
    "fork": lambda: os.waitpid(os.fork() or os._exit(0), 0),
    "start a thread": lambda: threading.Thread(target=int).start(),
    "signal another": lambda: os.kill(os.getppid(), 0),
    "read another's memory": lambda: open(f"/proc/{{os.getppid()}}/stat").read(),
    "make a memory file": lambda: os.close(os.memfd_create("x")),
    "look at a pidfd": lambda: os.close(os.pidfd_open(os.getppid())),
}}
write("old"); write("passphrase")

def attempt():
    said = {{}}
    for name, deed in DEEDS.items():
        try:
            deed()
        except OSError as error:
            said[name] = errno.errorcode.get(error.errno, str(error))
        except RuntimeError as error:
            said[name] = str(error)
        else:
            said[name] = "done"
    return said

before = attempt()
confine()
after = attempt()
inside.sendall(b"still talking")  # control of the control: what it is for, it can do
after["talk on a connection it has"] = outside.recv(100).decode()
print(json.dumps([before, after]), flush=True)
os._exit(0)
"""


def test_confined_it_can_do_nothing_but_talk(tmp_path: Path) -> None:
    """Every deed works before, and none after."""
    program = textwrap.dedent(PROBE).format(root=str(Path(__file__).parents[2]), directory=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    (tmp_path / "sock").unlink()
    before, after = json.loads(done.stdout)
    assert set(before.values()) == {"done"}, before
    assert after.pop("talk on a connection it has") == "still talking"
    assert after.keys() == before.keys()
    assert {said for said in after.values() if said not in ("EPERM", "can't start new thread")} == set(), after


@pytest.fixture(scope="module")
def house(stage: Stage) -> Iterator[Scene]:
    """A daemon that has served a webhook."""
    with stage.scene({"puppet": puppet(triggers=WEBHOOK)}) as scene:
        key = create_key(scene, "tester", "puppet")
        assert send(scene, "POST", f"{CALLS}?wait=30", key, do(do="noop")).status == 200
        yield scene


def http_pid(scene: Scene) -> int:
    """Of the http process."""
    (pid,) = [p for p, name in find_descendants(scene.daemon.process.pid).items() if name == "runnerd: http"]
    return pid


def test_the_real_one_is_confined_and_holds_nothing_but_sockets(house: Scene) -> None:
    """Seen from the kernel: a filter on every thread, no new privileges, and no file but its output."""
    pid = http_pid(house)
    for thread in Path(f"/proc/{pid}/task").iterdir():
        status = dict(line.split(":\t", 1) for line in (thread / "status").read_text().splitlines() if ":\t" in line)
        assert (status["Seccomp"], status["NoNewPrivs"]) == ("2", "1")
    niceness, ours = (os.getpriority(os.PRIO_PROCESS, each) for each in (house.daemon.process.pid, pid))
    assert ours == min(19, niceness + 5)
    held = {int(fd.name): str(fd.readlink()) for fd in Path(f"/proc/{pid}/fd").iterdir()}
    files = {name for fd, name in held.items() if fd > 2 and not name.startswith(("socket:", "anon_inode:", "pipe:"))}
    assert files <= {"/dev/null"}, held
    sockets = [name for name in held.values() if name.startswith("socket:")]
    assert len(sockets) < 12, held  # listener, channel, log, the loop's own pair; none of the supervisor's


@pytest.mark.skipif(os.geteuid() != 0, reason="reading another process's memory needs root")
def test_neither_key_nor_dsn_nor_configuration_is_in_its_memory(house: Scene) -> None:
    """It was forked before any of that was read; the supervisor's memory shows that the search works."""
    vault = house.venue.vault.address.encode()
    dsn = psycopg.conninfo.conninfo_to_dict(house.dsn)
    secrets = {
        **secrets_in(house.directory), "dsn": house.dsn.encode(), "database": str(dsn["dbname"]).encode() + b"'",
        "vault": vault, "node": house.venue.url.encode(),
    }  # fmt: skip
    assert {"key", "dsn", "vault", "node"} <= find_in_memory(house.daemon.process.pid, secrets)
    assert find_in_memory(http_pid(house), secrets) == set()
    assert find_in_processes([http_pid(house)], secrets) == {}


def test_without_a_key_nothing_is_made_or_told(house: Scene) -> None:
    """Whatever is asked: the ledger has the same calls afterwards, and what is and what is not are answered alike."""
    before = house.rows("select count(*) as n from job_calls")
    real = send(house, "POST", CALLS, "rk1.tester.wrong", "{}")
    invented = send(house, "POST", "/v1/plugins/ghost/calls", "rk1.nobody.wrong", "{}")
    assert (real.status, real.body) == (401, invented.body)
    for method, path in (("POST", CALLS), ("GET", "/v1/calls/1"), ("GET", "/v1/events")):
        for key in (None, "", "rk1.tester.", "x" * 250):
            assert send(house, method, path, key, "{}" if method == "POST" else None).status == 401
    assert house.rows("select count(*) as n from job_calls") == before
    assert house.daemon.status().health == "healthy"

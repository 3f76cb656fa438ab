"""`runnerctl status`: what an operator sees at a glance, at every width, and what a program gets."""

import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import termios
import time
from contextlib import suppress
from pathlib import Path

import pytest

from runnerd.cli.exits import ExitCode
from runnerd.control.chain_messages import NodeStatus
from runnerd.control.producer_messages import ProducerStatus
from runnerd.control.service_messages import ServiceStatus
from tests.cli.running import DEADLINE_S, RUNNERCTL, invoke
from tests.cli.samples import DEGRADED, chain, plugin, status, vault
from tests.support.fake_daemon import FakeDaemon, fake_daemon


@pytest.mark.parametrize("columns", [80, 120, 200])
def test_it_fits_the_terminal_and_says_the_same_at_every_width(busy: FakeDaemon, columns: int) -> None:
    """State, pid, generation, memory, queue, next fire, last outcome and reason, at 80 columns as well."""
    result = invoke("--socket", str(busy.path), "status", columns=columns)
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= columns
    assert not any(line.endswith(" ") for line in lines)
    assert "\x1b" not in result.stdout  # no colours where there is no terminal
    row = next(index for index, line in enumerate(lines) if line.startswith("range-maker"))
    both = lines[row] + lines[row + 1]
    for shown in ("ready", "48213", "3.1 MiB", "in 3 s", "acted 2 s ago: mint_binary"):
        assert shown in both
    assert "vault spare is paused by uid:1000" in result.stdout
    assert "open intents: 1 sent, 1 unresolved" in result.stdout
    assert "0.05 ether / 1 ether" in result.stdout
    assert "no answer within 10 s" in result.stdout


def test_problems_are_said_in_words_and_make_the_exit_code_1(busy: FakeDaemon) -> None:
    """Each one whole, however long: this is what the operator came for."""
    result = invoke("--socket", str(busy.path), "status", columns=80)
    assert result.exit_code == ExitCode.ATTENTION
    flowing = " ".join(result.stdout.split())
    for problem in DEGRADED.problems:
        assert f"! {problem}" in flowing


def test_a_healthy_daemon_is_exit_code_0_and_lists_no_problem(socket: Path) -> None:
    """Nothing on the page asks for attention."""
    with fake_daemon(socket, lambda _: status()):
        result = invoke("--socket", str(socket), "status")
    assert result.exit_code == ExitCode.DONE
    assert "runnerd 0.1.0 is healthy" in result.stdout
    assert "!" not in result.stdout
    assert "PROBLEM" not in result.stdout


def test_reducing_mode_stands_where_the_state_does(socket: Path) -> None:
    """Of a vault and of its plugins; a plugin that does not run at all says that instead."""
    plugins = [plugin("a", reducing="r"), plugin("b", reducing="r", state="quarantined"), plugin("c")]
    with fake_daemon(socket, lambda _: status(plugins=plugins, vaults=[vault(reducing="r")])):
        lines = invoke("--socket", str(socket), "status").stdout.splitlines()
    states = {line.split()[0]: line for line in lines if line}
    assert "reducing" in states["a"]
    assert "quarantined" in states["b"]
    assert "ready" in states["c"]
    assert "reducing" in states["main"]


def test_each_node_of_a_chain_has_its_line(socket: Path) -> None:
    """Name, height, state and why; a lone node that is well is named in the chain's own line."""
    nodes = [
        NodeStatus(name="https://a.example/***", head=105, state="in", reason=""),
        NodeStatus(name="https://b.example/***", head=90, state="out", reason="lags: 15 blocks behind 105"),
        NodeStatus(name="https://c.example/***", head=None, state="probation", reason="no answer: refused"),
    ]
    lone = [NodeStatus(name="https://lone.example", head=1, state="in", reason="")]
    chains = [chain(nodes=nodes), chain(name="lone", node="https://lone.example", nodes=lone)]
    with fake_daemon(socket, lambda _: status(chains=chains)):
        lines = invoke("--socket", str(socket), "status", columns=100).stdout.splitlines()
    shown = [line.split() for line in lines if ".example" in line]
    assert shown[1:4] == [
        ["in", "105", "https://a.example/***"],
        ["out", "90", "https://b.example/***", "lags:", "15", "blocks", "behind", "105"],
        ["probation", "–", "https://c.example/***", "no", "answer:", "refused"],
    ]
    assert sum("lone.example" in line for line in lines) == 1


def test_what_came_to_its_end_is_said_and_is_no_problem(socket: Path) -> None:
    """A finite producer and a service that has done its work; what runs is not listed."""
    ended = status(
        producers=[
            ProducerStatus(name="countdown", state="ended", reason="", progress=""),
            ProducerStatus(name="cron", state="running", reason="", progress=""),
        ],
        services=[
            ServiceStatus(name="import", state="ended", reason="", restarts=0),
            ServiceStatus(name="lag", state="running", reason="", restarts=0),
        ],
    )
    with fake_daemon(socket, lambda _: ended):
        result = invoke("--socket", str(socket), "status")
    assert result.exit_code == ExitCode.DONE
    assert [line for line in result.stdout.splitlines() if "has ended" in line] == [
        "producer countdown has ended", "service import has ended",
    ]  # fmt: skip


def test_a_daemon_with_nothing_configured_has_no_empty_tables(socket: Path) -> None:
    """The first status after an installation."""
    with fake_daemon(socket, lambda _: status(plugins=[], chains=[], vaults=[], http=None)):
        result = invoke("--socket", str(socket), "status")
    assert "PLUGIN" not in result.stdout
    assert "no http" in result.stdout
    assert result.stdout.splitlines()[-1] == "no open intents"


def test_json_is_the_status_itself(busy: FakeDaemon) -> None:
    """Field by field as the protocol has it, with the same exit code."""
    result = invoke("--socket", str(busy.path), "status", "--json")
    assert result.exit_code == ExitCode.ATTENTION
    shown = json.loads(result.stdout)
    assert shown["health"] == "degraded"
    assert [one["name"] for one in shown["plugins"]] == [one.name for one in DEGRADED.plugins]
    assert shown["plugins"][2]["memory_bytes"] == DEGRADED.plugins[2].memory_bytes


def test_json_of_a_daemon_that_is_down_is_json_too(socket: Path) -> None:
    """A program that parses the answer gets one, whatever happens."""
    result = invoke("--socket", str(socket), "status", "--json")
    assert result.exit_code == ExitCode.DOWN
    shown = json.loads(result.stdout)
    assert shown["health"] == "down"
    assert str(socket) in shown["problems"][0]


def test_a_long_name_and_a_long_reason_are_cut_and_the_columns_stay(socket: Path) -> None:
    """64 letters are a legal name, 500 a legal reason."""
    long = plugin("a" * 64, last_reason="word " * 100)
    with fake_daemon(socket, lambda _: status(plugins=[long, plugin("b")])):
        for columns in (80, 120):
            lines = invoke("--socket", str(socket), "status", columns=columns).stdout.splitlines()
            assert max(map(len, lines)) <= columns
            rows = [line for line in lines if line.startswith(("aaa", "b "))]
            assert len({line.index("ready") for line in rows}) == 1


@pytest.mark.integration
def test_on_a_terminal_it_has_colours_and_watch_draws_again_until_ctrl_c(busy: FakeDaemon) -> None:
    """Frames replace one another on the second screen; what was there before comes back; Ctrl-C is exit code 130."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    environment = {"PATH": os.environ["PATH"], "TERM": "xterm-256color", "LANG": "C.UTF-8"}
    process = subprocess.Popen(
        [*RUNNERCTL, "--socket", str(busy.path), "status", "--watch", "--every", "0.1"],
        stdin=follower, stdout=follower, stderr=follower, env=environment,
    )  # fmt: skip
    os.close(follower)
    seen = b""
    deadline = time.monotonic() + DEADLINE_S
    while seen.count(b"\x1b[J") < 3 and time.monotonic() < deadline:
        seen += os.read(leader, 65_536)
    process.send_signal(signal.SIGINT)
    assert process.wait(DEADLINE_S) == ExitCode.INTERRUPTED
    with suppress(OSError):  # EIO: all that it wrote is read
        while True:
            seen += os.read(leader, 65_536)
    os.close(leader)
    assert seen.rstrip().endswith(b"\x1b[?1049l")
    assert b"\x1b[?1049h" in seen
    assert b"\x1b[1;31mquarantined" in seen
    assert b"Traceback" not in seen


@pytest.mark.integration
def test_watch_waits_for_a_daemon_that_is_down(socket: Path) -> None:
    """It says that runnerd is down and goes on asking: the status comes when runnerd does."""
    process = subprocess.Popen(
        [*RUNNERCTL, "--socket", str(socket), "status", "--watch", "--every", "0.1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "runnerd is down\n"
    with fake_daemon(socket, lambda _: status()):
        while not process.stdout.readline().startswith("runnerd 0.1.0 is healthy"):
            assert process.poll() is None
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=DEADLINE_S)
    assert process.returncode == ExitCode.INTERRUPTED

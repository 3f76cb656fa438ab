"""The command line as a whole: its help, its errors, its exit codes."""

import grp
import importlib
import os
import pwd
import signal
import socket as sockets
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from runnerd.cli.ctl import SECTIONS
from runnerd.cli.doctor.finding import Mark
from runnerd.cli.doctor.places import examine_daemon
from runnerd.cli.exits import MEANINGS, ExitCode
from tests.cli.running import DEADLINE_S, RUNNERCTL, as_stranger, invoke, run_process
from tests.support.fake_daemon import FakeDaemon, fake_daemon

ENTRIES = [entry for _, entries in SECTIONS for entry in entries]
HEAVY = ("rich", "msgspec", "asyncio", "psycopg", "eth_abi", "web3", "zmq", "coincurve")


def commands() -> list[tuple[str, click.Command]]:
    """Every command by its words, groups and subcommands too."""
    found = []
    for entry in ENTRIES:
        command: click.Command = importlib.import_module(entry.module).command
        found.append((entry.name, command))
        if isinstance(command, click.Group):
            found += [(f"{entry.name} {name}", one) for name, one in command.commands.items()]
    return found


def test_help_lists_every_command_with_one_line_and_every_exit_code() -> None:
    """The operator's first page: nothing on it is cut, and it fits 80 columns."""
    result = invoke("--help", columns=80)
    assert result.exit_code == 0
    for entry in ENTRIES:
        line = next(line for line in result.stdout.splitlines() if line.split()[:1] == [entry.name])
        assert line.endswith(entry.summary)
    assert all(len(line) <= 80 for line in result.stdout.splitlines())
    assert all(any(line.split()[:1] == [str(int(code))] for line in result.stdout.splitlines()) for code in MEANINGS)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_the_list_says_of_a_command_what_the_command_says_of_itself(entry: object) -> None:
    """The list is written apart from the commands so that it need not import them: the beginnings must agree."""
    name, module, summary = entry.name, entry.module, entry.summary  # type: ignore[attr-defined]
    command: click.Command = importlib.import_module(module).command
    first = " ".join((command.help or "").split("\n\n")[0].split())
    assert first.split(",")[0].split(":")[0].rstrip(".") == summary.split(",")[0].split(":")[0].rstrip("."), name


@pytest.mark.parametrize("words,command", commands(), ids=[words for words, _ in commands()])
def test_every_command_has_help_with_an_example(words: str, command: click.Command) -> None:
    """The example is a line that can be typed: it starts with the command itself."""
    result = invoke(*words.split(), "--help", columns=80)
    assert result.exit_code == 0
    assert any(f"runnerctl {words}" in line for line in result.stdout.splitlines()[1:])
    assert all(len(line) <= 110 for line in result.stdout.splitlines())
    assert all(option.help for option in command.params if isinstance(option, click.Option))


def test_help_imports_none_of_what_commands_need() -> None:
    """`runnerctl --help`, and a shell that completes, must be quick: each command is imported when it is called."""
    code = f"""
import sys
from click.testing import CliRunner
from runnerd.cli.ctl import main
assert CliRunner().invoke(main, ["--help"]).exit_code == 0
print([name for name in {HEAVY!r} if name in sys.modules])
"""
    command = [RUNNERCTL[0].replace("runnerctl", "python"), "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=True)
    assert done.stdout.strip() == "[]"


def test_status_imports_nothing_of_chains_and_databases() -> None:
    """An operator under pressure asks for the status: it must not pay for eth_abi, psycopg or asyncio."""
    code = """
import sys, runnerd.cli.ctl, runnerd.cli.status
heavy = ("asyncio", "psycopg", "eth_abi", "web3", "zmq", "coincurve", "runnerd.config.load")
print([name for name in heavy if name in sys.modules])
"""
    command = [RUNNERCTL[0].replace("runnerctl", "python"), "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "args,says",
    [
        (["pauze"], "there is no command 'pauze'; allowed: status, routes, why"),
        (["pauze"], "Did you mean 'pause'?"),
        (["--nonsense"], "no such option '--nonsense'"),
        (["fire"], "missing argument 'PLUGIN'"),
        (["runs", "-n", "0"], "0 is not in the range 1<=x<=1000"),
        (["status", "--config", "x"], "--config goes before the command: runnerctl --config … status"),
        (["status", "--watch", "--json"], "--watch and --json do not go together"),
        (["completion", "tcsh"], "'tcsh' is not one of 'bash', 'zsh', 'fish'"),
    ],
)
def test_a_mistyped_line_is_answered_with_one_line_and_exit_code_64(args: list[str], says: str) -> None:
    """64, not click's 2: that one says that runnerd is down."""
    result = invoke(*args)
    assert result.exit_code == ExitCode.USAGE
    assert says in result.stderr
    assert result.stderr.startswith("runnerctl: ")
    assert result.stderr.count("\n") == 1
    assert not result.stdout


def test_without_a_command_the_help_is_the_error() -> None:
    """It goes to stderr, and a script notices."""
    result = invoke()
    assert result.exit_code == ExitCode.USAGE
    assert "Look:" in result.stderr


@pytest.mark.parametrize(
    "args",
    [
        ["status"],
        ["why", "a"],
        ["runs"],
        ["tx"],
        ["fire", "a"],
        ["pause", "a"],
        ["reduce", "a"],
        ["resume", "--all"],
        ["restart", "a"],
    ],
    ids=lambda args: args[0],
)
def test_without_a_daemon_every_command_exits_2_and_says_what_to_do(args: list[str], socket: Path) -> None:
    """The same line from each: who listens where, and where to look."""
    result = invoke("--socket", str(socket), *args)
    assert result.exit_code == ExitCode.DOWN
    advice = f"runnerd is not running (nobody listens on {socket}); look at: systemctl status runnerd"
    assert result.stderr == f"runnerctl: {advice}\n"


def test_a_broken_plugin_entry_does_not_keep_the_operator_from_the_status(busy: FakeDaemon, tmp_path: Path) -> None:
    """Only the place of the control socket is read from the configuration."""
    config = tmp_path / "runnerd.toml"
    config.write_text(f'data_dir = "{busy.path.parent}"\n[plugins.x]\nnonsense = 1\n')
    assert "is degraded" in invoke("--config", str(config), "status").stdout
    assert "is degraded" in invoke("status", env={"RUNNERD_CONFIG": str(config)}).stdout
    assert invoke("--config", str(config), "check").exit_code == ExitCode.CONFIG


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory that every user may look into, which those of pytest are not."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_a_configuration_that_this_user_may_not_read_says_who_may(public: Path) -> None:
    """78 as for one that is missing, whichever command reads it."""
    file = public / "runnerd.toml"
    file.write_text("")
    file.chmod(0)
    for command in ("status", "check"):
        importlib.import_module(f"runnerd.cli.{command}")
        code, text = as_stranger(lambda: _told("--config", str(file), command))  # noqa: B023  # called at once
        assert code == ExitCode.CONFIG
        whose = f"{pwd.getpwuid(os.geteuid()).pw_name}, group {grp.getgrgid(file.stat().st_gid).gr_name}"
        assert f"{file}: cannot be read: Permission denied: it belongs to {whose}; run this as a user who" in text
        assert "or with sudo" in text


def test_a_socket_that_this_user_may_not_use_says_who_may(public: Path) -> None:
    """2, as for one where nobody listens; and doctor does not say that runnerd is to be started."""
    path = public / "control.sock"
    with sockets.socket(sockets.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        path.chmod(0)
        code, text = as_stranger(lambda: _told("--socket", str(path), "runs"))
        (finding,) = as_stranger(lambda: examine_daemon(path))
    assert code == ExitCode.DOWN
    assert "its group may use it (mode 0660); run this as the user of runnerd" in text
    assert finding.mark is Mark.WEAK
    assert finding.remedy is not None
    assert finding.remedy.startswith("run this as the user of runnerd")


def _told(*args: str) -> tuple[int, str]:
    result = invoke(*args)
    return result.exit_code, result.stderr


def test_a_missing_configuration_names_the_file_and_the_ways_out(tmp_path: Path) -> None:
    """78 as for every problem of the configuration."""
    result = invoke("--config", str(tmp_path / "none.toml"), "status")
    assert result.exit_code == ExitCode.CONFIG
    assert "none.toml: cannot be read: No such file or directory; name another file with --config" in result.stderr


@pytest.mark.parametrize(
    "reply,says",
    [
        (b"", "runnerd closed the connection without an answer"),
        (b"nonsense\n", "not a reply that this runnerctl knows"),
        (b'{"type":"done","text":"x"}\n', "the answer is of another kind (Done)"),
        (b'{"type":"failure","reason":"disk\\u001b[31m full\\nnow"}\n', "disk·[31m full⏎now"),
    ],
    ids=["silence", "nonsense", "another kind", "refusal"],
)
def test_a_broken_answer_is_one_line_and_no_traceback(socket: Path, reply: bytes, says: str) -> None:
    """Whatever listens there: exit code 1, or 2 for a status, which is never refused."""
    with fake_daemon(socket, lambda _: reply):
        runs, status = invoke("--socket", str(socket), "runs"), invoke("--socket", str(socket), "status")
    assert (runs.exit_code, status.exit_code) == (ExitCode.ATTENTION, ExitCode.DOWN)
    for result in (runs, status):
        assert says in result.stderr
        assert result.stderr.count("\n") == 1


@pytest.mark.integration
def test_as_a_process_it_exits_with_the_same_codes_and_never_a_traceback(busy: FakeDaemon, tmp_path: Path) -> None:
    """The console script that users start, from its real entry point."""
    socket = ("--socket", str(busy.path))
    expected = {
        (*socket, "status"): 1,
        (*socket, "runs"): 0,
        (*socket, "fire", "nobody"): 1,
        (*socket, "nonsense"): 64,
        ("--config", str(tmp_path), "status"): 64,
        ("--socket", str(tmp_path / "none"), "status"): 2,
        ("--version",): 0,
    }
    for args, code in expected.items():
        done = run_process(*args)
        assert done.returncode == code, (args, done)
        assert "Traceback" not in done.stderr
        assert bool(done.stderr) == (code not in {0, 1} or "nobody" in args)


@pytest.mark.integration
@pytest.mark.parametrize("args", [["runs"], ["runs", "--json"]], ids=["text", "json"])
def test_a_reader_that_goes_away_is_no_error(busy: FakeDaemon, args: list[str]) -> None:
    """`runnerctl runs | head -1` ends without a word about a broken pipe."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as stdout:
        done = subprocess.run(
            [*RUNNERCTL, "--socket", str(busy.path), *args],
            stdout=stdout,
            stderr=subprocess.PIPE,
            timeout=DEADLINE_S,
            check=False,
        )
    assert done.stderr == b""


@pytest.mark.integration
def test_ctrl_c_while_it_waits_exits_130_without_a_word(socket: Path) -> None:
    """The call goes on; the one who pressed Ctrl-C knows what was asked."""
    listener = sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM)
    with listener:
        listener.bind(str(socket))
        listener.listen()
        listener.settimeout(DEADLINE_S)
        process = subprocess.Popen(
            [*RUNNERCTL, "--socket", str(socket), "fire", "alpha", "--wait"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        connection, _ = listener.accept()
        with connection:
            assert b'"fire"' in connection.recv(1_000)  # it waits for the answer now
            process.send_signal(signal.SIGINT)
            stdout, stderr = process.communicate(timeout=DEADLINE_S)
    socket.unlink()
    assert (process.returncode, stdout, stderr.strip()) == (130, b"", b"")


@pytest.mark.integration
def test_a_terminal_that_knows_only_ascii_gets_its_answer(busy: FakeDaemon) -> None:
    """Letters that it cannot show are replaced; that is no reason to fail."""
    done = run_process("--socket", str(busy.path), "status", env={"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 1
    assert "is degraded" in done.stdout
    assert not done.stderr

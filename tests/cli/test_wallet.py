"""`runnerctl wallet new`: a keystore that opens, and an address that is alone on stdout."""

import os
import pty
import stat
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest

from runnerd.cli.exits import ExitCode
from runnerd.wallets.keystore import unlock_keystore
from runnerd.wallets.passphrase import Passphrase
from tests.cli.running import DEADLINE_S, RUNNERCTL, invoke, run_process, run_spied


@pytest.mark.integration
def test_the_key_opens_with_the_passphrase_of_the_file(tmp_path: Path) -> None:
    """Mode 0600, the address and nothing else on stdout, no trace of the passphrase anywhere."""
    secret = tmp_path / "passphrase"
    secret.write_text("correct horse\n")
    secret.chmod(0o600)
    keystore = tmp_path / "operator.keystore"
    done = run_process("wallet", "new", str(keystore), "--passphrase-file", str(secret))
    assert (done.returncode, done.stderr) == (0, "")
    assert unlock_keystore(keystore, Passphrase(b"correct horse")).address == done.stdout.strip()
    assert stat.S_IMODE(keystore.stat().st_mode) == 0o600
    assert "horse" not in keystore.read_text()


@pytest.mark.integration
def test_memory_is_protected_before_the_passphrase_is_read(tmp_path: Path) -> None:
    """No core file and no debugger of this user gets at it, nor at the key."""
    secret = tmp_path / "passphrase"
    secret.touch(0o600)
    secret.write_text("correct horse\n")
    keystore = tmp_path / "operator.keystore"
    arguments = ("wallet", "new", str(keystore), "--passphrase-file", str(secret))
    assert run_spied(*arguments, secrets=[secret]) == {str(secret): True}
    assert keystore.exists()


@pytest.mark.integration
def test_on_a_terminal_it_asks_twice_and_shows_nothing_of_it(tmp_path: Path) -> None:
    """A mistyped passphrase would lock the vault's operator out for ever: the two must agree."""
    keystore = tmp_path / "operator.keystore"
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [*RUNNERCTL, "wallet", "new", str(keystore)],
        stdin=follower, stdout=subprocess.PIPE, stderr=follower, start_new_session=True,
        env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "TERM": "dumb"},
    )  # fmt: skip
    os.close(follower)
    seen = b""
    for prompt, answer in (
        (b"Passphrase", b"one"),
        (b"Once more", b"two"),
        (b"Passphrase", b"hunter"),
        (b"more", b"hunter"),
    ):
        seen += read_until(leader, prompt)
        os.write(leader, answer + b"\n")
    stdout, _ = process.communicate(timeout=DEADLINE_S)
    with suppress(OSError):
        seen += os.read(leader, 65_536)
    os.close(leader)
    assert process.returncode == ExitCode.DONE
    assert b"hunter" not in seen
    assert unlock_keystore(keystore, Passphrase(b"hunter")).address == stdout.decode().strip()


def read_until(fd: int, words: bytes) -> bytes:
    """What comes from the terminal, up to and including `words` and the colon of a prompt."""
    seen = b""
    deadline = time.monotonic() + DEADLINE_S
    while not (words in seen and seen.rstrip().endswith(b":")):
        assert time.monotonic() < deadline
        seen += os.read(fd, 65_536)
    return seen


def test_an_existing_file_is_never_overwritten(tmp_path: Path) -> None:
    """It may hold the only copy of a key; nobody is asked for a passphrase first."""
    keystore = tmp_path / "operator.keystore"
    keystore.write_text("precious")
    result = invoke("wallet", "new", str(keystore))
    assert result.exit_code == ExitCode.ATTENTION
    assert "exists and is never overwritten" in result.stderr
    assert keystore.read_text() == "precious"


def test_a_passphrase_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    """With the command that mends it."""
    secret = tmp_path / "passphrase"
    secret.write_text("x")
    secret.chmod(0o644)
    result = invoke("wallet", "new", str(tmp_path / "k"), "--passphrase-file", str(secret))
    assert result.exit_code == ExitCode.ATTENTION
    assert f"run: chmod 600 {secret}" in result.stderr
    assert not (tmp_path / "k").exists()


def test_without_a_terminal_and_a_file_nobody_is_asked(tmp_path: Path) -> None:
    """A script gets an error, not a hang."""
    result = invoke("wallet", "new", str(tmp_path / "k"))
    assert result.exit_code == ExitCode.USAGE
    assert "use --passphrase-file FILE" in result.stderr


def test_there_is_no_option_that_takes_a_passphrase() -> None:
    """What stands on a command line is read by every process of the host."""
    assert "--passphrase " not in invoke("wallet", "new", "--help").stdout

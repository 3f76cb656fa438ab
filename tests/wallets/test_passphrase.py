"""Where a passphrase comes from: private files and systemd credentials, and a clear word when that is not so."""

import os
from pathlib import Path

import pytest

from runnerd.wallets.errors import PassphraseUnavailable
from runnerd.wallets.passphrase import PassphraseCredential, PassphraseFile, PassphraseSource, fetch_passphrase


def write(path: Path, content: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


@pytest.mark.parametrize(
    "content, passphrase",
    [
        (b"hunter2", b"hunter2"),
        (b"hunter2\n", b"hunter2"),
        (b"hunter2\n\n", b"hunter2\n"),
        (b" hunter2 \n", b" hunter2 "),
        (b"a\nb\n", b"a\nb"),
        (b"p\xc3\xa4ss\r\n", b"p\xc3\xa4ss\r"),
        (b"\xff\x00", b"\xff\x00"),
        (b"x" * 4096 + b"\n", b"x" * 4096),
    ],
)
def test_exactly_one_line_break_at_the_end_is_not_part_of_it(tmp_path: Path, content: bytes, passphrase: bytes) -> None:
    """What an editor appends goes, what somebody chose stays."""
    source = PassphraseFile(write(tmp_path / "p", content))
    assert fetch_passphrase(source, {}).reveal() == passphrase


def test_a_credential_is_found_in_systemds_directory(tmp_path: Path) -> None:
    """LoadCredential= puts it there, readable for this service alone."""
    write(tmp_path / "operator", b"hunter2\n", mode=0o400)
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert fetch_passphrase(PassphraseCredential("operator"), environ).reveal() == b"hunter2"


def test_a_credential_outside_systemd_says_what_to_do() -> None:
    """Started by hand, the variable is missing."""
    with pytest.raises(
        PassphraseUnavailable, match=r"CREDENTIALS_DIRECTORY is not set; run under systemd with LoadCred"
    ):
        fetch_passphrase(PassphraseCredential("operator"), {})


@pytest.mark.parametrize("name", ["", ".", "..", "../etc/shadow", "/etc/shadow", "a/b", "a\0b"])
def test_a_credentials_name_is_no_path(tmp_path: Path, name: str) -> None:
    """It must not lead out of the directory."""
    with pytest.raises(PassphraseUnavailable, match="not a credential's name"):
        fetch_passphrase(PassphraseCredential(name), {"CREDENTIALS_DIRECTORY": str(tmp_path)})


def test_a_missing_credential_names_its_path(tmp_path: Path) -> None:
    """So that the operator can look."""
    with pytest.raises(PassphraseUnavailable, match=f"systemd credential operator .{tmp_path}/operator"):
        fetch_passphrase(PassphraseCredential("operator"), {"CREDENTIALS_DIRECTORY": str(tmp_path)})


@pytest.mark.parametrize("mode", [0o604, 0o644, 0o606, 0o601])
def test_a_file_that_others_can_open_is_refused(tmp_path: Path, mode: int) -> None:
    """Whoever could read it may have done so."""
    with pytest.raises(PassphraseUnavailable, match=f"mode {mode:04o} is open to every user; run: chmod 600"):
        fetch_passphrase(PassphraseFile(write(tmp_path / "p", b"hunter2", mode)), {})


@pytest.mark.parametrize("content", [b"", b"\n"])
def test_an_empty_passphrase_is_refused(tmp_path: Path, content: bytes) -> None:
    """An unfinished setup, not a choice."""
    with pytest.raises(PassphraseUnavailable, match="it is empty"):
        fetch_passphrase(PassphraseFile(write(tmp_path / "p", content)), {})


def test_a_file_that_is_much_too_long_is_refused(tmp_path: Path) -> None:
    """It is probably another file, such as the keystore."""
    with pytest.raises(PassphraseUnavailable, match="is it the right file"):
        fetch_passphrase(PassphraseFile(write(tmp_path / "p", b"x" * 5_000)), {})


def test_what_is_no_plain_file_is_refused_without_hanging(tmp_path: Path) -> None:
    """A FIFO without a writer would block the start for ever."""
    os.mkfifo(tmp_path / "fifo", 0o600)
    for path in (tmp_path / "fifo", tmp_path):
        with pytest.raises(PassphraseUnavailable, match="not a regular file"):
            fetch_passphrase(PassphraseFile(path), {})


@pytest.mark.parametrize("source", [PassphraseFile(Path("/nonexistent/p")), PassphraseCredential("p")])
def test_errors_name_source_reason_and_remedy(source: PassphraseSource) -> None:
    """All three are fields as well."""
    with pytest.raises(PassphraseUnavailable) as refused:
        fetch_passphrase(source, {"CREDENTIALS_DIRECTORY": "/nonexistent"})
    assert str(source) in refused.value.source
    assert refused.value.reason == "No such file or directory"
    assert refused.value.remedy == "create it, or correct the path"

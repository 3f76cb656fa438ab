"""Where a keystore's passphrase comes from: a file, or a systemd credential (LoadCredential=).

Never from the environment or a command line, which every process of the user can read.
"""

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, assert_never

from runnerd.wallets.errors import PassphraseUnavailable
from runnerd.wallets.redacted import Redacted

MAX_PASSPHRASE_BYTES = 4096
CREDENTIALS_VARIABLE = "CREDENTIALS_DIRECTORY"


class Passphrase(Redacted):
    """The bytes that open a keystore. `reveal` is for the key derivation alone."""

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def reveal(self) -> bytes:
        """The bytes themselves. Do not bind them to a name that outlives the call."""
        return self._secret


@dataclass(frozen=True, slots=True)
class PassphraseFile:
    """A file that only runnerd's user can read."""

    path: Path

    def __str__(self) -> str:
        return f"file {self.path}"


@dataclass(frozen=True, slots=True)
class PassphraseCredential:
    """A systemd credential by name, found in $CREDENTIALS_DIRECTORY."""

    name: str

    def __str__(self) -> str:
        return f"systemd credential {self.name}"


PassphraseSource: TypeAlias = PassphraseFile | PassphraseCredential


def fetch_passphrase(source: PassphraseSource, environ: Mapping[str, str]) -> Passphrase:
    """Read the passphrase; exactly one line break at its end is not part of it. Blocks for one small read.

    Raises PassphraseUnavailable, naming the source and what to do.
    """
    match source:
        case PassphraseFile(path=path):
            return _read(path, source)
        case PassphraseCredential(name=name):
            return _read(_credential_path(source, name, environ), source)
        case _:
            assert_never(source)


def _credential_path(source: PassphraseCredential, name: str, environ: Mapping[str, str]) -> Path:
    directory = environ.get(CREDENTIALS_VARIABLE)
    if not name or name in {".", ".."} or "/" in name or "\0" in name:
        raise PassphraseUnavailable(str(source), "not a credential's name", "write the name alone, without a path")
    if not directory:
        raise PassphraseUnavailable(
            str(source),
            f"${CREDENTIALS_VARIABLE} is not set",
            f"run under systemd with LoadCredential={name}:/path/of/the/file, or configure a passphrase file",
        )
    return Path(directory, name)


def _read(path: Path, source: PassphraseSource) -> Passphrase:
    label = str(source) if isinstance(source, PassphraseFile) else f"{source} ({path})"
    try:
        # Checked on the open file, so nothing can be swapped in between. O_NONBLOCK: a FIFO must not hang the start.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        remedy = "create it, or correct the path" if isinstance(error, FileNotFoundError) else "check owner and mode"
        raise PassphraseUnavailable(label, error.strerror or type(error).__name__, remedy) from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise PassphraseUnavailable(label, "not a regular file", "write the passphrase into a plain file")
        if status.st_mode & stat.S_IRWXO:
            mode = f"mode {stat.S_IMODE(status.st_mode):04o} is open to every user"
            raise PassphraseUnavailable(label, mode, f"run: chmod 600 {path}, and consider the passphrase known")
        return _checked(os.read(descriptor, MAX_PASSPHRASE_BYTES + 2), label)
    finally:
        os.close(descriptor)


def _checked(content: bytes, label: str) -> Passphrase:
    passphrase = Passphrase(content.removesuffix(b"\n"))
    size = len(passphrase.reveal())
    del content
    if size == 0:
        raise PassphraseUnavailable(label, "it is empty", "write the passphrase into it")
    if size > MAX_PASSPHRASE_BYTES:
        raise PassphraseUnavailable(label, f"it is longer than {MAX_PASSPHRASE_BYTES} bytes", "is it the right file?")
    return passphrase

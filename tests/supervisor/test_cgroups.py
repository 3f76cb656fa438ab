"""Cgroups: found from texts, marked as delegated, written in the right order, read for a reason.

This kernel may have no v2 controllers for us, so the files are those of a tree made by the test. What needs no
controller (entering, EBUSY, removing) is tried on the real hierarchy where the test may make a cgroup.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from msgspec import structs

from protocol.zygote import Layer
from runnerd.supervisor.bounds import Bounds
from runnerd.supervisor.cgroups import SUPERVISOR, WORKERS, Cgroups, NotDelegated, find_delegated, is_marked
from runnerd.supervisor.limits import MIB, Limits
from tests.support.probes import ProbeHost, probe_host, wait_until_readable

LIMITS = Limits(memory_bytes=256 * MIB, threads=20, files=64, cpus=0.5)
UNIFIED = "29 23 0:26 / /sys/fs/cgroup rw,nosuid,nodev shared:4 - cgroup2 cgroup2 rw,nsdelegate"
HYBRID = (
    "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n"
    "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw"
)
CONTAINER = "29 23 0:26 /machine.slice/box /sys/fs/cgroup rw - cgroup2 cgroup2 rw"


# --- where it is ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "own, mountinfo, found",
    [
        ("0::/system.slice/runnerd.service\n", UNIFIED, "/sys/fs/cgroup/system.slice/runnerd.service"),
        ("9:name=systemd:/\n0::/a\n", HYBRID, "/sys/fs/cgroup/unified/a"),
        ("0::/machine.slice/box/runnerd\n", CONTAINER, "/sys/fs/cgroup/runnerd"),
    ],
)
def test_delegated_cgroup_is_found_through_its_mount(own: str, mountinfo: str, found: str) -> None:
    """On a unified host, beside v1, and where a container sees a part of the tree."""
    assert find_delegated(own, mountinfo, lambda _: True) == Path(found)


def test_process_that_moved_aside_still_finds_its_tree() -> None:
    """`doctor` asks about a running runnerd, which sits in `supervisor`."""
    unit = Path("/sys/fs/cgroup/system.slice/runnerd.service")
    own = f"0::/system.slice/runnerd.service/{SUPERVISOR}\n"
    assert find_delegated(own, UNIFIED, lambda directory: directory == unit) == unit


@pytest.mark.parametrize(
    "own, mountinfo, words",
    [
        ("4:memory:/x\n", HYBRID, "cgroup v1 only"),
        ("0::/x\n", "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory", "no cgroup v2 is mounted"),
        ("0::/elsewhere\n", CONTAINER, "no cgroup v2 is mounted"),
        ("0::/user.slice/session-1.scope\n", UNIFIED, "was not delegated"),
    ],
)
def test_whatever_was_not_given_away_is_left_alone(own: str, mountinfo: str, words: str) -> None:
    """Root could write there as well, and would move the processes of somebody else."""
    with pytest.raises(NotDelegated, match=words):
        find_delegated(own, mountinfo, lambda _: False)


def test_mark_of_systemd_is_what_counts(tmp_path: Path) -> None:
    """`user.delegate` is 1."""
    assert not is_marked(tmp_path)
    try:
        os.setxattr(tmp_path, "user.delegate", b"1")
    except OSError as error:
        pytest.skip(f"no user attributes here: {error.strerror}")
    assert is_marked(tmp_path)


# --- the protocol of its files, on a tree made by the test -----------------------------------------------------------


def make_files(directory: Path, *names: str) -> None:
    """What the kernel would put into a new cgroup."""
    directory.mkdir(parents=True, exist_ok=True)
    for name in names:
        (directory / name).touch()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A delegated cgroup with two processes in it."""
    make_files(tmp_path, "cgroup.subtree_control")
    (tmp_path / "cgroup.procs").write_text("11\n12\n")
    (tmp_path / "cgroup.controllers").write_text("cpu io memory pids\n")
    make_files(tmp_path / SUPERVISOR, "cgroup.procs")
    make_files(tmp_path / WORKERS, "cgroup.subtree_control")
    files = ("cgroup.procs", "memory.max", "memory.oom.group", "memory.swap.max", "pids.max", "cpu.max", "cpu.idle")
    make_files(tmp_path / WORKERS / "alpha.1", *files, "cpu.weight")
    return tmp_path


def read(directory: Path) -> dict[str, str]:
    """Its files that hold something."""
    return {file.name: file.read_text() for file in directory.iterdir() if file.is_file() and file.read_text()}


def test_runnerd_moves_aside_before_it_hands_controllers_down(tree: Path) -> None:
    """A cgroup with controllers for its children may hold no process."""
    cgroups = Cgroups(tree)
    assert (tree / SUPERVISOR / "cgroup.procs").read_text() in ("12", "1112"), "one write for each, as the kernel asks"
    for directory in (tree, tree / WORKERS):
        assert (directory / "cgroup.subtree_control").read_text() == "+memory +pids +cpu"
    assert cgroups.has_cpu


def test_limits_of_a_worker_are_written_into_its_cgroup(tree: Path) -> None:
    """Memory to the byte, no swap, ended as a whole; threads at their wall; CPU time after everybody else."""
    cgroup = Cgroups(tree).make("alpha.1", LIMITS, is_idle=True)
    assert cgroup.directory == tree / WORKERS / "alpha.1"
    assert read(cgroup.directory) == {
        "memory.max": "268435456",
        "memory.swap.max": "0",
        "memory.oom.group": "1",
        "pids.max": "36",
        "cpu.max": "50000 100000",
        "cpu.idle": "1",
    }


def test_older_kernel_gets_the_smallest_weight_and_one_without_swap_no_limit_of_it(tree: Path) -> None:
    """`cpu.idle` came with Linux 5.15."""
    for name in ("cpu.idle", "memory.swap.max"):
        (tree / WORKERS / "alpha.1" / name).unlink()
    written = read(Cgroups(tree).make("alpha.1", Limits(), is_idle=True).directory)
    assert written["cpu.weight"] == "1"
    assert "cpu.max" not in written


def test_cgroup_that_cannot_be_limited_is_not_used(tree: Path) -> None:
    """Half a cgroup is none: the worker goes without, and its report says so."""
    (tree / WORKERS / "alpha.1" / "memory.max").unlink()
    with pytest.raises(FileNotFoundError):
        Cgroups(tree).make("alpha.1", LIMITS, is_idle=False)


@pytest.mark.parametrize(
    "events, peak, words",
    [
        ("low 0\nmax 3\noom 0\noom_kill 0\n", "1", None),
        ("max 9\noom 1\noom_kill 1\n", None, "over its memory limit: 256 of 256 MiB, and ended by the kernel"),
        (
            "oom_kill 2\noom_group_kill 1\n",
            "268435456\n",
            "over its memory limit: 256 of 256 MiB, and ended by the kernel",
        ),
        ("nonsense", None, None),
    ],
)
def test_kernel_says_whether_memory_ended_it(tree: Path, events: str, peak: str | None, words: str | None) -> None:
    """`killed by SIGKILL` alone would tell the operator nothing."""
    cgroup = Cgroups(tree).make("alpha.1", LIMITS, is_idle=True)
    (cgroup.directory / "memory.events").write_text(events)
    if peak is not None:
        (cgroup.directory / "memory.peak").write_text(peak)
    assert cgroup.find_excess() == words


# --- the real hierarchy -----------------------------------------------------------------------------------------------


@pytest.fixture
def real() -> Iterator[Path]:
    """An empty cgroup of our own."""
    mounts = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines() if " - cgroup2 " in line]
    if not mounts:
        pytest.skip("no cgroup v2 is mounted here")
    directory = Path(mounts[0][4]) / f"runnerd-test-{os.getpid()}"
    try:
        directory.mkdir()
    except OSError as error:
        pytest.skip(f"no cgroup can be made here: {error.strerror}")
    try:
        yield directory
    finally:
        for path in sorted(directory.rglob("*/"), reverse=True):
            with suppress(OSError):
                path.rmdir()
        directory.rmdir()


@pytest.fixture
def host() -> Iterator[ProbeHost]:
    """A running zygote."""
    with probe_host() as running:
        yield running


def test_sandboxed_worker_enters_its_cgroup_and_leaves_it_removable(host: ProbeHost, real: Path) -> None:
    """In it before it is locked in, threads and all; it cannot be removed while it lives, and is when it has ended."""
    cgroups = Cgroups(real)
    directory = real / WORKERS / "alpha.1"
    directory.mkdir()

    async def live() -> tuple[str, bool, set[Layer]]:
        request = structs.replace(host.request("loop.run_forever()"), cgroup=str(directory))
        running = await host.start(request)
        try:
            cgroups.remove(directory)
            seen = Path(f"/proc/{running.worker.pid}/cgroup").read_text()
            layers = {report.layer for report in running.worker.layers if report.is_applied}
            running.worker.kill(signal.SIGKILL)
            wait_until_readable(running.worker.pidfd)
            await running.worker.exited
        finally:
            running.close()
        return seen.splitlines()[-1], directory.exists(), layers

    line, was_there, layers = host.wait_for(live())
    assert line == f"0::/{real.name}/{WORKERS}/alpha.1"
    assert was_there
    assert Layer.CGROUP in layers
    cgroups.remove(real / WORKERS / "another")
    cgroups._sweep(cgroups._left)
    assert not directory.exists()


def test_worker_without_a_cgroup_says_so(host: ProbeHost) -> None:
    """`status` and `doctor` show it; `sandbox.require` could refuse it."""
    request = Bounds().prepare(host.request(""))
    assert request.cgroup is None
    report = {report.layer: report for report in host.run("").layers}[Layer.CGROUP]
    assert not report.is_applied
    assert report.detail == "none was delegated to runnerd"
    assert report.cost


def test_worker_whose_cgroup_refuses_it_goes_without(host: ProbeHost, tmp_path: Path) -> None:
    """The write fails: the report has the reason."""
    (tmp_path / "cgroup.procs").symlink_to("/dev/full")

    async def live() -> str:
        running = await host.start(structs.replace(host.request(""), cgroup=str(tmp_path)))
        try:
            return next(report.detail for report in running.worker.layers if report.layer is Layer.CGROUP)
        finally:
            running.close()

    assert host.wait_for(live()) == f"{tmp_path}: No space left on device"

"""After an integration, hostile or faults test: no process, thread, descriptor or socket file of it is left.

The fixture `no_leaks` runs by itself around tests with one of those markers; any other test may ask for it. What was
there before the test, such as the session's PostgreSQL, is not its leak. Tasks are checked by `tests.support.aio`.
"""

import gc
import os
import stat
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import uvloop

from tests.support.preloaded import SERVERS

MARKERS = ("integration", "hostile", "faults")
DEADLINE_S = 3.0
POLL_S = 0.01
GONE = ("Z", "X", "")
"""States in /proc/PID/stat of a process that has ended; the last: it has no such file any more."""


def find_descendants(root: int | None = None, *, without: Collection[int] = ()) -> dict[int, str]:
    """Living processes below `root` (this process by default): pid → command line. Zombies have ended: not counted.

    Those of `without` are left out, with all that is below them.
    """
    children: dict[int, list[int]] = {}
    for pid in (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()):
        parent, state = _parent_and_state(pid)
        if state not in GONE:
            children.setdefault(parent, []).append(pid)
    found: dict[int, str] = {}
    waiting = [root or os.getpid()]
    while waiting:
        for pid in set(children.get(waiting.pop(), [])).difference(without):
            found[pid] = _command(pid)
            waiting.append(pid)
    return found


def find_descriptors(pid: int | None = None) -> dict[int, str]:
    """Open descriptors of a process (this one by default): number → what it is."""
    found: dict[int, str] = {}
    for path in Path(f"/proc/{pid or 'self'}/fd").iterdir():
        # The one that lists the directory is gone by now.
        with suppress(FileNotFoundError):
            found[int(path.name)] = str(path.readlink())
    return found


def find_socket_files(directory: Path) -> list[Path]:
    """Unix sockets anywhere below `directory`."""
    paths = (Path(folder, name) for folder, _, names in os.walk(directory) for name in names)
    return [path for path in paths if stat.S_ISSOCK(path.lstat().st_mode)]


def wait_until_gone(pids: Iterable[int], deadline_s: float = DEADLINE_S) -> float:
    """Wait until every process has ended (a zombie has); return the seconds it took. Fails with what still lives."""
    began = time.monotonic()
    left = _wait_until_none(lambda: [f"{pid} {_command(pid)}" for pid in pids if _is_living(pid)], deadline_s)
    assert not left, f"still living after {deadline_s} s: {'; '.join(left)}"
    return time.monotonic() - began


def pytest_collection_finish() -> None:
    """What was imported for the tests is nobody's leak, and took 0.16 s before each test that may have one."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _lifelong_descriptors() -> None:
    """libuv keeps a pipe from the first loop to the end of the process: it is no test's leak."""
    uvloop.new_event_loop().close()


@pytest.fixture(autouse=True)
def _no_leaks_where_marked(request: pytest.FixtureRequest) -> None:
    if any(request.node.get_closest_marker(marker) for marker in MARKERS):
        request.getfixturevalue("no_leaks")


@pytest.fixture
def no_leaks(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[None]:
    """Fails the test if anything that it started or opened is still there after it, within a deadline."""
    before_processes = find_descendants()
    before_threads = set(threading.enumerate())
    gc.collect()
    before_descriptors = find_descriptors()
    yield
    checks: dict[str, Callable[[], list[str]]] = {
        # A server that was there before may start and end processes of its own, as PostgreSQL does.
        "processes": lambda: [
            f"{pid} {line}"
            for pid, line in find_descendants(without=before_processes.keys() - SERVERS).items()
            if pid not in SERVERS
        ],
        "threads": lambda: [thread.name for thread in threading.enumerate() if thread not in before_threads],
        "descriptors": lambda: [
            f"{number} → {target}"
            for number, target in find_descriptors().items()
            if before_descriptors.get(number) != target
        ],
    }
    if not may_leave_sockets(request):
        checks["socket files"] = lambda: [str(path) for path in find_socket_files(tmp_path)]
    for what, find in checks.items():
        left = _wait_until_none(find, DEADLINE_S)
        assert not left, f"left behind by the test: {what}: {'; '.join(left)}"


def may_leave_sockets(request: pytest.FixtureRequest) -> bool:
    """A test that kills a process cannot ask it to remove its socket."""
    return request.node.get_closest_marker("faults") is not None


def _wait_until_none(find: Callable[[], list[str]], deadline_s: float) -> list[str]:
    """What `find` still finds at the deadline: a killed process needs a moment to be gone."""
    deadline = time.monotonic() + deadline_s
    while True:
        left = find()
        if not left or time.monotonic() > deadline:
            return left
        gc.collect()
        time.sleep(POLL_S)


def _is_living(pid: int) -> bool:
    return _parent_and_state(pid)[1] not in GONE


def _parent_and_state(pid: int) -> tuple[int, str]:
    try:
        text = Path(f"/proc/{pid}/stat").read_text("utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return 0, ""
    # The name, in parentheses, may contain anything; the fields after it cannot.
    state, parent, *_ = text[text.rindex(")") + 1 :].split()
    return int(parent), state


def _command(pid: int) -> str:
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()[:200]
    return ""

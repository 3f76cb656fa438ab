"""A Python that has runnerd imported and forks a program for each order: a start costs a fork, not a second of CPU.

`preloaded()` runs one, `Preloaded.start` is `subprocess.Popen` for `[sys.executable, "-m", MODULE, *ARGUMENTS]`, and
what it gives is a `Popen` as far as tests need one. Two things differ from a new interpreter: /proc/PID/environ is that
of the Python that forks, and so are the addresses in memory. Tests that look at either start a program of their own.
"""

import gc
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any, Final, NoReturn

from setproctitle import setproctitle

from runnerd.process import die_with_parent

REPOSITORY: Final = Path(__file__).resolve().parents[2]
DAEMON: Final = ("runnerd.runner.app", "runnerd.cli.daemon")
MAX_ORDER_BYTES: Final = 1 << 16
SERVERS: Final[set[int]] = set()
"""Pids of those that run. They are nobody's leak, but what they forked may be (`tests.support.leaks`)."""


class Forked:
    """A running program. As `subprocess.Popen`: `pid`, `returncode`, `poll`, `wait`, `send_signal`, `kill`."""

    def __init__(self, pid: int, server: "Preloaded") -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._server = server
        self._pidfd = os.pidfd_open(pid)
        self._lock = threading.Lock()

    def poll(self) -> int | None:
        """Its exit code, -N for the signal N; None while it runs."""
        with self._lock:
            return self._poll(0)

    def wait(self, timeout: float | None = None) -> int:
        """Until it has ended. Raises subprocess.TimeoutExpired."""
        with self._lock:
            code = self._poll(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0.0)
        return code

    def send_signal(self, number: signal.Signals) -> None:
        """Nothing happens if it has ended."""
        with self._lock:
            if self.returncode is None:
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(self._pidfd, number)

    def kill(self) -> None:
        """`kill -9`."""
        self.send_signal(signal.SIGKILL)

    def _poll(self, timeout_s: float | None) -> int | None:
        if self.returncode is None:
            poll = select.poll()
            poll.register(self._pidfd, select.POLLIN)
            if poll.poll(None if timeout_s is None else timeout_s * 1000):
                self.returncode = self._server.bury(self.pid)
                os.close(self._pidfd)
        return self.returncode


class Preloaded:
    """A running server of forks."""

    def __init__(self, orders: socket.socket) -> None:
        self._orders = orders
        self._lock = threading.Lock()

    def start(
        self, module: str, *arguments: str, fds: Mapping[int, int], environment: Mapping[str, str] | None = None
    ) -> Forked:
        """`python -m MODULE ARGUMENTS` in a session of its own.

        `fds`: its descriptors and ours, which stay ours. Others of the first three: nothing to read, and our stderr.
        """
        order = {
            "module": module, "arguments": arguments, "fds": list(fds), "environment": dict(environment or os.environ),
        }  # fmt: skip
        return Forked(self._ask(order, *fds.values()), self)

    def bury(self, pid: int) -> int:
        """The exit code of a program that has ended: once."""
        return self._ask({"bury": pid})

    def _ask(self, order: Mapping[str, Any], *fds: int) -> int:
        with self._lock:
            socket.send_fds(self._orders, [json.dumps(order).encode()], fds)
            answer = self._orders.recv(MAX_ORDER_BYTES)
        assert answer, "the server of forks has ended"
        return int(answer)


@contextmanager
def preloaded(*modules: str) -> Iterator[Preloaded]:
    """A server of forks that has imported these modules, or else the daemon; its end is that of all it has forked."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno()), *(modules or DAEMON)],
                stdin=subprocess.DEVNULL, stdout=2, pass_fds=[theirs.fileno()], cwd=REPOSITORY, start_new_session=True,
            )  # fmt: skip
        SERVERS.add(process.pid)
        try:
            yield Preloaded(ours)
        finally:
            SERVERS.remove(process.pid)
            ours.shutdown(socket.SHUT_RDWR)
            process.wait(10)


def _serve(orders: socket.socket) -> dict[str, Any] | None:
    """One order after the other until the asking side ends: None. In each forked process: what it shall run."""
    own = os.getpid()
    while True:
        text, fds, _, _ = socket.recv_fds(orders, MAX_ORDER_BYTES, 3)
        if not text:
            return None
        order: dict[str, Any] = json.loads(text)
        if "bury" in order:
            _, status = os.waitpid(order["bury"], 0)
            orders.send(b"%d" % os.waitstatus_to_exitcode(status))
            continue
        pid = os.fork()
        if pid == 0:
            die_with_parent(own)
            os.setsid()
            for fd, number in zip(fds, order["fds"], strict=True):
                os.dup2(fd, number)
        for fd in fds:
            os.close(fd)
        if pid == 0:
            return order
        orders.send(b"%d" % pid)


def _become(order: Mapping[str, Any]) -> NoReturn:
    os.environ.clear()
    os.environ.update(order["environment"])
    sys.argv[1:] = order["arguments"]
    warnings.filterwarnings("ignore", category=RuntimeWarning, module="runpy")  # it may be imported already: once more
    runpy.run_module(order["module"], run_name="__main__", alter_sys=True)
    sys.exit()


def main() -> None:
    """Single-threaded, so that a fork copies a quiet process."""
    for module in sys.argv[2:]:
        import_module(module)
    gc.freeze()
    # It finds its place in memory by the environment that the kernel gave us: before a fork is given another one.
    setproctitle("preloaded")
    with socket.socket(fileno=int(sys.argv[1])) as orders:
        order = _serve(orders)
    if order is not None:
        _become(order)


if __name__ == "__main__":
    main()

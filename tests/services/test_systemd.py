"""sd_notify, as systemd would hear it: over a real datagram socket."""

import asyncio
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from runnerd.services.systemd import Systemd
from tests.support.aio import run_async

pytestmark = pytest.mark.usefixtures("no_leaks")

DEADLINE_S = 5.0


@contextmanager
def listening(address: str) -> Iterator[socket.socket]:
    """systemd's end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(address)
        listener.settimeout(DEADLINE_S)
        try:
            yield listener
        finally:
            if not address.startswith("\0"):
                Path(address).unlink()


def is_silent(listener: socket.socket) -> bool:
    """No datagram lies there: they arrive with the send, there is nothing to wait for."""
    listener.setblocking(False)
    try:
        listener.recv(4096)
    except BlockingIOError:
        return True
    return False


def test_lines_arrive_as_one_datagram(short_dir: Path) -> None:
    """READY and STATUS together, a line each, in UTF-8."""
    path = str(short_dir / "notify")
    with listening(path) as systemd:
        Systemd({"NOTIFY_SOCKET": path}).notify("READY=1", "STATUS=2 plugins …")
        assert systemd.recv(4096).decode() == "READY=1\nSTATUS=2 plugins …"
        assert is_silent(systemd)


def test_abstract_address_is_one_that_begins_with_an_at() -> None:
    """As in containers; there is no file."""
    name = f"runnerd-test-{os.getpid()}"
    with listening(f"\0{name}") as systemd:
        Systemd({"NOTIFY_SOCKET": f"@{name}"}).notify("STOPPING=1")
        assert systemd.recv(4096) == b"STOPPING=1"


def test_variables_are_taken_out_of_the_environment(short_dir: Path) -> None:
    """No child may speak for the service; what is not systemd's stays."""
    environ = {"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "1000", "WATCHDOG_PID": str(os.getpid()), "PATH": "/bin"}
    Systemd(environ)
    assert environ == {"PATH": "/bin"}


def test_nothing_is_sent_without_a_notify_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside systemd no socket is even opened."""

    def refuse(*_: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr("runnerd.services.systemd.socket.socket", refuse)
    Systemd({}).notify("READY=1")
    with pytest.raises(AssertionError, match="a socket was opened"):  # the positive control
        Systemd({"NOTIFY_SOCKET": "/x"}).notify("READY=1")


@pytest.mark.parametrize("is_full", [True, False], ids=["it does not read", "it is gone"])
def test_service_manager_that_does_not_take_it_keeps_nobody(
    short_dir: Path, caplog: pytest.LogCaptureFixture, is_full: bool
) -> None:
    """The loop goes on at once, with a warning; the watchdog's next one may get through."""
    path = str(short_dir / "notify")
    service = Systemd({"NOTIFY_SOCKET": path})
    with listening(path) as systemd:
        while is_full and not caplog.records:
            service.notify("WATCHDOG=1")
        if is_full:
            while not is_silent(systemd):
                pass
            caplog.clear()
            service.notify("READY=1")
            assert not caplog.records
    service.notify("READY=1")
    assert caplog.records[-1].getMessage().startswith("systemd does not hear READY=1: ")


def test_watchdog_hears_at_half_its_interval_until_the_service_ends(short_dir: Path) -> None:
    """The first at once; four more take four halves."""
    path = str(short_dir / "notify")
    interval_s = 0.2
    service = Systemd({"NOTIFY_SOCKET": path, "WATCHDOG_USEC": str(int(interval_s * 1e6))})

    async def scenario(systemd: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        systemd.setblocking(False)
        async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as group:
            watching = group.create_task(service.watch(), name="service:watchdog")
            assert await loop.sock_recv(systemd, 4096) == b"WATCHDOG=1"
            began = loop.time()
            for _ in range(4):
                assert await loop.sock_recv(systemd, 4096) == b"WATCHDOG=1"
            took_s = loop.time() - began
            watching.cancel()
        assert 1.8 * interval_s < took_s < 4 * interval_s

    with listening(path) as systemd:
        run_async(scenario(systemd), deadline_s=DEADLINE_S)
        assert is_silent(systemd)


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "²"},
        {"WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"},
    ],
    ids=str,
)
def test_watchdog_is_off_when_it_is_not_for_us(short_dir: Path, variables: dict[str, str]) -> None:
    """Not set, zero, no number, or meant for another process: `watch` returns at once and says nothing."""
    path = str(short_dir / "notify")
    with listening(path) as systemd:
        run_async(Systemd({"NOTIFY_SOCKET": path, **variables}).watch(), deadline_s=1.0)
        assert is_silent(systemd)

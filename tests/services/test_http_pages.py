"""How a page gets from the supervisor to the http process: of any size, without waiting, without leaking."""

import multiprocessing
import socket
import threading
import time
from collections.abc import Iterator

import msgspec
import pytest

from runnerd.services import http
from runnerd.services.http import HttpProcess, Page, _receive_page, _send_page, _Server
from tests.support.aio import run_async
from tests.support.leaks import find_descriptors
from tests.support.until import until


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The supervisor's end, which never waits, and the http process's; packets as small as on an ordinary host."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8_192)
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


@pytest.mark.parametrize("size", [0, 1, 10_000, 5_000_000])
def test_page_of_any_size_passes(ends: tuple[socket.socket, socket.socket], size: int) -> None:
    """The metrics of a thousand plugins are larger than any packet."""
    ours, theirs = ends
    page = Page(status=200, content_type="metrics", body="é" * size)
    before = find_descriptors().keys()
    _send_page(ours, "7", page)
    number, body = _receive_page(theirs)
    assert number == 7
    assert msgspec.json.decode(body, type=Page) == page
    assert find_descriptors().keys() == before


def test_end_of_the_supervisor_is_an_error(ends: tuple[socket.socket, socket.socket]) -> None:
    """The http process ends then."""
    ours, theirs = ends
    ours.close()
    with pytest.raises((OSError, ValueError)):
        _receive_page(theirs)


def test_many_who_ask_a_silent_supervisor_are_all_answered_in_time(
    ends: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A queue of health checks must not add up their deadlines."""
    monkeypatch.setattr(http, "ANSWER_DEADLINE_S", 0.4)
    _, theirs = ends
    listener = socket.create_server(("127.0.0.1", 0))
    server = _Server(listener, theirs)
    taken: list[tuple[float, Page]] = []

    def ask() -> None:
        began = time.monotonic()
        page = server.ask("ready")
        taken.append((time.monotonic() - began, page))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    server.server_close()
    assert [page.status for _, page in taken] == [503] * 8
    assert max(seconds for seconds, _ in taken) < 1.0


def test_end_of_the_http_process_is_known_to_the_supervisor(ends: tuple[socket.socket, socket.socket]) -> None:
    """Its socket ends with it; the status says so from then on."""
    ours, theirs = ends
    process = HttpProcess(multiprocessing.Process(), ours, "http://127.0.0.1:1")

    async def scenario() -> None:
        process.serve(lambda word: Page(status=200, content_type="text/plain", body=word))
        assert not process.is_lost
        theirs.close()
        await until(lambda: process.is_lost)

    run_async(scenario())

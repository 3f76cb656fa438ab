"""The http process: /metrics, /healthz and /readyz, in a process that is forked before the key is read.

It holds no key and no database. For each answer it asks the supervisor over a socketpair: three fixed words out, text
back, each with the question's number. If the supervisor does not answer in time, that is the answer: 503.
"""

import asyncio
import logging
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec
from msgspec import Struct
from multiprocessing_logging import install_mp_handler
from prometheus_client import CONTENT_TYPE_LATEST
from setproctitle import setproctitle

from runnerd.config.model import HttpConfig
from runnerd.errors import RunnerdError
from runnerd.log import fields
from runnerd.process import die_with_parent

logger = logging.getLogger("runnerd.http")

ANSWER_DEADLINE_S = 2.0
PATHS = {"/metrics": "metrics", "/healthz": "health", "/readyz": "ready"}


class HttpError(RunnerdError):
    """The http process could not listen. Choose another `http.port`, 0 for any, or `http.enabled = false`."""


class Page(Struct, frozen=True, kw_only=True):
    """What the supervisor answers."""

    status: int
    content_type: str
    body: str


UNANSWERED = Page(status=503, content_type="text/plain", body="the supervisor does not answer\n")
_pages = msgspec.json.Decoder(Page)


@dataclass(slots=True)
class HttpProcess:
    """The running process, seen from the supervisor."""

    process: "multiprocessing.process.BaseProcess"
    connection: socket.socket
    address: str
    is_lost: bool = False
    """It has ended by itself: nobody is answered any more."""

    def serve(self, answer: Callable[[str], Page]) -> None:
        """Answer its questions from now on, in the running loop."""
        asyncio.get_running_loop().add_reader(self.connection.fileno(), self._read, answer)

    def close(self) -> None:
        """End it and wait for it."""
        with suppress(RuntimeError):  # no loop: it never served
            asyncio.get_running_loop().remove_reader(self.connection.fileno())
        self.connection.close()
        self.process.terminate()
        self.process.join(ANSWER_DEADLINE_S)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()

    def _read(self, answer: Callable[[str], Page]) -> None:
        try:
            question = self.connection.recv(64)
        except BlockingIOError:
            return
        except OSError:
            question = b""
        if not question:
            asyncio.get_running_loop().remove_reader(self.connection.fileno())
            self.is_lost = True
            logger.error("the http process is gone", extra=fields("http_lost"))
            return
        word, _, number = question.decode(errors="replace").partition(" ")
        if word in PATHS.values():
            try:
                _send_page(self.connection, number, answer(word))
            except OSError as error:
                logger.warning("the http process took no answer: %s", error, extra=fields("http_unanswered"))


def fork_http(config: HttpConfig) -> HttpProcess:
    """Bind, fork, and return when it listens. Call before the key is read and before any loop or thread runs.

    Raises HttpError when the address cannot be bound.
    """
    try:
        listener = socket.create_server((config.host, config.port), reuse_port=False)
    except OSError as error:
        raise HttpError(f"cannot listen on {config.host}:{config.port}: {error.strerror}") from error
    host, port = listener.getsockname()[:2]
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    # Its records come back through a queue of pickles: allowed, because this process is ours and runs no plugin code.
    install_mp_handler(_forwarding_logger())
    context = multiprocessing.get_context("fork")
    process = context.Process(target=_main, args=(listener, ours, theirs, os.getpid()), name="http", daemon=True)
    process.start()
    listener.close()
    theirs.close()
    ours.setblocking(False)
    return HttpProcess(process, ours, f"http://{host}:{port}")


def _send_page(connection: socket.socket, number: str, page: Page) -> None:
    """The number of the question, and the page in a descriptor. Waits for nobody.

    A packet holds 200 KiB on most hosts (net.core.wmem_max); the metrics of a thousand plugins take 2 MiB.
    """
    fd = os.memfd_create("page", os.MFD_CLOEXEC)
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(msgspec.json.encode(page))
        socket.send_fds(connection, [number.encode()], [fd])
    finally:
        os.close(fd)


def _receive_page(connection: socket.socket) -> tuple[int, bytes]:
    """The number of a question and its page. Raises OSError, ValueError when the supervisor is gone."""
    number, fds, _, _ = socket.recv_fds(connection, 64, 1)
    pages = [_take(fd) for fd in fds]
    return int(number), pages[0]


def _take(fd: int) -> bytes:
    with open(fd, "rb") as file:
        file.seek(0)
        return file.read()


def _forwarding_logger() -> logging.Logger:
    """The one logger whose records cross the process border; the supervisor's own never take that detour."""
    for handler in logging.getLogger().handlers:
        logger.addHandler(handler)
    logger.propagate = False
    return logger


# --- in the http process ---------------------------------------------------------------------------------------------


def _main(listener: socket.socket, parents: socket.socket, connection: socket.socket, parent: int) -> None:
    # Blocked, and waited for below: a signal that ended us in the middle of a record would leave the supervisor's log
    # waiting for the rest of it, 5 s.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    parents.close()
    die_with_parent(parent)
    setproctitle("runnerd: http")
    for name in [name for name in os.environ if name.startswith("AWS_")]:  # those of a wallet in KMS: not for us
        del os.environ[name]
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the supervisor ends us in its order
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    # Whatever any library logs here goes the same way as our own records.
    logging.getLogger().handlers = logger.handlers
    server = _Server(listener, connection)
    logger.info(
        "listening on %s:%d", *server.server_address[:2], extra=fields("http_listening", port=server.server_address[1])
    )
    threading.Thread(target=_serve, args=(server,), name="http:serve", daemon=True).start()
    signal.sigwait({signal.SIGTERM})


def _serve(server: "_Server") -> None:
    try:
        server.serve_forever()
    finally:  # it has no other end than the process's
        os.kill(os.getpid(), signal.SIGTERM)


class _Server(ThreadingHTTPServer):
    """A thread per request; questions to the supervisor go one at a time."""

    daemon_threads = True

    def __init__(self, listener: socket.socket, connection: socket.socket) -> None:
        super().__init__(listener.getsockname()[:2], _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.server_address = listener.getsockname()
        self._connection = connection
        self._lock = threading.Lock()
        self._asked = 0

    def ask(self, word: str) -> Page:
        """The supervisor's page, or 503 when it does not answer in time."""
        until = time.monotonic() + ANSWER_DEADLINE_S
        if not self._lock.acquire(timeout=ANSWER_DEADLINE_S):  # behind others who get no answer either
            return UNANSWERED
        try:
            return self._ask(word, until)
        finally:
            self._lock.release()

    def _ask(self, word: str, until: float) -> Page:
        try:
            self._connection.settimeout(max(until - time.monotonic(), 0.01))
            self._asked += 1
            self._connection.send(f"{word} {self._asked}".encode())
            while True:
                number, page = _receive_page(self._connection)
                if number == self._asked:
                    return _pages.decode(page)
                # Else the late answer to a question that was given up; some of those never get one.
        except TimeoutError:
            return UNANSWERED
        except (OSError, ValueError):
            os._exit(1)  # the supervisor is gone


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = 10
    server_version = "runnerd"
    sys_version = ""

    def do_GET(self) -> None:
        """The three pages."""
        word = PATHS.get(self.path.partition("?")[0])
        if word is None:
            self._write(Page(status=404, content_type="text/plain", body=f"try {', '.join(PATHS)}\n"))
        else:
            self._write(self.server.ask(word))

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the name is http.server's
        """Per-request lines are for debugging only."""
        logger.debug(format, *args, extra=fields("http_request"))

    def _write(self, page: Page) -> None:
        body = page.body.encode()
        self.send_response(HTTPStatus(page.status))
        content_type = CONTENT_TYPE_LATEST if page.content_type == "metrics" else page.content_type
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

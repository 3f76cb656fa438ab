"""A runnerd that is only its control socket: answers real requests with prepared replies, in a thread of the test.

It speaks the protocol with the same codec as the real server; what it answers is the test's `answer`.
"""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from runnerd.control.messages import ControlError, Failure, Reply, Request, decode_request, encode

Answer: TypeAlias = Callable[[Request], Reply | bytes]
"""The reply to a request. Bytes go out as they are: a broken server's answer; empty ones close the connection."""

ACCEPT_DEADLINE_S = 30.0


@dataclass(slots=True)
class FakeDaemon:
    """Where it listens, and what it was asked so far."""

    path: Path
    requests: list[Request] = field(default_factory=list)


@contextmanager
def fake_daemon(path: Path, answer: Answer) -> Iterator[FakeDaemon]:
    """Listen on `path` for the length of the block, one connection at a time."""
    daemon = FakeDaemon(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen()
    thread = threading.Thread(target=_serve, args=(listener, daemon, answer), name="fake-daemon")
    thread.start()
    try:
        yield daemon
    finally:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)  # wakes accept
        thread.join(ACCEPT_DEADLINE_S)
        listener.close()
        path.unlink(missing_ok=True)


def _serve(listener: socket.socket, daemon: FakeDaemon, answer: Answer) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection, suppress(OSError):
            connection.settimeout(ACCEPT_DEADLINE_S)
            connection.sendall(_reply(connection, daemon, answer))


def _reply(connection: socket.socket, daemon: FakeDaemon, answer: Answer) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        chunk = connection.recv(1 << 16)
        if not chunk:
            return b""
        line += chunk
    try:
        request = decode_request(line)
    except ControlError as error:
        return encode(Failure(reason=str(error)))
    daemon.requests.append(request)
    reply = answer(request)
    return reply if isinstance(reply, bytes) else encode(reply)

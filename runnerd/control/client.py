"""The asking end of the control socket: for `runnerctl`, the demo and the tests. Blocking, one request at a time."""

import socket
from pathlib import Path

from runnerd.control.messages import (
    MAX_LINE_BYTES,
    ControlError,
    Failure,
    Pending,
    Reply,
    Request,
    decode_reply,
    encode,
)

TIMEOUT_S = 10.0


class NotRunning(ControlError):
    """Nobody listens on the control socket: runnerd is not running, or this user may not reach it.

    `advice`: what helps.
    """

    advice = "look at: systemctl status runnerd"


class NotAllowed(NotRunning):
    """This user may not reach the control socket. Be in its group, or use sudo."""

    advice = "run this as the user of runnerd, as one of that group, or with sudo"


def ask(control_socket: Path, request: Request, timeout_s: float = TIMEOUT_S) -> Reply:
    """The supervisor's reply. Raises NotRunning, and ControlError for a refusal or an answer that does not come."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(timeout_s)
    with connection:
        try:
            connection.connect(str(control_socket))
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise NotRunning(f"runnerd is not running (nobody listens on {control_socket})") from error
        except PermissionError as error:
            raise NotAllowed(f"no permission for {control_socket}: its group may use it (mode 0660)") from error
        except OSError as error:
            raise NotRunning(f"{control_socket} cannot be reached: {error}") from error
        try:
            connection.sendall(encode(request))
            line = _read_line(connection)
        except TimeoutError as error:
            raise ControlError(f"no answer within {timeout_s:g} s") from error
        except OSError as error:
            raise ControlError(f"the connection broke: {error}") from error
    reply = decode_reply(line)
    if isinstance(reply, Failure):
        raise Pending(reply.reason) if reply.is_pending else ControlError(reply.reason)
    return reply


def _read_line(connection: socket.socket) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while not chunks or not chunks[-1].endswith(b"\n"):
        chunk = connection.recv(1 << 16)
        if not chunk:
            raise ControlError("runnerd closed the connection without an answer")
        chunks.append(chunk)
        size += len(chunk)
        if size > MAX_LINE_BYTES:
            raise ControlError("the answer is too large")
    return b"".join(chunks)

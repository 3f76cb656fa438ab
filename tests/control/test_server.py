"""Both ends of the control socket: whatever a client sends, the supervisor answers or hangs up, and lives on."""

import asyncio
import logging
import os
import socket
import stat
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import uvloop

from runnerd.control.client import NotRunning, ask
from runnerd.control.messages import (
    MAX_LINE_BYTES,
    ControlError,
    Done,
    Failure,
    Reply,
    Request,
    Restart,
    decode_reply,
    encode,
)  # fmt: skip
from runnerd.control.server import ControlServer
from runnerd.control.status_messages import GetStatus
from runnerd.errors import RunnerdError
from tests.control.test_messages import REPLIES, REQUESTS
from tests.support.aio import run_async
from tests.support.until import until

pytestmark = pytest.mark.usefixtures("no_leaks")

DEADLINE_S = 5.0
NOBODY = 65_534
SYSTEM_PYTHON = Path("/usr/bin/python3")
"""One that another user may run; that of a virtual environment may be below /root."""


def run(scenario: Coroutine[Any, Any, None]) -> None:
    """On the loop of production."""
    run_async(scenario, loop_factory=uvloop.new_event_loop, deadline_s=3 * DEADLINE_S)


async def says_who(request: Request, principal: str) -> Reply:
    """A handler that tells what it was given."""
    return Done(text=f"{principal}: {type(request).__name__}")


Handler = Callable[[Request, str], Awaitable[Reply]]


@asynccontextmanager
async def serving(path: Path, handle: Handler = says_who, deadline_s: float = DEADLINE_S) -> AsyncIterator[None]:
    """A server on `path`, closed afterwards."""
    server = ControlServer(path, handle, deadline_s=deadline_s)
    await server.start()
    try:
        yield
    finally:
        await server.stop()


async def asked(path: Path, request: Request) -> Reply:
    """`ask` of the real, blocking client."""
    return await asyncio.to_thread(ask, path, request, DEADLINE_S)


async def sent(path: Path, data: bytes, *, then_eof: bool = False) -> bytes:
    """What comes back for raw bytes until the server hangs up."""
    async with asyncio.timeout(DEADLINE_S):
        reader, writer = await asyncio.open_unix_connection(str(path))
        answer = b""
        with suppress(ConnectionError):
            writer.write(data)
            await writer.drain()
            if then_eof:
                writer.write_eof()
        with suppress(ConnectionError):
            answer = await reader.read()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        return answer


async def is_alive(path: Path) -> bool:
    """It still answers."""
    return isinstance(await asked(path, GetStatus()), Done)


# --- what it answers -------------------------------------------------------------------------------------------------


def test_every_request_and_every_reply_makes_the_round_trip(short_dir: Path) -> None:
    """The handler sees the request as it was made; the client gets the reply as it was given."""
    path = short_dir / "c.sock"
    seen: list[Request] = []
    replies = [reply for reply in REPLIES if not isinstance(reply, Failure)]

    async def handle(request: Request, principal: str) -> Reply:
        seen.append(request)
        return replies[(len(seen) - 1) % len(replies)]

    async def scenario() -> None:
        async with serving(path, handle):
            got = [await asked(path, request) for request in REQUESTS]
        assert seen == REQUESTS
        assert got == [replies[i % len(replies)] for i in range(len(REQUESTS))]
        assert len(REQUESTS) >= len(replies)

    run(scenario())


def test_principal_is_the_uid_of_the_peer(short_dir: Path) -> None:
    """The kernel says who asks; nothing in the request does."""
    path = short_dir / "c.sock"

    async def scenario() -> None:
        async with serving(path):
            assert await asked(path, GetStatus()) == Done(text=f"uid:{os.getuid()}: GetStatus")

    run(scenario())


@pytest.mark.skipif(os.getuid() != 0 or not SYSTEM_PYTHON.exists(), reason="needs root to become another user")
def test_another_user_needs_the_group_and_is_named(short_dir: Path) -> None:
    """Without it the kernel refuses; with it (the positive control) the principal is that user."""
    path = short_dir / "c.sock"
    code = (
        "import socket, sys; s = socket.socket(socket.AF_UNIX); s.settimeout(5); s.connect(sys.argv[1]);"
        "s.sendall(sys.argv[2].encode()); print(s.recv(4096).decode())"
    )

    def ask_as_nobody() -> subprocess.CompletedProcess[bytes]:
        command = [str(SYSTEM_PYTHON), "-I", "-c", code, str(path), encode(GetStatus()).decode()]
        return subprocess.run(
            command, capture_output=True, timeout=DEADLINE_S, check=False, user=NOBODY, group=NOBODY, extra_groups=[],
            cwd="/",
        )  # fmt: skip

    async def scenario() -> None:
        async with serving(path):
            refused = await asyncio.to_thread(ask_as_nobody)
            assert b"PermissionError" in refused.stderr
            os.chown(path, -1, NOBODY)
            answered = await asyncio.to_thread(ask_as_nobody)
            assert decode_reply(answered.stdout) == Done(text=f"uid:{NOBODY}: GetStatus"), answered.stderr

    run(scenario())


def test_error_that_runnerd_explains_becomes_a_failure_with_its_text(short_dir: Path) -> None:
    """And ControlError at the client, word for word."""
    path = short_dir / "c.sock"

    async def refuse(request: Request, principal: str) -> Reply:
        if isinstance(request, Restart):
            raise RunnerdError("no plugin 'x'; there are alpha, beta")
        return Done(text="fine")

    async def scenario() -> None:
        async with serving(path, refuse):
            assert decode_reply(await sent(path, encode(Restart(plugin="x")))) == Failure(
                reason="no plugin 'x'; there are alpha, beta"
            )
            with pytest.raises(ControlError, match=r"^no plugin 'x'; there are alpha, beta$"):
                await asked(path, Restart(plugin="x"))
            assert await is_alive(path)

    run(scenario())


def test_defect_in_a_command_is_an_internal_error_and_the_server_lives_on(
    short_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Logged with its traceback for the engineers."""
    path = short_dir / "c.sock"

    async def stumble(request: Request, principal: str) -> Reply:
        if isinstance(request, Restart):
            raise KeyError("alpha")
        return Done(text="fine")

    async def scenario() -> None:
        async with serving(path, stumble):
            with pytest.raises(ControlError, match=r"^internal error: KeyError: 'alpha'$"):
                await asked(path, Restart(plugin="alpha"))
            assert await is_alive(path)

    with caplog.at_level(logging.ERROR, "runnerd.control"):
        run(scenario())
    assert [record.getMessage() for record in caplog.records if record.exc_info] == ["a control command failed"]


@pytest.mark.parametrize(
    "line", [b"\n", b"\xff\x00garbage\n", b"[" * 100_000 + b"\n", b'{"type": "reboot"}\n'], ids=lambda v: repr(v[:20])
)
def test_what_is_no_request_gets_a_failure_and_the_server_lives_on(short_dir: Path, line: bytes) -> None:
    """Garbage and unknown requests; the handler never sees them."""
    path = short_dir / "c.sock"

    async def scenario() -> None:
        async with serving(path):
            reply = decode_reply(await sent(path, line))
            assert isinstance(reply, Failure)
            assert reply.reason.startswith("not a request that this runnerd knows")
            assert await is_alive(path)

    run(scenario())


# --- where it hangs up -----------------------------------------------------------------------------------------------


def test_oversized_line_is_hung_up_on_and_the_server_lives_on(short_dir: Path) -> None:
    """One more than the limit without an end of line: no answer, and no more memory for it."""
    path = short_dir / "c.sock"

    async def scenario() -> None:
        async with serving(path):
            assert await sent(path, b"x" * (MAX_LINE_BYTES + (1 << 20))) == b""
            assert await is_alive(path)

    run(scenario())


def test_half_a_request_is_hung_up_on_and_the_server_lives_on(short_dir: Path) -> None:
    """The client left in the middle of its line."""
    path = short_dir / "c.sock"

    async def scenario() -> None:
        async with serving(path):
            assert await sent(path, b'{"type": ', then_eof=True) == b""
            assert await is_alive(path)

    run(scenario())


def test_client_that_never_ends_its_line_is_hung_up_on_at_the_deadline(short_dir: Path) -> None:
    """And holds up nobody else meanwhile."""
    path = short_dir / "c.sock"

    async def scenario() -> None:
        async with serving(path, deadline_s=0.5), asyncio.TaskGroup() as group:
            began = asyncio.get_running_loop().time()
            slow = group.create_task(sent(path, b'{"type": '), name="test:slow")
            assert await is_alive(path)
            assert not slow.done()
            assert await slow == b""
            assert 0.4 < asyncio.get_running_loop().time() - began < DEADLINE_S
            assert await is_alive(path)

    run(scenario())


def test_client_that_does_not_read_its_answer_is_hung_up_on_at_the_deadline(short_dir: Path) -> None:
    """A stopped runnerctl must not hold a connection and its answer for ever."""
    path = short_dir / "c.sock"

    async def shout(request: Request, principal: str) -> Reply:
        return Done(text="x" * (4 << 20))

    async def scenario() -> None:
        async with serving(path, shout, deadline_s=0.2):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(DEADLINE_S)
                connection.connect(str(path))
                connection.sendall(encode(GetStatus()))
                await until(lambda: _names_of_tasks("control:request"), DEADLINE_S)
                await until(lambda: not _names_of_tasks("control:request"), DEADLINE_S)
                got = 0
                while chunk := await asyncio.to_thread(connection.recv, 1 << 20):
                    got += len(chunk)
                assert got < 4 << 20
            assert await is_alive(path)

    run(scenario())


def _names_of_tasks(name: str) -> list[str]:
    return [task.get_name() for task in asyncio.all_tasks() if task.get_name() == name]


def test_close_ends_a_command_that_is_under_way(short_dir: Path) -> None:
    """Its client is told by the end of the connection, not left to its time-out."""
    path = short_dir / "c.sock"
    begun = asyncio.Event()

    async def wait(request: Request, principal: str) -> Reply:
        begun.set()
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

    async def cut_off() -> None:
        with pytest.raises(ControlError, match="closed the connection without an answer"):
            await asked(path, GetStatus())

    async def scenario() -> None:
        async with asyncio.TaskGroup() as group, serving(path, wait):
            group.create_task(cut_off(), name="test:client")
            await asyncio.wait_for(begun.wait(), DEADLINE_S)

    run(scenario())


# --- the socket file -------------------------------------------------------------------------------------------------


def test_socket_is_for_owner_and_group_and_goes_with_the_server(short_dir: Path) -> None:
    """0660 whatever the umask, which is as before afterwards; no file is left; missing directories are made."""
    path = short_dir / "run" / "c.sock"

    async def scenario() -> None:
        before = os.umask(0o000)
        try:
            async with serving(path):
                mode = path.stat().st_mode
                assert (stat.S_ISSOCK(mode), stat.S_IMODE(mode)) == (True, 0o660)
                assert os.umask(0o000) == 0o000
        finally:
            os.umask(before)
        assert not path.exists()

    run(scenario())


def test_stale_socket_file_is_replaced(short_dir: Path) -> None:
    """That of a killed runnerd does not keep the next one from starting."""
    path = short_dir / "c.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(str(path))

    async def scenario() -> None:
        async with serving(path):
            assert await is_alive(path)

    run(scenario())


def test_path_that_is_too_long_leaves_nothing_open(short_dir: Path) -> None:
    """An OSError with no descriptor behind it (`no_leaks` looks)."""

    async def scenario() -> None:
        with pytest.raises(OSError, match="AF_UNIX path too long"):
            await ControlServer(short_dir / ("x" * 120), says_who).start()

    run(scenario())


# --- the client ------------------------------------------------------------------------------------------------------


@contextmanager
def bound(path: Path, *, is_listening: bool) -> Iterator[socket.socket]:
    """A socket in `path` behind which no server answers."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        try:
            if is_listening:
                listener.listen()
            yield listener
        finally:
            path.unlink()


def test_no_socket_file_means_not_running(short_dir: Path) -> None:
    """The text names the path."""
    with pytest.raises(NotRunning, match=r"runnerd is not running .*none\.sock"):
        ask(short_dir / "none.sock", GetStatus(), DEADLINE_S)


def test_file_that_nobody_listens_on_means_not_running(short_dir: Path) -> None:
    """What a killed runnerd leaves."""
    path = short_dir / "c.sock"
    with bound(path, is_listening=False), pytest.raises(NotRunning, match="runnerd is not running"):
        ask(path, GetStatus(), DEADLINE_S)


def test_answer_that_does_not_come_is_an_error_at_the_time_out(short_dir: Path) -> None:
    """It is not NotRunning: somebody listens."""
    path = short_dir / "c.sock"
    with bound(path, is_listening=True), pytest.raises(ControlError, match=r"^no answer within 0\.1 s$") as caught:
        ask(path, GetStatus(), 0.1)
    assert not isinstance(caught.value, NotRunning)


@pytest.mark.parametrize("kind", ["file", "directory", "link to a file"])
def test_what_is_no_socket_is_left_alone_and_named(short_dir: Path, kind: str) -> None:
    """The path may be mistyped, and the file a keystore."""
    path, keystore = short_dir / "c.sock", short_dir / "operator.json"
    keystore.write_text("{}")
    match kind:
        case "file":
            path.write_text("{}")
        case "directory":
            path.mkdir()
        case _:
            path.symlink_to(keystore)

    async def scenario() -> None:
        with pytest.raises(ControlError, match=r"c\.sock is there, and is no socket: choose another path"):
            async with serving(path):
                pass

    run(scenario())
    assert os.path.lexists(path)
    assert keystore.read_text() == "{}"

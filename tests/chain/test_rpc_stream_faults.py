"""Shared connections (ipc, websocket): answers find their callers, and a loss fails only those who wait."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import pytest
from websockets.asyncio.server import Server as WebSocketServer
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from runnerd.chain.errors import RpcUnavailable
from runnerd.chain.node_url import parse_node_url
from runnerd.chain.rpc import Rpc
from runnerd.chain.transports import ipc, pipeline, websocket
from runnerd.chain.transports.base import TransportFault
from tests.chain.servers import Run, answer, unix_server


@dataclass(frozen=True, slots=True)
class Peer:
    """The client's end of one connection, as a node sees it. `send` writes a message; None closes the connection."""

    connection: object
    send: Callable[[bytes | None], None]


React: TypeAlias = Callable[[Any, Peer], None]
"""What a node does with one decoded request, or batch."""
Serve: TypeAlias = Callable[[React], AbstractAsyncContextManager[str]]


@asynccontextmanager
async def serve_ipc(react: React, path: Path) -> AsyncIterator[str]:
    def on_chunk(connection: asyncio.Transport, data: bytes) -> None:
        def send(message: bytes | None) -> None:
            if message is None:
                connection.close()
            elif not connection.is_closing():
                connection.write(message + b"\n")

        for line in data.splitlines():
            react(msgspec.json.decode(line), Peer(connection, send))

    async with unix_server(on_chunk, path) as server:
        yield server.url


@asynccontextmanager
async def serve_websocket(react: React) -> AsyncIterator[str]:
    async def handle(connection: ServerConnection) -> None:
        outbox: asyncio.Queue[bytes | None] = asyncio.Queue()

        async def send() -> None:
            while (message := await outbox.get()) is not None:
                try:
                    await connection.send(message.decode())
                except ConnectionClosed:
                    return
            await connection.close()

        async with asyncio.TaskGroup() as tasks:
            sending = tasks.create_task(send(), name="test:send")
            async for message in connection:
                react(msgspec.json.decode(message), Peer(connection, outbox.put_nowait))
            sending.cancel()

    async with serve(handle, "127.0.0.1", 0, compression=None) as server:
        yield f"ws://127.0.0.1:{port_of(server)}"


def port_of(server: WebSocketServer) -> int:
    port: int = next(iter(server.sockets)).getsockname()[1]
    return port


@pytest.fixture(params=["ipc", "ws"])
def node_on(request: pytest.FixtureRequest, tmp_path: Path) -> Serve:
    """Starts a node with the given reaction, behind a unix socket or a websocket."""
    return (lambda react: serve_ipc(react, tmp_path / "node.ipc")) if request.param == "ipc" else serve_websocket


def echo(request: Any, peer: Peer) -> None:
    """A healthy node: every method returns its parameters."""
    peer.send(answer(request, request["params"]))


def test_answers_find_their_callers_in_any_order(run: Run, node_on: Serve) -> None:
    """Requests are pipelined; a slow one does not hold up the others, and nobody gets another's answer."""
    held: list[Any] = []

    def backwards(request: Any, peer: Peer) -> None:
        held.append(request)
        if len(held) == 20:
            for each in reversed(held):
                echo(each, peer)

    async def scenario() -> None:
        async with node_on(backwards) as url, Rpc(url) as rpc:
            assert await asyncio.gather(*(rpc.call("eth_x", [i]) for i in range(20))) == [[i] for i in range(20)]

    run(scenario())


def test_a_batch_is_one_message_answered_in_any_order(run: Run, node_on: Serve) -> None:
    """One round trip; the answers are put back in the order of the requests."""
    messages = 0

    def shuffled(requests: Any, peer: Peer) -> None:
        nonlocal messages
        messages += 1
        peer.send(b"[" + b",".join(answer(request, request["params"]) for request in reversed(requests)) + b"]")

    async def scenario() -> None:
        async with node_on(shuffled) as url, Rpc(url) as rpc:
            assert await rpc.batch([("a", [1]), ("b", [2]), ("c", [3])]) == [[1], [2], [3]]
            assert messages == 1

    run(scenario())


@pytest.mark.parametrize("is_acknowledged", [True, False], ids=["ours", "control"])
def test_the_kernel_acknowledges_at_once(run: Run, monkeypatch: pytest.MonkeyPatch, is_acknowledged: bool) -> None:
    """Else a node that waits for it sends what comes next up to 40 ms late; left alone, the kernel waits."""
    channels: list[websocket.WebSocketChannel] = []
    made = websocket.WebSocketChannel.connection_made

    def keep(channel: websocket.WebSocketChannel, transport: asyncio.BaseTransport) -> None:
        channels.append(channel)
        made(channel, transport)

    monkeypatch.setattr(websocket.WebSocketChannel, "connection_made", keep)
    if not is_acknowledged:
        monkeypatch.setattr(websocket.WebSocketChannel, "_acknowledge", lambda _: None)

    async def scenario() -> None:
        async with serve_websocket(echo) as url, Rpc(url) as rpc:
            for number in range(20):
                assert await rpc.call("eth_x", [number]) == [number]
            (channel,) = channels
            assert channel._socket is not None
            is_quick = channel._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK)
            assert bool(is_quick) is is_acknowledged

    run(scenario())


def test_a_lost_connection_fails_all_who_wait_and_the_next_call_dials(run: Run, node_on: Serve) -> None:
    """A node that restarts costs the calls under way, nothing more."""
    requests = 0

    def drop_the_third(request: Any, peer: Peer) -> None:
        nonlocal requests
        requests += 1
        if requests == 3:
            peer.send(None)
        elif requests > 3:
            echo(request, peer)

    async def scenario() -> None:
        async with node_on(drop_the_third) as url, Rpc(url) as rpc:
            outcomes = await asyncio.gather(*(rpc.call("eth_x", []) for _ in range(3)), return_exceptions=True)
            assert [type(outcome) for outcome in outcomes] == [RpcUnavailable] * 3
            assert await rpc.call("eth_x", [1]) == [1]

    run(scenario())


def test_a_late_answer_is_ignored(run: Run, node_on: Serve) -> None:
    """After its deadline a call has failed; its answer must not reach the next caller or break the connection."""
    held: list[Any] = []

    def late(request: Any, peer: Peer) -> None:
        held.append(request)
        if len(held) == 2:
            echo(held[0], peer)
            echo(held[1], peer)

    async def scenario() -> None:
        async with node_on(late) as url, Rpc(url) as rpc:
            with pytest.raises(RpcUnavailable, match="no answer within"):
                await rpc.call("eth_x", ["late"], timeout_s=0.05)
            assert await rpc.call("eth_x", ["fresh"]) == ["fresh"]

    run(scenario())


def test_a_connection_gone_silent_is_replaced(run: Run, node_on: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """A half-open connection answers nothing for ever: after one whole deadline without a sign it is given up."""
    monkeypatch.setattr(pipeline, "SILENCE_S", 0.04)
    connections: list[object] = []

    def silent_first(request: Any, peer: Peer) -> None:
        connections.append(peer.connection)
        if len(connections) > 1:
            echo(request, peer)

    async def scenario() -> None:
        async with node_on(silent_first) as url, Rpc(url) as rpc:
            with pytest.raises(RpcUnavailable, match="no answer within"):
                await rpc.call("eth_x", [], timeout_s=0.05)
            assert await rpc.call("eth_x", [1]) == [1]
            assert await rpc.call("eth_x", [2]) == [2]
            assert [connections[0] is each for each in connections] == [True, False, False]
            assert connections[1] is connections[2]

    run(scenario())


def test_a_busy_connection_outlives_one_slow_call(run: Run, node_on: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """While other answers come, a call that meets its deadline is slow, not a sign of a dead connection."""
    monkeypatch.setattr(pipeline, "SILENCE_S", 0.04)
    connections: list[object] = []

    def ignore_the_slow(request: Any, peer: Peer) -> None:
        connections.append(peer.connection)
        if request["method"] != "eth_slow":
            echo(request, peer)

    async def scenario() -> None:
        async with node_on(ignore_the_slow) as url, Rpc(url) as rpc, asyncio.TaskGroup() as tasks:
            slow = tasks.create_task(timed_out(rpc), name="test:slow")
            while not slow.done():
                assert await rpc.call("eth_x", [1]) == [1]
            assert all(each is connections[0] for each in connections)

    async def timed_out(rpc: Rpc) -> None:
        with pytest.raises(RpcUnavailable, match="no answer within"):
            await rpc.call("eth_slow", [], timeout_s=0.2)

    run(scenario())


def test_notifications_and_foreign_answers_disturb_nobody(run: Run, node_on: Serve) -> None:
    """A node may push what was not asked for; the right answer still arrives."""

    def chatty(request: Any, peer: Peer) -> None:
        peer.send(b'{"jsonrpc":"2.0","method":"eth_subscription","params":{"subscription":"0x1","result":{}}}')
        peer.send(b'{"jsonrpc":"2.0","id":999,"result":"foreign"}')
        echo(request, peer)

    async def scenario() -> None:
        async with node_on(chatty) as url, Rpc(url) as rpc:
            assert await rpc.call("eth_x", [1]) == [1]

    run(scenario())


def test_garbage_ends_the_connection_and_every_call_on_it(run: Run, node_on: Serve) -> None:
    """A stream that is out of step cannot be trusted again; the next call dials."""
    requests = 0

    def garbage_first(request: Any, peer: Peer) -> None:
        nonlocal requests
        requests += 1
        if requests == 1:
            peer.send(b'{"id": oops')
        else:
            echo(request, peer)

    async def scenario() -> None:
        async with node_on(garbage_first) as url, Rpc(url) as rpc:
            with pytest.raises(RpcUnavailable, match="not JSON-RPC"):
                await rpc.call("eth_x", [])
            assert await rpc.call("eth_x", [1]) == [1]

    run(scenario())


def test_large_answers_arrive_whole(run: Run, node_on: Serve) -> None:
    """Three megabytes come in many chunks."""
    large = "ab" * 1_500_000

    async def scenario() -> None:
        async with node_on(lambda request, peer: peer.send(answer(request, large))) as url, Rpc(url) as rpc:
            assert await rpc.call("eth_x", []) == large

    run(scenario())


def test_an_answer_beyond_the_limit_is_not_buffered(run: Run, node_on: Serve) -> None:
    """A node must not be able to fill the supervisor's memory."""

    async def scenario() -> None:
        async with node_on(lambda request, peer: peer.send(answer(request, "a" * 5_000))) as url:
            node_url = parse_node_url(url)
            transport = (
                ipc.open_ipc(node_url.socket_path, max_answer_bytes=1_000)
                if node_url.scheme == "ipc"
                else websocket.open_websocket(node_url, max_answer_bytes=1_000)
            )
            with pytest.raises(TransportFault, match=r"larger than|code 1009"):
                await transport.exchange(1, b'{"id":1,"params":[]}')
            await transport.close()

    run(scenario())


def test_a_caller_cancelled_while_dialling_leaves_the_dial_to_the_next(run: Run, node_on: Serve) -> None:
    """Many callers share one dial; the first one's short deadline must not fail the others."""

    async def scenario() -> None:
        async with node_on(echo) as url, Rpc(url) as rpc, asyncio.TaskGroup() as tasks:
            first = tasks.create_task(rpc.call("eth_x", [0]), name="test:first")
            second = tasks.create_task(rpc.call("eth_x", [1]), name="test:second")
            await asyncio.sleep(0)  # both have begun, the first one dials
            first.cancel()
            assert await second == [1]

    run(scenario())


def test_a_closed_rpc_ends_calls_under_way(run: Run, node_on: Serve) -> None:
    """Shutdown does not wait for a node that hangs, and later calls do not dial."""

    async def scenario() -> None:
        requested = asyncio.Event()
        async with node_on(lambda *_: requested.set()) as url, asyncio.TaskGroup() as tasks:
            rpc = Rpc(url)
            call = tasks.create_task(failure(rpc), name="test:call")
            await requested.wait()
            await rpc.close()
            assert "closed" in await call
            assert "closed" in await failure(rpc)

    async def failure(rpc: Rpc) -> str:
        with pytest.raises(RpcUnavailable) as error:
            await rpc.call("eth_x", [])
        return str(error.value)

    run(scenario())


@pytest.mark.parametrize("url", ["ipc:///nonexistent/node.ipc", "ws://127.0.0.1:1"])
def test_nobody_listening_is_unavailable(run: Run, url: str) -> None:
    """ENOENT and ECONNREFUSED do not escape as OSError."""

    async def scenario() -> None:
        async with Rpc(url) as rpc:
            with pytest.raises(RpcUnavailable):
                await rpc.call("eth_x", [])

    run(scenario())


def test_a_refused_websocket_handshake_says_its_status(run: Run) -> None:
    """401 from a provider must read differently from a network fault."""

    async def scenario() -> None:
        async def never(connection: ServerConnection) -> None:
            raise AssertionError

        def refuse(connection: ServerConnection, request: Any) -> Any:
            return connection.respond(401, "no key, no service\n")

        async with serve(never, "127.0.0.1", 0, process_request=refuse) as server:
            port = port_of(server)
            async with Rpc(f"ws://alice:hunter2@127.0.0.1:{port}/s3cretkey") as rpc:
                with pytest.raises(RpcUnavailable, match="HTTP 401") as fault:
                    await rpc.call("eth_x", [])
                assert "s3cret" not in str(fault.value)

    run(scenario())


def test_the_websocket_library_logs_no_secret_at_debug(caplog: pytest.LogCaptureFixture) -> None:
    """With DEBUG everywhere, the handshake's path and Authorization header stay out of the log."""
    seen: list[str] = []

    async def scenario() -> None:
        async def handle(connection: ServerConnection) -> None:
            assert connection.request is not None
            seen.append(connection.request.path + str(connection.request.headers.get("Authorization")))
            async for message in connection:
                await connection.send(answer(msgspec.json.decode(message), 1).decode())

        logger = logging.Logger("server")  # noqa: LOG001  # the server's own records are not ours
        async with serve(handle, "127.0.0.1", 0, logger=logger) as server:
            port = port_of(server)
            async with Rpc(f"ws://alice:hunter2@127.0.0.1:{port}/s3cretkey") as rpc:
                assert await rpc.call("eth_x", []) == 1

    with caplog.at_level(logging.DEBUG):
        asyncio.run(scenario())
    assert seen == ["/s3cretkeyBasic YWxpY2U6aHVudGVyMg=="]
    assert "s3cret" not in caplog.text
    assert "YWxpY2U6" not in caplog.text


def test_fragmented_websocket_messages_are_put_together(run: Run) -> None:
    """RFC 6455 5.4: a message may come in several frames, with control frames in between."""

    async def scenario() -> None:
        async def handle(connection: ServerConnection) -> None:
            async for message in connection:
                whole = answer(msgspec.json.decode(message), "abc").decode()
                await connection.send(iter([whole[:5], whole[5:9], whole[9:]]))
                await connection.ping()

        async with serve(handle, "127.0.0.1", 0) as server:
            port = port_of(server)
            async with Rpc(f"ws://127.0.0.1:{port}") as rpc:
                assert await rpc.call("eth_x", []) == "abc"
                assert await rpc.call("eth_x", []) == "abc"

    run(scenario())

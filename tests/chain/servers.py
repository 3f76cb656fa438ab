"""Real, misbehaving nodes for the transport tests: servers whose reaction to each received chunk is a function."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, cast

import msgspec

Reaction: TypeAlias = Callable[[asyncio.Transport, bytes], None]
Run: TypeAlias = Callable[[Coroutine[Any, Any, None]], None]
"""`run_async` in one of the two event loops."""


@dataclass(slots=True)
class Server:
    """A listening server: its url, and every connection it ever accepted."""

    url: str
    connections: list[asyncio.Transport] = field(default_factory=list)


class _Reactor(asyncio.Protocol):
    def __init__(self, react: Reaction, connections: list[asyncio.Transport]) -> None:
        self._react = react
        self._connections = connections
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._connections.append(self._transport)

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        self._react(self._transport, data)


@asynccontextmanager
async def tcp_server(react: Reaction, *, ssl: Any = None) -> AsyncIterator[Server]:
    """An HTTP-like server; small requests arrive in one chunk on loopback."""
    server = Server(url="")
    listener = await asyncio.get_running_loop().create_server(
        lambda: _Reactor(react, server.connections), "127.0.0.1", 0, ssl=ssl
    )
    server.url = f"{'https' if ssl else 'http'}://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    try:
        yield server
    finally:
        listener.close()
        for connection in server.connections:
            connection.abort()
        await listener.wait_closed()


@asynccontextmanager
async def unix_server(react: Reaction, path: Path) -> AsyncIterator[Server]:
    """A node's unix socket at `path`."""
    server = Server(url=f"ipc://{path}")
    listener = await asyncio.get_running_loop().create_unix_server(
        lambda: _Reactor(react, server.connections), str(path)
    )
    try:
        yield server
    finally:
        listener.close()
        for connection in server.connections:
            connection.abort()
        await listener.wait_closed()


def request_in(data: bytes) -> Any:
    """The JSON-RPC request, or list of them, in one received HTTP request, line or message."""
    return msgspec.json.decode(data.rpartition(b"\r\n\r\n")[2].strip())


def answer(request: dict[str, Any], result: object) -> bytes:
    """The right answer to a request."""
    return msgspec.json.encode({"jsonrpc": "2.0", "id": request["id"], "result": result})


def http(body: bytes, status: str = "200 OK") -> bytes:
    """An HTTP response with this body."""
    return b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
        status.encode(),
        len(body),
        body,
    )


def echo(connection: asyncio.Transport, data: bytes) -> None:
    """A healthy HTTP node whose every method returns its parameters."""
    request = request_in(data)
    connection.write(http(answer(request, request["params"])))

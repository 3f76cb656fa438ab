"""A JSON-RPC node with a will of its own: a proxy in front of anvil that records, holds, loses, refuses or alters.

It sits where a real node can go wrong: between "the bytes were sent" and "the answer came". A request is matched by its
method (a batch: by any of its methods); what no rule matches is passed on unchanged. One request per connection.
"""

import asyncio
import json
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeAlias
from urllib.parse import urlsplit

DEADLINE_S = 30.0
MAX_BODY_BYTES = 1 << 24
STATE_OVERRIDE = "eth_call with a state override"


TURNS = 10
"""Of the loop, more than asyncio needs for one connection."""


@dataclass(frozen=True, slots=True)
class Raw:
    """What goes over the wire in the place of a proper answer: half a message, another status. Then it hangs up."""

    message: bytes


Answer: TypeAlias = bytes | Raw | None
Rule: TypeAlias = Callable[["Exchange"], Awaitable[Answer]]
"""The answer to give; None: hang up without one."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request on its way."""

    body: bytes
    node_url: str

    @property
    def calls(self) -> list[dict[str, Any]]:
        """The JSON-RPC requests in it: one, or those of a batch."""
        decoded = json.loads(self.body)
        return decoded if isinstance(decoded, list) else [decoded]

    async def forward(self) -> bytes:
        """Ask the node, and return its answer."""
        url = urlsplit(self.node_url)
        reader, writer = await asyncio.open_connection(url.hostname, url.port, limit=MAX_BODY_BYTES)
        try:
            writer.write(http_message(f"POST / HTTP/1.1\r\nHost: {url.netloc}", self.body))
            await writer.drain()
            return await _read_body(reader)
        finally:
            await _close(writer)


@dataclass(slots=True)
class Trap:
    """What became of the requests that a rule caught."""

    calls: list[dict[str, Any]] = field(default_factory=list)
    _is_sprung: threading.Event = field(default_factory=threading.Event)
    _is_open: asyncio.Event = field(default_factory=asyncio.Event)

    def wait(self, deadline_s: float = DEADLINE_S) -> None:
        """Until the first request was caught: held, or forwarded and its answer thrown away."""
        assert self._is_sprung.wait(deadline_s), f"no such request within {deadline_s:g} s"

    def catch(self, exchange: Exchange) -> None:
        """It is here."""
        self.calls.extend(exchange.calls)
        self._is_sprung.set()

    async def until_open(self) -> None:
        """Wait for the end of the trap."""
        await self._is_open.wait()

    def open(self) -> None:
        """Let go of what is held. In the proxy's loop."""
        self._is_open.set()


class RpcProxy:
    """Made by `rpc_proxy`. It lives in a thread of its own; rules may be set and removed at any time."""

    def __init__(self, node_url: str) -> None:
        self.calls: list[dict[str, Any]] = []
        self._node_url = node_url
        self._rules: dict[str, Rule] = {}
        self._traps: list[Trap] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._socket = _bind()
        self._loop = asyncio.new_event_loop()
        self._server = self._loop.run_until_complete(
            asyncio.start_server(self._serve, sock=self._socket, limit=MAX_BODY_BYTES, start_serving=False)
        )
        self._thread = threading.Thread(target=self._loop.run_forever, name="rpc-proxy")
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def listen(self) -> None:
        """Take connections; before this they are refused, though the port is ours."""
        asyncio.run_coroutine_threadsafe(self._server.start_serving(), self._loop).result(DEADLINE_S)

    def close(self) -> None:
        """Hang up on everybody and end the thread."""
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(DEADLINE_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def sent(self, method: str) -> list[dict[str, Any]]:
        """The requests of one method so far."""
        return [call for call in list(self.calls) if call["method"] == method]

    # --- rules -------------------------------------------------------------------------------------------------------

    def set_rule(self, method: str, rule: Rule) -> None:
        """Answer `method` by `rule` from now on."""
        self._rules[method] = rule

    def open(self) -> None:
        """Remove all rules. Requests that are held get no answer, and are never forwarded."""
        self._rules.clear()
        for trap in self._traps:
            self._loop.call_soon_threadsafe(trap.open)

    def hold(self, method: str) -> Trap:
        """Take `method` and keep it: the node never sees it, the asker waits."""
        return self._trap(method, is_forwarded=False, is_held=True)

    def lose_answer(self, method: str) -> Trap:
        """Pass `method` on and keep the answer: the asker waits."""
        return self._trap(method, is_forwarded=True, is_held=True)

    def hang_up(self, method: str, *, is_forwarded: bool) -> Trap:
        """Close the connection instead of an answer, whether or not the node has seen the request."""
        return self._trap(method, is_forwarded=is_forwarded, is_held=False)

    def refuse(self, method: str, code: int, message: str) -> Trap:
        """Answer with a JSON-RPC error; the node never sees it."""
        trap = Trap()

        async def rule(exchange: Exchange) -> bytes:
            trap.catch(exchange)
            error = {"code": code, "message": message}
            answers = [{"jsonrpc": "2.0", "id": call["id"], "error": error} for call in exchange.calls]
            return json.dumps(answers if exchange.body.startswith(b"[") else answers[0]).encode()

        self.set_rule(method, rule)
        return trap

    def lack(self, *lacking: str) -> None:
        """Refuse these methods as a node that never heard of them, also in a batch whose other requests it answers.

        `STATE_OVERRIDE` is eth_call with a third parameter; without it eth_call works.
        """

        async def rule(exchange: Exchange) -> bytes:
            decoded = json.loads(await exchange.forward())
            calls = {call["id"]: call for call in exchange.calls}
            for answer in decoded if isinstance(decoded, list) else [decoded]:
                call = calls[answer["id"]]
                is_override = call["method"] == "eth_call" and len(call["params"]) == 3
                if (STATE_OVERRIDE if is_override else call["method"]) in lacking:
                    answer.pop("result", None)
                    answer["error"] = {"code": -32601, "message": f"{call['method']} is not available"}
            return json.dumps(decoded).encode()

        for method in lacking:
            self.set_rule("eth_call" if method == STATE_OVERRIDE else method, rule)

    def alter(self, method: str, change: Callable[[Any], Any]) -> None:
        """Put `change(result)` in the place of the result of `method`."""

        async def rule(exchange: Exchange) -> bytes:
            decoded = json.loads(await exchange.forward())
            methods = {call["id"]: call["method"] for call in exchange.calls}
            for answer in decoded if isinstance(decoded, list) else [decoded]:
                if methods[answer["id"]] == method and "result" in answer:
                    answer["result"] = change(answer["result"])
            return json.dumps(decoded).encode()

        self.set_rule(method, rule)

    def _trap(self, method: str, *, is_forwarded: bool, is_held: bool) -> Trap:
        trap = Trap()
        self._traps.append(trap)

        async def rule(exchange: Exchange) -> None:
            if is_forwarded:
                await exchange.forward()
            trap.catch(exchange)
            if is_held:
                await trap.until_open()

        self.set_rule(method, rule)
        return trap

    # --- in the thread -----------------------------------------------------------------------------------------------

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # A client that was killed, or a node that is gone: the connection ends, as it would with a real node.
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                match await self._answer(await _read_body(reader)):
                    case Raw(message):
                        writer.write(message)
                        await writer.drain()
                    case bytes() as answer:
                        writer.write(http_message("HTTP/1.1 200 OK", answer))
                        await writer.drain()
                    case None:
                        pass
        finally:
            await _close(writer)

    async def _answer(self, body: bytes) -> Answer:
        exchange = Exchange(body, self._node_url)
        calls = exchange.calls
        self.calls.extend(calls)
        rule = next((self._rules[call["method"]] for call in calls if call["method"] in self._rules), None)
        return await (exchange.forward() if rule is None else rule(exchange))

    async def _close(self) -> None:
        self._server.close()
        for _ in range(TURNS):  # in which connections that were just accepted are given tasks that have begun
            await asyncio.sleep(0)
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for _ in range(TURNS):  # and in which those that were being closed when they were cancelled are let go of
            await asyncio.sleep(0)


@contextmanager
def rpc_proxy(node_url: str, *, is_listening: bool = True) -> Iterator[RpcProxy]:
    """A proxy for the length of the block; with `is_listening=False` it refuses connections until `listen`."""
    proxy = RpcProxy(node_url)
    try:
        if is_listening:
            proxy.listen()
        yield proxy
    finally:
        proxy.close()


def _bind() -> socket.socket:
    """A port of ours on which nobody listens yet."""
    bound = socket.socket()
    bound.setblocking(False)
    bound.bind(("127.0.0.1", 0))
    return bound


async def _read_body(reader: asyncio.StreamReader) -> bytes:
    """The body of one HTTP message with a Content-Length."""
    head = await reader.readuntil(b"\r\n\r\n")
    headers = dict(line.lower().split(b":", 1) for line in head.split(b"\r\n")[1:] if b":" in line)
    return await reader.readexactly(int(headers[b"content-length"]))


async def _close(writer: asyncio.StreamWriter) -> None:
    """Until the socket is gone: what is only told to close is a leak if the loop ends in the same turn.

    Whoever is cancelled here waits for a client that does not read: what it has not read is dropped.
    """
    writer.close()
    try:
        with suppress(OSError):
            await writer.wait_closed()
    finally:
        writer.transport.abort()


def http_message(first_line: str, body: bytes) -> bytes:
    """One HTTP message, the only one on its connection."""
    head = f"{first_line}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode() + body

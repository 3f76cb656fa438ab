"""The node as the daemon sees it: a proxy in which a fault waits for the next request that it fits, and then happens.

Several may wait at once. Each is applied to one request (a lagging node to several) and reported to `on_hit`.
"""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

from tests.faults.campaign.plan import Fault
from tests.support.rpc_proxy import Answer, Exchange, Raw, RpcProxy, http_message

SEND: Final = "eth_sendRawTransaction"
COUNT: Final = "eth_getTransactionCount"
RECEIPT: Final = "eth_getTransactionReceipt"
CHAIN_ID: Final = "eth_chainId"
WRONG_CHAIN_ID: Final = "0x539"
BEYOND_PATIENCE_S: Final = 0.8
"""Longer than the daemon's `rpc_timeout_s`."""
METHOD_OF: Final = {
    "rpc timeout after accepted": SEND,
    "rpc hang-up after accepted": SEND,
    "rpc never sent": SEND,
    "rpc refused after accepted": SEND,
    "rpc refused": SEND,
    "rpc other hash": SEND,
    "rpc stale nonce": COUNT,
    "rpc null receipts": RECEIPT,
    "rpc wrong chain id": CHAIN_ID,
}
FORWARDED_FIRST: Final = ("rpc timeout after accepted", "rpc hang-up after accepted", "rpc refused after accepted")
BATCHES: Final = ("rpc reordered", "rpc duplicated", "rpc missing answer")
JUNK: Final = (b"", b"<html>502 Bad Gateway</html>", b'{"jsonrpc":"2.0","id":', b"[]", b"\xff\xfe{}")
WRONG_TYPES: Final[tuple[Any, ...]] = (17, "0xzz", [], {"number": "latest"}, "")


@dataclass(slots=True)
class _Waiting:
    fault: Fault
    left: int
    """Requests that it still applies to."""


class FaultyNode(RpcProxy):
    """One view of the node. `arm` from any thread."""

    def __init__(self, node_url: str, on_hit: Callable[[Fault], None], seen: threading.Condition) -> None:
        super().__init__(node_url)
        self.requests = 0
        self._on_hit = on_hit
        self._waiting: list[_Waiting] = []
        self._seen = seen

    def arm(self, fault: Fault) -> None:
        """Let `fault` happen to the next request that it fits."""
        left = fault.number_of("requests") if fault.kind == "rpc lagging node" else 1
        self._loop.call_soon_threadsafe(self._waiting.append, _Waiting(fault, left))

    def disarm(self) -> int:
        """Forget the faults that have not happened. How many there were."""
        waiting = len(self._waiting)
        self._loop.call_soon_threadsafe(self._waiting.clear)
        return waiting

    @property
    def armed(self) -> int:
        """Faults that wait for their request."""
        return len(self._waiting)

    async def _answer(self, body: bytes) -> Answer:
        exchange = Exchange(body, self._node_url)
        waiting = self._take(exchange)
        with self._seen:
            self.requests += 1
            self._seen.notify_all()
        if waiting is None:
            return await exchange.forward()
        return await _disturb(exchange, waiting.fault)

    def _take(self, exchange: Exchange) -> _Waiting | None:
        calls = exchange.calls
        methods = {call["method"] for call in calls}
        for waiting in self._waiting:
            kind = waiting.fault.kind
            if METHOD_OF.get(kind, next(iter(methods))) in methods and (kind not in BATCHES or len(calls) > 1):
                is_first = waiting.left == _requests(waiting.fault)
                waiting.left -= 1
                if not waiting.left:
                    self._waiting.remove(waiting)
                if is_first:
                    self._on_hit(waiting.fault)
                return waiting
        return None


def _requests(fault: Fault) -> int:
    return fault.number_of("requests") if fault.kind == "rpc lagging node" else 1


async def _disturb(exchange: Exchange, fault: Fault) -> Answer:
    """What the daemon gets."""
    if fault.kind in FORWARDED_FIRST:
        await exchange.forward()
    match fault.kind:
        case "rpc timeout after accepted" | "rpc timeout":
            await asyncio.sleep(BEYOND_PATIENCE_S)
            return None
        case "rpc hang-up after accepted" | "rpc never sent":
            return None
        case "rpc refused after accepted" | "rpc refused":
            return _refusal(exchange, -32000, str(fault.parameters["message"]))
        case "rpc error":
            return _refusal(exchange, fault.dice.choice((-32603, -32005, -32000)), "backend is overloaded")
        case "rpc http error":
            return Raw(http_message(f"HTTP/1.1 {fault.parameters['status']} Error", b"no"))
        case "rpc slow":
            await asyncio.sleep(fault.seconds_of("seconds"))
            return await exchange.forward()
        case "rpc lagging node":
            return await _answer_of_the_past(exchange, fault.number_of("behind"))
        case "rpc junk":
            return JUNK[fault.number_of("form")]
        case "rpc cut answer":
            message = http_message("HTTP/1.1 200 OK", await exchange.forward())
            return Raw(message[: fault.dice.randrange(1, len(message))])
        case _:
            return _rearranged(exchange, await exchange.forward(), fault)


def _rearranged(exchange: Exchange, answer: bytes, fault: Fault) -> bytes:
    decoded = json.loads(answer)
    answers: list[dict[str, Any]] = decoded if isinstance(decoded, list) else [decoded]
    methods = {call["id"]: call["method"] for call in exchange.calls}
    match fault.kind:
        case "rpc reordered":
            fault.dice.shuffle(answers)
        case "rpc duplicated":
            answers.insert(fault.dice.randrange(len(answers) + 1), fault.dice.choice(answers))
        case "rpc missing answer":
            answers.pop(fault.dice.randrange(len(answers)))
        case "rpc wrong type":
            fault.dice.choice(answers)["result"] = WRONG_TYPES[fault.number_of("form")]
        case _:
            for one in answers:
                if methods[one["id"]] == METHOD_OF[fault.kind] and "result" in one:
                    one["result"] = _false_result(fault, one["result"])
    return json.dumps(decoded).encode()


def _false_result(fault: Fault, result: Any) -> Any:
    match fault.kind:
        case "rpc other hash":
            return "0x" + fault.dice.randbytes(32).hex()
        case "rpc stale nonce":
            return hex(max(0, int(result, 16) - fault.number_of("behind")))
        case "rpc null receipts":
            return None
        case _:
            return WRONG_CHAIN_ID


async def _answer_of_the_past(exchange: Exchange, behind: int) -> bytes:
    """As a node would answer whose head is `behind` blocks back."""
    asked = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "eth_blockNumber", "params": []}).encode()
    head = int(json.loads(await replace(exchange, body=asked).forward())["result"], 16)
    past = max(0, head - behind)
    calls = exchange.calls
    for call in calls:
        call["params"] = [hex(past) if param == "latest" else param for param in call["params"]]
    is_batch = exchange.body.startswith(b"[")
    body = json.dumps(calls if is_batch else calls[0]).encode()
    decoded = json.loads(await replace(exchange, body=body).forward())
    for answer in decoded if is_batch else [decoded]:
        receipt = answer.get("result")
        if isinstance(receipt, dict) and "transactionHash" in receipt and int(receipt["blockNumber"], 16) > past:
            answer["result"] = None
    return json.dumps(decoded).encode()


def _refusal(exchange: Exchange, code: int, message: str) -> bytes:
    error = {"code": code, "message": message}
    answers = [{"jsonrpc": "2.0", "id": call["id"], "error": error} for call in exchange.calls]
    return json.dumps(answers if exchange.body.startswith(b"[") else answers[0]).encode()


class Fleet:
    """The nodes of the chain as the daemon sees them: several views of one, each with faults of its own."""

    def __init__(self, views: list[FaultyNode], seen: threading.Condition) -> None:
        self.urls = tuple(view.url for view in views)
        self._views = views
        self._seen = seen

    def arm(self, fault: Fault) -> None:
        """Let `fault` happen at one of the nodes, which one its number says."""
        self._views[fault.number % len(self._views)].arm(fault)

    def disarm(self) -> int:
        """Forget the faults that have not happened. How many there were."""
        return sum(view.disarm() for view in self._views)

    @property
    def armed(self) -> int:
        """Faults that wait for their request."""
        return sum(view.armed for view in self._views)

    def wait_requests(self, count: int, deadline_s: float) -> bool:
        """Until the daemon has made `count` more requests; False if it did not in time."""
        wanted = self._requests + count
        with self._seen:
            return self._seen.wait_for(lambda: self._requests >= wanted, deadline_s)

    def wait_armed(self, at_most: int, deadline_s: float) -> bool:
        """Until at most `at_most` faults still wait; False if not in time."""
        with self._seen:
            return self._seen.wait_for(lambda: self.armed <= at_most, deadline_s)

    @property
    def _requests(self) -> int:
        return sum(view.requests for view in self._views)


@contextmanager
def faulty_fleet(node_url: str, views: int, on_hit: Callable[[Fault], None]) -> Iterator[Fleet]:
    """That many proxies for the length of the block."""
    seen = threading.Condition()
    with ExitStack() as stack:
        nodes = []
        for _ in range(views):
            node = FaultyNode(node_url, on_hit, seen)
            stack.callback(node.close)
            node.listen()
            nodes.append(node)
        yield Fleet(nodes, seen)

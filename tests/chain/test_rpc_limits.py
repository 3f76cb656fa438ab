"""How long an answer may be depends on the question: what is too long is not even decoded."""

import asyncio
from typing import Any

import pytest

from runnerd.chain.errors import RpcUnavailable
from runnerd.chain.jsonrpc import Request
from runnerd.chain.rpc import MAX_ORDINARY_BYTES, Rpc, max_answer_bytes
from runnerd.chain.transports.base import MAX_ANSWER_BYTES
from tests.chain.servers import Run, answer, http, request_in, tcp_server

NONCE = "eth_getTransactionCount"


def test_answer_that_is_too_long_for_its_question_is_not_used(run: Run) -> None:
    """64 MiB of empty lists instead of a nonce would hold up the event loop for seconds; logs may be long."""
    large = "a" * MAX_ORDINARY_BYTES

    def react(connection: asyncio.Transport, data: bytes) -> None:
        asked: Any = request_in(data)
        is_batch = isinstance(asked, list)
        body = answer(asked[0] if is_batch else asked, large)
        connection.write(http(b"[" + body + b"]" if is_batch else body))

    async def scenario() -> None:
        async with tcp_server(react) as server, Rpc(server.url) as rpc:
            with pytest.raises(RpcUnavailable, match=f"{NONCE} on .* larger than {MAX_ORDINARY_BYTES} bytes"):
                await rpc.call(NONCE, [])
            with pytest.raises(RpcUnavailable, match=f"batch of 1 on .* larger than {MAX_ORDINARY_BYTES} bytes"):
                await rpc.batch([(NONCE, [])])
            assert await rpc.call("eth_getLogs", []) == large
            assert await rpc.batch([("eth_getLogs", [])]) == [large]

    run(scenario())


def test_length_of_an_answer_is_bounded_by_what_was_asked() -> None:
    """Together for a batch, and never above what a transport takes."""
    head: Request = ("eth_getBlockByNumber", ["latest", False])
    assert max_answer_bytes([head]) == max_answer_bytes([(NONCE, [])]) == MAX_ORDINARY_BYTES
    assert max_answer_bytes([head] * 3) == 3 * MAX_ORDINARY_BYTES
    assert max_answer_bytes([head] * 100) == MAX_ANSWER_BYTES


@pytest.mark.parametrize(
    "method, params",
    [
        ("eth_getBlockByHash", ["0x1", True]), ("eth_getLogs", [{}]), ("eth_getTransactionReceipt", ["0x1"]),
        ("eth_simulateV1", [{}]), ("debug_traceTransaction", ["0x1", {}]),
    ],
)  # fmt: skip
def test_answers_with_logs_transactions_or_traces_may_be_long(method: str, params: list[Any]) -> None:
    """As long as a transport takes."""
    assert max_answer_bytes([(NONCE, []), (method, params)]) == MAX_ANSWER_BYTES

"""One question to many nodes at once, and their answers as they come: the first good one is not held up by a dead node.

Made by `Pool.ask_each`. Whoever has heard enough stops listening; the other requests go on until their own deadlines.
"""

import asyncio
from collections.abc import Sequence
from typing import Self

from runnerd.chain.errors import ChainError, RpcUnavailable
from runnerd.chain.json_values import JsonParam, JsonValue
from runnerd.chain.pool.node import Node
from runnerd.tasks import Tasks


class Answers:
    """`async for name, answer in answers`: an answer is a result, or the ChainError that came instead."""

    def __init__(self, nodes: Sequence[Node], method: str, params: Sequence[JsonParam], tasks: Tasks) -> None:
        """Asks at once. `tasks` owns what is under way."""
        self._came: asyncio.Queue[tuple[str, JsonValue | ChainError]] = asyncio.Queue()
        self._expected = len(nodes)
        for node in nodes:
            tasks.spawn(self._ask(node, method, params), f"ask:{node.name}")

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> tuple[str, JsonValue | ChainError]:
        if not self._expected:
            raise StopAsyncIteration
        came = await self._came.get()
        self._expected -= 1
        return came

    async def _ask(self, node: Node, method: str, params: Sequence[JsonParam]) -> None:
        answer: JsonValue | ChainError = RpcUnavailable("closed", method=method, url=node.name)
        try:
            answer = await node.call(method, params)
        except ChainError as error:
            answer = error
        finally:  # also when it is cancelled: somebody may listen
            self._came.put_nowait((node.name, answer))

"""One question to many nodes at once, and their answers as they come: the first good one is not held up by a dead node.

Made by `Pool.ask_each`. Whoever has heard enough stops listening; the other requests go on until their own deadlines.
"""

import asyncio
from collections.abc import Sequence
from functools import partial
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
            task = tasks.spawn(_ask(node, method, params), f"ask:{node.name}")
            task.add_done_callback(partial(self._take, node.name))

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> tuple[str, JsonValue | ChainError]:
        if not self._expected:
            raise StopAsyncIteration
        came = await self._came.get()
        self._expected -= 1
        return came

    def _take(self, name: str, task: "asyncio.Task[JsonValue | ChainError]") -> None:
        # Cancelled at the end, or failed by a defect of ours, which the owner of the task logs: somebody may listen.
        is_lost = task.cancelled() or task.exception() is not None
        self._came.put_nowait((name, RpcUnavailable("given up", url=name) if is_lost else task.result()))


async def _ask(node: Node, method: str, params: Sequence[JsonParam]) -> JsonValue | ChainError:
    try:
        return await node.call(method, params)
    except ChainError as error:
        return error

"""The same questions to many nodes at once, and their answers as they come: a dead node holds up no good one's.

Made by `Pool.ask_each`. Whoever has heard enough stops listening; the other requests go on until their own deadlines.
"""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Self, TypeAlias

from runnerd.chain.errors import ChainError, RpcRefused, RpcUnavailable
from runnerd.chain.json_values import JsonValue
from runnerd.chain.jsonrpc import Request
from runnerd.chain.pool.node import Node
from runnerd.tasks import Tasks

Said: TypeAlias = list[JsonValue | RpcRefused] | ChainError


class Answers:
    """`async for name, answer in answers`: the results in the order of the requests, or the ChainError that came."""

    def __init__(self, nodes: Sequence[Node], requests: Sequence[Request], tasks: Tasks) -> None:
        """Asks at once. `tasks` owns what is under way."""
        self._came: asyncio.Queue[tuple[str, Said]] = asyncio.Queue()
        self._expected = len(nodes)
        for node in nodes:
            task = tasks.spawn(_ask(node, requests), f"ask:{node.name}")
            task.add_done_callback(partial(self._take, node.name))

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> tuple[str, Said]:
        if not self._expected:
            raise StopAsyncIteration
        came = await self._came.get()
        self._expected -= 1
        return came

    def _take(self, name: str, task: "asyncio.Task[Said]") -> None:
        # Cancelled at the end, or failed by a defect of ours, which the owner of the task logs: somebody may listen.
        is_lost = task.cancelled() or task.exception() is not None
        self._came.put_nowait((name, RpcUnavailable("given up", url=name) if is_lost else task.result()))


async def _ask(node: Node, requests: Sequence[Request]) -> Said:
    try:
        if len(requests) > 1:
            return await node.batch(requests)
        ((method, params),) = requests
        return [await node.call(method, params)]
    except RpcRefused as refused:
        return [refused] if len(requests) == 1 else refused
    except ChainError as error:
        return error

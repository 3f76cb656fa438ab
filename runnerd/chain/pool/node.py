"""One member of a chain's pool: asks it, looks at the answers for its health, and polls its head. Made by `pool`.

Every answer passes through here, whoever asked. After any failure the node has to name its chain again, in the same
round trip as the next question: behind one url there may be another node by then. Retries and choices are `pool`'s.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, Protocol

from runnerd.chain.errors import ChainError, RpcMalformed, RpcRefused, RpcUnavailable, WrongChain
from runnerd.chain.head import NEWEST_BLOCK, Head
from runnerd.chain.json_values import JsonParam, JsonValue
from runnerd.chain.jsonrpc import Request
from runnerd.chain.pool.health import (
    Answered,
    Event,
    Failed,
    ForeignChain,
    Health,
    Lied,
    NodeState,
    Polled,
    reference_head,
    step,
)
from runnerd.chain.rpc import NodeCalls
from runnerd.chain.types import decode_block, decode_count
from runnerd.log import fields

logger = logging.getLogger(__name__)

CHAIN_ID: Final[Request] = ("eth_chainId", [])
LATENCY_WEIGHT = 0.1
MIN_POLL_GAP_S = 0.02
"""A node that rings for a new head without end is asked no more often than this."""


class NodeConnection(NodeCalls, Protocol):
    """What a node is asked through: `rpc.Rpc`."""

    @property
    def url_for_display(self) -> str:
        """Without what may be secret in it."""

    def on_new_head(self, hear: Callable[[JsonValue], None]) -> None:
        """Call `hear` with the header whenever the node announces a block, over a transport that can."""

    async def close(self) -> None:
        """Close the connections."""


class NodeMetrics(Protocol):
    """Where nodes are counted: `services.metrics.Metrics`."""

    def node_answered(self, chain: str, node: str, seconds: float) -> None:
        """A request had a usable answer after `seconds`."""

    def node_failed(self, chain: str, node: str) -> None:
        """A request had none."""

    def node_lied(self, chain: str, node: str, what: str) -> None:
        """It contradicted a quorum; `what` is the method."""

    def node_seen(self, chain: str, node: str, *, is_up: bool, head: int | None) -> None:
        """How it is now."""


class Node:
    """`NodeCalls` to one node. `name` is its url for display, made unique within the chain."""

    def __init__(
        self,
        name: str,
        rpc: NodeConnection,
        *,
        chain: str,
        chain_id: int,
        max_lag: int,
        probation_polls: int,
        metrics: NodeMetrics | None,
        others: Callable[["Node"], list[int]],
        on_change: Callable[["Node"], None],
    ) -> None:
        """`others` gives the voting heads of the other nodes; `on_change` is told when `health` or `head` changed."""
        self.name = name
        self.rpc = rpc
        self.health = Health()
        self.latency_s = 0.0
        self.chain_id: int | None = None
        """What it said last that it serves."""
        self.head = Head(self, sleep=self._pause, on_block=lambda: on_change(self))
        self._chain = chain
        self._wanted_id = chain_id
        self._max_lag = max_lag
        self._probation_polls = probation_polls
        self._metrics = metrics
        self._others = others
        self._on_change = on_change
        self._is_verified = False
        self._bell = asyncio.Event()
        rpc.on_new_head(self.hear)

    def __repr__(self) -> str:
        return f"Node({self.name!r}, {self.health.state})"

    async def call(self, method: str, params: Sequence[JsonParam], *, timeout_s: float | None = None) -> JsonValue:
        """See NodeCalls; a node of another chain raises WrongChain, before it has seen a transaction."""
        if not self._is_verified:
            if not is_sending(method):
                (answer,) = await self.batch([(method, params)], timeout_s=timeout_s)
                if isinstance(answer, RpcRefused):
                    raise answer
                return answer
            await self.batch([], timeout_s=timeout_s)
        asked_at, others = time.monotonic(), self._others(self)
        try:
            answer = await self.rpc.call(method, params, timeout_s=timeout_s)
        except ChainError as error:
            self._note_error((method, params), error, asked_at)
            raise
        self._note_answer((method, params), answer, asked_at, others)
        return answer

    async def batch(
        self, requests: Sequence[Request], *, timeout_s: float | None = None
    ) -> list[JsonValue | RpcRefused]:
        """See NodeBatches; a node of another chain raises WrongChain, and its answers are not used."""
        if not self._is_verified and any(is_sending(method) for method, _ in requests):
            await self.batch([], timeout_s=timeout_s)
        asks_chain = not self._is_verified
        if not asks_chain and not requests:
            return []
        asked_at, others = time.monotonic(), self._others(self)
        try:
            answers = await self.rpc.batch([CHAIN_ID, *requests] if asks_chain else requests, timeout_s=timeout_s)
            if asks_chain:
                self._note_chain(answers[0])
                answers = answers[1:]
        except ChainError as error:
            self._note_error(requests[0] if requests else CHAIN_ID, error, asked_at)
            raise
        request, answer = next(zip(requests, answers, strict=True), (CHAIN_ID, None))
        self._note_answer(
            request, answer, asked_at, others
        )  # the first one: who asks for the head as well puts it there
        return answers

    def ring(self) -> None:
        """There may be a new block: poll now. Only a doorbell; what the poll says is the truth."""
        self._bell.set()

    def hear(self, header: JsonValue) -> None:
        """The node announced a block. Its header is worth a poll's answer, which it spares where nobody is to compare.

        Only from a node that has named its chain and is well; and only one that follows what is known. For everything
        else it is a doorbell.
        """
        if header is not None and self._is_verified and self.health.state is NodeState.IN:
            with suppress(ChainError):
                if self.head.announce(decode_block(header, "eth_subscribe")) and not self._others(self):
                    return
        self.ring()

    def lied(self, method: str, words: str) -> None:
        """A quorum contradicts what this node said of a state that cannot change any more."""
        logger.error(
            "node %s contradicts a quorum: %s", self.name, words,
            extra=fields("node_lies", chain=self._chain, node=self.name, what=method),
        )  # fmt: skip
        if self._metrics is not None:
            self._metrics.node_lied(self._chain, self.name, method)
        self._see(Lied(words))

    def answered_malformed(self, error: RpcMalformed, asked_at: float) -> None:
        """What it said, and was taken for an answer here, cannot be used: as bad as none. `asked_at` is monotonic."""
        self._note_error(CHAIN_ID, error, asked_at)

    # --- health ------------------------------------------------------------------------------------------------------

    def _note_chain(self, answer: JsonValue | RpcRefused) -> None:
        if isinstance(answer, RpcRefused):
            raise answer
        self.chain_id = decode_count(answer, "eth_chainId")
        if self.chain_id != self._wanted_id:
            raise WrongChain(self.chain_id, self._wanted_id, url=self.rpc.url_for_display)
        self._is_verified = True

    def _note_answer(
        self, request: Request, answer: JsonValue | RpcRefused, asked_at: float, others_before: list[int]
    ) -> None:
        seconds = time.monotonic() - asked_at
        self.latency_s += LATENCY_WEIGHT * (seconds - self.latency_s) if self.latency_s else seconds
        if self._metrics is not None:
            self._metrics.node_answered(self._chain, self.name, seconds)
        if request != NEWEST_BLOCK:
            self._see(Answered())
            return
        try:
            if isinstance(answer, RpcRefused):
                raise answer
            head = decode_block(answer).number
        except ChainError as error:  # whoever asked meets it as well; a node without a head is of no use
            self._see(Failed(str(error), asked_at, time.monotonic()))
            return
        before = reference_head([*others_before, head], self._max_lag)
        now = reference_head([*self._others(self), head], self._max_lag)
        assert before is not None  # its own head is among them
        assert now is not None
        self._see(Polled(head, asked_at, before, now))

    def _note_error(self, request: Request, error: ChainError, asked_at: float) -> None:
        match error:
            case RpcRefused():  # it is there, and says no
                self._note_answer(request, error, asked_at, [])
                return
            case WrongChain():
                self._see(ForeignChain(error.chain_id))
            case RpcUnavailable():
                self._see(Failed(error.reason, asked_at, time.monotonic()))
            case _:
                return
        self._is_verified = False
        if self._metrics is not None:
            self._metrics.node_failed(self._chain, self.name)

    def _see(self, event: Event) -> None:
        before = self.health
        after = step(before, event, max_lag=self._max_lag, probation_polls=self._probation_polls)
        if after is before:
            return
        self.health = after
        if (before.state, before.fault) != (after.state, after.fault):
            self._tell(before, after)
        if self._metrics is not None:
            self._metrics.node_seen(self._chain, self.name, is_up=after.state is NodeState.IN, head=after.head)
        self._on_change(self)

    def _tell(self, before: Health, after: Health) -> None:
        if after.state is NodeState.OUT:
            self._is_verified = False
            logger.warning(
                "node %s is out: %s",
                self.name,
                after.reason,
                extra=fields("node_out", chain=self._chain, node=self.name),
            )
        elif after.state is NodeState.IN:
            logger.info("node %s is in", self.name, extra=fields("node_in", chain=self._chain, node=self.name))
        elif before.state is not NodeState.PROBATION:
            logger.info(
                "node %s answers again, on probation",
                self.name,
                extra=fields("node_probation", chain=self._chain, node=self.name),
            )

    async def _pause(self, delay_s: float) -> None:
        """Until the next poll: `delay_s`, or until somebody rings."""
        await asyncio.sleep(min(delay_s, MIN_POLL_GAP_S))
        with suppress(TimeoutError):
            async with asyncio.timeout(delay_s - MIN_POLL_GAP_S):
                await self._bell.wait()
        self._bell.clear()


def is_sending(method: str) -> bool:
    """Whether a request does something: it is not asked of a second node behind the caller's back."""
    return method.startswith("eth_send")

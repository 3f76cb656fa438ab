"""Proof: the same answer from several nodes. For whatever would lose money if one node lied or were behind.

Asks as many nodes as are needed at once, and one more for each that fails, disagrees or hangs. Only those `in` count.
"""

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from runnerd.chain.errors import ChainError, NoQuorum, RpcMalformed, RpcRefused, RpcUnavailable, printable
from runnerd.chain.json_values import JsonValue
from runnerd.chain.jsonrpc import Request
from runnerd.chain.pool.agreement import Key, Vote, can_win, comparable, contradictions, is_pinned, keys_of, winner
from runnerd.chain.pool.health import NodeState
from runnerd.chain.pool.node import Node
from runnerd.chain.pool.pool import Pool
from runnerd.chain.types import decode_block

MAX_WORDS = 120
HURRY_S = 1.0
"""So long without any answer, and one more node is asked: a node that hangs has ten seconds by default."""


@dataclass(frozen=True, slots=True)
class _Said:
    vote: Vote
    answers: list[JsonValue | RpcRefused]


class Quorum:
    """Asks the nodes of `pool` until `needed` of them agree."""

    def __init__(self, pool: Pool, needed: int) -> None:
        self._pool = pool
        self._needed = needed

    async def agreed(
        self,
        requests: Sequence[Request],
        *,
        key: Key = comparable,
        min_head: int | None = None,
        tag: Literal["latest", "finalized"] = "latest",
    ) -> list[JsonValue | RpcRefused]:
        """Answers to all `requests` on which a quorum agrees, as one of those nodes gave them. Raises NoQuorum.

        `key` says what of a result must be equal. With `min_head`, a node counts only if its own block `tag` is that
        one or a higher one when it answers, said in the same round trip: ask about what is final below it. Who then
        contradicts the quorum, or does so at a block named by hash, lies: that is counted and logged, and puts the
        node out. Without, a difference may be a block's worth of news, and means nothing.
        """
        pool = self._pool
        if pool.is_new:
            await pool.learn()
        members = [node for node in pool.ranked() if node.health.state is NodeState.IN]
        if len(pool.nodes) == 1:
            members = await pool.candidates()  # nobody else would have the last word
        method = ", ".join(sorted({method for method, _ in requests}))
        waiting = iter(members)
        said: list[_Said] = []
        asking: set[asyncio.Task[_Said]] = set()
        try:
            for node in _next(waiting, self._needed):
                asking.add(self._spawn(node, requests, key, min_head, tag))
            while asking:
                done, asking = await asyncio.wait(asking, timeout=HURRY_S, return_when=asyncio.FIRST_COMPLETED)
                said += [task.result() for task in done]
                votes = [each.vote for each in said]
                won = winner(votes, self._needed)
                if won is not None:
                    if min_head is not None or all(map(is_pinned, requests)):
                        self._name_liars(said, contradictions(votes, won, requests))
                    return next(each.answers for each in said if each.vote.keys == won)
                left = len(members) - len(said)
                if not can_win(votes, left, self._needed):
                    break
                # As many more as could make a quorum with what was said.
                best = max((sum(v.keys == w.keys for w in votes) for v in votes if v.keys is not None), default=0)
                for node in _next(waiting, max(0, self._needed - best - len(asking)) if done else 1):
                    asking.add(self._spawn(node, requests, key, min_head, tag))
        finally:
            for task in asking:
                task.cancel()
        heard = {each.vote.node: each.vote.words for each in said}
        words = [(node.name, heard.get(node.name) or node.health.reason or "not asked") for node in pool.nodes]
        raise NoQuorum(self._needed, words, method=method)

    def _spawn(
        self, node: Node, requests: Sequence[Request], key: Key, min_head: int | None, tag: str
    ) -> "asyncio.Task[_Said]":
        return self._pool.tasks.spawn(_ask(node, requests, key, min_head, tag), f"quorum:{node.name}")

    def _name_liars(self, said: Sequence[_Said], liars: Mapping[str, str]) -> None:
        nodes = {node.name: node for node in self._pool.nodes}
        for each in said:
            method = liars.get(each.vote.node)
            if method is not None:
                nodes[each.vote.node].lied(method, each.vote.words)


async def _ask(node: Node, requests: Sequence[Request], key: Key, min_head: int | None, tag: str) -> _Said:
    asked_at = time.monotonic()
    try:
        if min_head is None:
            answers = await node.batch(requests)
        else:
            newest, *answers = await node.batch([("eth_getBlockByNumber", [tag, False]), *requests])
            if isinstance(newest, RpcRefused):
                raise newest
            head = decode_block(newest).number
            if head < min_head:
                raise RpcUnavailable(f"its {tag} block is {head}, wanted is {min_head}")
    except ChainError as error:
        return _Said(Vote(node.name, _brief(error)), [])
    try:
        keys = keys_of(requests, answers, key)
        words = _brief(keys if isinstance(keys, RpcRefused) else [*map(_shown, answers)])
    except (RpcMalformed, RecursionError) as error:  # of this node alone: it must not end the question to the others
        malformed = error if isinstance(error, RpcMalformed) else RpcMalformed("nested too deeply")
        node.answered_malformed(malformed, asked_at)
        return _Said(Vote(node.name, _brief(malformed)), [])
    return _Said(Vote(node.name, words, None if isinstance(keys, RpcRefused) else keys), answers)


def _shown(answer: JsonValue | RpcRefused) -> JsonValue:
    if isinstance(answer, dict) and "blockHash" in answer:
        return {name: answer.get(name) for name in ("blockHash", "status")}
    return str(answer) if isinstance(answer, RpcRefused) else answer


def _brief(what: object) -> str:
    return printable(str(what), MAX_WORDS)


def _next(nodes: Iterator[Node], count: int) -> Iterator[Node]:
    for _ in range(count):
        node = next(nodes, None)
        if node is None:
            return
        yield node

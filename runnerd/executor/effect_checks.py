"""What Decisions expect, asked of one chain's nodes: in the round trip of each simulation, and after the fact.

Turns expectations into requests and answers into verdicts. Signs nothing, stores nothing, pauses nothing: the lane
refuses on its word, and `aftermath` acts on it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias, assert_never

from protocol.expectations import BalanceChange, Expectation
from runnerd.chain.abi import AbiFunction
from runnerd.chain.effects import (
    Effects,
    NodeWays,
    Reading,
    Unmeasurable,
    Way,
    build_effects,
    decode_effects,
    possible_ways,
)
from runnerd.chain.errors import RpcRefused
from runnerd.chain.json_values import JsonValue
from runnerd.chain.jsonrpc import Request
from runnerd.chain.logs import decode_logs, token_change
from runnerd.chain.past import (
    build_past,
    build_trace,
    decode_neighbours,
    decode_parent,
    decode_past,
    decode_trace,
    given,
    or_none,
)
from runnerd.chain.probe import Measure
from runnerd.chain.simulate import CallMessage, Reverted
from runnerd.chain.types import Block, decode_receipt
from runnerd.executor.expectations import Evidence, Result, Verdict, check, judge_receipt
from runnerd.executor.measures import build_measures
from runnerd.executor.observation import SimulationReverted
from runnerd.executor.policy import Denied
from runnerd.executor.wanted import Intent
from runnerd.network import Network
from runnerd.vaults.catalogue import Catalogue

Answer: TypeAlias = JsonValue | RpcRefused

UNREAD = Reading(None, None)


@dataclass(frozen=True, slots=True)
class Ground:
    """A vault as far as expectations go: its address, and what its owner lets plugins name."""

    address: str
    catalogue: Catalogue


class EffectChecks:
    """One per chain. `vaults` by name."""

    def __init__(self, network: Network, vaults: Mapping[str, Ground]) -> None:
        self._network = network
        self._vaults = vaults
        self._ways = NodeWays()

    def ask(self, intent: Intent, message: CallMessage, block: Block, node: str) -> "EffectQuestion":
        """What to ask beside the simulation of `message` at `block`; nothing if the Decision expects nothing.

        `node` is any name of the node that is asked: what it offers is remembered under it.
        """
        measures = self._measures(intent)
        ways = self._ways.to_ask(node, message) if measures and not isinstance(measures, Denied) else ()
        return EffectQuestion(intent.expect, measures, message, block, ways, self._ways, node)

    async def verify(self, intent: Intent, receipt_answer: JsonValue) -> Verdict:
        """What the transaction of `intent` did, by its receipt (as the node gave it) and by its block.

        Raises RpcUnavailable, which proves nothing: ask again. What the node refuses is evidence that is missing.
        """
        measures = self._measures(intent)
        if isinstance(measures, Denied):
            return Verdict(Result.UNPROVEN, f"expectations are not proven: {measures.reason}")
        receipt = decode_receipt(receipt_answer)
        assert receipt is not None  # it was seen
        logs = decode_logs(receipt_answer)
        vault = self._vaults[intent.vault].address
        batch = self._network.rpc.batch

        needs_trace = any(_is_native(expected) for expected in intent.expect)
        first: list[Request] = [("eth_getBlockByHash", [receipt.block_hash, False])]
        header, *traced = await batch([*first, build_trace(receipt)] if needs_trace else first)
        native = or_none(lambda: decode_trace(given(traced[0]), vault)) if traced else None
        if native is not None and vault == intent.wallet:  # an operator that is its own vault pays for gas
            native += receipt.gas_used * receipt.effective_gas_price_wei

        parent = or_none(lambda: decode_parent(given(header)))
        readings, others = [UNREAD] * len(measures), ""
        if parent is not None:  # else the node does not know the block (any more), and has no state of it either
            second = [request for measure in measures for request in build_past(measure, parent, receipt.block_hash)]
            whole: list[Request] = []
            if needs_trace and native is None:
                whole = [("eth_getBlockByHash", [receipt.block_hash, True])]
            answers = await batch([*second, *whole])
            readings = [
                Reading(_past(measure, answers[2 * i]), _past(measure, answers[2 * i + 1]))
                for i, measure in enumerate(measures)
            ]
            if whole:
                involved = intent.wallet, vault, intent.target
                found = or_none(lambda: decode_neighbours(given(answers[-1]), receipt.transaction_hash, *involved))
                others = "an unknown number of other transactions" if found is None else found

        evidence = []
        for expected, reading in zip(intent.expect, readings, strict=True):
            if _is_native(expected):
                evidence.append(Evidence(reading=reading, exact=native, others=others))
            elif isinstance(expected, BalanceChange):
                evidence.append(Evidence(reading=reading, exact=token_change(logs, expected.token or "", vault)))
            else:
                evidence.append(Evidence(reading=reading))
        return judge_receipt(intent.expect, evidence)

    def _measures(self, intent: Intent) -> tuple[Measure, ...] | Denied:
        if not intent.expect:
            return ()
        ground = self._vaults.get(intent.vault)
        if ground is None:
            return Denied(f"vault {intent.vault} is not configured any more")
        return build_measures(intent.expect, ground.catalogue, ground.address)


@dataclass(frozen=True, slots=True)
class EffectQuestion:
    """What is asked about one intent at one block: `requests` go into the batch of its simulation."""

    expect: Sequence[Expectation]
    measures: tuple[Measure, ...] | Denied
    message: CallMessage
    block: Block
    ways: tuple[Way, ...]
    known: NodeWays
    node: str

    @property
    def requests(self) -> list[Request]:
        """None for a Decision that expects nothing, or what is not granted (any more)."""
        if not self.ways or isinstance(self.measures, Denied):
            return []
        return build_effects(self.block, self.message, self.measures, self.ways)

    def judge(self, answers: Sequence[Answer], errors: Sequence[AbiFunction]) -> SimulationReverted | None:
        """Why it must not be signed, or None. Raises RpcRefused and RpcMalformed, which prove nothing."""
        if isinstance(self.measures, Denied):
            return self._broken(self.measures.reason)
        if not self.ways:
            return None
        try:
            effects = decode_effects(self.ways, self.measures, answers, errors)
        except RpcRefused:
            self.known.forget(self.node)
            raise
        match effects:
            case Unmeasurable(reason):
                self.known.forget(self.node)
                if self.ways != possible_ways(self.message):  # it offered this once: everything is asked for next time
                    raise RpcRefused(-32601, reason, method=self.ways[0].value)
                return self._broken(f"expectations cannot be checked: {reason}")
            case Reverted(reason=reason):
                return SimulationReverted(reason, self.block.number)
            case Effects(way=way):
                self.known.learn(self.node, way)
                broken = check(self.expect, effects)
                return None if broken is None else self._broken(broken)
            case _:
                assert_never(effects)

    def _broken(self, reason: str) -> SimulationReverted:
        return SimulationReverted(reason, self.block.number, is_breach=True)


def _is_native(expected: Expectation) -> bool:
    return isinstance(expected, BalanceChange) and expected.token is None


def _past(measure: Measure, answer: Answer) -> int | None:
    return or_none(lambda: decode_past(measure, given(answer)))

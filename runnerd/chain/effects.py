"""What a transaction would change, at a named block: chosen integers of the state before it and after it. Pure.

Two ways to ask a node: `eth_simulateV1` where it has it, or an `eth_call` whose state override puts the probe at the
sender's own address, so that the vault is called by its operator. Both are requests that go into the round trip of the
simulation. Which way a node knows is found out once, by asking for both; `NodeWays` remembers.

`debug_traceCall` is not used: it shows balances but no views, and is offered by fewer nodes than a state override.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Final, assert_never

import msgspec
from msgspec import Meta

from runnerd.chain.abi_types import AbiFunction
from runnerd.chain.errors import AbiError, RpcMalformed, RpcRefused, printable
from runnerd.chain.json_values import JsonParam, JsonValue
from runnerd.chain.jsonrpc import Request
from runnerd.chain.probe import (
    PROBE_ADDRESS,
    PROBE_CODE,
    Measure,
    decode_measure,
    decode_read,
    encode_measure,
    encode_read,
)
from runnerd.chain.reads import block_parameter
from runnerd.chain.revert import decode_revert, is_execution_failure, revert_reason
from runnerd.chain.simulate import CallMessage, Reverted
from runnerd.chain.types import Block, Data, decode_data

READ_GAS: Final = 5_000_000
"""For all measures together, each time. At most an eighth of a block: the transaction gets what is left of it."""

LACKING_CODES: Final = frozenset({-32601, -32602, -32600, -32004})
"""Method not found, invalid parameters, invalid request (JSON-RPC 2.0); method not supported (EIP-1474)."""
_LACKING_WORDS: Final = ("method not found", "not supported", "unsupported", "does not exist", "too many arguments")


class Way(Enum):
    """How a node shows effects. The value is what a refusal calls it."""

    SIMULATE = "eth_simulateV1"
    PROBE = "eth_call with a state override"


@dataclass(frozen=True, slots=True)
class Reading:
    """One measure before the transaction and after it; None where it could not be read."""

    before: int | None
    after: int | None


@dataclass(frozen=True, slots=True)
class Effects:
    """The transaction succeeds, and this is what it changes: one reading for each measure, in their order."""

    readings: tuple[Reading, ...]
    way: Way


@dataclass(frozen=True, slots=True)
class Unmeasurable:
    """The node has no way to show effects; `reason` names what it lacks."""

    reason: str


class NodeWays:
    """What each node of a chain is known to offer. One per chain, shared by all who ask."""

    def __init__(self) -> None:
        self._known: dict[str, Way] = {}

    def to_ask(self, node: str, message: CallMessage) -> tuple[Way, ...]:
        """The known way, else all that there are."""
        possible = possible_ways(message)
        known = self._known.get(node)
        return possible if known not in possible else (known,)

    def learn(self, node: str, way: Way) -> None:
        """It answered."""
        self._known[node] = way

    def forget(self, node: str) -> bool:
        """It does not answer as it did: another release, or another node at the same address. Whether it was known."""
        return self._known.pop(node, None) is not None


def possible_ways(message: CallMessage) -> tuple[Way, ...]:
    """All that a node may be asked in.

    A sender that is the target (EIP-7702: the operator is the vault) needs its own code: no probe in its place.
    """
    return tuple(way for way in Way if way is not Way.PROBE or message.sender != message.to)


def build_effects(
    block: Block, message: CallMessage, measures: Sequence[Measure], ways: Sequence[Way]
) -> list[Request]:
    """One request for each of `ways`, to go into one batch with others."""
    return [_build(way, block, message, measures) for way in ways]


def decode_effects(
    ways: Sequence[Way],
    measures: Sequence[Measure],
    answers: Sequence[JsonValue | RpcRefused],
    errors: Sequence[AbiFunction] = (),
) -> Effects | Reverted | Unmeasurable:
    """What the answers to `build_effects` mean: the first way that the node went counts.

    Raises RpcRefused when it knows a way and did not go it this time, RpcMalformed for odd answers: neither proves
    anything about the transaction.
    """
    lacking = []
    refused: RpcRefused | None = None
    for way, answer in zip(ways, answers, strict=True):
        try:
            outcome = _decode(way, measures, answer, errors)
        except RpcRefused as error:
            refused = error
            continue
        if not isinstance(outcome, str):
            return outcome
        lacking.append(f"{way.value}: {outcome}")
    if refused is not None:
        raise refused
    return Unmeasurable("the node cannot show what a transaction changes (" + "; ".join(lacking) + ")")


# --- requests --------------------------------------------------------------------------------------------------------


def _build(way: Way, block: Block, message: CallMessage, measures: Sequence[Measure]) -> Request:
    at = block_parameter(block)
    match way:
        case Way.PROBE:
            # From and to the same address: the vault's caller is the operator, and so is the transaction's origin.
            call: JsonParam = {
                "from": message.sender,
                "to": message.sender,
                "data": "0x" + encode_measure(measures, message.to, message.data).hex(),
                "value": hex(message.value_wei),
            }
            return "eth_call", [call, at, {message.sender: {"code": PROBE_CODE}}]
        case Way.SIMULATE:
            gas = hex(min(READ_GAS, block.gas_limit // 8))
            read: JsonParam = {"to": PROBE_ADDRESS, "input": "0x" + encode_read(measures).hex(), "gas": gas}
            act: JsonParam = {
                "from": message.sender,
                "to": message.to,
                "input": "0x" + message.data.hex(),
                "value": hex(message.value_wei),
            }
            simulated: JsonParam = {
                "stateOverrides": {PROBE_ADDRESS: {"code": PROBE_CODE}},
                "calls": [read, act, read],
            }
            # Without validation nothing is paid for gas: what changes is the transaction's effect and nothing else.
            return "eth_simulateV1", [{"blockStateCalls": [simulated], "validation": False}, at]
        case _:
            assert_never(way)


# --- answers ---------------------------------------------------------------------------------------------------------


class _CallError(msgspec.Struct):
    message: str = ""
    data: str | None = None


class _Call(msgspec.Struct, rename="camel"):
    status: Annotated[str, Meta(pattern=r"^0x[01]\Z")]
    return_data: Data
    error: _CallError | None = None


class _SimulatedBlock(msgspec.Struct):
    calls: Annotated[list[_Call], Meta(min_length=3, max_length=3)]


_Simulation = Annotated[list[_SimulatedBlock], Meta(min_length=1, max_length=1)]


def _decode(
    way: Way, measures: Sequence[Measure], answer: JsonValue | RpcRefused, errors: Sequence[AbiFunction]
) -> Effects | Reverted | str:
    """Text: why the node does not know this way."""
    if isinstance(answer, RpcRefused):
        if _is_lacking(answer):
            return printable(f"node error {answer.code}: {answer.message}", 120)
        if way is Way.PROBE and is_execution_failure(answer):
            return Reverted(reason=revert_reason(answer, errors), data=None)
        raise answer
    match way:
        case Way.PROBE:
            data = decode_data(answer, "eth_call")
            if not data:  # as a call of an account without code: the third parameter was not looked at
                return "the node ignores it"
            try:
                before, after = decode_measure(measures, data)
            except AbiError as error:
                raise RpcMalformed(str(error), method="eth_call") from None
            return _effects(before, after, way)
        case Way.SIMULATE:
            return _simulated(measures, answer, errors)
        case _:
            assert_never(way)


def _simulated(measures: Sequence[Measure], answer: JsonValue, errors: Sequence[AbiFunction]) -> Effects | Reverted:
    method = Way.SIMULATE.value
    try:
        (block,) = msgspec.convert(answer, _Simulation)
    except (msgspec.ValidationError, RecursionError) as error:
        raise RpcMalformed(printable(str(error)), method=method) from None
    before, act, after = block.calls
    if act.status != "0x1":
        return Reverted(reason=_reason(act, errors), data=None)
    if before.status != "0x1" or after.status != "0x1":
        return _effects((None,) * len(measures), (None,) * len(measures), Way.SIMULATE)  # a view took all the gas
    try:
        numbers = [decode_read(measures, bytes.fromhex(call.return_data[2:])) for call in (before, after)]
    except AbiError as error:
        raise RpcMalformed(str(error), method=method) from None
    return _effects(numbers[0], numbers[1], Way.SIMULATE)


def _reason(call: _Call, errors: Sequence[AbiFunction]) -> str:
    """Nodes put the revert data into either of two places."""
    error = call.error or _CallError()
    try:
        data = bytes.fromhex((error.data or call.return_data).removeprefix("0x"))
    except ValueError:
        data = b""
    return decode_revert(data, errors) if data else printable(error.message, 200) or decode_revert(b"")


def _effects(before: Sequence[int | None], after: Sequence[int | None], way: Way) -> Effects:
    return Effects(tuple(Reading(*pair) for pair in zip(before, after, strict=True)), way)


def _is_lacking(refused: RpcRefused) -> bool:
    message = refused.message.lower()
    return refused.code in LACKING_CODES or any(word in message for word in _LACKING_WORDS)

"""The answer to a call that a chain made: which calls may have one, and what it says. Pure.

An argument of the answer is a value, or text that begins with `$`: a part of the call or of its result.
"""

from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec

from protocol.actions import Action
from protocol.messages import TriggerKind
from protocol.values import Value
from runnerd.consumers.consumer import ConsumerRefused
from runnerd.store.calls import RETRACTED, JobCall, JobOutcome, JobResult

OF_ALL: Final = (
    "$call.id", "$block.number", "$block.hash", "$block.timestamp", "$result.outcome", "$result.is_acted",
    "$result.reason", "$result.integer", "$result.transaction",
)  # fmt: skip
OF_LOGS: Final = ("$log.address", "$log.index", "$log.transaction_hash")
ARGUMENT: Final = "$log.args."
"""Before the name of an argument of the event."""
ASKED_BY: Final = "chain:"
"""Before the name of a chain, as the principal of its calls."""
NO_TRANSACTION: Final = "0x" + "0" * 64
MAX_DIGITS: Final = 78
"""Of 2^256."""


def is_asked_by_chain(call: JobCall, kind: Literal["log", "block"]) -> bool:
    """Whether `call` is one that a log, or a block, has made itself: no copy of such a call, and none that takes one
    back."""
    return call.trigger.value == kind and call.principal.startswith(ASKED_BY) and not _takes_back(call)


def reference_problem(text: str, kind: Literal["log", "block"]) -> str | None:
    """What is wrong with an argument that begins with `$`; None if it is known."""
    allowed = (*OF_ALL, *OF_LOGS) if kind == "log" else OF_ALL
    if text in allowed or (kind == "log" and text.startswith(ARGUMENT) and len(text) > len(ARGUMENT)):
        return None
    more = f", {ARGUMENT}NAME" if kind == "log" else ""
    return f"there is no {text} in what a {kind} asks; allowed: {', '.join(allowed)}{more}"


def find_objection(call: JobCall, chain: str, contract: str) -> str | None:
    """Why nothing may be submitted as the answer to `call` on `chain` to `contract`; None if it may.

    Whoever calls by webhook, by hand, by the clock or by an event is not a chain, whatever his payload says.
    """
    if call.trigger not in (TriggerKind.LOG, TriggerKind.BLOCK) or _takes_back(call):
        return f"it came by {call.trigger}, from {call.principal}: only what a chain asks is answered there"
    if call.principal != ASKED_BY + chain:
        return f"it came from {call.principal}, and its vault is on chain {chain}"
    if call.trigger is TriggerKind.LOG:
        address = _payload(call).get("address")
        if not isinstance(address, str) or address.lower() != contract.lower():
            return (
                f"it came from {address}, and the action is of {contract}: the answer goes to the contract that asked"
            )
    return None


def build_answer(name: str, arguments: Mapping[str, Value], result: JobResult) -> Action:
    """The Action. Raises ConsumerRefused when a part is not there."""
    args = {key: _resolve(value, result) for key, value in arguments.items()}
    try:
        return Action(name, args)
    except ValueError as error:
        raise ConsumerRefused(f"call {result.call.id} has no answer: {error}") from None


def _resolve(value: Value, result: JobResult) -> Value:
    if not isinstance(value, str) or not value.startswith("$"):
        return value
    call, payload = result.call, _payload(result.call)
    block = call.block
    match value.removeprefix("$").split(".", maxsplit=2):
        case ["call", "id"]:
            return call.id
        case ["block", ("number" | "hash" | "timestamp") as part] if block is not None:
            found: int | str = getattr(block, part)
            return found
        case ["log", "args", name] if isinstance(args := payload.get("args"), dict) and name in args:
            return _value(args[name])
        case ["log", "address"]:
            return str(payload.get("address"))
        case ["log", "transaction_hash"]:
            return str(payload.get("transaction_hash"))
        case ["log", "index"]:
            return _value(payload.get("log_index"))
        case ["result", part]:
            return _of_result(part, result)
        case _:
            raise ConsumerRefused(f"call {call.id} has no {value}")


def _of_result(part: str, result: JobResult) -> Value:
    match part:
        case "outcome":
            return result.outcome.value
        case "is_acted":
            return result.outcome is JobOutcome.ACTED
        case "reason":
            return result.reason
        case "transaction":
            return result.transaction or NO_TRANSACTION
        case "integer":
            digits = result.reason.strip()
            if not digits.removeprefix("-").isdecimal() or not digits.isascii() or len(digits) > MAX_DIGITS + 1:
                raise ConsumerRefused(f"call {result.call.id}: its reason is no integer: {result.reason[:80]!r}")
            return int(digits)
        case _:
            raise ConsumerRefused(f"call {result.call.id} has no $result.{part}")


def _value(found: object) -> Value:
    try:
        value: Value = msgspec.convert(found, Value)
    except msgspec.ValidationError as error:
        raise ConsumerRefused(f"a part of the log is no value: {error}") from None
    return value


def _takes_back(call: JobCall) -> bool:
    return call.identity.startswith(RETRACTED) or _payload(call).get("retracted") is True


def _payload(call: JobCall) -> dict[str, Any]:
    try:
        payload = msgspec.json.decode(call.payload)
    except msgspec.DecodeError:
        return {}
    return payload if isinstance(payload, dict) else {}

"""When do two nodes say the same, and do enough of them? Pure; `quorum` asks, and hands the answers in.

Only what the chain itself fixes is compared: nodes differ in letter case, in fields that some add, and in the words of
an error.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, TypeAlias

from runnerd.chain.errors import RpcMalformed, RpcRefused
from runnerd.chain.json_values import JsonValue
from runnerd.chain.jsonrpc import Request
from runnerd.chain.logs import MAX_LOGS
from runnerd.chain.revert import find_revert_data, is_execution_failure

Comparable: TypeAlias = object
"""Anything with `==` and a hash."""
Key: TypeAlias = Callable[[str, JsonValue], Comparable]
"""Of a method and its result: what must be equal. Raises RpcMalformed for what no honest node says."""

MAX_DEPTH: Final = 32
"""Lists and objects inside each other; a log's topics are the fourth level. JSON may have 1,000, and whoever walks that
by recursion ends in a RecursionError."""
MAX_VALUES: Final = 5 * MAX_LOGS
"""Values in one result. The longest receipt has logs without topics: four values each, itself among them."""

RECEIPT_FIELDS = ("transactionHash", "blockHash", "blockNumber", "status", "gasUsed")
LOG_FIELDS = ("address", "topics", "data")
BLOCK_FIELDS = (
    "number", "hash", "parentHash", "timestamp", "stateRoot", "transactionsRoot", "receiptsRoot", "gasLimit", "gasUsed",
    "baseFeePerGas",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Vote:
    """What one node said to all requests; `keys` is what is compared. No vote: `keys` is None, `words` says why."""

    node: str
    words: str
    keys: tuple[Comparable, ...] | None = None


def comparable(method: str, result: JsonValue) -> Comparable:
    """The part of a result on which honest nodes agree. Raises RpcMalformed when it is larger than one can be: the
    event loop waits while it is compared."""
    if isinstance(result, dict):
        if method == "eth_getTransactionReceipt":
            logs = result.get("logs")
            if isinstance(logs, list) and len(logs) > MAX_LOGS:
                raise RpcMalformed(f"{len(logs)} logs, more than {MAX_LOGS}", method=method, field="logs")
            picked: dict[str, JsonValue] = {name: result.get(name) for name in RECEIPT_FIELDS}
            picked["logs"] = [_pick_log(log) for log in logs] if isinstance(logs, list) else None
            return _bounded(picked, method)
        if method in ("eth_getBlockByNumber", "eth_getBlockByHash"):
            return _bounded(_pick(result, BLOCK_FIELDS), method)
    return _bounded(result, method)


def keys_of(
    requests: Sequence[Request], answers: Sequence[JsonValue | RpcRefused], key: Key
) -> tuple[Comparable, ...] | RpcRefused:
    """What is compared of one node's answers, or the refusal that leaves it without a vote.

    A call that fails on chain is an answer as well: its revert data are compared. Any other refusal says nothing.
    Raises RpcMalformed for an answer that cannot be compared.
    """
    keys: list[Comparable] = []
    for (method, _), answer in zip(requests, answers, strict=True):
        if not isinstance(answer, RpcRefused):
            keys.append(key(method, answer))
        elif is_execution_failure(answer):
            keys.append(("reverted", find_revert_data(answer)))
        else:
            return answer
    return tuple(keys)


def winner(votes: Sequence[Vote], needed: int) -> tuple[Comparable, ...] | None:
    """The keys that `needed` nodes share, or None. If several groups are large enough, none has won."""
    counted = Counter(vote.keys for vote in votes if vote.keys is not None)
    enough = [keys for keys, count in counted.items() if count >= needed]
    return enough[0] if len(enough) == 1 else None


def can_win(votes: Sequence[Vote], still_to_come: int, needed: int) -> bool:
    """Whether `needed` nodes may still agree."""
    counted = Counter(vote.keys for vote in votes if vote.keys is not None)
    return max(counted.values(), default=0) + still_to_come >= needed


def contradictions(
    votes: Sequence[Vote], won: tuple[Comparable, ...], requests: Sequence[Request]
) -> Mapping[str, str]:
    """By node, the first method to which it says something else than the quorum."""
    return {
        vote.node: next(
            method for (method, _), said, right in zip(requests, vote.keys, won, strict=True) if said != right
        )
        for vote in votes
        if vote.keys is not None and vote.keys != won
    }


def is_pinned(request: Request) -> bool:
    """Whether a request names its block by hash (EIP-1898, or eth_getBlockByHash): the answer can never change."""
    method, params = request
    if method == "eth_getBlockByHash":
        return True
    return any(isinstance(param, Mapping) and "blockHash" in param for param in params)


def _pick(value: JsonValue, names: Sequence[str]) -> JsonValue:
    return {name: value.get(name) for name in names} if isinstance(value, dict) else value


def _pick_log(log: JsonValue) -> JsonValue:
    # A list, since 50,000 objects take twice the time; what is no log stays different from it.
    return [log.get(name) for name in LOG_FIELDS] if isinstance(log, dict) else {"": log}


def _bounded(value: JsonValue, method: str) -> Comparable:
    level, count = [value], 1
    for _ in range(MAX_DEPTH + 1):
        # No more is listed than may be there: this walk has to end soon as well.
        level = list(islice(_inside(level), MAX_VALUES - count + 1))
        count += len(level)
        if count > MAX_VALUES:
            raise RpcMalformed(f"more than {MAX_VALUES} values", method=method)
        if not level:
            return _frozen(value)
    raise RpcMalformed("nested too deeply", method=method)


def _inside(values: Sequence[JsonValue]) -> Iterator[JsonValue]:
    for value in values:
        if isinstance(value, dict):
            yield from value.values()
        elif isinstance(value, list):
            yield from value


def _frozen(value: JsonValue) -> Comparable:
    match value:
        case str():  # first, since most are
            return value.lower() if value.startswith("0x") else value
        case dict():
            return ("object", frozenset([(name, _frozen(item)) for name, item in value.items()]))
        case list():
            return ("list", tuple(map(_frozen, value)))
        case bool():
            return ("bool", value)  # or True would equal 1
        case _:
            return value

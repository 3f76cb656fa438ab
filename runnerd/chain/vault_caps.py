"""What the reference vault itself allows, read from its views, so that a breach is refused before gas is spent. Pure.

Mirrors `execute` of deploy/contracts/OperatorVault.vy. The vault has the last word: these are what it said at one
block, and the simulation stands behind them. A vault without these views is not mirrored.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from runnerd.chain.abi import AbiFunction, decode_outputs, encode_call, parse_function
from runnerd.chain.address import parse_address
from runnerd.chain.errors import AbiError, RpcRefused
from runnerd.chain.json_values import JsonValue
from runnerd.chain.jsonrpc import Request
from runnerd.chain.reads import block_parameter
from runnerd.chain.revert import is_execution_failure, revert_reason
from runnerd.chain.types import Block, decode_data
from runnerd.chain.vault import Call

PAUSED = parse_function("paused() view returns (bool)")
MAX_PER_TRANSACTION = parse_function("maxPerTransaction() view returns (uint256)")
MAX_PER_DAY = parse_function("maxPerDay() view returns (uint256)")
SPENT_TODAY = parse_function("spentToday() view returns (uint256)")
IS_ALLOWED = parse_function("isAllowed(address target, bytes4 selector) view returns (bool)")
DAY_S = 86_400
EXECUTED = parse_function("executed(bytes32 intentId) view returns (bool)")


@dataclass(frozen=True, slots=True, kw_only=True)
class VaultCaps:
    """A vault's own limits at one block. `executed` are the calls whose value is in `spent_today_wei` already."""

    block_number: int
    day: int
    """The UTC day of the block, as the vault counts it: days since 1970."""
    is_paused: bool
    max_per_transaction_wei: int
    max_per_day_wei: int
    spent_today_wei: int
    refused: frozenset[tuple[str, bytes]]
    """Contract and selector of what the catalogue grants and the vault does not allow."""
    executed: frozenset[int]

    def objection(self, names: Sequence[str], calls: Sequence[Call], on_the_way_wei: int) -> str | None:
        """Why the vault would refuse this batch, or None. `names` are the actions of the calls.

        `on_the_way_wei` is what intents may send today that have not been executed at this block.
        """
        if self.is_paused:
            return "the vault is paused on chain (paused)"
        total = 0
        for number, (name, call) in enumerate(zip(names, calls, strict=True), 1):
            where = f"action {number} ({name})"
            if (call.to, call.data[:4]) in self.refused:
                return f"{where}: vault does not allow 0x{call.data[:4].hex()} of {call.to} (isAllowed)"
            total += call.value_wei
            if total > self.max_per_transaction_wei:
                most = self.max_per_transaction_wei
                return f"{where}: vault allows {most} wei in one transaction (maxPerTransaction), asked {total}"
        if total and self.spent_today_wei + on_the_way_wei + total > self.max_per_day_wei:
            return (
                f"vault allows {self.max_per_day_wei} wei in one day (maxPerDay), asked {total} on top of "
                f"{self.spent_today_wei} spent (spentToday) and {on_the_way_wei} on the way"
            )
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class CapsRequest:
    """What to ask one vault: its caps, whether it allows `functions` (contract and function), and which of
    `intent_ids` (by call) it has executed."""

    address: str
    functions: Sequence[tuple[str, AbiFunction]]
    intent_ids: Mapping[int, bytes]

    def requests(self, block: Block) -> list[Request]:
        """All of it at exactly this block."""
        to, at = parse_address(self.address), block_parameter(block)
        calls = [encode_call(view, {}) for view in (PAUSED, MAX_PER_TRANSACTION, MAX_PER_DAY, SPENT_TODAY)]
        calls += [
            encode_call(IS_ALLOWED, {"target": contract, "selector": "0x" + function.selector.hex()})
            for contract, function in self.functions
        ]
        calls += [encode_call(EXECUTED, {"intentId": "0x" + one.hex()}) for one in self.intent_ids.values()]
        return [("eth_call", [{"to": to, "data": "0x" + data.hex()}, at]) for data in calls]

    def decode(self, block: Block, answers: Sequence[JsonValue | RpcRefused]) -> VaultCaps:
        """The caps in the answers to `requests`.

        Raises AbiError when the vault has no such views, RpcRefused and RpcMalformed when the node does not say.
        """
        views = [PAUSED, MAX_PER_TRANSACTION, MAX_PER_DAY, SPENT_TODAY]
        views += [IS_ALLOWED] * len(self.functions) + [EXECUTED] * len(self.intent_ids)
        values = [_value(view, answer) for view, answer in zip(views, answers, strict=True)]
        allowed, executed = values[4 : 4 + len(self.functions)], values[4 + len(self.functions) :]
        pairs = zip(self.functions, allowed, strict=True)
        return VaultCaps(
            block_number=block.number,
            day=block.timestamp // DAY_S,
            is_paused=bool(values[0]),
            max_per_transaction_wei=values[1],
            max_per_day_wei=values[2],
            spent_today_wei=values[3],
            refused=frozenset((contract, function.selector) for (contract, function), is_allowed in pairs
                              if not is_allowed),
            executed=frozenset(call for call, is_done in zip(self.intent_ids, executed, strict=True) if is_done),
        )  # fmt: skip


def _value(view: AbiFunction, answer: JsonValue | RpcRefused) -> int:
    if isinstance(answer, RpcRefused):
        if is_execution_failure(answer):
            raise AbiError(f"{view.name}: {revert_reason(answer)}")
        raise answer
    value = decode_outputs(view, decode_data(answer, f"eth_call ({view.name})"))
    assert isinstance(value, int)  # one bool or uint256, by the fragments above
    return value

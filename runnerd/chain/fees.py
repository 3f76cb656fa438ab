"""EIP-1559 fees (https://eips.ethereum.org/EIPS/eip-1559): a suggestion from recent blocks, and the next valid bump.

Pure integers. A replacement is accepted by geth when both fields rise by at least 10 % and are
strictly higher; we take 12.5 % rounded up, and never less than what the market asks now.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from runnerd.chain.errors import FeeCapTooLow, RpcRefused
from runnerd.chain.json_values import JsonValue
from runnerd.chain.jsonrpc import Request
from runnerd.chain.types import FeeHistory, decode_fee_history

BUMP_NUMERATOR, BUMP_DENOMINATOR = 9, 8  # 12.5 %


@dataclass(frozen=True, slots=True, kw_only=True)
class Fees:
    """The two fee fields of an EIP-1559 transaction, wei per gas."""

    max_fee_per_gas_wei: int
    max_priority_fee_per_gas_wei: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FeeSettings:
    """What the operator configures for a chain. All amounts are wei per gas.

    `base_fee_multiplier` 2 outlasts six full blocks on mainnet (1.125^6 = 2.03). On OP-stack chains the base fee can
    rise 77 % in 12 s: a higher one costs nothing, since only base fee and tip are paid.
    """

    max_fee_cap_wei: int
    min_tip_wei: int = 1_000_000
    base_fee_multiplier: int = 2
    tip_percentile: int = 50
    history_blocks: int = 10

    def __post_init__(self) -> None:
        allowed = (
            ("min_tip_wei", self.min_tip_wei, 0, 1 << 63),
            ("max_fee_cap_wei", self.max_fee_cap_wei, max(1, self.min_tip_wei), 1 << 63),
            ("base_fee_multiplier", self.base_fee_multiplier, 1, 10),
            ("tip_percentile", self.tip_percentile, 0, 100),
            ("history_blocks", self.history_blocks, 1, 100),
        )
        for name, value, lowest, highest in allowed:
            if not lowest <= value <= highest:
                raise ValueError(f"{name} = {value} is not allowed: {lowest} to {highest}")


def suggest(base_fee_wei: int, tips_wei: Sequence[int], settings: FeeSettings) -> Fees:
    """Fees for the next block. `tips_wei`: what recent blocks paid at the configured percentile; their median counts.

    Raises FeeCapTooLow when the base fee alone is above the cap: nothing sent now could be included.
    """
    cap = settings.max_fee_cap_wei
    if base_fee_wei > cap:
        raise FeeCapTooLow(base_fee_wei=base_fee_wei, max_fee_cap_wei=cap)
    ranked = sorted(tips_wei)
    tip = max(ranked[len(ranked) // 2] if ranked else 0, settings.min_tip_wei)
    max_fee = min(base_fee_wei * settings.base_fee_multiplier + tip, cap)
    return Fees(max_fee_per_gas_wei=max_fee, max_priority_fee_per_gas_wei=min(tip, max_fee))


def suggest_from_history(history: FeeHistory, settings: FeeSettings) -> Fees:
    """`suggest` for the block after `history`. Blocks without transactions say nothing about tips and are left out."""
    rows = zip(history.rewards_wei, history.gas_used_ratios, strict=False)
    tips = [rewards[0] for rewards, ratio in rows if rewards and ratio > 0]
    return suggest(history.base_fees_wei[-1], tips, settings)


def bump(previous: Fees, suggestion: Fees, settings: FeeSettings) -> Fees | None:
    """Fees that replace a transaction sent with `previous`, or None when that would be beyond the cap."""
    bumped = Fees(
        max_fee_per_gas_wei=max(_raised(previous.max_fee_per_gas_wei), suggestion.max_fee_per_gas_wei),
        max_priority_fee_per_gas_wei=max(
            _raised(previous.max_priority_fee_per_gas_wei), suggestion.max_priority_fee_per_gas_wei
        ),
    )
    return bumped if bumped.max_fee_per_gas_wei <= settings.max_fee_cap_wei else None


def build_fee_request(settings: FeeSettings) -> Request:
    """The eth_feeHistory request, to be put into the batch of a simulation."""
    return "eth_feeHistory", [hex(settings.history_blocks), "latest", [settings.tip_percentile]]


def decode_fees(answer: JsonValue | RpcRefused, settings: FeeSettings) -> Fees:
    """The suggestion from an eth_feeHistory answer. Raises RpcRefused, RpcMalformed, FeeCapTooLow."""
    if isinstance(answer, RpcRefused):
        raise answer
    return suggest_from_history(decode_fee_history(answer), settings)


def _raised(wei: int) -> int:
    # At least one wei more: 12.5 % of 0 is 0, and geth wants a strict rise as well.
    return max(-(-wei * BUMP_NUMERATOR // BUMP_DENOMINATOR), wei + 1)

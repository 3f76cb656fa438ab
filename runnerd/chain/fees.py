"""Fees of a transaction: a suggestion from recent blocks, and the next valid bump. Pure integers.

EIP-1559 (https://eips.ethereum.org/EIPS/eip-1559) where blocks have a base fee, a gas price where they have none. geth
accepts a replacement when both fields rise by at least 10 % and are strictly higher; we take 12.5 % rounded up, and
never less than what the market asks now.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

from runnerd.chain.errors import FeeCapTooLow, RpcRefused
from runnerd.chain.json_values import JsonValue
from runnerd.chain.jsonrpc import Request
from runnerd.chain.types import FeeHistory, decode_fee_history, decode_quantity

BUMP_NUMERATOR, BUMP_DENOMINATOR = 9, 8  # 12.5 %
HIGH_PERCENTILE = 90
"""Who already pays more than this share of recent transactions does not wait because of the price."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fees:
    """The two fee fields of an EIP-1559 transaction, wei per gas; of a legacy one both are its gas price."""

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
            ("tip_percentile", self.tip_percentile, 0, HIGH_PERCENTILE),
            ("history_blocks", self.history_blocks, 1, 100),
        )
        for name, value, lowest, highest in allowed:
            if not lowest <= value <= highest:
                raise ValueError(f"{name} = {value} is not allowed: {lowest} to {highest}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Market:
    """What the next block asks: `suggested` fees, and what the 90th percentile of recent transactions would pay.

    `high` is None where recent blocks were empty, or the chain has no fee history: then nothing is known to be high.
    """

    suggested: Fees
    base_fee_wei: int
    """Less than this is not included; of a legacy chain what it suggests."""
    high: Fees | None = None
    is_legacy: bool = False

    def capped(self, cap_wei: int) -> Fees | None:
        """The suggestion within a cap per gas, or None when nothing within it can be included now."""
        if self.base_fee_wei > cap_wei:
            return None
        max_fee = min(self.suggested.max_fee_per_gas_wei, cap_wei)
        return Fees(
            max_fee_per_gas_wei=max_fee,
            max_priority_fee_per_gas_wei=min(self.suggested.max_priority_fee_per_gas_wei, max_fee),
        )


def suggest(base_fee_wei: int, tips_wei: Sequence[int], settings: FeeSettings) -> Fees:
    """Fees for the next block. `tips_wei`: what recent blocks paid at the configured percentile; their median counts.

    Raises FeeCapTooLow when the base fee alone is above the cap: nothing sent now could be included.
    """
    cap = settings.max_fee_cap_wei
    if base_fee_wei > cap:
        raise FeeCapTooLow(base_fee_wei=base_fee_wei, max_fee_cap_wei=cap)
    tip = max(_median(tips_wei), settings.min_tip_wei)
    max_fee = min(base_fee_wei * settings.base_fee_multiplier + tip, cap)
    return Fees(max_fee_per_gas_wei=max_fee, max_priority_fee_per_gas_wei=min(tip, max_fee))


def read_history(history: FeeHistory, settings: FeeSettings) -> Market:
    """The market for the block after `history`. Blocks without transactions say nothing about tips and are left out."""
    rows = zip(history.rewards_wei, history.gas_used_ratios, strict=False)
    paid = [rewards for rewards, ratio in rows if rewards and ratio > 0]
    base_fee = history.base_fees_wei[-1]
    suggested = suggest(base_fee, [rewards[0] for rewards in paid], settings)
    high_tips = [rewards[1] for rewards in paid if len(rewards) > 1]
    tip = _median(high_tips)
    high = Fees(max_fee_per_gas_wei=base_fee + tip, max_priority_fee_per_gas_wei=tip) if high_tips else None
    return Market(suggested=suggested, base_fee_wei=base_fee, high=high)


def read_gas_price(gas_price_wei: int, settings: FeeSettings) -> Market:
    """The market of a chain without base fee: one price, which is all that is known."""
    price = max(gas_price_wei, settings.min_tip_wei)
    if price > settings.max_fee_cap_wei:
        raise FeeCapTooLow(base_fee_wei=price, max_fee_cap_wei=settings.max_fee_cap_wei)
    suggested = Fees(max_fee_per_gas_wei=price, max_priority_fee_per_gas_wei=price)
    return Market(suggested=suggested, base_fee_wei=price, is_legacy=True)


class NoBump(Enum):
    """Why a transaction that waits is not replaced now."""

    CAPPED = "a replacement would be above the fee cap"
    NOT_THE_PRICE = "it already pays more than 90 % of recent transactions: it is not the price that keeps it out"


def bump(previous: Fees, market: Market, cap_wei: int) -> Fees | NoBump:
    """Fees that replace a transaction sent with `previous`, or why there are none. `cap_wei` is per gas."""
    high = market.high
    if (
        high is not None
        and previous.max_fee_per_gas_wei > high.max_fee_per_gas_wei
        and previous.max_priority_fee_per_gas_wei > high.max_priority_fee_per_gas_wei
    ):
        return NoBump.NOT_THE_PRICE
    suggested = market.suggested
    tip = max(_raised(previous.max_priority_fee_per_gas_wei), suggested.max_priority_fee_per_gas_wei)
    max_fee = max(_raised(previous.max_fee_per_gas_wei), suggested.max_fee_per_gas_wei, tip)
    if max_fee > cap_wei:
        return NoBump.CAPPED
    return Fees(max_fee_per_gas_wei=max_fee, max_priority_fee_per_gas_wei=tip)


def outbid(previous: Fees, market: Market, cap_wei: int) -> Fees:
    """Fees that replace `previous` in any case: what the market asks if that is within the cap, else the least valid.

    For what must be got rid of, whatever it had bid.
    """
    fees = bump(previous, replace(market, high=None), cap_wei)
    if not isinstance(fees, NoBump):
        return fees
    return Fees(
        max_fee_per_gas_wei=_raised(previous.max_fee_per_gas_wei),
        max_priority_fee_per_gas_wei=_raised(previous.max_priority_fee_per_gas_wei),
    )


def build_fee_request(settings: FeeSettings, *, is_legacy: bool = False) -> Request:
    """The request for the market, to be put into the batch of a simulation."""
    if is_legacy:
        return "eth_gasPrice", []
    return "eth_feeHistory", [hex(settings.history_blocks), "latest", [settings.tip_percentile, HIGH_PERCENTILE]]


def decode_market(answer: JsonValue | RpcRefused, settings: FeeSettings, *, is_legacy: bool = False) -> Market:
    """The market from the answer to `build_fee_request`. Raises RpcRefused, RpcMalformed, FeeCapTooLow."""
    if isinstance(answer, RpcRefused):
        raise answer
    if is_legacy:
        return read_gas_price(decode_quantity(answer, "eth_gasPrice"), settings)
    return read_history(decode_fee_history(answer), settings)


def _median(values: Sequence[int]) -> int:
    return sorted(values)[len(values) // 2] if values else 0


def _raised(wei: int) -> int:
    # At least one wei more: 12.5 % of 0 is 0, and geth wants a strict rise as well.
    return max(-(-wei * BUMP_NUMERATOR // BUMP_DENOMINATOR), wei + 1)

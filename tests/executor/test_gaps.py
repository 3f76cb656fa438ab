"""What a no-op in a gap bids: enough to replace what was there, within the wallet's cap, and not without money."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from runnerd.chain.errors import FeeCapTooLow
from runnerd.chain.fees import Fees, Market
from runnerd.executor.attempt import Ready
from runnerd.executor.gaps import GapFiller
from runnerd.store.foreign import Filler

GWEI = 10**9


def pair(gwei: float, tip_gwei: float = 1) -> Fees:
    """In gwei."""
    return Fees(max_fee_per_gas_wei=int(gwei * GWEI), max_priority_fee_per_gas_wei=int(tip_gwei * GWEI))


def filler(fees: Fees) -> Filler:
    """The last one."""
    return Filler(hash="0x01", nonce=3, raw=b"raw", fees=fees, signed_block=1)


def price(
    *, last: Fees | None = None, before: tuple[Fees, ...] = (), high: Fees | None = None, cap: float = 100,
    asked: float = 10, base: float = 5, objection: str | None = None,
) -> Fees | None:  # fmt: skip
    """At a market that suggests `asked` gwei."""
    purse = SimpleNamespace(objection=lambda _: objection)
    lane: Any = SimpleNamespace(network=None, purse=purse, wallet_fee_cap=int(cap * GWEI))
    market = Market(suggested=pair(asked), base_fee_wei=int(base * GWEI), high=high)
    ready = Ready(cast("Any", None), 21_000, market)
    return GapFiller(lane, cast("Any", None))._price(ready, filler(last) if last is not None else None, list(before))


def test_the_first_bids_what_the_market_asks_or_replaces_what_was_there() -> None:
    """Beyond the cap only by the least that is valid: what was signed there once may still be in a pool."""
    assert price() == pair(10)
    assert price(before=(pair(4), pair(40))) == pair(45, 1.125)
    assert price(before=(pair(200),)) == pair(225, 1.125)
    assert price(cap=7) == pair(7)
    with pytest.raises(FeeCapTooLow):
        price(cap=4)


@pytest.mark.parametrize(
    "changes",
    [{"cap": 11}, {"high": pair(9, 0.5)}, {"objection": "wallet 0x has 0 wei"}],
    ids=["cap", "above the market", "no money"],
)
def test_a_later_one_is_not_dearer_without_reason(changes: dict[str, Any]) -> None:
    """The tip of a filler is really paid: what is refused for another reason must not be bid up for hours."""
    assert price(last=pair(10)) == pair(11.25, 1.125)
    assert price(last=pair(10), **changes) is None

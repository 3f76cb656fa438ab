"""The keepers of the demo: what they keep up on chain, their wallet, and their tables of the configuration.

The wallet is new each time, as the operator's, has a little ether for gas, and no right anywhere.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from web3 import Web3
from web3.contract import Contract
from web3.types import Wei

from deploy.demo.world import PLUGINS, Venue
from tests.support.contracts import deploy, load_artifact

ROUND_BLOCKS = 8
GAS_MONEY_WEI = Wei(10**17)
PER_DAY_WEI = 10**16


@dataclass(frozen=True, slots=True)
class Upkeep:
    """What stands on chain beside the venue, and whose wallet looks after it."""

    venue: Venue
    wallet: str
    feed: Contract
    rounds: Contract


def build_upkeep(venue: Venue, wallet: str) -> Upkeep:
    """Deploy the NAV feed and the round book, and give `wallet` money for gas."""
    w3, market = venue.w3, venue.market.address
    feed = w3.eth.contract(deploy(w3, "NavFeed", venue.vault.address, market), abi=load_artifact("NavFeed")["abi"])
    rounds = w3.eth.contract(deploy(w3, "RoundBook", market, ROUND_BLOCKS), abi=load_artifact("RoundBook")["abi"])
    sent = w3.eth.send_transaction(
        {"from": venue.owner, "to": Web3.to_checksum_address(wallet), "value": GAS_MONEY_WEI}
    )
    w3.eth.wait_for_transaction_receipt(sent, poll_latency=0.02)
    return Upkeep(venue, wallet, feed, rounds)


def keeper_tables(upkeep: Upkeep) -> dict[str, Mapping[str, object]]:
    """One wallet for both keepers; each has its own catalogue and its own budget."""
    feed, rounds = upkeep.feed.address, upkeep.rounds.address
    keeper = {"chain": "local", "wallet": "keeper", "max_gas_wei_per_day": PER_DAY_WEI}
    return {
        "wallets.keeper": {"keystore": "keeper.json", "passphrase_file": "keeper-passphrase"},
        "keepers.nav": keeper,
        "keepers.nav.reads.published_nav": {"contract": feed, "function": "nav() view returns (uint256)"},
        "keepers.nav.reads.current_nav": {"contract": feed, "function": "currentNav() view returns (uint256)"},
        "keepers.nav.reads.refreshed_at": {"contract": feed, "function": "refreshedAt() view returns (uint256)"},
        "keepers.nav.actions.refresh": {"contract": feed, "function": "refresh()", "permissionless": True},
        "keepers.rounds": keeper,
        "keepers.rounds.reads.round": {"contract": rounds, "function": "round() view returns (uint256)"},
        "keepers.rounds.reads.closes_at": {"contract": rounds, "function": "closesAt() view returns (uint256)"},
        "keepers.rounds.actions.settle": {
            "contract": rounds,
            "function": "settle(uint256 round)",
            "permissionless": True,
        },
    }


def keeper_plugins(upkeep: Upkeep) -> dict[str, Mapping[str, object]]:
    """Their plugins. The log trigger needs the market's address, so it stands here and not in the class."""
    moved = {
        "kind": "log",
        "addresses": [upkeep.venue.market.address],
        "event": "event SpotMoved(uint256 previous, uint256 current)",
        "overlap": "coalesce",
    }
    return {
        "nav-refresh": {
            "role": "keeper",
            "keeper": "nav",
            "path": str(PLUGINS / "nav_refresh.py"),
            "params": {"min_move_wei": 10**12, "max_age_blocks": 15, "patience_blocks": 3},
            "triggers": [moved, {"kind": "cron", "every_seconds": 10}],
        },
        "settlement": {
            "role": "keeper",
            "keeper": "rounds",
            "path": str(PLUGINS / "settlement.py"),
            "params": {"patience_blocks": 6},
        },
    }

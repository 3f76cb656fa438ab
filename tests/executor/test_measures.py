"""Which numbers an expectation stands for, and what the vault's owner lets plugins name. Pure."""

from typing import Any

import pytest

from protocol.expectations import BalanceChange, Expectation, MinimumOut, SharePrice
from protocol.limits import MAX_EXPECTATIONS
from runnerd.chain.probe import MAX_MEASURES, Measure
from runnerd.config.grants import ReadGrant
from runnerd.config.model import VaultConfig
from runnerd.executor.measures import build_measures
from runnerd.executor.policy import Denied
from runnerd.vaults.catalogue import build_catalogue

VAULT, VENUE = "0x" + "22" * 20, "0x" + "33" * 20
TOKEN = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
READS = {
    "nav": "nav() view returns (uint256)",
    "drift": "drift() view returns (int128)",
    "converted": "convertToAssets(uint256 shares) view returns (uint256)",
    "pair": "pair() view returns (uint256, uint256)",
    "owner": "owner() view returns (address)",
    "many": "many() view returns (uint256[])",
    "long": "long(bytes data) view returns (uint256)",
}


def measures(*expect: Expectation, **vault: Any) -> tuple[Measure, ...] | Denied:
    config = VaultConfig(
        chain="local", address=VAULT, wallet="hot", **{"expect_tokens": (TOKEN,), **vault},
        reads={name: ReadGrant(contract=VENUE, function=function) for name, function in READS.items()},
    )  # fmt: skip
    return build_measures(expect, build_catalogue("main", config), VAULT)


def denial(*expect: Expectation, **vault: Any) -> str:
    found = measures(*expect, **vault)
    assert isinstance(found, Denied)
    return found.reason


def test_each_expectation_is_one_number() -> None:
    """In their order: native balance, token balance, the word of a read, with its sign."""
    found = measures(
        BalanceChange(max=0), MinimumOut(1, TOKEN), SharePrice("nav", 5), SharePrice("drift", 5),
        SharePrice("converted", 5, {"shares": 1}),
    )  # fmt: skip
    owner = bytes.fromhex("70a08231") + bytes(12) + b"\x22" * 20
    assert isinstance(found, tuple)
    assert found[:2] == (Measure(to=VAULT), Measure(to=TOKEN, data=owner))
    assert [(measure.to, measure.is_signed) for measure in found[2:]] == [(VENUE, False), (VENUE, True), (VENUE, False)]
    assert found[4].data[4:] == (1).to_bytes(32, "big")
    assert measures() == ()


def test_a_token_must_be_granted_in_whatever_case_it_is_written() -> None:
    """By default none is; a mistyped checksum is not an address."""
    assert measures(MinimumOut(1, TOKEN.lower())) == measures(MinimumOut(1, TOKEN))
    assert denial(BalanceChange(max=0), MinimumOut(1, VENUE)) == (
        f"expectation 2: token {VENUE} is not in expect_tokens of vault main; granted: {TOKEN}"
    )
    assert denial(MinimumOut(1, TOKEN), expect_tokens=()).endswith("; granted: none")
    assert "wrong EIP-55 checksum" in denial(MinimumOut(1, TOKEN.replace("F", "f", 1)))


@pytest.mark.parametrize(
    "read, args, reason",
    [
        ("price", {}, "read 'price' is not in the catalogue of vault main; granted: nav, drift, converted, "),
        ("pair", {}, "read 'pair' returns (uint256, uint256); a share price is a read that returns one integer"),
        ("owner", {}, "read 'owner' returns (address); a share price is"),
        ("many", {}, "read 'many' returns (uint256[]); a share price is"),
        ("converted", {}, "arguments of convertToAssets: missing: shares; allowed: shares (uint256)"),
        ("converted", {"shares": -1}, "argument shares: -1 does not fit uint256"),
        ("long", {"data": "0x" + "00" * 4_060}, "the arguments of read 'long' take 4132 bytes, the limit is 4100"),
    ],
)
def test_a_share_price_is_a_granted_read_of_one_integer(read: str, args: dict[str, Any], reason: str) -> None:
    """The denial says what is wrong and what is allowed."""
    assert denial(SharePrice(read, 5, args)).startswith(f"expectation 1: {reason}")


def test_the_probe_has_room_for_all_that_the_wire_allows() -> None:
    """Otherwise it would revert, and look as if the node lacked something."""
    assert MAX_MEASURES >= MAX_EXPECTATIONS

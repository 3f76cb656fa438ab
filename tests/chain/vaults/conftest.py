"""One node with the published contracts, and a venue that every kind of vault may trade at."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from eth_abi.abi import encode

from runnerd.chain.abi import encode_call
from runnerd.chain.address import checksum_address
from runnerd.chain.vault import Call
from tests.chain.venue import MINT, SPOT
from tests.support.anvil import Anvil, start_anvil
from tests.support.published import Chain, SafeKit, deploy_safe_kit


@dataclass(frozen=True, slots=True)
class World:
    """A node whose accounts are: deployer and market's keeper; our operator; two people; a stranger."""

    chain: Chain
    kit: SafeKit
    market: str
    registry: str

    @property
    def anvil(self) -> Anvil:
        return self.chain.anvil

    def account(self, index: int) -> str:
        return checksum_address(self.anvil.accounts[index])

    def key(self, index: int) -> bytes:
        return bytes.fromhex(self.anvil.keys[index].removeprefix("0x"))

    def mint(self, strike: int = SPOT, value_wei: int = 10) -> Call:
        """A call that succeeds; with strike 0 it reverts."""
        return Call(to=self.market, value_wei=value_wei, data=encode_call(MINT, {"strike": strike, "above": True}))

    def minted(self, holder: str) -> int:
        """What a vault has staked."""
        return int.from_bytes(self.chain.view(self.market, "stakeOf(address)", holder))


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with start_anvil(extra_args=("--disable-code-size-limit",)) as anvil:
        chain = Chain(anvil)
        market = chain.deploy_ours("RangeMarket", encode(["uint256", "address"], [SPOT, chain.owner]))
        yield World(chain, deploy_safe_kit(chain), market, chain.deploy_ours("IntentRegistry"))


@pytest.fixture(autouse=True)
def as_before(world: World) -> Iterator[None]:
    """Every test finds the chain as it was before the first one."""
    snapshot = world.anvil.rpc("evm_snapshot")
    yield
    assert world.anvil.rpc("evm_revert", snapshot)

"""One anvil per test module, and on it a vault and a market that every test finds as if it were the first.

The chain's clock starts at noon UTC, so that no test crosses a day by accident.
"""

from collections.abc import Iterator

import pytest
from web3 import Web3

from tests.contracts.bench import ETHER, SPOT, Bench, selector
from tests.support.anvil import Anvil, start_anvil
from tests.support.contracts import connect, deploy, load_artifact

NOON_S = 1_893_499_200  # 2030-01-01 12:00 UTC


@pytest.fixture(scope="module")
def node() -> Iterator[Anvil]:
    with start_anvil(genesis_timestamp_s=NOON_S) as anvil:
        yield anvil


@pytest.fixture(scope="module")
def w3(node: Anvil) -> Web3:
    return connect(node.url)


@pytest.fixture(scope="module")
def fresh_bench(node: Anvil, w3: Web3) -> Bench:
    owner, operator, stranger = (Web3.to_checksum_address(account) for account in node.accounts[:3])
    vault = w3.eth.contract(deploy(w3, "OperatorVault", owner, operator), abi=load_artifact("OperatorVault")["abi"])
    market = w3.eth.contract(deploy(w3, "RangeMarket", SPOT, owner), abi=load_artifact("RangeMarket")["abi"])
    bench = Bench(node=node, w3=w3, vault=vault, market=market, owner=owner, operator=operator, stranger=stranger)
    node.rpc("anvil_setBalance", vault.address, hex(10 * ETHER))
    bench.allow(market.address, selector("mintBinary(uint256,bool)"))
    bench.allow(market.address, selector("mintRange(uint256,uint256)"))
    bench.done(vault.functions.setCaps(ETHER, 2 * ETHER), owner)
    return bench


@pytest.fixture
def bench(fresh_bench: Bench) -> Iterator[Bench]:
    """Every test gets the chain as it was before the first one, but for the clock, which only goes forward."""
    snapshot = fresh_bench.node.rpc("evm_snapshot")
    yield fresh_bench
    assert fresh_bench.node.rpc("evm_revert", snapshot)

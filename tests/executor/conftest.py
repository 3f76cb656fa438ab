"""Fixtures of the executor's shells: one node for all, a ground of its own for each test."""

from collections.abc import Iterator

import pytest

from tests.support.anvil import Anvil, start_anvil
from tests.support.executor_bench import Ground, make_ground
from tests.support.rpc_proxy import rpc_proxy


@pytest.fixture(scope="package")
def node() -> Iterator[Anvil]:
    """A node that mines when it is told to."""
    with start_anvil(prune_history=False) as anvil:
        yield anvil


@pytest.fixture
def ground(node: Anvil, ledger_dsn: str) -> Iterator[Ground]:
    """A vault, a wallet and a ledger that nobody else uses; the mempool is empty."""
    node.rpc("anvil_dropAllTransactions")
    with rpc_proxy(node.url) as proxy:
        yield make_ground(node, proxy, ledger_dsn)

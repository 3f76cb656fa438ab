"""Fixtures that every test may ask for; what they do is in `tests.support`."""

import pytest

from runnerd.process import bound_recursion

# Each after those that it imports: pytest rewrites the asserts of a module only before its first import.
pytest_plugins = [
    "tests.support.leaks",
    "tests.support.short_dir",
    "tests.support.postgres",
    "tests.support.scene",
    "tests.support.solitude",
]


@pytest.fixture(autouse=True)
def usual_recursion_limit() -> None:
    """As in production (`runnerd.cli.daemon`): the tests' web3 imports py_ecc, which raises it to 100,000."""
    bound_recursion()

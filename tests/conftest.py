"""Fixtures that every test may ask for; what they do is in `tests.support`."""

import pytest
from hypothesis import settings

from runnerd.process import bound_recursion

# Each after those that it imports: pytest rewrites the asserts of a module only before its first import.
pytest_plugins = [
    "tests.support.leaks",
    "tests.support.short_dir",
    "tests.support.postgres",
    "tests.support.scene",
    "tests.support.solitude",
]

# Of properties that do not say how many examples they need. Time is no measure of them on a busy machine.
settings.register_profile("runnerd", max_examples=40, deadline=None)
settings.load_profile("runnerd")


@pytest.fixture(autouse=True)
def usual_recursion_limit() -> None:
    """As in production (`runnerd.cli.daemon`): the tests' web3 imports py_ecc, which raises it to 100,000."""
    bound_recursion()

"""Fixtures of the sandbox tests: a zygote of their own, in whose workers they run their probes."""

from collections.abc import Iterator

import pytest

from tests.support.probes import ProbeHost, probe_host


@pytest.fixture
def host() -> Iterator[ProbeHost]:
    """A running zygote whose workers execute probes. For each test anew: what is left afterwards is a leak."""
    with probe_host() as running:
        yield running

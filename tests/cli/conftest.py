"""A fake daemon that answers as a busy one does, on a socket of the test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.samples import answer
from tests.support.fake_daemon import FakeDaemon, fake_daemon


@pytest.fixture
def socket(short_dir: Path) -> Path:
    """Where a control socket may be; nobody listens there yet."""
    return short_dir / "control.sock"


@pytest.fixture
def busy(socket: Path) -> Iterator[FakeDaemon]:
    """A daemon in the middle of its work, degraded, as in `samples`."""
    with fake_daemon(socket, answer) as daemon:
        yield daemon

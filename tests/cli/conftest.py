"""A fake daemon that answers as a busy one does, on a socket of the test."""

import ctypes
from collections.abc import Iterator
from pathlib import Path

import pytest

from runnerd.process import PR_SET_DUMPABLE
from tests.cli.samples import answer
from tests.support.fake_daemon import FakeDaemon, fake_daemon


@pytest.fixture(autouse=True)
def still_dumpable() -> Iterator[None]:
    """A command that reads a key protects its process: here that is the one of all tests."""
    yield
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)


@pytest.fixture
def socket(short_dir: Path) -> Path:
    """Where a control socket may be; nobody listens there yet."""
    return short_dir / "control.sock"


@pytest.fixture
def busy(socket: Path) -> Iterator[FakeDaemon]:
    """A daemon in the middle of its work, degraded, as in `samples`."""
    with fake_daemon(socket, answer) as daemon:
        yield daemon

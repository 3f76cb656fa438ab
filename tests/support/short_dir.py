"""A directory for sockets and clusters: its path is short, and other users may pass through it.

pytest's `tmp_path` is neither: the path of a unix socket may have 107 bytes, and the user that runs PostgreSQL for root
must get through every directory on its way.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.leaks import find_socket_files, may_leave_sockets


@contextmanager
def make_short_dir() -> Iterator[Path]:
    """A new directory, removed afterwards with all that is in it."""
    path = Path(tempfile.mkdtemp(prefix="rd-"))
    path.chmod(0o711)
    try:
        yield path
    finally:
        shutil.rmtree(path)


@pytest.fixture
def short_dir(request: pytest.FixtureRequest) -> Iterator[Path]:
    """See `make_short_dir`. Fails the test if it leaves a socket in it."""
    with make_short_dir() as path:
        yield path
        left = [] if may_leave_sockets(request) else find_socket_files(path)
        assert not left, f"left behind by the test: {left}"

"""A directory for sockets and clusters: its path is short, and other users may pass through it.

pytest's `tmp_path` is neither: the path of a unix socket may have 107 bytes, and the user that runs PostgreSQL for root
must get through every directory on its way.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.support.leaks import find_socket_files, may_leave_sockets

MEMORY: Final = Path("/dev/shm")  # what is made there is a directory of our own
ROOM_BYTES: Final = 4 << 30
"""So much must be free there: containers often have 64 MiB."""


@contextmanager
def make_short_dir(*, in_memory: bool = False) -> Iterator[Path]:
    """A new directory, removed afterwards with all that is in it. `in_memory` if the host has room for a cluster there.

    A database is hundreds of files: to make them on ext4 took two fifths of the CPU time of test_lane.py alone.
    """
    is_roomy = in_memory and MEMORY.is_dir() and shutil.disk_usage(MEMORY).free >= ROOM_BYTES
    path = Path(tempfile.mkdtemp(prefix="rd-", dir=MEMORY if is_roomy else None))
    path.chmod(0o711)
    try:
        yield path
    finally:
        shutil.rmtree(path)


@pytest.fixture
def short_dir(request: pytest.FixtureRequest) -> Iterator[Path]:
    """See `make_short_dir`. Fails the test if it leaves a socket in it."""
    with make_short_dir(in_memory=True) as path:
        yield path
        left = [] if may_leave_sockets(request) else find_socket_files(path)
        assert not left, f"left behind by the test: {left}"

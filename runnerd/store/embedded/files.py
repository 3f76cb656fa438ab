"""Small things done to files of the cluster, safe when we are root and the directory is another user's."""

import asyncio
import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from runnerd.store.embedded.account import Account

T = TypeVar("T")
POLL_S = 0.005


async def lock(path: Path, deadline_s: float) -> int:
    """A file descriptor that holds the lock file alone. Raises TimeoutError while a process still holds it open."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        async with asyncio.timeout(deadline_s):
            while not _try_lock(file):  # noqa: ASYNC110 - no event tells of another process's end
                await asyncio.sleep(POLL_S)
    except BaseException:
        os.close(file)
        raise
    return file


async def in_thread(work: Callable[[], T]) -> T:
    """What `work` returns, run in a thread. Unlike `to_thread` it ends when the work has ended, even if cancelled."""
    running = asyncio.get_running_loop().run_in_executor(None, work)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise


def read_small(path: Path) -> str:
    """A small file's text, or nothing. Follows no link and hangs on no pipe that the directory's owner may have put."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES):
            return ""
        raise
    try:
        return os.read(file, 4096).decode(errors="replace")
    finally:
        os.close(file)


def read_status(cluster: Path) -> tuple[int | None, str]:
    """Pid and status in `postmaster.pid`: https://www.postgresql.org/docs/18/storage-file-layout.html"""
    lines = read_small(cluster / "postmaster.pid").splitlines()
    pid = int(lines[0]) if lines and lines[0].isdigit() else None
    return pid, lines[7].strip() if len(lines) > 7 else ""


def make_private(directory: Path, account: Account) -> None:
    """A directory that only `account` (and root) can enter."""
    directory.mkdir(mode=0o700, exist_ok=True)
    if not account.is_self:
        os.chown(directory, account.uid, account.gid, follow_symlinks=False)


def rename_durably(source: Path, target: Path) -> None:
    """Rename within a directory; the new name survives a power cut when this returns."""
    source.rename(target)
    directory = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _try_lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True

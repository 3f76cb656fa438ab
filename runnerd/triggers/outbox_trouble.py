"""Why an outbox is not read, in words for the operator."""

from typing import Final

import psycopg
from psycopg import errors

from runnerd.errors import explain
from runnerd.store.errors import StoreError
from runnerd.store.reason import connect_reason
from runnerd.triggers.errors import ProducerError

NOT_INSTALLED: Final = "there is no outbox in the event database: runnerctl outbox install"


class OutboxSetBack(ProducerError):
    """The outbox has lost events that were delivered, and would give their ids to others. Nothing is read until its
    ids are beyond those again (docs/operations.md, "The outbox").
    """


EXPECTED: Final = (psycopg.Error, OSError, StoreError, ProducerError)


def reason_of(error: Exception) -> str:
    """In one line, for the status and the log."""
    match error:
        case errors.UndefinedTable() | errors.InvalidSchemaName():
            return NOT_INSTALLED
        case psycopg.Error() | OSError():
            return connect_reason(error)
        case _:
            return explain(error)

"""A call as its caller over HTTP may see it: without payload, identity and principal. Used by `webhooks`."""

from psycopg.rows import DictRow

from runnerd.http.words import CallView
from runnerd.store.calls import JobCall


def to_queued(call: JobCall) -> CallView:
    """Of a call that was made just now."""
    return CallView(
        id=call.id,
        plugin=call.plugin,
        job=call.job,
        state="queued",
        outcome=None,
        reason=None,
        transaction=None,
        created_at=call.fired_at,
        finished_at=None,
        is_new=True,
    )


def to_view(row: DictRow, *, is_new: bool = False) -> CallView:
    """Of a row of `store.outcomes`."""
    return CallView(
        id=row["id"],
        plugin=row["plugin"],
        job=row["job"],
        state=row["state"],
        outcome=row["outcome"],
        reason=row["reason"],
        transaction=row["transaction"],
        created_at=row["fired_at"],
        finished_at=row["finished_at"],
        is_new=is_new,
    )

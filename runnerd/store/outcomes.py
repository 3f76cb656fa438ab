"""Statements for callers over HTTP: one call, and the outcomes in the order in which they were committed.

The order is the audit trail's: each outcome has a record there, in its own commit, with a number that only grows.
"""

from collections.abc import Sequence

from runnerd.store.statement import Statement

WINDOW = 50_000
"""Records that one look goes through: a listener that was away for a year costs many short looks, not a long one."""


def call(call_id: int) -> Statement:
    """A call by its id, with the hash of its transaction."""
    return Statement(
        """
        select c.*, (select hash from attempts where call_id = c.id order by is_success desc nulls last, signed_at desc
                     limit 1) as transaction
        from job_calls c where c.id = %(id)s
        """,
        {"id": call_id},
    )


def head() -> Statement:
    """The position of the last record."""
    return Statement("select coalesce(max(seq), 0) as position from audit_records")


def since(position: int, plugins: Sequence[str], limit: int) -> Statement:
    """The outcomes of these plugins after `position`, within `WINDOW`, oldest first, each with its position."""
    return Statement(
        """
        select r.seq as position, c.*, (select hash from attempts where call_id = c.id
                                        order by is_success desc nulls last, signed_at desc limit 1) as transaction
        from audit_records r join job_calls c on c.id = r.call_id
        where r.seq > %(position)s and r.seq <= %(until)s and r.kind = 'result' and c.plugin = any(%(plugins)s)
        order by r.seq limit %(limit)s
        """,
        {"position": position, "until": position + WINDOW, "plugins": list(plugins), "limit": limit},
    )

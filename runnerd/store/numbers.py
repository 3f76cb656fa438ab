"""Statements about the numbers of calls."""

from runnerd.store.statement import Statement


def next_call_id() -> Statement:
    """A number that no call has or will have: for a dry run, which gets no row, and for an answer."""
    return Statement("select nextval(pg_get_serial_sequence('job_calls', 'id')) as id")

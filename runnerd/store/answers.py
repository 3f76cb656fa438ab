"""Statements about calls that nobody is asked about: their id is known before they stand, so that all is one commit."""

from typing import Final

from runnerd.store.calls import COLUMNS, JobCall, parameters_of
from runnerd.store.statement import Statement

_INSERT_AS: Final = f"""
    insert into job_calls (id, {", ".join(COLUMNS)}) overriding system value
    values (%(id)s, {", ".join(f"%({name})s" for name in COLUMNS)}) on conflict do nothing
"""  # noqa: S608  # of names that stand in `calls`


def insert_as(call: JobCall) -> Statement:
    """Add a call under its id; nothing, if one of its identity stands already.

    What refers to it in the same commit then refuses the whole commit.
    """
    return Statement(_INSERT_AS, {"id": call.id, **parameters_of(call)})

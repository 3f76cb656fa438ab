"""Statements about consumers: which results one has not heard of, how far it is, and what was given up."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from runnerd.store.statement import Statement, storable

MOST_COUNTED: Final = 100_000
"""A consumer that is further behind is as far behind as that: counting is what it would cost most."""


def open_cursor(consumer: str, at: datetime) -> Statement:
    """Where `consumer` goes on; a new one begins behind the newest result. One row: result_no."""
    return Statement(
        """
        insert into consumer_cursors (consumer, result_no, moved_at)
        values (%(consumer)s, (select coalesce(max(result_no), 0) from job_calls), %(at)s)
        on conflict (consumer) do update set consumer = excluded.consumer
        returning result_no
        """,
        {"consumer": consumer, "at": at},
    )


def results_after(result_no: int, limit: int) -> Statement:
    """The next results, in order, each with its call and its transaction."""
    return Statement(
        """
        select c.*, (select hash from attempts where call_id = c.id order by is_success desc nulls last, signed_at desc
                     limit 1) as transaction
        from job_calls c where result_no > %(result_no)s order by result_no limit %(limit)s
        """,
        {"result_no": result_no, "limit": limit},
    )


def wanted(consumer: str, limit: int) -> Statement:
    """The results among its dead letters that `consumer` is to be given once more, in order; as `results_after`."""
    return Statement(
        """
        select c.*, d.attempts as letter_attempts,
               (select hash from attempts where call_id = c.id order by is_success desc nulls last, signed_at desc
                limit 1) as transaction
        from dead_letters d join job_calls c using (result_no)
        where d.consumer = %(consumer)s and d.is_wanted order by result_no limit %(limit)s
        """,
        {"consumer": consumer, "limit": limit},
    )


def waiting() -> Statement:
    """How many results each consumer has not heard of, and how many were given up."""
    return Statement(
        """
        select consumer, moved_at,
               (select count(*) from (select from job_calls c where c.result_no > k.result_no limit %(most)s) behind)
                   as waiting,
               (select count(*) from dead_letters d where d.consumer = k.consumer) as dead
        from consumer_cursors k order by consumer
        """,
        {"most": MOST_COUNTED},
    )


def move_cursor(consumer: str, result_no: int, at: datetime) -> Statement:
    """It has heard of all up to this one."""
    return Statement(
        """
        update consumer_cursors set result_no = greatest(result_no, %(result_no)s), moved_at = %(at)s
        where consumer = %(consumer)s
        """,
        {"consumer": consumer, "result_no": result_no, "at": at},
    )


def bury(consumer: str, result_no: int, attempts: int, reason: str, at: datetime) -> Statement:
    """It will not hear of this one, unless an operator wants it."""
    return Statement(
        """
        insert into dead_letters (consumer, result_no, attempts, reason, at)
        values (%(consumer)s, %(result_no)s, %(attempts)s, %(reason)s, %(at)s)
        on conflict (consumer, result_no) do update
        set attempts = excluded.attempts, reason = excluded.reason, at = excluded.at, is_wanted = false
        """,
        {"consumer": consumer, "result_no": result_no, "attempts": attempts, "reason": storable(reason), "at": at},
    )


def dead(consumer: str | None, limit: int) -> Statement:
    """What was given up, newest first."""
    return Statement(
        """
        select d.*, c.id as call_id, c.plugin, c.outcome from dead_letters d join job_calls c using (result_no)
        where %(consumer)s::text is null or d.consumer = %(consumer)s
        order by d.at desc, result_no desc limit %(limit)s
        """,
        {"consumer": consumer, "limit": limit},
    )


def want(consumer: str, call_ids: Sequence[int] | None) -> Statement:
    """These dead letters (None: all) are to be handed over once more. A row for each: result_no."""
    return Statement(
        """
        update dead_letters d set is_wanted = true from job_calls c
        where d.consumer = %(consumer)s and c.result_no = d.result_no
          and (%(ids)s::bigint[] is null or c.id = any(%(ids)s::bigint[]))
        returning d.result_no
        """,
        {"consumer": consumer, "ids": None if call_ids is None else list(call_ids)},
    )


def drop(consumer: str, call_ids: Sequence[int] | None) -> Statement:
    """Forget these dead letters (None: all). A row for each: result_no."""
    return Statement(
        """
        delete from dead_letters d using job_calls c
        where d.consumer = %(consumer)s and c.result_no = d.result_no
          and (%(ids)s::bigint[] is null or c.id = any(%(ids)s::bigint[]))
        returning d.result_no
        """,
        {"consumer": consumer, "ids": None if call_ids is None else list(call_ids)},
    )


def unbury(consumer: str, result_no: int) -> Statement:
    """It has heard of this one after all."""
    return Statement(
        "delete from dead_letters where consumer = %(consumer)s and result_no = %(result_no)s",
        {"consumer": consumer, "result_no": result_no},
    )


def forget(consumer: str) -> list[Statement]:
    """Its place and its dead letters: one of this name begins anew."""
    return [
        Statement("delete from dead_letters where consumer = %(consumer)s", {"consumer": consumer}),
        Statement("delete from consumer_cursors where consumer = %(consumer)s", {"consumer": consumer}),
    ]

"""Statements about consumers: which results one has not heard of, how far it is, and what was given up."""

from datetime import datetime

from runnerd.store.statement import Statement, storable


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


def waiting() -> Statement:
    """How many results each consumer has not heard of."""
    return Statement(
        """
        select consumer, moved_at, (select count(*) from job_calls c where c.result_no > k.result_no) as waiting,
               (select count(*) from dead_letters d where d.consumer = k.consumer) as dead
        from consumer_cursors k order by consumer
        """
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
    """It will not hear of this one."""
    return Statement(
        """
        insert into dead_letters (consumer, result_no, attempts, reason, at)
        values (%(consumer)s, %(result_no)s, %(attempts)s, %(reason)s, %(at)s)
        on conflict (consumer, result_no) do nothing
        """,
        {"consumer": consumer, "result_no": result_no, "attempts": attempts, "reason": storable(reason), "at": at},
    )


def dead(consumer: str | None, limit: int) -> Statement:
    """What was given up, newest first."""
    return Statement(
        """
        select d.*, c.id as call_id, c.plugin, c.outcome from dead_letters d join job_calls c using (result_no)
        where %(consumer)s::text is null or d.consumer = %(consumer)s order by d.at desc limit %(limit)s
        """,
        {"consumer": consumer, "limit": limit},
    )

"""Statements about what happened to workers, and about kill switches."""

from datetime import datetime

from runnerd.store.statement import Statement, storable


def event(plugin: str, generation: int, kind: str, detail: str, at: datetime) -> Statement:
    """One line of a worker's history: started, ready, exited, quarantined, denied syscall …"""
    return Statement(
        """
        insert into worker_events (plugin, generation, kind, detail, at)
        values (%(plugin)s, %(generation)s, %(kind)s, %(detail)s, %(at)s)
        """,
        {"plugin": plugin, "generation": generation, "kind": kind, "detail": storable(detail), "at": at},
    )


def events(plugin: str, limit: int) -> Statement:
    """The last events of a plugin's workers, newest first."""
    return Statement(
        "select * from worker_events where plugin = %(plugin)s order by id desc limit %(limit)s",
        {"plugin": plugin, "limit": limit},
    )


def last_generations() -> Statement:
    """The highest generation that each plugin has had."""
    return Statement("select plugin, max(generation) as generation from worker_events group by plugin")


def pauses() -> Statement:
    """All kill switches that are on."""
    return Statement("select scope, name, paused_by, paused_at, mode from pauses")


def pause(scope: str, name: str, by: str, at: datetime, mode: str = "paused") -> Statement:
    """Switch a scope off, or to reducing. What is paused stays so, and from reducing it goes to paused."""
    return Statement(
        """
        insert into pauses (scope, name, paused_by, paused_at, mode)
        values (%(scope)s, %(name)s, %(by)s, %(at)s, %(mode)s)
        on conflict (scope, name) do update
        set paused_by = excluded.paused_by, paused_at = excluded.paused_at, mode = excluded.mode
        where pauses.mode = 'reducing' and excluded.mode = 'paused'
        """,
        {"scope": scope, "name": name, "by": by, "at": at, "mode": mode},
    )


def resume(scope: str, name: str) -> Statement:
    """Switch a scope on again."""
    return Statement("delete from pauses where scope = %(scope)s and name = %(name)s", {"scope": scope, "name": name})

"""Statements about the cursors of cron triggers: the last slot of each that became a JobCall."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Final

from runnerd.store.statement import Bulk, Form, Statement

_MOVE: Final = Form(
    """
    insert into trigger_cursors (plugin, trigger_key, due_at)
    select * from unnest(%(plugin)s::text[], %(key)s::text[], %(due_at)s::timestamptz[])
    on conflict (plugin, trigger_key) do update set due_at = greatest(trigger_cursors.due_at, excluded.due_at)
    """,
    ("plugin", "key", "due_at"),
)


def move(plugin: str, trigger_key: str, due_at: datetime) -> Statement:
    """Remember the last slot that became a JobCall; committed together with it."""
    return Statement(
        """
        insert into trigger_cursors (plugin, trigger_key, due_at) values (%(plugin)s, %(key)s, %(due_at)s)
        on conflict (plugin, trigger_key) do update set due_at = greatest(trigger_cursors.due_at, excluded.due_at)
        """,
        {"plugin": plugin, "key": trigger_key, "due_at": due_at},
        is_independent=True,
        bulk=Bulk(_MOVE, ((plugin, trigger_key, due_at),), ("cursor", plugin, trigger_key)),
    )


def of_plugins(plugins: Sequence[str]) -> Statement:
    """The last slot that became a JobCall of each trigger that these plugins have, or had."""
    return Statement(
        "select plugin, trigger_key, due_at from trigger_cursors where plugin = any(%(plugins)s)",
        {"plugins": list(plugins)},
    )


def drop(plugin: str, kept: Collection[str] = ()) -> Statement:
    """Nobody wants the other triggers of `plugin` any more: what they miss from now on is nothing to make up for."""
    return Statement(
        "delete from trigger_cursors where plugin = %(plugin)s and trigger_key <> all(%(kept)s)",
        {"plugin": plugin, "kept": list(kept)},
    )


def drop_of_others(plugins: Collection[str]) -> Statement:
    """The same for all triggers of all plugins but these."""
    return Statement("delete from trigger_cursors where plugin <> all(%(plugins)s)", {"plugins": list(plugins)})

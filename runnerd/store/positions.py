"""Statements about producers: how far each has come. A position is moved in the transaction of the calls made of it."""

from datetime import datetime
from typing import Final

from runnerd.store.statement import Bulk, Form, Statement

_MOVE: Final = Form(
    """
    insert into producer_positions (producer, key, position, moved_at)
    select * from unnest(%(producer)s::text[], %(key)s::text[], %(position)s::text[], %(at)s::timestamptz[])
    on conflict (producer, key) do update set position = excluded.position, moved_at = excluded.moved_at
    """,
    ("producer", "key", "position", "at"),
)


def position(producer: str, key: str) -> Statement:
    """The position of what `producer` follows under `key`; no row when it has none yet."""
    return Statement(
        "select position from producer_positions where producer = %(producer)s and key = %(key)s",
        {"producer": producer, "key": key},
    )


def positions(producer: str) -> Statement:
    """All of one producer's, by key."""
    return Statement(
        "select key, position, moved_at from producer_positions where producer = %(producer)s order by key",
        {"producer": producer},
    )


def move(producer: str, key: str, position: str, at: datetime) -> Statement:
    """Remember how far it has come."""
    return Statement(
        """
        insert into producer_positions (producer, key, position, moved_at)
        values (%(producer)s, %(key)s, %(position)s, %(at)s)
        on conflict (producer, key) do update set position = excluded.position, moved_at = excluded.moved_at
        """,
        {"producer": producer, "key": key, "position": position, "at": at},
        is_independent=True,
        bulk=Bulk(_MOVE, ((producer, key, position, at),), ("position", producer, key), len(position)),
    )


def forget(producer: str, key: str) -> Statement:
    """Nobody follows it any more."""
    return Statement(
        "delete from producer_positions where producer = %(producer)s and key = %(key)s",
        {"producer": producer, "key": key},
    )

"""Statements about knobs: what an operator turned while runnerd ran, in place of the configuration's value."""

from datetime import datetime
from decimal import Decimal

from runnerd.store.statement import Statement


def turn(chain: str, name: str, value: int, by: str, at: datetime) -> Statement:
    """Set one knob of a chain; the last one to turn it stands."""
    return Statement(
        """
        insert into knobs (chain, name, value, set_by, set_at)
        values (%(chain)s, %(name)s, %(value)s, %(by)s, %(at)s)
        on conflict (chain, name) do update
        set value = excluded.value, set_by = excluded.set_by, set_at = excluded.set_at
        """,
        {"chain": chain, "name": name, "value": Decimal(value), "by": by, "at": at},
    )


def reset(chain: str) -> Statement:
    """All knobs of a chain go back to the configuration."""
    return Statement("delete from knobs where chain = %(chain)s", {"chain": chain})


def of_chain(chain: str) -> Statement:
    """The turned knobs of a chain."""
    return Statement("select * from knobs where chain = %(chain)s order by name", {"chain": chain})

"""One SQL statement with its parameters, as a value. Modules of this package build them; `Store` runs them.

After a lost connection `Store.commit` simply runs its statements again. So they are idempotent, with two exceptions:
`compare_and_set_state`, which is committed with `is_idempotent=False`, and `workers.event`, where a line that stands
twice in a history does no harm.
"""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import groupby
from typing import LiteralString


@dataclass(frozen=True, slots=True, eq=False)
class Form:
    """The set form of a statement: `sql` with one array for each of `columns`, by name. One object per kind."""

    sql: LiteralString
    columns: tuple[str, ...]
    told_by: tuple[str, ...] = ()
    """If it returns rows: the columns of one that are, in this order, the key of the statement it belongs to."""


@dataclass(frozen=True, slots=True)
class Bulk:
    """A statement as rows of its `form`, so that many of them can go as one: see `plan`."""

    form: Form
    rows: Sequence[tuple[object, ...]]
    key: Hashable = None
    """What it reads and writes; statements of two keys do not care which of them is first. None: it only appends."""
    weight: int = 0
    """The length of its long texts."""


@dataclass(frozen=True, slots=True)
class Statement:
    """`sql` with `%(name)s` placeholders."""

    sql: LiteralString
    parameters: Mapping[str, object] = field(default_factory=dict)
    is_independent: bool = False
    """It writes, returns no row, and touches no row that another independent statement of its commit looks at."""
    is_ordered: bool = False
    """It follows the ordered ones before it: two never share a statement, whose parts run in no defined order."""
    is_leading: bool = False
    """It returns rows, and touches none that an independent statement looks at which follows it in its commit."""
    bulk: Bulk | None = None
    """The same work as rows, if others like it may be done together with it."""


def join(statements: Sequence[Statement]) -> list[tuple[Statement, int]]:
    """The same work in fewer statements, each with how many it stands for: neighbours that are independent are one.

    A commit of one statement is one message to the server and needs no BEGIN: a third of our CPU time of one of three.
    """
    joined: list[tuple[Statement, int]] = []
    for key, neighbours in groupby(zip(statements, _stretches(statements), strict=True), lambda pair: pair[1]):
        group = [statement for statement, _ in neighbours]
        if key is not None and len(group) > 1:
            joined.append((_as_one(group), len(group)))
        else:
            joined += [(statement, 1) for statement in group]
    return joined


def join_leading(statements: Sequence[Statement]) -> Statement | None:
    """A leading statement and the independent ones that follow it, as one whose rows are the leading one's.

    None if that is not what a commit is made of.
    """
    leading, *others = statements
    if not others or not leading.is_leading or not all(one.is_independent for one in others):
        return None
    return None if sum(one.is_ordered for one in others) > 1 else _as_one([*others, leading])


def _stretches(statements: Sequence[Statement]) -> Iterator[int | None]:
    """A number for each independent statement, the same for those that may go as one; None for the others."""
    number, has_ordered = 0, False
    for statement in statements:
        if not statement.is_independent or (statement.is_ordered and has_ordered):
            number, has_ordered = number + 1, False
        has_ordered = has_ordered or statement.is_ordered
        yield number if statement.is_independent else None


def _as_one(group: Sequence[Statement]) -> Statement:
    parameters = {f"{n}_{name}": value for n, one in enumerate(group) for name, value in one.parameters.items()}
    return Statement(_sql_as_one(tuple(one.sql for one in group)), parameters)


@lru_cache(maxsize=256)
def _sql_as_one(texts: tuple[LiteralString, ...]) -> LiteralString:
    """PostgreSQL runs every data-modifying part of a WITH exactly once, all on one snapshot (its manual, 7.8.4)."""
    *first, last = [text.replace("%(", f"%({n}_") for n, text in enumerate(texts)]
    parts = ", ".join(f"part_{n} as ({text})" for n, text in enumerate(first))
    return f"with {parts} {last}"


def storable(text: str) -> str:
    """`text` for a reader, without NUL, which PostgreSQL does not hold: plugins choose parts of what we record."""
    return text.replace("\0", "·")

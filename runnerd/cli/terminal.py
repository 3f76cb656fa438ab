"""The console that commands print to, and its table. Colours only on a terminal; nothing is ever read as markup."""

import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from rich.console import Console
from rich.segment import Segment, Segments
from rich.table import Table
from rich.text import Text

from runnerd.text import printable

PIPE_WIDTH: Final = 200
"""Columns where there is no terminal: enough for every hash on the line of its call, so that `grep` finds both."""

ABSENT: Final = "–"
ATTENTION: Final = Text("! ", "bold yellow")
FINE: Final = Text("✓ ", "green")

STYLES: Final = {
    # states of a plugin
    "ready": "green", "starting": "yellow", "unhealthy": "yellow", "backoff": "yellow", "stopping": "yellow",
    "quarantined": "bold red", "stopped": "dim", "paused": "bold yellow", "reducing": "bold yellow",
    # outcomes of a call
    "acted": "green", "noop": "", "denied": "yellow", "failed": "red", "expired": "yellow", "dead": "bold red",
    "queued": "cyan", "decided": "cyan", "would act": "green",
    # states of an intent
    "planned": "cyan", "signed": "cyan", "sent": "cyan", "included": "cyan", "final": "green", "reverted": "red",
    "cancelled": "yellow", "unresolved": "bold yellow",
    # states of a node
    "in": "green", "probation": "yellow", "out": "red",
    # health
    "healthy": "green", "degraded": "bold yellow", "down": "bold red",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a listing. The flexible ones give way when the terminal is narrow."""

    title: str
    is_number: bool = False
    is_flexible: bool = False
    max_width: int | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a listing, and whole lines below it."""

    cells: tuple[Text, ...]
    below: tuple[Text, ...] = ()


def open_console() -> Console:
    """The console on stdout, as wide as the terminal (or COLUMNS)."""
    is_terminal = sys.stdout.isatty()
    width = None if is_terminal or "COLUMNS" in os.environ else PIPE_WIDTH
    return Console(highlight=False, markup=False, emoji=False, width=width, soft_wrap=False)


def cell(text: str, style: str = "") -> Text:
    """One line of text that is cut with an ellipsis where the room ends."""
    return Text(printable(text), style=style, no_wrap=True, overflow="ellipsis")


def word(text: str) -> Text:
    """A state or an outcome, in its colour."""
    return cell(text, STYLES.get(text, ""))


def uncut(text: str, style: str = "") -> Text:
    """One line that is never cut nor broken, so that a hash can be copied whole."""
    return Text(printable(text), style=style, no_wrap=True, overflow="ignore")


def show_listing(console: Console, columns: Sequence[Column], rows: Iterable[Row], indent: int = 2) -> None:
    """Print aligned columns under their titles; each row takes one line, then its lines below."""
    rows = list(rows)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim", show_edge=False)
    for column in columns:
        table.add_column(
            column.title,
            justify="right" if column.is_number else "left",
            no_wrap=not column.is_flexible,
            overflow="ellipsis",
            max_width=column.max_width,
        )
    for row in rows:
        table.add_row(*row.cells)
    lines = console.render_lines(table, pad=False)
    for index, line in enumerate(lines):
        console.print(Segments([*_without_trailing_room(line), Segment.line()]), end="")
        if index:
            for text in rows[index - 1].below:
                show_line(console, text, indent)


def show_line(console: Console, text: Text, indent: int = 0) -> None:
    """Print one line, cut or not as the text says."""
    room = max(1, console.width - indent)
    if text.overflow != "ignore":
        text = text.copy()
        text.truncate(room, overflow="ellipsis")
    console.print(Text.assemble(" " * indent, text), no_wrap=True, overflow="ignore", crop=False)


def show_wrapped(console: Console, text: Text, indent: int = 0, prefix: Text | None = None) -> None:
    """Print a paragraph: whole, broken between words. Lines after the first stand below the end of `prefix`."""
    prefix = prefix or Text()
    margin = indent + prefix.cell_len
    lines = text.wrap(console, max(20, console.width - margin), overflow="fold", no_wrap=False)
    for number, line in enumerate(lines):
        line.rstrip()
        shown = Text.assemble(" " * margin, line) if number else Text.assemble(" " * indent, prefix, line)
        console.print(shown, no_wrap=True, overflow="ignore", crop=False)


def _without_trailing_room(line: list[Segment]) -> list[Segment]:
    """The last column is padded like the others; what is copied from a terminal should not be."""
    kept = list(line)
    while kept and not kept[-1].text.strip():
        kept.pop()
    if kept:
        kept[-1] = Segment(kept[-1].text.rstrip(), kept[-1].style)
    return kept

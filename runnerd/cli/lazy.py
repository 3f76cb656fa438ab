"""A click group whose commands are imported when they are called: `status` does not pay for what `doctor` needs.

The table holds each command's short help as well: `--help` and shell completion of names import no command at all.
"""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import click
from click.shell_completion import CompletionItem


@dataclass(frozen=True, slots=True)
class Entry:
    """`name` on the command line, the module whose `command` it is, and its line in the list."""

    name: str
    module: str
    summary: str


Section: TypeAlias = tuple[str, Sequence[Entry]]


class LazyGroup(click.Group):
    """Lists its commands in titled sections, in the order given."""

    def __init__(self, *args: Any, sections: Sequence[Section] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sections = tuple(sections)
        self.entries = {entry.name: entry for _, entries in self.sections for entry in entries}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """See click.Group."""
        return list(self.entries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command. None if there is none of that name."""
        entry = self.entries.get(cmd_name)
        if entry is None:
            return None
        command: click.Command = importlib.import_module(entry.module).command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click.Group does; an unknown name is answered with the nearest one and all that are allowed."""
        name, command, rest = args[0], self.get_command(ctx, args[0]), args[1:]
        if command is None and not ctx.resilient_parsing:
            if name.startswith("-"):
                self.parse_args(ctx, args)
            raise click.exceptions.NoSuchCommand(
                name,
                f"there is no command {name!r}; allowed: {', '.join(self.entries)}.",
                possibilities=self.entries,
                ctx=ctx,
            )
        return name if command else None, command, rest

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The sections, from the table alone."""
        width = max(len(name) for name in self.entries)
        for title, entries in self.sections:
            with formatter.section(title):
                formatter.write_dl([(entry.name.ljust(width), entry.summary) for entry in entries])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Names and summaries, from the table alone; then the group's own options."""
        names = [
            CompletionItem(entry.name, help=entry.summary)
            for entry in self.entries.values()
            if entry.name.startswith(incomplete)
        ]
        return [*names, *click.Command.shell_complete(self, ctx, incomplete)]

"""What `pause` and `resume` are about: exactly one of a plugin, a vault, everything."""

from dataclasses import dataclass

import click


@dataclass(frozen=True, slots=True)
class Scope:
    """As the control socket wants it."""

    kind: str
    name: str


def chosen_scope(plugin: str | None, vault: str | None, is_all: bool) -> Scope:
    """The one scope that was given. Raises click.UsageError for none or several: a kill switch guesses nothing."""
    given = [
        *([Scope("plugin", plugin)] if plugin is not None else []),
        *([Scope("vault", vault)] if vault is not None else []),
        *([Scope("all", "*")] if is_all else []),
    ]
    if len(given) != 1:
        raise click.UsageError("give exactly one of PLUGIN, --vault VAULT and --all")
    return given[0]

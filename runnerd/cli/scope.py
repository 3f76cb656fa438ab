"""What `pause`, `reduce` and `resume` are about: exactly one of a plugin, a vault, everything, or an action."""

from dataclasses import dataclass

import click


@dataclass(frozen=True, slots=True)
class Scope:
    """As the control socket wants it."""

    kind: str
    name: str


def chosen_scope(plugin: str | None, vault: str | None, is_all: bool, action: str | None = None) -> Scope:
    """The one scope that was given. Raises click.UsageError for none or several: a kill switch guesses nothing."""
    given = [
        *([Scope("plugin", plugin)] if plugin is not None else []),
        *([Scope("vault", vault)] if vault is not None else []),
        *([Scope("all", "*")] if is_all else []),
        *([Scope("action", action)] if action is not None else []),
    ]
    if len(given) != 1:
        raise click.UsageError(
            "give exactly one of PLUGIN, --vault VAULT and --all, or --action VAULT.ACTION; --keeper is as --vault"
        )
    return given[0]

"""Kill switches at three scopes: a plugin, a vault, everything. Durable; asked before each call and each execution."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from psycopg.rows import DictRow


class Scope(StrEnum):
    """What a pause covers. The name of scope `all` is `*`."""

    PLUGIN = "plugin"
    VAULT = "vault"
    ALL = "all"


EVERYTHING = "*"


@dataclass(frozen=True, slots=True)
class Pause:
    """One switch that is off."""

    scope: Scope
    name: str
    paused_by: str
    paused_at: datetime

    def __str__(self) -> str:
        what = "everything is" if self.scope is Scope.ALL else f"{self.scope} {self.name} is"
        return f"{what} paused by {self.paused_by} since {self.paused_at:%Y-%m-%d %H:%M:%S} UTC"


@dataclass(slots=True)
class Pauses:
    """All switches, in memory; the owner keeps the table in step."""

    active: dict[tuple[Scope, str], Pause] = field(default_factory=dict)

    def load(self, rows: list[DictRow]) -> None:
        """Take over what the table holds."""
        for row in rows:
            self.add(Pause(Scope(row["scope"]), row["name"], row["paused_by"], row["paused_at"]))

    def add(self, pause: Pause) -> None:
        """Switch off."""
        self.active[pause.scope, pause.name] = pause

    def remove(self, scope: Scope, name: str) -> None:
        """Switch on again."""
        self.active.pop((scope, name), None)

    def of(self, plugin: str, vault: str) -> Pause | None:
        """The widest pause that covers this plugin on this vault, or None."""
        return (
            self.active.get((Scope.ALL, EVERYTHING))
            or self.active.get((Scope.VAULT, vault))
            or self.active.get((Scope.PLUGIN, plugin))
        )

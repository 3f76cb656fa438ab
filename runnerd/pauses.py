"""Kill switches at four scopes: an action, a plugin, a vault, everything; and the reducing mode of the last three.

Durable, in the table `pauses`. Asked before each call, when a Decision is judged, and again before each signature.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from psycopg.rows import DictRow


class Scope(StrEnum):
    """What a pause covers. The name of scope `all` is `*`, that of an action `VAULT.ACTION`."""

    ACTION = "action"
    PLUGIN = "plugin"
    VAULT = "vault"
    ALL = "all"


class Mode(StrEnum):
    """PAUSED: nothing passes. REDUCING: only actions that are marked `reducing = true` in the catalogue pass."""

    PAUSED = "paused"
    REDUCING = "reducing"


EVERYTHING = "*"


@dataclass(frozen=True, slots=True)
class Pause:
    """One switch that is off, or half off."""

    scope: Scope
    name: str
    paused_by: str
    paused_at: datetime
    mode: Mode = Mode.PAUSED

    def __str__(self) -> str:
        what = "everything is" if self.scope is Scope.ALL else f"{self.scope} {self.name} is"
        how = "paused" if self.mode is Mode.PAUSED else "set to reducing"
        return f"{what} {how} by {self.paused_by} since {self.paused_at:%Y-%m-%d %H:%M:%S} UTC"


@dataclass(slots=True)
class Pauses:
    """All switches, in memory; the owner keeps the table in step. `reducing` are the actions so marked, by vault."""

    active: dict[tuple[Scope, str], Pause] = field(default_factory=dict)
    reducing: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def load(self, rows: list[DictRow]) -> None:
        """Take over what the table holds."""
        for row in rows:
            self.add(Pause(Scope(row["scope"]), row["name"], row["paused_by"], row["paused_at"], Mode(row["mode"])))

    def add(self, pause: Pause) -> None:
        """Switch off; or to reducing, which never takes the place of a pause."""
        before = self.active.get((pause.scope, pause.name))
        if before is None or pause.mode is Mode.PAUSED or before.mode is Mode.REDUCING:
            self.active[pause.scope, pause.name] = pause

    def remove(self, scope: Scope, name: str) -> None:
        """Switch on again, whichever mode it was in."""
        self.active.pop((scope, name), None)

    def of(self, plugin: str, vault: str) -> Pause | None:
        """The widest pause under which this plugin does nothing at all on this vault, or None."""
        return self._widest(plugin, vault, Mode.PAUSED)

    def reducing_of(self, plugin: str, vault: str) -> Pause | None:
        """The widest switch that puts this plugin on this vault into reducing mode, or None."""
        return self._widest(plugin, vault, Mode.REDUCING)

    def of_actions(self, vault: str) -> list[Pause]:
        """The paused actions of a vault."""
        return [
            pause for (scope, name), pause in self.active.items()
            if scope is Scope.ACTION and name.startswith(f"{vault}.")
        ]  # fmt: skip

    def objection(self, plugin: str, vault: str, actions: Sequence[str]) -> str | None:
        """Why `actions` of this plugin must not be signed now, or None. Ask right before each signature.

        No action names means that nobody knows them any more: then each switch that might mean one of them holds.
        """
        pause = self.of(plugin, vault)
        if pause is not None:
            return str(pause)
        if not actions and (paused := self.of_actions(vault)):
            return f"its actions are not known, and {paused[0]}"
        for action in actions:
            pause = self.active.get((Scope.ACTION, f"{vault}.{action}"))
            if pause is not None:
                return str(pause)
        mode = self.reducing_of(plugin, vault)
        if mode is None:
            return None
        if not actions:
            return f"its actions are not known, and {mode}"
        others = [action for action in actions if action not in self.reducing.get(vault, frozenset())]
        return f"action {others[0]} is not reducing, and {mode}" if others else None

    def _widest(self, plugin: str, vault: str, mode: Mode) -> Pause | None:
        for key in ((Scope.ALL, EVERYTHING), (Scope.VAULT, vault), (Scope.PLUGIN, plugin)):
            pause = self.active.get(key)
            if pause is not None and pause.mode is mode:
                return pause
        return None

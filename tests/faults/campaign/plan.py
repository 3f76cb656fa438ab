"""The sequence of faults that a seed stands for: kinds, parameters, and how long to wait between them. Pure.

Every fault has a random generator of its own, made of the seed and its number: what one of them does at run time
cannot shift those after it. Waits are in requests that the daemon makes, not in seconds.
"""

import random
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Final

from runnerd.crash_points import CRASH_POINTS

CRASH: Final = "kill at a crash point"
WEIGHTS: Final = {
    # The node answers wrongly, late or not at all: many a second.
    "rpc timeout after accepted": 50,
    "rpc hang-up after accepted": 50,
    "rpc never sent": 40,
    "rpc refused after accepted": 40,
    "rpc refused": 40,
    "rpc other hash": 15,
    "rpc timeout": 15,
    "rpc error": 60,
    "rpc http error": 50,
    "rpc stale nonce": 60,
    "rpc null receipts": 70,
    "rpc reordered": 40,
    "rpc duplicated": 40,
    "rpc missing answer": 30,
    "rpc lagging node": 60,
    "rpc junk": 40,
    "rpc cut answer": 40,
    "rpc wrong type": 40,
    "rpc slow": 30,
    "rpc wrong chain id": 3,
    # The chain itself.
    "drop transaction": 40,
    "drop all transactions": 10,
    "reorg": 35,
    "blocks without room": 15,
    "base fee jump": 25,
    "foreign transaction": 4,
    # Processes.
    CRASH: 62,
    "kill supervisor": 18,
    "stop supervisor": 3,
    "freeze supervisor": 10,
    "kill worker": 35,
    "kill zygote": 12,
    # The database.
    "database sessions ended": 20,
    "database answers lost": 15,
    "database silent": 6,
    "database restart": 8,
    # Time.
    "clock jump": 20,
}
REFUSALS: Final = (
    "nonce too low",
    "already known",
    "replacement transaction underpriced",
    "insufficient funds for gas * price + value",
    "transaction underpriced",
    "txpool is full",
    "internal error",
)
JUMPS_S: Final = (-3600.0, -90.0, -5.0, -0.5, 0.5, 5.0, 90.0, 3600.0, 90_000.0)
MAX_REORG: Final = 8


@dataclass(frozen=True, slots=True)
class Fault:
    """`number` counts from 0. `pause` is how many requests to wait for after it; `dice` for what is chosen on site."""

    number: int
    kind: str
    pause: int
    parameters: dict[str, object] = field(default_factory=dict)
    dice: random.Random = field(default_factory=random.Random, compare=False, repr=False)

    def __str__(self) -> str:
        details = ", ".join(f"{name} {value}" for name, value in self.parameters.items())
        return f"#{self.number} {self.kind}" + (f" ({details})" if details else "")

    def number_of(self, name: str) -> int:
        """An integer parameter."""
        value = self.parameters[name]
        assert isinstance(value, int), self
        return value

    def seconds_of(self, name: str) -> float:
        """A parameter in seconds."""
        value = self.parameters[name]
        assert isinstance(value, float), self
        return value


def plan(seed: int, *, kinds: Collection[str] = (), points: Collection[str] = ()) -> Iterator[Fault]:
    """All faults of `seed`, without end. Only of some `kinds` and at some crash `points`, if given."""
    names = [kind for kind in WEIGHTS if not kinds or kind in kinds]
    weights = [WEIGHTS[kind] for kind in names]
    order = sorted(points or CRASH_POINTS)
    random.Random(seed).shuffle(order)
    crashes = 0
    number = 0
    while True:
        dice = random.Random(f"{seed}:{number}")
        (kind,) = dice.choices(names, weights)
        parameters = _parameters(kind, dice)
        if kind == CRASH:  # in turn, so that a short run has each of them too
            parameters = {"point": order[crashes % len(order)], "count": dice.choice((1, 1, 1, 2, 3, 5))}
            crashes += 1
        yield Fault(number, kind, dice.choice((0, 1, 1, 2, 3, 5, 8)), parameters, dice)
        number += 1


def _parameters(kind: str, dice: random.Random) -> dict[str, object]:
    match kind:
        case "rpc refused" | "rpc refused after accepted":
            return {"message": dice.choice(REFUSALS)}
        case "rpc http error":
            return {"status": dice.choice((429, 500, 502, 503))}
        case "rpc stale nonce":
            return {"behind": dice.randint(1, 3)}
        case "rpc lagging node":
            return {"behind": dice.randint(1, 12), "requests": dice.randint(2, 12)}
        case "rpc slow":
            return {"seconds": round(dice.uniform(0.02, 0.35), 2)}
        case "rpc junk" | "rpc wrong type":
            return {"form": dice.randrange(5)}
        case "reorg":
            return {"depth": dice.randint(1, MAX_REORG)}
        case "blocks without room":
            return {"blocks": dice.randint(1, 5)}
        case "base fee jump":
            return {"blocks": dice.randint(1, 5)}
        case "clock jump":
            return {"seconds": dice.choice(JUMPS_S)}
        case "kill supervisor":
            return {"early": dice.random() < 0.25, "after": round(dice.uniform(0.0, 0.6), 2)}
        case "kill worker":
            return {"stopped first": dice.random() < 0.4, "all": dice.random() < 0.15}
        case "freeze supervisor":
            return {"seconds": round(dice.uniform(0.05, 0.5), 2)}
        case "database silent":
            return {"seconds": round(dice.uniform(0.05, 0.4), 2)}
        case "database restart":
            return {"signal": dice.choice(("SIGQUIT", "SIGKILL", "SIGINT"))}
        case _:
            return {}

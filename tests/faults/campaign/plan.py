"""The sequence of faults that a seed stands for: kinds, parameters, and how long to wait between them. Pure.

Every fault has a random generator of its own, made of the seed and its number: what one of them does at run time
cannot shift those after it. Waits are in requests that the daemon makes, not in seconds.
"""

import random
from collections.abc import Callable, Collection, Iterator, Mapping
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
    return {name: choose(dice) for name, choose in PARAMETERS.get(kind, {}).items()}


def _seconds(low: float, high: float) -> Callable[[random.Random], object]:
    return lambda dice: round(dice.uniform(low, high), 2)


def _whole(low: int, high: int) -> Callable[[random.Random], object]:
    return lambda dice: dice.randint(low, high)


def _chance(of_true: float) -> Callable[[random.Random], object]:
    return lambda dice: dice.random() < of_true


def _one_of(*choices: object) -> Callable[[random.Random], object]:
    return lambda dice: dice.choice(choices)


PARAMETERS: Final[Mapping[str, Mapping[str, Callable[[random.Random], object]]]] = {
    "rpc refused": {"message": _one_of(*REFUSALS)},
    "rpc refused after accepted": {"message": _one_of(*REFUSALS)},
    "rpc http error": {"status": _one_of(429, 500, 502, 503)},
    "rpc stale nonce": {"behind": _whole(1, 3)},
    "rpc lagging node": {"behind": _whole(1, 12), "requests": _whole(2, 12)},
    "rpc slow": {"seconds": _seconds(0.02, 0.35)},
    "rpc junk": {"form": _whole(0, 4)},
    "rpc wrong type": {"form": _whole(0, 4)},
    "reorg": {"depth": _whole(1, MAX_REORG)},
    "blocks without room": {"blocks": _whole(1, 5)},
    "base fee jump": {"blocks": _whole(1, 5)},
    "clock jump": {"seconds": _one_of(*JUMPS_S)},
    "kill supervisor": {"early": _chance(0.25), "after": _seconds(0.0, 0.6)},
    "kill worker": {"stopped first": _chance(0.4), "all": _chance(0.15)},
    "freeze supervisor": {"seconds": _seconds(0.05, 0.5)},
    "database silent": {"seconds": _seconds(0.05, 0.4)},
    "database restart": {"signal": _one_of("SIGQUIT", "SIGKILL", "SIGINT")},
}

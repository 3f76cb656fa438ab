"""Rolling sums: how much was used of something in the last hour, or the last day. Pure; `usage` keeps it durable.

Each call has one amount in each window. A window forgets an amount when it is as old as the window is long.
"""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

HOUR_S: Final = 3_600
DAY_S: Final = 86_400


class Measure(StrEnum):
    """What is summed up: magnitudes of an argument, wei sent, wei paid for gas, transactions."""

    ARGUMENT = "argument"
    VALUE = "value"
    GAS = "gas"
    TRANSACTIONS = "transactions"


@dataclass(frozen=True, slots=True)
class Meter:
    """One rolling sum: of what, of whom (`("plugin", NAME)`, `("argument", VAULT, ACTION, ARGUMENT)` …), how long."""

    measure: Measure
    of: tuple[str, ...]
    window_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """What one Decision takes of one measure. `action` and `argument` are empty but for Measure.ARGUMENT."""

    measure: Measure
    amount: int
    action: str = ""
    argument: str = ""


class Windows:
    """The sums of all meters that were put to use. `now` must not go back from one question to the next."""

    def __init__(self) -> None:
        self._windows: dict[Meter, _Window] = {}
        self._meters_of: dict[int, list[Meter]] = {}

    def total(self, meter: Meter, now: datetime, beside: int | None = None) -> int:
        """The sum at `now`, without what call `beside` has in it."""
        window = self._windows.get(meter)
        if window is None:
            return 0
        for call_id in window.expire(now):
            self._forget(call_id, meter)
        return window.total - (window.amount_of(beside) if beside is not None else 0)

    def put(self, meters: Iterable[Meter], call_id: int, amount: int, at: datetime) -> None:
        """Set what a call has in these meters. A call that has something there keeps its time."""
        for meter in meters:
            window = self._windows.setdefault(meter, _Window(timedelta(seconds=meter.window_s)))
            if window.put(call_id, at, amount):
                self._meters_of.setdefault(call_id, []).append(meter)

    def settle(self, measure: Measure, call_id: int, amount: int) -> None:
        """Correct what a call has in the meters of `measure`; where it was forgotten, it stays forgotten."""
        for meter in self._meters_of.get(call_id, ()):
            if meter.measure is measure:
                self._windows[meter].settle(call_id, amount)

    def amount_of(self, measure: Measure, call_id: int) -> int:
        """The most that a call has in a meter of `measure`."""
        meters = [meter for meter in self._meters_of.get(call_id, ()) if meter.measure is measure]
        return max((self._windows[meter].amount_of(call_id) for meter in meters), default=0)

    def give_back(self, call_id: int, measures: frozenset[Measure]) -> None:
        """Take a call out of the meters of `measures`."""
        for meter in [*self._meters_of.get(call_id, ())]:
            if meter.measure in measures:
                self._windows[meter].remove(call_id)
                self._forget(call_id, meter)

    def _forget(self, call_id: int, meter: Meter) -> None:
        meters = self._meters_of[call_id]
        meters.remove(meter)
        if not meters:
            del self._meters_of[call_id]


class _Window:
    """Amounts by call, oldest first. An OrderedDict, because taking the first out of a dict again and again is slow."""

    def __init__(self, length: timedelta) -> None:
        self.total = 0
        self._length = length
        self._amounts: OrderedDict[int, tuple[datetime, int]] = OrderedDict()

    def expire(self, now: datetime) -> list[int]:
        gone = []
        while self._amounts:
            call_id, (at, amount) = next(iter(self._amounts.items()))
            if at > now - self._length:
                break
            del self._amounts[call_id]
            self.total -= amount
            gone.append(call_id)
        return gone

    def put(self, call_id: int, at: datetime, amount: int) -> bool:
        """Whether it is new here."""
        if call_id in self._amounts:
            self.settle(call_id, amount)
            return False
        self._amounts[call_id] = (at, amount)
        self.total += amount
        return True

    def settle(self, call_id: int, amount: int) -> None:
        at, before = self._amounts[call_id]
        self._amounts[call_id] = (at, amount)
        self.total += amount - before

    def amount_of(self, call_id: int) -> int:
        entry = self._amounts.get(call_id)
        return entry[1] if entry else 0

    def remove(self, call_id: int) -> None:
        self.total -= self._amounts.pop(call_id)[1]

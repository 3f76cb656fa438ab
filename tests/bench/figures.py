"""Percentiles and one line of a report each: name, figure, target."""

import math
from collections.abc import Sequence
from dataclasses import dataclass


def percentile(values: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile."""
    ranked = sorted(values)
    return ranked[max(0, math.ceil(len(ranked) * percent / 100) - 1)]


def spread(values_s: Sequence[float], unit: float = 1e3) -> str:
    """`p50 1.23, p99 4.56` in milliseconds."""
    middle, tail = (percentile(values_s, percent) * unit for percent in (50, 99))
    return f"p50 {middle:.2f}, p99 {tail:.2f} ms (n={len(values_s)})"


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured thing. `is_met` None: nothing was asked for."""

    name: str
    text: str
    target: str = ""
    is_met: bool | None = None

    def __str__(self) -> str:
        mark = {True: "ok  ", False: "MISS", None: "    "}[self.is_met]
        return f"{mark} {self.name:<44} {self.text}" + (f"   [target {self.target}]" if self.target else "")

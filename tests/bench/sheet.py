"""A page of `docs/bench`: the figures of one benchmark beside their targets, and a plot of what they were made of."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import LogLocator, NullFormatter

from tests.bench.figures import Figure

DIRECTORY = Path(__file__).resolve().parents[2] / "docs/bench"
PAGE = """\
<!-- Written by `make bench`. -->
# {title}

One run of `python -m tests.bench.{name}` on {cores} cores, Python {python}, {now} UTC. The load average of the machine
was {load:.1f} before the run: above 1 it was busy with something else as well, and the times are too long.

{intro}

{table}

![The same figures, drawn]({name}.png)
"""
Draw = Callable[[Axes], None]


@dataclass(slots=True)
class Sheet:
    """Collects what a benchmark yields, and writes it down at the end. `name`: of the module and of both files."""

    name: str
    title: str
    intro: str
    figures: list[Figure] = field(default_factory=list)
    load: float = field(default_factory=lambda: os.getloadavg()[0])
    draws: list[Draw] = field(default_factory=list)

    def add(self, name: str, text: str, target: str = "", is_met: bool | None = None) -> Figure:
        """One more line of the table."""
        self.figures.append(Figure(name, text, target, is_met))
        return self.figures[-1]

    def draw(self, draw: Draw) -> None:
        """One more panel of the plot."""
        self.draws.append(draw)

    def write(self) -> None:
        """The page and the plot."""
        DIRECTORY.mkdir(exist_ok=True)
        (DIRECTORY / f"{self.name}.md").write_text(self._page())
        mpl.use("Agg")
        drawing = Drawing(figsize=(5.5 * max(1, len(self.draws)), 4.2), layout="constrained")
        panels = drawing.subplots(1, len(self.draws), squeeze=False)
        for axes, draw in zip(panels.flat, self.draws, strict=True):
            draw(axes)
        drawing.suptitle(self.title)
        drawing.savefig(DIRECTORY / f"{self.name}.png", dpi=110)

    def _page(self) -> str:
        rows = ["| figure | measured | target | |", "| --- | --- | --- | --- |"]
        for figure in self.figures:
            met = {True: "met", False: "**missed**", None: ""}[figure.is_met]
            rows.append(f"| {figure.name.strip()} | {figure.text} | {figure.target} | {met} |")
        return PAGE.format(
            name=self.name,
            title=self.title,
            intro=self.intro.strip(),
            cores=os.cpu_count(),
            python=sys.version.split()[0],
            now=f"{datetime.now(UTC):%Y-%m-%d %H:%M}",
            load=self.load,
            table="\n".join(rows),
        )


def latencies(title: str, lines: Mapping[str, Sequence[float]]) -> Draw:
    """A panel: of each line the share of its values (seconds) that were as fast or faster."""

    def draw(axes: Axes) -> None:
        for label, values_s in lines.items():
            ranked = sorted(value * 1e3 for value in values_s)
            axes.plot(ranked, [(i + 1) / len(ranked) for i in range(len(ranked))], label=label)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_title(title)
        axes.set_xlabel("ms")
        axes.set_ylabel("share that was as fast")
        axes.grid(visible=True, alpha=0.3)
        axes.legend(fontsize=8)

    return draw


def bars(title: str, unit: str, values: Mapping[str, float]) -> Draw:
    """A panel: one bar each."""

    def draw(axes: Axes) -> None:
        drawn = axes.bar(list(values), list(values.values()))
        axes.bar_label(drawn, fmt="{:,.0f}")
        axes.set_title(title)
        axes.set_ylabel(unit)

    return draw


def courses(title: str, unit: str, lines: Mapping[str, Sequence[tuple[float, float]]]) -> Draw:
    """A panel: values over the seconds of the run."""

    def draw(axes: Axes) -> None:
        for label, points in lines.items():
            axes.plot([at for at, _ in points], [value for _, value in points], label=label)
        axes.set_ylim(bottom=0)
        axes.set_title(title)
        axes.set_xlabel("s")
        axes.set_ylabel(unit)
        axes.grid(visible=True, alpha=0.3)
        axes.legend(fontsize=8)

    return draw

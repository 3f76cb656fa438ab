"""The same figures at 1, 10, 100 and 1,000 plugins: `docs/bench/growth.md` and `growth.png`, in one run.

What a plugin costs must not grow with their number: every figure of the table is per plugin, or of one plugin.
"""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Sheet

from tests.bench.crowd import MIB, Hold, Start, measure_hold, measure_start
from tests.bench.figures import Figure, percentile
from tests.bench.scale import DESCRIPTORS, HOLD_S, LATE_S, SIZE, WORKER_MIB, figures_of_hold, figures_of_start

DIRECTORY = Path(__file__).resolve().parents[2] / "docs/bench"
SIZES = (1, 10, 100, SIZE)
SHORT_HOLD_S = 15
ALLOWED_GROWTH = 1.5
"""Of what a plugin costs, from 10 plugins to 1,000. With one alone the fixed parts are all its own."""


@dataclass(frozen=True, slots=True)
class Row:
    """One figure at every size. `of` gives it from what was measured, in `unit`."""

    name: str
    unit: str
    of: Callable[[Start, Hold], float]
    digits: int = 2
    target: float | None = None
    is_cost: bool = False
    """It is the price of one more plugin: it may not grow with their number."""


ROWS = (
    Row("start → ready, p50", "ms", lambda start, _: percentile(start.start_s, 50) * 1e3, target=8, is_cost=True),
    Row("kill -9 → ready, p50", "ms", lambda start, _: percentile(start.restart_s, 50) * 1e3, target=10, is_cost=True),
    Row("all ready, per plugin", "ms", lambda start, _: start.first_to_last_s / start.size * 1e3, is_cost=True),
    Row("worker, PSS", "MiB", lambda start, _: start.worker_pss / MIB, target=WORKER_MIB, is_cost=True),
    Row("worker, private", "MiB", lambda start, _: start.worker_private / MIB, is_cost=True),
    Row("zygote, PSS", "MiB", lambda start, _: start.zygote_pss / MIB),
    Row("supervisor, PSS", "MiB", lambda start, _: start.supervisor_pss / MIB, digits=0),
    Row("supervisor's descriptors, per plugin", "", lambda start, _: start.descriptors, target=DESCRIPTORS),
    Row("1 Hz cron, late p50", "ms", lambda _, hold: percentile(hold.late_s, 50) * 1e3),
    Row("1 Hz cron, late p99", "ms", lambda _, hold: percentile(hold.late_s, 99) * 1e3, target=LATE_S * 1e3),
    Row("1 Hz cron, slots missed", "", lambda _, hold: hold.missed, digits=0),
    Row("supervisor's CPU, per decision", "ms", lambda _, hold: hold.cpu_share / hold.size * 1e3, is_cost=True),
)
PLOTTED = (
    ("Time of one plugin", "ms", ("start → ready, p50", "kill -9 → ready, p50", "all ready, per plugin")),
    ("Memory of one plugin", "MiB", ("worker, PSS", "worker, private")),
    ("1 Hz cron on all", "ms late", ("1 Hz cron, late p50", "1 Hz cron, late p99")),
    ("Supervisor, per decision", "ms of CPU", ("supervisor's CPU, per decision",)),
)

PAGE = """\
<!-- Written by `make bench`. -->
# How the cost grows with the number of plugins

One run of `make bench` on {cores} cores, Python {python}, {now} UTC. The last columns are the number of plugins: each
is a sandboxed process of its own, with a `decide` that answers with a Noop. Lateness is from a slot until the context
for `decide` is made. The cron is spread through the second (`cron_spread_s = 1`), and held for {hold_s} s with {size:,}
plugins, for {short_hold_s} s with fewer. The load average of the machine was {load:.1f} before the run: above 1 it was
busy with something else as well, and the times are too long.

{table}

PSS counts a page that n processes share as an n-th: with one plugin, half of the zygote is counted as the worker's. The
descriptors are all those of the supervisor, and its CPU includes the polling of a node 10 times a second: divided by
one plugin, they are that plugin's.

![The same figures as lines over the number of plugins](growth.png)
"""

Measured = Sequence[tuple[Start, Hold]]


def measure_growth(on_start: Callable[[Start], None] = lambda _: None) -> Iterator[Figure]:
    """Each size in a world of its own; the figures of the largest beside their targets. Writes the page and the plot.

    `on_start` gets each start, for who compares with it.
    """
    measured: list[tuple[Start, Hold]] = []
    load, _, _ = os.getloadavg()
    for size in SIZES:
        start = measure_start(size)
        on_start(start)
        # Spread through the second: on one millisecond, a thousand would wait for each other whatever we do.
        hold = measure_hold(size, HOLD_S if size == SIZE else SHORT_HOLD_S, spread_s=1)
        measured.append((start, hold))
        yield Figure(f"{size:,} plugins", ", ".join(_shown(row, start, hold, with_name=True) for row in ROWS[:4]))
    yield from figures_of_start(measured[-1][0])
    yield from figures_of_hold(measured[-1][1])
    for row in ROWS:
        if row.is_cost:
            few, many = row.of(*measured[1]), row.of(*measured[-1])
            yield Figure(
                f"growth 10 -> {SIZE:,}: {row.name}", f"{many / few:.2f} x", "<= 1.5 x", many <= ALLOWED_GROWTH * few
            )
    write(measured, load)


def write(measured: Measured, load: float) -> None:
    """The page and the plot."""
    DIRECTORY.mkdir(exist_ok=True)
    (DIRECTORY / "growth.md").write_text(_page(measured, load))
    _plot(measured).savefig(DIRECTORY / "growth.png", dpi=110)


def _shown(row: Row, start: Start, hold: Hold, *, with_name: bool = False) -> str:
    value = f"{row.of(start, hold):.{row.digits}f}"
    return f"{row.name} {value} {row.unit}".strip() if with_name else value


def _page(measured: Measured, load: float) -> str:
    head = "| figure | unit | target | " + " | ".join(f"{start.size:,}" for start, _ in measured) + " |"
    rule = "| --- | --- | ---: |" + " ---: |" * len(measured)
    rows = [
        f"| {row.name} | {row.unit} | {'' if row.target is None else f'≤ {row.target:g}'} | "
        + " | ".join(_shown(row, start, hold) for start, hold in measured)
        + " |"
        for row in ROWS
    ]
    return PAGE.format(
        cores=os.cpu_count(),
        python=sys.version.split()[0],
        now=f"{datetime.now(UTC):%Y-%m-%d %H:%M}",
        hold_s=HOLD_S,
        size=SIZE,
        load=load,
        short_hold_s=SHORT_HOLD_S,
        table="\n".join([head, rule, *rows]),
    )


def _plot(measured: Measured) -> Sheet:
    mpl.use("Agg")
    sheet = Sheet(figsize=(11, 7.5), layout="constrained")
    by_name = {row.name: row for row in ROWS}
    grid = sheet.subplots(2, 2)
    for axes, (title, unit, names) in zip(grid.flat, PLOTTED, strict=True):
        _draw(axes, title, unit, [by_name[name] for name in names], measured)
    sheet.suptitle("What one sandboxed plugin costs, by their number")
    return sheet


def _draw(axes: Axes, title: str, unit: str, rows: Sequence[Row], measured: Measured) -> None:
    sizes = [start.size for start, _ in measured]
    for row in rows:
        (line,) = axes.plot(sizes, [row.of(*one) for one in measured], marker="o", label=row.name)
        if row.target is not None:
            axes.axhline(
                row.target, color=line.get_color(), linestyle=":", linewidth=1.2, label=f"target {row.target:g}"
            )
    axes.set_xscale("log")
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.set_title(title)
    axes.set_xlabel("plugins")
    axes.set_ylabel(unit)
    axes.grid(visible=True, alpha=0.3)
    axes.legend(fontsize=8)


if __name__ == "__main__":
    for figure in measure_growth():
        print(figure, flush=True)

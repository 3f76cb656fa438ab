"""A thousand plugins on this machine: the figures of one start and one hold, beside their targets."""

from collections.abc import Iterator

from tests.bench.crowd import MIB, Hold, Start, measure_hold, measure_start
from tests.bench.figures import Figure, percentile, spread

SIZE = 1_000
HOLD_S = 60
READY_S = 6.0
WORKER_MIB = 3.3
SUPERVISOR_MIB = 250
DESCRIPTORS = 12
LATE_S = 0.1


def figures_of_start(start: Start) -> Iterator[Figure]:
    """How soon they run, and what they hold."""
    name = f"{start.size:,} plugins"
    yield Figure(
        f"{name}: exec of runnerd -> all ready", f"{start.all_ready_s:.2f} s", "<= 6 s", start.all_ready_s <= READY_S
    )
    yield Figure("  first worker's start -> last ready", f"{start.first_to_last_s:.2f} s")
    worker = start.worker_pss / MIB
    yield Figure("  PSS per worker", f"{worker:.2f} MiB", f"<= {WORKER_MIB} MiB", worker <= WORKER_MIB)
    yield Figure("  private memory per worker", f"{start.worker_private / MIB:.2f} MiB")
    supervisor = max(start.supervisor_rss, start.supervisor_pss) / MIB
    yield Figure(
        "  supervisor, RSS and PSS",
        f"{start.supervisor_rss / MIB:.0f} and {start.supervisor_pss / MIB:.0f} MiB",
        f"<= {SUPERVISOR_MIB} MiB",
        supervisor <= SUPERVISOR_MIB,
    )
    yield Figure("  zygote, PSS", f"{start.zygote_pss / MIB:.1f} MiB")
    yield Figure(
        "  descriptors per worker in the supervisor",
        f"{start.descriptors:.2f}",
        f"<= {DESCRIPTORS}",
        start.descriptors <= DESCRIPTORS,
    )
    yield Figure("  start -> ready", spread(start.start_s))
    yield Figure("  kill -9 -> ready again", spread(start.restart_s))


def figures_of_hold(hold: Hold) -> Iterator[Figure]:
    """How punctual their cron is."""
    name = f"{hold.size:,} plugins at 1 Hz for {hold.seconds} s"
    p99 = percentile(hold.late_s, 99) if hold.late_s else float("inf")
    yield Figure(f"{name}: late by", spread(hold.late_s or [p99]), "p99 <= 100 ms", p99 <= LATE_S)
    yield Figure("  slots without a Decision", f"{hold.missed} of {hold.wanted:,}", "none", hold.missed == 0)
    yield Figure("  CPU of the supervisor", f"{hold.cpu_share:.0%} of a core")


if __name__ == "__main__":
    for figure in figures_of_start(measure_start(SIZE)):
        print(figure, flush=True)
    for figure in figures_of_hold(measure_hold(SIZE, HOLD_S, spread_s=1)):
        print(figure, flush=True)

"""All benchmarks of the triggers in one run, on one node and one PostgreSQL: `python -m tests.bench.triggers`."""

from collections.abc import Iterator

from tests.bench.arena import open_arena
from tests.bench.burst import measure_burst
from tests.bench.catchup import measure_catchup
from tests.bench.figures import Figure
from tests.bench.notify import measure_notify
from tests.bench.reaction import measure_reaction
from tests.bench.sustained import measure_sustained


def measure_triggers() -> Iterator[Figure]:
    """Each writes a page of its own."""
    with open_arena() as arena:
        for measure in (measure_notify, measure_reaction, measure_burst, measure_catchup, measure_sustained):
            yield from measure(arena)


if __name__ == "__main__":
    for figure in measure_triggers():
        print(figure, flush=True)

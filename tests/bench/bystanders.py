"""How much later quiet plugins are beside loud ones: `python -m tests.bench.bystanders`.

Runs tests/hostile/test_bystanders.py, once and for longer, and takes the figures that it prints.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.bench.figures import Figure

REPOSITORY: Final = Path(__file__).resolve().parents[2]
MAX_RATIO: Final = 1.5
RUN_S: Final = os.environ.get("BYSTANDER_S", "20")


def measure_bystanders() -> Iterator[Figure]:
    """Both runs, and their ratio."""
    environment = {**os.environ, "BYSTANDER_S": RUN_S, "BYSTANDER_ATTEMPTS": "1", "BYSTANDER_RATIO": "1000"}
    command = [sys.executable, "-m", "pytest", "-q", "-s", "-n", "0", "tests/hostile/test_bystanders.py"]
    ended = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    ratio = re.search(r"p99 ratio ([0-9.]+)", ended.stdout)
    if ended.returncode or ratio is None:
        raise RuntimeError(f"the bystanders were not measured:\n{ended.stdout[-2_000:]}{ended.stderr[-2_000:]}")
    for name in ("quiet", "loud"):
        found = re.search(rf"^{name}: +(.*)$", ended.stdout, re.MULTILINE)
        yield Figure(f"16 plugins at 10 Hz, {name}", found[1] if found else "")
    yield Figure("  p99 beside 11 loud ones, ratio", ratio[1], f"<= {MAX_RATIO}", float(ratio[1]) <= MAX_RATIO)


if __name__ == "__main__":
    for figure in measure_bystanders():
        print(figure, flush=True)

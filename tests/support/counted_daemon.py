"""`runnerd` that tells what it holds: `python -m tests.support.counted_daemon FILE --config FILE`.

On SIGUSR1 it writes the number of its asyncio tasks, and of objects by type, into FILE. Production has no such way in.
"""

import asyncio
import gc
import json
import os
import signal
import sys
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

from runnerd.cli.daemon import main
from tests.support.scene import wait_for


def counted(path: Path) -> list[str]:
    """The command to start it."""
    return [sys.executable, "-m", __spec__.name, str(path)]


def ask_counts(pid: int, path: Path) -> dict[str, Any]:
    """`tasks`: names of the running ones; `objects`: how many there are of each type."""
    path.unlink(missing_ok=True)
    os.kill(pid, signal.SIGUSR1)
    wait_for(path.exists, "the counts")
    counts: dict[str, Any] = json.loads(path.read_text())
    return counts


def _count(path: Path) -> None:
    gc.collect()
    tasks = sorted(task.get_name() for task in asyncio.all_tasks())
    objects = Counter(f"{type(found).__module__}.{type(found).__qualname__}" for found in gc.get_objects())
    unfinished = path.with_suffix(".new")
    unfinished.write_text(json.dumps({"tasks": tasks, "objects": objects}))
    unfinished.replace(path)


if __name__ == "__main__":
    target = Path(sys.argv.pop(1))

    def on_signal(number: int, frame: FrameType | None) -> None:
        _count(target)

    signal.signal(signal.SIGUSR1, on_signal)
    sys.exit(main())

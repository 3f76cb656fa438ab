"""The real `runnerd`, with a sampling profiler of its CPU time: `python -m tests.bench.sampler OUT --config FILE`.

SIGUSR1 starts the samples, SIGUSR2 writes OUT and stops them. Kernel time of a system call counts for the frame that
made it. No thread, no trace function: what is measured runs as fast as without, but for a stack walk each 4 ms.
"""

import json
import signal
import sys
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Final

from runnerd.cli.daemon import main

INTERVAL_S: Final = 0.001
"""Of CPU time; the kernel rounds it up to its tick."""

LAYERS: Final = (
    ("log records", ("/logging/", "runnerd/log.py", "/json/")),
    ("metrics", ("prometheus_client", "runnerd/services/metrics.py")),
    ("psycopg", ("/psycopg/", "psycopg_binary", "psycopg_pool")),
    ("audit records", ("runnerd/store/audit.py",)),
    ("statements, group commit", ("runnerd/store/",)),
    ("the chain's head", ("runnerd/chain/", "runnerd/network.py", "aiohttp", "runnerd/vaults/snapshot.py")),
    ("link to the worker, codec", ("runnerd/supervisor/link.py", "runnerd/supervisor/zmtp.py", "protocol/")),
    ("host and caller", ("runnerd/supervisor/",)),
    ("executor, results", ("runnerd/executor/", "runnerd/routing/results.py")),
    ("producer, router", ("runnerd/triggers/", "runnerd/routing/router.py")),
    ("tasks", ("runnerd/tasks.py", "asyncio/")),
)
"""Whose time a sample is: that of the innermost frame which belongs to one of these."""


class Sampler:
    """Counts samples by layer and by function."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._layers: Counter[str] = Counter()
        self._functions: Counter[str] = Counter()

    def start(self, *_: object) -> None:
        """From now on."""
        signal.signal(signal.SIGPROF, self._sample)
        signal.setitimer(signal.ITIMER_PROF, INTERVAL_S, INTERVAL_S)

    def stop(self, *_: object) -> None:
        """No more; write what there is."""
        signal.setitimer(signal.ITIMER_PROF, 0)
        written = self._out.with_suffix(".part")
        written.write_text(json.dumps({"layers": dict(self._layers), "functions": dict(self._functions)}))
        written.rename(self._out)

    def _sample(self, _: int, frame: FrameType | None) -> None:
        leaf, layer = frame, None
        while frame is not None and layer is None:
            layer = layer_of(frame.f_code.co_filename)
            frame = frame.f_back
        self._layers[layer or "the event loop"] += 1
        if leaf is not None:
            file, name = "/".join(Path(leaf.f_code.co_filename).parts[-2:]), leaf.f_code.co_qualname
            if file == "<string>":  # made by dataclasses
                name = f"{type(leaf.f_locals.get('self')).__name__}.{leaf.f_code.co_name}"
            self._functions[f"{file}:{name}  [{layer or 'the event loop'}]"] += 1


def layer_of(file: str) -> str | None:
    """The layer that a source file belongs to."""
    return next((layer for layer, parts in LAYERS if any(part in file for part in parts)), None)


if __name__ == "__main__":
    sampler = Sampler(Path(sys.argv.pop(1)))
    signal.signal(signal.SIGUSR1, sampler.start)
    signal.signal(signal.SIGUSR2, sampler.stop)
    main()

"""The real runnerd with a weak zygote: `weak_daemon.py LAYER --config FILE`. See `weak_zygote`; for `prove` alone."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runnerd.cli.daemon import main
from runnerd.supervisor import zygote

WEAK_ZYGOTE = str(Path(__file__).with_name("weak_zygote.py"))


def weaken(layer: str) -> None:
    """Have the supervisor start the weak zygote; without a clean start, with its own environment as well."""
    start = zygote.Zygote.start

    async def start_weak(*, program: Sequence[str], **how: Any) -> zygote.Zygote:
        assert program == zygote.PROGRAM, "an interpreter of a plugin's own has a zygote that is not weak"
        return await start(program=(WEAK_ZYGOTE, layer), **how)

    zygote.Zygote.start = start_weak  # type: ignore[method-assign, assignment]
    if layer == "clean_start":
        zygote.ENVIRONMENT = dict(os.environ)  # type: ignore[misc]


if __name__ == "__main__":
    weaken(sys.argv.pop(1))
    main()

"""The real runnerd with a weak zygote: `weak_daemon.py LAYER --config FILE`. See `weak_zygote`; for `prove` alone."""

import os
import sys
from pathlib import Path

from runnerd.cli.daemon import main
from runnerd.supervisor import zygote

WEAK_ZYGOTE = str(Path(__file__).with_name("weak_zygote.py"))


def weaken(layer: str) -> None:
    """Have the supervisor start the weak zygote; without a clean start, with its own environment as well."""
    zygote.PROGRAM = (WEAK_ZYGOTE, layer)  # type: ignore[misc]
    defaults = zygote.Zygote.start.__func__.__kwdefaults__  # type: ignore[attr-defined]
    defaults["program"] = zygote.PROGRAM
    if layer == "clean_start":
        zygote.ENVIRONMENT = dict(os.environ)  # type: ignore[misc]


if __name__ == "__main__":
    weaken(sys.argv.pop(1))
    main()

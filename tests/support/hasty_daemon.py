"""`runnerd` with other worker constants: `python -m tests.support.hasty_daemon NAME=SECONDS... --config FILE`.

What takes tens of seconds by design, such as a missed Pong, takes less than one here. Nothing else is different.
"""

import sys
from typing import Final

from runnerd.cli.daemon import main
from runnerd.supervisor import worker

KNOWN: Final = ("PING_EVERY_S", "PONG_DEADLINE_S", "ABORT_S")


def hasty(**seconds: float) -> list[str]:
    """The command to start it."""
    return [sys.executable, "-m", __spec__.name, *(f"{name}={value}" for name, value in seconds.items())]


if __name__ == "__main__":
    settings = [argument for argument in sys.argv[1:] if argument.partition("=")[0] in KNOWN]
    for name, _, seconds in (setting.partition("=") for setting in settings):
        setattr(worker, name, float(seconds))
    sys.argv[1:] = sys.argv[1 + len(settings) :]
    sys.exit(main())

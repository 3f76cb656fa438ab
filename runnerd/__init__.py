"""The trusted side: supervisor, executor, store and everything that touches the key.

For applications that embed it: `run` and `RunnerBuilder`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runnerd.runner.builder import RunnerBuilder
    from runnerd.runner.runner import Runner, run

_HOMES = {"Runner": "runnerd.runner.runner", "RunnerBuilder": "runnerd.runner.builder", "run": "runnerd.runner.runner"}

__all__ = ["Runner", "RunnerBuilder", "__version__", "run"]

__version__ = "0.1.0"
"""Also what the package is built with; asking the installed metadata would cost every command 40 ms."""


def __getattr__(name: str) -> Any:
    """What embeds is imported when it is asked for: `runnerctl` and the workers' fork server need none of it."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)

"""The seam between a plugin's calls and its worker: what `caller` asks of the place that a worker has or has not.

`host.PluginHost` is the real one.
"""

from typing import Protocol

from protocol.messages import Hello
from runnerd.config.plugins import PluginConfig
from runnerd.supervisor import machine
from runnerd.supervisor.machine import WorkerState
from runnerd.supervisor.starvation import Watch


class Seat(Protocol):
    """The worker's place, as its host keeps it: there may be a worker on it or not."""

    name: str
    config: PluginConfig
    state: WorkerState
    declared: Hello | None

    @property
    def has_worker(self) -> bool:
        """Whether a worker that said Hello can be given a call."""

    @property
    def watch(self) -> Watch | None:
        """Of the worker's process; None while there is none."""

    def send_frame(self, frame: bytes) -> None:
        """Give it to the worker."""

    def abort_worker(self, reason: str) -> None:
        """End the worker, with its stacks written first."""

    def end_worker(self, reason: str) -> None:
        """End the worker at once."""

    def dispatch(self, event: machine.Event) -> None:
        """Tell the state machine."""

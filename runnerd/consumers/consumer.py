"""What a consumer is: it hears of each JobResult at least once, in order, at its own pace."""

from typing import Protocol

from runnerd.errors import RunExit, RunnerdError, Transient
from runnerd.store.calls import JobResult


class ConsumerError(RunnerdError):
    """A result could not be handed over. The text says why."""


class ConsumerMisconfigured(ConsumerError):
    """It cannot be opened as its table has it: mend that, or what it names."""

    exit_code = RunExit.CONFIG


class ConsumerUnavailable(ConsumerError, Transient):
    """Not now: it is tried again, after a wait that grows, until it is given up."""


class ConsumerNotReady(ConsumerError):
    """Not now, and that is not the receiver's doing: it is tried again for as long as it takes."""


class ConsumerRefused(ConsumerError):
    """Never: it goes to the dead letters at once."""


class Consumer(Protocol):
    """Where results go. `name` is that of its table in the configuration, and of its cursor."""

    name: str

    def wants(self, result: JobResult) -> bool:
        """Whether this one is for it at all."""

    async def consume(self, result: JobResult) -> None:
        """Hand it over. It may be the second time: receivers know a result by the id of its call.

        Raises ConsumerUnavailable, ConsumerNotReady, ConsumerRefused. Whatever else it raises is a defect, and
        treated as ConsumerUnavailable. It is cancelled after 30 seconds, and then tried again.
        """

    async def close(self) -> None:
        """Give back connections."""

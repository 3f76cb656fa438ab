"""What can be wrong with a producer. `producers` retries the first kind and gives up on the second."""

from runnerd.errors import RunnerdError, Transient


class ProducerError(RunnerdError):
    """A producer cannot go on. The text says what is wrong, for the operator."""


class ProducerUnavailable(ProducerError, Transient):
    """What it follows is away, and may come back: it is started again, after a wait that grows."""


class ProducerBroken(ProducerError):
    """It will never work as it is configured. It stays down, its plugins are called by the others as before."""

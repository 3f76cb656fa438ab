"""What `status` says of a producer. Part of `control.messages`."""

from msgspec import Struct


class ProducerStatus(Struct, frozen=True, kw_only=True):
    """What fires one kind of trigger: whether it runs, why not, and how far it has come, in words."""

    name: str
    state: str
    reason: str
    progress: str

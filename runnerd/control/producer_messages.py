"""What `status` says about producers. Part of `control.messages`."""

from msgspec import Struct


class ProducerStatus(Struct, frozen=True, kw_only=True):
    """One producer of calls: `running`, `retrying`, `broken`, `ended` or `stopped`, why, and how far it has come."""

    name: str
    state: str
    reason: str
    progress: str

"""Names of the moments at which a `kill -9` matters most: just before and just after each durable step.

`reached` does nothing in production. Nothing but a launcher of the tests, which installs a listener before the daemon's
main runs, can make it do anything: there is no key, no variable and no command for it (docs/adr/0019).
"""

from collections.abc import Callable
from typing import Final

CRASH_POINTS: Final = (
    # The end of every group of commits, whatever is in it.
    "store.committing",
    "store.committed",
    # A JobCall, with its trigger's cursor.
    "call.storing",
    "call.stored",
    # Events of the outbox were read, and nothing is stored of that.
    "outbox.read",
    # A worker ended while it decided a call.
    "blame.stored",
    # A Decision with its intent.
    "decision.storing",
    "decision.stored",
    # The outcome of a call, with the end of its intent if it has one.
    "finish.storing",
    "finish.stored",
    # A nonce with the first bytes that were signed with it.
    "attempt.signed",
    "attempt.stored",
    # Fresh bytes at a nonce that was allotted before.
    "replacement.signed",
    "replacement.stored",
    # A no-op that cancels an intent, with why.
    "cancel.stored",
    # A transaction of the operator that is not ours: seen, adopted, proof of death of an intent; a gap it left.
    "stranger.stored",
    "adopted.stored",
    "death.stored",
    "filler.stored",
    # The bytes go to the node.
    "broadcast.sending",
    "broadcast.answered",
    "acceptance.stored",
    # What the chain shows of an intent that has not ended.
    "inclusion.storing",
    "inclusion.stored",
    "fallen.stored",
    # The start: nonces of the wallets, and what a former process left.
    "wallet.storing",
    "wallet.stored",
    "resume.done",
)
"""Every name that the code passes to `reached`; a test compares the two."""

_listeners: list[Callable[[str], None]] = []


def reached(name: str) -> None:
    """The process is at the crash point `name`, one of CRASH_POINTS."""
    for listener in _listeners:
        listener(name)


def listen(listener: Callable[[str], None]) -> None:
    """Call `listener` at every crash point from now on. For the tests' launcher alone."""
    _listeners.append(listener)

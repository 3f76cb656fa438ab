"""What can be seen of an intent, and what may have to be done about it: the words of `intent.observe`.

Only an observation that proves something changes a state: an RPC error or a missing receipt proves nothing.
"""

from dataclasses import dataclass
from typing import TypeAlias

from runnerd.executor.wanted import Attempt, Cancellation
from runnerd.store.calls import JobOutcome

# --- observations ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SimulationReverted:
    """It would fail at block `block`.

    `is_breach`: it would succeed, but not have the effects that the plugin expects, or nobody can say whether it would.
    `is_privileged`: it would succeed for our wallet and not for others, and a keeper may do only what all may do.
    """

    reason: str
    block: int
    is_breach: bool = False
    is_privileged: bool = False

    @property
    def is_refusal(self) -> bool:
        """It would not revert: it is we who do not want it."""
        return self.is_breach or self.is_privileged


@dataclass(frozen=True, slots=True)
class Signed:
    """An attempt is stored, durably, and may be broadcast. A no-op is stored together with why."""

    nonce: int
    attempt: Attempt
    cancellation: Cancellation | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """A node said that it has this transaction."""

    hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Mined:
    """A receipt was seen, when the node's head was `head` and its last finalized block `finalized`.

    `is_agreed`: a quorum of nodes has this very receipt. Without it nothing becomes final.
    """

    hash: str
    block: int
    block_hash: str
    is_success: bool
    head: int
    gas_used: int
    effective_gas_price_wei: int
    finalized: int | None = None
    is_agreed: bool


@dataclass(frozen=True, slots=True)
class NotSeen:
    """No receipt for any attempt, when the node's head was `head`. Proves nothing.

    `in_turn_since`: the block from which on no lower nonce of the wallet was waiting, or None while one is: only the
    lowest is replaced, since higher fees do not help one that waits for another.
    """

    head: int
    in_turn_since: int | None = None


@dataclass(frozen=True, slots=True)
class NonceTaken:
    """The chain's nonce is past ours at head, and no attempt of ours has a receipt."""

    head: int


@dataclass(frozen=True, slots=True)
class Died:
    """Proof of death: transaction `by`, which is not ours, has our nonce, final, and a quorum of nodes says so."""

    by: str
    block: int


@dataclass(frozen=True, slots=True)
class Stale:
    """It must not take effect any more: it would revert now, or somebody who may do so asked for its end."""

    cancellation: Cancellation


Observation: TypeAlias = SimulationReverted | Signed | Accepted | Mined | NotSeen | NonceTaken | Died | Stale


# --- effects ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Broadcast:
    """Send the stored bytes of this attempt, which were simulated a moment ago."""

    attempt: Attempt


@dataclass(frozen=True, slots=True)
class Push:
    """Simulate again at head; if it still holds, send the same bytes again, or a replacement if that `is_due`."""

    is_due: bool


@dataclass(frozen=True, slots=True)
class Cancel:
    """Sign a no-op at the intent's nonce, store it with the reason, and send it."""

    cancellation: Cancellation


@dataclass(frozen=True, slots=True)
class Prove:
    """It is deep enough to be final: ask a quorum of nodes whether they have the same receipt."""


@dataclass(frozen=True, slots=True)
class Investigate:
    """Find out which transaction used our nonce."""


@dataclass(frozen=True, slots=True)
class Replan:
    """Nothing of it can take effect any more, and it is still wanted: back into the queue, for another nonce."""


@dataclass(frozen=True, slots=True)
class Finish:
    """The intent has ended; so does its call."""

    outcome: JobOutcome
    reason: str
    hash: str = ""


Effect: TypeAlias = Broadcast | Push | Cancel | Prove | Investigate | Replan | Finish

"""Requests and replies of the control socket, typed on both ends. One request per connection, one reply.

The socket's file mode is the authorisation; the caller's uid (SO_PEERCRED) is the principal that the ledger records.
"""

from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

from protocol.limits import MAX_PAYLOAD_LENGTH
from protocol.trigger import DEFAULT_JOB
from runnerd.control.chain_messages import ChainRequest, Fees
from runnerd.control.consumer_messages import ConsumerReply, ConsumerRequest
from runnerd.control.dry_run_messages import DryRun
from runnerd.control.key_messages import KeyReply, KeyRequest
from runnerd.control.message import Message
from runnerd.control.outbox_messages import GetOutbox, Outbox
from runnerd.control.record_messages import GetHistory, GetRuns, GetTransactions, History, Runs, Transactions
from runnerd.control.safe_messages import Proposals, SafeRequest
from runnerd.control.service_messages import Drain
from runnerd.control.status_messages import GetStatus, Status
from runnerd.errors import RunnerdError

MAX_LINE_BYTES = 8 << 20


class ControlError(RunnerdError):
    """The supervisor refused a command, or cannot be reached. The text says which and what to do."""


class Pending(ControlError):
    """A command was not settled in time, and goes on. The text says what holds meanwhile, and where to see the end."""


# --- requests --------------------------------------------------------------------------------------------------------


class Fire(Message, frozen=True, tag="fire"):
    """Call a plugin now. With `wait_s` the reply comes when the call has its result, or the time is over.

    `key`, for idempotency: a second fire with the same one is the same call. `is_dry_run`: see `DryRun`.
    """

    plugin: str
    payload: Annotated[str, Meta(max_length=MAX_PAYLOAD_LENGTH)] = ""
    job: Annotated[str, Meta(min_length=1, max_length=64)] = DEFAULT_JOB
    key: Annotated[str, Meta(min_length=1, max_length=200)] | None = None
    is_dry_run: bool = False
    wait_s: Annotated[float, Meta(ge=0, le=86_400)] = 0.0


class Pause(Message, frozen=True, tag="pause"):
    """Switch a scope off: `action` (name VAULT.ACTION), `plugin`, `vault` (or a keeper) or `all` (name "*")."""

    scope: str
    name: str


class Reduce(Message, frozen=True, tag="reduce"):
    """Let only reducing actions pass in a scope: `plugin`, `vault` or `all` (name "*")."""

    scope: str
    name: str


class Resume(Message, frozen=True, tag="resume"):
    """Switch a scope on again, paused or reducing."""

    scope: str
    name: str


class Restart(Message, frozen=True, tag="restart"):
    """Stop a plugin's worker in order and start a new one; clears quarantine."""

    plugin: str


Request: TypeAlias = (
    GetStatus
    | Fire
    | GetRuns
    | GetTransactions
    | GetHistory
    | Pause
    | Reduce
    | Resume
    | Restart
    | Drain
    | SafeRequest
    | ChainRequest
    | GetOutbox
    | KeyRequest
    | ConsumerRequest
)


# --- replies ---------------------------------------------------------------------------------------------------------


class Fired(Message, frozen=True, tag="fired"):
    """The call stands in the ledger; its result if it was waited for and came in time. `fell_back_to`: PLUGIN/JOB of
    the router's fallback, if that has taken it."""

    call_id: int
    is_new: bool
    outcome: str | None = None
    reason: str | None = None
    transaction: str | None = None
    fell_back_to: str | None = None


class Done(Message, frozen=True, tag="done"):
    """Carried out; `text` says what, for the operator."""

    text: str


class Failure(Message, frozen=True, tag="failure"):
    """Refused; `reason` says why and what is allowed. `is_pending`: not settled in time instead, and it goes on."""

    reason: str
    is_pending: bool = False


PartReply: TypeAlias = Proposals | Fees | Outbox | KeyReply | ConsumerReply
"""Those whose messages have a module of their own."""
Reply: TypeAlias = Status | Fired | DryRun | Runs | Transactions | History | PartReply | Done | Failure

_encoder = msgspec.json.Encoder()
_requests: msgspec.json.Decoder[Request] = msgspec.json.Decoder(Request)
_replies: msgspec.json.Decoder[Reply] = msgspec.json.Decoder(Reply)


def encode(message: Request | Reply) -> bytes:
    """One line."""
    return _encoder.encode(message) + b"\n"


def decode_request(line: bytes) -> Request:
    """Raises ControlError when it is not a request."""
    try:
        return _requests.decode(line)
    except (ValueError, RecursionError) as error:
        raise ControlError(f"not a request that this runnerd knows: {error}") from error


def decode_reply(line: bytes) -> Reply:
    """Raises ControlError when it is not a reply."""
    try:
        return _replies.decode(line)
    except (ValueError, RecursionError) as error:
        raise ControlError(f"not a reply that this runnerctl knows; are both of one release? ({error})") from error

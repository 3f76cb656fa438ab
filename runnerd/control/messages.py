"""Requests and replies of the control socket, typed on both ends. One request per connection, one reply.

The socket's file mode is the authorisation; the caller's uid (SO_PEERCRED) is the principal that the ledger records.
"""

from datetime import datetime
from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta, Struct

from protocol.limits import MAX_PAYLOAD_LENGTH
from protocol.trigger import DEFAULT_JOB
from runnerd.control.chain_messages import ChainRequest, Fees, NodeStatus
from runnerd.control.consumer_messages import ConsumerReply, ConsumerRequest, ConsumerStatus
from runnerd.control.dry_run_messages import DryRun
from runnerd.control.key_messages import KeyReply, KeyRequest
from runnerd.control.outbox_messages import GetOutbox, Outbox
from runnerd.control.place_messages import KeeperStatus, VaultStatus
from runnerd.control.producer_messages import ProducerStatus
from runnerd.control.route_messages import RouteStatus
from runnerd.control.safe_messages import Proposals, SafeRequest
from runnerd.control.service_messages import Drain, ServiceStatus
from runnerd.errors import RunnerdError

MAX_LINE_BYTES = 8 << 20
Limit: TypeAlias = Annotated[int, Meta(ge=1, le=1_000)]


class ControlError(RunnerdError):
    """The supervisor refused a command, or cannot be reached. The text says which and what to do."""


class _Message(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type"):
    """Root of both directions."""


# --- requests --------------------------------------------------------------------------------------------------------


class GetStatus(_Message, frozen=True, tag="status"):
    """How is everything?"""


class Fire(_Message, frozen=True, tag="fire"):
    """Call a plugin now. With `wait_s` the reply comes when the call has its result, or the time is over.

    `key`, for idempotency: a second fire with the same one is the same call. `is_dry_run`: see `DryRun`.
    """

    plugin: str
    payload: Annotated[str, Meta(max_length=MAX_PAYLOAD_LENGTH)] = ""
    job: Annotated[str, Meta(min_length=1, max_length=64)] = DEFAULT_JOB
    key: Annotated[str, Meta(min_length=1, max_length=200)] | None = None
    is_dry_run: bool = False
    wait_s: Annotated[float, Meta(ge=0, le=86_400)] = 0.0


class GetRuns(_Message, frozen=True, tag="runs"):
    """The last calls, newest first; `plugin` None means all. `only_decided` leaves out those without a Decision."""

    plugin: str | None = None
    limit: Limit = 20
    only_decided: bool = False


class GetTransactions(_Message, frozen=True, tag="transactions"):
    """The last signed transactions, newest first."""

    limit: Limit = 20


class GetHistory(_Message, frozen=True, tag="history"):
    """What happened to a plugin's workers: starts, exits, quarantines, denied system calls; newest first."""

    plugin: str
    limit: Limit = 20


class Pause(_Message, frozen=True, tag="pause"):
    """Switch a scope off: `action` (name VAULT.ACTION), `plugin`, `vault` (or a keeper) or `all` (name "*")."""

    scope: str
    name: str


class Reduce(_Message, frozen=True, tag="reduce"):
    """Let only reducing actions pass in a scope: `plugin`, `vault` or `all` (name "*")."""

    scope: str
    name: str


class Resume(_Message, frozen=True, tag="resume"):
    """Switch a scope on again, paused or reducing."""

    scope: str
    name: str


class Restart(_Message, frozen=True, tag="restart"):
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


class PluginStatus(Struct, frozen=True, kw_only=True):
    """One plugin, for the table of `runnerctl status`. `layers` are those of the worker's sandbox, `digest`
    is its code's, and `reducing` says which switch lets only reducing actions pass."""

    name: str
    vault: str
    """Its vault; with role `keeper`, its keeper."""
    state: str
    reason: str
    generation: int
    pid: int | None
    memory_bytes: int | None
    since: datetime
    paused: str | None
    waiting: int
    deciding: int
    restarts: int
    layers: list[str]
    missing_layers: list[str]
    triggers: list[str]
    next_fire: datetime | None
    last_outcome: str | None
    last_reason: str | None
    last_at: datetime | None
    reducing: str | None = None
    digest: str | None = None
    pin: str | None = None
    role: str = "operator"
    """`operator` or `keeper`."""


class ChainStatus(Struct, frozen=True, kw_only=True):
    """One chain. `node` is the one that is read from, `head` its newest block, `knobs` those that are turned."""

    name: str
    chain_id: int
    node: str
    head: int | None
    problem: str | None
    nodes: list[NodeStatus] = []
    quorum: int = 1
    knobs: dict[str, int] = {}


class Status(_Message, frozen=True, tag="status_reply"):
    """The whole. `health` is `healthy`, or `degraded` and `problems` says why; silence is what the CLI calls down."""

    version: str
    pid: int
    health: str
    problems: list[str]
    started_at: datetime
    now: datetime
    database: str
    http: str | None
    zygote_pid: int | None
    loop_lag_ms: float
    plugins: list[PluginStatus]
    chains: list[ChainStatus]
    vaults: list[VaultStatus]
    open_intents: dict[str, int]
    producers: list[ProducerStatus] = []
    consumers: list[ConsumerStatus] = []
    routes: list[RouteStatus] = []
    services: list[ServiceStatus] = []
    keepers: list[KeeperStatus] = []

    def place_of(self, plugin: PluginStatus) -> VaultStatus | KeeperStatus | None:
        """Its vault or keeper: they share one space of names."""
        places: list[VaultStatus | KeeperStatus] = [*self.vaults, *self.keepers]
        return next((place for place in places if place.name == plugin.vault), None)


class Fired(_Message, frozen=True, tag="fired"):
    """The call stands in the ledger; its result if it was waited for and came in time. `fell_back_to`: PLUGIN/JOB of
    the router's fallback, if that has taken it."""

    call_id: int
    is_new: bool
    outcome: str | None = None
    reason: str | None = None
    transaction: str | None = None
    fell_back_to: str | None = None


class Run(Struct, frozen=True, kw_only=True):
    """One call with what came of it. `decision` is the outcome's JSON; `transaction` a hash."""

    id: int
    plugin: str
    trigger: str
    principal: str
    topic: str | None
    payload: str
    due_at: datetime
    fired_at: datetime
    finished_at: datetime | None
    state: str
    outcome: str | None
    reason: str | None
    attempts: int
    generation: int | None
    digest: str | None = None
    """Of the code that decided."""
    decide_ms: float | None
    decision: str | None
    vault: str | None
    intent_state: str | None
    nonce: int | None
    transaction: str | None
    cancelling: str | None = None
    """Why its intent is, or was, cancelled by a no-op."""


class Runs(_Message, frozen=True, tag="runs_reply"):
    """Calls, newest first."""

    runs: list[Run]


class Transaction(Struct, frozen=True, kw_only=True):
    """One signed transaction of an intent."""

    hash: str
    call_id: int
    plugin: str
    vault: str
    state: str
    nonce: int
    chain_id: int
    wallet: str
    target: str
    value_wei: int
    max_fee_per_gas_wei: int
    max_priority_fee_wei: int
    gas_limit: int
    signed_at: datetime
    accepted_at: datetime | None
    included_block: int | None
    is_success: bool | None
    gas_used: int | None
    effective_gas_price_wei: int | None
    error: str | None
    kind: str = "batch"
    """`noop`: it does nothing but use the nonce, and cancels the intent with that."""


class Transactions(_Message, frozen=True, tag="transactions_reply"):
    """Transactions, newest first."""

    transactions: list[Transaction]


class HistoryEvent(Struct, frozen=True, kw_only=True):
    """One line of a plugin's history."""

    at: datetime
    generation: int
    kind: str
    detail: str


class History(_Message, frozen=True, tag="history_reply"):
    """A plugin's history, newest first."""

    plugin: str
    events: list[HistoryEvent]


class Done(_Message, frozen=True, tag="done"):
    """Carried out; `text` says what, for the operator."""

    text: str


class Failure(_Message, frozen=True, tag="failure"):
    """Refused; `reason` says why and what is allowed."""

    reason: str


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

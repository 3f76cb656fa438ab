"""The status of a daemon, as `runnerctl status` asks for it. Part of `control.messages`."""

from datetime import datetime

from msgspec import Struct

from runnerd.control.chain_messages import NodeStatus
from runnerd.control.consumer_messages import ConsumerStatus
from runnerd.control.message import Message
from runnerd.control.place_messages import KeeperStatus, VaultStatus
from runnerd.control.producer_messages import ProducerStatus
from runnerd.control.route_messages import RouteStatus
from runnerd.control.service_messages import ServiceStatus


class GetStatus(Message, frozen=True, tag="status"):
    """How is everything?"""


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


class Status(Message, frozen=True, tag="status_reply"):
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

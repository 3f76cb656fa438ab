"""The metrics of runnerd, in one registry. Names are an API: docs/metrics.md lists them.

The supervisor counts; the http process only serves the text that `render` gives it.
"""

from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from runnerd.store.calls import JobResult

_DECIDE_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_NODE_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_LAG_S = (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5)


_Metric = TypeVar("_Metric", Counter, Gauge, Histogram)


class Metrics:
    """All counters, gauges and histograms."""

    def __init__(self, phases: Iterable[str]) -> None:
        self.registry = CollectorRegistry()
        self._phases = tuple(phases)
        self._shown_phases: dict[str, str] = {}
        self._denied_names: dict[str, set[str]] = {}
        self._attack_names: dict[str, set[str]] = {}
        self._children: dict[tuple[object, ...], Counter | Gauge | Histogram] = {}
        self._calls = Counter("runnerd_calls", "JobCalls committed", ["plugin", "trigger"], registry=self.registry)
        self._outcomes = Counter(
            "runnerd_call_outcomes", "JobCalls by final outcome", ["plugin", "outcome"], registry=self.registry
        )
        self._jobs = Counter(
            "runnerd_job_outcomes", "JobCalls by job and final outcome", ["plugin", "job", "outcome"],
            registry=self.registry,
        )  # fmt: skip
        self._decide = Histogram(
            "runnerd_decide_seconds", "From Decide sent to its answer", ["plugin"], buckets=_DECIDE_S,
            registry=self.registry,
        )  # fmt: skip
        self._state = Gauge(
            "runnerd_worker_state", "1 for the state a plugin is in", ["plugin", "state"], registry=self.registry
        )
        self._starts = Counter("runnerd_worker_starts", "Workers started", ["plugin"], registry=self.registry)
        self._denied = Counter(
            "runnerd_sandbox_denials", "System calls that the sandbox denied", ["plugin", "syscall"],
            registry=self.registry,
        )  # fmt: skip
        self._attacks = Counter(
            "runnerd_sandbox_attacks", "Workers killed for something that means an attack", ["plugin", "syscall"],
            registry=self.registry,
        )  # fmt: skip
        self._accepted = Counter(
            "runnerd_transactions_accepted", "Broadcasts that a node accepted", ["plugin"], registry=self.registry
        )
        self._transactions = Gauge(
            "runnerd_intents_open", "Intents that have not ended, by state", ["state"], registry=self.registry
        )
        self._ended = Counter(
            "runnerd_intents_ended", "Intents that have ended, by their last state", ["state"], registry=self.registry
        )
        self._expected = Counter(
            "runnerd_expectations", "Decisions with expectations, by what became of these", ["plugin", "result"],
            registry=self.registry,
        )  # fmt: skip
        self._foreign = Counter(
            "runnerd_foreign_transactions", "Transactions of our wallets that the ledger did not make", ["chain"],
            registry=self.registry,
        )  # fmt: skip
        self._queue = Gauge("runnerd_queue_depth", "JobCalls that wait", ["plugin"], registry=self.registry)
        self._lag = Histogram(
            "runnerd_loop_lag_seconds", "How late the supervisor's loop wakes", buckets=_LAG_S, registry=self.registry
        )
        self._database = Gauge("runnerd_database_up", "1 while PostgreSQL is connected", registry=self.registry)
        self._head = Gauge("runnerd_chain_head", "Newest block seen", ["chain"], registry=self.registry)
        self._balance = Gauge(
            "runnerd_wallet_balance_wei", "What a wallet has", ["chain", "wallet"], registry=self.registry
        )
        node = ["chain", "node"]
        self._node_up = Gauge("runnerd_node_up", "1 while a node is in its pool", node, registry=self.registry)
        self._node_head = Gauge("runnerd_node_head", "Newest block a node has named", node, registry=self.registry)
        self._node_errors = Counter(
            "runnerd_node_errors", "Requests to a node without a usable answer", node, registry=self.registry
        )
        self._node_latency = Histogram(
            "runnerd_node_latency_seconds", "From a request to a node to its usable answer", node, buckets=_NODE_S,
            registry=self.registry,
        )  # fmt: skip
        self._node_lies = Counter(
            "runnerd_node_lies", "Answers that contradict a quorum on what cannot change any more", [*node, "what"],
            registry=self.registry,
        )  # fmt: skip
        self._refused = Counter(
            "runnerd_calls_refused", "Slots and notifications beyond the bounds of their plugin", ["plugin", "trigger"],
            registry=self.registry,
        )  # fmt: skip
        self._skipped = Counter(
            "runnerd_calls_skipped", "Calls not made beside an older one (overlap = skip)", ["plugin", "trigger"],
            registry=self.registry,
        )  # fmt: skip
        self._outbox = Gauge(
            "runnerd_outbox_behind", "Events of the outbox that wait for a plugin, at most", ["plugin", "topic"],
            registry=self.registry,
        )  # fmt: skip
        self._gaps = Counter(
            "runnerd_listen_gaps", "Times when notifications were lost, since nobody listened", registry=self.registry
        )
        self._gap_s = Counter("runnerd_listen_gap_seconds", "How long nobody listened, in all", registry=self.registry)
        self._missed = Counter(
            "runnerd_cron_slots_missed", "Cron slots that passed while runnerd or the plugin was down", ["plugin"],
            registry=self.registry,
        )  # fmt: skip

        self._consumer_waiting = Gauge(
            "runnerd_consumer_waiting", "Results that a consumer has not heard of", ["consumer"],
            registry=self.registry,
        )  # fmt: skip
        self._consumer_dead = Gauge(
            "runnerd_consumer_dead_letters", "Results that were given up for a consumer", ["consumer"],
            registry=self.registry,
        )  # fmt: skip
        self._delivered = Counter(
            "runnerd_consumer_delivered", "Results that a consumer was given", ["consumer"], registry=self.registry
        )
        self._undelivered = Counter(
            "runnerd_consumer_failures", "Attempts to give a consumer a result that failed", ["consumer"],
            registry=self.registry,
        )  # fmt: skip

    def called(self, plugin: str, trigger: str) -> None:
        """A JobCall was committed."""
        self._child(self._calls, plugin, trigger).inc()

    def refused(self, plugin: str, trigger: str) -> None:
        """A trigger wanted more than its plugin may be asked for."""
        self._refused.labels(plugin, trigger).inc()

    def skipped(self, plugin: str, trigger: str) -> None:
        """A call was not made, because an older one of its trigger was not decided."""
        self._child(self._skipped, plugin, trigger).inc()

    def finished(self, result: JobResult) -> None:
        """A JobResult was committed. A consumer of Results."""
        self._child(self._outcomes, result.call.plugin, result.outcome.value).inc()
        self._child(self._jobs, result.call.plugin, result.call.job, result.outcome.value).inc()

    def decided(self, plugin: str, seconds: float) -> None:
        """A worker answered."""
        self._child(self._decide, plugin).observe(seconds)

    def phase(self, plugin: str, phase: StrEnum) -> None:
        """A plugin changed its state."""
        before = self._shown_phases.get(plugin)
        if before is None:  # every state has its line from the start, or an alert on it would see nothing
            for known in self._phases:
                self._child(self._state, plugin, known)
        else:
            self._child(self._state, plugin, before).set(0)
        self._child(self._state, plugin, phase.value).set(1)
        self._shown_phases[plugin] = phase.value

    def started(self, plugin: str) -> None:
        """A worker was started."""
        self._starts.labels(plugin).inc()

    def denied_syscall(self, plugin: str, syscall: str) -> None:
        """The sandbox denied a system call."""
        self._denied.labels(plugin, syscall).inc()
        self._denied_names.setdefault(plugin, set()).add(syscall)

    def attacked(self, plugin: str, syscall: str) -> None:
        """A worker was killed for this."""
        self._attacks.labels(plugin, syscall).inc()
        self._attack_names.setdefault(plugin, set()).add(syscall)

    def accepted(self, plugin: str) -> None:
        """A node accepted a transaction."""
        self._accepted.labels(plugin).inc()

    def ended(self, state: StrEnum) -> None:
        """An intent has ended, in one of `wanted.ENDED`."""
        self._ended.labels(state.value).inc()

    def expected(self, plugin: str, result: StrEnum) -> None:
        """What a Decision expected was denied in a simulation, or is met, breached or unproven after the fact."""
        self._expected.labels(plugin, result.value).inc()

    def saw_foreign(self, chain: str) -> None:
        """A transaction of a wallet of ours that is not ours."""
        self._foreign.labels(chain).inc()

    def lag(self, seconds: float) -> None:
        """The loop woke this late."""
        self._lag.observe(seconds)

    def missed(self, plugin: str, slots: int) -> None:
        """Cron slots that nobody fired."""
        self._missed.labels(plugin).inc(slots)

    def node_answered(self, chain: str, node: str, seconds: float) -> None:
        """A node gave a usable answer. See runnerd.chain.pool.node.NodeMetrics."""
        self._node_latency.labels(chain, node).observe(seconds)

    def node_failed(self, chain: str, node: str) -> None:
        """A node gave none."""
        self._node_errors.labels(chain, node).inc()

    def node_lied(self, chain: str, node: str, what: str) -> None:
        """A node contradicted a quorum."""
        self._node_lies.labels(chain, node, what).inc()

    def node_seen(self, chain: str, node: str, *, is_up: bool, head: int | None) -> None:
        """How a node is."""
        self._node_up.labels(chain, node).set(1 if is_up else 0)
        if head is not None:
            self._node_head.labels(chain, node).set(head)

    def watch_queue(self, plugin: str, depth: Callable[[], int]) -> None:
        """Read a plugin's queue depth whenever metrics are asked for."""
        self._queue.labels(plugin).set_function(depth)

    def watch_outbox(self, plugin: str, topic: str, behind: Callable[[], int]) -> None:
        """Read how much waits for a plugin on a topic whenever metrics are asked for."""
        self._outbox.labels(plugin, topic).set_function(behind)

    def forget_outbox(self, plugin: str, topic: str) -> None:
        """The plugin does not follow the topic any more."""
        self._outbox.remove(plugin, topic)

    def listen_gap(self, seconds: float) -> None:
        """Nobody listened for notifications that somebody wants."""
        self._gaps.inc()
        self._gap_s.inc(seconds)

    def attempted(self, consumer: str, *, is_heard: bool) -> None:
        """A consumer was given a result, and took it or did not."""
        (self._delivered if is_heard else self._undelivered).labels(consumer).inc()

    def consumer_counted(self, consumer: str, *, waiting: int, dead: int) -> None:
        """How far behind a consumer is, and what was given up for it."""
        self._consumer_waiting.labels(consumer).set(waiting)
        self._consumer_dead.labels(consumer).set(dead)
        self._delivered.labels(consumer)  # an alert on its rate needs its zero
        self._undelivered.labels(consumer)

    def forget(self, plugin: str) -> None:
        """The plugin is not configured any more."""
        self._queue.remove(plugin)
        self._shown_phases.pop(plugin, None)
        for known in self._phases:
            self._state.remove(plugin, known)
            self._children.pop((self._state, plugin, known), None)
        for syscall in self._denied_names.pop(plugin, ()):
            self._denied.remove(plugin, syscall)
        for syscall in self._attack_names.pop(plugin, ()):
            self._attacks.remove(plugin, syscall)

    def observe_parts(
        self,
        *,
        is_database_up: bool,
        heads: Mapping[str, int],
        intents: Mapping[str, int],
        balances_wei: Mapping[tuple[str, str], int],
    ) -> None:
        """What is looked up when metrics are asked for. `balances_wei` by chain and wallet."""
        self._database.set(1 if is_database_up else 0)
        for chain, head in heads.items():
            self._head.labels(chain).set(head)
        for (chain, wallet), balance_wei in balances_wei.items():
            self._balance.labels(chain, wallet).set(balance_wei)
        self._transactions.clear()  # or a state that has become empty would keep its last number
        for state, count in intents.items():
            self._transactions.labels(state).set(count)

    def _child(self, metric: _Metric, *labels: str) -> _Metric:
        """`metric.labels(...)`, which takes a lock and 2 µs, remembered; who removes the child forgets it here."""
        key = (metric, *labels)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = metric.labels(*labels)
        return child  # type: ignore[return-value]  # of the type of its metric

    def render(self) -> bytes:
        """The text of /metrics."""
        return generate_latest(self.registry)

"""Each method of Metrics shows in the text of /metrics, under the name that the documentation promises."""

from collections.abc import Callable

import pytest
from prometheus_client.parser import text_string_to_metric_families

from runnerd.executor.wanted import IntentState
from runnerd.services.metrics import Metrics
from runnerd.store.calls import JobOutcome, JobResult
from runnerd.supervisor.machine import Phase
from tests.support.calls import job_call
from tests.support.virtual_time import EPOCH


def values(metrics: Metrics) -> dict[str, float]:
    """`name{label=value,…}` → value, of every sample in the rendered text."""
    return {
        f"{sample.name}{{{','.join(f'{key}={value}' for key, value in sorted(sample.labels.items()))}}}": sample.value
        for family in text_string_to_metric_families(metrics.render().decode())
        for sample in family.samples
    }


def _result() -> JobResult:
    return JobResult(call=job_call(1), outcome=JobOutcome.NOOP, reason="calm", finished_at=EPOCH)


@pytest.mark.parametrize(
    "act, sample, expected",
    [
        (lambda m: m.called("alpha", "cron"), "runnerd_calls_total{plugin=alpha,trigger=cron}", 1),
        (lambda m: m.finished(_result()), "runnerd_call_outcomes_total{outcome=noop,plugin=alpha}", 1),
        (lambda m: m.decided("alpha", 0.25), "runnerd_decide_seconds_sum{plugin=alpha}", 0.25),
        (lambda m: m.started("alpha"), "runnerd_worker_starts_total{plugin=alpha}", 1),
        (
            lambda m: m.denied_syscall("alpha", "socket"),
            "runnerd_sandbox_denials_total{plugin=alpha,syscall=socket}",
            1,
        ),
        (lambda m: m.attacked("alpha", "bpf"), "runnerd_sandbox_attacks_total{plugin=alpha,syscall=bpf}", 1),
        (lambda m: m.accepted("alpha"), "runnerd_transactions_accepted_total{plugin=alpha}", 1),
        (lambda m: m.missed("alpha", 3), "runnerd_cron_slots_missed_total{plugin=alpha}", 3),
        (lambda m: m.phase("alpha", Phase.READY), "runnerd_worker_state{plugin=alpha,state=ready}", 1),
        (lambda m: m.watch_queue("alpha", lambda: 7), "runnerd_queue_depth{plugin=alpha}", 7),
    ],
)
def test_what_happens_to_a_plugin_shows(act: Callable[[Metrics], None], sample: str, expected: float) -> None:
    """Before: no such sample. Afterwards: its value."""
    metrics = Metrics(Phase)
    assert sample not in values(metrics)
    act(metrics)
    assert values(metrics)[sample] == expected


def test_loop_lag_is_counted_in_its_bucket() -> None:
    """3 ms is more than 1 ms and at most 5 ms."""
    metrics = Metrics(Phase)
    metrics.lag(0.003)
    shown = values(metrics)
    assert shown["runnerd_loop_lag_seconds_count{}"] == 1
    assert shown["runnerd_loop_lag_seconds_bucket{le=0.001}"] == 0
    assert shown["runnerd_loop_lag_seconds_bucket{le=0.005}"] == 1


def test_a_plugin_is_in_one_state_at_a_time() -> None:
    """Every other known state shows 0."""
    metrics = Metrics(Phase)
    for phase in Phase:
        metrics.phase("alpha", phase)
        shown = {name: value for name, value in values(metrics).items() if name.startswith("runnerd_worker_state{")}
        assert len(shown) == len(Phase)
        assert [name for name, value in shown.items() if value] == [
            f"runnerd_worker_state{{plugin=alpha,state={phase.value}}}"
        ]


def test_queue_depth_is_read_whenever_it_is_asked_for() -> None:
    """No copy that could be stale."""
    waiting = [1, 2]
    metrics = Metrics(Phase)
    metrics.watch_queue("alpha", lambda: len(waiting))
    assert values(metrics)["runnerd_queue_depth{plugin=alpha}"] == 2
    waiting.clear()
    assert values(metrics)["runnerd_queue_depth{plugin=alpha}"] == 0


def test_intents_are_counted_by_how_they_ended() -> None:
    """With the open ones that is every transaction by its state."""
    metrics = Metrics(Phase)
    for state in (IntentState.FINAL, IntentState.FINAL, IntentState.REVERTED):
        metrics.ended(state)
    assert values(metrics)["runnerd_intents_ended_total{state=final}"] == 2
    assert values(metrics)["runnerd_intents_ended_total{state=reverted}"] == 1


def test_parts_are_shown_as_they_were_observed_last() -> None:
    """Database, heads and open intents."""
    metrics = Metrics(Phase)
    metrics.observe_parts(is_database_up=True, heads={"local": 41}, intents={"sent": 2}, balances_wei={})
    metrics.observe_parts(
        is_database_up=False, heads={"local": 42}, intents={"sent": 1}, balances_wei={("local", "0x01"): 5}
    )
    shown = values(metrics)
    assert shown["runnerd_database_up{}"] == 0
    assert shown["runnerd_chain_head{chain=local}"] == 42
    assert shown["runnerd_intents_open{state=sent}"] == 1
    assert shown["runnerd_wallet_balance_wei{chain=local,wallet=0x01}"] == 5


def test_forgotten_plugin_has_neither_state_nor_queue_nor_denials_and_the_others_keep_theirs() -> None:
    """What it is no more is gone; what happened stays counted."""
    metrics = Metrics(Phase)
    for plugin in ("alpha", "beta"):
        metrics.phase(plugin, Phase.READY)
        metrics.watch_queue(plugin, lambda: 0)
        metrics.called(plugin, "cron")
        for syscall in ("socket", "socket", "unknown"):
            metrics.denied_syscall(plugin, syscall)
        metrics.attacked(plugin, "ptrace")
    metrics.forget("alpha")
    shown = values(metrics)
    denied = {name: value for name, value in shown.items() if name.startswith("runnerd_sandbox_denials_total")}
    assert denied == {
        "runnerd_sandbox_denials_total{plugin=beta,syscall=socket}": 2,
        "runnerd_sandbox_denials_total{plugin=beta,syscall=unknown}": 1,
    }
    assert [name for name in shown if name.startswith("runnerd_sandbox_attacks_total")] == [
        "runnerd_sandbox_attacks_total{plugin=beta,syscall=ptrace}"
    ]
    gauges = {name for name in shown if name.startswith(("runnerd_worker_state{", "runnerd_queue_depth{"))}
    assert not [name for name in gauges if "plugin=alpha" in name]
    assert len(gauges) == len(Phase) + 1
    assert shown["runnerd_calls_total{plugin=alpha,trigger=cron}"] == 1

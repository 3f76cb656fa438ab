"""Which test takes which edge of the state machine with real processes; and why the rest is taken by fakes only."""

import ast
from functools import cache
from pathlib import Path

import pytest

from tests.supervisor.test_machine import table_cells

TESTS = Path(__file__).parents[1]
EDGES = "faults/test_edges.py"
WORKERS = "faults/test_worker_faults.py"

REAL = {
    ("Start", "stopped"): "integration/test_restart.py::test_sigterm_drains_and_leaves_nothing",
    ("Hello", "starting"): f"{EDGES}::test_a_worker_killed_before_its_hello_is_started_again",
    ("Hello", "stopping"): f"{EDGES}::test_a_restart_before_hello_waits_for_the_end",
    ("Hello", "turning"): f"{EDGES}::test_a_restart_before_hello_waits_for_the_end",
    ("Refused", "ready"): f"{EDGES}::test_a_restart_of_a_refused_worker_waits_until_it_is_gone",
    ("Attacked", "ready"): "hostile/test_probes.py::test_an_attack_ends_its_worker_and_quarantines_the_plugin",
    ("Forbidden", "stopped"): "integration/test_admission.py::test_a_vault_with_another_operator_is_refused",
    ("Exited", "starting"): f"{EDGES}::test_a_missed_hello_is_a_crash_and_a_failed_probe_quarantines_again",
    ("Exited", "ready"): f"{EDGES}::test_an_idle_worker_that_does_not_answer_a_ping_is_ended",
    ("Exited", "dying"): f"{EDGES}::test_a_missed_hello_is_a_crash_and_a_failed_probe_quarantines_again",
    ("Exited", "stopping"): "integration/test_restart.py::test_sigterm_drains_and_leaves_nothing",
    ("Exited", "turning"): f"{EDGES}::test_a_restart_waits_for_the_calls_of_the_worker",
    ("Lost", "starting"): f"{EDGES}::test_the_zygotes_death_meets_a_worker_that_starts_and_one_that_stops",
    ("Lost", "ready"): f"{WORKERS}::test_all_workers_come_back_when_the_zygote_dies",
    ("Lost", "turning"): f"{EDGES}::test_the_zygotes_death_meets_a_worker_that_starts_and_one_that_stops",
    ("Woke", "backoff"): f"{EDGES}::test_a_second_crash_waits_and_is_over_by_itself",
    ("Woke", "quarantined"): f"{EDGES}::test_a_probe_that_starts_is_ready_and_one_more_crash_puts_it_back",
    ("Raised", "ready"): "integration/test_health.py::test_an_unhealthy_plugin_skips_more_and_more_ticks",
    ("Skipped", "unhealthy"): "integration/test_health.py::test_an_unhealthy_plugin_skips_more_and_more_ticks",
    ("Returned", "unhealthy"): "integration/test_health.py::test_a_plugin_recovers_at_the_tick_that_succeeds",
    ("Returned", "ready"): f"{EDGES}::test_a_worker_that_was_stable_has_its_budget_back",
    ("Returned", "turning"): f"{EDGES}::test_a_restart_waits_for_the_calls_of_the_worker",
    ("Restart", "starting"): f"{EDGES}::test_a_restart_before_hello_waits_for_the_end",
    ("Restart", "ready"): f"{EDGES}::test_a_restart_waits_for_the_calls_of_the_worker",
    ("Restart", "backoff"): f"{EDGES}::test_a_restart_ends_the_wait_of_a_backoff",
    ("Restart", "quarantined"): f"{EDGES}::test_a_probe_that_starts_is_ready_and_one_more_crash_puts_it_back",
    ("Restart", "dying"): f"{EDGES}::test_a_restart_of_a_refused_worker_waits_until_it_is_gone",
    ("Restart", "turning"): f"{EDGES}::test_a_restart_waits_for_the_calls_of_the_worker",
    ("Stop", "ready"): "integration/test_restart.py::test_sigterm_drains_and_leaves_nothing",
}
"""(event, state) of `test_machine.TABLE` → the test."""

ONLY_PURE = {
    "Start": "a start of what runs, ends or waits is sent by no command: `runnerctl restart` is a Restart",
    "Forbidden": "said once, before the first start: never to a plugin that runs",
    "Refused": "comes twice only if a worker's last frames race its end: HostChaos in test_host.py orders them",
    "Attacked": "as from ready, whatever it was at: its worker is killed",
    "Exited": "as from ready, whatever its calls did before",
    "Lost": "as from ready, or as Exited while stopping: HostChaos takes each",
    "Woke": "a refused worker that lives for the 15 minutes until its probe: only a kernel could keep it",
    "Returned": "an answer that was under way when its worker ended is dropped: HostChaos and CallerChaos",
    "Raised": "as Returned",
    "Skipped": "as Returned",
    "Stop": "of a plugin without a worker changes a word only; of one that starts it is the Restart without a start",
    "Restart": "as of a plugin that is ready",
}
"""Why the other cells of an event have no real process."""


@pytest.mark.parametrize("cell", sorted(REAL), ids="-".join)
def test_the_named_test_is_there(cell: tuple[str, str]) -> None:
    """And the cell can happen."""
    assert {(event, state): expected for event, state, expected in table_cells()}[cell] != "!"
    file, _, name = REAL[cell].partition("::")
    assert name in names_in(TESTS / file)


def test_each_cell_has_a_real_test_or_a_reason() -> None:
    """A new event, or a new state of one, must be thought of here."""
    possible = {(event, state) for event, state, expected in table_cells() if expected != "!"}
    assert {event for event, _ in possible - REAL.keys()} <= ONLY_PURE.keys()
    assert set(ONLY_PURE) <= {event for event, _ in possible}


@cache
def names_in(file: Path) -> set[str]:
    """The names of its test functions."""
    return {node.name for node in ast.walk(ast.parse(file.read_text("utf-8"))) if isinstance(node, ast.FunctionDef)}

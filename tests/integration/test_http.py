"""The http process: metrics, health and readiness, over real HTTP, from a process that holds no key."""

import urllib.error
import urllib.request

import pytest

from runnerd.control.messages import Pause, Resume
from tests.support.scene import Scene, wait_for

pytestmark = pytest.mark.integration


def test_metrics_count_calls_outcomes_and_workers(house: Scene) -> None:
    """Prometheus text with what the spec names: calls, outcomes, decide seconds, states, restarts, depth, lag, head."""
    house.fire("puppet", do="noop")

    # The loop looks at its lag a little after the start.
    wait_for(lambda: "runnerd_loop_lag_seconds_count 0.0" not in _get(house, "/metrics")[1], "a look at the loop's lag")
    status, text = _get(house, "/metrics")
    assert status == 200
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
    assert float(values['runnerd_calls_total{plugin="puppet",trigger="manual"}']) >= 1
    assert float(values['runnerd_call_outcomes_total{outcome="noop",plugin="puppet"}']) >= 1
    assert float(values['runnerd_decide_seconds_count{plugin="puppet"}']) >= 1
    assert values['runnerd_worker_state{plugin="bystander",state="ready"}'] == "1.0"
    assert float(values['runnerd_worker_starts_total{plugin="bystander"}']) >= 1
    assert values['runnerd_queue_depth{plugin="puppet"}'] == "0.0"
    assert values["runnerd_database_up"] == "1.0"
    assert float(values['runnerd_chain_head{chain="local"}']) > 0
    assert float(values["runnerd_loop_lag_seconds_count"]) > 0
    assert "runnerd_intents_open" in text


def test_healthz_lists_problems_and_readyz_stays_ready(house: Scene) -> None:
    """A thrown switch is a problem to read, but no reason for a restart or for taking the daemon out of service."""
    assert _get(house, "/readyz") == (200, "ready\n")
    house.daemon.ask(Pause(scope="plugin", name="bystander"))
    try:
        status, text = _get(house, "/healthz")
        assert status == 200
        assert "plugin bystander is paused" in text
        assert _get(house, "/readyz") == (200, "ready\n")
    finally:
        house.daemon.ask(Resume(scope="plugin", name="bystander"))
    wait_for(lambda: _get(house, "/healthz") == (200, "healthy\n"), "health")


def test_another_path_is_not_found(house: Scene) -> None:
    """There is nothing else to find, and the answer says what there is."""
    status, text = _get(house, "/etc/passwd")

    assert status == 404
    assert "/metrics, /healthz, /readyz" in text


def _get(scene: Scene, path: str) -> tuple[int, str]:
    address = scene.daemon.status().http
    try:
        with urllib.request.urlopen(f"{address}{path}", timeout=10) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()

"""How a plugin's own failures show: unhealthy and skipped ticks after an exception, quarantine after crashes."""

import re
from collections.abc import Iterator

import pytest

from runnerd.control.messages import Restart
from tests.support.scene import Scene, wait_for

pytestmark = pytest.mark.integration


@pytest.fixture
def failing_ticker(house: Scene) -> Iterator[Scene]:
    """The ticker raises on every tick for the length of the test."""
    house.fire("ticker", do="noop", put={"instruction": {"do": "raise", "text": "no price feed"}})
    yield house
    house.fire("ticker", do="noop", delete=["instruction"])


def test_an_exception_in_decide_is_recorded_and_is_no_crash(house: Scene) -> None:
    """The call failed with the exception's words, the traceback is in the log, and the worker is the same process."""
    before = house.plugin("bystander")

    fired = house.fire("bystander", do="raise", text="spot is stale")

    assert (fired.outcome, fired.reason) == ("failed", "decide raised RuntimeError: spot is stale")
    after = house.plugin("bystander")
    assert (after.state, after.pid, after.restarts) == ("unhealthy", before.pid, before.restarts)
    assert "RuntimeError: spot is stale" in after.reason
    (record,) = [r for r in house.log("decide_failed") if r["call"] == fired.call_id]
    assert "puppet.py" in record["message"]
    house.fire("bystander", do="noop")


def test_an_unhealthy_plugin_skips_more_and_more_ticks(failing_ticker: Scene) -> None:
    """After each failure it skips 1, 2, 4 … ticks; a skipped one is recorded as expired, with the reason."""
    first = failing_ticker.runs("ticker", limit=1)[0].id

    def outcomes() -> str:
        runs = [run for run in reversed(failing_ticker.runs("ticker")) if run.id > first and run.outcome]
        return "".join(run.outcome[0] for run in runs if run.outcome)

    # Not exactly one and two: on a busy machine two slots may be decided at once, and count as two failures.
    wait_for(lambda: re.search("fe+f+e{2,}f", outcomes()), "failed, expired, failed, expired twice or more, failed")
    skipped = next(run for run in failing_ticker.runs("ticker") if run.outcome == "expired")
    assert "plugin is unhealthy: RuntimeError: no price feed" in (skipped.reason or "")


def test_a_plugin_recovers_at_the_tick_that_succeeds(failing_ticker: Scene) -> None:
    """Nobody has to do anything: when decide answers again the plugin is ready, and ticks are decided again."""
    failing_ticker.wait_plugin("ticker", lambda plugin: plugin.state == "unhealthy")
    failing_ticker.rows("delete from plugin_state where plugin = 'ticker' and key = 'instruction' returning key")

    recovered = failing_ticker.wait_plugin("ticker", lambda plugin: plugin.state == "ready")
    assert recovered.reason == ""
    last = failing_ticker.runs("ticker", limit=1)[0].id
    wait_for(
        lambda: [run for run in failing_ticker.runs("ticker") if run.id > last and run.outcome == "noop"][1:], "ticks"
    )


def test_crashes_lead_to_quarantine_and_restart_clears_it(house: Scene) -> None:
    """Two crashes quarantine this plugin; calls then fail with the reason, until the operator restarts it."""
    crashing = house.fire("fragile", do="die", how="exit")

    assert crashing.outcome == "failed"
    assert "plugin is quarantined: crashed 2 times" in (crashing.reason or "")
    quarantined = house.plugin("fragile")
    assert (quarantined.state, quarantined.pid) == ("quarantined", None)
    assert "exit code 7" in quarantined.reason
    assert "plugin fragile is quarantined" in "\n".join(house.daemon.status().problems)
    assert house.fire("fragile", do="noop").outcome == "failed"
    assert [event.kind for event in house.history("fragile")[:2]].count("quarantined") == 1

    house.daemon.ask(Restart(plugin="fragile"))
    house.daemon.wait_ready("fragile")
    assert house.fire("fragile", do="noop").outcome == "noop"

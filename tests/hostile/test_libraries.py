"""What ordinary plugins import works in the sandbox, and without a word in the operator's log."""

from pathlib import Path

import pytest

from tests.support.scene import Stage

pytestmark = pytest.mark.hostile

ANALYST = Path(__file__).with_name("plugins") / "analyst.py"


def test_numpy_pandas_and_threads_need_nothing_that_is_denied(stage: Stage) -> None:
    """Import, BLAS in four threads, time zones and groupby, within the default limits: no denial, no restart."""
    with stage.scene({"analyst": {"path": str(ANALYST), "decide_deadline_s": 30.0}}) as scene:
        fired = [scene.fire("analyst") for _ in range(3)]
        analyst = scene.plugin("analyst")
        denied = [event for event in scene.history("analyst") if event.kind == "denied syscall"]

    assert {(one.outcome, one.reason) for one in fired} == {("noop", "4 33 996")}
    assert denied == []
    assert (analyst.state, analyst.restarts) == ("ready", 0)

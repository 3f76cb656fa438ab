"""A running daemon is told to change: SIGHUP, restart, and a second one that must not run beside it."""

import os
import re
import signal
from collections.abc import Iterator

import pytest

from deploy.demo.world import Daemon, make_keystore, render_config, start_daemon
from runnerd.control.messages import Restart
from tests.support.scene import Scene, Stage, puppet, wait_for
from tests.support.short_dir import make_short_dir

pytestmark = pytest.mark.integration

PLUGINS: dict[str, dict[str, object]] = {
    "steady": puppet(),
    "changing": puppet(params={"size": 1}),
    "leaving": puppet(triggers=[{"kind": "cron", "every_seconds": 0.2}]),
}


@pytest.fixture(scope="module")
def scene(stage: Stage) -> Iterator[Scene]:
    """A daemon of this module alone."""
    with stage.scene(PLUGINS) as scene:
        yield scene


@pytest.fixture(scope="module", autouse=True)
def second(scene: Scene) -> Iterator[Daemon]:
    """Another runnerd on the same ledger: it waits some seconds for the lock, so it starts before the tests that use it
    last."""
    with make_short_dir() as directory:
        make_keystore(directory)
        (directory / "runnerd.toml").write_text(render_config(scene.venue, {}, dsn=scene.dsn))
        daemon = start_daemon(directory)
        yield daemon
        daemon.kill()


def test_sighup_changes_only_the_plugins_that_changed(scene: Scene) -> None:
    """One is restarted with new params, one stopped, one started; the process of the unchanged one stays."""
    before = scene.pids()
    plugins = {"steady": PLUGINS["steady"], "changing": puppet(params={"size": 2}), "coming": puppet()}
    _write_config(scene, plugins)

    _hang_up(scene)
    wait_for(lambda: scene.log("reloaded"), "the reload")
    scene.daemon.wait_ready(*plugins)

    after = scene.pids()
    assert set(after) == set(plugins)
    assert after["steady"] == before["steady"]
    assert after["changing"] != before["changing"]
    scene.fire("changing", do="show_context")
    assert scene.state("changing", "context")["params"] == {"size": 2}
    assert scene.fire("coming", do="noop").outcome == "noop"
    (record,) = scene.log("reloaded")
    assert re.search("restarted changing, stopped leaving, started coming", record["message"])


def test_sighup_with_a_broken_file_changes_nothing(scene: Scene) -> None:
    """The refusal names file and key in the log, and every plugin runs on as it did."""
    before = scene.pids()
    good = scene.config.read_text()
    scene.config.write_text(good.replace("[plugins.coming]", "[plugins.coming]\nparalel = 3"))

    _hang_up(scene)
    (record,) = wait_for(lambda: scene.log("reload_refused"), "the refusal")
    scene.config.write_text(good)

    assert str(scene.config) in record["message"]
    assert "plugins.coming.paralel: unknown key; did you mean parallel?" in record["message"]
    assert scene.pids() == before
    assert scene.fire("coming", do="noop").outcome == "noop"


def test_a_restart_loses_no_answer(scene: Scene) -> None:
    """A call that is being decided when its plugin is restarted is answered by the worker that had it."""
    for _ in range(10):
        generation = scene.wait_plugin("steady", lambda plugin: plugin.state == "ready").generation
        fired = scene.fire("steady", wait_s=0, do="wait", seconds=0.02)
        wait_for(lambda: scene.state("steady", f"begun:{fired.call_id}"), "decide has begun")  # noqa: B023
        scene.daemon.ask(Restart(plugin="steady"))

        assert scene.wait_run(fired.call_id).generation == generation


def test_a_commanded_restart_is_a_new_process_and_no_crash(scene: Scene) -> None:
    """The pid and the generation are new, the other plugins' are not, and the restart budget is untouched."""
    for name in ("steady", "changing"):  # an earlier test may have restarted it
        scene.wait_plugin(name, lambda plugin: plugin.state == "ready")
    before = scene.pids()
    generation = scene.plugin("changing").generation

    scene.daemon.ask(Restart(plugin="changing"))
    after = scene.wait_plugin("changing", lambda plugin: plugin.state == "ready" and plugin.generation > generation)

    assert after.generation == generation + 1
    assert {name for name, pid in scene.pids().items() if pid != before[name]} == {"changing"}
    assert scene.fire("changing", do="noop").outcome == "noop"


def test_a_second_runnerd_on_the_same_ledger_is_refused(scene: Scene, second: Daemon) -> None:
    """Two supervisors would sign the same nonces: the second ends with a sentence, and the first does not notice."""
    assert second.process.wait(30) == 1

    assert "cannot run" in second.log_tail()
    assert "another runnerd" in second.log_tail()
    assert scene.fire("steady", do="noop").outcome == "noop"


def _write_config(scene: Scene, plugins: dict[str, dict[str, object]]) -> None:
    text = render_config(scene.venue, plugins, dsn=scene.dsn)
    scene.config.write_text(text)


def _hang_up(scene: Scene) -> None:
    os.kill(scene.daemon.process.pid, signal.SIGHUP)

"""An application that embeds runnerd: explicit start, parts of its own, parts of packages, one end for all."""

import sys

import pytest

from runnerd.config.extensions import BUILT_IN_SERVICES
from tests.support.extension_packages import install
from tests.support.scene import DEADLINE_S, Stage, puppet, wait_for

pytestmark = pytest.mark.integration
COMMAND = (sys.executable, "-m", "tests.support.embedding_host")
PACKAGE = """
import asyncio
from tests.support.embedding_host import Countdown

class Flaky:
    def __init__(self, tools):
        self.name, self.trouble, self._runs, self._fails = tools.name, None, 0, tools.params["fails"]
    async def start(self): pass
    async def stop(self): pass
    async def run(self):
        self._runs += 1
        if self._runs <= self._fails:
            raise OSError("the gateway hung up")
        await asyncio.Event().wait()
"""


def custom(producer: str, count: int) -> dict[str, object]:
    return puppet(triggers=[{"kind": "custom", "producer": producer, "options": {"from": count}}])


def test_an_application_with_parts_of_its_own(stage: Stage) -> None:
    """Finite producers end and that is no problem; a service is kept; everything ends in order, with one exit code."""
    with stage.scene({"puppet": custom("countdown", 3), "other": custom("ticks", 5)}, start=False,
                     command=COMMAND) as scene:  # fmt: skip
        install(
            scene.directory / "packages", "vendor_parts", PACKAGE,
            {"runnerd.producers/ticks": "Countdown", "runnerd.services/flaky": "Flaky"},
        )  # fmt: skip
        with scene.config.open("a") as config:
            config.write('[producers.ticks]\nentry_point = "ticks"\n')
            config.write('[services.gateway]\nentry_point = "flaky"\nparams = { fails = 1 }\n')
        daemon = scene.start("puppet", "other")
        wait_for(lambda: sum(run.outcome == "noop" for run in scene.runs("puppet")) == 3, "three calls")
        wait_for(lambda: sum(run.outcome == "noop" for run in scene.runs("other")) == 5, "five calls")
        status = daemon.wait_until(lambda status: any(each.restarts for each in status.services))
        assert {each.name for each in status.services[:-2]} < {*BUILT_IN_SERVICES}
        assert [(each.name, each.state) for each in status.services[-2:]] == [
            ("gateway", "running"), ("beat", "running"),
        ]  # fmt: skip
        ended = {each.name: each.state for each in status.producers}
        assert (ended["countdown"], ended["ticks"], status.problems) == ("ended", "ended", [])
        assert [record["service"] for record in scene.log("service_failed")] == ["gateway"]

        assert scene.stop() == 0
        said = [line for line in daemon.log.read_text().splitlines() if line and not line.startswith("{")]
        assert said == ["beat starts", "started, 2 plugins", "beat stops, ['stopped', 'stopped']", "hook"]

        scene.start("puppet", "other")
        scene.fire("puppet", do="noop")
        assert [len([r for r in scene.runs(name) if r.trigger == "custom"]) for name in ("puppet", "other")] == [3, 5]


def test_what_keeps_it_from_starting_is_raised(stage: Stage) -> None:
    """To the application, from `start`; and nothing is left running."""
    with stage.scene({"puppet": puppet()}, start=False, command=COMMAND) as scene:
        (scene.directory / "passphrase").write_text("another")
        daemon = scene.start_unready()
        assert daemon.process.wait(DEADLINE_S) == 1
        assert "WrongPassphrase" in daemon.log.read_text()

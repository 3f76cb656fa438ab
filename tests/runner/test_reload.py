"""SIGHUP after SIGHUP: each is taken over, one after the other, and what cannot be taken over is said."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from runnerd.runner.reload import Reloader
from runnerd.runner.trail import Trail
from runnerd.services.systemd import Systemd
from tests.config.toml_bench import GOOD, MARKET, VAULT, Place, changed, plugin
from tests.support.caller_parts import FakeLedger
from tests.support.plugins_bench import PluginsBench, run
from tests.support.until import until
from tests.support.virtual_time import VirtualClock


def actions(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged about reloads, in order."""
    found = [getattr(record, "runnerd_fields", {}).get("action", "") for record in caplog.records]
    return [action for action in found if action.startswith("reload")]


@asynccontextmanager
async def reloading(bench: PluginsBench, place: Place) -> AsyncIterator[Reloader]:
    """The good configuration runs; the file may be changed."""
    config = place.load()
    bench.plugins.add("alpha", config.plugins["alpha"])
    bench.plugins.on_vault("main", None)
    await bench.say_hello()
    reloader = Reloader(config, bench.plugins, Systemd({}), Trail(FakeLedger(), VirtualClock(), config))
    running = asyncio.get_running_loop().create_task(reloader.run())
    try:
        yield reloader
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def test_two_requests_close_together_are_two_reloads_one_after_the_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Together they would both stop the first host, and one would delete what the other had made."""
    place = Place(tmp_path)

    async def scenario(bench: PluginsBench) -> None:
        async with reloading(bench, place) as reloader:
            bench.nursery.holds_ends = True
            place.file.write_text(plugin("params.size = 2"))
            reloader.request()
            await bench.settle()
            place.file.write_text(plugin("params.size = 3"))
            reloader.request()
            reloader.request()
            await bench.settle()
            bench.nursery.holds_ends = False
            bench.nursery.close()
            await until(lambda: len(bench.nursery.asked) == 3, every_s=0.1)
            await bench.say_hello()
            assert bench.host().config.params == {"size": 3}
            assert bench.nursery.most_alive == 1
            assert [request.worker for request in bench.nursery.asked] == ["alpha#1", "alpha#2", "alpha#3"]

    with caplog.at_level(logging.INFO):
        run(scenario, tmp_path)
    assert actions(caplog) == ["reloaded", "reloaded"]
    assert "task_failed" not in caplog.text


def test_broken_file_is_refused_and_the_next_one_is_taken(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The refusal ends nothing."""
    place = Place(tmp_path)

    async def scenario(bench: PluginsBench) -> None:
        async with reloading(bench, place) as reloader:
            for text in ("nonsense = 1", GOOD):
                place.file.write_text(text)
                reloader.request()
                await bench.settle()

    with caplog.at_level(logging.INFO):
        run(scenario, tmp_path)
    assert actions(caplog) == ["reload_refused", "reloaded"]


def test_plugins_cannot_move_to_a_place_that_is_not_open(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Neither to a new vault nor to a new keeper; the old ones go on."""
    place = Place(tmp_path)
    vault = (
        changed('vault = "main"', 'vault = "spare"') + "[vaults.spare]" + GOOD.split("[vaults.main]")[1].split("[")[0]
    )
    vault = vault.replace(VAULT, MARKET, 1)
    keeper = '\n[wallets.maid]\nkeystore = "plugins/alpha.py"\npassphrase_file = "keys/passphrase"\n'
    keeper += '[keepers.{0}]\nchain = "local"\nwallet = "maid"\n[plugins.beta]\nrole = "keeper"\nkeeper = "{0}"\n'
    keeper += 'path = "plugins/alpha.py"\n'

    async def scenario(bench: PluginsBench) -> None:
        async with reloading(bench, place) as reloader:
            for text in (vault, GOOD + keeper.format("nav")):
                place.file.write_text(text)
                reloader.request()
                await bench.settle()
            assert bench.plugins.hosts.keys() == {"alpha"}
            assert bench.host().config.vault == "main"

    with caplog.at_level(logging.INFO):
        run(scenario, tmp_path)
    assert actions(caplog) == ["reload_refused", "reload_refused"]
    assert "vaults: spare are new; new vaults need a restart of runnerd" in caplog.text
    assert "keepers: nav are new; new keepers need a restart of runnerd" in caplog.text


@pytest.mark.parametrize(
    "line, said",
    [
        ('log_level = "debug"', "log_level changed"),
        ('control_socket = "other.sock"', "control_socket changed"),
        ('runtime_dir = "run"', "runtime_dir changed"),
        ("http.port = 1", "[http] changed"),
    ],
)
def test_change_that_needs_a_restart_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, line: str, said: str
) -> None:
    """Else the operator believes that it is in force."""
    place = Place(tmp_path)

    async def scenario(bench: PluginsBench) -> None:
        async with reloading(bench, place) as reloader:
            place.file.write_text(f"{line}\n{GOOD}")
            reloader.request()
            await bench.settle()

    with caplog.at_level(logging.INFO):
        run(scenario, tmp_path)
    assert actions(caplog) == ["reloaded", "reload_partial"]
    assert f"{said}; it takes effect at the next start" in caplog.text

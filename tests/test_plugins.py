"""What a changed configuration does to the plugins that run: no trigger, no call and no worker is lost or doubled."""

import asyncio
from pathlib import Path

import pytest

from runnerd.supervisor.context import PluginHeld
from runnerd.supervisor.machine import Phase
from tests.support.calls import job_call
from tests.support.plugins_bench import PluginsBench, plugin_config, run

SIZED = {"params": {"size": 2}}


async def start(bench: PluginsBench, **keys: object) -> None:
    """`alpha` is configured, its vault admitted, its worker ready."""
    bench.plugins.add("alpha", plugin_config(**keys))
    bench.plugins.on_vault("main", None)
    await bench.say_hello()


def test_triggers_go_on_while_a_changed_plugin_is_replaced(tmp_path: Path) -> None:
    """What fires meanwhile waits for the new worker, and is decided by it."""

    async def scenario(bench: PluginsBench) -> None:
        await start(bench)
        bench.nursery.holds_ends = True
        reloading = asyncio.get_running_loop().create_task(bench.plugins.reload({"alpha": plugin_config(**SIZED)}))
        await bench.settle()
        assert (bench.host().state.phase, bench.topics()) == (Phase.STOPPING, {"flow"})
        assert bench.cron.next_due("alpha") is not None
        bench.host().offer(job_call(1))
        bench.nursery.only.end(0)
        assert await reloading == ["restarted alpha"]
        assert (bench.host().state.phase, bench.host().waiting) == (Phase.STARTING, 1)
        assert bench.topics() == {"flow"}
        await bench.say_hello()
        assert (bench.host().waiting, bench.host().deciding) == (0, 1)

    run(scenario, tmp_path)


def test_replaced_plugin_takes_more_waiting_calls_over_than_its_queue_holds(tmp_path: Path) -> None:
    """They were accepted; the new bound is for what is new."""

    async def scenario(bench: PluginsBench) -> None:
        await start(bench, parallel=2, queue=2)
        bench.nursery.holds_ends = True
        for call_id in (1, 2, 3, 4):
            bench.host().offer(job_call(call_id))
        await bench.settle()
        changed = plugin_config(parallel=1, queue=1)
        reloading = asyncio.get_running_loop().create_task(bench.plugins.reload({"alpha": changed}))
        await bench.settle()
        bench.nursery.only.end(-9)
        await reloading
        assert (bench.host().waiting, bench.results) == (4, {})

    run(scenario, tmp_path)


def test_plugin_that_is_switched_off_is_called_no_more_and_its_calls_end(tmp_path: Path) -> None:
    """Its triggers are forgotten, what waited ends with the reason."""

    async def scenario(bench: PluginsBench) -> None:
        await start(bench)
        bench.nursery.holds_ends = True
        off = plugin_config(enabled=False)
        reloading = asyncio.get_running_loop().create_task(bench.plugins.reload({"alpha": off}))
        await bench.settle()
        bench.host().offer(job_call(1))
        bench.nursery.only.end(0)
        await reloading
        await bench.settle()
        assert (bench.topics(), bench.cron.next_due("alpha")) == (set(), None)
        assert bench.results[1].reason == "plugin is stopped: enabled = false"

    run(scenario, tmp_path)


def test_nothing_revives_a_host_that_is_being_replaced(tmp_path: Path) -> None:
    """Neither the operator's restart nor the answer of its chain: there would be a worker too many."""

    async def scenario(bench: PluginsBench) -> None:
        await start(bench)
        bench.nursery.holds_ends = True
        reloading = asyncio.get_running_loop().create_task(bench.plugins.reload({"alpha": plugin_config(**SIZED)}))
        await bench.settle()
        bench.plugins.on_vault("main", None)
        with pytest.raises(PluginHeld, match="is being reloaded"):
            bench.plugins.restart("alpha")
        bench.nursery.only.end(0)
        await reloading
        bench.nursery.holds_ends = False
        await bench.say_hello()
        assert [request.worker for request in bench.nursery.asked] == ["alpha#1", "alpha#2"]
        assert bench.nursery.most_alive == 1

    run(scenario, tmp_path)


def test_vault_that_is_refused_while_its_plugin_is_replaced_stops_the_new_one_only(tmp_path: Path) -> None:
    """The old one is on its way out, and ends as it was told to."""

    async def scenario(bench: PluginsBench) -> None:
        await start(bench)
        bench.nursery.holds_ends = True
        reloading = asyncio.get_running_loop().create_task(bench.plugins.reload({"alpha": plugin_config(**SIZED)}))
        await bench.settle()
        bench.plugins.on_vault("main", "its operator is somebody else")
        assert bench.host().state.phase is Phase.STOPPING
        bench.nursery.only.end(0)
        await reloading
        assert (bench.host().state.phase, bench.topics()) == (Phase.QUARANTINED, set())
        assert bench.host().state.reason == "its operator is somebody else"
        assert len(bench.nursery.asked) == 1

    run(scenario, tmp_path)


def test_generation_goes_on_where_the_host_ended_not_where_the_reload_began(tmp_path: Path) -> None:
    """A restart was under way: it would be counted twice, and a generation is born once."""

    async def scenario(bench: PluginsBench) -> None:
        await start(bench)
        bench.nursery.only.end(1)  # the second generation starts at once
        await bench.plugins.reload({"alpha": plugin_config(**SIZED)})
        await bench.say_hello()
        assert [request.worker for request in bench.nursery.asked][-1] == f"alpha#{len(bench.nursery.asked)}"

    run(scenario, tmp_path)


def test_removed_plugin_ends_its_calls_and_is_called_no_more(tmp_path: Path) -> None:
    """Each with the reason; nothing waits for a plugin that does not come back."""

    async def scenario(bench: PluginsBench) -> None:
        await start(bench)
        bench.nursery.holds_ends = True
        reloading = asyncio.get_running_loop().create_task(bench.plugins.reload({}))
        await bench.settle()
        bench.host().offer(job_call(1))
        bench.nursery.only.end(0)
        assert await reloading == ["stopped alpha"]
        assert (bench.plugins.hosts, bench.topics()) == ({}, set())
        assert bench.results[1].reason == "the plugin was removed from the configuration"

    run(scenario, tmp_path)

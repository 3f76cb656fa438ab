"""What a changed configuration does to the plugins that run: no trigger, no call and no worker is lost or doubled."""

import asyncio
import gc
from pathlib import Path

import pytest

from runnerd.supervisor.context import PluginHeld
from runnerd.supervisor.machine import Phase
from runnerd.turns import AT_ONCE, LOOK_S
from tests.support.calls import job_call
from tests.support.plugins_bench import PluginsBench, plugin_config, run

SIZED = {"params": {"size": 2}}

DROPPED = "delete from trigger_cursors"


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
        assert bench.ledger.written(DROPPED) == [{"plugin": "alpha", "kept": []}], "no slot of now is missed later"

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
        assert bench.ledger.written(DROPPED) == [], "slots that pass now are made up for"
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
        assert bench.ledger.written(DROPPED) == [{"plugin": "alpha", "kept": []}]

    run(scenario, tmp_path)


def test_a_crowd_starts_in_turns_and_each_gets_its_turn(tmp_path: Path) -> None:
    """The next one starts when one is ready, or has failed; until then its calls wait."""

    async def scenario(bench: PluginsBench) -> None:
        names = [f"p{number}" for number in range(2 * AT_ONCE + 2)]
        for name in names:
            bench.plugins.add(name, plugin_config())
        bench.plugins.on_vault("main", None)
        bench.plugins.on_vault("main", None)  # said twice, as after a ledger that was away
        await bench.settle()
        assert len(bench.nursery.asked) == AT_ONCE
        late = bench.host(names[-1])
        late.offer(job_call(1, plugin=names[-1]))
        await bench.settle()
        assert (late.state.phase, late.waiting, bench.results) == (Phase.STOPPED, 1, {})
        await bench.say_hello(names[0])
        assert len(bench.nursery.asked) == AT_ONCE + 1
        for generation in (1, 2):  # its first restart is at once, then it waits
            bench.nursery.alive[f"{names[1]}#{generation}"].end(-9)
            await bench.settle()
        await asyncio.sleep(2 * LOOK_S)
        assert bench.host(names[AT_ONCE + 1]).state.phase is Phase.STARTING
        removed = bench.host(names[-2])
        for name in names[2:-2]:
            await bench.say_hello(name)
        await bench.say_hello(names[-1])
        assert late.deciding == 1
        assert removed.state.phase is Phase.STARTING
        assert len({request.worker for request in bench.nursery.asked}) == len(names) + 1

    run(scenario, tmp_path)


def test_plugin_that_is_restarted_or_removed_while_it_waits_for_its_turn_does_not_start_twice(tmp_path: Path) -> None:
    """The operator's word is at once."""

    async def scenario(bench: PluginsBench) -> None:
        names = [f"p{number}" for number in range(AT_ONCE + 2)]
        for name in names:
            bench.plugins.add(name, plugin_config())
        bench.plugins.on_vault("main", None)
        *_, restarted, removed = names
        bench.plugins.restart(restarted)
        await bench.settle()
        assert bench.host(restarted).state.phase is Phase.STARTING
        await bench.plugins.reload({name: plugin_config() for name in names if name != removed})
        for name in names[:-1]:
            await bench.say_hello(name)
        await asyncio.sleep(2 * LOOK_S)
        workers = [request.worker for request in bench.nursery.asked]
        assert sorted(workers) == sorted(f"{name}#1" for name in names[:-1])
        assert gc.get_freeze_count() > 0, "what a crowd consists of is out of the collector's sight"
        gc.unfreeze()

    run(scenario, tmp_path)

"""Every producer through {crash before commit, crash after commit, restart after downtime, doubled delivery, overload}.

Real processes that are killed by SIGKILL, on a real ledger. How a producer takes part is in `adapter`.
"""

from collections.abc import Awaitable, Callable, Iterator

import pytest

from tests.support.aio import run_async
from tests.support.preloaded import Preloaded, preloaded
from tests.triggers.conformance.adapter import adapter_module, find_adapter, find_names
from tests.triggers.conformance.bench import Bench, Host
from tests.triggers.conformance.host import AUDITOR, PLUGINS

pytestmark = [pytest.mark.integration, pytest.mark.slow]

CRASH_NTH = 6
"""Some calls stand already, and some are on their way."""
DEADLINE_S = 120.0

every_producer = pytest.mark.parametrize("name", find_names())


Scenario = Callable[[Bench], Awaitable[None]]
Run = Callable[[str, Scenario], None]


@pytest.fixture(scope="module")
def python() -> Iterator[Preloaded]:
    """What forks the hosts: with everything that any of them needs."""
    with preloaded(*(adapter_module(name) for name in find_names()), "runnerd.http.server") as server:
        yield server


@pytest.fixture
def run(ledger_dsn: str, python: Preloaded) -> Run:
    """Runs a scenario of a producer, with a source; and nothing may be doubled in the end."""

    async def whole(name: str, scenario: Scenario) -> None:
        adapter = find_adapter(name)
        async with adapter.source(ledger_dsn) as source:
            bench = Bench(adapter, source, ledger_dsn, python)
            await scenario(bench)
            bench.check_none_doubled()

    return lambda name, scenario: run_async(whole(name, scenario), deadline_s=DEADLINE_S)


async def cause_until_dead(bench: Bench, host: Host) -> list[str]:
    """One stimulus after the other, until the host has reached its crash point."""
    names: list[str] = []
    while not host.is_dead:
        names += await bench.source.cause(1)
    return names


@every_producer
@pytest.mark.parametrize("point", ["call.storing", "store.committing", "store.committed", "call.stored"])
def test_crash_before_or_after_the_commit_loses_and_doubles_nothing(name: str, point: str, run: Run) -> None:
    """Killed before anything is stored, when all is ready to be committed, when it was, and before anybody is told."""

    async def scenario(bench: Bench) -> None:
        async with bench.host(crash_at=point, crash_nth=CRASH_NTH) as host:
            before = await cause_until_dead(bench, host)
        async with bench.host() as host:
            after = await bench.source.cause(3)
            await bench.until_called([*before, *after] if bench.adapter.keeps else after)
            await host.stop()
        assert bench.called("state <> 'done'") == {}

    run(name, scenario)


@pytest.mark.parametrize(
    "name, point",
    [("outbox", "outbox.read"), ("outbox", "call.storing"), ("outbox", "call.stored"), ("block", "store.committed")],
)
def test_a_copy_stands_exactly_where_its_original_does_whatever_crashes(name: str, point: str, run: Run) -> None:
    """One for each event that others got, which two of them take: none is lost with the process, none is doubled."""

    async def scenario(bench: Bench) -> None:
        async with bench.host(crash_at=point, crash_nth=CRASH_NTH, is_audited=True) as host:
            before = await cause_until_dead(bench, host)
        originals = {stimulus for plugin, stimulus in bench.called() if plugin != AUDITOR}
        assert {stimulus for plugin, stimulus in bench.called() if plugin == AUDITOR} == originals
        async with bench.host(is_audited=True) as host:
            await bench.until_called([*before, *await bench.source.cause(3)])
            await host.stop()
        called = bench.called()
        wanted = {stimulus: 1 for plugin, stimulus in called if plugin != AUDITOR}
        assert {stimulus: count for (plugin, stimulus), count in called.items() if plugin == AUDITOR} == wanted

    run(name, scenario)


@every_producer
def test_restart_after_downtime_goes_on_where_it_was(name: str, run: Run) -> None:
    """What happened before, meanwhile and afterwards is called for, once; meanwhile only if the source keeps it."""

    async def scenario(bench: Bench) -> None:
        async with bench.host() as host:
            before = await bench.source.cause(3)
            await bench.until_called(before)
            await host.kill()
        meanwhile = await bench.source.cause(8)
        async with bench.host() as host:
            after = await bench.source.cause(3)
            await bench.until_called([*before, *(meanwhile if bench.adapter.keeps else []), *after])
            await host.stop()
        if not bench.adapter.keeps:
            assert not bench.called().keys() & {(plugin, name) for plugin in PLUGINS for name in meanwhile}

    run(name, scenario)


@every_producer
def test_what_is_delivered_twice_is_called_for_once(name: str, run: Run) -> None:
    """By a twin on the same ledger where that is the same producer, and by the source itself."""

    async def scenario(bench: Bench) -> None:
        async with bench.host(twins=bench.adapter.twins) as host:
            first = await bench.source.cause(5)
            await bench.until_called(first)
            await bench.source.repeat()
            second = await bench.source.cause(3)
            await bench.until_called([*first, *second])
            await host.stop()

    run(name, scenario)


@every_producer
def test_under_overload_nothing_is_lost_without_being_counted(name: str, run: Run) -> None:
    """More than the plugins can take: each stimulus has its call, or is refused and counted where that is allowed."""

    async def scenario(bench: Bench) -> None:
        adapter = bench.adapter
        async with bench.host(room=3, take_s=adapter.take_s) as host:
            names = await bench.source.cause(adapter.flood)
            last = await bench.source.cause(1)  # what comes in order has come when this has
            if not adapter.is_bounded:
                await bench.until_called([*names, *last], DEADLINE_S)
            wanted = {(plugin, name) for plugin in PLUGINS for name in names}
            report = await host.report()
            while wanted - bench.called().keys() - bench.refused(report).keys():
                last = await bench.source.cause(1)
                report = await host.report()
            refused = bench.refused(report)
            assert report.counted == refused.total()
            assert bool(refused) is adapter.is_bounded
            assert not bench.called().keys() & refused.keys()

    run(name, scenario)

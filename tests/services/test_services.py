"""Background services: their order, what becomes of one that fails, and that nothing it says is swallowed."""

import asyncio
from collections.abc import Callable

import pytest

from runnerd.services.service import LoopService, Restart, ServiceError, ServicePolicy, ServiceUnavailable
from runnerd.services.services import Services, ServiceState
from runnerd.tasks import end
from tests.support.aio import run_async
from tests.support.until import until
from tests.support.virtual_time import VirtualTimeLoop

QUICK = ServicePolicy(backoff_first_s=0.001, backoff_max_s=0.002)


class Probe:
    """A service whose parts fail as often as they are told, and which writes down what was asked of it."""

    def __init__(self, name: str, diary: list[str], *, starts_failing: int = 0, runs_failing: int = 0) -> None:
        self.name = name
        self.trouble: str | None = None
        self.stop_error: Exception | None = None
        self._diary = diary
        self._starts_failing = starts_failing
        self._runs_failing = runs_failing
        self.release = asyncio.Event()

    async def start(self) -> None:
        self._diary.append(f"start {self.name}")
        if self._starts_failing:
            self._starts_failing -= 1
            raise ServiceUnavailable("the relay is away")

    async def run(self) -> None:
        self._diary.append(f"run {self.name}")
        if self._runs_failing:
            self._runs_failing -= 1
            raise OSError("no route")
        await self.release.wait()

    async def stop(self) -> None:
        self._diary.append(f"stop {self.name}")
        if self.stop_error is not None:
            raise self.stop_error


def kept(probe: Probe, policy: ServicePolicy = QUICK) -> tuple[Services, list[str]]:
    """That one alone, and the vital ones that ended."""
    ended: list[str] = []
    services = Services(ended.append)
    services.add(probe, policy)
    return services, ended


def is_in(services: Services, state: ServiceState) -> Callable[[], bool]:
    return lambda: services.view()[0].state is state


def test_they_start_in_order_and_stop_in_reverse() -> None:
    """The second relies on the first, also at the end."""

    async def scenario() -> list[str]:
        diary: list[str] = []
        services = Services(lambda _: None)
        for name in ("one", "two", "three"):
            services.add(Probe(name, diary))
        await services.start()
        await until(lambda: "run three" in diary)
        assert [view.state for view in services.view()] == [ServiceState.RUNNING] * 3
        await services.close()
        assert [view.state for view in services.view()] == [ServiceState.STOPPED] * 3
        return [line for line in diary if not line.startswith("run")]

    assert run_async(scenario()) == [
        "start one", "start two", "start three", "stop three", "stop two", "stop one",
    ]  # fmt: skip


def test_one_that_does_not_come_up_is_tried_again_beside_the_others(caplog: pytest.LogCaptureFixture) -> None:
    """The one after it does not wait; until it is up, `status` says why it is not."""

    async def scenario() -> None:
        diary: list[str] = []
        services = Services(lambda _: None)
        services.add(Probe("relay", diary, starts_failing=2), ServicePolicy(backoff_first_s=0.05))
        services.add(Probe("other", diary))
        await services.start()
        assert services.problems() == ["service relay retrying: the relay is away"]
        assert services.view()[1].state is ServiceState.RUNNING
        await until(is_in(services, ServiceState.RUNNING))
        assert services.view()[0].restarts == 2
        assert services.problems() == []
        await services.close()
        assert diary.count("stop relay") == 1  # only the start that returned is stopped

    run_async(scenario())
    assert caplog.text.count("service relay failed: the relay is away") == 2


def test_one_that_fails_is_stopped_and_started_again(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever it raised stands in the log, with its traceback when it is no error of ours."""

    async def scenario() -> list[str]:
        diary: list[str] = []
        services, _ = kept(Probe("relay", diary, runs_failing=1))
        await services.start()
        await until(lambda: diary.count("run relay") == 2)
        await services.close()
        return diary

    assert run_async(scenario()) == [
        "start relay", "run relay", "stop relay", "start relay", "run relay", "stop relay",
    ]  # fmt: skip
    (record,) = [record for record in caplog.records if "no route" in record.getMessage()]
    assert record.exc_info is not None
    assert record.runnerd_fields == {"action": "service_failed", "service": "relay"}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "restart, fails, state",
    [
        (Restart.NEVER, True, ServiceState.FAILED),
        (Restart.NEVER, False, ServiceState.ENDED),
        (Restart.ON_FAILURE, False, ServiceState.ENDED),
        (Restart.ALWAYS, False, ServiceState.RETRYING),
        (Restart.VITAL, True, ServiceState.FAILED),
        (Restart.VITAL, False, ServiceState.ENDED),
    ],
)
def test_what_becomes_of_one_whose_run_is_over(restart: Restart, fails: bool, state: ServiceState) -> None:
    """As its policy says; the end of a vital one is told."""

    async def scenario() -> None:
        probe = Probe("relay", [], runs_failing=int(fails))
        probe.release.set()
        services, ended = kept(probe, ServicePolicy(restart=restart, backoff_first_s=60))
        await services.start()
        await until(is_in(services, state))
        assert ended == ["relay"] * (restart is Restart.VITAL)
        assert (services.problems() == []) is (state is ServiceState.ENDED)
        await services.close()

    run_async(scenario())


def test_a_vital_one_that_does_not_come_up_keeps_all_from_starting() -> None:
    """And those before it are stopped by whoever closes."""

    async def scenario() -> list[str]:
        diary: list[str] = []
        services = Services(lambda _: None)
        services.add(Probe("one", diary))
        services.add(Probe("ledger", diary, starts_failing=1), ServicePolicy(restart=Restart.VITAL))
        services.add(Probe("three", diary))
        with pytest.raises(ServiceError, match="service ledger: the relay is away"):
            await services.start()
        await services.close()
        return [line for line in diary if "run" not in line]

    assert run_async(scenario()) == ["start one", "start ledger", "stop one"]


def test_one_that_hangs_is_not_waited_for() -> None:
    """Neither at its start nor at its stop."""

    class Hanging(Probe):
        async def start(self) -> None:
            await asyncio.Event().wait()

    class Staying(Probe):
        async def stop(self) -> None:
            await asyncio.Event().wait()

    async def scenario() -> None:
        policy = ServicePolicy(start_deadline_s=0.01, stop_deadline_s=0.01, backoff_first_s=60)
        services = Services(lambda _: None)
        services.add(Hanging("slow", []), policy)
        services.add(Staying("stays", []), policy)
        await services.start()
        assert services.problems() == ["service slow retrying: it took longer than 0.01 s"]
        await services.close()

    run_async(scenario())


def test_one_that_takes_no_notice_of_its_end_keeps_no_other_from_its_own(caplog: pytest.LogCaptureFixture) -> None:
    """`stop_deadline_s` holds for the end of its `run` as well as for its `stop`."""

    class Stubborn(Probe):
        async def run(self) -> None:
            await self.stay()

        async def stop(self) -> None:
            await super().stop()
            await self.stay()

        async def stay(self) -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                await asyncio.Event().wait()

    async def scenario() -> list[str]:
        diary: list[str] = []
        services = Services(lambda _: None)
        services.add(Probe("one", diary))
        services.add(Stubborn("two", diary), ServicePolicy(stop_deadline_s=2))
        await services.start()
        await asyncio.sleep(1)
        await services.close()
        await end(asyncio.all_tasks() - {asyncio.current_task()})  # the second time it does
        return [line for line in diary if line.startswith("stop")]

    assert run_async(scenario(), loop_factory=VirtualTimeLoop) == ["stop two", "stop one"]
    assert "task service:two did not end within 2 s of its cancellation" in caplog.text
    assert "service two did not stop in order: it took longer than 2 s" in caplog.text


def test_what_goes_wrong_at_a_stop_is_logged_and_the_others_stop(caplog: pytest.LogCaptureFixture) -> None:
    """Nobody is left to mend it."""

    async def scenario() -> list[str]:
        diary: list[str] = []
        services = Services(lambda _: None)
        services.add(Probe("one", diary))
        broken = Probe("two", diary)
        broken.stop_error = OSError("the socket is gone")
        services.add(broken)
        await services.start()
        await services.close()
        return diary

    assert run_async(scenario())[-2:] == ["stop two", "stop one"]
    assert "service two did not stop in order: internal error: OSError: the socket is gone" in caplog.text


def test_its_own_trouble_is_a_problem_while_it_runs() -> None:
    """It helps itself, and says what is wrong."""

    async def scenario() -> None:
        probe = Probe("relay", [])
        services, _ = kept(probe)
        await services.start()
        assert services.problems() == []
        probe.trouble = "three messages wait"
        assert services.problems() == ["service relay: three messages wait"]
        await services.close()

    run_async(scenario())


def test_two_of_one_name_are_refused() -> None:
    """Logs and `status` could not tell them apart."""
    services = Services(lambda _: None)
    services.add(LoopService("lag", asyncio.Event().wait))
    with pytest.raises(ValueError, match="there is a service 'lag' already"):
        services.add(LoopService("lag", asyncio.Event().wait))

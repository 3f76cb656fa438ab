"""Background tasks with an owner: waited for, ended, and never failing in silence."""

import asyncio
import logging

import pytest

from runnerd.tasks import END_DEADLINE_S, Tasks, end, within
from tests.support.aio import run_async
from tests.support.virtual_time import VirtualTimeLoop


def test_task_that_fails_is_logged_by_name_and_the_others_go_on(caplog: pytest.LogCaptureFixture) -> None:
    """With its traceback."""

    async def scenario() -> None:
        tasks, done = Tasks(), asyncio.Event()

        async def fail() -> None:
            raise ValueError("defect")

        async def work() -> None:
            await asyncio.sleep(1)
            done.set()

        tasks.spawn(fail(), "kind:alpha")
        tasks.spawn(work(), "kind:beta")
        await asyncio.wait_for(done.wait(), 5)
        await tasks.cancel()

    with caplog.at_level(logging.ERROR):
        run_async(scenario(), loop_factory=VirtualTimeLoop)
    (record,) = caplog.records
    assert record.getMessage() == "task kind:alpha failed: defect"
    assert record.exc_info


@pytest.mark.parametrize("defect", [ValueError("defect"), None], ids=["raises", "returns"])
def test_vital_task_that_ends_is_told_to_its_owner(caplog: pytest.LogCaptureFixture, defect: ValueError | None) -> None:
    """Whatever way it ended: what it did is not done any more."""

    async def scenario() -> None:
        tasks, ended = Tasks(), asyncio.get_running_loop().create_future()

        async def work() -> None:
            if defect is not None:
                raise defect

        tasks.spawn_vital(work(), "producer:cron", ended.set_result)
        assert await ended == "producer:cron"

    with caplog.at_level(logging.CRITICAL):
        run_async(scenario(), loop_factory=VirtualTimeLoop)
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.CRITICAL] == [
        "vital task producer:cron ended"
    ]


def test_vital_task_that_is_cancelled_is_no_failure() -> None:
    """That is how its owner ends it."""

    async def scenario() -> None:
        tasks, ended = Tasks(), list[str]()
        tasks.spawn_vital(asyncio.Event().wait(), "producer:cron", ended.append)
        await asyncio.sleep(1)
        await tasks.cancel()
        await asyncio.sleep(0)
        assert ended == []

    run_async(scenario(), loop_factory=VirtualTimeLoop)


def test_finish_waits_for_what_tasks_start_meanwhile() -> None:
    """The end of a call is such a task: it must not be cut off because it began a moment too late."""

    async def scenario() -> None:
        tasks, steps = Tasks(), []

        async def step(number: int) -> None:
            await asyncio.sleep(1)
            steps.append(number)
            if number < 5:
                tasks.spawn(step(number + 1), f"step:{number + 1}")

        tasks.spawn(step(1), "step:1")
        await tasks.finish(60)
        assert steps == [1, 2, 3, 4, 5]

    run_async(scenario(), loop_factory=VirtualTimeLoop)


def test_finish_cancels_what_takes_too_long() -> None:
    """And is over in time."""

    async def scenario() -> None:
        tasks = Tasks()
        task = tasks.spawn(asyncio.Event().wait(), "never")
        await tasks.finish(3)
        assert task.cancelled()
        assert asyncio.get_running_loop().time() == pytest.approx(3, abs=0.1)

    run_async(scenario(), loop_factory=VirtualTimeLoop)


async def ignore_one_cancellation() -> None:
    """As code does that tells a peer goodbye who is away."""
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        await asyncio.Event().wait()


def test_what_does_not_end_when_it_is_cancelled_is_named_and_left_behind(caplog: pytest.LogCaptureFixture) -> None:
    """It keeps nobody from his own end; what does end is waited for, and not named."""

    async def scenario() -> None:
        tasks = Tasks()
        stuck = tasks.spawn(ignore_one_cancellation(), "producer:slow")
        tasks.spawn(asyncio.Event().wait(), "producer:quick")
        await asyncio.sleep(0)
        await tasks.cancel()
        assert not stuck.done()
        stuck.cancel()
        assert asyncio.get_running_loop().time() == pytest.approx(END_DEADLINE_S, abs=0.1)

    run_async(scenario(), loop_factory=VirtualTimeLoop)
    said = [record.getMessage() for record in caplog.records]
    assert said == ["task producer:slow did not end within 5 s of its cancellation, and is left behind"]


def test_a_deadline_holds_for_what_takes_no_notice_of_it() -> None:
    """`asyncio.timeout` alone would wait for ever."""

    async def scenario() -> None:
        with pytest.raises(TimeoutError):
            await within(3, ignore_one_cancellation(), "hook:slow")
        assert asyncio.get_running_loop().time() == pytest.approx(3 + END_DEADLINE_S, abs=0.1)
        await end(asyncio.all_tasks() - {asyncio.current_task()})  # the second time it does
        assert await within(3, asyncio.sleep(1, "done"), "hook:quick") == "done"
        with pytest.raises(OSError, match="gone"):
            await within(3, fail(), "hook:failing")

    async def fail() -> None:
        raise OSError("gone")

    run_async(scenario(), loop_factory=VirtualTimeLoop)

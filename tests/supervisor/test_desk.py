"""The order and the bounds of one plugin's calls, and who is to blame when a worker ends."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.trigger import Overlap
from runnerd.supervisor.desk import Deciding, Desk, blame
from tests.support.calls import job_call
from tests.support.virtual_time import EPOCH


def taken(desk: Desk) -> list[int]:
    """Take all that may start."""
    ids = []
    while (call := desk.take(0.0)) is not None:
        ids.append(call.id)
    return ids


def test_calls_start_in_order_up_to_parallel() -> None:
    """What does not fit waits, and starts when a place is free."""
    desk = Desk(parallel=2, queue=10)
    for call_id in (1, 2, 3):
        assert desk.put(job_call(call_id))
    assert taken(desk) == [1, 2]
    assert (desk.waiting, sorted(desk.running)) == (1, [1, 2])
    ended = desk.end(1)
    assert ended is not None
    assert ended.call.id == 1
    assert taken(desk) == [3]


def test_full_queue_takes_no_new_call_but_keeps_the_place_of_a_taken_one() -> None:
    """The bound is for what is new: a call that was with a worker is never dropped."""
    desk = Desk(parallel=1, queue=2)
    assert [desk.put(job_call(call_id)) for call_id in (1, 2, 3)] == [True, True, False]
    call = desk.take(0.0)
    assert call is not None
    assert desk.put(job_call(4))
    desk.end(call.id)
    desk.put_back(call)
    assert desk.waiting == 3
    assert not desk.put(job_call(5))


def test_calls_put_back_come_first_and_oldest_first() -> None:
    """A restart does not change the order of what waited."""
    desk = Desk(parallel=10, queue=10)
    desk.put(job_call(7))
    desk.put_back(job_call(5), job_call(3), job_call(4))
    assert taken(desk) == [3, 4, 5, 7]


def test_a_job_with_a_limit_of_its_own_keeps_no_other_job_waiting() -> None:
    """What waits for its own kind is passed by; when one has ended the oldest of its job is the next."""
    desk = Desk(parallel=4, queue=10, of_jobs={"settle": 1})
    for call_id, job in enumerate(("settle", "settle", "decide", "settle", "decide"), 1):
        desk.put(job_call(call_id, job=job))
    assert taken(desk) == [1, 3, 5]
    desk.end(3)
    assert taken(desk) == []
    desk.end(1)
    assert taken(desk) == [2]
    desk.put_back(job_call(1, job="settle"))
    desk.end(2)
    assert taken(desk) == [1]


@given(
    st.lists(st.tuples(st.sampled_from(["settle", "audit", "decide"]), st.booleans()), max_size=20),
    st.lists(st.integers(0, 5), max_size=40),
)
def test_limits_of_jobs_hold_and_nothing_waits_without_reason(wanted: list[tuple[str, bool]], ends: list[int]) -> None:
    """At every moment: no job beyond its limit, none waiting that could run, and within a job the oldest first."""
    limits = {"settle": 1, "audit": 2}
    desk = Desk(parallel=3, queue=100, of_jobs=limits)
    waiting = []
    for call_id, (job, is_queued) in enumerate(wanted, 1):
        desk.put(job_call(call_id, job=job, source=job, overlap="queue" if is_queued else "parallel"))
        waiting.append(call_id)
    for end in [*ends, *[0] * len(wanted)]:
        started = taken(desk)
        assert all(started_id in waiting for started_id in started)
        waiting = [call_id for call_id in waiting if call_id not in started]
        running = [deciding.call for deciding in desk.running.values()]
        for job, limit in limits.items():
            assert sum(call.job == job for call in running) <= limit
        if len(running) < 3:
            could = [
                call_id for call_id in waiting
                if sum(call.job == wanted[call_id - 1][0] for call in running)
                < limits.get(wanted[call_id - 1][0], 3) and not wanted[call_id - 1][1]
            ]  # fmt: skip
            assert could == []
        if running:
            desk.end(sorted(desk.running)[end % len(running)])
    assert (desk.waiting, desk.running) == (0, {})


@pytest.mark.parametrize(
    "parallel, of_jobs, overlap, is_kept_back",
    [(9, {}, "queue", True), (1, {}, "parallel", True), (9, {"decide": 1}, "parallel", True),
     (2, {}, "parallel", False), (9, {"decide": 2}, "parallel", False)],
    ids=["queue", "one of the plugin", "one of the job", "two of the plugin", "two of the job"],
)  # fmt: skip
def test_what_is_decided_one_by_one_waits_until_the_decision_before_it_is_stored(
    parallel: int, of_jobs: dict[str, int], overlap: Overlap, is_kept_back: bool
) -> None:
    """Else it would not see what that one wrote. Other calls need not wait: nothing was promised of them."""
    rung: list[bool] = []
    desk = Desk(parallel=parallel, queue=10, of_jobs=of_jobs, on_room=lambda: rung.append(True))
    calls = [job_call(call_id, overlap=overlap) for call_id in (1, 2, 3, 4)]
    for call in calls:
        desk.put(call)
    first = taken(desk)
    desk.end(1, is_stored=False)
    assert taken(desk) == ([] if is_kept_back else [len(first) + 1])
    desk.stored(calls[0])
    assert rung == [True]
    assert taken(desk) == ([2] if is_kept_back else [])


def test_a_suspect_runs_alone() -> None:
    """A call that ended a worker is beside no other call, so that the next end points at it and at nobody else."""
    desk = Desk(parallel=3, queue=10)
    desk.put_back(job_call(1, attempts=1), job_call(2, attempts=2), job_call(3), job_call(4))
    assert taken(desk) == [1]
    desk.end(1)
    assert taken(desk) == [2]
    desk.end(2)
    assert taken(desk) == [3, 4]


def test_a_suspect_waits_until_nothing_runs_and_what_is_behind_it_waits_too() -> None:
    """Else there would always be something beside it."""
    desk = Desk(parallel=3, queue=10)
    desk.put(job_call(1))
    assert taken(desk) == [1]
    desk.put_back(job_call(2, attempts=1), job_call(3))
    assert taken(desk) == []
    desk.end(1)
    assert taken(desk) == [2]


def test_expired_calls_are_taken_from_anywhere_in_the_queue() -> None:
    """At the deadline itself it is too late."""
    desk = Desk(parallel=1, queue=10)
    for call_id, deadline_s in ((1, 5.0), (2, 1.0), (3, 1.5), (4, 9.0)):
        desk.put(job_call(call_id, deadline_s=deadline_s))
    assert [call.id for call in desk.take_expired(EPOCH + timedelta(seconds=1.5))] == [2, 3]
    assert [call.id for call in desk.take_all_waiting()] == [1, 4]
    assert desk.waiting == 0


def test_ending_a_call_that_is_not_here_does_nothing() -> None:
    """An answer may be late."""
    assert Desk(parallel=1, queue=1).end(9) is None


@pytest.mark.parametrize(
    "attempts, guilty, blamed",
    [
        ({1: 0}, None, {1: 1}),
        ({1: 0, 2: 0}, None, {1: 1, 2: 1}),
        ({1: 0, 2: 1, 3: 0}, None, {2: 2}),
        ({1: 0, 2: 1}, 1, {1: 1}),
        ({1: 0, 2: 0}, 9, {}),
        ({}, None, {}),
    ],
    ids=["alone", "nobody knows", "the suspect", "overdue, not the suspect", "the overdue one had answered", "idle"],
)
def test_blame_falls_on(attempts: dict[int, int], guilty: int | None, blamed: dict[int, int]) -> None:
    """The overdue call; else a suspect; else all, because nobody can know."""
    running = [Deciding(job_call(call_id, attempts=tried), 0.0) for call_id, tried in attempts.items()]
    counted, innocent = blame(running, guilty)
    assert {call.id: call.attempts for call in counted} == blamed
    assert {call.id: call.attempts for call in innocent} == {k: v for k, v in attempts.items() if k not in blamed}


@given(st.lists(st.sampled_from(["put", "take", "end", "back", "expire"]), max_size=60))
def test_no_call_is_lost_or_doubled(steps: list[str]) -> None:
    """Whatever is done, each call is in exactly one place."""
    desk, number, gone = Desk(parallel=3, queue=5), 0, set()
    for step in steps:
        running = [deciding.call for deciding in desk.running.values()]
        if step == "put":
            number += 1
            if not desk.put(job_call(number, deadline_s=number % 4)):
                gone.add(number)
        elif step == "take":
            desk.take(0.0)
        elif step == "expire":
            gone |= {call.id for call in desk.take_expired(EPOCH + timedelta(seconds=1))}
        elif running:
            desk.end(running[0].id)
            if step == "back":
                desk.put_back(running[0])
            else:
                gone.add(running[0].id)
        assert len(desk.running) <= 3
    running_ids = set(desk.running)
    waiting = [call.id for call in desk.take_all_waiting()]
    assert sorted([*waiting, *running_ids, *gone]) == list(range(1, number + 1))

"""What a plugin's triggers may ask for: as much as may wait, and a rate in the long run."""

from runnerd.supervisor.intake import Intake
from runnerd.supervisor.rate import RateLimit


def test_a_full_queue_takes_no_more() -> None:
    """And says how many wait; when one has gone there is a place."""
    intake = Intake(queue=2, per_s=50)
    assert intake.refusal(0.0, waiting=1) is None
    assert intake.refusal(0.0, waiting=2) == "queue is full (2 calls wait)"
    assert intake.refusal(0.0, waiting=1) is None


def test_a_burst_as_large_as_the_queue_and_then_the_rate() -> None:
    """640 slots a second, which a plugin may declare, come down to the operator's rate."""
    intake = Intake(queue=100, per_s=50)
    taken = [intake.refusal(number / 640, waiting=0) is None for number in range(6_400)]
    assert sum(taken[:100]) == 100
    assert 100 + 9 * 50 <= sum(taken) <= 100 + 10 * 50
    assert intake.refusal(10.0, waiting=0) in (None, "more than 50 calls a second")


def test_room_is_what_keeps_the_worker_busy_and_no_more() -> None:
    """What could wait where it comes from does not grow old in the queue."""
    intake = Intake(queue=1_000, per_s=1_000)
    assert intake.room(0.0, waiting=0) == 32
    assert intake.room(0.0, waiting=30) == 2
    assert intake.room(0.0, waiting=900) == 0
    assert Intake(queue=1_000, per_s=1_000, parallel=16).room(0.0, waiting=10) == 54
    assert Intake(queue=5, per_s=1_000, parallel=16).room(0.0, waiting=1) == 4


def test_room_is_bounded_by_the_rate() -> None:
    """Calls that would be beyond it wait at their source; asking takes nothing."""
    intake = Intake(queue=10, per_s=10)
    for _ in range(10):
        assert intake.refusal(0.0, waiting=0) is None
    assert [intake.room(0.0, waiting=0) for _ in range(3)] == [0, 0, 0]
    assert intake.room(0.55, waiting=0) == 5


def test_a_call_passes_the_rates_of_its_job_its_plugin_and_all() -> None:
    """One that is refused by one of them is not counted with the others."""
    all_routes = RateLimit(4, 4)
    intake = Intake(queue=10, per_s=10, of_jobs={"settle": 1}, all_routes=all_routes)
    assert intake.refusal(0.0, 0, "settle") is None
    assert intake.refusal(0.0, 0, "settle") == "more than 1 calls a second of job settle"
    assert [intake.refusal(0.0, 0, "decide") for _ in range(3)] == [None] * 3
    assert intake.refusal(0.0, 0, "decide") == "more than 4 calls a second of all plugins"
    assert (intake.room(0.0, 0, ["decide"]), intake.room(1.0, 0, ["decide"]), intake.room(1.0, 0, ["settle"])) == (
        0, 4, 1,
    )  # fmt: skip
    assert intake.room(1.0, 0, ["decide", "settle"]) == 1

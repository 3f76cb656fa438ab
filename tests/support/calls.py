"""JobCalls for tests, as the ledger would give them."""

from datetime import datetime, timedelta

from protocol.messages import TriggerKind
from protocol.trigger import DEFAULT_JOB, Overlap
from runnerd.store.calls import JobCall
from runnerd.triggers.producer import Terms
from tests.support.virtual_time import EPOCH


def job_call(
    call_id: int,
    *,
    plugin: str = "alpha",
    trigger: TriggerKind = TriggerKind.EVENT,
    attempts: int = 0,
    fired_at: datetime = EPOCH,
    deadline_s: float = 60.0,
    source: str = "",
    overlap: Overlap = "parallel",
    job: str = DEFAULT_JOB,
    is_dry_run: bool = False,
) -> JobCall:
    """A call of `plugin` with plain values."""
    return JobCall(
        id=call_id,
        plugin=plugin,
        trigger=trigger,
        identity=f"test {call_id}",
        principal="test",
        topic="flow" if trigger is TriggerKind.EVENT else None,
        payload="",
        due_at=fired_at,
        fired_at=fired_at,
        deadline_at=fired_at + timedelta(seconds=deadline_s),
        attempts=attempts,
        source=source,
        overlap=overlap,
        job=job,
        is_dry_run=is_dry_run,
    )


def terms(spread_s: float = 0.0, call_deadline_s: float = 60.0) -> Terms:
    """A plugin's terms for its producers."""
    return Terms(call_deadline=timedelta(seconds=call_deadline_s), spread_s=spread_s)

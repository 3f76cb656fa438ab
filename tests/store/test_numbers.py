"""The number of a dry run: nobody else's, and without a row the ledger takes nothing of it."""

from datetime import timedelta

import pytest

from runnerd.store import calls, decisions, intents, numbers
from runnerd.store.decisions import DecisionRecord
from runnerd.store.errors import CommitRefused
from runnerd.store.statement import Statement
from runnerd.store.store import Store
from tests.store.test_statements import AT, an_intent, new_call
from tests.support.aio import run_async


def test_the_number_of_a_dry_run_is_no_calls_and_nothing_can_be_stored_under_it(ledger_dsn: str) -> None:
    """Whatever a defect might plan for it: the ledger itself refuses."""

    async def scenario() -> None:
        store = Store(ledger_dsn)
        await store.open()
        try:
            ((before,),) = await store.commit(calls.insert(new_call("alpha", "a")))
            ((number,),) = await store.commit(numbers.next_call_id())
            ((after,),) = await store.commit(calls.insert(new_call("alpha", "b")))
            assert before["id"] < number["id"] < after["id"]
            record = DecisionRecord(
                call_id=number["id"], plugin="alpha", generation=1, digest="sha256:0", attempt=1, context="{}",
                outcome="{}", decided_at=AT + timedelta(seconds=1), decide_ms=1.0,
            )  # fmt: skip
            wanted: list[Statement] = [decisions.insert(record), intents.plan(an_intent(number["id"]), AT)]
            for statement in wanted:
                with pytest.raises(CommitRefused):
                    await store.commit(statement)
        finally:
            await store.close()

    run_async(scenario())

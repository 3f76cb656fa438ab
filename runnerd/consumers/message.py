"""A JobResult as the JSON that leaves runnerd. Its names are an API: docs/operations.md."""

import msgspec

from runnerd.store.calls import JobResult


def message_of(result: JobResult) -> str:
    """One line of JSON. `id` is the call's: a receiver that has seen it drops the message."""
    call = result.call
    return msgspec.json.encode(
        {
            "id": call.id,
            "plugin": call.plugin,
            "job": call.job,
            "outcome": result.outcome.value,
            "reason": result.reason,
            "transaction": result.transaction,
            "finished_at": result.finished_at,
            "trigger": call.trigger.value,
            "topic": call.topic,
            "due_at": call.due_at,
            "origin": {
                "source": call.source,
                "id": call.identity,
                "principal": call.principal,
                "block": call.block,
            },
        }
    ).decode()

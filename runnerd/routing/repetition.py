"""Whether a call that is asked for under a key that was used before is the same call. Pure.

Asked by whoever takes keys: `runnerctl fire --key`, and requests with an Idempotency-Key.
"""

from psycopg.rows import DictRow

from runnerd.store.calls import NewCall


def refusal(found: DictRow, asked: NewCall, key: str) -> str | None:
    """Why `found`, the call of that key by `calls.find`, is not `asked` once more; None if it is. `key`: its name."""
    if (found["payload"], found["job"]) == (asked.payload, asked.job):
        return None
    return f"this {key} made call {found['id']} with another payload or job; take a new key"

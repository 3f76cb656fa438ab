"""Statements about Decisions and the plugin state that commits with them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from protocol.messages import StatePut, StateWrite
from runnerd.store.statement import Bulk, Form, Statement


@dataclass(frozen=True, slots=True)
class StateLimits:
    """What a plugin's state may hold: UTF-8 bytes of its keys and values, and keys."""

    max_bytes: int = 1 << 20
    max_keys: int = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionRecord:
    """A Decision as the ledger keeps it. `context` is the Decide frame and `outcome` the answer, both JSON text."""

    call_id: int
    plugin: str
    generation: int
    digest: str
    attempt: int
    context: str
    outcome: str
    decided_at: datetime
    decide_ms: float


_ONE: Final = """
    on conflict (call_id) do update set attempt = case
        when (decisions.decided_at, decisions.generation, decisions.attempt)
             = (excluded.decided_at, excluded.generation, excluded.attempt) then excluded.attempt
        else (select 0 from require(false, 'the call was decided before')) end
"""
"""There is one Decision of a call: this very one may come again after a lost answer, another is refused."""
_INSERT: Final = Form(
    f"""
    insert into decisions (call_id, plugin, generation, digest, attempt, context, outcome, decided_at, decide_ms)
    select * from unnest(%(call_id)s::bigint[], %(plugin)s::text[], %(generation)s::bigint[], %(digest)s::text[],
                         %(attempt)s::int[], %(context)s::text[], %(outcome)s::text[], %(decided_at)s::timestamptz[],
                         %(decide_ms)s::float8[])
    {_ONE}
    """,  # noqa: S608  # a constant
    DecisionRecord.__slots__,
)


def insert(record: DecisionRecord) -> Statement:
    """Store the Decision of a call. Rolls the commit back if another one stands."""
    parameters = {name: getattr(record, name) for name in _INSERT.columns}
    weight = len(record.context) + len(record.outcome)
    return Statement(
        f"""
        insert into decisions (call_id, plugin, generation, digest, attempt, context, outcome, decided_at, decide_ms)
        values (%(call_id)s, %(plugin)s, %(generation)s, %(digest)s, %(attempt)s, %(context)s, %(outcome)s,
                %(decided_at)s, %(decide_ms)s)
        {_ONE}
        """,  # noqa: S608  # a constant
        parameters,
        is_independent=True,
        bulk=Bulk(_INSERT, (tuple(parameters.values()),), record.call_id, weight),
    )


def outcomes_of(call_ids: Sequence[int]) -> Statement:
    """What was decided for some calls: `call_id` and the JSON text."""
    return Statement("select call_id, outcome from decisions where call_id = any(%(ids)s)", {"ids": list(call_ids)})


def write_state(plugin: str, writes: Sequence[StateWrite], limits: StateLimits) -> list[Statement]:
    """The state writes of a Decision, to commit with it. What only removes is within any limit."""
    statements = [
        put_state(plugin, write.key, write.value) if isinstance(write, StatePut) else delete_state(plugin, write.key)
        for write in writes
    ]
    if any(isinstance(write, StatePut) for write in writes):
        statements.append(keep_state_within(plugin, limits))
    return statements


def keep_state_within(plugin: str, limits: StateLimits) -> Statement:
    """Last of a commit that writes state: refuses it (StateOverLimit) if `plugin` then holds more than it may.

    Inside of the commit, so that two of them at once cannot both fit.
    """
    return Statement(
        "select keep_state_within(%(plugin)s, %(max_bytes)s, %(max_keys)s)",
        {"plugin": plugin, "max_bytes": limits.max_bytes, "max_keys": limits.max_keys},
    )


def put_state(plugin: str, key: str, value: str) -> Statement:
    """Set one key."""
    return Statement(
        """
        insert into plugin_state (plugin, key, value) values (%(plugin)s, %(key)s, %(value)s)
        on conflict (plugin, key) do update set value = excluded.value
        """,
        {"plugin": plugin, "key": key, "value": value},
    )


def delete_state(plugin: str, key: str) -> Statement:
    """Remove one key."""
    return Statement(
        "delete from plugin_state where plugin = %(plugin)s and key = %(key)s", {"plugin": plugin, "key": key}
    )


def get_state(plugin: str, key: str) -> Statement:
    """The committed value of one key."""
    return Statement(
        "select value from plugin_state where plugin = %(plugin)s and key = %(key)s", {"plugin": plugin, "key": key}
    )


def compare_and_set_state(plugin: str, key: str, expected: str | None, value: str | None) -> Statement:
    """Set `key` to `value` (None: remove) if its value is `expected` (None: absent). One row if it was done.

    Not idempotent: run again it finds its own value.
    """
    parameters = {"plugin": plugin, "key": key, "expected": expected, "value": value}
    if expected is None and value is None:
        return Statement(
            "select 1 where not exists (select 1 from plugin_state where plugin = %(plugin)s and key = %(key)s)",
            parameters,
        )
    if expected is None:
        return Statement(
            """
            insert into plugin_state (plugin, key, value) values (%(plugin)s, %(key)s, %(value)s)
            on conflict (plugin, key) do nothing returning 1
            """,
            parameters,
        )
    if value is None:
        return Statement(
            """
            delete from plugin_state where plugin = %(plugin)s and key = %(key)s and value = %(expected)s returning 1
            """,
            parameters,
        )
    return Statement(
        """
        update plugin_state set value = %(value)s
        where plugin = %(plugin)s and key = %(key)s and value = %(expected)s returning 1
        """,
        parameters,
    )

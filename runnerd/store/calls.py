"""Statements about JobCalls: asked for once, finished once."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from psycopg.rows import DictRow

from protocol.messages import BlockRef, Origin, TriggerKind
from protocol.trigger import DEFAULT_JOB, Overlap
from runnerd.routing.rehearsed import Rehearsed
from runnerd.store.statement import Bulk, Form, Statement, storable


class JobOutcome(StrEnum):
    """How a JobCall ended: the kinds of JobResult."""

    ACTED = "acted"
    NOOP = "noop"
    DENIED = "denied"
    FAILED = "failed"
    EXPIRED = "expired"
    DEAD = "dead"


RETRACTED: Final = "retracted "
"""How the identity of a call, and the name of an event, begins that takes another one back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewCall:
    """A JobCall that a producer asks for. `identity` makes a second one of the same plugin impossible.

    `is_owed`: its producer goes on from a stored position, and would never ask again; so it is taken whatever the
    bounds of its plugin. `event` names the stimulus, if it is not this plugin's alone; it is not stored.
    """

    plugin: str
    trigger: TriggerKind
    identity: str
    principal: str
    due_at: datetime
    fired_at: datetime
    deadline_at: datetime
    topic: str | None = None
    payload: str = ""
    source: str = ""
    job: str = DEFAULT_JOB
    overlap: Overlap = "parallel"
    block: BlockRef | None = None
    is_owed: bool = False
    is_fresh: bool = False
    """No call of this identity can stand already, whatever crashed: so its plugin may be asked while it is stored."""
    event: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobCall:
    """A durable request to decide. `attempts` counts the workers that ended while they decided it.

    `is_dry_run`: it has no row in the ledger, and nothing comes of it but an answer to whoever asked.
    """

    id: int
    plugin: str
    trigger: TriggerKind
    identity: str
    principal: str
    topic: str | None
    payload: str
    due_at: datetime
    fired_at: datetime
    deadline_at: datetime
    attempts: int
    source: str = ""
    job: str = DEFAULT_JOB
    overlap: Overlap = "parallel"
    block: BlockRef | None = None
    is_dry_run: bool = False

    @property
    def origin(self) -> Origin:
        """Where it comes from, as its plugin is told."""
        return Origin(source=self.source, id=self.identity, principal=self.principal, block=self.block)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobResult:
    """The one final outcome of a JobCall; `rehearsed` of a dry run."""

    call: JobCall
    outcome: JobOutcome
    reason: str
    finished_at: datetime
    transaction: str | None = None
    rehearsed: Rehearsed | None = None


def from_row(row: DictRow) -> JobCall:
    """The JobCall in a row of `job_calls`."""
    return JobCall(
        id=row["id"],
        plugin=row["plugin"],
        trigger=TriggerKind(row["trigger"]),
        identity=row["identity"],
        principal=row["principal"],
        topic=row["topic"],
        payload=row["payload"],
        due_at=row["due_at"],
        fired_at=row["fired_at"],
        deadline_at=row["deadline_at"],
        attempts=row["attempts"],
        source=row["source"],
        job=row["job"],
        overlap=row["overlap"],
        block=_block(row),
    )


def _block(row: DictRow) -> BlockRef | None:
    if row["block_number"] is None:
        return None
    return BlockRef(number=row["block_number"], hash=row["block_hash"], timestamp=row["block_time"])


COLUMNS: Final = {
    "plugin": "text", "trigger": "text", "identity": "text", "topic": "text", "payload": "text", "principal": "text",
    "due_at": "timestamptz", "fired_at": "timestamptz", "deadline_at": "timestamptz", "source": "text", "job": "text",
    "overlap": "text", "block_number": "bigint", "block_hash": "text", "block_time": "bigint",
}  # fmt: skip
_INSERT: Final = Form(
    f"""
    insert into job_calls (id, {", ".join(COLUMNS)}) overriding system value
    select coalesce(n.id, nextval('job_calls_id_seq')), {", ".join(f"n.{name}" for name in COLUMNS)}
    from unnest(%(id)s::bigint[], {", ".join(f"%({name})s::{kind}[]" for name, kind in COLUMNS.items())})
         n (id, {", ".join(COLUMNS)})
    on conflict (plugin, identity) do update set attempts = job_calls.attempts
    where job_calls.fired_at = excluded.fired_at and job_calls.state = 'queued'
    returning id, attempts, plugin, identity
    """,  # noqa: S608  # of names that stand above
    ("id", *COLUMNS),
    told_by=("plugin", "identity"),
)
_INSERT_ONE: Final = f"""
    insert into job_calls (id, {", ".join(COLUMNS)}) overriding system value
    values (coalesce(%(id)s::bigint, nextval('job_calls_id_seq')), {", ".join(f"%({name})s" for name in COLUMNS)})
    on conflict (plugin, identity) do update set attempts = job_calls.attempts
    where job_calls.fired_at = excluded.fired_at and job_calls.state = 'queued'
    returning id, attempts
"""  # noqa: S608  # of names that stand above
_FINISH: Final = Form(
    """
    update job_calls c set state = 'done', outcome = f.outcome, reason = f.reason, finished_at = f.at,
                           result_no = nextval('job_result_numbers')
    from unnest(%(id)s::bigint[], %(outcome)s::text[], %(reason)s::text[], %(at)s::timestamptz[])
         f (id, outcome, reason, at)
    where c.id = f.id and c.state <> 'done'
    """,
    ("id", "outcome", "reason", "at"),
)


def insert(call: NewCall, call_id: int | None = None) -> Statement:
    """Add the call, by this id or one of the ledger's; its row is for `inserted`, none if its identity stands already.

    Run again after a lost connection it finds its own row, by the moment it was fired at, and returns that: otherwise
    a call that was committed would look like a duplicate, and nobody would decide it.
    """
    parameters = {"id": call_id, **parameters_of(call)}
    bulk = Bulk(_INSERT, (tuple(parameters.values()),), (call.plugin, call.identity), len(call.payload))
    return Statement(_INSERT_ONE, parameters, is_leading=True, bulk=bulk)


def parameters_of(call: NewCall | JobCall) -> dict[str, object]:
    """By the names in COLUMNS."""
    block = call.block
    return {
        "plugin": call.plugin, "trigger": call.trigger.value, "identity": call.identity, "topic": call.topic,
        "payload": call.payload, "principal": call.principal, "due_at": call.due_at, "fired_at": call.fired_at,
        "deadline_at": call.deadline_at, "source": call.source, "job": call.job, "overlap": call.overlap,
        "block_number": None if block is None else block.number,
        "block_hash": None if block is None else block.hash,
        "block_time": None if block is None else block.timestamp,
    }  # fmt: skip


def inserted(call: NewCall, row: DictRow) -> JobCall:
    """The JobCall that `insert` made of `call`."""
    return to_call(call, row["id"], row["attempts"])


def to_call(call: NewCall, call_id: int, attempts: int = 0) -> JobCall:
    """The same, before it is stored."""
    return JobCall(
        id=call_id, plugin=call.plugin, trigger=call.trigger, identity=call.identity, principal=call.principal,
        topic=call.topic, payload=call.payload, due_at=call.due_at, fired_at=call.fired_at,
        deadline_at=call.deadline_at, attempts=attempts, source=call.source, job=call.job, overlap=call.overlap,
        block=call.block,
    )  # fmt: skip


def find(plugin: str, identity: str) -> Statement:
    """The call of an identity, with its outcome if it has one."""
    return Statement(
        """
        select c.*, (select hash from attempts where call_id = c.id order by is_success desc nulls last, signed_at desc
                     limit 1) as transaction
        from job_calls c where plugin = %(plugin)s and identity = %(identity)s
        """,
        {"plugin": plugin, "identity": identity},
    )


def standing(plugin: str, source: str, block_hash: str) -> Statement:
    """The calls that a trigger made of one block and has not taken back, newest first."""
    return Statement(
        """
        select c.* from job_calls c
        where c.block_hash = %(block)s and c.plugin = %(plugin)s and c.source = %(source)s
          and c.identity not like 'retracted %%'
          and not exists (
              select from job_calls r where r.plugin = c.plugin and r.identity = 'retracted ' || c.identity
          )
        order by c.id desc
        """,
        {"plugin": plugin, "source": source, "block": block_hash},
    )


def fate(call_id: int) -> Statement:
    """What has become of a call."""
    return Statement("select plugin, state, outcome, reason from job_calls where id = %(id)s", {"id": call_id})


def finish(call_id: int, outcome: JobOutcome, reason: str, at: datetime) -> Statement:
    """Record the one outcome. A call that has one keeps it."""
    parameters = {"id": call_id, "outcome": outcome.value, "reason": storable(reason), "at": at}
    return Statement(
        """
        update job_calls set state = 'done', outcome = %(outcome)s, reason = %(reason)s, finished_at = %(at)s,
                             result_no = nextval('job_result_numbers')
        where id = %(id)s and state <> 'done'
        """,
        parameters,
        is_independent=True,
        bulk=Bulk(_FINISH, (tuple(parameters.values()),), call_id),
    )


def decided(call_id: int) -> Statement:
    """The Decision stands; only the executor still works on this call."""
    return Statement(
        "update job_calls set state = 'decided' where id = %(id)s and state = 'queued'",
        {"id": call_id},
        is_independent=True,
    )


def count_attempt(call_id: int, attempts: int) -> Statement:
    """A worker ended while it decided this call, for the `attempts`-th time."""
    return Statement(
        "update job_calls set attempts = %(attempts)s where id = %(id)s", {"id": call_id, "attempts": attempts}
    )


def queued() -> Statement:
    """Calls that were asked for and not decided, oldest first: where a restart goes on."""
    return Statement("select * from job_calls where state = 'queued' order by id")


def recent(plugin: str | None, limit: int, *, only_decided: bool = False) -> Statement:
    """The last calls with their Decision and transaction, newest first; of one plugin or of all."""
    return Statement(
        """
        select c.*, d.generation, d.digest, d.outcome as decision, d.decide_ms, a.hash as transaction, i.vault,
               i.state as intent_state, i.nonce, i.cancel_reason as cancelling
        from job_calls c
        left join decisions d on d.call_id = c.id
        left join intents i on i.call_id = c.id
        left join lateral (
            select hash from attempts where call_id = c.id order by is_success desc nulls last, signed_at desc limit 1
        ) a on true
        where (%(plugin)s::text is null or c.plugin = %(plugin)s) and (not %(only_decided)s or d.call_id is not null)
        order by c.id desc limit %(limit)s
        """,
        {"plugin": plugin, "limit": limit, "only_decided": only_decided},
    )


def last_results(plugins: Sequence[str]) -> Statement:
    """The newest finished call of each plugin."""
    return Statement(
        """
        select p.name as plugin, c.outcome, c.reason, c.finished_at
        from unnest(%(plugins)s::text[]) as p (name)
        cross join lateral (
            select outcome, reason, finished_at from job_calls
            where plugin = p.name and state = 'done' order by id desc limit 1
        ) c
        """,
        {"plugins": list(plugins)},
    )

"""The calls of a chain's trigger: one for what is found, and one more when a reorg takes that back. Pure.

Identities: `block CHAIN HASH SOURCE`, `log CHAIN HASH INDEX SOURCE`, with `again N` once the block was taken back N
times; and `retracted` before the identity of the call that is taken back.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec

from protocol.messages import BlockRef, TriggerKind
from protocol.triggers import Block as BlockTrigger
from protocol.triggers import Log as LogTrigger
from runnerd.chain.types import Block
from runnerd.store.calls import RETRACTED, JobCall, NewCall
from runnerd.triggers.chain_source import Finding
from runnerd.triggers.source import source_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What is followed, and for whom."""

    producer: str
    plugin: str
    trigger: BlockTrigger | LogTrigger
    chain: str

    @property
    def source(self) -> str:
        """The trigger's name, in its calls."""
        return source_of(self.trigger)

    @property
    def key(self) -> str:
        """Of its position in the ledger."""
        return f"{self.plugin} on {self.chain}: {self.source}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """When calls are made, and how long they may wait."""

    now: datetime
    call_deadline: timedelta


def build_call(
    task: Task,
    kind: TriggerKind,
    block: Block,
    finding: Finding,
    times_undone: int,
    moment: Moment,
    *,
    is_fresh: bool = True,
) -> NewCall:
    """The call for what was found in `block`. `is_fresh`: none of this block was made before."""
    again = f" again {times_undone}" if times_undone else ""
    return NewCall(
        plugin=task.plugin,
        trigger=kind,
        identity=f"{finding.label}{again} {task.source}",
        principal=f"chain:{task.chain}",
        due_at=moment.now,
        fired_at=moment.now,
        deadline_at=moment.now + moment.call_deadline,
        payload=finding.encoded(),
        source=task.source,
        job=task.trigger.job,
        overlap=task.trigger.overlap,
        block=BlockRef(number=block.number, hash=block.hash, timestamp=block.timestamp),
        event=f"{finding.label}{again}",
        is_owed=True,  # its position is moved with it; and several triggers of a plugin may have found the same room
        is_fresh=is_fresh,
    )


def build_retraction(task: Task, call: JobCall, moment: Moment) -> NewCall:
    """The call that takes `call` back: the same data, and `retracted`.

    Its position moves on whatever becomes of it, so none is skipped or superseded: it waits for its turn.
    """
    return NewCall(
        plugin=call.plugin,
        trigger=call.trigger,
        identity=RETRACTED + call.identity,
        principal=call.principal,
        due_at=moment.now,
        fired_at=moment.now,
        deadline_at=moment.now + moment.call_deadline,
        payload=msgspec.json.encode({**msgspec.json.decode(call.payload), "retracted": True}).decode(),
        source=call.source,
        job=task.trigger.job,
        overlap="parallel" if task.trigger.overlap == "parallel" else "queue",
        block=call.block,
        event=RETRACTED + call.identity.removesuffix(task.source).rstrip(),
        is_owed=True,
    )

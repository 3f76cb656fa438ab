"""`fire --dry-run`: a call that decides and simulates as any other, and of which nothing comes but the answer.

It is never stored: the number that it goes by is taken from the ledger, so that no other call ever has it, and no row
is made. A restart finds nothing, whatever the moment.
"""

import asyncio
import uuid
from datetime import timedelta

from protocol.messages import TriggerKind
from runnerd.clock import Clock
from runnerd.commands.patience import Patience
from runnerd.control.dry_run_messages import DryRun, LimitView
from runnerd.control.messages import Fire
from runnerd.routing.rehearsed import Rehearsed
from runnerd.routing.results import Results
from runnerd.routing.router import Router
from runnerd.store import audit, numbers
from runnerd.store.calls import JobCall, JobOutcome
from runnerd.store.store import Store

WOULD_ACT = "would act"
"""What an outcome is called that would be `acted`."""


class DryRuns:
    """Made by `commands`, which has checked the plugin and the job."""

    def __init__(self, router: Router, results: Results, store: Store, clock: Clock, patience: Patience) -> None:
        self._router = router
        self._results = results
        self._store = store
        self._clock = clock
        self._patience = patience

    async def fire(self, request: Fire, principal: str) -> DryRun:
        """Offer it to its plugin, and wait `wait_s` for what comes of it. Raises StoreError."""
        host, now = self._router.hosts[request.plugin], self._clock.now()
        identity = f"dry run {uuid.uuid4().hex}"
        command = audit.command(
            "dry run", principal, now, plugin=request.plugin, identity=identity,
            payload_sha256=audit.digest(request.payload),
        )  # fmt: skip
        stored = self._store.commit(numbers.next_call_id(), audit.append(command))
        rows = (await self._patience.wait(stored, "nothing was decided: try again when it is back"))[0]
        limit_s = host.layers.effective(request.plugin, request.job).call_deadline_s or 0.0
        call = JobCall(
            id=rows[0]["id"],
            plugin=request.plugin,
            trigger=TriggerKind.MANUAL,
            identity=identity,
            principal=principal,
            topic=None,
            payload=request.payload,
            due_at=now,
            fired_at=now,
            deadline_at=now + timedelta(seconds=limit_s),
            attempts=0,
            source="manual",
            job=request.job,
            is_dry_run=True,
        )
        with self._results.expecting(call.id) as told:
            host.offer(call)
            await asyncio.wait([told], timeout=request.wait_s)
        if not told.done():
            return DryRun(call_id=call.id)
        result = told.result()
        found = result.rehearsed or Rehearsed()
        return DryRun(
            call_id=call.id,
            outcome=WOULD_ACT if result.outcome is JobOutcome.ACTED else result.outcome.value,
            reason=result.reason,
            decision=found.decision,
            state_writes=list(found.state_writes),
            to=found.to,
            calldata=None if found.calldata is None else "0x" + found.calldata.hex(),
            value_wei=found.value_wei,
            limits=[
                LimitView(key=one.key, of=one.of, asked=one.asked, used=one.used, limit=one.limit)
                for one in found.standings
            ],
            block=found.block,
            gas_limit=found.gas_limit,
            max_fee_per_gas_wei=found.max_fee_per_gas_wei,
            max_priority_fee_per_gas_wei=found.max_priority_fee_per_gas_wei,
        )

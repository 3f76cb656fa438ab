"""After the fact: what a final transaction did against what its Decision expected. A breach pauses the vault.

Asked by the follower before an intent's end is stored, so that end, pause and record are one commit: a process that is
killed in between looks again.
"""

import logging
from dataclasses import dataclass, field

from runnerd.chain.json_values import JsonValue
from runnerd.clock import Clock
from runnerd.executor.effect_checks import EffectChecks
from runnerd.executor.expectations import Result, Verdict
from runnerd.executor.intent import Finish, Intent, Mined, Patience, observe
from runnerd.log import fields
from runnerd.pauses import Pause, Pauses, Scope
from runnerd.services.metrics import Metrics
from runnerd.store import workers
from runnerd.store.statement import Statement

logger = logging.getLogger("runnerd.executor")

MAX_REASON = 500
MISSING_PATIENCE_BLOCKS = 8
"""How long a number that the node cannot read now (it lags, it switches) keeps the intent from its end."""


@dataclass(frozen=True, slots=True)
class Settled:
    """What the end of an intent is stored with: statements, and a note for the reason of its JobResult."""

    statements: tuple[Statement, ...] = ()
    note: str = ""


@dataclass(slots=True)
class Aftermath:
    """One per chain."""

    checks: EffectChecks
    pauses: Pauses
    metrics: Metrics
    clock: Clock
    _asked_since: dict[int, int] = field(default_factory=dict)

    async def settle(
        self, intent: Intent, mined: Mined, patience: Patience, receipt_answer: JsonValue
    ) -> Settled | None:
        """What to store with `mined`, once it ends the intent; None: look again with the next block.

        Raises RpcUnavailable, which is the same, and proves nothing.
        """
        _, effects = observe(intent, mined, patience)
        if not intent.expect or not any(isinstance(effect, Finish) and effect.is_success for effect in effects):
            return Settled()
        verdict = await self.checks.verify(intent, receipt_answer)
        since = self._asked_since.setdefault(intent.call_id, mined.head)
        if verdict.is_evidence_missing and mined.head - since < MISSING_PATIENCE_BLOCKS:
            return None
        del self._asked_since[intent.call_id]
        self.metrics.expected(intent.plugin, verdict.result)
        match verdict.result:
            case Result.BREACHED:
                return self._pause(intent, mined, verdict)
            case Result.UNPROVEN:
                logger.warning(
                    "call %d of %s: %s", intent.call_id, intent.plugin, verdict.text,
                    extra=fields("expectation_unproven", plugin=intent.plugin, vault=intent.vault,
                                 call=intent.call_id, tx=mined.hash),
                )  # fmt: skip
                return Settled(note=verdict.text)
            case _:
                return Settled(note="expectations met")

    def _pause(self, intent: Intent, mined: Mined, verdict: Verdict) -> Settled:
        by = f"runnerd: call {intent.call_id} of {intent.plugin} did not do what it expected: {verdict.text}"
        pause = Pause(Scope.VAULT, intent.vault, by[:MAX_REASON], self.clock.now())
        # At once, and an older one stays, as in the ledger.
        self.pauses.active.setdefault((pause.scope, pause.name), pause)
        logger.critical(
            "vault %s is paused: call %d of %s in transaction %s: %s", intent.vault, intent.call_id, intent.plugin,
            mined.hash, verdict.text,
            extra=fields("expectation_breached", plugin=intent.plugin, vault=intent.vault, call=intent.call_id,
                         tx=mined.hash),
        )  # fmt: skip
        return Settled(
            (workers.pause(pause.scope.value, pause.name, pause.paused_by, pause.paused_at),),
            f"{verdict.text}: vault {intent.vault} is paused",
        )

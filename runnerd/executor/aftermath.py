"""After the fact: what a mined transaction did against what its Decision expected. A breach pauses the vault.

Looked at when the transaction is first seen in a block, while nodes still have the state, so that a breach stops the
vault at once; the verdict is recorded with the intent's end. In another block (reorg), and with another receipt of the
same block (the one that a quorum agrees on), it is looked at anew.
"""

import logging
from dataclasses import dataclass, field

from runnerd.chain.errors import ChainError
from runnerd.chain.json_values import JsonValue
from runnerd.chain.pool.agreement import Comparable, comparable
from runnerd.clock import Clock
from runnerd.executor.effect_checks import EffectChecks
from runnerd.executor.expectations import Result, Verdict
from runnerd.executor.intent import Rules, observe
from runnerd.executor.observation import Finish, Mined
from runnerd.executor.wanted import AttemptKind, Intent
from runnerd.log import fields
from runnerd.pauses import Mode, Pause, Pauses, Scope
from runnerd.services.metrics import Metrics
from runnerd.store import workers
from runnerd.store.statement import Statement

logger = logging.getLogger("runnerd.executor")

MAX_REASON = 500
MISSING_PATIENCE_BLOCKS = 8
"""How long numbers that no node can read now (it lags, it is another one) keep the intent from its end."""


@dataclass(frozen=True, slots=True)
class Settled:
    """What to store with an observation: statements, and a note for the reason of the JobResult if it is the end."""

    statements: tuple[Statement, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class _Look:
    """A verdict on one receipt; and of its block: the head when it was first asked about, and if we paused for it."""

    block_hash: str
    receipt: Comparable
    since: int
    verdict: Verdict
    has_paused: bool


@dataclass(slots=True)
class Aftermath:
    """One per chain."""

    checks: EffectChecks
    pauses: Pauses
    metrics: Metrics
    clock: Clock
    _looks: dict[int, _Look] = field(default_factory=dict)

    async def settle(self, intent: Intent, mined: Mined, rules: Rules, receipt_answer: JsonValue) -> Settled | None:
        """What to store together with `mined`; None if that would end the intent too early: look again.

        `receipt_answer` is the receipt as the node gave it. Raises RpcUnavailable, which is the same as None.
        """
        if not intent.expect or not mined.is_success or _is_noop(intent, mined):
            return Settled()
        _, effects = observe(intent, mined, self.clock.now(), rules)
        is_end = any(isinstance(effect, Finish) for effect in effects)
        try:
            look, is_new_breach = await self._look(intent, mined, receipt_answer)
        except ChainError:
            if is_end:
                raise
            return Settled()
        verdict = look.verdict
        if is_end and verdict.is_evidence_missing and mined.head - look.since < MISSING_PATIENCE_BLOCKS:
            return None
        # Paused once: an operator who has resumed the vault before the end meant it.
        pause = self._pause(intent, mined, verdict) if is_new_breach else ()
        return Settled(pause, self._conclude(intent, mined, verdict)) if is_end else Settled(pause)

    def forget(self, intent: Intent) -> None:
        """The intent has ended, in whatever way."""
        self._looks.pop(intent.call_id, None)

    async def _look(self, intent: Intent, mined: Mined, receipt_answer: JsonValue) -> tuple[_Look, bool]:
        """The verdict, and whether it is the first breach that is found in this block."""
        receipt = comparable("eth_getTransactionReceipt", receipt_answer)
        known = self._looks.get(intent.call_id)
        if known is not None and known.block_hash != mined.block_hash:
            known = None
        if known is not None and known.receipt == receipt and not known.verdict.is_evidence_missing:
            return known, False
        verdict = await self.checks.verify(intent, receipt_answer)
        since, has_paused = (mined.head, False) if known is None else (known.since, known.has_paused)
        is_breach = verdict.result is Result.BREACHED
        look = _Look(mined.block_hash, receipt, since, verdict, has_paused or is_breach)
        self._looks[intent.call_id] = look
        return look, is_breach and not has_paused

    def _conclude(self, intent: Intent, mined: Mined, verdict: Verdict) -> str:
        self.metrics.expected(intent.plugin, verdict.result)
        if verdict.result is Result.MET:
            return "expectations met"
        if verdict.result is Result.BREACHED:
            return f"{verdict.text}: vault {intent.vault} was paused"
        logger.warning(
            "call %d of %s: %s", intent.call_id, intent.plugin, verdict.text,
            extra=fields("expectation_unproven", plugin=intent.plugin, vault=intent.vault, call=intent.call_id,
                         tx=mined.hash),
        )  # fmt: skip
        return verdict.text

    def _pause(self, intent: Intent, mined: Mined, verdict: Verdict) -> tuple[Statement, ...]:
        by = f"runnerd: call {intent.call_id} of {intent.plugin} did not do what it expected: {verdict.text}"
        pause = Pause(Scope.VAULT, intent.vault, by[:MAX_REASON], self.clock.now())
        # At once, and an older one stays, as in the ledger; one that is only reducing does not.
        older = self.pauses.active.get((pause.scope, pause.name))
        if older is None or older.mode is Mode.REDUCING:
            self.pauses.add(pause)
        logger.critical(
            "vault %s is paused: call %d of %s in transaction %s: %s", intent.vault, intent.call_id, intent.plugin,
            mined.hash, verdict.text,
            extra=fields("expectation_breached", plugin=intent.plugin, vault=intent.vault, call=intent.call_id,
                         tx=mined.hash),
        )  # fmt: skip
        return (workers.pause(pause.scope.value, pause.name, pause.paused_by, pause.paused_at),)


def _is_noop(intent: Intent, mined: Mined) -> bool:
    """It cancelled the intent: nothing is expected of that."""
    return any(each.hash == mined.hash and each.kind is AttemptKind.NOOP for each in intent.attempts)

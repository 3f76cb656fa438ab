"""Makes the calls that requests ask for: each identity once, whoever asks again, and however many at a time."""

import asyncio
import uuid
from dataclasses import replace
from typing import Final

from protocol.messages import TriggerKind
from protocol.triggers import Webhook
from runnerd.clock import Clock
from runnerd.http.words import MakeCall, Refusal, Signature, Why
from runnerd.routing import repetition
from runnerd.routing.router import Router
from runnerd.store import calls
from runnerd.store.calls import JobCall, NewCall
from runnerd.store.ledger import Ledger
from runnerd.tasks import Tasks
from runnerd.triggers.source import source_of
from runnerd.triggers.webhook import Taken, WebhookProducer
from runnerd.webhooks.keys import ApiKey

LEDGER_DEADLINE_S: Final = 4.0
LEDGER_AWAY: Final = Refusal(
    why=Why.UNAVAILABLE,
    detail="the ledger does not answer; it may have been made, or not: try again with the same Idempotency-Key",
    retry_after_s=5,
)


class CallMaker:
    """Used by `webhooks.Webhooks`, which has verified the key."""

    def __init__(self, producer: WebhookProducer, router: Router, store: Ledger, clock: Clock) -> None:
        self._producer = producer
        self._router = router
        self._store = store
        self._clock = clock
        self._tasks = Tasks()
        self._under_way: dict[tuple[str, str], asyncio.Future[None]] = {}

    async def close(self) -> None:
        """Let what is being committed get to its plugin; nothing is made any more."""
        await self._tasks.finish(LEDGER_DEADLINE_S)

    async def make(self, question: MakeCall, key: ApiKey) -> JobCall | int | Refusal:
        """The new call; the id of the one that an earlier request of the same identity made; or why there is none.

        Raises StoreError and TimeoutError of the ledger.
        """
        plugin = question.plugin
        if plugin not in key.plugins:  # the same whether there is such a plugin or not
            return Refusal(why=Why.FORBIDDEN, detail=f"this key is for {', '.join(key.plugins)}")
        identity = _identity(question, key)
        # One at a time for each identity: two requests with one key at once are one call and its repetition.
        while (before := self._under_way.get((plugin, identity))) is not None:
            await asyncio.wait([before], timeout=LEDGER_DEADLINE_S)
            if not before.done():
                return LEDGER_AWAY
        done = self._under_way[plugin, identity] = asyncio.get_running_loop().create_future()
        # A task of its own: once committed it has to get to its plugin, even if nobody waits here any more.
        task = self._tasks.spawn(self._make_once(question, key, identity), f"webhook:{plugin}")

        def on_made(_: object) -> None:
            del self._under_way[plugin, identity]
            done.set_result(None)

        task.add_done_callback(on_made)
        finished, _ = await asyncio.wait([task], timeout=LEDGER_DEADLINE_S)
        if not finished:
            return LEDGER_AWAY
        made: JobCall | int | Refusal = task.result()
        return made

    async def _make_once(self, question: MakeCall, key: ApiKey, identity: str) -> JobCall | int | Refusal:
        """The call, if it is new; else the id of the one that stands there. What nobody takes is for the fallback."""
        asked = self._build(question, key, identity)
        otherwise = self._router.routes.otherwise(asked)
        # Before anybody is asked who takes it: what was made is found again, whatever has started, stopped or filled up
        # since. It may have been the fallback's then and be its plugin's now, or the other way round.
        if _is_repeatable(question):  # nobody repeats a uuid
            for before in (asked, otherwise):
                made = await self._find(before) if before is not None else None
                if made is not None:
                    return made
        taken = self._taken(question)
        new_call: NewCall | None
        if isinstance(taken, Taken):
            new_call = replace(
                asked,
                deadline_at=asked.fired_at + taken.terms.call_deadline,
                source=source_of(taken.trigger),
                overlap=taken.trigger.overlap,
            )
        elif taken.why is not Why.NOT_FOUND or (new_call := self._router.fallen_back(asked)) is None:
            return taken
        refusal = self._not_now(new_call.plugin)
        if refusal is not None:
            return refusal
        accepted = await self._router.submit([new_call])
        if accepted:
            self._producer.count()
            return accepted[0]
        return await self._find(new_call) or Refusal(
            why=Why.UNAVAILABLE,
            detail=f"{new_call.plugin} has as many calls as it may (queue, max_calls_per_s); none was made",
            retry_after_s=1,
        )

    async def _find(self, call: NewCall) -> int | Refusal | None:
        """The id of the call with this identity, if it is this one; None if there is none."""
        rows = await self._store.fetch(calls.find(call.plugin, call.identity))
        if not rows:
            return None
        call_id: int = rows[0]["id"]
        reused = repetition.refusal(rows[0], call, "Idempotency-Key")
        if reused is not None:
            return Refusal(why=Why.KEY_REUSED, detail=reused)
        return call_id

    def _build(self, question: MakeCall, key: ApiKey, identity: str) -> NewCall:
        """What is asked for, before anybody has taken it."""
        now = self._clock.now()
        return NewCall(
            plugin=question.plugin,
            trigger=TriggerKind.WEBHOOK,
            identity=identity,
            principal=key.principal,
            due_at=now,
            fired_at=now,
            deadline_at=now,
            payload=question.payload,
            job=question.job,
        )

    def _taken(self, question: MakeCall) -> Taken | Refusal:
        """The trigger that the plugin has declared. NOT_FOUND only of one that will not have it after a start either:
        to the fallback goes what its own plugin would never get."""
        plugin = question.plugin
        host = self._router.hosts.get(plugin)
        if host is None:
            return Refusal(why=Why.NOT_FOUND, detail=f"there is no plugin {plugin!r} now")
        taken = self._producer.find(plugin, question.job)
        if taken is not None:
            return taken
        is_known = host.config.triggers is not None or host.declared is not None
        jobs = sorted(trigger.job for trigger in host.triggers if isinstance(trigger, Webhook))
        if self._router.is_draining or not is_known or question.job in jobs:
            if not host.config.enabled:
                return Refusal(
                    why=Why.UNAVAILABLE, detail=f"{plugin} is switched off by its operator", retry_after_s=60
                )
            refusal = self._not_now(plugin)
            return refusal or Refusal(why=Why.UNAVAILABLE, detail=f"{plugin} has not started yet", retry_after_s=5)
        advice = f"jobs that it takes: {', '.join(jobs)}" if jobs else "it declares no webhook trigger"
        return Refusal(why=Why.NOT_FOUND, detail=f"{plugin} takes no webhook for {question.job!r}; {advice}")

    def _not_now(self, plugin: str) -> Refusal | None:
        if self._router.is_draining:
            return Refusal(why=Why.UNAVAILABLE, detail="runnerd is stopping and takes no more calls", retry_after_s=15)
        if self._router.is_quarantined(plugin):
            return Refusal(
                why=Why.UNAVAILABLE,
                detail=f"{plugin} is in quarantine until its operator has looked at it",
                retry_after_s=60,
            )
        return None


def _is_repeatable(question: MakeCall) -> bool:
    return bool(question.idempotency_key) or isinstance(question.credential, Signature)


def _identity(question: MakeCall, key: ApiKey) -> str:
    """Under the key's own name: nobody meets, or learns of, a call of another key by its Idempotency-Key."""
    if question.idempotency_key:
        return f"webhook {key.name} key {question.idempotency_key}"
    if isinstance(question.credential, Signature):  # so that a request that is sent again is the same call
        return f"webhook {key.name} signature {question.credential.digest}"
    return f"webhook {key.name} once {uuid.uuid4().hex}"

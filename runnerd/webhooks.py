"""What the http process is answered: pages for everybody, calls for holders of keys. The border is here.

Nothing that the process says is believed but what a caller without a key may say. Key, scope, rate, plugin, trigger and
identity are all checked on this side; then the call is committed, and only after that its id is told.
"""

import asyncio
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, assert_never

from psycopg.rows import DictRow

from protocol.messages import TriggerKind
from runnerd.call_views import to_queued, to_view
from runnerd.clock import Clock
from runnerd.http.words import (
    Answer,
    CallView,
    Events,
    GetCall,
    GetEvents,
    GetPage,
    MakeCall,
    Outcome,
    Page,
    Question,
    Refusal,
    Signature,
    Why,
)
from runnerd.keys import ApiKey, KeyRing
from runnerd.results import Results
from runnerd.router import Router
from runnerd.routes import FALLBACK
from runnerd.store import calls, outcomes
from runnerd.store.calls import JobCall, JobResult, NewCall
from runnerd.store.errors import StoreError
from runnerd.store.ledger import Ledger
from runnerd.supervisor.rate import RateLimit
from runnerd.tasks import Tasks
from runnerd.triggers.source import source_of
from runnerd.triggers.webhook import Taken, WebhookProducer

LEDGER_DEADLINE_S: Final = 4.0
MAX_WAITS: Final = 32
"""Requests of one key that may wait for an outcome at once, listeners included."""
MAX_OUTCOMES: Final = 100
_UNAUTHORIZED: Final = Refusal(
    why=Why.UNAUTHORIZED,
    detail="the key or signature is not valid: unknown, expired, revoked, of the other kind, or its time is more than "
    "5 minutes from ours; ask the operator for a key",
)
_LEDGER_AWAY: Final = Refusal(
    why=Why.UNAVAILABLE,
    detail="the ledger does not answer; it may have been made, or not: try again with the same Idempotency-Key",
    retry_after_s=5,
)


class Webhooks:
    """`answer` is what `HttpProcess.serve` takes."""

    def __init__(
        self,
        keys: KeyRing,
        producer: WebhookProducer,
        router: Router,
        results: Results,
        store: Ledger,
        page: Callable[[str], Page],
        requests_per_s: float,
        clock: Clock,
    ) -> None:
        self._keys = keys
        self._producer = producer
        self._router = router
        self._results = results
        self._store = store
        self._page = page
        self._requests_per_s = requests_per_s
        self._clock = clock
        self._tasks = Tasks()
        self._rates: dict[str, RateLimit] = {}
        self._waits: Counter[str] = Counter()
        self._making: dict[tuple[str, str], asyncio.Future[None]] = {}
        self._finished = asyncio.Event()
        results.add_consumer(self._on_result)

    async def close(self) -> None:
        """Let what is being committed get to its plugin; nothing is made any more."""
        await self._tasks.finish(LEDGER_DEADLINE_S)

    async def answer(self, question: Question) -> Answer:
        """The answer, always: a defect in one must not cost the others theirs."""
        if isinstance(question, GetPage):
            return self._page(question.word)
        now = self._clock.now()
        key = self._keys.verify(question, now)
        if key is None:
            return _UNAUTHORIZED
        refusal = self._over_limit(key, question)
        if refusal is not None:
            return refusal
        self._waits[key.name] += question.wait_s > 0
        try:
            match question:
                case MakeCall():
                    return await self._make(question, key)
                case GetCall():
                    return await self._call(question.call_id, key, question.wait_s)
                case GetEvents():
                    return await self._events(question, key)
                case _:
                    assert_never(question)
        except (StoreError, TimeoutError):
            return _LEDGER_AWAY
        finally:
            self._waits[key.name] -= question.wait_s > 0

    # --- bounds ------------------------------------------------------------------------------------------------------

    def _over_limit(self, key: ApiKey, question: MakeCall | GetCall | GetEvents) -> Refusal | None:
        is_further_look = isinstance(question, GetEvents) and not question.is_opening
        if question.wait_s > 0 and self._waits[key.name] >= MAX_WAITS:
            return Refusal(
                why=Why.RATE_LIMITED,
                detail=f"{MAX_WAITS} requests of this key are waiting already; ask again without `wait`",
                retry_after_s=1,
            )
        if is_further_look:
            return None
        per_s = self._requests_per_s
        rate = self._rates.setdefault(key.name, RateLimit(per_s, max(2 * per_s, 1.0)))
        if rate.allows(self._clock.monotonic()):
            return None
        return Refusal(
            why=Why.RATE_LIMITED,
            detail=f"more than {per_s:g} requests a second of this key; wait for Retry-After",
            retry_after_s=max(1, round(1 / per_s)),
        )

    # --- calls -------------------------------------------------------------------------------------------------------

    async def _make(self, question: MakeCall, key: ApiKey) -> Answer:
        plugin = question.plugin
        if plugin not in key.plugins:  # the same whether there is such a plugin or not
            return Refusal(why=Why.FORBIDDEN, detail=f"this key is for {', '.join(key.plugins)}")
        taken = self._taken(question)
        if isinstance(taken, Refusal) and not (taken.why is Why.NOT_FOUND and self._has_fallback(question)):
            return taken
        identity = _identity(question, key)
        # One at a time for each identity: two requests with one key at once are one call and its repetition.
        while (before := self._making.get((plugin, identity))) is not None:
            await asyncio.wait([before], timeout=LEDGER_DEADLINE_S)
            if not before.done():
                return _LEDGER_AWAY
        done = self._making[plugin, identity] = asyncio.get_running_loop().create_future()
        # A task of its own: once committed it has to get to its plugin, even if nobody waits here any more.
        task = self._tasks.spawn(self._make_once(question, key, taken, identity), f"webhook:{plugin}")

        def on_made(_: object) -> None:
            del self._making[plugin, identity]
            done.set_result(None)

        task.add_done_callback(on_made)
        finished, _ = await asyncio.wait([task], timeout=LEDGER_DEADLINE_S)
        if not finished:
            return _LEDGER_AWAY
        made = task.result()
        if isinstance(made, Refusal):
            return made
        if isinstance(made, JobCall) and not question.wait_s:
            return to_queued(made)
        call_id = made.id if isinstance(made, JobCall) else made
        return await self._call(call_id, key, question.wait_s, is_new=isinstance(made, JobCall))

    def _taken(self, question: MakeCall) -> Taken | Refusal:
        """The trigger that the plugin has declared."""
        host = self._router.hosts.get(question.plugin)
        if host is None:
            return Refusal(why=Why.NOT_FOUND, detail=f"there is no plugin {question.plugin!r} now")
        taken = self._producer.find(question.plugin, question.job)
        if taken is not None:
            return taken
        if self._router.is_draining or (host.declared is None and host.config.triggers is None):
            return Refusal(why=Why.UNAVAILABLE, detail=f"{question.plugin} has not started yet", retry_after_s=5)
        jobs = ", ".join(self._producer.jobs(question.plugin))
        advice = f"jobs that it takes: {jobs}" if jobs else "it declares no webhook trigger"
        return Refusal(why=Why.NOT_FOUND, detail=f"{question.plugin} takes no webhook for {question.job!r}; {advice}")

    def _has_fallback(self, question: MakeCall) -> bool:
        """Whether what nobody takes of this is for another job."""
        route = self._router.routes.fallback
        return route is not None and (route.plugin, route.job) != (question.plugin, question.job)

    async def _make_once(
        self, question: MakeCall, key: ApiKey, taken: Taken | Refusal, identity: str
    ) -> JobCall | int | Refusal:
        """The call, if it is new; else the id of the one that stands there. What nobody takes is for the fallback."""
        new_call = self._build(question, key, taken, identity)
        find = calls.find(new_call.plugin, new_call.identity)
        # Before the queue is asked: what was made is found again, whatever there is room for. Nobody repeats a uuid.
        rows = await self._store.fetch(find) if _is_repeatable(question) else []
        if not rows:
            refusal = self._not_now(new_call.plugin)
            if refusal is not None:
                return refusal
            accepted = await self._router.submit([new_call])
            if accepted:
                self._producer.count()
                return accepted[0]
            rows = await self._store.fetch(find)
        if not rows:
            return Refusal(
                why=Why.UNAVAILABLE,
                detail=f"{new_call.plugin} has as many calls as it may (queue, max_calls_per_s); none was made",
                retry_after_s=1,
            )
        if (rows[0]["payload"], rows[0]["job"]) != (question.payload, new_call.job):
            return Refusal(
                why=Why.KEY_REUSED,
                detail=f"this Idempotency-Key made call {rows[0]['id']} with another payload or job; take a new key",
            )
        call_id: int = rows[0]["id"]
        return call_id

    def _build(self, question: MakeCall, key: ApiKey, taken: Taken | Refusal, identity: str) -> NewCall:
        now = self._clock.now()
        new_call = NewCall(
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
        if isinstance(taken, Refusal):
            fallback = self._router.fallen_back(new_call)
            assert fallback is not None  # or it would have been refused
            return fallback
        return replace(
            new_call,
            deadline_at=now + taken.terms.call_deadline,
            source=source_of(taken.trigger),
            overlap=taken.trigger.overlap,
        )

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

    async def _call(self, call_id: int, key: ApiKey, wait_s: float, *, is_new: bool = False) -> Answer:
        with self._results.expecting(call_id) as result:
            view = await self._view(call_id, key, is_new=is_new)
            if isinstance(view, CallView) and view.outcome is None and wait_s:
                await asyncio.wait([result], timeout=wait_s)
                view = await self._view(call_id, key, is_new=is_new)
        return view

    async def _view(self, call_id: int, key: ApiKey, *, is_new: bool) -> CallView | Refusal:
        async with asyncio.timeout(LEDGER_DEADLINE_S):
            rows = await self._store.fetch(outcomes.call(call_id))
        # One answer for both: ids of others are not to be counted.
        if not rows or not _covers(key, rows[0]):
            return Refusal(why=Why.NOT_FOUND, detail=f"there is no call {call_id} of a plugin that this key covers")
        return to_view(rows[0], is_new=is_new)

    # --- outcomes ----------------------------------------------------------------------------------------------------

    async def _events(self, question: GetEvents, key: ApiKey) -> Answer:
        if question.plugin is not None and question.plugin not in key.plugins:
            return Refusal(why=Why.FORBIDDEN, detail=f"this key is for {', '.join(key.plugins)}")
        plugins = key.plugins if question.plugin is None else (question.plugin,)
        loop = asyncio.get_running_loop()
        until = loop.time() + question.wait_s
        position = question.after
        while True:
            finished = self._finished  # taken before the look: what ends meanwhile rings it
            head, events = await self._look(position, plugins)
            left_s = until - loop.time()
            if events.outcomes or left_s <= 0 or question.after is None:
                return events
            position = events.position
            if position < head:
                continue
            try:
                async with asyncio.timeout(left_s):
                    await finished.wait()
            except TimeoutError:
                return events

    async def _look(self, position: int | None, plugins: Sequence[str]) -> tuple[int, Events]:
        async with asyncio.timeout(LEDGER_DEADLINE_S):
            # First, so that it is not beyond what the second query sees.
            head = (await self._store.fetch(outcomes.head()))[0]["position"]
            if position is None or position > head:
                return head, Events(outcomes=[], position=head)
            rows = await self._store.fetch(outcomes.since(position, plugins, MAX_OUTCOMES))
        found = [Outcome(position=row["position"], call=to_view(row)) for row in rows]
        if len(found) == MAX_OUTCOMES:
            return head, Events(outcomes=found, position=found[-1].position)
        seen = min(head, position + outcomes.WINDOW)
        return head, Events(outcomes=found, position=max([seen, *(outcome.position for outcome in found)]))

    def _on_result(self, _: JobResult) -> None:
        """Wake all who listen: each looks for itself."""
        self._finished.set()
        self._finished = asyncio.Event()


def _covers(key: ApiKey, row: DictRow) -> bool:
    """A call of one of its plugins; or one that it made, and that the fallback has taken."""
    is_fallback = row["source"] == FALLBACK and row["principal"] == key.principal
    return row["plugin"] in key.plugins or is_fallback


def _is_repeatable(question: MakeCall) -> bool:
    return bool(question.idempotency_key) or isinstance(question.credential, Signature)


def _identity(question: MakeCall, key: ApiKey) -> str:
    """Under the key's own name: nobody meets, or learns of, a call of another key by its Idempotency-Key."""
    if question.idempotency_key:
        return f"webhook {key.name} key {question.idempotency_key}"
    if isinstance(question.credential, Signature):  # so that a request that is sent again is the same call
        return f"webhook {key.name} signature {question.credential.digest}"
    return f"webhook {key.name} once {uuid.uuid4().hex}"

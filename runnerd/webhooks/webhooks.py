"""What the http process is answered: pages for everybody, calls for holders of keys. The border is here.

Nothing that the process says is believed but what a caller without a key may say. Key, scope, rate, plugin, trigger and
identity are all checked on this side; then the call is committed, and only after that its id is told.
"""

from collections import Counter
from collections.abc import Callable
from typing import Final, assert_never

from runnerd.clock import Clock
from runnerd.http.words import Answer, GetCall, GetEvents, GetPage, MakeCall, Page, Question, Refusal, Why
from runnerd.routing.results import Results
from runnerd.routing.router import Router
from runnerd.store.calls import JobCall
from runnerd.store.errors import StoreError
from runnerd.store.ledger import Ledger
from runnerd.supervisor.rate import RateLimit
from runnerd.triggers.webhook import WebhookProducer
from runnerd.views.calls import to_queued
from runnerd.webhooks.keys import ApiKey, KeyRing
from runnerd.webhooks.maker import LEDGER_AWAY, CallMaker
from runnerd.webhooks.watch import OutcomeWatch

MAX_WAITS: Final = 32
"""Requests of one key that may wait for an outcome at once, listeners included."""
_UNAUTHORIZED: Final = Refusal(
    why=Why.UNAUTHORIZED,
    detail="the key or signature is not valid: unknown, expired, revoked, of the other kind, or its time is more than "
    "5 minutes from ours; ask the operator for a key",
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
        self._maker = CallMaker(producer, router, store, clock)
        self._watch = OutcomeWatch(results, store)
        self._page = page
        self._requests_per_s = requests_per_s
        self._clock = clock
        self._rates: dict[str, RateLimit] = {}
        self._waits: Counter[str] = Counter()

    async def close(self) -> None:
        """Let what is being committed get to its plugin; nothing is made any more."""
        await self._maker.close()

    async def let_go(self) -> None:
        """Nobody waits any more for an outcome that has not come."""
        self._watch.close()

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
            answer = await self._answer(question, key)
        except (StoreError, TimeoutError):
            answer = LEDGER_AWAY
        finally:
            self._waits[key.name] -= question.wait_s > 0
        # Again: a minute may have passed. Not by the credential, for a signature's time may be over by now.
        return answer if self._keys.is_valid(key, self._clock.now()) else _UNAUTHORIZED

    async def _answer(self, question: MakeCall | GetCall | GetEvents, key: ApiKey) -> Answer:
        match question:
            case MakeCall():
                return await self._make(question, key)
            case GetCall():
                return await self._watch.call(question.call_id, key, question.wait_s)
            case GetEvents():
                return await self._watch.events(question, key)
            case _:
                assert_never(question)

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

    async def _make(self, question: MakeCall, key: ApiKey) -> Answer:
        made = await self._maker.make(question, key)
        if isinstance(made, Refusal):
            return made
        if isinstance(made, JobCall) and not question.wait_s:
            return to_queued(made)
        call_id = made.id if isinstance(made, JobCall) else made
        return await self._watch.call(call_id, key, question.wait_s, is_new=isinstance(made, JobCall))

"""Webhooks in the conformance suite: requests over real HTTP to the forked http process, from a careful caller.

He names each with an Idempotency-Key, and repeats it until he knows what has become of it: his stimulus is kept by
himself. "None was made" is such an answer; so under overload what was not taken is known to him, and counted.
"""

import asyncio
import http.client
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from itertools import count
from typing import cast

from protocol.triggers import Trigger, Webhook
from runnerd.config.model import HttpConfig
from runnerd.http.words import Page
from runnerd.services.http import HttpProcess, fork_http
from runnerd.tasks import Tasks
from runnerd.triggers.producer import Producer
from runnerd.triggers.webhook import WebhookProducer
from runnerd.webhooks.keys import ApiKey, KeyKind, KeyRing, digest_of, make_secret
from runnerd.webhooks.webhooks import Webhooks
from tests.triggers.conformance.adapter import Parts, Seen, Source
from tests.triggers.conformance.host import PLUGINS

HOST = "127.0.0.1"
REQUEST_S = 10.0
REQUESTS_PER_S = 100_000.0
TAKEN, KNOWN, BUSY = 202, 200, 503
NONE_MADE = b"none was made"


class Caller:
    """See `adapter.Source`."""

    def __init__(self) -> None:
        with socket.create_server((HOST, 0)) as free:
            self._port: int = free.getsockname()[1]
        self._secret = make_secret("shop")
        self.params: Mapping[str, str] = {"port": str(self._port), "secret": self._secret}
        self._numbers = count(1)
        self._unanswered: list[tuple[str, str]] = []
        self._answered: list[tuple[str, str]] = []

    async def cause(self, count: int) -> list[str]:
        names = [str(next(self._numbers)) for _ in range(count)]
        self._unanswered += [(plugin, name) for name in names for plugin in PLUGINS]
        await asyncio.to_thread(self._post_all)
        return names

    async def repeat(self) -> None:
        """All requests a second time, as a proxy between the two might."""
        for plugin, name in self._answered:
            status, _ = await asyncio.to_thread(self._post, plugin, name)
            assert status == KNOWN

    def name_of(self, seen: Seen) -> str:
        return seen.payload

    def _post_all(self) -> None:
        """In order, from the first without an answer; until there is none."""
        while self._unanswered:
            try:
                status, body = self._post(*self._unanswered[0])
            except (OSError, http.client.HTTPException):
                return  # nobody is there: once more, when there is somebody
            assert status in (TAKEN, KNOWN, BUSY), (status, body)
            if status == BUSY and NONE_MADE not in body:
                return  # it may have been made: the http process has outlived the supervisor by a moment
            self._answered.append(self._unanswered.pop(0))

    def _post(self, plugin: str, name: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(HOST, self._port, timeout=REQUEST_S)
        try:
            headers = {"Authorization": f"Bearer {self._secret}", "Idempotency-Key": name}
            connection.request("POST", f"/v1/plugins/{plugin}/calls", name, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


@asynccontextmanager
async def _caller() -> AsyncIterator[Source]:
    yield Caller()


class Served:
    """The producer with its http process: in a daemon that is the app's."""

    def __init__(self, producer: WebhookProducer, webhooks: Webhooks, http_process: HttpProcess) -> None:
        self._producer = producer
        self._webhooks = webhooks
        self._http = http_process
        self.name = producer.name
        self.serves = producer.serves
        self.declare = producer.declare
        self.forget = producer.forget
        self.next_due = producer.next_due
        self.progress = producer.progress

    @property
    def trouble(self) -> str | None:
        return self._producer.trouble

    async def run(self) -> None:
        tasks = Tasks()
        tasks.spawn(self._http.serve(self._webhooks.answer), "http:channel")
        try:
            await self._producer.run()
        finally:
            await self._webhooks.close()
            await tasks.cancel()
            self._http.close()


class WebhookAdapter:
    """See `adapter.Adapter`."""

    name = "webhook"
    keeps = True
    is_bounded = True
    twins = 1
    flood = 20
    take_s = 0.05

    def __init__(self) -> None:
        self._http: HttpProcess | None = None

    def prepare(self) -> None:
        self._http = fork_http()

    def source(self, dsn: str) -> AbstractAsyncContextManager[Source]:
        return _caller()

    def triggers(self, params: Mapping[str, str]) -> Sequence[Trigger]:
        return [Webhook()]

    def build(self, parts: Parts) -> Producer:
        producer = WebhookProducer()
        webhooks = Webhooks(
            _ring(parts.params["secret"]), producer, parts.router, parts.results, parts.store, _page, REQUESTS_PER_S,
            parts.clock,
        )  # fmt: skip
        http_process = cast("HttpProcess", self._http)
        http_process.open(HttpConfig(port=int(parts.params["port"])))
        return Served(producer, webhooks, http_process)

    def is_listening(self, producer: Producer) -> bool:
        return True  # connections wait in the socket that is bound


def _ring(secret: str) -> KeyRing:
    ring = KeyRing()
    ring.add(
        ApiKey(
            name="shop", kind=KeyKind.BEARER, digest=digest_of(secret), plugins=PLUGINS, created_at=datetime.now(UTC),
            created_by="test",
        )
    )  # fmt: skip
    return ring


def _page(word: str) -> Page:
    return Page(status=200, content_type="text/plain", body=word)


ADAPTER = WebhookAdapter()

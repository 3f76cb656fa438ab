"""The app: three pages for everybody, and the calls API below /v1 for holders of keys. Knows nothing but how to ask.

Whatever it answers about calls comes from the supervisor, which checks the credential of each question again.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final, Protocol

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runnerd.http.openapi import document
from runnerd.http.problems import Refused, as_json, refused, respond
from runnerd.http.reading import read_get_call, read_get_events, read_make_call
from runnerd.http.words import Answer, CallView, Events, GetPage, Page, Question, Refusal, Why
from runnerd.log import fields

logger = logging.getLogger("runnerd.http")

MAX_REQUESTS: Final = 256
"""Of the API at once, those that wait included; the pages are not counted, so that health is seen under a flood."""
MAX_STREAMS: Final = 64
STREAM_S: Final = 3_600.0
"""A listener connects anew after this: it loses nothing, `Last-Event-ID` goes on."""
POLL_S: Final = 15.0
SEND_DEADLINE_S: Final = 30.0
PAGES: Final = {"/metrics": "metrics", "/healthz": "health", "/readyz": "ready"}
OPENAPI_PATH: Final = "/v1/openapi.json"
HINT: Final = f"try {', '.join(PAGES)}, {OPENAPI_PATH}"


class Ask(Protocol):
    """What is needed of `channel.AskingEnd`."""

    async def ask(self, question: Question, wait_s: float = 0.0) -> Answer:
        """The supervisor's answer."""


def build_app(ask: Ask) -> ASGIApp:
    """The whole, with its bounds around it."""
    api = _Api(ask)
    routes = [
        *(Route(path, api.page_of(word), methods=["GET"]) for path, word in PAGES.items()),
        Route(OPENAPI_PATH, api.openapi, methods=["GET"]),
        Route("/v1/plugins/{plugin}/calls", api.make_call, methods=["POST"]),
        Route("/v1/calls/{id}", api.get_call, methods=["GET"]),
        Route("/v1/events", api.events, methods=["GET"]),
    ]
    app = Starlette(
        routes=routes,
        exception_handlers={Refused: _on_refused, HTTPException: _on_http_exception, Exception: _on_defect},
    )
    app.router.redirect_slashes = False
    return Bounded(app)


class Bounded:
    """So many requests of the API at once, and a deadline for each piece of an answer that a client takes."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._open = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            return

        async def bounded_send(message: Message) -> None:
            async with asyncio.timeout(SEND_DEADLINE_S):
                await send(message)

        if not scope["path"].startswith("/v1/"):
            await self._app(scope, receive, bounded_send)
        elif self._open >= MAX_REQUESTS:
            await respond(_overloaded())(scope, receive, bounded_send)
        else:
            self._open += 1
            try:
                await self._app(scope, receive, bounded_send)
            finally:
                self._open -= 1


class _Api:
    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._streams = 0
        self._document = msgspec.json.encode(document())

    def page_of(self, word: str) -> Callable[[Request], Awaitable[Response]]:
        """The handler of one page."""

        async def page(_: Request) -> Response:
            answer = await self._ask.ask(msgspec.convert({"type": "page", "word": word}, GetPage))
            if not isinstance(answer, Page):
                return Response("the supervisor does not answer\n", 503, media_type="text/plain")
            is_metrics = answer.content_type == "metrics"
            content_type = CONTENT_TYPE_LATEST if is_metrics else answer.content_type
            return Response(answer.body, answer.status, {"Content-Type": content_type})

        return page

    async def openapi(self, _: Request) -> Response:
        return Response(self._document, media_type="application/json")

    async def make_call(self, request: Request) -> Response:
        question = await read_make_call(request)
        call = await self._call(question, question.wait_s)
        status = 202 if call.outcome is None else 200
        return _json(call, status, {"Location": f"/v1/calls/{call.id}"})

    async def get_call(self, request: Request) -> Response:
        question = read_get_call(request)
        return _json(await self._call(question, question.wait_s), 200)

    async def _call(self, question: Question, wait_s: float) -> CallView:
        answer = await self._ask.ask(question, wait_s + 5.0)  # the supervisor's own deadline for the ledger
        if isinstance(answer, Refusal):
            raise refused(answer)
        assert isinstance(answer, CallView)
        return answer

    async def events(self, request: Request) -> Response:
        question = read_get_events(request)
        if self._streams >= MAX_STREAMS:
            raise _overloaded()
        self._streams += 1
        is_streaming = False
        try:
            first = await self._poll(question)
            if isinstance(first, Refusal):  # while the status can still say so
                raise refused(first)
            body = self._stream(question, first)
            is_streaming = True
        finally:
            if not is_streaming:
                self._streams -= 1
        return _Stream(body, self._on_stream_end)

    def _on_stream_end(self) -> None:
        self._streams -= 1

    async def _poll(self, question: Any) -> Events | Refusal:
        answer = await self._ask.ask(question, question.wait_s + 5.0)
        assert isinstance(answer, Events | Refusal)
        return answer

    async def _stream(self, question: Any, found: Events) -> AsyncIterator[bytes]:
        """The key is checked at each answer: a revoked one hears nothing more. Asks only when the last is taken."""
        until = asyncio.get_running_loop().time() + STREAM_S
        yield b"retry: 2000\n\n"
        while True:
            for outcome in found.outcomes:
                data = msgspec.json.encode(outcome.call)  # one line: JSON has no line break of its own
                yield b"id: %d\nevent: outcome\ndata: %b\n\n" % (outcome.position, data)
            # Also without an outcome: who connects again goes on from here. Shows a dead connection, too.
            yield b"id: %d\n: so far\n\n" % found.position
            if asyncio.get_running_loop().time() >= until:
                return
            question = msgspec.structs.replace(question, after=found.position, wait_s=POLL_S, is_opening=False)
            answer = await self._poll(question)
            if isinstance(answer, Refusal):
                yield b"event: end\ndata: %b\n\n" % as_json(refused(answer))
                return
            found = answer


class _Stream(StreamingResponse):
    """Server-sent events; tells when it has ended, however that comes."""

    def __init__(self, body: AsyncIterator[bytes], on_end: Callable[[], None]) -> None:
        super().__init__(body, headers={"Cache-Control": "no-store"}, media_type="text/event-stream")
        self._on_end = on_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See StreamingResponse."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._on_end()


def _json(call: CallView, status: int, headers: dict[str, str] | None = None) -> Response:
    shown = msgspec.to_builtins(call)
    del shown["type"]
    body = msgspec.json.encode(shown)
    return Response(body, status, {"Cache-Control": "no-store", **(headers or {})}, "application/json")


def _overloaded() -> Refused:
    return refused(Refusal(why=Why.UNAVAILABLE, detail="too many requests at once; try again", retry_after_s=1))


async def _on_refused(_: Request, problem: Exception) -> Response:
    assert isinstance(problem, Refused)
    return respond(problem)


async def _on_http_exception(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    detail = HINT if error.status_code == 404 else error.detail
    response = respond(Refused(error.status_code, "http", error.detail, detail))
    response.headers.update(error.headers or {})
    return response


async def _on_defect(_: Request, error: Exception) -> Response:
    """Starlette raises it again after this, and uvicorn would log it in its own words."""
    logger.error("a request failed: %s: %s", type(error).__name__, error, extra=fields("http_failed"))
    return respond(
        Refused(500, "internal", "A defect of runnerd", "see the log; the request may have been carried out")
    )

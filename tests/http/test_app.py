"""The app itself, called as uvicorn calls it, with a supervisor that notes what it is asked."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from runnerd.http import app as http_app
from runnerd.http import reading
from runnerd.http.app import build_app
from runnerd.http.openapi import document
from runnerd.http.problems import KINDS, MEDIA_TYPE
from runnerd.http.words import (
    MAX_BODY_BYTES,
    OUTCOMES,
    Answer,
    Bearer,
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
from runnerd.store.calls import JobOutcome
from tests.support.aio import run_async
from tests.support.until import until

AUTH = {"Authorization": "Bearer rk1.shop.secret"}
TOKEN = Bearer(token="rk1.shop.secret")
CALLS = "/v1/plugins/alpha/calls"
AT = datetime(2026, 11, 29, tzinfo=UTC)


def view(**changes: Any) -> CallView:
    """A call that is queued."""
    values: dict[str, Any] = {
        "id": 7, "plugin": "alpha", "job": "decide", "state": "queued", "outcome": None, "reason": None,
        "transaction": None, "created_at": AT, "finished_at": None,
    }  # fmt: skip
    return CallView(**{**values, **changes})


@dataclass
class Supervisor:
    """Answers with `answers` in turn, the last one again and again; with `gate` only when that is open."""

    answers: list[Answer] = field(default_factory=lambda: [view()])
    asked: list[Question] = field(default_factory=list)
    gate: asyncio.Event | None = None

    async def ask(self, question: Question, wait_s: float = 0.0) -> Answer:
        self.asked.append(question)
        if self.gate is not None:
            await self.gate.wait()
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@dataclass
class Response:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        """The body."""
        found: dict[str, Any] = json.loads(self.body)
        return found


class Client:
    """Calls an app."""

    def __init__(self, supervisor: Supervisor) -> None:
        self.app = build_app(supervisor)

    async def send(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str] | list[tuple[str, str]] | None = None,
        body: bytes | list[bytes] = b"",
    ) -> Response:
        """One request, and all of its answer."""
        chunks = [body] if isinstance(body, bytes) else list(body)
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            if not chunks:
                await asyncio.get_running_loop().create_future()
            return {"type": "http.request", "body": chunks.pop(0), "more_body": bool(chunks)}

        async def send(message: Any) -> None:
            sent.append(message)

        pairs = list(headers.items() if isinstance(headers, Mapping) else headers or [])
        path, _, query = target.partition("?")
        scope = {
            "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "method": method,
            "path": path, "raw_path": path.encode(), "query_string": query.encode(), "root_path": "", "scheme": "http",
            "server": ("test", 80), "client": ("test", 1),
            "headers": [(name.lower().encode(), value.encode()) for name, value in pairs],
        }  # fmt: skip
        await self.app(scope, receive, send)
        start = sent[0]
        return Response(
            start["status"],
            {name.decode().lower(): value.decode() for name, value in start["headers"]},
            b"".join(message.get("body", b"") for message in sent[1:]),
        )


def request(
    method: str,
    target: str,
    headers: Mapping[str, str] | list[tuple[str, str]] | None = None,
    body: bytes | list[bytes] = b"",
    supervisor: Supervisor | None = None,
) -> Response:
    """One request to an app of its own."""

    responses: list[Response] = []

    async def scenario() -> None:
        responses.append(await Client(supervisor or Supervisor()).send(method, target, headers, body))

    run_async(scenario())
    return responses[0]


def check_problem(response: Response, status: int, detail: str) -> None:
    """Problem details, with words that help."""
    assert response.status == status, response
    assert response.headers["content-type"] == MEDIA_TYPE
    assert response.json.keys() == {"type", "title", "status", "detail"}
    assert response.json["status"] == status
    assert detail in response.json["detail"]


# --- what is asked ---------------------------------------------------------------------------------------------------


def test_a_post_is_a_question_with_all_that_was_sent() -> None:
    """Body, key, job and wait; 202 with the id and where to look."""
    supervisor = Supervisor()
    headers = {**AUTH, "Idempotency-Key": "k-1", "Content-Type": "application/json; charset=utf-8"}
    response = request(
        "POST",
        f"{CALLS}?job=settle&wait=1.5",
        headers,
        ['{"a":"é"}'.encode()[:7], '{"a":"é"}'.encode()[7:]],
        supervisor,
    )
    assert supervisor.asked == [
        MakeCall(credential=TOKEN, plugin="alpha", job="settle", payload='{"a":"é"}', idempotency_key="k-1", wait_s=1.5)
    ]
    assert (response.status, response.json["id"], response.headers["location"]) == (202, 7, "/v1/calls/7")
    assert response.headers["cache-control"] == "no-store"
    assert "type" not in response.json


def test_a_call_with_its_outcome_is_200() -> None:
    """Waited for, or made before."""
    done = view(state="done", outcome="noop", reason="quiet", finished_at=AT)
    response = request("POST", CALLS, AUTH, supervisor=Supervisor([done]))
    assert (response.status, response.json["outcome"], response.json["reason"]) == (200, "noop", "quiet")


def test_a_signature_is_read() -> None:
    """In place of a key."""
    supervisor = Supervisor()
    request("POST", CALLS, {"X-Runnerd-Signature": f"key=shop,t=12,v1={'ab' * 32}"}, supervisor=supervisor)
    assert supervisor.asked == [
        MakeCall(credential=Signature(key="shop", at=12, digest="ab" * 32), plugin="alpha", payload="")
    ]


def test_a_look_at_a_call() -> None:
    """By its id."""
    supervisor = Supervisor()
    assert request("GET", "/v1/calls/7?wait=60", AUTH, supervisor=supervisor).status == 200
    assert supervisor.asked == [GetCall(credential=TOKEN, call_id=7, wait_s=60)]


@pytest.mark.parametrize("word, path", [("metrics", "/metrics"), ("health", "/healthz"), ("ready", "/readyz")])
def test_pages_need_no_key_and_none_is_handed_on(word: str, path: str) -> None:
    """A key that is sent all the same goes nowhere."""
    supervisor = Supervisor([Page(status=503, content_type="text/plain; charset=utf-8", body="starting\n")])
    response = request("GET", path, AUTH, supervisor=supervisor)
    assert (response.status, response.body) == (503, b"starting\n")
    assert supervisor.asked == [msgspec.convert({"type": "page", "word": word}, GetPage)]


# --- what is refused before anybody is asked -------------------------------------------------------------------------

BAD_CREDENTIALS: list[list[tuple[str, str]]] = [
    [],
    [("Authorization", "Basic cm9vdDpyb290")],
    [("Authorization", "Bearer")],
    [("Authorization", "Bearer ")],
    [("Authorization", "Bearer a b")],
    [("Authorization", "Bearer " + "x" * 257)],
    [("Authorization", "Bearer a"), ("Authorization", "Bearer b")],
    [("Authorization", "Bearer a"), ("X-Runnerd-Signature", f"key=shop,t=1,v1={'ab' * 32}")],
    [("X-Runnerd-Signature", "t=1")],
    [("X-Runnerd-Signature", f"key=shop,t=1,v1={'AB' * 32}")],
    [("X-Runnerd-Signature", f"key=shop,t=-1,v1={'ab' * 32}")],
    [("X-Runnerd-Signature", f"key=sh op,t=1,v1={'ab' * 32}")],
    [("X-Runnerd-Signature", f"key=1shop,t=1,v1={'ab' * 32}")],
    [("X-Runnerd-Signature", f"key=shop,t={'9' * 13},v1={'ab' * 32}")],
]


@pytest.mark.parametrize("headers", BAD_CREDENTIALS)
@pytest.mark.parametrize("method, target", [("POST", CALLS), ("GET", "/v1/calls/7"), ("GET", "/v1/events")])
def test_without_a_credential_nobody_is_asked(headers: list[tuple[str, str]], method: str, target: str) -> None:
    """401, and it says which header is meant."""
    supervisor = Supervisor()
    response = request(method, target, headers, supervisor=supervisor)
    check_problem(response, 401, "")
    assert response.headers["www-authenticate"].startswith("Bearer")
    assert "Bearer" in response.json["detail"] or "X-Runnerd-Signature" in response.json["detail"]
    assert supervisor.asked == []


@pytest.mark.parametrize(
    "target, headers, body, status, detail",
    [
        (CALLS, {}, b"x" * (MAX_BODY_BYTES + 1), 413, f"at most {MAX_BODY_BYTES} bytes"),
        (CALLS, {"Content-Length": str(MAX_BODY_BYTES + 1)}, b"", 413, "at most"),
        (CALLS, {}, [b"x" * 100_000] * 3, 413, "at most"),
        (CALLS, {"Content-Type": "multipart/form-data"}, b"", 415, "application/json"),
        (CALLS, {"Content-Encoding": "gzip"}, b"", 415, "uncompressed"),
        (CALLS, {}, b"\xff", 400, "UTF-8"),
        (CALLS, {}, b"a\0b", 400, "control characters"),
        (CALLS, {}, b"\x1b[2J", 400, "control characters"),
        (CALLS, {"Idempotency-Key": ""}, b"", 400, "Idempotency-Key must be"),
        (CALLS, {"Idempotency-Key": "a b"}, b"", 400, "Idempotency-Key must be"),
        (CALLS, {"Idempotency-Key": "k" * 201}, b"", 400, "Idempotency-Key must be"),
        (CALLS + "?wait=61", {}, b"", 400, "0 to 60"),
        (CALLS + "?wait=-1", {}, b"", 400, "0 to 60"),
        (CALLS + "?wait=nan", {}, b"", 400, "0 to 60"),
        (CALLS + "?wait=1e1", {}, b"", 400, "0 to 60"),
        (CALLS + "?job=1x", {}, b"", 400, "job must be"),
        (CALLS + "?job=", {}, b"", 400, "job must be"),
        (CALLS + "?wiat=1", {}, b"", 400, "allowed: job, wait"),
        (CALLS + "?job=a&job=b", {}, b"", 400, "twice"),
        ("/v1/plugins/1x/calls", {}, b"", 403, "cover"),
        ("/v1/plugins/a%0Ab/calls", {}, b"", 403, "cover"),
    ],
)
def test_a_bad_request_is_told_what_is_wrong_and_nobody_is_asked(
    target: str, headers: dict[str, str], body: bytes | list[bytes], status: int, detail: str
) -> None:
    """In the shape of RFC 9457."""
    supervisor = Supervisor()
    target = target.replace("%0A", "\n")  # as uvicorn hands it on
    check_problem(request("POST", target, {**AUTH, **headers}, body, supervisor), status, detail)
    assert supervisor.asked == []


def test_a_body_of_the_largest_size_is_taken() -> None:
    """To the byte."""
    supervisor = Supervisor()
    assert request("POST", CALLS, AUTH, b"x" * MAX_BODY_BYTES, supervisor).status == 202
    assert len(supervisor.asked) == 1


def test_a_body_that_does_not_come_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """408, in the end: nobody holds a place with half a request."""
    monkeypatch.setattr(reading, "BODY_DEADLINE_S", 0.05)

    class Half(list[bytes]):
        def __bool__(self) -> bool:
            return True  # there is always more to come

    async def scenario() -> None:
        app = build_app(Supervisor())
        chunks = [b"half"]
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            if not chunks:
                await asyncio.get_running_loop().create_future()
            return {"type": "http.request", "body": chunks.pop(), "more_body": True}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http", "method": "POST", "path": CALLS, "query_string": b"", "root_path": "", "scheme": "http",
            "server": ("test", 80), "headers": [(b"authorization", b"Bearer x")],
        }  # fmt: skip
        await app(scope, receive, send)
        assert sent[0]["status"] == 408

    run_async(scenario())


@pytest.mark.parametrize("text", ["0", "-1", "x", "1.0", "9" * 20, "9223372036854775808"])
def test_an_id_that_none_can_be(text: str) -> None:
    """Refused before it can overflow anything."""
    supervisor = Supervisor()
    check_problem(request("GET", f"/v1/calls/{text}", AUTH, supervisor=supervisor), 400, "positive integer")
    assert supervisor.asked == []


def test_other_paths_and_methods() -> None:
    """404 says what there is, 405 what is allowed."""
    check_problem(request("GET", "/v1/keys", AUTH), 404, "/v1/openapi.json")
    check_problem(request("GET", "/etc/passwd"), 404, "/metrics, /healthz, /readyz")
    response = request("GET", CALLS, AUTH)
    check_problem(response, 405, "")
    assert response.headers["allow"] == "POST"


# --- what the supervisor refuses -------------------------------------------------------------------------------------


@pytest.mark.parametrize("why", Why)
def test_every_refusal_has_its_status(why: Why) -> None:
    """With Retry-After where it may be tried again."""
    is_passing = why in (Why.RATE_LIMITED, Why.UNAVAILABLE)
    refusal = Refusal(why=why, detail="because", retry_after_s=3 if is_passing else None)
    response = request("POST", CALLS, AUTH, supervisor=Supervisor([refusal]))
    check_problem(response, KINDS[why][0], "because")
    assert response.json["type"] == f"urn:runnerd:problem:{why}"
    assert response.headers.get("retry-after") == ("3" if refusal.retry_after_s else None)


def test_a_flood_of_the_api_is_503_and_the_pages_are_still_served(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits in a queue that he does not know of."""
    monkeypatch.setattr(http_app, "MAX_REQUESTS", 2)

    async def scenario() -> None:
        supervisor = Supervisor(gate=asyncio.Event())
        assert supervisor.gate is not None
        client = Client(supervisor)
        async with asyncio.TaskGroup() as group:
            held = [group.create_task(client.send("GET", "/v1/calls/7", AUTH)) for _ in range(2)]
            await until(lambda: len(supervisor.asked) == 2)
            refused = await client.send("GET", "/v1/calls/7", AUTH)
            check_problem(refused, 503, "too many")
            assert refused.headers["retry-after"] == "1"
            page = group.create_task(client.send("GET", "/healthz"))
            await until(lambda: len(supervisor.asked) == 3)
            assert isinstance(supervisor.asked[2], GetPage)
            supervisor.gate.set()
        assert [task.result().status for task in held] == [200, 200]
        assert page.result().status == 503  # this supervisor answers a call to everything
        assert (await client.send("GET", "/v1/calls/7", AUTH)).status == 200

    run_async(scenario())


# --- events ----------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def deadline() -> AsyncIterator[None]:
    """For a stream that ends by itself."""
    async with asyncio.timeout(10):
        yield


def test_events_come_in_order_with_their_positions_and_end_with_the_key() -> None:
    """Each look goes on where the last one ended; a refusal in the middle ends the stream with its reason."""
    done = view(state="done", outcome="acted", finished_at=AT, reason="line\nbreak")

    async def scenario() -> None:
        supervisor = Supervisor([
            Events(outcomes=[Outcome(position=5, call=done)], position=9),
            Events(outcomes=[], position=12),
            Refusal(why=Why.UNAUTHORIZED, detail="revoked"),
        ])  # fmt: skip
        async with deadline():
            response = await Client(supervisor).send("GET", "/v1/events?plugin=alpha", {**AUTH, "Last-Event-ID": "3"})
        assert response.headers["content-type"].startswith("text/event-stream")
        events = response.body.decode().split("\n\n")
        heads = [event.partition("\n")[0] for event in events]
        assert heads == [
            "retry: 2000",
            "id: 5",
            "id: 9",
            "id: 12",
            "event: end",
            "",
        ]
        assert json.loads(events[1].partition("data: ")[2])["reason"] == "line\nbreak"
        assert json.loads(events[4].partition("data: ")[2])["detail"] == "revoked"
        asked = [question for question in supervisor.asked if isinstance(question, GetEvents)]
        assert [(question.after, question.is_opening, question.plugin) for question in asked] == [
            (3, True, "alpha"), (9, False, "alpha"), (12, False, "alpha"),
        ]  # fmt: skip

    run_async(scenario())


def test_events_without_a_right_to_them_are_refused_with_a_status() -> None:
    """Not in the middle of a stream."""
    refusal = Refusal(why=Why.FORBIDDEN, detail="this key is for alpha")
    check_problem(request("GET", "/v1/events?plugin=beta", AUTH, supervisor=Supervisor([refusal])), 403, "for alpha")
    check_problem(request("GET", "/v1/events", {**AUTH, "Last-Event-ID": "x"}), 400, "Last-Event-ID")


# --- the document ----------------------------------------------------------------------------------------------------


def test_the_document_is_served_to_everybody_and_names_every_route_and_status() -> None:
    """Who can make a client of it needs nothing else."""
    response = request("GET", "/v1/openapi.json")
    assert (response.status, response.json) == (200, json.loads(json.dumps(document())))
    assert response.json["openapi"] == "3.1.0"
    post = response.json["paths"]["/v1/plugins/{plugin}/calls"]["post"]
    assert {str(status) for status, _ in KINDS.values()} <= post["responses"].keys()


def test_the_outcomes_are_those_of_the_ledger() -> None:
    """Written a second time, because the http process does not import the store."""
    assert tuple(JobOutcome) == OUTCOMES

"""Problem details (RFC 9457): every error of the HTTP API says what is wrong and what to do, in one shape."""

from typing import Final

import msgspec
from starlette.responses import Response

from runnerd.http.words import Refusal, Why

MEDIA_TYPE: Final = "application/problem+json"
TYPE_PREFIX: Final = "urn:runnerd:problem:"
KINDS: Final[dict[Why, tuple[int, str]]] = {
    Why.INVALID: (400, "The request cannot be understood"),
    Why.UNAUTHORIZED: (401, "No valid key"),
    Why.FORBIDDEN: (403, "The key does not cover this plugin"),
    Why.NOT_FOUND: (404, "Not found"),
    Why.KEY_REUSED: (422, "The Idempotency-Key was used for another request"),
    Why.RATE_LIMITED: (429, "Too many requests of this key"),
    Why.UNAVAILABLE: (503, "Not possible now"),
}


class Refused(Exception):
    """Ends the handling of a request: `problem` has the answer."""

    def __init__(self, status: int, kind: str, title: str, detail: str, retry_after_s: int | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.title = title
        self.detail = detail
        self.retry_after_s = retry_after_s


def refused(refusal: Refusal) -> Refused:
    """The supervisor's refusal, for a client."""
    status, title = KINDS[refusal.why]
    return Refused(status, refusal.why.value, title, refusal.detail, refusal.retry_after_s)


def invalid(detail: str) -> Refused:
    """400."""
    return refused(Refusal(why=Why.INVALID, detail=detail))


def as_json(problem: Refused) -> bytes:
    """The body."""
    return msgspec.json.encode({
        "type": TYPE_PREFIX + problem.kind, "title": problem.title, "status": problem.status, "detail": problem.detail,
    })  # fmt: skip


def respond(problem: Refused) -> Response:
    """The answer, with what its status asks for in headers."""
    headers = {"Cache-Control": "no-store"}
    if problem.retry_after_s is not None:
        headers["Retry-After"] = str(problem.retry_after_s)
    if problem.status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="runnerd"'
    return Response(as_json(problem), problem.status, headers, MEDIA_TYPE)

"""From an HTTP request to a question: headers, query and body, each with its bound. Raises Refused for the rest."""

import asyncio
import re
from contextlib import aclosing
from typing import Final

from starlette.requests import ClientDisconnect, Request

from protocol.names import is_name
from protocol.trigger import DEFAULT_JOB
from runnerd.http.problems import Refused, invalid, refused
from runnerd.http.words import (
    MAX_BODY_BYTES,
    MAX_KEY_LENGTH,
    MAX_WAIT_S,
    Bearer,
    Credential,
    GetCall,
    GetEvents,
    MakeCall,
    Refusal,
    Signature,
    Why,
)

BODY_DEADLINE_S: Final = 10.0
CONTENT_TYPES: Final = ("application/json", "text/plain", "application/octet-stream")
SIGNATURE_HEADER: Final = "X-Runnerd-Signature"
SIGNATURE_RULE: Final = f"{SIGNATURE_HEADER} must be key=NAME,t=UNIX_SECONDS,v1=HEX (64 digits)"
_SIGNATURE: Final = re.compile(r"key=([^,\s]{1,64}),t=([0-9]{1,12}),v1=([0-9a-f]{64})")
_TOKEN: Final = re.compile(r"[\x21-\x7e]{1,256}")
_IDEMPOTENCY_KEY: Final = re.compile(rf"[\x21-\x7e]{{1,{MAX_KEY_LENGTH}}}")
_WAIT: Final = re.compile(r"[0-9]{1,4}(\.[0-9]{1,3})?")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")
_NUMBER: Final = re.compile(r"[0-9]{1,19}")
_MAX_BIGINT: Final = (1 << 63) - 1


async def read_make_call(request: Request) -> MakeCall:
    """`POST /v1/plugins/{plugin}/calls`."""
    credential = _credential(request)
    _check_query(request, {"job", "wait"})
    return MakeCall(
        credential=credential,
        plugin=_plugin(request.path_params["plugin"]),
        job=_name("job", request.query_params.get("job", DEFAULT_JOB)),
        idempotency_key=_idempotency_key(request),
        wait_s=_wait(request),
        payload=await _payload(request),
    )


def read_get_call(request: Request) -> GetCall:
    """`GET /v1/calls/{id}`."""
    credential = _credential(request)
    _check_query(request, {"wait"})
    text = request.path_params["id"]
    if not _NUMBER.fullmatch(text) or not 1 <= int(text) <= _MAX_BIGINT:
        raise invalid("the id of a call is a positive integer, as the answer to its POST has it")
    return GetCall(credential=credential, call_id=int(text), wait_s=_wait(request))


def read_get_events(request: Request) -> GetEvents:
    """`GET /v1/events`."""
    credential = _credential(request)
    _check_query(request, {"plugin"})
    after = request.headers.get("Last-Event-ID")
    if after is not None and (not _NUMBER.fullmatch(after) or int(after) > _MAX_BIGINT):
        raise invalid("Last-Event-ID must be the id of an event of this stream")
    plugin = request.query_params.get("plugin")
    return GetEvents(
        credential=credential,
        plugin=None if plugin is None else _plugin(plugin),
        after=None if after is None else int(after),
        is_opening=True,
    )


def _credential(request: Request) -> Credential:
    """Exactly one of both kinds."""
    authorization = request.headers.getlist("Authorization")
    signatures = request.headers.getlist(SIGNATURE_HEADER)
    if len(authorization) + len(signatures) != 1:
        raise _unauthorized(f"send either Authorization: Bearer KEY or {SIGNATURE_HEADER}, once")
    if signatures:
        match = _SIGNATURE.fullmatch(signatures[0])
        if match is None or not is_name(match[1]):
            raise _unauthorized(SIGNATURE_RULE)
        return Signature(key=match[1], at=int(match[2]), digest=match[3])
    scheme, _, token = authorization[0].partition(" ")
    if scheme.lower() != "bearer" or not _TOKEN.fullmatch(token):
        raise _unauthorized("the Authorization header must be: Bearer KEY, with a key of `runnerctl keys create`")
    return Bearer(token=token)


def _unauthorized(detail: str) -> Refused:
    return refused(Refusal(why=Why.UNAUTHORIZED, detail=detail))


def _check_query(request: Request, known: set[str]) -> None:
    """A mistyped parameter that is ignored would be a surprise with money in it."""
    for name in request.query_params:
        if name not in known:
            raise invalid(f"unknown query parameter {name[:64]!r}; allowed: {', '.join(sorted(known))}")
        if len(request.query_params.getlist(name)) > 1:
            raise invalid(f"the query parameter {name} stands there twice")


def _plugin(text: str) -> str:
    if not is_name(text):  # nobody can have a key for it
        raise refused(Refusal(why=Why.FORBIDDEN, detail="the key does not cover a plugin of this name"))
    return text


def _name(field: str, text: str) -> str:
    if not is_name(text):
        raise invalid(f"{field} must be 1 to 64 letters, digits or _ . -, the first one a letter or _")
    return text


def _idempotency_key(request: Request) -> str:
    given = request.headers.getlist("Idempotency-Key")
    if not given:
        return ""
    if len(given) > 1 or not _IDEMPOTENCY_KEY.fullmatch(given[0]):
        raise invalid(f"Idempotency-Key must be 1 to {MAX_KEY_LENGTH} printable ASCII characters without spaces, once")
    return given[0]


def _wait(request: Request) -> float:
    text = request.query_params.get("wait")
    if text is None:
        return 0.0
    if not _WAIT.fullmatch(text) or float(text) > MAX_WAIT_S:
        raise invalid(f"wait must be seconds from 0 to {MAX_WAIT_S:g}")
    return float(text)


async def _payload(request: Request) -> str:
    content_type = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if content_type and content_type not in CONTENT_TYPES:
        raise Refused(
            415, "content-type", "Content type not taken",
            f"send the payload as {', '.join(CONTENT_TYPES)}; it reaches the plugin as the text that it is",
        )  # fmt: skip
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise Refused(415, "content-encoding", "Content encoding not taken", "send the payload uncompressed")
    body = await _body(request)
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise invalid("the body must be UTF-8") from None
    if _CONTROL.search(text):  # the ledger takes no NUL, and JSON makes six bytes of each of the others
        raise invalid("the body must not contain control characters other than tab and line breaks")
    return text


async def _body(request: Request) -> bytes:
    length = request.headers.get("Content-Length", "0")
    if length.isdecimal() and int(length) > MAX_BODY_BYTES:
        raise _too_large()
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_DEADLINE_S), aclosing(request.stream()) as chunks:
            async for chunk in chunks:
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    raise _too_large()
    except TimeoutError:
        raise Refused(
            408, "timeout", "The body came too slowly", f"send the whole body within {BODY_DEADLINE_S:g} s"
        ) from None
    except ClientDisconnect:
        raise invalid("the connection ended before the body did") from None
    return bytes(body)


def _too_large() -> Refused:
    return Refused(
        413, "too-large", "The payload is too large",
        f"at most {MAX_BODY_BYTES} bytes; put more elsewhere and send where it is",
    )  # fmt: skip

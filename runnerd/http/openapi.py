"""The OpenAPI 3.1 document of the API below /v1, for clients and for the tests that attack it by the document."""

from typing import Any, Final

from protocol.limits import MAX_NAME_LENGTH
from runnerd import __version__
from runnerd.http.problems import MEDIA_TYPE
from runnerd.http.reading import SIGNATURE_HEADER
from runnerd.http.words import MAX_BODY_BYTES, MAX_KEY_LENGTH, MAX_WAIT_S, OUTCOMES

_NAME: Final = {"type": "string", "minLength": 1, "maxLength": MAX_NAME_LENGTH, "pattern": "^[A-Za-z_][A-Za-z0-9_.-]*$"}
_RETRY: Final = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 0}}}
_PROBLEMS: Final = {
    "400": "The request cannot be understood.",
    "401": "No valid key or signature.",
    "403": "The key does not cover the plugin.",
    "404": "There is no such call, or the plugin takes no webhooks.",
    "405": "Another method.",
    "408": "The body came too slowly.",
    "413": f"The payload is larger than {MAX_BODY_BYTES} bytes.",
    "415": "The payload's type or encoding is not taken.",
    "422": "The Idempotency-Key was used for another request.",
    "429": "Too many requests of this key.",
    "503": "Not possible now: the queue is full, the ledger is away, or runnerd is stopping.",
}


def document() -> dict[str, Any]:
    """The whole document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "runnerd calls",
            "version": __version__,
            "description": "Call plugins, and see what comes of it. Keys: `runnerctl keys create`.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"key": []}, {"signature": []}],
        "paths": {
            "/v1/plugins/{plugin}/calls": {"post": _make_call()},
            "/v1/calls/{id}": {"get": _get_call()},
            "/v1/events": {"get": _get_events()},
        },
        "components": {
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer", "description": "A key of `runnerctl keys create`."},
                "signature": {
                    "type": "apiKey",
                    "in": "header",
                    "name": SIGNATURE_HEADER,
                    "description": "`key=NAME,t=UNIX_SECONDS,v1=HEX` of a key of `runnerctl keys create --signing`.",
                },
            },
            "schemas": {"Call": _call(), "Problem": _problem()},
        },
    }


def _make_call() -> dict[str, Any]:
    text = {"schema": {"type": "string", "maxLength": MAX_BODY_BYTES}}
    return {
        "operationId": "makeCall",
        "summary": "Call a plugin. The call is durable before the answer comes.",
        "parameters": [
            {"name": "plugin", "in": "path", "required": True, "schema": _NAME},
            {"name": "job", "in": "query", "schema": {**_NAME, "default": "decide"}},
            _wait(),
            {
                "name": "Idempotency-Key",
                "in": "header",
                "description": "The same key is the same call: send one, and a retry can do no harm.",
                "schema": {"type": "string", "pattern": f"^[!-~]{{1,{MAX_KEY_LENGTH}}}$"},
            },
        ],
        "requestBody": {
            "description": "What the plugin finds in `ctx.call.payload`, as the text that it is (UTF-8).",
            "content": {"application/json": {"schema": {}}, "text/plain": text},
        },
        "responses": {
            "200": _answer("It has its outcome already.", location=True),
            "202": _answer("It stands in the ledger, and is being decided.", location=True),
            **_problems("400", "401", "403", "404", "405", "408", "413", "415", "422", "429", "503"),
        },
    }


def _get_call() -> dict[str, Any]:
    number = {"type": "integer", "minimum": 1, "maximum": (1 << 63) - 1}
    return {
        "operationId": "getCall",
        "summary": "What has become of a call.",
        "parameters": [{"name": "id", "in": "path", "required": True, "schema": number}, _wait()],
        "responses": {"200": _answer("The call."), **_problems("400", "401", "404", "405", "429", "503")},
    }


def _get_events() -> dict[str, Any]:
    return {
        "operationId": "getEvents",
        "summary": "Outcomes as server-sent events, from now on or after `Last-Event-ID`. None is left out.",
        "parameters": [
            {"name": "plugin", "in": "query", "description": "Of this plugin alone.", "schema": _NAME},
            {
                "name": "Last-Event-ID",
                "in": "header",
                "schema": {"type": "integer", "minimum": 0, "maximum": (1 << 63) - 1},
            },
        ],
        "responses": {
            "200": {
                "description": "Events `outcome`, whose data is a Call, with the position as their id.",
                "content": {"text/event-stream": {"schema": {"type": "string"}}},
            },
            **_problems("400", "401", "403", "405", "429", "503"),
        },
    }


def _wait() -> dict[str, Any]:
    return {
        "name": "wait",
        "in": "query",
        "description": "Seconds to wait for the outcome.",
        "schema": {"type": "integer", "minimum": 0, "maximum": int(MAX_WAIT_S), "default": 0},
    }


def _answer(description: str, *, location: bool = False) -> dict[str, Any]:
    headers = {"Location": {"schema": {"type": "string"}}} if location else {}
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Call"}}}
    return {"description": description, "headers": headers, "content": content}


def _problems(*statuses: str) -> dict[str, Any]:
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {
        status: {
            "description": _PROBLEMS[status],
            "content": content,
            **({"headers": _RETRY} if status in {"429", "503"} else {}),
        }
        for status in statuses
    }


def _call() -> dict[str, Any]:
    moment = {"type": "string", "format": "date-time"}
    optional_text = {"type": ["string", "null"]}
    properties: dict[str, Any] = {
        "id": {"type": "integer", "minimum": 1},
        "plugin": {"type": "string"},
        "job": {"type": "string"},
        "state": {"enum": ["queued", "decided", "done"]},
        "outcome": {"enum": [*OUTCOMES, None]},
        "reason": optional_text,
        "transaction": {**optional_text, "description": "Hash of the transaction that was sent for it."},
        "created_at": moment,
        "finished_at": {"anyOf": [moment, {"type": "null"}]},
        "is_new": {"type": "boolean", "description": "Whether this very request made it."},
    }
    return {"type": "object", "required": list(properties), "properties": properties, "additionalProperties": False}


def _problem() -> dict[str, Any]:
    return {
        "type": "object",
        "description": "RFC 9457.",
        "required": ["type", "title", "status", "detail"],
        "properties": {
            "type": {"type": "string"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string", "description": "What is wrong, and what to do."},
        },
    }

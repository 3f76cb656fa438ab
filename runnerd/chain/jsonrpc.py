"""JSON-RPC 2.0 envelopes, https://www.jsonrpc.org/specification: requests to bytes, answers to results. Pure.

Used by `rpc` for one request or one batch; transports use `answered_ids` to find who waits for a message.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from runnerd.chain.errors import RpcMalformed, RpcRefused, RpcUnavailable, printable
from runnerd.chain.json_values import JsonParam, JsonValue

Request = tuple[str, Sequence[JsonParam]]
"""Method and parameters."""

MAX_ANNOUNCEMENT_BYTES = 16_384
"""A block's header has less than two thousand; what is longer only rings."""
TOO_MANY_REQUESTS = 429  # used as a JSON-RPC code as well, e.g. by Alchemy


class _Request(msgspec.Struct, frozen=True):
    jsonrpc: str
    id: int
    method: str
    params: Sequence[Any]


class _Error(msgspec.Struct, frozen=True):
    code: int
    message: str = ""
    data: Any = None


class _Answer(msgspec.Struct, frozen=True):
    id: int | str | None = None
    result: Any | UnsetType = UNSET
    error: _Error | None = None


class _Announced(msgspec.Struct, frozen=True):
    result: Any = None


class _Announcement(msgspec.Struct, frozen=True):
    params: _Announced


class _Identity(msgspec.Struct, frozen=True):
    id: int | str | None = None


_encoder = msgspec.json.Encoder()
_answer = msgspec.json.Decoder(_Answer)
_answers = msgspec.json.Decoder(list[_Answer] | _Answer)
_announcement = msgspec.json.Decoder(_Announcement)
_identity = msgspec.json.Decoder(list[_Identity] | _Identity)


def encode_request(request_id: int, method: str, params: Sequence[JsonParam]) -> bytes:
    """One request object. Raises TypeError for parameters that are no JSON."""
    return _encoder.encode(_Request("2.0", request_id, method, params))


def encode_batch(first_id: int, requests: Sequence[Request]) -> bytes:
    """One array of requests with consecutive ids from `first_id`."""
    return _encoder.encode(
        [_Request("2.0", first_id + i, method, params) for i, (method, params) in enumerate(requests)]
    )


def answered_ids(message: bytes) -> tuple[int, ...]:
    """The request ids that a message answers: none for a notification. Raises ValueError when it is not JSON-RPC."""
    try:
        found = _identity.decode(message)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    identities = found if isinstance(found, list) else [found]
    return tuple(identity.id for identity in identities if isinstance(identity.id, int))


def decode_announcement(message: bytes) -> JsonValue:
    """What a notification of a subscription announces; None for one that announces nothing."""
    if len(message) > MAX_ANNOUNCEMENT_BYTES:
        return None
    try:
        announced: JsonValue = _announcement.decode(message).params.result
    except (ValueError, RecursionError):
        return None
    return announced


def decode_answer(body: bytes, request_id: int, method: str) -> JsonValue:
    """The result in one answer. Raises RpcRefused for the node's error, RpcMalformed for anything that is no answer."""
    try:
        answer = _answer.decode(body)
    except (ValueError, RecursionError) as error:
        raise _malformed(error, method) from None
    # An error without an id is how a node or its gateway refuses what it could not read.
    if answer.id != request_id and not (answer.id is None and answer.error is not None):
        raise RpcMalformed(f"answer to request {printable(str(answer.id), 40)}, not {request_id}", method=method)
    result = _result(answer, method)
    if isinstance(result, RpcRefused):
        raise result
    return result


def decode_batch(body: bytes, first_id: int, methods: Sequence[str]) -> list[JsonValue | RpcRefused]:
    """The results of a batch, in the order of `methods`, each a value or the node's refusal of that request.

    Raises RpcRefused when the node refuses the batch as a whole, RpcMalformed when an answer is missing or foreign.
    """
    name = f"batch of {len(methods)}"
    try:
        found = _answers.decode(body)
    except (ValueError, RecursionError) as error:
        raise _malformed(error, name) from None
    answers = found if isinstance(found, list) else [found]
    # One error for all: a bare object as the specification has it, or an array of one (geth: "batch too large").
    if len(answers) == 1 and answers[0].error is not None and (not isinstance(found, list) or len(methods) > 1):
        whole = _result(answers[0], name)
        if isinstance(whole, RpcRefused):
            raise whole
    by_id = {answer.id: answer for answer in answers}
    if len(by_id) != len(methods) or len(answers) != len(methods):
        raise RpcMalformed(f"{len(answers)} answers to {len(methods)} requests", method=name)
    results: list[JsonValue | RpcRefused] = []
    for i, method in enumerate(methods):
        answer = by_id.get(first_id + i)
        if answer is None:
            raise RpcMalformed(f"no answer to request {first_id + i}", method=name)
        results.append(_result(answer, method))
    return results


def _result(answer: _Answer, method: str) -> JsonValue | RpcRefused:
    error = answer.error
    if error is not None:
        if error.code == TOO_MANY_REQUESTS:
            raise RpcUnavailable(f"too many requests: {printable(error.message)}", method=method)
        return RpcRefused(error.code, error.message, error.data, method=method)
    if isinstance(answer.result, UnsetType):
        raise RpcMalformed("neither result nor error", method=method)
    result: JsonValue = answer.result
    return result


def _malformed(error: Exception, method: str) -> RpcMalformed:
    reason = "nested too deeply" if isinstance(error, RecursionError) else printable(str(error))
    return RpcMalformed(reason, method=method)

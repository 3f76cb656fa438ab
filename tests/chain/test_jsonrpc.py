"""JSON-RPC envelopes: what counts as an answer, and what every other thing is turned into."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runnerd.chain.errors import RpcMalformed, RpcRefused, RpcUnavailable
from runnerd.chain.jsonrpc import answered_ids, decode_answer, decode_batch, encode_batch, encode_request

METHODS = ["eth_a", "eth_b"]


def test_a_request_is_these_bytes() -> None:
    """Golden bytes; integers beyond 64 bits stay exact."""
    assert encode_request(7, "eth_call", [{"to": "0x1"}, 2**255]) == (
        b'{"jsonrpc":"2.0","id":7,"method":"eth_call","params":[{"to":"0x1"},%d]}' % 2**255
    )


def test_a_batch_numbers_its_requests_consecutively() -> None:
    """Answers are matched by these ids, so they follow from the first one."""
    assert encode_batch(3, [("a", []), ("b", [1])]) == (
        b'[{"jsonrpc":"2.0","id":3,"method":"a","params":[]},{"jsonrpc":"2.0","id":4,"method":"b","params":[1]}]'
    )


def test_null_is_a_result() -> None:
    """ "No such receipt" is answered with null, which differs from no result at all."""
    assert decode_answer(b'{"jsonrpc":"2.0","id":1,"result":null}', 1, "m") is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"null",
        b"[]",
        b"{}",
        b'{"id":1}',
        b'{"id":2,"result":"0x1"}',
        b'{"id":"1","result":"0x1"}',
        b'{"result":"0x1"}',
        b'{"id":1,"error":"no"}',
        b'{"id":1,"error":{"message":"no code"}}',
        b'{"id":1,"result":"\xff"}',
        b'{"id":1,"result":' + b"[" * 100_000,
        b'{"id":1,"result":"0x1"} trailing',
    ],
)
def test_whatever_is_no_answer_is_malformed(body: bytes) -> None:
    """Nobody may conclude anything from it, and no other exception escapes."""
    with pytest.raises(RpcMalformed):
        decode_answer(body, 1, "m")


@given(st.binary(max_size=200))
def test_random_bytes_never_escape_as_another_exception(body: bytes) -> None:
    """A node's bytes can only end as a value, RpcRefused or RpcUnavailable."""
    with suppress(RpcRefused, RpcUnavailable):
        decode_answer(body, 1, "m")
    with suppress(RpcRefused, RpcUnavailable):
        decode_batch(body, 1, METHODS)


@pytest.mark.parametrize("request_id", [b"1", b"null"])
def test_an_error_is_a_refusal_with_its_fields(request_id: bytes) -> None:
    """An error whose id is null is how a gateway refuses what it could not read."""
    with pytest.raises(RpcRefused) as refused:
        decode_answer(
            b'{"id":%b,"error":{"code":3,"message":"no\\u001b[31m","data":"0x12"}}' % request_id, 1, "eth_call"
        )
    assert (refused.value.code, refused.value.data, refused.value.method) == (3, "0x12", "eth_call")
    assert "\x1b" not in str(refused.value)


def test_too_many_requests_is_unavailable_even_as_a_json_error() -> None:
    """Some providers send their rate limit with HTTP 200 and code 429: it says nothing of the chain."""
    with pytest.raises(RpcUnavailable, match="too many requests"):
        decode_answer(b'{"id":1,"error":{"code":429,"message":"slow down"}}', 1, "m")


def test_batch_answers_are_ordered_by_request() -> None:
    """The specification lets a node answer in any order; a refused request keeps its place."""
    answers = decode_batch(b'[{"id":6,"error":{"code":-32000,"message":"no"}},{"id":5,"result":1}]', 5, METHODS)
    assert answers[0] == 1
    assert isinstance(answers[1], RpcRefused)
    assert answers[1].method == "eth_b"


@pytest.mark.parametrize(
    "body",
    [
        b'[{"id":5,"result":1}]',
        b'[{"id":5,"result":1},{"id":5,"result":2}]',
        b'[{"id":5,"result":1},{"id":7,"result":2}]',
        b'[{"id":5,"result":1},{"id":6}]',
        b'[{"id":5,"result":1},{"id":6,"result":2},{"id":6,"result":2}]',
        b'{"id":5,"result":1}',
    ],
)
def test_a_batch_with_a_missing_or_foreign_answer_is_not_used_at_all(body: bytes) -> None:
    """Half a batch would be a mixture of knowledge and guesses."""
    with pytest.raises(RpcMalformed):
        decode_batch(body, 5, METHODS)


@pytest.mark.parametrize("body", [b'{"error":{"code":-32600,"message":"too large"}}', b'[{"id":5,"error":{"code":1}}]'])
def test_a_node_may_refuse_a_batch_as_a_whole(body: bytes) -> None:
    """An object as the specification has it, or geth's array of one."""
    with pytest.raises(RpcRefused):
        decode_batch(body, 5, METHODS)


def test_a_single_refused_request_of_a_batch_of_one_keeps_its_place() -> None:
    """An array of one error answers one request; it is no refusal of the batch."""
    assert isinstance(decode_batch(b'[{"id":5,"error":{"code":1}}]', 5, ["eth_a"])[0], RpcRefused)


def test_ids_are_found_in_answers_and_batches_and_not_in_notifications() -> None:
    """Shared connections find by them who waits."""
    assert answered_ids(b'{"id":5,"result":{"id":9}}') == (5,)
    assert answered_ids(b'[{"id":6},{"id":5}]') == (6, 5)
    assert answered_ids(b'{"method":"eth_subscription","params":{}}') == ()
    with pytest.raises(ValueError, match="JSON"):
        answered_ids(b"not json")

"""The campaign's faults are faults: each kind changes what the daemon is told, in the way that its name says."""

import http.client
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from eth_account import Account
from web3 import Web3

from tests.faults.campaign.faulty_node import METHOD_OF, SEND, Fleet, faulty_fleet
from tests.faults.campaign.plan import WEIGHTS, Fault, plan
from tests.support.scene import Stage

pytestmark = pytest.mark.faults

SENDING = sorted(kind for kind, method in METHOD_OF.items() if method == SEND)
OTHERS = sorted(kind for kind in WEIGHTS if kind.startswith("rpc ") and kind not in SENDING)
NO_ANSWER = (http.client.HTTPException, OSError, ValueError)


@pytest.fixture
def hits() -> list[Fault]:
    """The faults that happened."""
    return []


@pytest.fixture
def fleet(stage: Stage, hits: list[Fault]) -> Iterator[Fleet]:
    """Two views of the session's node."""
    with faulty_fleet(stage.node.url, 2, hits.append) as fleet:
        yield fleet


def _fault(kind: str) -> Fault:
    return next(fault for fault in plan(1, kinds=(kind,)) if fault.number % 2 == 0)


def _ask(url: str, *calls: tuple[str, list[object]]) -> Any:
    """One batch, over plain HTTP. Raises one of NO_ANSWER."""
    batch = [
        {"jsonrpc": "2.0", "id": n, "method": method, "params": params} for n, (method, params) in enumerate(calls)
    ]
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=10)
    try:
        connection.request("POST", "/", json.dumps(batch), {"Content-Type": "application/json"})
        response = connection.getresponse()
        body = response.read()
        if response.status != 200:
            raise http.client.HTTPException(response.status)
        return json.loads(body)
    finally:
        connection.close()


def _transfer(stage: Stage, account: int) -> tuple[str, str]:
    """Signed bytes of one of the node's own accounts, and their hash."""
    nonce = int(stage.node.rpc("eth_getTransactionCount", stage.node.accounts[account], "pending"), 16)
    signed = Account.sign_transaction(
        {"to": Web3.to_checksum_address(stage.node.accounts[0]), "value": 1, "nonce": nonce, "gas": 21_000,
         "chainId": 31337, "maxFeePerGas": 10**11, "maxPriorityFeePerGas": 10**9}, stage.node.keys[account],
    )  # fmt: skip
    return "0x" + bytes(signed.raw_transaction).hex(), "0x" + bytes(signed.hash).hex()


@pytest.mark.parametrize("kind", OTHERS)
def test_an_answer_is_not_what_the_node_said(stage: Stage, fleet: Fleet, hits: list[Fault], kind: str) -> None:
    """Another answer than the node's, or none; and only once."""
    raw, tx_hash = _transfer(stage, 8)
    stage.node.rpc("eth_sendRawTransaction", raw)
    stage.node.rpc("evm_mine")
    calls: list[tuple[str, list[object]]] = [
        ("eth_chainId", []),
        ("eth_getBlockByNumber", ["latest", False]),
        ("eth_getTransactionCount", [stage.node.accounts[8], "latest"]),
        ("eth_getTransactionReceipt", [tx_hash]),
    ]
    fault = _fault(kind)
    fleet.arm(fault)
    before = _ask(stage.node.url, *calls)
    try:
        answers = _ask(fleet.urls[0], *calls)
    except NO_ANSWER:
        answers = None
    assert hits == [fault]
    if kind == "rpc slow":  # the one whose answer is right
        return
    assert answers not in (before, _ask(stage.node.url, *calls))  # a block may have come meanwhile
    fleet.disarm()
    assert [answer["id"] for answer in _ask(fleet.urls[0], *calls)] == [0, 1, 2, 3]


@pytest.mark.parametrize("kind", SENDING)
def test_what_became_of_the_bytes_cannot_be_told_from_the_answer(
    stage: Stage, fleet: Fleet, hits: list[Fault], kind: str
) -> None:
    """No answer, a refusal or another hash: and the node has the bytes, or it has not, as the kind says."""
    raw, tx_hash = _transfer(stage, 9)
    fault = _fault(kind)
    fleet.arm(fault)
    try:
        (answer,) = _ask(fleet.urls[0], (SEND, [raw]))
    except NO_ANSWER:
        answer = {}
    assert hits == [fault]
    assert answer.get("result") != tx_hash
    has_it = stage.node.rpc("eth_getTransactionByHash", tx_hash) is not None
    assert has_it == (kind not in ("rpc never sent", "rpc refused"))


def test_a_fault_of_one_node_leaves_the_other_alone(fleet: Fleet, hits: list[Fault]) -> None:
    """Each view has faults of its own."""
    fleet.arm(_fault("rpc error"))
    assert "result" in _ask(fleet.urls[1], ("eth_chainId", []))[0]
    assert hits == []
    assert "error" in _ask(fleet.urls[0], ("eth_chainId", []))[0]

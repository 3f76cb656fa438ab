"""What a transaction would change, as nodes tell it: both ways on a real node, and odd answers from a script."""

from dataclasses import replace
from typing import Any

import pytest
from eth_abi.abi import encode
from eth_hash.auto import keccak
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from runnerd.chain.abi import parse_error
from runnerd.chain.effects import (
    READ_GAS,
    Effects,
    NodeWays,
    Reading,
    Unmeasurable,
    Way,
    build_effects,
    decode_effects,
)
from runnerd.chain.errors import AbiError, RpcMalformed, RpcRefused
from runnerd.chain.json_values import JsonValue
from runnerd.chain.probe import (
    PROBE_ADDRESS,
    PROBE_CODE,
    Measure,
    decode_measure,
    decode_read,
    encode_measure,
    encode_read,
)
from runnerd.chain.rpc import Rpc
from runnerd.chain.simulate import CallMessage, Reverted
from runnerd.chain.types import decode_block
from runnerd.wallets.keystore import KeystoreSigner, _key_of
from tests.chain.conftest import Node
from tests.chain.fake_node import BLOCK
from tests.chain.servers import Run
from tests.chain.venue import SPOT, Venue, open_venue
from tests.support.contracts import load_artifact

OPERATOR, VAULT = "0x" + "11" * 20, "0x" + "22" * 20
MESSAGE = CallMessage(sender=OPERATOR, to=VAULT, data=b"\x01\x02")
NATIVE = Measure(to=VAULT)
BOTH = (Way.SIMULATE, Way.PROBE)
LACKS = RpcRefused(-32601, "the method eth_simulateV1 does not exist/is not available")


def words(*numbers: int | None) -> str:
    """What the probe's `read` returns."""
    return "0x" + encode(["(bool,bytes32)[]"], [_words(numbers)]).hex()


def measured(before: int | None, after: int | None) -> str:
    """What its `measure` returns for one number."""
    return "0x" + encode(["(bool,bytes32)[]"] * 2, [_words([before]), _words([after])]).hex()


def _words(numbers: Any) -> list[tuple[bool, bytes]]:
    return [(number is not None, (number or 0).to_bytes(32, "big", signed=(number or 0) < 0)) for number in numbers]


def simulated(*calls: dict[str, JsonValue]) -> JsonValue:
    """An answer of eth_simulateV1; fields that nobody reads are there as well."""
    return [{"number": "0x8", "calls": [{"gasUsed": "0x5208", "logs": [], **call} for call in calls]}]


def done(data: str = "0x") -> dict[str, JsonValue]:
    return {"status": "0x1", "returnData": data}


def failed(data: str = "0x", error: JsonValue = None) -> dict[str, JsonValue]:
    return {"status": "0x0", "returnData": data, "error": error}


GOOD = simulated(done(words(5)), done(), done(words(3)))
TWO_BLOCKS = [*GOOD, *GOOD] if isinstance(GOOD, list) else None


def decoded(*answers: JsonValue | RpcRefused, ways: tuple[Way, ...] = BOTH) -> Effects | Reverted | Unmeasurable:
    return decode_effects(ways, [NATIVE], answers, [parse_error("TooLate(uint256 by)")])


# --- a real node -----------------------------------------------------------------------------------------------------


def test_both_ways_give_the_same_numbers_on_a_real_node(node: Node, run: Run) -> None:
    """Native balance, a view with and one without an answer, before and after; a revert has its reason in both."""
    key = _key_of(b"\x07" * 32)
    assert key is not None
    signer = KeystoreSigner(key)
    venue = open_venue(node.anvil, signer)

    async def scenario() -> None:
        async with Rpc(node.urls["http"]) as rpc:
            block = decode_block(await rpc.call("eth_getBlockByNumber", ["latest", False]))
            good, bad = (_message(venue, strike) for strike in (SPOT, 0))
            measures = [
                Measure(to=venue.vault.address),
                _view(venue.market, "openInterest()"),
                _view(venue.market, "nothing()"),
                _view(venue.operator, "balanceOf()"),
                Measure(to=venue.operator),
            ]
            for way in Way:
                answers = await rpc.batch(build_effects(block, good, measures, [way]))
                effects = decode_effects([way], measures, answers)
                assert isinstance(effects, Effects)
                ether = effects.readings[4].before
                assert effects == Effects(
                    (
                        Reading(10 * 10**18, 10 * 10**18 - 10),
                        Reading(0, 10),
                        Reading(None, None),
                        Reading(None, None),
                        Reading(ether, ether),  # no gas is paid in either
                    ),
                    way,
                )
                answers = await rpc.batch(build_effects(block, bad, measures, [way]))
                assert decode_effects([way], measures, answers) == Reverted(reason="market: strike is zero", data=None)

    run(scenario())


def _view(contract: str, signature: str) -> Measure:
    return Measure(to=contract, data=keccak(signature.encode())[:4])


def _message(venue: Venue, strike: int) -> CallMessage:
    batch = venue.vault.build([venue.mint(strike)], b"\x01" * 32)
    return CallMessage(sender=venue.operator, to=batch.to, data=batch.data)


def test_the_probe_is_the_committed_contract() -> None:
    """The bytes that nodes are given are those of the source that can be read."""
    assert load_artifact("EffectsProbe")["runtime_bytecode"] == PROBE_CODE


# --- requests --------------------------------------------------------------------------------------------------------


def test_requests_name_the_block_and_give_the_transaction_the_rest_of_the_gas() -> None:
    """Nothing but the probe is overridden, and the operator is the vault's caller in both."""
    simulate, probe = build_effects(BLOCK, replace(MESSAGE, value_wei=9), [NATIVE], BOTH)
    at = {"blockHash": BLOCK.hash, "requireCanonical": True}
    read = {"to": PROBE_ADDRESS, "input": "0x" + encode_read([NATIVE]).hex(), "gas": hex(30_000_000 // 8)}
    act = {"from": OPERATOR, "to": VAULT, "input": "0x0102", "value": "0x9"}
    simulation = {"stateOverrides": {PROBE_ADDRESS: {"code": PROBE_CODE}}, "calls": [read, act, read]}
    assert simulate == ("eth_simulateV1", [{"blockStateCalls": [simulation], "validation": False}, at])
    data = "0x" + encode_measure([NATIVE], VAULT, MESSAGE.data).hex()
    call = {"from": OPERATOR, "to": OPERATOR, "data": data, "value": "0x9"}
    assert probe == ("eth_call", [call, at, {OPERATOR: {"code": PROBE_CODE}}])
    ((_, params),) = build_effects(structs.replace(BLOCK, gas_limit=1 << 62), MESSAGE, [NATIVE], BOTH[:1])
    assert f"'gas': '{hex(READ_GAS)}'" in str(params)


def test_a_vault_that_is_its_own_operator_gets_no_probe_in_its_place() -> None:
    """EIP-7702: the code that would be overridden is the vault."""
    itself = replace(MESSAGE, to=OPERATOR)
    ways = NodeWays()
    assert ways.to_ask("a", itself) == (Way.SIMULATE,)
    ways.learn("a", Way.PROBE)
    assert ways.to_ask("a", MESSAGE) == (Way.PROBE,)
    assert ways.to_ask("a", itself) == (Way.SIMULATE,)


def test_what_is_known_of_a_node_is_its_own() -> None:
    """And can be forgotten, once."""
    ways = NodeWays()
    assert ways.to_ask("a", MESSAGE) == BOTH
    ways.learn("a", Way.SIMULATE)
    assert (ways.to_ask("a", MESSAGE), ways.to_ask("b", MESSAGE)) == (BOTH[:1], BOTH)
    assert (ways.forget("a"), ways.forget("a")) == (True, False)
    assert ways.to_ask("a", MESSAGE) == BOTH


# --- answers ---------------------------------------------------------------------------------------------------------


def test_the_first_way_that_the_node_went_counts() -> None:
    """A refusal of one leaves the other; of both together nothing is concluded unless both are unknown to it."""
    busy = RpcRefused(-32000, "execution timeout")
    assert decoded(GOOD, measured(7, 7)) == Effects((Reading(5, 3),), Way.SIMULATE)
    for refusal in (LACKS, busy):
        assert decoded(refusal, measured(5, 3)) == Effects((Reading(5, 3),), Way.PROBE)
    for pair in ((LACKS, busy), (busy, LACKS), (busy, busy)):
        with pytest.raises(RpcRefused, match="execution timeout"):
            decoded(*pair)


@pytest.mark.parametrize(
    "refusal",
    [
        RpcRefused(-32601, "Method not found"),
        RpcRefused(-32602, "too many arguments, want at most 2"),
        RpcRefused(-32600, "Unsupported method: eth_simulateV1. See available methods"),
        RpcRefused(-32004, "method not supported"),
        RpcRefused(-32000, "the method eth_simulateV1 does not exist/is not available"),
    ],
    ids=lambda refusal: str(refusal.code),
)
def test_a_node_that_has_neither_is_told_from_one_that_failed(refusal: RpcRefused) -> None:
    """In the words of several nodes."""
    found = decoded(refusal, refusal)
    assert isinstance(found, Unmeasurable)
    assert found.reason.startswith("the node cannot show what a transaction changes (eth_simulateV1: node error -32")


def test_a_node_that_ignores_the_override_is_not_believed() -> None:
    """Then the operator is an account without code, and an empty answer would look like success."""
    found = decoded(LACKS, "0x")
    assert isinstance(found, Unmeasurable)
    assert found.reason.endswith("eth_call with a state override: the node ignores it)")


TOO_LATE = parse_error("TooLate(uint256 by)").selector + encode(["uint256"], [7])


@pytest.mark.parametrize(
    "call, reason",
    [
        (failed("0x" + TOO_LATE.hex()), "TooLate(by=7)"),
        (failed("0x", {"code": 3, "message": "execution reverted", "data": "0x" + TOO_LATE.hex()}), "TooLate(by=7)"),
        (failed("0x", {"code": -32015, "message": "out of gas"}), "out of gas"),
        (failed("0x", {"code": 3, "message": "bad\x1b[2J", "data": "0xzz"}), "bad?[2J"),
        (failed(), "reverted without a reason"),
    ],
)
def test_a_revert_has_its_reason_wherever_the_node_puts_it(call: dict[str, JsonValue], reason: str) -> None:
    """geth gives the data in the error, anvil beside it."""
    assert decoded(simulated(done(words(5)), call, done(words(5))), ways=BOTH[:1]) == Reverted(reason=reason, data=None)
    refused = RpcRefused(3, "execution reverted", "0x" + TOO_LATE.hex())
    assert decoded(refused, ways=BOTH[1:]) == Reverted(reason="TooLate(by=7)", data=None)


def test_views_that_take_all_the_gas_give_no_numbers() -> None:
    """Which is a breach; the transaction itself ran."""
    nothing = Effects((Reading(None, None),), Way.SIMULATE)
    assert decoded(simulated(failed(), done(), done(words(1))), ways=BOTH[:1]) == nothing
    assert decoded(simulated(done(words(1)), done(), failed()), ways=BOTH[:1]) == nothing


@pytest.mark.parametrize(
    "answer",
    [
        None, "0x", [], {}, [{}], [{"calls": []}], simulated(done(words(5)), done()),
        simulated(done(words(5)), done(), done(words(3)), done()), simulated(done("0x"), done(), done("0x")),
        simulated(done(words(5, 5)), done(), done(words(3, 3))), simulated(done("5"), done(), done(words(3))),
        simulated({"status": "ok", "returnData": "0x"}, done(), done()), TWO_BLOCKS,
        simulated(done("0x" + "ff" * 96), done(), done(words(3))),
    ],
)  # fmt: skip
def test_an_odd_answer_proves_nothing(answer: JsonValue) -> None:
    """It is neither an effect nor a revert, nor a reason to believe less of the node."""
    with pytest.raises(RpcMalformed):
        decoded(answer, ways=BOTH[:1])
    if answer != "0x":
        with pytest.raises(RpcMalformed):
            decoded(answer, ways=BOTH[1:])


def test_odd_words_of_the_probe_prove_nothing() -> None:
    """Nor more of them than were asked for, nor endless ones."""
    for odd in ("0xff", words(1), "0x" + "00" * 9_000):
        with pytest.raises(RpcMalformed):
            decoded(odd, ways=BOTH[1:])


@given(
    before=st.integers(0, 2**256 - 1) | st.none(),
    after=st.integers(0, 2**256 - 1) | st.none(),
)
def test_words_come_back_as_the_numbers_they_are(before: int | None, after: int | None) -> None:
    """All of uint256, and what could not be read stays apart from zero."""
    assert decoded(measured(before, after), ways=BOTH[1:]) == Effects((Reading(before, after),), Way.PROBE)


@given(number=st.integers(-(2**255), 2**255 - 1))
def test_signed_words_have_their_sign(number: int) -> None:
    """Two's complement."""
    signed = [replace(NATIVE, is_signed=True)]
    assert decode_measure(signed, bytes.fromhex(measured(number, 0)[2:])) == ((number,), (0,))
    assert decode_read(signed, bytes.fromhex(words(number)[2:])) == (number,)
    with pytest.raises(AbiError):
        decode_read(signed * 2, bytes.fromhex(words(number)[2:]))

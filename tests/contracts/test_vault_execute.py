"""OperatorVault.execute: ERC-7821 modes and encodings, atomic batches, intent ids, reverts, reentrancy."""

from pathlib import Path
from typing import Any

import pytest
from eth_abi.abi import encode
from vyper.compiler import compile_code
from web3 import Web3

from tests.contracts.bench import ECHO_REVERT, ERROR_STRING, SPOT, Bench, calldata, refusal, revert_data, selector
from tests.support.contracts import (
    MODE_BATCH,
    MODE_BATCH_OPDATA,
    Call,
    deploy_code,
    encode_calls,
    encode_calls_with_op_data,
)

INTENT = bytes.fromhex("a1") * 32
OTHER_INTENT = bytes.fromhex("b2") * 32
REENTRANT = Path(__file__).with_name("Reentrant.vy")

MODES = [
    # call type, exec type, 4 reserved, 4 mode selector, 22 free
    ("01 00 00000000 00000000", True, "single batch"),
    ("01 00 00000000 78210001", True, "single batch with optional opData"),
    ("01 00 ffffffff 00000000", True, "reserved bytes are not significant"),
    ("01 00 00000000 78210001" + "ff" * 22, True, "free bytes are not significant"),
    ("01 00 00000000 78210002", False, "batch of batches"),
    ("01 00 00000000 78210000", False, "unknown mode selector"),
    ("01 00 00000000 00000001", False, "unknown mode selector, last byte"),
    ("01 01 00000000 00000000", False, "try: go on after a failure"),
    ("00 00 00000000 00000000", False, "single call"),
    ("fe 00 00000000 00000000", False, "static call"),
    ("ff 00 00000000 00000000", False, "delegate call"),
]


@pytest.fixture(scope="module")
def reentrant() -> tuple[list[Any], str]:
    """ABI and creation code of the hostile contract."""
    compiled = compile_code(REENTRANT.read_text(), output_formats=("abi", "bytecode"))
    return compiled["abi"], compiled["bytecode"]


def test_a_batch_runs_every_call_in_one_transaction_and_says_so(bench: Bench) -> None:
    """Two calls, two effects, one event with the intent id, the operator, the number of calls and the value."""
    function = bench.batch(bench.mint(3), bench.mint(4, lower=190_000), intent_id=INTENT)
    receipt = bench.done(function, bench.operator)
    assert bench.market.functions.positionCount().call() == 2
    assert bench.market.functions.stakeOf(bench.vault.address).call() == 7
    assert bench.events(receipt, "Executed") == [
        {"intentId": INTENT, "operator": bench.operator, "calls": 2, "value": 7}
    ]


@pytest.mark.parametrize("mode, is_supported, why", MODES, ids=[why for *_, why in MODES])
def test_execute_takes_exactly_the_modes_it_advertises(bench: Bench, mode: str, is_supported: bool, why: str) -> None:
    """supportsExecutionMode and execute agree, on the ERC's significant mode bytes only."""
    word = bytes.fromhex(mode).ljust(32, b"\0")
    assert bench.vault.functions.supportsExecutionMode(word).call() is is_supported
    function = bench.batch(bench.mint(), mode=word)
    if is_supported:
        bench.done(function, bench.operator)
    else:
        assert refusal(function, bench.operator) == "vault: unsupported execution mode"


@pytest.mark.parametrize("who", ["owner", "stranger"])
def test_only_the_operator_executes(bench: Bench, who: str) -> None:
    """Not even the owner may use the operator's way; the operator may."""
    assert refusal(bench.batch(bench.mint()), getattr(bench, who)) == "vault: caller is not the operator"
    bench.done(bench.batch(bench.mint()), bench.operator)


def test_an_intent_takes_effect_once(bench: Bench) -> None:
    """A second batch with the same id is refused, also with other calls; another id and no id pass."""
    assert not bench.vault.functions.executed(INTENT).call()
    bench.done(bench.batch(bench.mint(), intent_id=INTENT), bench.operator)
    assert bench.vault.functions.executed(INTENT).call()
    for repeated in (bench.batch(bench.mint(), intent_id=INTENT), bench.batch(bench.mint(2), intent_id=INTENT)):
        assert refusal(repeated, bench.operator) == "vault: intent already executed"
        assert bench.send(repeated, bench.operator)["status"] == 0
    assert bench.market.functions.positionCount().call() == 1
    bench.done(bench.batch(bench.mint(), intent_id=OTHER_INTENT), bench.operator)
    bench.done(bench.batch(bench.mint()), bench.operator)


def test_a_used_intent_stays_used_under_a_new_operator(bench: Bench) -> None:
    """Rotating the operator's key must not open the old decisions again."""
    bench.done(bench.batch(bench.mint(), intent_id=INTENT), bench.operator)
    bench.done(bench.vault.functions.setOperator(bench.stranger), bench.owner)
    assert refusal(bench.batch(bench.mint(), intent_id=INTENT), bench.stranger) == "vault: intent already executed"
    bench.done(bench.batch(bench.mint(), intent_id=OTHER_INTENT), bench.stranger)


def test_a_failed_batch_leaves_nothing_behind(bench: Bench) -> None:
    """All or nothing: no position, no spending and an unused intent id, so the same id can still be tried again."""
    failing = bench.batch(bench.mint(5), bench.mint(5, lower=SPOT), intent_id=INTENT)
    assert bench.send(failing, bench.operator)["status"] == 0
    assert bench.market.functions.positionCount().call() == 0
    assert bench.vault.functions.spentToday().call() == 0
    assert not bench.vault.functions.executed(INTENT).call()
    bench.done(bench.batch(bench.mint(5), bench.mint(5, lower=SPOT - 1), intent_id=INTENT), bench.operator)
    assert bench.vault.functions.spentToday().call() == 10


def test_the_reason_of_a_failing_call_comes_up_unchanged(bench: Bench) -> None:
    """What the market says is what the operator's simulation reads."""
    assert refusal(bench.batch(bench.mint(0)), bench.operator) == "market: stake is zero"
    assert refusal(bench.batch(bench.mint(), bench.mint(lower=SPOT)), bench.operator) == (
        "market: lower is not below upper"
    )


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        selector("InsufficientLiquidity()"),
        selector("Slippage(uint256,address)") + encode(["uint256", "address"], [7, "0x" + "22" * 20]),
        ERROR_STRING + encode(["string"], ["a reason"]),
        bytes(range(256)) * 8,
    ],
    ids=["nothing", "one byte", "custom error", "custom error with arguments", "reason", "2048 bytes"],
)
def test_revert_data_of_any_shape_comes_up_unchanged(bench: Bench, data: bytes) -> None:
    """The vault adds nothing to revert data and takes nothing away; the same call passes where nothing reverts."""
    echo, accepting = bench.place(1, ECHO_REVERT), bench.place(2, "0x00")
    for target in (echo, accepting):
        bench.allow(target, data[:4] if len(data) >= 4 else bytes(4))
    assert revert_data(bench.batch(Call(echo, 0, data)), bench.operator) == data
    bench.done(bench.batch(Call(accepting, 0, data)), bench.operator)


def test_op_data_is_optional_in_its_mode(bench: Bench) -> None:
    """As the ERC has it: abi.encode(calls) and empty opData both pass there, with intent id zero in the event."""
    bare = bench.batch(mode=MODE_BATCH_OPDATA, data=encode_calls([bench.mint()]))
    empty = bench.batch(mode=MODE_BATCH_OPDATA, data=encode_calls_with_op_data([bench.mint()], b""))
    for function in (bare, empty, bare):
        (event,) = bench.events(bench.done(function, bench.operator), "Executed")
        assert event["intentId"] == bytes(32)


@pytest.mark.parametrize("length", [1, 31, 33, 65, 96])
def test_op_data_is_an_intent_id_or_nothing(bench: Bench, length: int) -> None:
    """Anything but 0 or 32 bytes, such as a signature, is refused rather than ignored."""
    wrong, right = (bench.batch(bench.mint(), intent_id=b"\1" * size) for size in (length, 32))
    assert refusal(wrong, bench.operator) == "vault: opData is neither empty nor 32 bytes"
    bench.done(right, bench.operator)


def test_op_data_beyond_the_decoder_is_refused_too(bench: Bench) -> None:
    """Longer than 96 bytes: the ABI decoder refuses, without a reason."""
    assert refusal(bench.batch(bench.mint(), intent_id=b"\1" * 97), bench.operator) == ""


def test_intent_id_zero_is_refused(bench: Bench) -> None:
    """Zero means "no intent id" in the event, so it cannot be one."""
    assert refusal(bench.batch(bench.mint(), intent_id=bytes(32)), bench.operator) == "vault: intent id is zero"
    bench.done(bench.batch(bench.mint(), intent_id=bytes(31) + b"\1"), bench.operator)


def test_an_intent_id_is_never_dropped_silently(bench: Bench) -> None:
    """abi.encode(calls, opData) in the mode without opData would lose the id: refused."""
    data = encode_calls_with_op_data([bench.mint()], INTENT)
    assert refusal(bench.batch(mode=MODE_BATCH, data=data), bench.operator) == "vault: malformed execution data"
    bench.done(bench.batch(mode=MODE_BATCH_OPDATA, data=data), bench.operator)


@pytest.mark.parametrize("mode", [MODE_BATCH, MODE_BATCH_OPDATA], ids=["batch", "opData"])
@pytest.mark.parametrize("data", [b"", bytes(32), bytes(64), b"\xff" * 64], ids=["empty", "short", "zero", "ones"])
def test_garbage_is_not_a_batch(bench: Bench, mode: bytes, data: bytes) -> None:
    """What does not start like one of the two encodings is named malformed; a batch in the same mode passes."""
    assert refusal(bench.batch(mode=mode, data=data), bench.operator) == "vault: malformed execution data"
    bench.done(bench.batch(bench.mint(), mode=mode), bench.operator)


def test_a_cut_batch_is_refused_at_every_length(bench: Bench) -> None:
    """No prefix of a batch is a batch."""
    data = encode_calls_with_op_data([bench.mint(), bench.mint()], INTENT)
    for length in range(0, len(data), 32):
        assert refusal(bench.batch(mode=MODE_BATCH_OPDATA, data=data[:length]), bench.operator) in (
            "vault: malformed execution data",
            "",
        )
    bench.done(bench.batch(mode=MODE_BATCH_OPDATA, data=data), bench.operator)


def test_a_batch_has_one_to_sixteen_calls(bench: Bench) -> None:
    """None and seventeen are refused with a reason; sixteen pass."""
    assert refusal(bench.batch(), bench.operator) == "vault: empty batch"
    assert refusal(bench.batch(intent_id=INTENT), bench.operator) == "vault: empty batch"
    assert refusal(bench.batch(*[bench.mint()] * 17), bench.operator) == "vault: too many calls"
    assert refusal(bench.batch(*[bench.mint()] * 17, intent_id=INTENT), bench.operator) == "vault: too many calls"
    bench.done(bench.batch(*[bench.mint()] * 16, intent_id=INTENT), bench.operator)
    assert bench.market.functions.positionCount().call() == 16


def test_a_call_carries_at_most_2048_bytes(bench: Bench) -> None:
    """Sixteen full calls with an intent id fit; one byte more in one call does not."""
    accepting = bench.place(2, "0x00")
    bench.allow(accepting, b"\1" * 4)
    full, over = Call(accepting, 0, b"\1" * 2048), Call(accepting, 0, b"\1" * 2049)
    bench.done(bench.batch(*[full] * 16, intent_id=INTENT), bench.operator)
    assert refusal(bench.batch(over), bench.operator) == ""


def test_calls_carry_their_own_data_and_value(bench: Bench) -> None:
    """Nothing of one call leaks into the next: each position has its own strike and stake, in order."""
    strikes = [100_001, 2**256 - 1, 3]
    calls = [
        Call(bench.market.address, 10 + i, calldata(bench.market, "mintBinary", strike, False))
        for i, strike in enumerate(strikes)
    ]
    bench.done(bench.batch(*calls), bench.operator)
    positions = [bench.market.functions.position(i + 1).call() for i in range(3)]
    assert positions == [(bench.vault.address, 0, strike, 10 + i) for i, strike in enumerate(strikes)]


@pytest.mark.parametrize("second", ["execute", "withdraw"])
@pytest.mark.parametrize("first", ["execute", "withdraw"])
def test_the_vault_cannot_be_reentered(bench: Bench, reentrant: tuple[list[Any], str], first: str, second: str) -> None:
    """A hostile contract that is owner and operator gets each call through alone, and none from inside another."""
    probe = bench.w3.eth.contract(deploy_code(bench.w3, *reentrant), abi=reentrant[0])
    vault = bench.vault
    for function in (
        vault.functions.setAllowed(probe.address, bytes(4), True),
        vault.functions.setOperator(probe.address),
        vault.functions.transferOwnership(probe.address),
    ):
        bench.done(function, bench.owner)
    bench.done(probe.functions.attack(vault.address, calldata(vault, "acceptOwnership"), b""), bench.stranger)

    calls = {
        "execute": calldata(vault, "execute", MODE_BATCH, encode_calls([Call(probe.address, 1)])),
        "withdraw": calldata(vault, "withdraw", probe.address, 1),
    }
    for alone in (first, second):
        bench.done(probe.functions.attack(vault.address, calls[alone], b""), bench.stranger)
    assert bench.w3.eth.get_balance(probe.address) == 2
    assert revert_data(probe.functions.attack(vault.address, calls[first], calls[second]), bench.stranger) == b""


def test_the_significant_mode_bytes_are_those_of_the_erc() -> None:
    """The two modes this suite sends are the two constants of ERC-7821."""
    assert Web3.to_hex(MODE_BATCH) == "0x01" + "00" * 31
    assert Web3.to_hex(MODE_BATCH_OPDATA) == "0x01000000000078210001" + "00" * 22

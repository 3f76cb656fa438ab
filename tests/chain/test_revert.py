"""Revert data to one readable line, and where different nodes put that data."""

import pytest
from eth_abi.abi import encode
from hypothesis import given
from hypothesis import strategies as st

from runnerd.chain.abi import parse_error
from runnerd.chain.errors import RpcRefused
from runnerd.chain.json_values import JsonValue
from runnerd.chain.revert import MAX_REASON_LENGTH, decode_revert, find_revert_data, is_execution_failure, revert_reason

INSUFFICIENT = parse_error("InsufficientFunds(uint256 have, uint256 want)")
NOT_OWNER = parse_error("NotOwner(address)")
ERRORS = (INSUFFICIENT, NOT_OWNER)


def error_string(text: str) -> bytes:
    return bytes.fromhex("08c379a0") + encode(["string"], [text])


@pytest.mark.parametrize(
    "data, line",
    [
        (b"", "reverted without a reason"),
        (error_string("vault: paused"), "vault: paused"),
        (error_string(""), "reverted with an empty reason"),
        (error_string("bad\n\x1b[31mnews"), "bad??[31mnews"),
        (bytes.fromhex("4e487b71") + encode(["uint256"], [0x11]), "panic 0x11: arithmetic overflow or underflow"),
        (bytes.fromhex("4e487b71") + encode(["uint256"], [0x99]), "panic 0x99: unknown code"),
        (INSUFFICIENT.selector + encode(["uint256", "uint256"], [1, 2]), "InsufficientFunds(have=1, want=2)"),
        (NOT_OWNER.selector + encode(["address"], ["0x" + "11" * 20]), "NotOwner(0x" + "11" * 20 + ")"),
        (INSUFFICIENT.selector + b"\x01", "unknown error 0x" + INSUFFICIENT.selector.hex() + "01"),
        (b"\xde\xad\xbe\xef" + bytes(32), "unknown error 0xdeadbeef" + "00" * 32),
        (b"market: strike is zero".ljust(32, b"\0"), "market: strike is zero"),
        (bytes.fromhex("08c379a0") + b"\xff" * 40, "unknown error 0x08c379a0" + "ff" * 40),
    ],
)
def test_revert_data_becomes_this_line(data: bytes, line: str) -> None:
    """Solidity's two built-in errors, declared custom errors, bare text, else hex."""
    assert decode_revert(data, ERRORS) == line


@given(st.binary(max_size=400) | st.binary(max_size=400).map(lambda data: bytes.fromhex("08c379a0") + data))
def test_the_line_is_short_and_printable_whatever_the_data(data: bytes) -> None:
    """A hostile contract chooses it, an operator's terminal shows it."""
    for line in (decode_revert(data, ERRORS), decode_revert(INSUFFICIENT.selector + data, ERRORS)):
        assert 0 < len(line) <= MAX_REASON_LENGTH
        assert line.isprintable()


def test_a_long_reason_is_cut() -> None:
    """With a sign that something is missing."""
    assert decode_revert(error_string("x" * 5_000)) == "x" * (MAX_REASON_LENGTH - 1) + "…"


DATA = error_string("no")
HEX = "0x" + DATA.hex()


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(HEX, id="geth-reth-erigon-anvil"),
        pytest.param("Reverted " + HEX, id="parity-nethermind"),
        pytest.param({"data": HEX, "message": "Error: VM Exception"}, id="hardhat"),
        pytest.param({"0xabc": {"error": "revert", "return": HEX}, "stack": "Error", "name": "x"}, id="ganache"),
        pytest.param({"originalError": {"code": 3, "data": HEX}}, id="wrapped-by-a-provider"),
    ],
)
def test_the_data_is_found_in_every_known_shape(data: JsonValue) -> None:
    """Shapes as these nodes send them."""
    refused = RpcRefused(-32015, "VM execution error.", data)
    assert find_revert_data(refused) == DATA
    assert is_execution_failure(refused)
    assert revert_reason(refused) == "no"


@pytest.mark.parametrize(
    "data", [None, "", "0xzz", "Reverted", 5, [HEX], {"see": "https://provider.example"}, {"a": {"b": {}}}]
)
def test_what_holds_no_revert_data_gives_none(data: JsonValue) -> None:
    """A provider's advice in error.data is no revert."""
    assert find_revert_data(RpcRefused(-32005, "limit exceeded", data)) is None


@pytest.mark.parametrize(
    "code, message, is_failure",
    [
        (3, "execution reverted", True),
        (-32000, "execution reverted: no", True),
        (-32000, "out of gas", True),
        (-32003, "Out of gas: gas required exceeds allowance: 100", True),
        (-32003, "EVM error InvalidFEOpcode", True),
        (-32000, "insufficient funds for gas * price + value: have 0 want 1", True),
        (-32000, "invalid opcode: INVALID", True),
        (-32000, "header not found", False),
        (-32001, "resource not found", False),
        (-32005, "request limit reached", False),
        (-32602, "BlockOutOfRangeError: block height is 3 but requested was 2", False),
        (-32603, "Internal error", False),
        (-32000, "execution timeout", False),
        (-32000, "hash 0x12 is not currently canonical", False),
    ],
)
def test_only_what_the_evm_says_is_an_execution_failure(code: int, message: str, is_failure: bool) -> None:
    """Everything else means that the node could not tell: nothing follows for the transaction."""
    assert is_execution_failure(RpcRefused(code, message)) is is_failure


def test_without_data_the_nodes_words_are_the_reason() -> None:
    """Unless they say nothing but that it reverted."""
    assert revert_reason(RpcRefused(-32000, "out of gas")) == "out of gas"
    assert revert_reason(RpcRefused(3, "execution reverted", "0x")) == "reverted without a reason"

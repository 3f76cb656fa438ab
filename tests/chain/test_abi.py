"""Arguments to calldata and back: strict by type, exact, and equal to eth_abi."""

import time
from contextlib import suppress

import pytest
from eth_abi.abi import encode
from eth_utils.address import to_checksum_address
from hypothesis import given
from hypothesis import strategies as st

from protocol.values import Value
from runnerd.chain.abi import decode_outputs, encode_call, parse_function
from runnerd.chain.errors import AbiError
from tests.chain.abi_strategies import abi_types, texts, values_of

MINT = parse_function("mintBinary(uint256 strike, bool above) payable returns (uint256 positionId)")


def test_calldata_is_these_bytes() -> None:
    """Golden: selector, then one word per argument."""
    assert encode_call(MINT, {"above": True, "strike": 200_000}).hex() == (
        MINT.selector.hex() + f"{200_000:064x}" + f"{1:064x}"
    )


@given(st.data())
def test_values_survive_encoding_and_decoding(data: st.DataObject) -> None:
    """What a plugin sends as an argument of any type comes back the same when a contract returns it."""
    type_text = data.draw(abi_types())
    function = parse_function(f"f({type_text} a) returns ({type_text})")
    value = data.draw(values_of(function.inputs[0].shape))
    assert decode_outputs(function, encode_call(function, {"a": value})[4:]) == value


@given(st.integers(0, 2**256 - 1), st.booleans(), st.binary(min_size=20, max_size=20), st.binary(max_size=99), texts())
def test_calldata_is_that_of_eth_abi(number: int, flag: bool, address: bytes, data: bytes, text: str) -> None:
    """The second opinion, from native Python values."""
    function = parse_function("f(uint256 a, bool b, address c, bytes d, string e, (uint256 x, bytes y)[] g)")
    args: dict[str, Value] = {
        "a": number,
        "b": flag,
        "c": "0x" + address.hex(),
        "d": "0x" + data.hex(),
        "e": text,
        "g": [[number, "0x" + data.hex()]],
    }
    types = ["uint256", "bool", "address", "bytes", "string", "(uint256,bytes)[]"]
    assert encode_call(function, args)[4:] == encode(types, [number, flag, address, data, text, [(number, data)]])


@pytest.mark.parametrize(
    "type_text, value, reason",
    [
        ("uint8", 300, "argument a: 300 does not fit uint8, allowed: 0 to 255"),
        ("uint256", -1, "argument a: -1 does not fit uint256"),
        ("int8", 128, "argument a: 128 does not fit int8, allowed: -128 to 127"),
        ("uint256", True, r"argument a: a boolean \(True\) given, uint256 takes an integer"),
        ("uint256", "5", r"argument a: text \('5'\) given, uint256 takes an integer"),
        ("bool", 1, r"argument a: an integer \(1\) given, bool takes true or false"),
        ("address", 5, "address takes text with 0x and 40 hex digits"),
        ("address", "0x1234", "argument a: '0x1234' is not an address"),
        ("address", "0x5AAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", "argument a: .* wrong EIP-55 checksum"),
        ("bytes4", "0x112233", "argument a: 3 bytes given, bytes4 takes exactly 4"),
        ("bytes32", "0x" + "11" * 33, "argument a: 33 bytes given, bytes32 takes exactly 32"),
        ("bytes", "0x123", "bytes takes text with 0x and an even number"),
        ("bytes", "1234", "bytes takes text with 0x"),
        ("bytes", "0x12\n", "bytes takes text with 0x"),
        ("bytes", [1], "argument a: a list given"),
        ("string", 5, "string takes text"),
        ("string", "\ud800", "lone surrogate"),
        ("uint256[]", 5, "argument a: an integer .* given, uint256\\[\\] takes a list"),
        ("uint8[]", [1, 300], r"argument a\[1\]: 300 does not fit uint8"),
        ("uint8[2]", [1], r"argument a: 1 items given, uint8\[2\] takes exactly 2"),
        ("(uint8 x, bool y)", [1], "takes exactly 2"),
        ("(uint8 x, bool y)[]", [[1, True], [1, 1]], r"argument a\[1\]\[1\]: an integer"),
    ],
)
def test_an_unfitting_argument_is_named_with_what_is_allowed(type_text: str, value: Value, reason: str) -> None:
    """Nothing is converted by guessing: the plugin's author reads which argument, which value, what would fit."""
    with pytest.raises(AbiError, match=reason):
        encode_call(parse_function(f"f({type_text} a)"), {"a": value})


def test_unknown_and_missing_arguments_are_named() -> None:
    """Together with the names that there are."""
    with pytest.raises(AbiError) as refused:
        encode_call(MINT, {"strike": 1, "abuve": True})
    assert str(refused.value) == (
        "arguments of mintBinary: missing: above; unknown: abuve; allowed: strike (uint256), above (bool)"
    )


def test_outputs_are_shaped_by_their_number() -> None:
    """One output is its value, several are a tuple, none is ()."""
    words = (1).to_bytes(32, "big") + (2).to_bytes(32, "big")
    assert decode_outputs(parse_function("f() returns (uint256)"), words[:32]) == 1
    assert decode_outputs(parse_function("f() returns (uint256 a, uint8 b)"), words) == (1, 2)
    assert decode_outputs(parse_function("f() returns ((uint256 a, uint8 b))"), words) == [1, 2]
    assert decode_outputs(parse_function("f()"), b"") == ()


def test_addresses_come_back_checksummed_and_bytes_as_hex() -> None:
    """In structs and arrays as well."""
    function = parse_function("f() returns ((address a, bytes4 b)[] c)")
    data = encode(["(address,bytes4)[]"], [[(b"\x5a\xae" + b"\x11" * 18, b"\x01\x02\x03\x04")]])
    value = decode_outputs(function, data)
    assert value == [[to_checksum_address("0x5aae" + "11" * 18), "0x01020304"]]


@pytest.mark.parametrize(
    "outputs, data, reason",
    [
        ("uint256", b"", "f returned nothing: no contract at this address"),
        ("uint256", b"\0" * 31, r"31 bytes that are not \(uint256\)"),
        ("bool", (2).to_bytes(32, "big"), r"not \(bool\)"),
        ("uint8", (256).to_bytes(32, "big"), r"not \(uint8\)"),
        ("string", encode(["bytes"], [b"\xff\xfe"]), r"not \(string\)"),
        ("uint256[]", encode(["uint256[]"], [[1] * 300]), "an array of 300 items, the limit is 256"),
        (
            "(uint8 a, bool[2] b)[2] c, uint256[] d",
            encode(["(uint8,bool[2])[2]", "uint256[]"], [[(1, [True, False])] * 2, [1] * 300]),
            "an array of 300 items",
        ),
        ("string", encode(["string"], ["a" * 9_000]), "longer than 8192 characters"),
        ("bytes", b"\0" * 70_000, "70000 bytes, the limit is 65536"),
        ("uint256[]", (32).to_bytes(32, "big") + (2**200).to_bytes(32, "big"), "the limit is 256"),
    ],
)
def test_returned_bytes_that_do_not_fit_are_refused(outputs: str, data: bytes, reason: str) -> None:
    """A contract chooses these bytes; they end as a value that fits a frame, or as an AbiError."""
    with pytest.raises(AbiError, match=reason):
        decode_outputs(parse_function(f"f() returns ({outputs})"), data)


@given(abi_types(), st.binary(max_size=300))
def test_random_returned_bytes_raise_nothing_else(type_text: str, data: bytes) -> None:
    """Whatever a contract returns."""
    function = parse_function(f"f() returns ({type_text})")
    with suppress(AbiError):
        decode_outputs(function, data)


def test_a_bomb_of_shared_pointers_is_decoded_in_bounded_time() -> None:
    """Many array heads may point at the same long array: 16 KB would become 62,500 numbers."""
    count = 250
    heads = b"".join((32 * count).to_bytes(32, "big") for _ in range(count))
    bomb = (32).to_bytes(32, "big") + count.to_bytes(32, "big") + heads + count.to_bytes(32, "big") + b"\0" * 32 * count
    started = time.monotonic()
    with pytest.raises(AbiError, match="more than 4096 values"):
        decode_outputs(parse_function("f() returns (uint256[][])"), bomb)
    assert time.monotonic() - started < 0.2

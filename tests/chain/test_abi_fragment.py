"""Fragments as operators write them: what is read, and that a refusal names what is wrong."""

from contextlib import suppress

import pytest
from eth_abi.grammar import normalize, parse
from hypothesis import given
from hypothesis import strategies as st

from runnerd.chain.abi import parse_error, parse_function
from runnerd.chain.errors import AbiError
from tests.chain.abi_strategies import abi_types


def test_the_example_of_the_guide_is_read() -> None:
    """Name, inputs, outputs, payable; signature and selector follow."""
    mint = parse_function("mintBinary(uint256 strike, bool above) payable returns (uint256 positionId)")
    assert mint.signature == "mintBinary(uint256,bool)"
    assert [(each.name, each.type) for each in mint.inputs] == [("strike", "uint256"), ("above", "bool")]
    assert [(each.name, each.type) for each in mint.outputs] == [("positionId", "uint256")]
    assert (mint.is_payable, mint.is_view) == (True, False)


@pytest.mark.parametrize(
    "fragment, signature, selector",
    [
        ("transfer(address to, uint amount)", "transfer(address,uint256)", "a9059cbb"),
        ("function balanceOf(address owner) external view returns (uint256);", "balanceOf(address)", "70a08231"),
        ("decimals() pure returns (uint8)", "decimals()", "313ce567"),
        ("  f ( int8[ ] a )".replace("[ ]", "[]"), "f(int8[])", None),
        ("f(uint256[2][] calldata a, bytes32 b)", "f(uint256[2][],bytes32)", None),
        ("f((uint256 a, address b) order, string memory s)", "f((uint256,address),string)", None),
        ("f(tuple(uint a, (bool b, bytes c) d)[] orders)", "f((uint256,(bool,bytes))[])", None),
        ("f(address payable to)", "f(address)", None),
        ("_$x1(bytes1 a)", "_$x1(bytes1)", None),
    ],
)
def test_signatures_are_canonical(fragment: str, signature: str, selector: str | None) -> None:
    """Aliases, names, locations and spaces do not reach the selector; known selectors are those of ERC-20."""
    function = parse_function(fragment)
    assert function.signature == signature
    assert selector is None or function.selector.hex() == selector


@pytest.mark.parametrize(
    "fragment, reason",
    [
        ("", "expected a function name, found 'the end'"),
        ("f", r"expected '\('"),
        ("f(", "expected a type"),
        ("f(uint256 a", r"expected ','"),
        ("f(uint256 a,)", "expected a type"),
        ("f(uint256)", "input 1 has no name: write for example uint256 amount"),
        ("f(uint256 a, bool a)", "two inputs are named a"),
        ("f(uint255 a)", "'uint255' is not an ABI type; allowed: uint8"),
        ("f(uint08 a)", "is not an ABI type"),
        ("f(bytes33 a)", "is not an ABI type"),
        ("f(bytes0 a)", "is not an ABI type"),
        ("f(fixed128x18 a)", "is not an ABI type"),
        ("f(Order a)", "'Order' is not an ABI type"),
        ("f(uint256[0] a)", "array length 0 is not between 1 and 256"),
        ("f(uint256[99999999999999999999] a)", "is not between 1 and 256"),
        ("f(uint256[][][] a)", "arrays are nested deeper than 2"),
        ("f((uint256[] a)[][] b)", "nested deeper than 3"),
        ("f(" + "(" * 300 + "uint256 a", "nested deeper than 3"),
        ("f(() a)", "a tuple needs at least one member"),
        ("f(uint256 a) virtual", "unexpected 'virtual'; allowed after the inputs: external, nonpayable"),
        ("f(uint256 a) view payable", "payable and view exclude each other"),
        ("f(uint256 a) returns uint256", r"expected '\('"),
        ("f(uint256 a) returns (bool) view", "unexpected 'view' at the end"),
        ("f(uint256 a) returns (bool); g()", "unexpected ';"),
        ("f(uint256 a-b)", "unexpected '-b"),
        ("f(" + ",".join(f"bool a{i}" for i in range(33)) + ")", "more than 32 parameters"),
        ("f(" + "a" * 3_000 + ")", "longer than 2000 characters"),
    ],
)
def test_a_refusal_names_what_is_wrong(fragment: str, reason: str) -> None:
    """The operator reads this beside the line of his TOML."""
    with pytest.raises(AbiError, match=reason):
        parse_function(fragment)


def test_errors_may_have_nameless_inputs() -> None:
    """They are only decoded, never filled in."""
    error = parse_error("error InsufficientFunds(uint256 have, uint256)")
    assert error.signature == "InsufficientFunds(uint256,uint256)"
    with pytest.raises(AbiError, match="unexpected 'view' at the end"):
        parse_error("E() view")


@given(abi_types())
def test_canonical_types_are_those_of_eth_abi(type_text: str) -> None:
    """Every type we generate is read as itself, and eth_abi's own grammar agrees."""
    function = parse_function(f"f({type_text} a)")
    assert function.inputs[0].type == type_text == normalize(type_text)  # type: ignore[no-untyped-call]
    parse(type_text).validate()


@given(st.text(alphabet="uint256[](),abool tuplereturns view", max_size=60))
def test_no_text_raises_anything_but_abi_error(text: str) -> None:
    """A TOML file can hold anything."""
    for read in (parse_function, parse_error):
        with suppress(AbiError):
            read(text)

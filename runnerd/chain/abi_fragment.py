"""Reads human-readable fragments as they stand in an operator's TOML. Pure; every refusal is an AbiError.

    mintBinary(uint256 strike, bool above) payable returns (uint256 positionId)
    error InsufficientFunds(uint256 have, uint256 want)
    event Trade(address indexed by, uint256 size)

The form is that of https://docs.ethers.org/v5/api/utils/abi/formats/#human-readable-abi, for functions,
errors and events.
"""

import re
from collections.abc import Iterable

from runnerd.chain.abi_types import (
    AbiEvent,
    AbiFunction,
    AbiParameter,
    AbiType,
    ArrayOf,
    Elementary,
    Kind,
    TupleOf,
)
from runnerd.chain.errors import AbiError, printable

MAX_FRAGMENT_LENGTH = 2_000
MAX_PARAMETERS = 32
MAX_ARRAY_DEPTH = 2
MAX_DEPTH = 3
"""Arrays and tuples inside each other: what protocol.values can carry."""
MAX_FIXED_LENGTH = 256
MAX_INDEXED = 3
"""A log has four topics, and the first one names the event."""

MUTABILITIES = {"view", "pure", "nonpayable", "payable"}
VISIBILITIES = {"external", "public"}
LOCATIONS = {"memory", "calldata", "storage"}
TYPES_ALLOWED = "uint8…uint256, int8…int256, address, bool, string, bytes, bytes1…bytes32, T[], T[n], (T a, T b)"

_TOKEN = re.compile(r"\s*(?:([A-Za-z_$][A-Za-z0-9_$]*)|(\[[0-9]*\])|([(),]))")
_SIZED = re.compile(r"(uint|int|bytes)([1-9][0-9]*)\Z")
_PLAIN = {
    "uint": Elementary(Kind.UINT, 256),
    "int": Elementary(Kind.INT, 256),
    "bool": Elementary(Kind.BOOL),
    "address": Elementary(Kind.ADDRESS),
    "string": Elementary(Kind.STRING),
    "bytes": Elementary(Kind.BYTES),
}


def parse_function(fragment: str) -> AbiFunction:
    """The function that a fragment declares; every input needs a name of its own. Raises AbiError with the reason."""
    reader = _Reader(fragment)
    reader.take("function")
    name = reader.word("a function name")
    inputs = reader.parameters()
    modifiers = reader.modifiers()
    outputs = reader.parameters() if reader.take("returns") else ()
    reader.end()
    _check_names(reader, inputs)
    is_view = bool(modifiers & {"view", "pure"})
    return AbiFunction(name, inputs, outputs, is_payable="payable" in modifiers, is_view=is_view)


def parse_error(fragment: str) -> AbiFunction:
    """The custom error that a fragment declares; its inputs may lack names. Raises AbiError with the reason."""
    reader = _Reader(fragment)
    reader.take("error")
    name = reader.word("an error name")
    inputs = reader.parameters()
    reader.end()
    return AbiFunction(name, inputs)


def parse_event(fragment: str) -> AbiEvent:
    """The event that a fragment declares; every input needs a name of its own. Raises AbiError with the reason."""
    reader = _Reader(fragment)
    reader.take("event")
    name = reader.word("an event name")
    inputs = reader.parameters(may_index=True)
    if reader.take("anonymous"):
        raise reader.error("an anonymous event has no topic that names it, and cannot be asked for")
    reader.end()
    _check_names(reader, inputs)
    is_indexed = tuple(parameter.name in reader.indexed for parameter in inputs)
    if sum(is_indexed) > MAX_INDEXED:
        raise reader.error(f"more than {MAX_INDEXED} indexed inputs")
    return AbiEvent(name, inputs, is_indexed)


def _check_names(reader: "_Reader", inputs: tuple[AbiParameter, ...]) -> None:
    names = [parameter.name for parameter in inputs]
    if "" in names:
        raise reader.error(
            f"input {names.index('') + 1} has no name: write for example {inputs[names.index('')].type} amount"
        )
    duplicate = _first_duplicate(names)
    if duplicate is not None:
        raise reader.error(f"two inputs are named {duplicate}")


class _Reader:
    """The tokens of one fragment and the place reached."""

    def __init__(self, fragment: str) -> None:
        self._fragment = fragment
        if len(fragment) > MAX_FRAGMENT_LENGTH:
            raise self.error(f"it is longer than {MAX_FRAGMENT_LENGTH} characters")
        self._tokens: list[str] = []
        text = fragment.rstrip().removesuffix(";").rstrip()
        position = 0
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None:
                raise self.error(f"unexpected {text[position:].lstrip()[:12]!r}")
            self._tokens.append(match.group(1) or match.group(2) or match.group(3))
            position = match.end()
        self._next = 0
        self.indexed: set[str] = set()
        """Names of the inputs that are, of an event."""

    def error(self, reason: str) -> AbiError:
        return AbiError(f"in {printable(self._fragment, 120)!r}: {printable(reason)}")

    def peek(self) -> str:
        return self._tokens[self._next] if self._next < len(self._tokens) else ""

    def take(self, token: str) -> bool:
        is_there = self.peek() == token
        self._next += is_there
        return is_there

    def expect(self, token: str, purpose: str) -> None:
        if not self.take(token):
            raise self.error(f"expected {token!r} {purpose}, found {self.peek() or 'the end'!r}")

    def word(self, what: str) -> str:
        token = self.peek()
        if not token or token[0] in "[(),":
            raise self.error(f"expected {what}, found {token or 'the end'!r}")
        self._next += 1
        return token

    def end(self) -> None:
        if self.peek():
            raise self.error(f"unexpected {self.peek()!r} at the end")

    def modifiers(self) -> set[str]:
        found: set[str] = set()
        while self.peek() and self.peek() != "returns":
            modifier = self.peek()
            if modifier not in MUTABILITIES | VISIBILITIES:
                allowed = ", ".join(sorted(MUTABILITIES | VISIBILITIES))
                raise self.error(f"unexpected {modifier!r}; allowed after the inputs: {allowed}, returns (…)")
            found.add(modifier)
            self._next += 1
        if len(found & MUTABILITIES) > 1:
            raise self.error(f"{' and '.join(sorted(found & MUTABILITIES))} exclude each other")
        return found

    def parameters(self, depth: int = 0, *, may_index: bool = False) -> tuple[AbiParameter, ...]:
        self.expect("(", "before the parameters")
        found: list[AbiParameter] = []
        if not self.take(")"):
            while True:
                found.append(self._parameter(depth, may_index=may_index))
                if self.take(")"):
                    break
                self.expect(",", "or ')' after a parameter")
        if len(found) > MAX_PARAMETERS:
            raise self.error(f"more than {MAX_PARAMETERS} parameters")
        return tuple(found)

    def _parameter(self, depth: int, *, may_index: bool) -> AbiParameter:
        shape = self._type(depth)
        if shape == _PLAIN["address"]:
            self.take("payable")
        if self.peek() in LOCATIONS:
            self._next += 1
        is_indexed = may_index and self.take("indexed")
        token = self.peek()
        name = self.word("a parameter name") if token and token[0] not in "[()," else ""
        if is_indexed:
            self.indexed.add(name)
        return AbiParameter(name, str(shape), shape)

    def _type(self, depth: int) -> AbiType:
        shape: AbiType
        if self.take("tuple") or self.peek() == "(":
            if depth >= MAX_DEPTH:  # before descending, so that a hostile fragment cannot exhaust the stack
                raise self.error(f"tuples and arrays are nested deeper than {MAX_DEPTH}")
            members = self.parameters(depth + 1)
            if not members:
                raise self.error("a tuple needs at least one member")
            shape = TupleOf(tuple(member.shape for member in members))
        else:
            shape = self._elementary(self.word("a type"))
        array_depth = 0
        while self.peek().startswith("["):
            array_depth += 1
            shape = ArrayOf(shape, self._array_length(self.peek()[1:-1]))
            self._next += 1
        if array_depth > MAX_ARRAY_DEPTH:
            raise self.error(f"arrays are nested deeper than {MAX_ARRAY_DEPTH}")
        if depth + _depth(shape) > MAX_DEPTH:
            raise self.error(f"tuples and arrays are nested deeper than {MAX_DEPTH}")
        return shape

    def _array_length(self, text: str) -> int | None:
        if not text:
            return None
        if len(text) > 4 or not 1 <= int(text) <= MAX_FIXED_LENGTH:
            raise self.error(f"array length {text} is not between 1 and {MAX_FIXED_LENGTH}")
        return int(text)

    def _elementary(self, name: str) -> Elementary:
        plain = _PLAIN.get(name)
        if plain is not None:
            return plain
        match = _SIZED.match(name)
        if match is not None:
            base, size = match.group(1), int(match.group(2)[:4])
            if base == "bytes" and size <= 32:
                return Elementary(Kind.FIXED_BYTES, size)
            if base != "bytes" and size <= 256 and size % 8 == 0:
                return Elementary(Kind.UINT if base == "uint" else Kind.INT, size)
        raise self.error(f"{name!r} is not an ABI type; allowed: {TYPES_ALLOWED}")


def _depth(shape: AbiType) -> int:
    match shape:
        case Elementary():
            return 0
        case ArrayOf(item=item):
            return 1 + _depth(item)
        case TupleOf(items=items):
            return 1 + max(_depth(item) for item in items)


def _first_duplicate(names: Iterable[str]) -> str | None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None

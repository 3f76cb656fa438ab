"""ABI types as a small tree, and the fragments made of them: `AbiParameter`, `AbiFunction`. Values, no parsing.

Canonical names as in https://docs.soliditylang.org/en/latest/abi-spec.html: `uint256`, `(uint256,address)[2][]`.
"""

from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias

from eth_hash.auto import keccak


class Kind(Enum):
    """The elementary types."""

    UINT = "uint"
    INT = "int"
    BOOL = "bool"
    ADDRESS = "address"
    FIXED_BYTES = "bytes (fixed)"
    BYTES = "bytes"
    STRING = "string"


@dataclass(frozen=True, slots=True)
class Elementary:
    """One elementary type. `size`: bits of an integer, bytes of `bytesN`, else 0."""

    kind: Kind
    size: int = 0

    def __str__(self) -> str:
        match self.kind:
            case Kind.UINT | Kind.INT:
                return f"{self.kind.value}{self.size}"
            case Kind.FIXED_BYTES:
                return f"bytes{self.size}"
            case _:
                return str(self.kind.value)


@dataclass(frozen=True, slots=True)
class ArrayOf:
    """`T[]` when `length` is None, else `T[length]`."""

    item: "AbiType"
    length: int | None

    def __str__(self) -> str:
        return f"{self.item}[{'' if self.length is None else self.length}]"


@dataclass(frozen=True, slots=True)
class TupleOf:
    """A struct. Its values travel as a list in this order; the names of its fields are not kept."""

    items: "tuple[AbiType, ...]"

    def __str__(self) -> str:
        return f"({','.join(str(item) for item in self.items)})"


AbiType: TypeAlias = Elementary | ArrayOf | TupleOf


@dataclass(frozen=True, slots=True)
class AbiParameter:
    """One input or output. `name` may be empty; `type` is canonical, `shape` the same as a tree."""

    name: str
    type: str
    shape: AbiType = field(repr=False)


@dataclass(frozen=True, slots=True)
class AbiFunction:
    """A function, or a custom error, as declared by an operator. `signature` and `selector` follow from it."""

    name: str
    inputs: tuple[AbiParameter, ...]
    outputs: tuple[AbiParameter, ...] = ()
    is_payable: bool = False
    is_view: bool = False
    signature: str = field(init=False, compare=False)
    selector: bytes = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        signature = _signature(self.name, self.inputs)
        object.__setattr__(self, "signature", signature)
        object.__setattr__(self, "selector", keccak(signature.encode())[:4])


@dataclass(frozen=True, slots=True)
class AbiEvent:
    """An event as declared by an operator or an author. `is_indexed` has a word for each input."""

    name: str
    inputs: tuple[AbiParameter, ...]
    is_indexed: tuple[bool, ...]
    signature: str = field(init=False, compare=False)
    topic: str = field(init=False, compare=False, repr=False)
    """The first topic of its logs, `0x` hex."""

    def __post_init__(self) -> None:
        signature = _signature(self.name, self.inputs)
        object.__setattr__(self, "signature", signature)
        object.__setattr__(self, "topic", "0x" + keccak(signature.encode()).hex())


def _signature(name: str, inputs: tuple[AbiParameter, ...]) -> str:
    return f"{name}({','.join(parameter.type for parameter in inputs)})"

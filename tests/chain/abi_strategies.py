"""Hypothesis strategies for ABI types within our limits, and wire values that fit them."""

from hypothesis import strategies as st

from protocol.values import Value
from runnerd.chain.abi_types import AbiType, ArrayOf, Elementary, Kind, TupleOf
from runnerd.chain.address import checksum_address

_ELEMENTARY = st.one_of(
    st.integers(1, 32).map(lambda n: f"uint{8 * n}"),
    st.integers(1, 32).map(lambda n: f"int{8 * n}"),
    st.integers(1, 32).map(lambda n: f"bytes{n}"),
    st.sampled_from(["address", "bool", "string", "bytes"]),
)


def texts() -> st.SearchStrategy[str]:
    """Text of one- to four-byte characters; a fixed alphabet, since building the whole of Unicode takes seconds."""
    return st.text(alphabet='az09 "\\\n\0é€😀', max_size=40)


def abi_types(depth: int = 3) -> st.SearchStrategy[str]:
    """Canonical type names, arrays and tuples at most `depth` inside each other, arrays of arrays at most 2."""
    if depth == 0:
        return _ELEMENTARY
    inner = abi_types(depth - 1)
    suffix = st.one_of(st.just("[]"), st.integers(1, 3).map(lambda n: f"[{n}]"))
    arrays = st.builds(lambda item, end: item + end, inner, suffix).filter(lambda text: not text.endswith("]" * 3))
    tuples = st.lists(inner, min_size=1, max_size=3).map(lambda items: f"({','.join(items)})")
    return st.one_of(_ELEMENTARY, arrays.filter(_has_shallow_arrays), tuples)


def _has_shallow_arrays(text: str) -> bool:
    depth = 0
    while text.endswith("]"):
        text = text[: text.rindex("[")]
        depth += 1
    return depth <= 2


def values_of(shape: AbiType) -> st.SearchStrategy[Value]:
    """Wire values of this type, in the very form in which they come back when they are decoded."""
    match shape:
        case Elementary(kind=Kind.UINT, size=size):
            return st.integers(0, 2**size - 1)
        case Elementary(kind=Kind.INT, size=size):
            return st.integers(-(2 ** (size - 1)), 2 ** (size - 1) - 1)
        case Elementary(kind=Kind.BOOL):
            return st.booleans()
        case Elementary(kind=Kind.ADDRESS):
            return st.binary(min_size=20, max_size=20).map(lambda data: checksum_address("0x" + data.hex()))
        case Elementary(kind=Kind.FIXED_BYTES, size=size):
            return st.binary(min_size=size, max_size=size).map(lambda data: "0x" + data.hex())
        case Elementary(kind=Kind.BYTES):
            return st.binary(max_size=70).map(lambda data: "0x" + data.hex())
        case Elementary():
            return texts()
        case ArrayOf(item=item, length=None):
            return st.lists(values_of(item), max_size=3)  # type: ignore[arg-type]  # depth is bounded
        case ArrayOf(item=item, length=length):
            return st.lists(values_of(item), min_size=length or 0, max_size=length)  # type: ignore[arg-type]
        case TupleOf(items=items):
            return st.tuples(*(values_of(item) for item in items)).map(list)

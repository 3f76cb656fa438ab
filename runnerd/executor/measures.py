"""Expectations as numbers that can be read on chain, within what the vault's owner lets plugins name. Pure.

Judged when a Decision is accepted, and again with today's catalogue whenever its intent is simulated.
"""

from collections.abc import Sequence
from typing import assert_never

from protocol.expectations import BalanceChange, Expectation, SharePrice
from runnerd.chain.abi import AbiFunction, encode_call, parse_function
from runnerd.chain.abi_types import Elementary, Kind
from runnerd.chain.address import parse_address
from runnerd.chain.errors import AbiError
from runnerd.chain.probe import Measure
from runnerd.executor.policy import Denied
from runnerd.vaults.catalogue import Catalogue

BALANCE_OF = parse_function("balanceOf(address owner) view returns (uint256)")
MAX_READ_BYTES = 4_100
"""Selector and 128 words: what the probe has room for, for each read."""


def build_measures(
    expectations: Sequence[Expectation], catalogue: Catalogue, vault: str
) -> tuple[Measure, ...] | Denied:
    """One measure for each expectation, in their order, of the vault at address `vault`; or the rule that is broken."""
    measures = []
    for number, expectation in enumerate(expectations, 1):
        try:
            found = _measure(expectation, catalogue, vault)
        except AbiError as error:
            found = str(error)
        if isinstance(found, str):
            return Denied(f"expectation {number}: {found}")
        measures.append(found)
    return tuple(measures)


def _measure(expectation: Expectation, catalogue: Catalogue, vault: str) -> Measure | str:
    match expectation:
        case BalanceChange(token=None):
            return Measure(to=vault)
        case BalanceChange(token=str() as token):
            address = parse_address(token)
            if address not in catalogue.expect_tokens:
                granted = ", ".join(sorted(catalogue.expect_tokens)) or "none"
                return f"token {address} is not in expect_tokens of {catalogue.place}; granted: {granted}"
            return Measure(to=address, data=encode_call(BALANCE_OF, {"owner": vault}))
        case SharePrice():
            return _price(expectation, catalogue)
        case _:
            assert_never(expectation)  # type: ignore[arg-type]  # mypy does not narrow by `token`


def _price(expectation: SharePrice, catalogue: Catalogue) -> Measure | str:
    entry = catalogue.reads.get(expectation.read)
    if entry is None:
        granted = ", ".join(catalogue.reads) or "none"
        return f"read {expectation.read!r} is not in the catalogue of {catalogue.place}; granted: {granted}"
    kind = _integer_kind(entry.function)
    if kind is None:
        outputs = ", ".join(output.type for output in entry.function.outputs)
        return f"read {expectation.read!r} returns ({outputs}); a share price is a read that returns one integer"
    data = encode_call(entry.function, expectation.args)
    if len(data) > MAX_READ_BYTES:
        return f"the arguments of read {expectation.read!r} take {len(data)} bytes, the limit is {MAX_READ_BYTES}"
    return Measure(to=entry.contract, data=data, is_signed=kind is Kind.INT)


def _integer_kind(function: AbiFunction) -> Kind | None:
    if len(function.outputs) != 1:
        return None
    shape = function.outputs[0].shape
    return shape.kind if isinstance(shape, Elementary) and shape.kind in (Kind.UINT, Kind.INT) else None

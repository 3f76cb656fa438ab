"""Vaults with the minimal batch executor interface, ERC-7821: https://eips.ethereum.org/EIPS/eip-7821.

`execute(bytes32 mode, bytes executionData)`, in the mode in which executionData is abi.encode(Call[], opData): opData
carries the intent id. The layout is written out by hand: eth_abi needs 200 µs for three calls, this 10 µs; a property
test holds the two together.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from runnerd.chain.abi import parse_function
from runnerd.chain.address import address_bytes, parse_address
from runnerd.chain.errors import AbiError, RpcRefused
from runnerd.chain.json_values import JsonValue
from runnerd.chain.jsonrpc import Request
from runnerd.chain.vault import Batch, Call
from runnerd.chain.vaults.views import build_view, decode_view

EXECUTE = parse_function("execute(bytes32 mode, bytes executionData) payable")
OPERATOR = parse_function("operator() view returns (address)")

MODE_BATCH_OP_DATA = bytes.fromhex("0100000000007821000100000000000000000000000000000000000000000000")
"""Single batch, revert on any failure; with opData. The mode without it cannot carry an intent id."""

INTENT_ID_BYTES = 32
_ZERO_ADDRESS = "0x" + "00" * 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Erc7821Vault:
    """`VaultAdapter` for a contract like deploy/contracts/OperatorVault.vy at `address`."""

    address: str
    operator: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "address", parse_address(self.address))

    def build(self, calls: Sequence[Call], intent_id: bytes) -> Batch:
        """A call of `execute`. The reference vault refuses a second execution of an intent id (32 bytes, not all
        zero): this is the on-chain half of "one effect per decision"."""
        return Batch(to=self.address, data=encode_execute(calls, intent_id))

    def without_signatures(self, data: bytes) -> bytes:
        """There are none."""
        return data

    def build_admission(self) -> tuple[Request, ...]:
        """Who the operator is."""
        return (build_view(self.address, OPERATOR),)

    def find_problem(self, answers: Sequence[JsonValue | RpcRefused]) -> str | None:
        """It must be us; the zero address means that the vault has none."""
        (answer,) = answers
        operator = decode_view(OPERATOR, answer)
        if operator == self.operator:
            return None
        remedy = f"the owner must call setOperator({self.operator})"
        return f"the vault's operator is {operator}, our wallet is {self.operator}: {remedy}"


def encode_execute(calls: Sequence[Call], intent_id: bytes) -> bytes:
    """Calldata of `execute` in the mode with opData: all calls or none, under this id. Raises AbiError."""
    if not calls:
        raise AbiError("a batch needs at least one call")
    batch = _encode_calls(calls)
    check_intent_id(intent_id)
    execution_data = _word(64) + _word(64 + len(batch)) + batch + _word(INTENT_ID_BYTES) + intent_id
    return b"".join((EXECUTE.selector, MODE_BATCH_OP_DATA, _word(64), _word(len(execution_data)), execution_data))


def check_intent_id(intent_id: bytes) -> None:
    """Raises AbiError: a short or empty id would not lock anything."""
    if len(intent_id) != INTENT_ID_BYTES or not any(intent_id):
        raise AbiError(f"an intent id is {INTENT_ID_BYTES} bytes and not all zero, got {len(intent_id)} bytes")


def check_call(call: Call) -> str:
    """Whom the call is for, checksummed. Raises AbiError."""
    to = parse_address(call.to)
    if to == _ZERO_ADDRESS:  # the ERC reads a zero `to` as the vault itself: a call must say whom it means
        raise AbiError("a call to the zero address would call the vault itself")
    if not 0 <= call.value_wei < 1 << 256:
        raise AbiError(f"value {call.value_wei} wei of a call to {to} does not fit uint256")
    return to


def _encode_calls(calls: Sequence[Call]) -> bytes:
    """`Call[]`, i.e. (address to, uint256 value, bytes data)[], without the leading offset."""
    heads: list[bytes] = []
    tails: list[bytes] = []
    offset = 32 * len(calls)
    for call in calls:
        to = check_call(call)
        padding = bytes(-len(call.data) % 32)
        fixed = (bytes(12), address_bytes(to), _word(call.value_wei), _word(96), _word(len(call.data)))
        tail = b"".join((*fixed, call.data, padding))
        heads.append(_word(offset))
        tails.append(tail)
        offset += len(tail)
    return b"".join((_word(len(calls)), *heads, *tails))


def _word(number: int) -> bytes:
    return number.to_bytes(32, "big")

"""The batch calldata of ERC-7821, held against the ERC's text, golden bytes and eth_abi."""

import pytest
from eth_abi.abi import encode
from eth_utils.crypto import keccak
from hypothesis import given
from hypothesis import strategies as st

from runnerd.chain.errors import AbiError
from runnerd.chain.vault import Call, VaultAdapter
from runnerd.chain.vaults.erc7821 import EXECUTE, MODE_BATCH_OP_DATA, Erc7821Vault
from tests.support import contracts

VAULT = "0x" + "aa" * 20
TARGET = "0x" + "11" * 20
INTENT_ID = b"\x77" * 32
OPERATOR = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
ADAPTER: VaultAdapter = Erc7821Vault(address=VAULT, operator=OPERATOR)

calls = st.builds(
    Call,
    to=st.binary(min_size=20, max_size=20).filter(any).map(lambda data: "0x" + data.hex()),
    value_wei=st.integers(0, 2**256 - 1),
    data=st.binary(max_size=100),
)


def test_selector_and_modes_are_those_of_the_erc() -> None:
    """`execute(bytes32,bytes)` is 0xe9ae5c53; modes as listed in the ERC and in Solady's ERC7821.sol."""
    assert EXECUTE.selector.hex() == "e9ae5c53" == keccak(text="execute(bytes32,bytes)")[:4].hex()
    assert MODE_BATCH_OP_DATA.hex() == "01000000000078210001" + "00" * 22
    assert MODE_BATCH_OP_DATA == contracts.MODE_BATCH_OPDATA


def test_one_call_with_an_intent_id_is_these_bytes() -> None:
    """Golden, word by word."""
    calldata = ADAPTER.build([Call(to=TARGET, value_wei=5, data=b"\xc0\xff\xee")], b"\x77" * 32).data
    words = [
        "01000000000078210001" + "00" * 22,  # mode
        f"{0x40:064x}",  # where executionData starts
        f"{0x180:064x}",  # its length
        f"{0x40:064x}",  # where Call[] starts
        f"{0x140:064x}",  # where opData starts
        f"{1:064x}",  # one call
        f"{0x20:064x}",  # where it starts
        "00" * 12 + "11" * 20,  # to
        f"{5:064x}",  # value
        f"{0x60:064x}",  # where its data starts
        f"{3:064x}",
        "c0ffee" + "00" * 29,
        f"{32:064x}",  # opData
        "77" * 32,
    ]
    # 0x40 + len(Call[]) = 0x40 + 7 words
    words[4] = f"{0x40 + 7 * 32:064x}"
    words[2] = f"{len(words[3:]) * 32:064x}"
    assert calldata.hex() == "e9ae5c53" + "".join(words)


@given(st.lists(calls, min_size=1, max_size=5), st.binary(min_size=32, max_size=32).filter(any))
def test_every_batch_is_that_of_eth_abi(batch: list[Call], intent_id: bytes) -> None:
    """The layout is written by hand for speed; eth_abi is the second opinion."""
    tuples = [(call.to, call.value_wei, call.data) for call in batch]
    execution_data = encode(["(address,uint256,bytes)[]", "bytes"], [tuples, intent_id])
    expected = EXECUTE.selector + encode(["bytes32", "bytes"], [MODE_BATCH_OP_DATA, execution_data])
    assert ADAPTER.build(batch, intent_id).data == expected


@pytest.mark.parametrize(
    "batch, intent_id, reason",
    [
        ([], INTENT_ID, "at least one call"),
        ([Call(to="0x" + "00" * 20, value_wei=0, data=b"")], INTENT_ID, "zero address"),
        ([Call(to="0x12", value_wei=0, data=b"")], INTENT_ID, "not an address"),
        ([Call(to=TARGET, value_wei=-1, data=b"")], INTENT_ID, "does not fit uint256"),
        ([Call(to=TARGET, value_wei=2**256, data=b"")], INTENT_ID, "does not fit uint256"),
        ([Call(to=TARGET, value_wei=0, data=b"")], b"\1" * 31, "32 bytes"),
        ([Call(to=TARGET, value_wei=0, data=b"")], bytes(32), "not all zero"),
    ],
)
def test_a_batch_that_cannot_be_meant_is_refused(batch: list[Call], intent_id: bytes, reason: str) -> None:
    """Before it is signed; the ERC reads a zero target as the vault itself."""
    with pytest.raises(AbiError, match=reason):
        ADAPTER.build(batch, intent_id)


def test_the_operator_is_asked_and_read() -> None:
    """The view is `operator()`, 0x570ca735."""
    ((method, params),) = ADAPTER.build_admission()
    assert (method, params) == ("eth_call", [{"to": ADAPTER.address, "data": "0x570ca735"}, "latest"])
    assert ADAPTER.find_problem(["0x" + encode(["address"], [OPERATOR]).hex()]) is None
    problem = ADAPTER.find_problem(["0x" + encode(["address"], [TARGET]).hex()])
    assert problem == (
        f"the vault's operator is {TARGET}, our wallet is {OPERATOR}: the owner must call setOperator({OPERATOR})"
    )
    with pytest.raises(AbiError, match="no contract at this address"):
        ADAPTER.find_problem(["0x"])

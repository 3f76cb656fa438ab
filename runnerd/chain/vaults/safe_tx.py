"""A Safe's transaction as its owners sign it: SafeTx of EIP-712, its hash, and the signatures that a Safe accepts.

Pure. For Safes from 1.3 on, whose domain names the chain. Gas refunds are never used: those five fields are zero.
Layout of signatures: https://docs.safe.global/advanced/smart-account-signatures.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from coincurve import PublicKey
from eth_abi.abi import decode, encode
from eth_abi.exceptions import DecodingError
from eth_hash.auto import keccak

from runnerd.chain.abi import parse_function
from runnerd.chain.address import address_bytes, checksum_address
from runnerd.chain.errors import AbiError
from runnerd.chain.vaults.multisend import OneCall, Operation
from runnerd.errors import RunnerdError

EXEC_TRANSACTION = parse_function(
    "execTransaction(address to, uint256 value, bytes data, uint8 operation, uint256 safeTxGas, uint256 baseGas, "
    "uint256 gasPrice, address gasToken, address refundReceiver, bytes signatures) payable returns (bool success)"
)
_EXEC_TYPES: Final = [parameter.type for parameter in EXEC_TRANSACTION.inputs]
_NO_REFUND: Final = (0, 0, 0, bytes(20), bytes(20))

_DOMAIN_TYPE: Final = keccak(b"EIP712Domain(uint256 chainId,address verifyingContract)")
_SAFE_TX_TYPE: Final = keccak(
    b"SafeTx(address to,uint256 value,bytes data,uint8 operation,uint256 safeTxGas,uint256 baseGas,uint256 gasPrice,"
    b"address gasToken,address refundReceiver,uint256 nonce)"
)

SIGNATURE_BYTES: Final = 65
_ETH_SIGN_OFFSET: Final = 4
"""A Safe reads v = 31 and 32 as a signature of the hash with the prefix of eth_sign, which hardware wallets make."""


class SignatureRefused(RunnerdError):
    """A signature that a Safe would not count. The text says why, and whose it seems to be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SafeTx:
    """One transaction of the Safe `safe`. `nonce` is the Safe's own, not the operator's."""

    chain_id: int
    safe: str
    to: str
    value_wei: int
    data: bytes
    operation: Operation
    nonce: int

    @property
    def hash(self) -> bytes:
        """What an owner signs."""
        domain = keccak(encode(["bytes32", "uint256", "address"], [_DOMAIN_TYPE, self.chain_id, self.safe]))
        struct = keccak(
            encode(
                ["bytes32", "address", "uint256", "bytes32", "uint8", "uint256", "uint256", "uint256", "address",
                 "address", "uint256"],
                [_SAFE_TX_TYPE, self.to, self.value_wei, keccak(self.data), self.operation, *_NO_REFUND, self.nonce],
            )
        )  # fmt: skip
        return keccak(b"\x19\x01" + domain + struct)


def encode_exec(call: OneCall, signatures: bytes) -> bytes:
    """Calldata of `execTransaction`. A call that fails reverts all of it, since safeTxGas and gasPrice are zero."""
    arguments = (address_bytes(call.to), call.value_wei, call.data, call.operation, *_NO_REFUND, signatures)
    return EXEC_TRANSACTION.selector + encode(_EXEC_TYPES, arguments)


def decode_exec(data: bytes) -> tuple[OneCall, bytes]:
    """The call and the signatures in the calldata of `execTransaction`. Raises AbiError."""
    if data[:4] != EXEC_TRANSACTION.selector:
        raise AbiError("not the calldata of execTransaction")
    try:
        to, value_wei, inner, operation, *_, signatures = decode(_EXEC_TYPES, data[4:])
        call = OneCall(to=checksum_address(to), value_wei=value_wei, data=inner, operation=Operation(operation))
    except (DecodingError, ValueError) as error:
        raise AbiError(f"not the calldata of execTransaction: {error}") from None
    return call, signatures


def parse_signature(text: str) -> bytes:
    """65 bytes from hex, with or without 0x and white space around. Raises SignatureRefused."""
    digits = text.strip().removeprefix("0x")
    try:
        signature = bytes.fromhex(digits)
    except ValueError:
        raise SignatureRefused("a signature is written in hex, 65 bytes: r, s and v") from None
    if len(signature) != SIGNATURE_BYTES:
        raise SignatureRefused(f"a signature has {SIGNATURE_BYTES} bytes (r, s and v), this has {len(signature)}")
    return signature


def recover_owner(safe_tx_hash: bytes, signature: bytes) -> tuple[str, bytes]:
    """Who signed this hash, checksummed, and the signature as a Safe wants it. Raises SignatureRefused.

    v is 27 or 28 (or 0 and 1, as some tools write them) for a signature of the hash itself, 31 or 32 for eth_sign.
    """
    if len(signature) != SIGNATURE_BYTES:
        raise SignatureRefused(f"a signature has {SIGNATURE_BYTES} bytes (r, s and v), this has {len(signature)}")
    v = signature[64] + 27 if signature[64] in (0, 1) else signature[64]
    signed = safe_tx_hash
    if v in (27 + _ETH_SIGN_OFFSET, 28 + _ETH_SIGN_OFFSET):
        signed = keccak(b"\x19Ethereum Signed Message:\n32" + safe_tx_hash)
    elif v not in (27, 28):
        raise SignatureRefused(f"v = {signature[64]}; allowed: 27 and 28, or 31 and 32 for eth_sign")
    recovery_id = (v - 27) % _ETH_SIGN_OFFSET
    try:
        public_key = PublicKey.from_signature_and_message(signature[:64] + bytes([recovery_id]), signed, hasher=None)
    except Exception:  # coincurve raises bare Exception for r and s that are on no curve
        raise SignatureRefused("r and s are no signature of secp256k1") from None
    point = public_key.format(compressed=False)
    return checksum_address("0x" + keccak(point[1:])[12:].hex()), signature[:64] + bytes([v])


def pre_validated(owner: str) -> bytes:
    """Stands for the signature of an owner who sends the transaction himself."""
    return bytes(12) + address_bytes(owner) + bytes(32) + b"\x01"


def assemble(signatures: Mapping[str, bytes]) -> bytes:
    """The `signatures` of execTransaction, by owner: a Safe wants them in the order of the owners' addresses."""
    return b"".join(signatures[owner] for owner in sorted(signatures, key=address_bytes))

"""A Safe whose threshold our wallet alone does not meet: bot plus human. What is built is a proposal.

The calldata is complete only when `with_signatures` has put the owners' into it: `executor.proposals` collects them.
The operator submits and pays; it need not be an owner, and if it is its own approval counts by being the sender.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from runnerd.chain.abi import parse_function
from runnerd.chain.address import parse_address
from runnerd.chain.errors import AbiError, RpcRefused
from runnerd.chain.json_values import JsonValue
from runnerd.chain.jsonrpc import Request
from runnerd.chain.vault import Batch, Call
from runnerd.chain.vaults.multisend import as_one_call
from runnerd.chain.vaults.safe import GET_THRESHOLD, build_helper_requests, find_missing_helper
from runnerd.chain.vaults.safe_tx import SafeTx, decode_exec, encode_exec
from runnerd.chain.vaults.views import build_view, decode_view

GET_OWNERS = parse_function("getOwners() view returns (address[])")
NONCE = parse_function("nonce() view returns (uint256)")
GET_TRANSACTION_HASH = parse_function(
    "getTransactionHash(address to, uint256 value, bytes data, uint8 operation, uint256 safeTxGas, uint256 baseGas, "
    "uint256 gasPrice, address gasToken, address refundReceiver, uint256 nonce) view returns (bytes32)"
)
MAX_NONCE = (1 << 63) - 1
_NOBODY = "0x" + "00" * 20


@dataclass(frozen=True, slots=True)
class SafeState:
    """What the Safe says of itself: its next nonce, how many must sign, and who may."""

    nonce: int
    threshold: int
    owners: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class SafeMultisigVault:
    """`VaultAdapter` for the Safe at `address`."""

    address: str
    operator: str
    multisend: str
    intent_registry: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "address", parse_address(self.address))
        object.__setattr__(self, "multisend", parse_address(self.multisend))

    def build(self, calls: Sequence[Call], intent_id: bytes) -> Batch:
        """`execTransaction` without any signature: a Safe would refuse it as it is."""
        call = as_one_call(calls, intent_id, self.multisend, self.intent_registry)
        return Batch(to=self.address, data=encode_exec(call, b""))

    def with_signatures(self, data: bytes, signatures: bytes) -> bytes:
        """The same, complete. Raises AbiError."""
        return encode_exec(decode_exec(data)[0], signatures)

    def without_signatures(self, data: bytes) -> bytes:
        """The same, as it was built. Raises AbiError."""
        return self.with_signatures(data, b"")

    def safe_tx(self, data: bytes, chain_id: int, nonce: int) -> SafeTx:
        """What owners have to sign for this calldata at a nonce of the Safe. Raises AbiError."""
        call, _ = decode_exec(data)
        return SafeTx(
            chain_id=chain_id,
            safe=self.address,
            to=call.to,
            value_wei=call.value_wei,
            data=call.data,
            operation=call.operation,
            nonce=nonce,
        )

    def build_state(self) -> tuple[Request, ...]:
        """Ask the Safe for its `SafeState`."""
        return tuple(build_view(self.address, view) for view in (NONCE, GET_THRESHOLD, GET_OWNERS))

    def decode_state(self, answers: Sequence[JsonValue | RpcRefused]) -> SafeState:
        """Raises RpcRefused, or AbiError for what no Safe says."""
        nonce, threshold, owners = map(decode_view, (NONCE, GET_THRESHOLD, GET_OWNERS), answers)
        if not isinstance(nonce, int) or not isinstance(threshold, int) or not isinstance(owners, list):
            raise AbiError("nonce, threshold and owners are not those of a Safe")
        if threshold < 1 or nonce > MAX_NONCE:
            raise AbiError(f"a Safe with threshold {threshold} and nonce {nonce} was never set up")
        return SafeState(nonce, threshold, frozenset(str(owner) for owner in owners))

    def build_hash_request(self, safe_tx: SafeTx) -> Request:
        """Ask the Safe itself what its owners have to sign."""
        return build_view(
            self.address,
            GET_TRANSACTION_HASH,
            {
                "to": safe_tx.to,
                "value": safe_tx.value_wei,
                "data": "0x" + safe_tx.data.hex(),
                "operation": int(safe_tx.operation),
                **dict.fromkeys(("safeTxGas", "baseGas", "gasPrice"), 0),
                **dict.fromkeys(("gasToken", "refundReceiver"), _NOBODY),
                "nonce": safe_tx.nonce,
            },
        )

    def decode_hash(self, answer: JsonValue | RpcRefused) -> bytes:
        """Raises RpcRefused or AbiError."""
        return bytes.fromhex(str(decode_view(GET_TRANSACTION_HASH, answer)).removeprefix("0x"))

    def build_admission(self) -> tuple[Request, ...]:
        """Its state, and whether the helper contracts are there."""
        return *self.build_state(), *build_helper_requests(self.multisend, self.intent_registry)

    def find_problem(self, answers: Sequence[JsonValue | RpcRefused]) -> str | None:
        """Our wallet needs no right of its own: it only submits what the owners signed."""
        self.decode_state(answers[:3])
        return find_missing_helper(self.multisend, self.intent_registry, answers[3:])

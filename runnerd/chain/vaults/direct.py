"""No vault at all: a keeper's wallet calls the contract itself, one call in one transaction.

A plain account cannot make several calls one transaction, and knows no intent ids: the nonce is the only lock. Whether
the call is permissionless is not seen here; `executor.attempt` has it simulated by a stranger as well.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from runnerd.chain.errors import AbiError, RpcRefused
from runnerd.chain.json_values import JsonValue
from runnerd.chain.jsonrpc import Request
from runnerd.chain.vault import Batch, Call
from runnerd.chain.vaults.erc7821 import check_call, check_intent_id
from runnerd.chain.vaults.views import build_code_request, decode_code


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectKeeper:
    """`VaultAdapter` for the plain account `operator`. `contracts`: what its actions call, by action."""

    operator: str
    contracts: Mapping[str, str]

    @property
    def address(self) -> str:
        """Who makes the calls: the wallet itself."""
        return self.operator

    def build(self, calls: Sequence[Call], intent_id: bytes) -> Batch:
        """The call as it is. Raises AbiError for several, and for one that carries value."""
        check_intent_id(intent_id)
        if len(calls) != 1:
            raise AbiError(
                f"{len(calls)} actions in one decision: a keeper's wallet is a plain account and cannot make them one "
                "transaction; ask for exactly one"
            )
        (call,) = calls
        if call.value_wei:
            raise AbiError(f"value_wei = {call.value_wei}, but a keeper's calls carry no value")
        return Batch(to=check_call(call), data=call.data)

    def without_signatures(self, data: bytes) -> bytes:
        """There are none."""
        return data

    def build_admission(self) -> tuple[Request, ...]:
        """The code of the wallet, and of each contract it is to call."""
        return tuple(build_code_request(address) for address in (self.operator, *self.contracts.values()))

    def find_problem(self, answers: Sequence[JsonValue | RpcRefused]) -> str | None:
        """A call to an address without code succeeds and does nothing: gas would be paid for it day after day."""
        wallet, *contracts = map(decode_code, answers)
        if wallet:
            return f"our wallet {self.operator} is no plain account, it has code: make another wallet for keepers"
        for (action, address), code in zip(self.contracts.items(), contracts, strict=True):
            if not code:
                return f"there is no contract at actions.{action}.contract = {address}"
        return None

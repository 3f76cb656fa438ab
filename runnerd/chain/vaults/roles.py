"""A Safe behind a Zodiac Roles modifier (v2): the operator is a member of a role, and the modifier limits the role.

`execTransactionWithRole`, with shouldRevert: what the role does not allow, and what fails, reverts. Several calls go
through MultiSendCallOnly, which the modifier takes apart with the unwrapper that its owner set for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from eth_abi.abi import encode

from runnerd.chain.abi import parse_function
from runnerd.chain.address import address_bytes, parse_address
from runnerd.chain.errors import AbiError, RpcRefused
from runnerd.chain.json_values import JsonValue
from runnerd.chain.jsonrpc import Request
from runnerd.chain.vault import Batch, Call
from runnerd.chain.vaults.multisend import MULTI_SEND, as_one_call
from runnerd.chain.vaults.safe import build_helper_requests, find_missing_helper
from runnerd.chain.vaults.views import build_view, decode_view

EXECUTE = parse_function(
    "execTransactionWithRole(address to, uint256 value, bytes data, uint8 operation, bytes32 roleKey, "
    "bool shouldRevert) returns (bool success)"
)
AVATAR = parse_function("avatar() view returns (address)")
TARGET = parse_function("target() view returns (address)")
IS_MODULE_ENABLED = parse_function("isModuleEnabled(address module) view returns (bool)")
UNWRAPPERS = parse_function("unwrappers(bytes32 key) view returns (address)")
ROLE_KEY_BYTES = 32
_NOBODY = "0x" + "00" * 20


@dataclass(frozen=True, slots=True, kw_only=True)
class RolesVault:
    """`VaultAdapter` for the Safe at `address`, whose module is `roles_modifier`. `role_key` is 32 bytes of hex."""

    address: str
    operator: str
    roles_modifier: str
    role_key: str
    multisend: str
    intent_registry: str | None = None

    def __post_init__(self) -> None:
        for name in ("address", "roles_modifier", "multisend"):
            object.__setattr__(self, name, parse_address(getattr(self, name)))

    def build(self, calls: Sequence[Call], intent_id: bytes) -> Batch:
        """One call under the role, or the batch of several."""
        call = as_one_call(calls, intent_id, self.multisend, self.intent_registry)
        arguments = (address_bytes(call.to), call.value_wei, call.data, call.operation, self._role_key(), True)
        data = EXECUTE.selector + encode([parameter.type for parameter in EXECUTE.inputs], arguments)
        return Batch(to=self.roles_modifier, data=data)

    def without_signatures(self, data: bytes) -> bytes:
        """There are none."""
        return data

    def build_admission(self) -> tuple[Request, ...]:
        """Who the modifier serves, whether it knows us, whether the Safe knows it, and the unwrapper of batches.

        Who is a member of which role the modifier tells nobody: a wallet without the role is found by simulation.
        """
        modifier = self.roles_modifier
        return (
            build_view(modifier, AVATAR),
            build_view(modifier, TARGET),
            build_view(modifier, IS_MODULE_ENABLED, {"module": self.operator}),
            build_view(self.address, IS_MODULE_ENABLED, {"module": modifier}),
            build_view(modifier, UNWRAPPERS, {"key": "0x" + self._unwrapper_key().hex()}),
            *build_helper_requests(self.multisend, self.intent_registry),
        )

    def find_problem(self, answers: Sequence[JsonValue | RpcRefused]) -> str | None:
        """Each view must say yes."""
        modifier = self.roles_modifier
        avatar, target = decode_view(AVATAR, answers[0]), decode_view(TARGET, answers[1])
        is_member, is_module = (decode_view(IS_MODULE_ENABLED, answer) for answer in answers[2:4])
        unwrapper = decode_view(UNWRAPPERS, answers[4])
        if (avatar, target) != (self.address, self.address):
            return f"the modifier {modifier} acts for avatar {avatar} and target {target}, not for {self.address}"
        if not is_module:
            return f"the Safe has not enabled the modifier {modifier}: its owners must call enableModule({modifier})"
        if not is_member:
            remedy = f"its owner must call assignRoles({self.operator}, [{self.role_key}], [true])"
            return f"our wallet {self.operator} has no role in the modifier {modifier}: {remedy}"
        if unwrapper == _NOBODY:
            remedy = "its owner must call setTransactionUnwrapper for multiSend(bytes)"
            return f"the modifier {modifier} cannot read batches of multisend = {self.multisend}: {remedy}"
        return find_missing_helper(self.multisend, self.intent_registry, answers[5:])

    def _unwrapper_key(self) -> bytes:
        """Where the modifier keeps the unwrapper of a function: the target's address, then the selector."""
        return address_bytes(self.multisend) + MULTI_SEND.selector + bytes(8)

    def _role_key(self) -> bytes:
        try:
            key = bytes.fromhex(self.role_key.removeprefix("0x"))
        except ValueError:
            key = b""
        if len(key) != ROLE_KEY_BYTES:
            raise AbiError(f"role_key = {self.role_key!r} is not 0x and {2 * ROLE_KEY_BYTES} hex digits")
        return key

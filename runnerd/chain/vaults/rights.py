"""Whether an account has a right at a vault, as far as the vault's own views tell: for accounts that must have none.

Asks what kinds of vault and their modules commonly offer, whatever kind this one is. A contract without such a view, or
that answers in another way, has said nothing. Pure.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from runnerd.chain.abi import AbiFunction, parse_function
from runnerd.chain.errors import AbiError, RpcRefused
from runnerd.chain.json_values import JsonValue
from runnerd.chain.jsonrpc import Request
from runnerd.chain.revert import is_execution_failure
from runnerd.chain.vaults.views import build_view, decode_view

_NAMED: Final = tuple(
    parse_function(f"{name}() view returns (address)") for name in ("operator", "owner", "pendingOwner", "guardian")
)
_LISTED: Final = tuple(
    parse_function(f"{name}(address account) view returns (bool)") for name in ("isOwner", "isModuleEnabled")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RightsQuestion:
    """About `account` (checksummed), to each of `contracts`: the vault, and the module through which it is served."""

    account: str
    contracts: Sequence[str]

    def requests(self) -> list[Request]:
        """All of it in one batch, at the newest block."""
        return [build_view(to, view, self._args(view)) for to in self.contracts for view in (*_NAMED, *_LISTED)]

    def find(self, answers: Sequence[JsonValue | RpcRefused]) -> str | None:
        """The first right, in words; None if none was found. Raises RpcRefused when the node did not ask."""
        asked = [(to, view) for to in self.contracts for view in (*_NAMED, *_LISTED)]
        for (to, view), answer in zip(asked, answers, strict=True):
            if isinstance(answer, RpcRefused) and not is_execution_failure(answer):
                raise answer
            try:
                said = decode_view(view, answer)
            except (AbiError, RpcRefused):
                continue
            if said is True or said == self.account:
                return f"{view.name} of {to}"
        return None

    def _args(self, view: AbiFunction) -> dict[str, str]:
        return {"account": self.account} if view.inputs else {}

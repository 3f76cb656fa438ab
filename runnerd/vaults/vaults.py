"""The adapter of a vault or a keeper, and whether the chain lets our wallet act through it.

Asked by admission before anything is signed, and by `runnerctl doctor`.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import assert_never

from runnerd.chain.address import parse_address
from runnerd.chain.errors import AbiError, RpcRefused
from runnerd.chain.revert import is_execution_failure, revert_reason
from runnerd.chain.rpc import NodeBatches
from runnerd.chain.vault import VaultAdapter
from runnerd.chain.vaults.direct import DirectKeeper
from runnerd.chain.vaults.eip7702 import Eip7702Vault
from runnerd.chain.vaults.erc7821 import Erc7821Vault
from runnerd.chain.vaults.roles import RolesVault
from runnerd.chain.vaults.safe import SafeVault
from runnerd.chain.vaults.safe_multisig import SafeMultisigVault
from runnerd.config.model import KeeperConfig, Place, VaultConfig
from runnerd.executor.executor import VaultDesk
from runnerd.network import Network
from runnerd.vaults.caps_mirror import CapsMirror


def build_adapter(place: Place, operator: str) -> VaultAdapter:
    """The configuration was checked: the keys that its adapter needs are there. `operator` is the wallet's address."""
    match place:
        case KeeperConfig():
            contracts = {name: parse_address(action.contract) for name, action in place.actions.items()}
            return DirectKeeper(operator=operator, contracts=contracts)
        case VaultConfig():
            return _build_vault(place, operator)
        case _:
            assert_never(place)


def address_of(place: Place, operator: str) -> str:
    """Who makes the calls: the vault, or a keeper's wallet itself."""
    return operator if isinstance(place, KeeperConfig) else place.address


def _build_vault(vault: VaultConfig, operator: str) -> VaultAdapter:
    match vault.adapter:
        case "erc7821":
            return Erc7821Vault(address=vault.address, operator=operator)
        case "eip7702":
            return Eip7702Vault(address=vault.address, operator=operator, delegate=_given(vault.delegate))
        case "safe":
            return SafeVault(
                address=vault.address, operator=operator, multisend=_given(vault.multisend),
                intent_registry=vault.intent_registry,
            )  # fmt: skip
        case "safe_multisig":
            return SafeMultisigVault(
                address=vault.address, operator=operator, multisend=_given(vault.multisend),
                intent_registry=vault.intent_registry,
            )  # fmt: skip
        case "roles":
            return RolesVault(
                address=vault.address, operator=operator, roles_modifier=_given(vault.roles_modifier),
                role_key=_given(vault.role_key), multisend=_given(vault.multisend),
                intent_registry=vault.intent_registry,
            )  # fmt: skip
        case _:
            assert_never(vault.adapter)


async def find_problem(node: NodeBatches, place: Place, operator: str) -> str | None:
    """Why `operator` may not act for the vault, or as the keeper; None if it may. Raises ChainError if no node says."""
    adapter = build_adapter(place, operator)
    answers = await node.batch(adapter.build_admission())
    for answer in answers:
        if isinstance(answer, RpcRefused) and not is_execution_failure(answer):
            raise answer  # a rate limit, or a node that lags: it says nothing of the vault
    try:
        return adapter.find_problem(answers)
    except AbiError as error:
        return f"{address_of(place, operator)} is not a vault of kind {place.adapter}: {error}"
    except RpcRefused as error:
        return (
            f"{address_of(place, operator)} does not answer as a vault of kind {place.adapter}: {revert_reason(error)}"
        )


def _given(key: str | None) -> str:
    assert key is not None  # `runnerd.config.check` has seen to it
    return key


def mirror_vaults(
    network: Network, desks: Sequence[VaultDesk], ids_on_the_way: Callable[[str], Mapping[int, bytes]]
) -> CapsMirror:
    """What the reference vaults of a chain allow by themselves is kept in step from now on, and their desks have it."""
    mirrored = [desk for desk in desks if isinstance(desk.adapter, Erc7821Vault)]
    mirror = CapsMirror(
        network,
        {desk.name: (desk.adapter.address, desk.catalogue, partial(ids_on_the_way, desk.name)) for desk in mirrored},
    )
    for desk in mirrored:
        desk.mirror = mirror
    return mirror

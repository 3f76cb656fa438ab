"""Whether we may act on a chain at all: its id, our wallets' nonces, and that each vault names us as its operator.

Asked once per start, before any plugin of the chain runs. A refusal is final until the operator mends it; an RPC error
proves nothing and is tried again by the caller.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

from runnerd.chain.erc7821 import Erc7821Vault
from runnerd.chain.errors import AbiError, RpcRefused
from runnerd.chain.types import decode_data
from runnerd.clock import Clock
from runnerd.config.model import VaultConfig
from runnerd.log import fields
from runnerd.network import Network
from runnerd.store import intents, workers
from runnerd.store.store import Store
from runnerd.wallets.signer import Signer

logger = logging.getLogger("runnerd.admission")


@dataclass(slots=True)
class Admission:
    """What was found: the next nonce of each wallet by address, the vaults refused and why, and who acted beside us."""

    chain_problem: str | None = None
    next_nonces: dict[str, int] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    foreign: dict[str, int] = field(default_factory=dict)
    """By wallet address: how many of its transactions on chain the ledger does not know."""


async def admit(
    network: Network, vaults: Mapping[str, VaultConfig], signers: Mapping[str, Signer], store: Store
) -> Admission:
    """Look at one chain and the vaults on it. Raises RpcUnavailable or RpcRefused when the node does not say."""
    admission = Admission()
    chain_id = await network.fetch_chain_id()
    if chain_id != network.config.id:
        wanted = f"[chains.{network.name}] says id = {network.config.id}"
        admission.chain_problem = f"the node serves chain {chain_id}, {wanted}: nothing is signed"
        return admission
    for name, vault in vaults.items():
        problem = await _operator_problem(network, vault, signers[vault.wallet].address)
        if problem is not None:
            admission.refused[name] = problem
    for address in sorted({signers[vault.wallet].address for vault in vaults.values()}):
        await _sync_nonce(network, address, store, admission)
    return admission


async def _operator_problem(network: Network, vault: VaultConfig, ours: str) -> str | None:
    adapter = Erc7821Vault(address=vault.address)
    to, data = adapter.operator_request()
    try:
        answer = await network.rpc.call("eth_call", [{"to": to, "data": "0x" + data.hex()}, "latest"])
        operator = adapter.decode_operator(decode_data(answer, "eth_call"))
    except AbiError as error:
        return f"{vault.address} is not a vault of kind {vault.adapter}: {error}"
    except RpcRefused as error:
        return f"{vault.address} does not name its operator: {error}"
    if operator != ours:
        return f"the vault's operator is {operator}, our wallet is {ours}: the owner must call setOperator({ours})"
    return None


async def _sync_nonce(network: Network, address: str, store: Store, admission: Admission) -> None:
    on_chain = await network.fetch_nonce(address)
    rows = await store.fetch(intents.wallet(network.config.id, address))
    if rows and on_chain > rows[0]["next_nonce"]:
        admission.foreign[address] = on_chain - rows[0]["next_nonce"]
    next_nonce = max(on_chain, rows[0]["next_nonce"] if rows else 0)
    await store.commit(intents.set_wallet(network.config.id, address, next_nonce))
    admission.next_nonces[address] = next_nonce


async def pause_for_foreign(
    admission: Admission, vaults: Mapping[str, VaultConfig], signers: Mapping[str, Signer], store: Store, clock: Clock
) -> None:
    """Pause every vault whose operator was used by somebody else: one operator regime per vault (DESIGN §8)."""
    for name, vault in vaults.items():
        count = admission.foreign.get(signers[vault.wallet].address)
        if count:
            by = f"runnerd: {count} transactions of the operator are not in the ledger"
            await store.commit(workers.pause("vault", name, by, clock.now()))
            logger.error(
                "vault %s is paused: %d transactions of its operator are not ours", name, count,
                extra=fields("foreign_transactions", vault=name, count=count),
            )  # fmt: skip

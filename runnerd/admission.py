"""Whether we may act on a chain at all: its id, our wallets' nonces, and that each vault names us as its operator.

Asked once per start, before any plugin of the chain runs. A refusal is final until the operator mends it; an RPC error
proves nothing and is tried again by the caller.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

from runnerd.chain.erc7821 import Erc7821Vault
from runnerd.chain.errors import AbiError, RpcRefused
from runnerd.chain.revert import is_execution_failure, revert_reason
from runnerd.chain.types import decode_data
from runnerd.clock import Clock
from runnerd.config.model import VaultConfig
from runnerd.crash_points import reached
from runnerd.log import fields
from runnerd.network import Network
from runnerd.pauses import Pause, Scope
from runnerd.store import intents, workers
from runnerd.store.ledger import Ledger
from runnerd.wallets.signer import Signer

logger = logging.getLogger("runnerd.admission")


@dataclass(slots=True)
class Admission:
    """What was found: the next nonce of each wallet by address, the vaults refused and why, and those paused by it."""

    chain_problem: str | None = None
    next_nonces: dict[str, int] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    pauses: list[Pause] = field(default_factory=list)
    """One for each vault whose operator sent transactions that the ledger does not know. They stand in the ledger."""


async def admit(
    network: Network, vaults: Mapping[str, VaultConfig], signers: Mapping[str, Signer], store: Ledger, clock: Clock
) -> Admission:
    """Look at one chain and the vaults on it. Raises ChainError when the node does not say, and StoreError."""
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
    foreign: dict[str, int] = {}
    for address in sorted({signers[vault.wallet].address for vault in vaults.values()}):
        on_chain = await network.fetch_nonce(address)
        rows = await store.fetch(intents.wallet(chain_id, address))
        ours = rows[0]["next_nonce"] if rows else on_chain
        foreign[address] = max(0, on_chain - ours)
        admission.next_nonces[address] = max(on_chain, ours)
    counts = {name: foreign[signers[vault.wallet].address] for name, vault in vaults.items()}
    admission.pauses = [
        Pause(Scope.VAULT, name, f"runnerd: {count} transactions of the operator are not in the ledger", clock.now())
        for name, count in counts.items()
        if count
    ]
    reached("wallet.storing")
    # One commit, after the last question: a nonce that was moved without its pause would hide the stranger for ever.
    await store.commit(
        *(intents.set_wallet(chain_id, address, nonce) for address, nonce in admission.next_nonces.items()),
        *(workers.pause(pause.scope.value, pause.name, pause.paused_by, pause.paused_at) for pause in admission.pauses),
    )
    reached("wallet.stored")
    for pause in admission.pauses:
        # Bot or human, not both: two who give out nonces for one operator replace each other's transactions.
        logger.error(
            "vault %s is paused: %d transactions of its operator are not ours", pause.name, counts[pause.name],
            extra=fields("foreign_transactions", vault=pause.name, count=counts[pause.name]),
        )  # fmt: skip
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
        if not is_execution_failure(error):
            raise  # a rate limit, or a node that lags: it says nothing of the vault
        return f"{vault.address} does not name its operator: {revert_reason(error)}"
    if operator != ours:
        return f"the vault's operator is {operator}, our wallet is {ours}: the owner must call setOperator({ours})"
    return None

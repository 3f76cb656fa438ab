"""Whether we may act on a chain at all: its id, our wallets' nonces, that each vault names us as its operator, and no
vault its keepers.

Asked once per start, before any plugin of the chain runs. A refusal is final until the operator mends it; an RPC error
proves nothing and is tried again by the caller.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

from runnerd.clock import Clock
from runnerd.config.model import KeeperConfig, Place, VaultConfig
from runnerd.crash_points import reached
from runnerd.executor.auditor import BY_US, WHAT_TO_DO
from runnerd.log import fields
from runnerd.network import Network
from runnerd.pauses import Pause, Scope
from runnerd.store import foreign, intents, workers
from runnerd.store.ledger import Ledger
from runnerd.vaults.keepers import find_right
from runnerd.vaults.vaults import find_problem
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
    network: Network, vaults: Mapping[str, Place], signers: Mapping[str, Signer], store: Ledger, clock: Clock
) -> Admission:
    """Look at one chain, its vaults and keepers. Raises ChainError when the node does not say, and StoreError."""
    admission = Admission()
    chain_id = await network.fetch_chain_id()
    if chain_id != network.config.id:
        wanted = f"[chains.{network.name}] says id = {network.config.id}"
        admission.chain_problem = f"the node serves chain {chain_id}, {wanted}: nothing is signed"
        return admission
    operated = {name: place for name, place in vaults.items() if isinstance(place, VaultConfig)}
    for name, place in vaults.items():
        address = signers[place.wallet].address
        problem = await find_problem(network.rpc, place, address)
        if problem is None and isinstance(place, KeeperConfig):
            problem = await find_right(network.rpc, address, operated)
        if problem is not None:
            admission.refused[name] = problem
    unknown: dict[str, range] = {}
    for address in sorted({signers[vault.wallet].address for vault in vaults.values()}):
        on_chain = await network.fetch_agreed_nonce(address)  # one node's lie would leave a gap for ever
        rows = await store.fetch(intents.wallet(chain_id, address))
        ours = rows[0]["next_nonce"] if rows else on_chain
        unknown[address] = range(ours, on_chain)
        admission.next_nonces[address] = max(on_chain, ours)
    counts = {name: len(unknown[signers[vault.wallet].address]) for name, vault in vaults.items()}
    now = clock.now()
    admission.pauses = [
        Pause(Scope.VAULT, name, f"{BY_US}s of the operator, {count} of them, are not ours: {WHAT_TO_DO}", now)
        for name, count in counts.items()
        if count
    ]
    reached("wallet.storing")
    # One commit, after the last question: a nonce that was moved without its pause would hide the stranger for ever.
    # Which transactions they are the auditor finds out, and says so in the pause.
    await store.commit(
        *(intents.set_wallet(chain_id, address, nonce) for address, nonce in admission.next_nonces.items()),
        *(foreign.used(chain_id, wallet, nonces, now) for wallet, nonces in unknown.items() if nonces),
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

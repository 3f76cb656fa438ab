"""What one attempt is made of: a simulation and fees at one block, and the bytes that are signed with them.

Keeps nothing and stores nothing: nonces, order and the ledger are the lane's.
"""

from collections.abc import Sequence

from runnerd.chain.abi import AbiFunction
from runnerd.chain.fees import build_fee_request, decode_fees
from runnerd.chain.rpc import NodeBatches
from runnerd.chain.simulate import CallMessage, Reverted, build_simulation, decode_simulation
from runnerd.chain.types import Block
from runnerd.executor.effect_checks import EffectChecks
from runnerd.executor.expectations import ExpectationBroken
from runnerd.executor.intent import Attempt, Intent, SimulationReverted
from runnerd.executor.tracked import Ready
from runnerd.network import Network
from runnerd.wallets.signer import Signer
from runnerd.wallets.transaction import UnsignedTransaction

FRESH_S = 0.25
"""A block that was fetched this recently is still the one to simulate at: nothing of ours can be in it anyway."""


async def prepare(
    network: Network, sender: str, intent: Intent, errors: Sequence[AbiFunction], checks: EffectChecks
) -> Ready | SimulationReverted | ExpectationBroken:
    """Simulate at the newest block, check effects and fetch fees, in one round trip. Raises what proves nothing.

    `errors` are the custom errors that a revert is named with.
    """
    message = CallMessage(sender=sender, to=intent.target, data=intent.calldata, value_wei=0)
    margin = round((network.config.gas_limit_factor - 1) * 100)

    async def look(node: NodeBatches, block: Block) -> Ready | SimulationReverted | ExpectationBroken:
        asked = checks.ask(intent, message, block, network.rpc.url_for_display)
        requests = [*build_simulation(block, message), build_fee_request(network.fees), *asked.requests]
        call, estimate, history, *effects = await node.batch(requests)
        simulated = decode_simulation(block, call, estimate, gas_margin_percent=margin, errors=errors)
        if isinstance(simulated, Reverted):
            return SimulationReverted(simulated.reason, block.number)
        broken = asked.judge(effects, errors)
        if broken is not None:
            return broken
        return Ready(block, simulated.gas_limit, decode_fees(history, network.fees))

    return await network.at_newest_block(look, FRESH_S)


def sign_attempt(signer: Signer, intent: Intent, nonce: int, ready: Ready) -> Attempt:
    """The signed transaction of `intent` at `nonce`. Raises WalletError."""
    signed = signer.sign(
        UnsignedTransaction(
            chain_id=intent.chain_id,
            nonce=nonce,
            to=intent.target,
            value_wei=0,
            data=intent.calldata,
            gas_limit=ready.gas_limit,
            max_fee_per_gas_wei=ready.fees.max_fee_per_gas_wei,
            max_priority_fee_per_gas_wei=ready.fees.max_priority_fee_per_gas_wei,
        )
    )
    return Attempt(
        hash=signed.hash,
        raw=signed.raw,
        fees=ready.fees,
        gas_limit=ready.gas_limit,
        signed_block=ready.block.number,
    )

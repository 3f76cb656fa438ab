"""Asks a node what the executor asks it, one thing at a time: for tests of what a simulation or a fee history means."""

from collections.abc import Sequence

from runnerd.chain.abi_types import AbiFunction
from runnerd.chain.fees import FeeSettings, Market, build_fee_request, decode_market
from runnerd.chain.rpc import NodeCalls
from runnerd.chain.simulate import CallMessage, Reverted, Simulated, build_simulation, decode_simulation
from runnerd.chain.types import Block


async def simulate(
    rpc: NodeCalls,
    block: Block,
    message: CallMessage,
    *,
    gas_margin_percent: int = 20,
    errors: Sequence[AbiFunction] = (),
) -> Simulated | Reverted:
    """Run `message` on the state after `block`."""
    (estimate,) = await rpc.batch([build_simulation(block, message)])
    return decode_simulation(block, estimate, gas_margin_percent=gas_margin_percent, errors=errors)


async def fetch_market(rpc: NodeCalls, settings: FeeSettings, *, is_legacy: bool = False) -> Market:
    """What one node says the next block asks."""
    (answer,) = await rpc.batch([build_fee_request(settings, is_legacy=is_legacy)])
    return decode_market(answer, settings, is_legacy=is_legacy)

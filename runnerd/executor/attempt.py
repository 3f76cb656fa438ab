"""What one attempt is made of: a simulation and fees at one block, and the bytes that are signed with them.

Keeps nothing and stores nothing: nonces, order and the ledger are the lane's. The one place that asks a signer to sign.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice

from runnerd.chain.abi import AbiFunction
from runnerd.chain.errors import ChainError, RpcRefused
from runnerd.chain.fees import Fees, Market, build_fee_request, decode_market
from runnerd.chain.json_values import JsonValue
from runnerd.chain.jsonrpc import Request
from runnerd.chain.rpc import NodeBatches
from runnerd.chain.simulate import CallMessage, Reverted, build_check, build_simulation, decode_check, decode_simulation
from runnerd.chain.types import Block, decode_count
from runnerd.executor.effect_checks import EffectChecks, EffectQuestion
from runnerd.executor.observation import SimulationReverted
from runnerd.executor.stranger import build_stranger, judge_stranger
from runnerd.executor.wanted import Attempt, AttemptKind, Intent
from runnerd.network import NamedNode, Network
from runnerd.wallets.signer import Signer
from runnerd.wallets.transaction import SignedTransaction, UnsignedTransaction

FRESH_S = 0.25
"""A block that was fetched this recently is still the one to simulate at: nothing of ours can be in it anyway."""
NOOP_GAS = 21_000
"""A transfer of nothing (Yellow Paper, G_transaction). Where the estimate fails, for a delegated account perhaps, this
is what it gets: it may fail, but its nonce is used all the same, and that is all that a no-op is for."""
MAX_NOOP_GAS = 2_000_000
"""Some chains charge for data in gas, so that it costs more than elsewhere; beyond this no node is believed."""


@dataclass(frozen=True, slots=True)
class Ready:
    """What signing needs, all of one block: the simulation there succeeded."""

    block: Block
    gas_limit: int
    market: Market


Prepared = Ready | SimulationReverted | ChainError
"""A ChainError proves nothing: it is for this one intent, and the others of its batch have their own."""


async def prepare(
    network: Network,
    sender: str,
    intents: Sequence[Intent],
    errors: Sequence[AbiFunction],
    checks: EffectChecks,
    is_keeper: bool = False,
) -> list[Prepared]:
    """Simulate each at the newest block, check its effects, and fetch fees: all in one round trip.

    `errors` are the custom errors that a revert is named with. `is_keeper`: each must succeed for a stranger as well.
    Raises what proves nothing of any.
    """

    async def look(node: NamedNode, block: Block) -> list[Prepared]:
        settings, is_legacy = network.fees, network.is_legacy(block)
        requests: list[Request] = [build_fee_request(settings, is_legacy=is_legacy)]
        questions: list[tuple[EffectQuestion, int]] = []
        for intent in intents:
            message = CallMessage(sender=sender, to=intent.target, data=intent.calldata, value_wei=0)
            question = checks.ask(intent, message, block, node.name)
            of_effects = question.requests  # none for an intent that expects nothing
            questions.append((question, len(of_effects)))
            of_stranger = [build_stranger(block, message)] if is_keeper else []
            requests += [build_simulation(block, message), *of_stranger, *of_effects]
        answer, *answers = await node.batch(requests)
        market = decode_market(answer, settings, is_legacy=is_legacy)
        rest = iter(answers)
        prepared = [
            _prepared(
                network, question, next(rest), next(rest) if is_keeper else None, list(islice(rest, count)), market,
                errors, is_keeper=is_keeper,
            )
            for question, count in questions
        ]  # fmt: skip
        refused = [each for each in prepared if isinstance(each, RpcRefused)]
        if refused and len(refused) == len(prepared):
            raise refused[0]  # it could not serve this block at all: asked again at a newer one
        return prepared

    return await network.at_newest_block(look, FRESH_S)


Checked = SimulationReverted | ChainError | None


async def check(
    network: Network, sender: str, intents: Sequence[Intent], errors: Sequence[AbiFunction]
) -> list[Checked]:
    """Run what each has signed last at the newest block, all in one round trip; None for what succeeds there.

    Raises what proves nothing of any.
    """

    async def look(node: NodeBatches, block: Block) -> list[Checked]:
        requests: list[Request] = []
        for intent in intents:
            message = CallMessage(sender=sender, to=intent.target, data=intent.calldata, value_wei=0)
            requests.append(build_check(block, message, intent.latest.gas_limit))
        checked = [_checked(block, answer, errors) for answer in await node.batch(requests)]
        refused = [each for each in checked if isinstance(each, RpcRefused)]
        if refused and len(refused) == len(checked):
            raise refused[0]  # it could not serve this block at all: asked again at a newer one
        return checked

    return await network.at_newest_block(look, FRESH_S)


async def prepare_noop(network: Network, wallet: str) -> tuple[Ready, int]:
    """What a no-op is signed with, and how many nonces of `wallet` are used at that block. Raises ChainError."""

    async def look(node: NodeBatches, block: Block) -> tuple[Ready, int]:
        # No cap: what has to be got rid of must not stay because it is dear to do so. It is 21,000 gas.
        is_legacy, settings = network.is_legacy(block), replace(network.fees, max_fee_cap_wei=1 << 63)
        requests: list[Request] = [
            build_fee_request(settings, is_legacy=is_legacy),
            ("eth_getTransactionCount", [wallet, "latest"]),
            build_simulation(block, CallMessage(sender=wallet, to=wallet, data=b"")),
        ]
        history, used, estimate = await node.batch(requests)
        market = decode_market(history, settings, is_legacy=is_legacy)
        if isinstance(used, RpcRefused):
            raise used
        gas_limit = _noop_gas(network, block, estimate)
        return Ready(block, gas_limit, market), decode_count(used, "eth_getTransactionCount")

    return await network.at_newest_block(look, FRESH_S)


def _noop_gas(network: Network, block: Block, estimate: JsonValue | RpcRefused) -> int:
    try:
        exact = decode_simulation(block, estimate, gas_margin_percent=0)
        simulated = decode_simulation(block, estimate, gas_margin_percent=_margin_percent(network))
    except ChainError:  # a no-op needs no simulation
        return NOOP_GAS
    if isinstance(exact, Reverted) or isinstance(simulated, Reverted) or exact.gas_limit <= NOOP_GAS:
        return NOOP_GAS
    return min(simulated.gas_limit, MAX_NOOP_GAS)


def _margin_percent(network: Network) -> int:
    return round((network.config.gas_limit_factor - 1) * 100)


async def sign_attempt(signer: Signer, intent: Intent, nonce: int, ready: Ready, fees: Fees) -> Attempt:
    """The batch of `intent`, as the ledger has it, signed at `nonce`. Raises WalletError; SignerUnavailable passes."""
    signed = await _sign(signer, intent.chain_id, nonce, intent.target, intent.calldata, ready, fees)
    return _attempt(signed, ready, fees, AttemptKind.BATCH)


async def sign_cancel(signer: Signer, intent: Intent, nonce: int, ready: Ready, fees: Fees) -> Attempt:
    """The no-op that cancels `intent` at `nonce`. Raises WalletError."""
    signed = await sign_noop(signer, intent.chain_id, nonce, ready, fees)
    return _attempt(signed, ready, fees, AttemptKind.NOOP)


async def sign_noop(signer: Signer, chain_id: int, nonce: int, ready: Ready, fees: Fees) -> SignedTransaction:
    """A transfer of nothing to ourselves, which uses the nonce. Raises WalletError."""
    return await _sign(signer, chain_id, nonce, signer.address, b"", ready, fees)


async def _sign(
    signer: Signer, chain_id: int, nonce: int, to: str, data: bytes, ready: Ready, fees: Fees
) -> SignedTransaction:
    transaction = UnsignedTransaction(
        chain_id=chain_id,
        nonce=nonce,
        to=to,
        value_wei=0,
        data=data,
        gas_limit=ready.gas_limit,
        max_fee_per_gas_wei=fees.max_fee_per_gas_wei,
        max_priority_fee_per_gas_wei=fees.max_priority_fee_per_gas_wei,
        is_legacy=ready.market.is_legacy,
    )
    return await signer.sign(transaction)


def _attempt(signed: SignedTransaction, ready: Ready, fees: Fees, kind: AttemptKind) -> Attempt:
    return Attempt(
        hash=signed.hash,
        raw=signed.raw,
        fees=fees,
        gas_limit=ready.gas_limit,
        signed_block=ready.block.number,
        kind=kind,
    )


def _prepared(
    network: Network,
    question: EffectQuestion,
    estimate: JsonValue | RpcRefused,
    stranger: JsonValue | RpcRefused,
    effects: Sequence[JsonValue | RpcRefused],
    market: Market,
    errors: Sequence[AbiFunction],
    *,
    is_keeper: bool,
) -> Prepared:
    block, margin = question.block, _margin_percent(network)
    try:
        simulated = decode_simulation(block, estimate, gas_margin_percent=margin, errors=errors)
        if isinstance(simulated, Reverted):
            return SimulationReverted(simulated.reason, block.number)
        objection = judge_stranger(block, question.message.sender, stranger, errors) if is_keeper else None
        objection = objection or question.judge(effects, errors)
    except ChainError as error:
        return error
    return objection or Ready(block, simulated.gas_limit, market)


def _checked(block: Block, answer: JsonValue | RpcRefused, errors: Sequence[AbiFunction]) -> Checked:
    try:
        reverted = decode_check(answer, errors=errors)
    except ChainError as error:
        return error
    return None if reverted is None else SimulationReverted(reverted.reason, block.number)

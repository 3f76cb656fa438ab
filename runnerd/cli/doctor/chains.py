"""Each chain's node: reachable, of the configured chain. Each vault on it: whether it lets our wallet act.

Only asks. Node urls are shown without what may be secret in them.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from runnerd.chain.address import checksum_address
from runnerd.chain.errors import ChainError, RpcRefused, RpcUnavailable
from runnerd.chain.rpc import NodeCalls, Rpc
from runnerd.chain.types import decode_quantity
from runnerd.cli.doctor.finding import Finding, bad, good, weak
from runnerd.cli.text import ether
from runnerd.config.model import ChainConfig, Config, VaultConfig
from runnerd.vaults import find_problem

TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class _Chain:
    name: str
    config: ChainConfig
    vaults: Mapping[str, VaultConfig]


def examine_chains(config: Config, addresses: Mapping[str, str]) -> dict[str, list[Finding]]:
    """Findings by chain. `addresses` holds the address of each wallet whose keystore names one."""
    chains = [
        _Chain(name, chain, {key: vault for key, vault in config.vaults.items() if vault.chain == name})
        for name, chain in config.chains.items()
    ]
    return asyncio.run(_examine_all(chains, addresses))


async def _examine_all(chains: list[_Chain], addresses: Mapping[str, str]) -> dict[str, list[Finding]]:
    found = await asyncio.gather(*(_examine(chain, addresses) for chain in chains))
    return {chain.name: findings for chain, findings in zip(chains, found, strict=True)}


async def _examine(chain: _Chain, addresses: Mapping[str, str]) -> list[Finding]:
    async with Rpc(chain.config.rpc, timeout_s=min(TIMEOUT_S, chain.config.rpc_timeout_s)) as rpc:
        try:
            chain_id = decode_quantity(await rpc.call("eth_chainId", []), "eth_chainId")
            head = decode_quantity(await rpc.call("eth_blockNumber", []), "eth_blockNumber")
        except ChainError as error:
            remedy = f"check the node and chains.{chain.name}.rpc"
            return [bad("node", str(error), cost="its plugins do not run", remedy=remedy)]
        if chain_id != chain.config.id:
            text = f"{rpc.url_for_display} serves chain {chain_id}, the configuration says {chain.config.id}"
            return [bad("node", text, cost="nothing is signed", remedy=f"correct chains.{chain.name}.id or rpc")]
        found = [good("node", f"{rpc.url_for_display}: chain {chain_id}, block {head}")]
        found += [await _vault(rpc, name, vault, addresses.get(vault.wallet)) for name, vault in chain.vaults.items()]
        used = sorted({vault.wallet for vault in chain.vaults.values()} & addresses.keys())
        return [*found, *[await _balance(rpc, wallet, addresses[wallet]) for wallet in used]]


async def _vault(rpc: NodeCalls, name: str, config: VaultConfig, ours: str | None) -> Finding:
    subject = f"vault {name}"
    if ours is None:
        return weak(subject, f"wallet {config.wallet} does not name its address", cost="not known whether we may act")
    try:
        problem = await find_problem(rpc, config, checksum_address(ours))
    except (RpcUnavailable, RpcRefused) as error:
        return weak(subject, str(error), cost="not known whether we may act for it")
    if problem is not None:
        remedy = f"its owner must change it, or correct vaults.{name}"
        return bad(subject, problem, cost="its plugins are refused", remedy=remedy)
    return good(subject, f"{config.address} lets wallet {config.wallet} act")


async def _balance(rpc: NodeCalls, wallet: str, address: str) -> Finding:
    subject = f"gas of {wallet}"
    try:
        balance_wei = decode_quantity(await rpc.call("eth_getBalance", [address, "latest"]), "eth_getBalance")
    except ChainError as error:
        return weak(subject, str(error), cost="not known whether it can pay for gas")
    if balance_wei == 0:
        return bad(subject, f"{address} has nothing", cost="no transaction can be sent", remedy=f"fund {address}")
    return good(subject, f"{ether(balance_wei)} at {checksum_address(address)}")

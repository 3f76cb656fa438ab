"""Each chain's nodes: reachable, of the configured chain, enough for a quorum. Each vault: it lets our wallet act.

Only asks. Node urls are shown without what may be secret in them.
"""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass

from runnerd.chain.address import checksum_address
from runnerd.chain.errors import ChainError, RpcRefused, RpcUnavailable
from runnerd.chain.rpc import NodeCalls, Rpc
from runnerd.chain.types import decode_quantity
from runnerd.cli.doctor.finding import Finding, bad, good, weak
from runnerd.cli.text import ether
from runnerd.config.model import ChainConfig, Config, KeeperConfig, Place, VaultConfig
from runnerd.vaults.keepers import find_right
from runnerd.vaults.vaults import find_problem

TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class _Chain:
    name: str
    config: ChainConfig
    places: Mapping[str, Place]


def examine_chains(config: Config, addresses: Mapping[str, str]) -> dict[str, list[Finding]]:
    """Findings by chain. `addresses` holds the address of each wallet whose keystore names one."""
    chains = [
        _Chain(name, chain, {key: place for key, place in config.places.items() if place.chain == name})
        for name, chain in config.chains.items()
    ]
    return asyncio.run(_examine_all(chains, addresses))


async def _examine_all(chains: list[_Chain], addresses: Mapping[str, str]) -> dict[str, list[Finding]]:
    found = await asyncio.gather(*(_examine(chain, addresses) for chain in chains))
    return {chain.name: findings for chain, findings in zip(chains, found, strict=True)}


async def _examine(chain: _Chain, addresses: Mapping[str, str]) -> list[Finding]:
    async with AsyncExitStack() as opened:
        timeout_s = min(TIMEOUT_S, chain.config.rpc_timeout_s)
        nodes = [await opened.enter_async_context(Rpc(url, timeout_s=timeout_s)) for url in chain.config.urls]
        looks = await asyncio.gather(*(_look(node, chain) for node in nodes))
        found = [
            look if isinstance(look, Finding) else _node(node, chain, look)
            for node, look in zip(nodes, looks, strict=True)
        ]
        heads = {i: look for i, look in enumerate(looks) if isinstance(look, int)}
        if not heads:
            return found
        highest = max(heads, key=lambda i: heads[i])
        rpc = nodes[highest]
        found += [await _place(rpc, chain, name, addresses) for name in chain.places]
        used = sorted({place.wallet for place in chain.places.values()} & addresses.keys())
        found += [await _balance(rpc, wallet, addresses[wallet]) for wallet in used]
        lag = chain.config.max_lag_blocks
        found.append(_quorum(chain, sum(head >= heads[highest] - lag for head in heads.values())))
        if chain.config.private_rpc is not None:
            private = await opened.enter_async_context(Rpc(chain.config.private_rpc, timeout_s=timeout_s))
            found.append(await _private(private, chain))
        return found


async def _look(rpc: Rpc, chain: _Chain) -> int | Finding:
    """The node's height, or what is wrong with it."""
    is_lone = len(chain.config.urls) == 1
    try:
        chain_id = decode_quantity(await rpc.call("eth_chainId", []), "eth_chainId")
        head = decode_quantity(await rpc.call("eth_blockNumber", []), "eth_blockNumber")
    except ChainError as error:
        remedy = f"check the node and chains.{chain.name}.rpc"
        return bad("node", str(error), cost="its plugins do not run" if is_lone else "it is not asked", remedy=remedy)
    if chain_id != chain.config.id:
        text = f"{rpc.url_for_display} serves chain {chain_id}, the configuration says {chain.config.id}"
        cost = "nothing is signed" if is_lone else "it is not asked"
        return bad("node", text, cost=cost, remedy=f"correct chains.{chain.name}.id or rpc")
    return head


def _node(rpc: Rpc, chain: _Chain, head: int) -> Finding:
    return good("node", f"{rpc.url_for_display}: chain {chain.config.id}, block {head}")


def _quorum(chain: _Chain, well: int) -> Finding:
    needed, nodes = chain.config.needed_nodes, len(chain.config.urls)
    if needed > well:
        cost = "nothing is proven: no nonce is given again, no result becomes final"
        text = f"{needed} nodes must agree, {well} of {nodes} are well and at the same height"
        return bad("quorum", text, cost=cost, remedy="mend the others")
    if needed == 1:
        cost = "a node that lies or is wrong can make a transaction be made twice"
        remedy = f"name a second node, of another operator, in chains.{chain.name}.rpc"
        return weak("quorum", "what one node says is taken as proof", cost=cost, remedy=remedy)
    return good("quorum", f"{needed} of {nodes} nodes must agree, {well} are well")


async def _private(rpc: Rpc, chain: _Chain) -> Finding:
    """Whether it is there; not every one answers more than the one method it is for."""
    try:
        chain_id = decode_quantity(await rpc.call("eth_chainId", []), "eth_chainId")
    except RpcRefused:
        return good("private", f"{rpc.url_for_display} answers, and does not name its chain")
    except ChainError as error:
        return weak("private", str(error), cost="what must go the private way waits")
    if chain_id != chain.config.id:
        text = f"{rpc.url_for_display} serves chain {chain_id}, the configuration says {chain.config.id}"
        return bad(
            "private", text, cost="what is sent there is lost", remedy=f"correct chains.{chain.name}.private_rpc"
        )
    return good("private", f"{rpc.url_for_display}: chain {chain_id}")


async def _place(rpc: Rpc, chain: _Chain, name: str, addresses: Mapping[str, str]) -> Finding:
    config = chain.places[name]
    ours, is_keeper = addresses.get(config.wallet), isinstance(config, KeeperConfig)
    subject = f"{'keeper' if is_keeper else 'vault'} {name}"
    if ours is None:
        return weak(subject, f"wallet {config.wallet} does not name its address", cost="not known whether we may act")
    try:
        problem = await find_problem(rpc, config, checksum_address(ours))
        if problem is None and is_keeper:
            vaults = {key: vault for key, vault in chain.places.items() if isinstance(vault, VaultConfig)}
            problem = await find_right(rpc, checksum_address(ours), vaults)
    except (RpcUnavailable, RpcRefused) as error:
        return weak(subject, str(error), cost="not known whether we may act for it")
    if problem is not None:
        remedy = f"correct keepers.{name}" if is_keeper else f"its owner must change it, or correct vaults.{name}"
        return bad(subject, problem, cost="its plugins are refused", remedy=remedy)
    if isinstance(config, KeeperConfig):
        return good(subject, f"wallet {config.wallet} is a plain account without a right at a vault here")
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

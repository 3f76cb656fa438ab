"""A coin and a venue whose terms may change under a Decision's feet, beside a bench's vault."""

from functools import cache
from pathlib import Path
from typing import Any

from vyper.compiler import compile_code
from web3.contract import Contract

from protocol.actions import Action
from runnerd.config.grants import ActionGrant, ReadGrant
from runnerd.config.model import VaultConfig
from tests.support.anvil import Anvil
from tests.support.contracts import deploy_code
from tests.support.executor_bench import ETHER, Ground, make_ground
from tests.support.rpc_proxy import RpcProxy

SOURCES = Path(__file__).resolve().parents[1] / "contracts"


class SwapGround(Ground):
    """A ground whose vault may also swap, name the coin, and read the venue's price."""

    coin: Contract
    swap: Contract

    @property
    def vault_config(self) -> VaultConfig:
        venue = self.swap.address
        reads = {
            "price": "price() view returns (uint256)",
            "change": "change() view returns (int256)",
            "converted": "converted(uint256 shares) view returns (uint256)",
            "state": "state() view returns (uint256, uint256)",
        }
        return VaultConfig(
            chain="local",
            address=self.vault.address,
            wallet="hot",
            max_value_wei_per_day=10 * ETHER,
            **{"expect_tokens": (self.coin.address,), **self.grant},
            reads={name: ReadGrant(contract=venue, function=function) for name, function in reads.items()},
            actions={"swap": ActionGrant(contract=venue, function="swap() payable", max_value_wei=ETHER)},
        )

    def set_terms(
        self, payout: int, *, refund: int = 0, shift: int = 0, is_silent: bool = False, is_mined: bool = True
    ) -> None:
        """What the next swap does; not mined: it comes before whatever waits in the pool."""
        send = self.send_mined if is_mined else self.send
        send(self.swap.functions.setTerms(payout, refund, shift, is_silent), gasPrice=10**12)


def make_swap_ground(node: Anvil, proxy: RpcProxy, dsn: str) -> SwapGround:
    """A vault that may swap at a venue with a million coins, which pays 1,000 for each swap."""
    bare = make_ground(node, proxy, dsn)
    ground = SwapGround(node=node, proxy=proxy, dsn=dsn, w3=bare.w3, vault=bare.vault, market=bare.market, key=bare.key)
    node.rpc("evm_setAutomine", True)
    ground.coin = _deploy(ground, "Coin")
    ground.swap = _deploy(ground, "Swap", ground.coin.address)
    node.rpc("anvil_setBalance", ground.swap.address, hex(100 * ETHER))
    ground.send_mined(ground.coin.functions.mint(ground.swap.address, 10**6))
    ground.send_mined(
        ground.vault.functions.setAllowed(ground.swap.address, bytes.fromhex(_selector(ground.swap)), True)
    )
    node.rpc("evm_setAutomine", False)
    ground.set_terms(1_000)
    return ground


def swap(value_wei: int = 7) -> Action:
    """Ether against coins."""
    return Action("swap", {}, value_wei)


@cache
def compiled(name: str) -> dict[str, Any]:
    """ABI and bytecode of a contract of the tests."""
    output: dict[str, Any] = compile_code((SOURCES / f"{name}.vy").read_text(), output_formats=("abi", "bytecode"))
    return output


def _deploy(ground: Ground, name: str, *arguments: object) -> Contract:
    code = compiled(name)
    address = deploy_code(ground.w3, code["abi"], code["bytecode"], *arguments)
    return ground.w3.eth.contract(address, abi=code["abi"])


def _selector(contract: Contract) -> str:
    return str(contract.encode_abi("swap", args=[])).removeprefix("0x")[:8]

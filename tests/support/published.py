"""Published contracts on a real node: Safe and Zodiac Roles, from their own npm packages below `.tools/contracts`.

`make install` puts them there. Nothing of the packages is run: their bytecode is read and deployed. Without web3, whose
sessions would stay open.
"""

import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from eth_abi.abi import encode
from eth_hash.auto import keccak

from runnerd.chain.address import checksum_address
from tests.support.anvil import Anvil
from tests.support.contracts import load_artifact

PACKAGES = Path(__file__).resolve().parents[2] / ".tools/contracts"
SAFE_ARTIFACTS = PACKAGES / "@safe-global/safe-smart-account/build/artifacts/contracts"
ROLES_BUILD = PACKAGES / "zodiac-roles-sdk/build"
ZERO = "0x" + "00" * 20
DEADLINE_S = 10.0
GAS = 12_000_000

SAFE_FILES = {
    "singleton": "Safe.sol/Safe.json",
    "factory": "proxies/SafeProxyFactory.sol/SafeProxyFactory.json",
    "multisend": "libraries/MultiSendCallOnly.sol/MultiSendCallOnly.json",
    "fallback": "handler/CompatibilityFallbackHandler.sol/CompatibilityFallbackHandler.json",
}
SETUP_TYPES = ["address[]", "uint256", "address", "bytes", "address", "address", "uint256", "address"]
LIBRARIES = {"Packer": "contracts/packers/Packer.sol:Packer", "Integrity": "contracts/Integrity.sol:Integrity"}

SINGLETON_FACTORY = "0xce0042B868300000d44A59004Da54A005ffdcf9f"
SINGLETON_DEPLOYER = "0xBb6e024b9cFFACB947A71991E386681B1Cd1477D"
SINGLETON_TRANSACTION = (
    "0xf9016c8085174876e8008303c4d88080b90154608060405234801561001057600080fd5b50610134806100206000396000f3fe608060"
    "4052348015600f57600080fd5b506004361060285760003560e01c80634af63f0214602d575b600080fd5b60cf60048036036040811015"
    "604157600080fd5b810190602081018135640100000000811115605b57600080fd5b820183602082011115606c57600080fd5b80359060"
    "200191846001830284011164010000000083111715608d57600080fd5b91908080601f0160208091040260200160405190810160405280"
    "93929190818152602001838380828437600092019190915250929550509135925060eb915050565b604080516001600160a01b03909216"
    "8252519081900360200190f35b6000818351602085016000f5939250505056fea26469706673582212206b44f8a82cb6b156bfcc3dc6aa"
    "dd6df4eefd204bc928a4397fd15dacf6d5320564736f6c634300060200331b83247000822470"
)
"""Nick's method, https://eips.ethereum.org/EIPS/eip-2470: nobody has the deployer's key, so these bytes are the only
ones. A Roles modifier writes its conditions through this factory."""


class Chain:
    """A node, and its first account as who deploys and configures."""

    def __init__(self, anvil: Anvil) -> None:
        self.anvil = anvil
        self.owner = checksum_address(anvil.accounts[0])

    def send(self, data: bytes, to: str | None = None, sender: str | None = None) -> dict[str, Any]:
        """The receipt of a transaction of an account that the node has unlocked, whatever its outcome."""
        fields = {
            "from": sender or self.owner,
            "data": "0x" + data.hex(),
            "gas": hex(GAS),
            **({"to": to} if to else {}),
        }
        return self.receipt(self.anvil.rpc("eth_sendTransaction", fields))

    def receipt(self, transaction: str) -> dict[str, Any]:
        """As soon as it is mined."""
        until = time.monotonic() + DEADLINE_S
        while True:
            receipt = self.anvil.rpc("eth_getTransactionReceipt", transaction)
            if receipt is not None:
                found: dict[str, Any] = receipt
                return found
            assert time.monotonic() < until, f"not mined: {transaction}"
            time.sleep(0.002)  # between two looks

    def do(self, to: str, signature: str, *arguments: object, sender: str | None = None) -> None:
        """Call a function, which must succeed."""
        receipt = self.send(calldata(signature, *arguments), to, sender)
        assert receipt["status"] == "0x1", f"{signature} reverted"

    def view(self, to: str, signature: str, *arguments: object) -> bytes:
        """What a view returns, undecoded."""
        call = {"to": to, "data": "0x" + calldata(signature, *arguments).hex()}
        return bytes.fromhex(self.anvil.rpc("eth_call", call, "latest")[2:])

    def deploy(self, creation_code: bytes) -> str:
        """The address of a new contract."""
        receipt = self.send(creation_code)
        assert receipt["status"] == "0x1", "not deployed"
        return checksum_address(receipt["contractAddress"])

    def deploy_ours(self, name: str, constructor_args: bytes = b"") -> str:
        """One of deploy/contracts."""
        return self.deploy(bytes.fromhex(load_artifact(name)["bytecode"][2:]) + constructor_args)

    def fund(self, address: str, ether: int = 10) -> None:
        """Give it ether."""
        self.anvil.rpc("anvil_setBalance", address, hex(ether * 10**18))


def calldata(signature: str, *arguments: object) -> bytes:
    """Of `name(types)`, without tuples."""
    types = signature[signature.index("(") + 1 : -1]
    return keccak(signature.encode())[:4] + encode(_split(types), arguments)


def _split(types: str) -> list[str]:
    """By the commas that are in no bracket."""
    return re.findall(r"\((?:[^()]*)\)(?:\[\])?|[^,()]+", types)


@dataclass(frozen=True, slots=True)
class SafeKit:
    """The singletons that every Safe of a chain shares."""

    singleton: str
    factory: str
    multisend: str
    fallback: str


def deploy_safe_kit(chain: Chain) -> SafeKit:
    """As published, version 1.5.0."""
    return SafeKit(**{name: chain.deploy(_safe_code(file)) for name, file in SAFE_FILES.items()})


def create_safe(chain: Chain, kit: SafeKit, owners: Sequence[str], threshold: int, *, ether: int = 10) -> str:
    """A new Safe with ether, made by its factory."""
    setup = calldata(f"setup({','.join(SETUP_TYPES)})", owners, threshold, ZERO, b"", kit.fallback, ZERO, 0, ZERO)
    salt = chain.anvil.rpc("eth_getTransactionCount", chain.owner, "latest")
    data = calldata("createProxyWithNonce(address,bytes,uint256)", kit.singleton, setup, int(salt, 16))
    receipt = chain.send(data, kit.factory)
    created = "0x" + keccak(b"ProxyCreation(address,address)").hex()
    (log,) = [log for log in receipt["logs"] if log["topics"][0] == created]
    safe = checksum_address("0x" + log["topics"][1][-40:])
    chain.fund(safe, ether)
    return safe


def deploy_roles(chain: Chain, owner: str, avatar: str) -> str:
    """A Roles modifier (v2) with its libraries. Needs a node without the limit of code size."""
    if chain.anvil.rpc("eth_getCode", SINGLETON_FACTORY, "latest") == "0x":
        chain.fund(SINGLETON_DEPLOYER, 1)
        chain.receipt(chain.anvil.rpc("eth_sendRawTransaction", SINGLETON_TRANSACTION))
    libraries = {name: chain.deploy(_roles_code(name)) for name in LIBRARIES}
    code = _roles_code("Roles", libraries)
    return chain.deploy(code + encode(["address"] * 3, [owner, avatar, avatar]))


def deploy_unwrapper(chain: Chain) -> str:
    """What a Roles modifier reads batches of MultiSend with."""
    return chain.deploy(_roles_code("MultiSendUnwrapper"))


@cache
def _safe_code(file: str) -> bytes:
    artifact = json.loads((SAFE_ARTIFACTS / file).read_text())
    return bytes.fromhex(artifact["bytecode"].removeprefix("0x"))


@cache
def _roles_source() -> str:
    (file,) = ROLES_BUILD.glob("typechain-*.mjs")
    return file.read_text()


def _roles_code(name: str, libraries: Mapping[str, str] | None = None) -> bytes:
    """The creation code of a contract, with the addresses of its libraries in the places that the compiler left."""
    pattern = rf'//#region [^\n]*/{name}__factory\.ts\n.*?_bytecode[$\d]* = "0x([^"]+)"'
    match = re.search(pattern, _roles_source(), re.DOTALL)
    assert match is not None, f"no bytecode of {name} in {ROLES_BUILD}"
    code = match.group(1)
    for library, address in (libraries or {}).items():
        placeholder = f"__${keccak(LIBRARIES[library].encode()).hex()[:34]}$__"
        assert placeholder in code
        code = code.replace(placeholder, address[2:].lower())
    return bytes.fromhex(code)

"""Measures this area on the machine at hand: `python -m tests.chain.bench_chain`. Prints p50 and p99 in µs.

Node calls go to anvil with interval mining, one after the other from one uvloop; the rest is pure computing.
"""

import itertools
import statistics
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import uvloop
from eth_account import Account

from runnerd.chain.abi import decode_outputs, encode_call, parse_function
from runnerd.chain.fees import FeeSettings, build_fee_request, decode_market
from runnerd.chain.head import Head
from runnerd.chain.reads import ReadRequest, fetch_reads
from runnerd.chain.rpc import Rpc
from runnerd.chain.simulate import CallMessage, Simulated, build_simulation, decode_simulation
from runnerd.chain.types import decode_quantity
from runnerd.chain.vault import Call
from runnerd.chain.vaults.erc7821 import Erc7821Vault
from runnerd.wallets.keystore import KeystoreSigner, create_keystore, unlock_keystore
from runnerd.wallets.passphrase import Passphrase
from runnerd.wallets.transaction import UnsignedTransaction
from tests.chain.asking import fetch_market, simulate
from tests.chain.venue import Venue, open_venue
from tests.support.anvil import start_anvil

SETTINGS = FeeSettings(max_fee_cap_wei=10**12)
ROUNDS = 1_000


def report(name: str, seconds: list[float]) -> None:
    centiles = statistics.quantiles(seconds, n=100)
    print(f"{name:44s} p50 {centiles[49] * 1e6:8.1f}   p99 {centiles[98] * 1e6:8.1f} µs", flush=True)


async def measure(name: str, once: Callable[[], Awaitable[object]], rounds: int = ROUNDS) -> None:
    for _ in range(rounds // 20):
        await once()
    seconds = []
    for _ in range(rounds):
        started = time.perf_counter()
        await once()
        seconds.append(time.perf_counter() - started)
    report(name, seconds)


def measure_pure(name: str, once: Callable[[], object], rounds: int = ROUNDS) -> None:
    for _ in range(rounds // 20):
        once()
    seconds = []
    for _ in range(rounds):
        started = time.perf_counter()
        once()
        seconds.append(time.perf_counter() - started)
    report(name, seconds)


async def measure_node(kind: str, url: str, venue: Venue, signer: KeystoreSigner) -> None:
    spot = ReadRequest(name="spot", to=venue.market, function=parse_function("spot() view returns (uint256)"))
    count = ReadRequest(
        name="count", to=venue.market, function=parse_function("positionCount() view returns (uint256)")
    )
    async with Rpc(url) as rpc:
        head = Head(rpc)
        fees = build_fee_request(SETTINGS)
        await measure(f"{kind}: call eth_blockNumber", lambda: rpc.call("eth_blockNumber", []))
        await measure(f"{kind}: batch of 3", lambda: rpc.batch([("eth_blockNumber", []), ("eth_chainId", []), fees]))
        await measure(f"{kind}: Head.fetch", head.fetch)
        block = await head.fetch()
        await measure(f"{kind}: two reads at one block", lambda: fetch_reads(rpc, block, (spot, count)))
        message = CallMessage(sender=venue.operator, to=venue.vault.address, data=batch_of(venue, 1))
        await measure(f"{kind}: simulate a batch of 1", lambda: simulate(rpc, block, message))
        await measure(f"{kind}: fetch_market", lambda: fetch_market(rpc, SETTINGS))
        nonce = decode_quantity(await rpc.call("eth_getTransactionCount", [venue.operator, "pending"]), "nonce")
        nonces = itertools.count(nonce)

        async def decide_to_accepted() -> None:
            """A decision without worker and store: head, reads, simulation and fees, signature, broadcast."""
            now = await head.fetch()
            await fetch_reads(rpc, now, (spot, count))
            number = next(nonces)
            data = batch_of(venue, number)
            wanted = CallMessage(sender=venue.operator, to=venue.vault.address, data=data)
            estimate, history = await rpc.batch([build_simulation(now, wanted), fees])
            simulated = decode_simulation(now, estimate)
            assert isinstance(simulated, Simulated), simulated
            price = decode_market(history, SETTINGS).suggested
            transaction = UnsignedTransaction(
                chain_id=31_337,
                nonce=number,
                to=venue.vault.address,
                value_wei=0,
                data=data,
                gas_limit=simulated.gas_limit,
                max_fee_per_gas_wei=price.max_fee_per_gas_wei,
                max_priority_fee_per_gas_wei=price.max_priority_fee_per_gas_wei,
            )
            signed = await signer.sign(transaction)
            assert await rpc.call("eth_sendRawTransaction", ["0x" + signed.raw.hex()]) == signed.hash

        await measure(f"{kind}: decision to accepted, 4 round trips", decide_to_accepted, 300)


def batch_of(venue: Venue, number: int) -> bytes:
    return venue.vault.build([venue.mint()], (number + 1).to_bytes(32, "big")).data


def measure_computing() -> None:
    mint = parse_function("mintBinary(uint256 strike, bool above) payable returns (uint256 positionId)")
    args = {"strike": 200_000, "above": True}
    measure_pure("encode_call(uint256, bool)", lambda: encode_call(mint, args))
    measure_pure("decode_outputs(uint256)", lambda: decode_outputs(mint, (7).to_bytes(32, "big")))
    vault = Erc7821Vault(address="0x" + "11" * 20, operator="0x" + "12" * 20)
    calls = [Call(to="0x" + "22" * 20, value_wei=1, data=encode_call(mint, args))] * 3
    measure_pure("Erc7821Vault.build, 3 calls", lambda: vault.build(calls, b"\1" * 32).data)
    transaction = UnsignedTransaction(
        chain_id=1,
        nonce=5,
        to="0x" + "11" * 20,
        value_wei=0,
        data=vault.build(calls, b"\1" * 32).data,
        gas_limit=300_000,
        max_fee_per_gas_wei=10**10,
        max_priority_fee_per_gas_wei=10**9,
    )
    with TemporaryDirectory() as directory:
        path = Path(directory, "keystore.json")
        create_keystore(path, Passphrase(b"bench"), b"\7" * 32, kdf_work=2)
        signer = unlock_keystore(path, Passphrase(b"bench"))
        started = time.perf_counter()
        create_keystore(Path(directory, "full.json"), Passphrase(b"bench"), b"\7" * 32)
        print(f"{'scrypt n = 262144, once':44s}     {(time.perf_counter() - started) * 1e6:8.0f} µs")

    def sign() -> None:
        with suppress(StopIteration):  # a keystore never waits: one step is the whole of it, without a loop's share
            signer.sign(transaction).send(None)

    measure_pure("KeystoreSigner.sign", sign)
    account = Account.from_key(b"\7" * 32)
    fields = {
        "chainId": 1,
        "nonce": 5,
        "to": transaction.to,
        "value": 0,
        "data": transaction.data,
        "gas": 300_000,
        "maxFeePerGas": 10**10,
        "maxPriorityFeePerGas": 10**9,
    }
    measure_pure("eth_account sign_transaction", lambda: account.sign_transaction(fields), 200)


def main() -> None:
    measure_computing()
    with TemporaryDirectory() as directory:
        socket, keystore = Path(directory, "anvil.ipc"), Path(directory, "keystore.json")
        create_keystore(keystore, Passphrase(b"bench"), kdf_work=2)
        signer = unlock_keystore(keystore, Passphrase(b"bench"))
        for kind in ("ipc", "http", "ws"):
            # A node each, so that the pool of one run does not slow down the next.
            with start_anvil(prune_history=False, extra_args=("--ipc", str(socket))) as node:
                venue = open_venue(node, signer)
                node.rpc("evm_setIntervalMining", 1)
                url = {"ipc": f"ipc://{socket}", "http": node.url, "ws": node.ws_url}[kind]
                uvloop.run(measure_node(kind, url, venue, signer))


if __name__ == "__main__":
    main()

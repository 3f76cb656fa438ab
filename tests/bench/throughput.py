"""Throughput of one wallet against anvil: a naive web3.py loop, an AsyncWeb3 loop that stores nothing, and ours.

The same call (`execute` of the reference vault with one mint) in interleaved rounds, so that noise hits all alike. Ours
is durable: Decision, intent and signed bytes stand in PostgreSQL (fsync on) before the node gets to see them.
"""

import asyncio
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

import psycopg
import uvloop
from eth_account import Account
from eth_typing import HexStr
from web3 import AsyncHTTPProvider, AsyncWeb3, Web3

from protocol.actions import Act
from runnerd.chain.vaults.erc7821 import MODE_BATCH_OP_DATA
from runnerd.executor.wanted import IntentState
from runnerd.store.calls import JobCall
from runnerd.wallets.signer import Signer
from runnerd.wallets.transaction import SignedTransaction, UnsignedTransaction
from tests.bench.figures import Figure
from tests.bench.spans import Spans, cpu_seconds
from tests.support.anvil import Anvil, start_anvil
from tests.support.contracts import Call, encode_calls_with_op_data
from tests.support.executor_bench import SPOT, Ground, Process, make_ground, mint
from tests.support.leaks import find_descendants
from tests.support.postgres import PostgresServer, host_postgres
from tests.support.rpc_proxy import RpcProxy, rpc_proxy
from tests.support.short_dir import make_short_dir

ROUNDS = 3
NAIVE, LOOP, OURS = 60, 320, 640
"""Transactions a round: about half a second each."""
AT_A_TIME = 32
ANVIL = ["--gas-limit", "2000000000", "--prune-history", "64"]
"""As a full node, it knows the states of the last blocks: all of them would fill the disk."""
POLL_S = 0.002
VALUE_WEI = 1_000

DECISIONS, SIMULATION, SIGNING = "decision commits", "simulation RPC", "signing"
ATTEMPTS, BROADCAST, ACCEPTANCE, OTHER = "attempt commits", "broadcast RPC", "acceptance commits", "other commits"


def measure_throughput() -> Iterator[Figure]:
    """The three rates, the two ratios, and where our time goes."""
    with (
        start_anvil(block_time_s=1, prune_history=False, extra_args=ANVIL) as node,
        rpc_proxy(node.url) as proxy,
        make_short_dir() as directory,
        host_postgres(directory / "data", directory / "run") as (host, report),
    ):
        server = PostgresServer(report["dsn"])
        with psycopg.connect(server.dsn) as connection:
            assert connection.execute("show fsync").fetchone() == ("on",), "durable is what is measured"
        dsn = server.create_database(is_migrated=True)
        grounds = [_ground(node, proxy, dsn) for _ in range(3)]
        node.rpc("evm_setIntervalMining", 1)  # making the grounds has ended it
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            yield from runner.run(_measure(node, host.pid, *grounds))


async def _measure(node: Anvil, postgres: int, first: Ground, second: Ground, third: Ground) -> list[Figure]:
    naive, loop, ours = _Loop(first), _Loop(second), _Ours(third)
    await ours.open()
    rates: dict[str, list[float]] = {"naive": [], "loop": [], "ours": []}
    tables: list[list[Figure]] = []
    for number in range(ROUNDS + 1):
        round_rates = {
            "naive": NAIVE / await asyncio.to_thread(naive.send_one_by_one, NAIVE),
            "loop": LOOP / await loop.send_in_groups(LOOP),
        }
        before = _cpu(node, postgres)
        took_s = await ours.send(OURS)
        after = _cpu(node, postgres)
        round_rates["ours"] = OURS / took_s
        if number:  # the first round warms up
            tables.append(_table(ours.spans, took_s, {name: after[name] - before[name] for name in after}))
            for name, rate in round_rates.items():
                rates[name].append(rate)
        await ours.settle()
    await ours.close()
    middle = {name: statistics.median(values) for name, values in rates.items()}
    to_naive = statistics.median(a / b for a, b in zip(rates["ours"], rates["naive"], strict=True))
    to_loop = statistics.median(a / b for a, b in zip(rates["ours"], rates["loop"], strict=True))
    typical = rates["ours"].index(statistics.median_low(rates["ours"]))
    return [
        Figure("naive web3.py: nonce, build, estimate, sign, send", _rate(middle["naive"], rates["naive"])),
        Figure("AsyncWeb3: nonce in memory, 32 at a time", _rate(middle["loop"], rates["loop"])),
        Figure("one wallet, durable", _rate(middle["ours"], rates["ours"])),
        Figure("  ratio to naive web3.py", f"{to_naive:.2f}", ">= 4", to_naive >= 4),
        Figure("  ratio to AsyncWeb3", f"{to_loop:.2f}", ">= 0.4", to_loop >= 0.4),
        *tables[typical],
    ]


def _rate(middle: float, rates: list[float]) -> str:
    return f"{middle:,.0f}/s (median of {len(rates)}; {min(rates):,.0f} to {max(rates):,.0f})"


def _cpu(node: Anvil, postgres: int) -> dict[str, float]:
    return {
        "runnerd": time.process_time(),
        "anvil": cpu_seconds(node.process.pid),
        "PostgreSQL": cpu_seconds(*find_descendants(postgres)),
    }


def _table(spans: Spans, took_s: float, cpu: dict[str, float]) -> list[Figure]:
    """Of one round. The lane's own steps follow each other; decisions are committed meanwhile."""
    figures = [Figure(f"  one round of {OURS}", f"{took_s:.3f} s")]
    acceptance = spans.seconds(ACCEPTANCE)
    seconds = {name: spans.seconds(name) for name in (SIMULATION, SIGNING, ATTEMPTS)}
    seconds |= {BROADCAST: spans.seconds(BROADCAST) - acceptance, ACCEPTANCE: acceptance}
    seconds["no step of the lane under way"] = took_s - spans.seconds(SIMULATION, SIGNING, ATTEMPTS, BROADCAST)
    seconds[f"beside the lane: {DECISIONS}"] = spans.seconds(DECISIONS)
    seconds[f"beside the lane: {OTHER}"] = spans.seconds(OTHER)
    for name, value in seconds.items():
        figures.append(Figure(f"    {name}", f"{value:.3f} s  {value / took_s:4.0%}"))
    for name, value in cpu.items():
        figures.append(Figure(f"    CPU of {name}", f"{value:.3f} s  {value / took_s:4.0%}"))
    return figures


def _ground(node: Anvil, proxy: RpcProxy, dsn: str) -> Ground:
    ground = make_ground(node, proxy, dsn)
    ground.is_direct = True  # the proxy is for the tests
    ground.chain = {"poll_s": 0.25, "replace_after_blocks": 100}
    ground.wallet = {"max_in_flight": 10_000}
    return ground


# --- theirs ------------------------------------------------------------------------------------------------------


class _Loop:
    """What one writes with web3.py on an afternoon: no ledger, no policy, no recovery."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._account = Account.from_key(ground.key.secret)
        self._numbers = count(1)
        mint_data = bytes.fromhex(ground.market.encode_abi("mintBinary", args=[SPOT, True])[2:])
        self._call = Call(ground.market.address, VALUE_WEI, mint_data)
        self._w3 = Web3(Web3.HTTPProvider(ground.node.url))
        self._vault = self._w3.eth.contract(ground.vault.address, abi=ground.vault.abi)
        self._nonce: int = self._w3.eth.get_transaction_count(self._account.address, "pending")

    def _arguments(self) -> tuple[bytes, bytes]:
        """Of the vault's `execute`, with an intent id of its own."""
        return MODE_BATCH_OP_DATA, encode_calls_with_op_data([self._call], next(self._numbers).to_bytes(32, "big"))

    def send_one_by_one(self, number: int) -> float:
        """Seconds for so many, with everything asked of the node each time."""
        began = time.perf_counter()
        for _ in range(number):
            nonce = self._w3.eth.get_transaction_count(self._account.address, "pending")
            # Estimates the gas, and asks for chain id and fees.
            execute = self._vault.functions.execute(*self._arguments())
            transaction = execute.build_transaction({"from": self._account.address, "nonce": nonce})
            self._w3.eth.send_raw_transaction(self._account.sign_transaction(transaction).raw_transaction)
        return time.perf_counter() - began

    async def send_in_groups(self, number: int) -> float:
        """Seconds for so many, with the nonce kept in memory, and gas and fees fixed."""
        w3 = AsyncWeb3(AsyncHTTPProvider(self._ground.node.url))
        fees = {"maxFeePerGas": 10**11, "maxPriorityFeePerGas": 10**6, "gas": 300_000, "chainId": 31337}
        began = time.perf_counter()
        for start in range(0, number, AT_A_TIME):
            raws = []
            for _ in range(min(AT_A_TIME, number - start)):
                data: HexStr = self._vault.encode_abi("execute", args=self._arguments())
                transaction = {"to": self._vault.address, "data": data, "value": 0, "nonce": self._nonce, **fees}
                raws.append(self._account.sign_transaction(transaction).raw_transaction)
                self._nonce += 1
            await asyncio.gather(*(w3.eth.send_raw_transaction(raw) for raw in raws))
        took_s = time.perf_counter() - began
        await w3.provider.disconnect()
        return took_s


# --- ours --------------------------------------------------------------------------------------------------------


@dataclass
class _TimedSigner:
    signer: Signer
    spans: Spans

    @property
    def address(self) -> str:
        return self.signer.address

    async def sign(self, transaction: UnsignedTransaction) -> SignedTransaction:
        with self.spans.span(SIGNING):
            return await self.signer.sign(transaction)


class _Ours:
    """The executor as the daemon has it, with its ledger, follower and auditor."""

    def __init__(self, ground: Ground) -> None:
        self.spans = Spans()
        self._process = Process(ground)

    async def open(self) -> None:
        """Open, and time each step of the lane."""
        process, spans = self._process, self.spans
        await process.open()
        lane = process.lane
        commit = process.store.commit

        async def timed_commit(*statements: Any, **options: Any) -> Any:
            with spans.span(_kind(" ".join(statement.sql for statement in statements))):
                return await commit(*statements, **options)

        for owner, name, timed in (
            (process.store, "commit", timed_commit),
            (lane, "prepare", spans.timed(SIMULATION, lane.prepare)),
            (lane, "signer", _TimedSigner(lane.signer, spans)),
            (lane.broadcaster, "send", spans.timed(BROADCAST, lane.broadcaster.send)),
        ):
            setattr(owner, name, timed)
        process.run()

    async def send(self, number: int) -> float:
        """Seconds from the first Decision until the node has accepted every transaction, and the ledger says so."""
        calls: list[JobCall] = [await self._process.call() for _ in range(number)]
        self.spans.clear()
        began = time.perf_counter()
        await asyncio.gather(*(self._process.accept(call, Act(actions=(mint(VALUE_WEI),))) for call in calls))
        while self._is_any_unsent():  # noqa: ASYNC110  # nobody rings
            await asyncio.sleep(POLL_S)
        return time.perf_counter() - began

    def _is_any_unsent(self) -> bool:
        unsent = (IntentState.PLANNED, IntentState.SIGNED)
        return any(tracked.intent.state in unsent for tracked in self._process.book.open.values())

    async def settle(self) -> None:
        """Mine until every intent has ended: the next round begins with nothing open. All must have succeeded."""
        while self._process.book.open:
            await asyncio.to_thread(self._process.ground.mine)
            await asyncio.sleep(0.05)
        bad = [result for result in self._process.results_of.values() if result.outcome.value != "acted"]
        assert not bad, f"{len(bad)} did not succeed: {bad[0]}"

    async def close(self) -> None:
        await self._process.close()


def _kind(sql: str) -> str:
    for mark, kind in (
        ("insert into decisions", DECISIONS), ("set next_nonce", ATTEMPTS), ("accepted_at =", ACCEPTANCE)
    ):  # fmt: skip
        if mark in sql:
            return kind
    return OTHER


if __name__ == "__main__":
    for figure in measure_throughput():
        print(figure, flush=True)

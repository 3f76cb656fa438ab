"""The executor on its real parts: a ledger in PostgreSQL, a vault and a market on anvil, and a proxy before the node.

`Ground` is what survives a restart: database, chain, wallet. `Process` is one process's executor on it; making a second
one over the same ground is a restart. Blocks come only when the test mines them.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import psycopg
from coincurve import PrivateKey
from psycopg.rows import dict_row
from web3 import Web3
from web3.contract import Contract

from protocol.actions import Act, Action, Noop, Outcome
from protocol.messages import StateWrite, TriggerKind
from runnerd.chain.vaults.erc7821 import Erc7821Vault
from runnerd.clock import SystemClock
from runnerd.commands.chains import Chain, ChainCommands
from runnerd.config.grants import ActionGrant, ArgumentLimit
from runnerd.config.model import ChainConfig, VaultConfig, WalletConfig
from runnerd.config.plugins import BudgetConfig, PluginConfig
from runnerd.executor.aftermath import Aftermath
from runnerd.executor.auditor import Auditor
from runnerd.executor.decided import Decided, terms_of
from runnerd.executor.effect_checks import EffectChecks
from runnerd.executor.effect_checks import Ground as VaultGround
from runnerd.executor.executor import Executor, VaultDesk
from runnerd.executor.follow import Follower
from runnerd.executor.lane import Lane
from runnerd.executor.push import Pusher
from runnerd.executor.tracked import Book, load_book
from runnerd.executor.usage import Usage
from runnerd.network import open_network
from runnerd.pauses import Pauses
from runnerd.routing.results import Results
from runnerd.services.metrics import Metrics
from runnerd.store import calls, intents, knobs
from runnerd.store.calls import JobCall, JobResult, NewCall
from runnerd.store.store import Store
from runnerd.supervisor.machine import Phase
from runnerd.tasks import Tasks
from runnerd.vaults.caps_mirror import CapsMirror
from runnerd.vaults.catalogue import build_catalogue
from runnerd.wallets.keystore import KeystoreSigner, _key_of
from tests.support.anvil import Anvil
from tests.support.contracts import connect, deploy, load_artifact
from tests.support.rpc_proxy import RpcProxy
from tests.support.until import until

ETHER = 10**18
SPOT = 200_000
LEDGER_ID = bytes(16)
MINT = "mintBinary(uint256 strike, bool above) payable returns (uint256)"


MINE_TRIES = 20


@dataclass
class Ground:
    """One vault, its operator's key, and the ledger: what a restart finds again."""

    node: Anvil
    proxy: RpcProxy
    dsn: str
    w3: Web3
    vault: Contract
    market: Contract
    key: PrivateKey
    chain: dict[str, Any] = field(default_factory=dict)
    grant: dict[str, Any] = field(default_factory=dict)
    action: dict[str, Any] = field(default_factory=dict)
    budget: dict[str, Any] = field(default_factory=dict)
    wallet_gas_wei: int | None = None
    wallet: dict[str, Any] = field(default_factory=dict)
    plugin: dict[str, Any] = field(default_factory=dict)
    is_direct: bool = False
    """runnerd reaches the node itself, not the proxy: for measurements."""

    @property
    def url(self) -> str:
        """Where runnerd finds its node."""
        return self.node.url if self.is_direct else self.proxy.url

    @property
    def signer(self) -> KeystoreSigner:
        key = _key_of(self.key.secret)
        assert key is not None
        return KeystoreSigner(key)

    @property
    def vault_config(self) -> VaultConfig:
        options = {"max_value_wei": ETHER, "limits": {"strike": ArgumentLimit(min=1, max=10**7)}, **self.action}
        mint = ActionGrant(contract=self.market.address, function=MINT, **options)
        return VaultConfig(
            chain="local",
            address=self.vault.address,
            wallet="hot",
            **{"max_value_wei_per_day": 10 * ETHER, **self.grant},
            actions={"mint": mint},
        )

    def mine(self, blocks: int = 1) -> None:
        """Let blocks come."""
        for _ in range(blocks):
            self.node.rpc("evm_mine")

    def send(self, function: Any, *, sender: str | None = None, **options: Any) -> str:
        """Put a transaction of the owner (or `sender`) into the mempool."""
        sent = function.transact({"from": sender or self.w3.eth.accounts[0], "gas": 500_000, **options})
        return str(sent.to_0x_hex())

    def send_mined(self, function: Any, **options: Any) -> None:
        """The same, and it is in a block: anvil may leave out what came while it made ready for one."""
        sent = self.send(function, **options)
        for _ in range(MINE_TRIES):
            self.mine()
            if self.node.rpc("eth_getTransactionReceipt", sent) is not None:
                return
        raise AssertionError(f"{sent} is in none of {MINE_TRIES} blocks")

    def effects(self) -> list[dict[str, Any]]:
        """What the vault executed, by its own events: transaction, intent id and value."""
        return [
            {"hash": event["transactionHash"].to_0x_hex(), **event["args"]}
            for event in self.vault.events.Executed.get_logs(from_block=0)
        ]

    def rows(self, query: str) -> list[dict[str, Any]]:
        """What stands in the ledger now."""
        with psycopg.connect(self.dsn, autocommit=True, row_factory=dict_row) as connection:
            return connection.execute(query.encode()).fetchall()

    def execute(self, statement: str) -> None:
        """Change the ledger behind runnerd's back."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute(statement.encode())

    def sent(self) -> list[str]:
        """Raw transactions that went towards the node, in order."""
        return [call["params"][0] for call in self.proxy.sent("eth_sendRawTransaction")]


def make_ground(node: Anvil, proxy: RpcProxy, dsn: str) -> Ground:
    """A new vault with a key of its own, funded and allowed to mint. Automine stays off afterwards."""
    key = PrivateKey()
    signing = _key_of(key.secret)
    assert signing is not None
    w3 = connect(node.url)
    node.rpc("evm_setAutomine", True)
    node.rpc("anvil_setNextBlockBaseFeePerGas", hex(10**9))
    owner = w3.eth.accounts[0]
    vault = w3.eth.contract(deploy(w3, "OperatorVault", owner, signing.address), abi=_abi("OperatorVault"))
    market = w3.eth.contract(deploy(w3, "RangeMarket", SPOT, owner), abi=_abi("RangeMarket"))
    selector = Web3.keccak(text="mintBinary(uint256,bool)")[:4]
    granted = [
        vault.functions.setAllowed(market.address, selector, True).transact({"from": owner}),
        vault.functions.setCaps(ETHER, 5 * ETHER).transact({"from": owner}),
    ]
    for tx_hash in granted:  # anvil answers before it mines
        w3.eth.wait_for_transaction_receipt(tx_hash, timeout=10, poll_latency=0.01)
    for address in (vault.address, signing.address):
        node.rpc("anvil_setBalance", address, hex(100 * ETHER))
    node.rpc("evm_setAutomine", False)
    return Ground(node=node, proxy=proxy, dsn=dsn, w3=w3, vault=vault, market=market, key=key)


def _abi(name: str) -> list[Any]:
    return load_artifact(name)["abi"]


def mint(value_wei: int = 1_000, *, strike: int = SPOT) -> Action:
    """An action that succeeds."""
    return Action("mint", {"strike": strike, "above": True}, value_wei)


class Process:
    """One process's executor. `results` by call id; a second result of a call fails."""

    _numbers: Iterator[int] = count()

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.clock = SystemClock()
        self.store = Store(ground.dsn)
        self.results_of: dict[int, JobResult] = {}
        self.results = Results(self.store, self.clock)
        self.results.add_consumer(self._on_result)
        self.pauses = Pauses()
        self.metrics = Metrics(phase.value for phase in Phase)
        config = {
            "confirmations": 2, "poll_s": 0.02, "rpc_timeout_s": 5.0, "replace_after_blocks": 1_000, **ground.chain
        }  # fmt: skip
        self.network = open_network("local", ChainConfig(id=31337, **{"rpc": ground.url, **config}))
        self.vaults: dict[str, VaultDesk] = {}
        self.catalogue = build_catalogue("main", ground.vault_config)
        self.pauses.reducing = {"main": self.catalogue.reducing}
        self.usage = Usage(
            self.store, self.clock, {"main": self.catalogue}, lambda _: BudgetConfig(**ground.budget),
            {ground.signer.address: ground.wallet_gas_wei},
        )  # fmt: skip
        self.book = Book(self.store, self.results, self.clock, self.usage.gas)
        self.executor = Executor(
            self.vaults, LEDGER_ID, self.store, self.results, self.pauses, self.book, self.usage, self.clock
        )
        self.tasks = Tasks()
        self.lane: Lane
        self.pusher: Pusher
        self.auditor: Auditor
        self.follower: Follower

    def _on_result(self, result: JobResult) -> None:
        assert result.call.id not in self.results_of, f"second result: {result}"
        self.results_of[result.call.id] = result

    async def open(self) -> None:
        """As the app does: ledger, book, wallet, vault; nothing runs yet."""
        await self.store.open()
        await load_book(self.book, await self.store.fetch(intents.open_intents()))
        self.network.knobs.load(await self.store.fetch(knobs.of_chain("local")))
        signer = self.ground.signer
        rows = await self.store.fetch(intents.wallet(31337, signer.address))
        if not rows:
            await self.store.commit(intents.set_wallet(31337, signer.address, 0))
        next_nonce = rows[0]["next_nonce"] if rows else 0
        await self.usage.load()
        catalogue = self.catalogue
        limits = WalletConfig(keystore=Path("unused"), **self.ground.wallet)
        self.checks = EffectChecks(self.network, {"main": VaultGround(self.ground.vault.address, catalogue)})
        self.lane = Lane(
            self.network, signer, next_nonce, limits, catalogue.errors, self.book, self.pauses, self.usage.gas,
            self.metrics, self.checks,
        )  # fmt: skip
        self.pusher = Pusher(self.lane, self.book, self.pauses)
        self.auditor = Auditor(
            self.network, {signer.address: self.lane}, {signer.address: ["main"]}, self.book, self.pauses,
            self.metrics.saw_foreign,
        )  # fmt: skip
        await self.auditor.load()
        self.aftermath = Aftermath(self.checks, self.pauses, self.metrics, self.clock)
        self.follower = Follower(
            self.network, {signer.address: self.pusher}, self.book, self.auditor, self.aftermath, self.executor.replan
        )
        adapter = Erc7821Vault(address=self.ground.vault.address, operator=signer.address)
        self.vaults["main"] = VaultDesk("main", catalogue, adapter, self.lane)
        await self.executor.resume(frozenset({"main"}))

    def commands(self) -> ChainCommands:
        """What an operator may say about this chain."""
        chain = SimpleNamespace(
            network=self.network, lanes={self.lane.signer.address: self.lane}, auditor=self.auditor,
            follower=self.follower, problem=None,
        )  # fmt: skip
        return ChainCommands({"local": cast("Chain", chain)}, self.vaults, self.book, self.store, self.clock)

    def mirror(self) -> CapsMirror:
        """Begin to read what the vault itself allows."""
        desk = self.vaults["main"]
        ids = partial(self.executor.ids_on_the_way, "main")
        desk.mirror = CapsMirror(self.network, {"main": (desk.adapter.address, desk.catalogue, ids)})
        self.tasks.spawn(desk.mirror.run(), "caps")
        return desk.mirror

    def run(self, *, lane: bool = True, follower: bool = True) -> None:
        """Begin to poll, sign and follow."""
        self.tasks.spawn(self.network.head.run(self.network.config.poll_s), "head")
        if lane:
            self.tasks.spawn(self.lane.run(), "lane")
        if follower:
            self.tasks.spawn(self.follower.run(), "follower")

    async def close(self) -> None:
        """End as a process ends: nothing is finished in order."""
        await self.executor.close()
        await self.tasks.cancel()
        await self.follower.close()
        await self.network.rpc.close()
        await self.store.close()

    # --- calls -------------------------------------------------------------------------------------------------------

    async def call(self, deadline_s: float = 60.0) -> JobCall:
        """A new JobCall in the ledger."""
        now = self.clock.now()
        new = NewCall(
            plugin="alpha", trigger=TriggerKind.MANUAL, identity=f"test {next(self._numbers)}", principal="test",
            due_at=now, fired_at=now, deadline_at=now + timedelta(seconds=deadline_s),
        )  # fmt: skip
        ((row,),) = await self.store.commit(calls.insert(new))
        return calls.inserted(new, row)

    async def accept(self, call: JobCall, outcome: Outcome, *writes: StateWrite, **plugin: Any) -> None:
        """The worker has decided."""
        await self.executor.accept(
            Decided(
                call=call, vault="main", generation=1, digest="sha256:0", attempt=1, context="{}", outcome=outcome,
                state_writes=writes, decided_at=self.clock.now(), decide_ms=1.0,
                terms=terms_of(PluginConfig(vault="main", **{**self.ground.plugin, **plugin})),
            )
        )  # fmt: skip

    async def act(self, *actions: Action, **plugin: Any) -> JobCall:
        """A call that was decided with these actions; `plugin` are keys of its configuration."""
        call = await self.call()
        await self.accept(call, Act(actions=actions or (mint(),)), **plugin)
        return call

    async def rest(self) -> JobCall:
        """A call that was decided with nothing to do."""
        call = await self.call()
        await self.accept(call, Noop("quiet"))
        return call

    # --- waiting -----------------------------------------------------------------------------------------------------

    def state(self, call: JobCall) -> str:
        """Where its intent stands in the ledger."""
        rows = self.ground.rows(f"select state from intents where call_id = {call.id}")
        return str(rows[0]["state"]) if rows else "none"

    def outcome(self, call: JobCall) -> str:
        """`outcome: reason`."""
        result = self.results_of[call.id]
        return f"{result.outcome}: {result.reason}"

    async def until_state(self, call: JobCall, state: str) -> None:
        """Wait until its intent stands there, in the ledger."""
        try:
            await until(lambda: self.state(call) == state, every_s=0.01)
        except AssertionError as error:
            result = self.results_of.get(call.id)
            raise AssertionError(f"{state}: {error}; it is {self.state(call)}, with the result {result}") from None

    async def until_ended(self, *ended: JobCall) -> None:
        """Wait for the results."""
        await until(lambda: all(call.id in self.results_of for call in ended), every_s=0.01)

    async def mine_until_ended(self, *ended: JobCall) -> None:
        """Let a block come every few milliseconds until the results are there."""

        def is_ended() -> bool:
            self.ground.mine()
            return all(call.id in self.results_of for call in ended)

        await until(is_ended, every_s=0.05)


@asynccontextmanager
async def running(ground: Ground, *, lane: bool = True, follower: bool = True) -> AsyncIterator[Process]:
    """A process on this ground for the length of the block."""
    process = Process(ground)
    await process.open()
    process.run(lane=lane, follower=follower)
    try:
        yield process
    finally:
        await process.close()


async def seconds(duration_s: float) -> None:
    """For what must NOT happen: nothing else to wait for."""
    await asyncio.sleep(duration_s)

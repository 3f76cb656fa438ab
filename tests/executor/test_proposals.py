"""The desk of a Safe on several nodes, one of which is wrong: what it believes, waits for, and asks for."""

import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from eth_account import Account
from eth_typing import Hash32

from runnerd.chain.vaults.multisend import OneCall, Operation
from runnerd.chain.vaults.safe_multisig import SafeMultisigVault
from runnerd.chain.vaults.safe_tx import SafeTx, assemble, encode_exec
from runnerd.executor.executor import VaultDesk
from runnerd.executor.proposal import Proposal
from runnerd.executor.proposals import ProposalDesk
from runnerd.executor.safe_verdict import EXECUTION_SUCCESS
from runnerd.store.calls import JobCall
from tests.executor.test_auditor import attempts, send_foreign, until_paused
from tests.support.aio import run_async
from tests.support.anvil import Anvil
from tests.support.executor_bench import Ground, Process, seconds
from tests.support.published import Chain, SafeKit, calldata, create_safe, deploy_safe_kit
from tests.support.rpc_proxy import Exchange, RpcProxy, rpc_proxy
from tests.support.until import until

ADA, BEN = (Account.from_key(bytes([number]) * 32) for number in (1, 2))
CONFIRMATIONS = 3
SOMEBODY = "0x" + "0e" * 20
NONCE = "0x" + calldata("nonce()").hex()


@pytest.fixture(scope="module")
def kit(node: Anvil) -> SafeKit:
    """The singletons of all Safes."""
    node.rpc("evm_setAutomine", True)
    return deploy_safe_kit(Chain(node))


class Council:
    """A Safe of the operator, ada and ben, any two of whom decide; three nodes, of which two make a quorum."""

    def __init__(self, ground: Ground, kit: SafeKit, proxies: tuple[RpcProxy, ...]) -> None:
        self.ground = ground
        self.kit = kit
        self.proxies = proxies
        self.chain = Chain(ground.node)
        ground.node.rpc("evm_setAutomine", True)
        self.safe = create_safe(self.chain, kit, [ground.signer.address, ADA.address, BEN.address], 2)
        ground.node.rpc("evm_setAutomine", False)
        urls = tuple(proxy.url for proxy in proxies)
        ground.chain |= {"rpc": urls, "quorum": 2, "confirmations": CONFIRMATIONS}

    def staked(self) -> int:
        """What the Safe has staked at the market."""
        return int.from_bytes(self.chain.view(self.ground.market.address, "stakeOf(address)", self.safe))

    def carry_out(self, safe_tx: SafeTx) -> str:
        """Ada and ben send a transaction of the Safe without runnerd; the hash. It waits for the next block."""
        signatures = {each.address: signature(each, safe_tx) for each in (ADA, BEN)}
        call = OneCall(to=safe_tx.to, value_wei=safe_tx.value_wei, data=safe_tx.data, operation=safe_tx.operation)
        data = "0x" + encode_exec(call, assemble(signatures)).hex()
        sent = {"from": self.chain.owner, "to": self.safe, "data": data, "gas": hex(1_000_000)}
        return str(self.ground.node.rpc("eth_sendTransaction", sent))

    def foreign(self, nonce: int = 0) -> SafeTx:
        """A transaction of the Safe that is not ours."""
        return SafeTx(
            chain_id=31_337, safe=self.safe, to=self.chain.owner, value_wei=5, data=b"", operation=Operation.CALL,
            nonce=nonce,
        )  # fmt: skip


def signature(account: Any, safe_tx: SafeTx) -> bytes:
    """As an owner's wallet makes it."""
    return bytes(account.unsafe_sign_hash(Hash32(safe_tx.hash)).signature)


@pytest.fixture
def council(ground: Ground, kit: SafeKit) -> Iterator[Council]:
    """A Safe that nobody else uses."""
    with rpc_proxy(ground.node.url) as second, rpc_proxy(ground.node.url) as third:
        yield Council(ground, kit, (ground.proxy, second, third))


class SafeProcess(Process):
    """One process's executor whose vault is the Safe."""

    def __init__(self, council: Council) -> None:
        super().__init__(council.ground)
        self.council = council
        self.served, self.vaults = self.vaults, {}  # what `open` puts there is not resumed

    async def open(self) -> None:
        await super().open()
        adapter = SafeMultisigVault(
            address=self.council.safe, operator=self.lane.signer.address, multisend=self.council.kit.multisend
        )
        self.desk = ProposalDesk("main", adapter, self.lane, self.book, look_every_s=0.02)
        self.served["main"] = VaultDesk("main", self.catalogue, adapter, self.lane, self.desk)
        await self.executor.resume(frozenset({"main"}))
        self.tasks.spawn(self.desk.run(), "proposals")

    @property
    def best(self) -> RpcProxy:
        """The node that is read from."""
        name = self.network.rpc.best.name
        return next(proxy for proxy in self.council.proxies if proxy.url == name)

    @property
    def others(self) -> list[RpcProxy]:
        """The rest."""
        return [proxy for proxy in self.council.proxies if proxy is not self.best]

    async def proposal(self, call: JobCall) -> Proposal:
        """What the owners are asked to sign for a call, as soon as they are."""

        def find() -> Proposal | None:
            shown = (each.proposal for each in self.desk.shown() if each.intent.call_id == call.id)
            return next(shown, None)

        await until(find)
        found = find()
        assert found is not None
        return found

    async def mine_until(self, is_so: Callable[[], object]) -> None:
        """Let a block come every few milliseconds until it is so."""

        def is_so_now() -> object:
            self.ground.mine()
            return is_so()

        await until(is_so_now, every_s=0.05)

    async def saw_newest_block(self) -> None:
        """The node that is read from has named it."""
        number = int(self.ground.node.rpc("eth_blockNumber"), 16)
        await until(lambda: (latest := self.network.head.latest) and latest.number == number)

    async def mine_until_passed(self) -> None:
        """Let one block come, after which a quorum is asked for the Safe's nonce."""

        def asked_others() -> int:
            return sum(len(asked(proxy, NONCE)) for proxy in self.others)

        before = asked_others()
        self.ground.mine()
        await until(lambda: asked_others() > before)

    async def looked(self, times: int = 3) -> None:
        """The desk has looked at the Safe so often again. It does while nothing has changed there."""
        before = self.looks
        await until(lambda: self.looks >= before + times)

    @property
    def looks(self) -> int:
        """Questions about the Safe's state, to whatever node."""
        return sum(len(asked(proxy, NONCE)) for proxy in self.council.proxies)


def asked(proxy: RpcProxy, data: str = "0x") -> list[dict[str, Any]]:
    """The eth_call of a node whose data begin so."""
    return [call for call in proxy.sent("eth_call") if call["params"][0]["data"].startswith(data)]


def asked_for_logs(council: Council) -> int:
    """How often any node was asked for the Safe's events."""
    return sum(len(proxy.sent("eth_getLogs")) for proxy in council.proxies)


def say_nonce(proxy: RpcProxy, nonce: int, *, alters_logs: Callable[[Any], Any] | None = None) -> None:
    """Let a node say another nonce of the Safe than there is, and other logs."""

    async def rule(exchange: Exchange) -> bytes:
        decoded = json.loads(await exchange.forward())
        calls = {call["id"]: call for call in exchange.calls}
        for answer in decoded if isinstance(decoded, list) else [decoded]:
            call = calls[answer["id"]]
            if call["method"] == "eth_call" and call["params"][0]["data"] == NONCE:
                answer["result"] = f"0x{nonce:064x}"
            elif call["method"] == "eth_getLogs" and alters_logs is not None:
                answer["result"] = alters_logs(answer["result"])
        return json.dumps(decoded).encode()

    proxy.set_rule("eth_call", rule)
    proxy.set_rule("eth_getLogs", rule)


@asynccontextmanager
async def running(council: Council) -> AsyncIterator[SafeProcess]:
    """A process on this Safe for the length of the block, whose nodes are all known to be well."""
    process = SafeProcess(council)
    await process.open()
    process.run()
    try:
        await until(lambda: all(node.head.latest is not None for node in process.network.rpc.nodes))
        yield process
    finally:
        await process.close()


@asynccontextmanager
async def proposed(council: Council, **plugin: Any) -> AsyncIterator[tuple[SafeProcess, JobCall, SafeTx]]:
    """The same, with a call that waits for its signatures; `plugin` are keys of its configuration."""
    async with running(council) as process:
        call = await process.act(**plugin)
        proposal = await process.proposal(call)
        yield process, call, proposal.safe_tx


def test_owners_execution_is_no_failure_because_a_node_shows_no_logs(council: Council) -> None:
    """The node that is read from lags with its logs: the call is acted, once, when a quorum finds it final."""

    async def scenario() -> None:
        async with proposed(council) as (process, call, safe_tx):
            process.best.alter("eth_getLogs", lambda _: [])
            transaction = council.carry_out(safe_tx)
            await process.mine_until_passed()
            assert process.results_of == {}
            await process.mine_until_ended(call)
            assert process.outcome(call).startswith("acted: the Safe carried it out in block")
            assert process.results_of[call.id].transaction == transaction
            assert process.state(call) == "final"
        assert council.staked() == 1_000
        assert council.ground.sent() == []

    run_async(scenario())


def test_nothing_is_concluded_and_no_logs_are_asked_for_before_the_depth(council: Council) -> None:
    """Neither acted nor failed until the chain's own finality, for ours as for another's."""

    async def scenario(is_ours: bool) -> None:
        async with proposed(council) as (process, call, safe_tx):
            council.carry_out(safe_tx if is_ours else council.foreign(safe_tx.nonce))
            before = asked_for_logs(council)
            for _ in range(CONFIRMATIONS - 1):
                council.ground.mine()
                await process.saw_newest_block()
                await seconds(0.2)
                assert process.results_of == {}
                assert asked_for_logs(council) == before
            await process.mine_until_ended(call)
            found = "acted: the Safe carried" if is_ours else "failed: the Safe's nonce moved on to 2: another"
            assert process.outcome(call).startswith(found)

    for is_ours in (True, False):
        run_async(scenario(is_ours))


def test_log_of_one_node_is_no_proof_that_it_was_carried_out(council: Council) -> None:
    """Another transaction took the nonce; the node that is read from calls it ours."""

    async def scenario() -> None:
        async with proposed(council) as (process, call, safe_tx):
            ours = "0x" + safe_tx.hash.hex()
            process.best.alter("eth_getLogs", lambda logs: [log | {"topics": [log["topics"][0], ours]} for log in logs])
            transaction = council.carry_out(council.foreign())
            await process.mine_until_ended(call)
            said = process.outcome(call)
            assert said.startswith(f"failed: the Safe's nonce moved on to 1: another transaction took 0, {transaction}")

    run_async(scenario())


def test_nonce_that_one_node_invents_ends_no_call(council: Council) -> None:
    """It says that the nonce is used, and shows our event for it: the proposal goes on, and two signatures act."""

    async def scenario() -> None:
        async with proposed(council) as (process, call, safe_tx):
            invented = {
                "address": council.safe, "topics": [EXECUTION_SUCCESS, "0x" + safe_tx.hash.hex()], "data": "0x",
                "blockNumber": hex(1), "transactionHash": "0x" + "11" * 32,
            }  # fmt: skip
            liar = process.best
            say_nonce(liar, 1, alters_logs=lambda _: [invented])
            await process.looked()
            for _ in range(CONFIRMATIONS + 1):
                council.ground.mine()
                await process.looked()
            assert process.results_of == {}
            await process.desk.add_signature(call.id, signature(ADA, safe_tx), "uid:0")
            await process.mine_until_ended(call)
            assert process.outcome(call).startswith("acted")
        assert council.staked() == 1_000

    run_async(scenario())


@pytest.mark.parametrize("is_signed", [False, True], ids=["deadline", "signature"])
def test_state_of_a_node_that_lags_ends_and_completes_nothing(council: Council, is_signed: bool) -> None:
    """The owners carried it out, the node that is read from does not know: neither expired, nor sent a second time."""

    async def scenario() -> None:
        async with proposed(council, intent_deadline_s=60.0 if is_signed else 0.5) as (process, call, safe_tx):
            say_nonce(process.best, 0)
            council.carry_out(safe_tx)
            council.ground.mine()
            await process.looked()
            if is_signed:
                await process.desk.add_signature(call.id, signature(ADA, safe_tx), "uid:0")
            await process.mine_until_ended(call)
            assert process.outcome(call).startswith("acted: the Safe carried it out")
        assert council.ground.sent() == []

    run_async(scenario())


def test_nonce_that_one_node_names_is_not_given_to_the_owners(council: Council) -> None:
    """A future one would be a signature for whatever comes then: they are shown what a quorum counts."""

    async def scenario() -> None:
        async with running(council) as process:
            say_nonce(process.best, 7)
            call = await process.act()
            assert (await process.proposal(call)).safe_tx.nonce == 0

    run_async(scenario())


@pytest.mark.parametrize("what", ["eth_getLogs", "eth_getTransactionReceipt"])
def test_logs_that_do_not_explain_the_nonce_prove_nothing_whoever_agrees(council: Council, what: str) -> None:
    """All nodes lag with their logs, at any depth: it waits, and ends as what it was when they show it."""

    async def scenario() -> None:
        async with proposed(council) as (process, call, safe_tx):
            for proxy in council.proxies:
                proxy.alter(what, lambda found: found and ([] if isinstance(found, list) else found | {"logs": []}))
            council.carry_out(safe_tx)
            await process.mine_until(lambda: sum(len(proxy.sent(what)) for proxy in council.proxies) >= 6)
            assert process.results_of == {}
            for proxy in council.proxies:
                proxy.open()
            await process.mine_until_ended(call)
            assert process.outcome(call).startswith("acted")

    run_async(scenario())


def test_it_waits_while_no_quorum_answers(council: Council) -> None:
    """Two of three are away: neither its end nor its beginning is one node's to say."""

    async def scenario() -> None:
        async with proposed(council) as (process, call, safe_tx):
            traps = [proxy.refuse("eth_getLogs", -32_005, "limit exceeded") for proxy in process.others]
            council.carry_out(safe_tx)
            await process.mine_until(lambda: all(trap.calls for trap in traps))
            await seconds(0.2)
            assert process.results_of == {}
            for proxy in council.proxies:
                proxy.open()
            await process.mine_until_ended(call)
            assert process.outcome(call).startswith("acted")

    run_async(scenario())


def test_what_a_reorg_takes_back_is_not_concluded_from(council: Council) -> None:
    """Another transaction took the nonce, fell out, and the owners carried ours out in its place."""

    async def scenario() -> None:
        async with proposed(council) as (process, call, safe_tx):
            council.carry_out(council.foreign())
            await process.mine_until_passed()
            await seconds(0.1)
            council.ground.node.rpc("anvil_reorg", 1, [])
            council.ground.node.rpc("anvil_dropAllTransactions")
            council.carry_out(safe_tx)
            await process.mine_until_ended(call)
            assert process.outcome(call).startswith("acted: the Safe carried it out")
        assert council.staked() == 1_000

    run_async(scenario())


def test_call_that_waits_for_proof_survives_a_restart(council: Council) -> None:
    """Another process finds the proposal in the ledger, and the nonce on the chain."""

    async def scenario() -> None:
        async with proposed(council) as (process, call, safe_tx):
            council.carry_out(safe_tx)
            await process.mine_until_passed()
            assert process.results_of == {}
        async with running(council) as process:
            await process.mine_until_ended(call)
            assert process.outcome(call).startswith("acted: the Safe carried it out")
        assert council.staked() == 1_000

    run_async(scenario())


def test_by_tag_only_what_is_finalized_ends_it(council: Council) -> None:
    """`finality = "finalized"`: no depth is enough, and one node's tag is not."""
    council.ground.chain |= {"finality": "finalized", "confirmations": 1}
    heights = {"finalized": 0}

    def finalize(proxy: RpcProxy) -> None:
        async def rule(exchange: Exchange) -> bytes:
            calls = [
                call | {"params": [hex(heights["finalized"]), False]}
                if call["method"] == "eth_getBlockByNumber" and call["params"][0] == "finalized"
                else call
                for call in exchange.calls
            ]
            body = calls if exchange.body.startswith(b"[") else calls[0]
            return await Exchange(json.dumps(body).encode(), exchange.node_url).forward()

        proxy.set_rule("eth_getBlockByNumber", rule)

    async def scenario() -> None:
        async with proposed(council) as (process, call, safe_tx):
            for proxy in council.proxies:
                finalize(proxy)
            transaction = council.carry_out(safe_tx)
            await process.mine_until_passed()
            council.ground.mine(5)
            await seconds(0.3)
            assert process.results_of == {}
            assert asked_for_logs(council) == 0
            heights["finalized"] = int(council.chain.receipt(transaction)["blockNumber"], 16) + 5
            await process.mine_until_ended(call)
            assert process.outcome(call).startswith("acted")

    run_async(scenario())


def test_a_proposal_that_waits_asks_one_node(council: Council) -> None:
    """While nothing changes at the Safe no quorum is asked, however many blocks come."""

    async def scenario() -> None:
        async with proposed(council) as (process, _, _):
            others = process.others
            before = [len(asked(proxy)) for proxy in others]
            for _ in range(5):
                council.ground.mine()
                await process.looked()
            assert [len(asked(proxy)) for proxy in others] == before
            assert asked_for_logs(council) == 0

    run_async(scenario())


def test_complete_proposal_that_has_to_be_signed_anew_goes_to_the_lane(council: Council) -> None:
    """A stranger took the operator's nonce (`Died`), not the Safe's: the owners' signatures still hold."""

    async def scenario() -> None:
        async with proposed(council) as (process, call, safe_tx):
            await process.desk.add_signature(call.id, signature(ADA, safe_tx), "uid:0")
            await process.until_state(call, "sent")
            council.ground.node.rpc("anvil_dropTransaction", attempts(council.ground)[0]["hash"])
            stranger = send_foreign(council.ground, process, 0)
            council.ground.mine()
            await until_paused(process, stranger)
            assert await process.auditor.adopt(stranger, "uid:0") is not None
            await process.mine_until_ended(call)
            assert process.outcome(call).startswith("acted")

    run_async(scenario())

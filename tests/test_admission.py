"""What admission concludes from a node's answers, and what it writes: all of it, or nothing."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from runnerd.admission import Admission, admit
from runnerd.chain.address import parse_address
from runnerd.chain.errors import RpcRefused, RpcUnavailable
from runnerd.chain.json_values import JsonParam, JsonValue
from runnerd.chains import ChainDesk
from runnerd.config.model import ChainConfig, VaultConfig, WalletConfig
from runnerd.config.plugins import BudgetConfig
from runnerd.executor.auditor import BY_US, WHAT_TO_DO
from runnerd.executor.follow import Follower
from runnerd.executor.tracked import Book
from runnerd.executor.usage import Usage
from runnerd.network import open_network
from runnerd.pauses import Pauses
from runnerd.routing.results import Results
from runnerd.services.metrics import Metrics
from runnerd.store.errors import StoreError, StoreUnavailable
from runnerd.store.ledger import Rows
from runnerd.store.statement import Statement
from runnerd.store.store import Store
from runnerd.supervisor.machine import Phase
from runnerd.vaults.catalogue import build_catalogue
from runnerd.wallets.signer import Signer
from tests.chain.fake_node import FakeNode, wire_block
from tests.support.aio import run_async
from tests.support.caller_parts import FakeLedger
from tests.support.until import until
from tests.support.virtual_time import VirtualClock, VirtualTimeLoop

OURS = {"hot": parse_address("0x" + "0a" * 20), "cold": parse_address("0x" + "0b" * 20)}


class WalletLedger(FakeLedger):
    """Knows the next nonce of each wallet; `failures` are raised by the next fetches."""

    def __init__(self) -> None:
        super().__init__()
        self.next_nonces = dict.fromkeys(OURS.values(), 5)
        self.failures: list[StoreError] = []

    async def fetch(self, statement: Statement) -> Rows:
        if self.failures:
            raise self.failures.pop()
        if "from wallets" not in statement.sql:
            return []  # no stranger was seen before
        return [{"next_nonce": self.next_nonces[str(statement.parameters["address"])]}]


class FakeSigner:
    """An address."""

    def __init__(self, address: str) -> None:
        self.address = address


class ClosedFollower:
    """One that was begun."""

    async def close(self) -> None:
        """Nothing is under way."""


class Venue:
    """One chain with a vault for each wallet. The node's nonces and its answer to `operator()` may be changed."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.ledger = WalletLedger()
        self.nonces: dict[str, int | Exception] = dict.fromkeys(OURS.values(), 5)
        self.refusal: RpcRefused | None = None
        self.signers = cast("dict[str, Signer]", {name: FakeSigner(address) for name, address in OURS.items()})
        self.vaults = {
            name: VaultConfig(chain="local", address="0x" + digit * 40, wallet=name)
            for name, digit in (("hot", "1"), ("cold", "2"))
        }
        config = ChainConfig(id=31337, rpc="http://127.0.0.1:1")
        self.network = open_network("local", config, connect=lambda _: FakeNode(self.answer))

    def answer(self, method: str, params: Sequence[JsonParam]) -> JsonValue | RpcRefused:
        if method == "eth_chainId":
            return hex(31337)
        if method == "eth_getBlockByNumber":
            return wire_block(1)
        if method == "eth_call":
            to = cast("dict[str, str]", params[0])["to"]
            wallet = next(name for name, vault in self.vaults.items() if vault.address == to)
            return self.refusal or "0x" + OURS[wallet].removeprefix("0x").rjust(64, "0")
        nonce = self.nonces[str(params[0])]
        if isinstance(nonce, Exception):
            raise nonce
        return hex(nonce)

    async def admit(self) -> Admission:
        return await admit(self.network, self.vaults, self.signers, self.ledger, self.clock)

    def desk(self) -> ChainDesk:
        """The chain in operation, on the same parts."""
        store = cast("Store", self.ledger)
        gas = Usage(store, self.clock, {}, lambda _: BudgetConfig(), {}).gas
        return ChainDesk(
            self.network, self.vaults, {name: WalletConfig(keystore=Path("k")) for name in OURS}, self.signers,
            {name: build_catalogue(name, vault) for name, vault in self.vaults.items()}, store,
            Book(store, Results(self.ledger, self.clock), self.clock), Pauses(), gas,
            Metrics(phase.value for phase in Phase), self.clock,
        )  # fmt: skip


def run(scenario: Any) -> None:
    """On virtual time."""
    run_async(scenario, loop_factory=VirtualTimeLoop)


def test_pause_for_strangers_is_in_the_commit_that_moves_the_nonce() -> None:
    """A kill between the two would leave a ledger that knows of no stranger."""

    async def scenario() -> None:
        venue = Venue()
        venue.nonces[OURS["cold"]] = 8
        admission = await venue.admit()
        assert [(pause.name, pause.paused_by) for pause in admission.pauses] == [
            ("cold", f"{BY_US}s of the operator, 3 of them, are not ours: {WHAT_TO_DO}")
        ]
        (commit,) = venue.ledger.commits
        told = [
            next(each.parameters[key] for key in ("next", "last", "name") if key in each.parameters) for each in commit
        ]
        assert told == [5, 8, 7, "cold"], "two wallets, strangers up to nonce 7, one pause"
        assert admission.refused == {}
        assert admission.next_nonces == {OURS["hot"]: 5, OURS["cold"]: 8}

    run(scenario())


def test_stranger_is_still_seen_after_a_node_failed_half_way() -> None:
    """Nothing is written before the last answer is there: the next try finds the same difference."""

    async def scenario() -> None:
        venue = Venue()
        venue.nonces = {OURS["hot"]: 8, OURS["cold"]: RpcUnavailable("deadline")}
        with pytest.raises(RpcUnavailable):
            await venue.admit()
        assert venue.ledger.commits == []
        venue.nonces[OURS["cold"]] = 5
        assert [pause.name for pause in (await venue.admit()).pauses] == ["hot"]

    run(scenario())


@pytest.mark.parametrize("refusal", [RpcRefused(-32005, "limit exceeded"), RpcRefused(-32000, "header not found")])
def test_vault_is_not_refused_because_the_node_would_not_say(refusal: RpcRefused) -> None:
    """A refusal is for good; a rate limit passes."""

    async def scenario() -> None:
        venue = Venue()
        venue.refusal = refusal
        with pytest.raises(RpcRefused):
            await venue.admit()

    run(scenario())


def test_vault_whose_operator_call_reverts_is_refused() -> None:
    """The call itself fails: asking again changes nothing."""

    async def scenario() -> None:
        venue = Venue()
        venue.refusal = RpcRefused(3, "execution reverted", "0x")
        refused = (await venue.admit()).refused
        address = venue.vaults["hot"].address
        assert refused["hot"] == f"{address} does not answer as a vault of kind erc7821: reverted without a reason"

    run(scenario())


def test_chain_is_opened_although_the_ledger_was_away() -> None:
    """While it is admitted, and while its vaults are opened: each is tried again, and what was found stays found."""

    async def scenario() -> None:
        venue = Venue()
        venue.ledger.failures = [StoreUnavailable("away")]
        venue.nonces[OURS["hot"]] = 6
        desk, tries = venue.desk(), list[str | None]()

        async def open_vaults(opened: ChainDesk) -> None:
            tries.append(opened.problem)
            if len(tries) < 3:
                raise StoreUnavailable("away again")

        await desk.start(open_vaults, pytest.fail)
        assert (len(tries), tries[-1], desk.problem) == (3, "the ledger: away again", None)
        assert len(venue.ledger.commits) == 1
        assert [str(scope) for scope, _ in desk._pauses.active] == ["vault"]
        await desk.close()

    run(scenario())


def actions_of(caplog: pytest.LogCaptureFixture) -> list[object]:
    """What was logged, by action."""
    return [getattr(record, "runnerd_fields", {}).get("action") for record in caplog.records]


def test_chain_is_opened_although_it_failed_in_a_way_that_nobody_foresaw(caplog: pytest.LogCaptureFixture) -> None:
    """A node's nonsense, or a defect of ours, would else leave its plugins without a chain until the next start."""

    async def scenario() -> None:
        venue = Venue()
        venue.nonces[OURS["hot"]] = RecursionError("nested")
        desk, problems = venue.desk(), list[str | None]()

        async def open_vaults(opened: ChainDesk) -> None:
            problems.append(opened.problem)
            if len(problems) == 1:
                raise LookupError("of ours")

        opening = desk.start(open_vaults, pytest.fail)
        await until(lambda: "RecursionError" in (desk.problem or ""))
        venue.nonces[OURS["hot"]] = 5
        await opening
        assert problems[1:] == ["it cannot be opened, see the log: LookupError"]
        assert desk.problem is None
        await desk.close()

    run(scenario())
    assert actions_of(caplog).count("chain_failed") >= 2


def test_chain_that_works_already_is_not_opened_again() -> None:
    """A second follower and a second lane would sign and send beside the first ones."""

    async def scenario() -> None:
        desk, tries = Venue().desk(), list[ChainDesk]()

        async def open_vaults(opened: ChainDesk) -> None:
            tries.append(opened)
            opened.follower = cast("Follower", ClosedFollower())
            raise LookupError("after the first transaction may have been sent")

        opening = desk.start(open_vaults, pytest.fail)
        with pytest.raises(LookupError):
            await opening
        assert (len(tries), desk.problem) == (1, "it cannot be opened, see the log: LookupError")
        await desk.close()

    run(scenario())


@pytest.mark.parametrize("nodes, is_warned", [(("http://a",), True), (("http://a", "http://b"), False)])
def test_chain_without_a_quorum_says_so_at_its_start(
    caplog: pytest.LogCaptureFixture, nodes: tuple[str, ...], is_warned: bool
) -> None:
    """One node is proof of everything then."""

    async def scenario() -> None:
        venue = Venue()
        venue.network = open_network(
            "local", ChainConfig(id=31337, rpc=nodes), connect=lambda url: FakeNode(venue.answer, url)
        )
        desk = venue.desk()

        async def open_vaults(chain: ChainDesk) -> None:
            assert chain.admission is not None

        await desk.start(open_vaults, pytest.fail)
        await desk.close()

    run(scenario())
    assert ("no_quorum" in actions_of(caplog)) is is_warned

"""The mirror of the reference vault's caps, on a real node: it says what the contract would, before gas is spent."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import product

import pytest

from protocol.actions import Action
from runnerd.chain.vault_caps import VaultCaps
from runnerd.chain.vaults.erc7821 import Erc7821Vault
from runnerd.executor.observation import SimulationReverted
from runnerd.executor.policy import Approved, Circumstances, judge
from runnerd.executor.wanted import Intent
from runnerd.vaults import caps_mirror
from runnerd.vaults.caps_mirror import CapsMirror
from tests.support.aio import run_async
from tests.support.executor_bench import ETHER, Ground, Process, mint, running
from tests.support.until import until

NOW = datetime(2026, 1, 1, tzinfo=UTC)
"""Before the day of any block here."""


@pytest.fixture
def polls_are_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five polls of these tests are a tenth of a second, in which a busy machine does nothing for this process."""
    monkeypatch.setattr(caps_mirror, "STALE_POLLS", 1_000)


def owner(ground: Ground, function: object) -> None:
    """A transaction of the vault's owner, mined."""
    ground.send_mined(function)


async def read(ground: Ground, mirror: CapsMirror, is_so: Callable[[VaultCaps], bool] = lambda _: True) -> VaultCaps:
    """The mirror at a block from now on, for which `is_so` holds."""
    number = ground.w3.eth.block_number

    def is_there() -> bool:
        caps = mirror.of("main", NOW)
        return caps is not None and caps.block_number >= number and is_so(caps)

    await until(is_there, every_s=0.01)
    caps = mirror.of("main", NOW)
    assert caps is not None
    return caps


@pytest.mark.usefixtures("polls_are_late")
def test_caps_are_those_of_the_vault_at_the_newest_block(ground: Ground) -> None:
    """All of them, and anew with each block."""

    async def scenario() -> None:
        async with running(ground) as process:
            mirror = process.mirror()
            caps = await read(ground, mirror)
            assert (caps.max_per_transaction_wei, caps.max_per_day_wei) == (ETHER, 5 * ETHER)
            assert (caps.is_paused, caps.spent_today_wei, caps.refused) == (False, 0, frozenset())
            selector = process.catalogue.actions["mint"].function.selector
            vault, market = ground.vault.functions, ground.market.address
            owner(ground, vault.setAllowed(market, selector, False))
            owner(ground, vault.setCaps(7, 8))
            owner(ground, vault.setPaused(True))
            caps = await read(ground, mirror)
            assert (caps.max_per_transaction_wei, caps.max_per_day_wei) == (7, 8)
            assert caps.is_paused
            assert caps.refused == {(market, selector)}

    run_async(scenario())


@pytest.mark.parametrize(
    "change, action, reason",
    [
        (lambda f, g: f.setCaps(1_000, 5_000), mint(2_000),
         "action 1 (mint): vault allows 1000 wei in one transaction (maxPerTransaction), asked 2000"),
        (lambda f, g: f.setCaps(5_000, 1_000), mint(2_000),
         "vault allows 1000 wei in one day (maxPerDay), asked 2000 on top of 0 spent (spentToday) and 0 on the way"),
        (lambda f, g: f.setPaused(True), mint(0), "the vault is paused on chain (paused)"),
        (lambda f, g: f.setAllowed(g.market.address, bytes.fromhex("9f7b4579"), True), mint(2_000), None),
    ],
    ids=["transaction", "day", "paused", "positive control"],
)  # fmt: skip
def test_breach_is_refused_before_anything_is_simulated(
    ground: Ground, change: Callable[..., object], action: Action, reason: str | None
) -> None:
    """With the rule, the value and the limit; nothing is planned and nothing is sent."""

    async def scenario() -> None:
        async with running(ground) as process:
            mirror = process.mirror()
            owner(ground, change(ground.vault.functions, ground))
            await read(ground, mirror)
            call = await process.act(action)
            if reason is None:
                await process.mine_until_ended(call)
                assert process.outcome(call).startswith("acted")
                return
            assert process.outcome(call) == f"denied: {reason}"
            assert ground.rows("select call_id from intents") == []
        assert ground.sent() == []

    run_async(scenario())


@pytest.mark.usefixtures("polls_are_late")
def test_what_is_on_the_way_counts_against_the_day_exactly_once(ground: Ground) -> None:
    """A simulation at the head does not see it; once it is executed, the vault itself counts it."""

    async def scenario() -> None:
        async with running(ground, follower=False) as process:
            mirror = process.mirror()
            owner(ground, ground.vault.functions.setCaps(1_000, 1_000))
            await read(ground, mirror)
            first = await process.act(mint(600))
            await process.until_state(first, "sent")
            refused = await process.act(mint(401))
            assert process.outcome(refused).endswith("on top of 0 spent (spentToday) and 600 on the way")
            ground.mine()  # nobody looks for receipts: to the ledger it is still under way
            caps = await read(ground, mirror)
            assert (caps.spent_today_wei, caps.executed) == (600, frozenset({first.id}))
            refused = await process.act(mint(401))
            assert process.outcome(refused).endswith("on top of 600 spent (spentToday) and 0 on the way")
            last = await process.act(mint(400))
            await process.until_state(last, "sent")
        assert len(ground.sent()) == 2

    run_async(scenario())


@pytest.mark.usefixtures("polls_are_late")
def test_mirror_and_contract_agree_to_the_wei(ground: Ground) -> None:
    """Over a grid of caps and values the mirror objects exactly where the vault's own code reverts."""

    async def scenario() -> None:
        async with running(ground, lane=False, follower=False) as process:
            mirror = process.mirror()
            verdicts = []
            for per_transaction, per_day in ((0, 0), (3, 100), (100, 3), (3, 4)):
                owner(ground, ground.vault.functions.setCaps(per_transaction, per_day))
                caps = await read(ground, mirror)
                for values in [*product(range(3), range(4)), (3,), (4,), (0,)]:
                    ours = judged(process, caps, values)
                    theirs = await simulated(process, values)
                    assert ours == theirs, (per_transaction, per_day, values)
                    verdicts.append(ours)
            assert {True, False} == set(verdicts)

    run_async(scenario())


def judged(process: Process, caps: VaultCaps | None, values: tuple[int, ...]) -> bool:
    """Whether policy lets it pass."""
    return isinstance(judgement(process, caps, values), Approved)


def judgement(process: Process, caps: VaultCaps | None, values: tuple[int, ...]) -> object:
    """By the catalogue of the ground."""
    circumstances = Circumstances(
        plugin="alpha", budget=process.usage.budget_of("alpha"), used=lambda _: 0, caps=caps, on_the_way_wei=0
    )
    return judge([mint(value) for value in values], process.catalogue, circumstances)


async def simulated(process: Process, values: tuple[int, ...]) -> bool:
    """Whether the vault itself lets it pass, whatever the market says of it then."""
    approved = judgement(process, None, values)
    assert isinstance(approved, Approved)
    desk = process.vaults["main"]
    intent = Intent(
        call_id=1, plugin="alpha", vault="main", chain_id=31337, wallet=process.lane.signer.address,
        target=desk.adapter.address, calldata=desk.adapter.build(approved.calls, bytes(31) + b"\1").data,
        value_wei=approved.value_wei, deadline_at=NOW,
    )  # fmt: skip
    (outcome,) = await process.lane.prepare([intent])
    return not (isinstance(outcome, SimulationReverted) and outcome.reason.startswith("vault: "))


@pytest.mark.usefixtures("polls_are_late")
def test_nothing_is_spent_of_a_day_that_has_no_block_yet(ground: Ground) -> None:
    """The vault counts by the day of the block that includes: that of the last block may be over."""

    async def scenario() -> None:
        async with running(ground, follower=False) as process:
            mirror = process.mirror()
            await read(ground, mirror)
            await process.until_state(await process.act(mint(600)), "sent")
            ground.mine()
            caps = await read(ground, mirror)
            midnight = datetime.fromtimestamp((caps.day + 1) * 86_400, UTC)
            before, after = mirror.of("main", midnight - timedelta(seconds=1)), mirror.of("main", midnight)
            assert before is not None
            assert after is not None
            assert (before.spent_today_wei, after.spent_today_wei) == (600, 0)

    run_async(scenario())


# --- when there is nothing to mirror ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("polls_are_late")
def test_vault_without_such_views_is_not_mirrored(ground: Ground) -> None:
    """It is asked once, and everything goes on without; the simulation tells."""

    async def scenario() -> None:
        async with running(ground) as process:
            # A contract with other views.
            process.vaults["main"].adapter = Erc7821Vault(address=ground.market.address, operator=ground.signer.address)
            mirror = process.mirror()
            ground.mine()
            await until(lambda: not mirror._vaults, every_s=0.01)
            assert mirror.of("main", NOW) is None

    run_async(scenario())


@pytest.mark.parametrize("away", ["head", "calls"])
def test_caps_that_could_not_be_read_lately_deny_nothing(ground: Ground, away: str) -> None:
    """An old cap may be another by now; the node that does not say it cannot simulate either."""

    async def scenario() -> None:
        async with running(ground, lane=False, follower=False) as process:
            mirror = process.mirror()
            owner(ground, ground.vault.functions.setCaps(1, 1))
            await read(ground, mirror)
            assert process.outcome(await process.act(mint(2))).startswith("denied: action 1 (mint): vault allows 1 wei")
            if away == "head":
                ground.proxy.hang_up("eth_getBlockByNumber", is_forwarded=False)
            else:
                ground.proxy.hang_up("eth_call", is_forwarded=False)
                ground.mine(6)
            await until(lambda: mirror.of("main", NOW) is None, every_s=0.01)
            call = await process.act(mint(2))
            assert process.state(call) == "planned"

    run_async(scenario())


def test_mirror_goes_on_when_the_node_is_back(ground: Ground) -> None:
    """With the first block after."""

    async def scenario() -> None:
        async with running(ground, lane=False, follower=False) as process:
            mirror = process.mirror()
            await read(ground, mirror)
            ground.proxy.hang_up("eth_call", is_forwarded=False)
            ground.mine(6)
            await until(lambda: mirror.of("main", NOW) is None, every_s=0.01)
            ground.proxy.open()
            ground.mine()
            await read(ground, mirror)

    run_async(scenario())

"""A keeper's plain account: what it builds, and whom admission lets be a keeper."""

import asyncio

import pytest

from runnerd.chain.address import checksum_address
from runnerd.chain.errors import AbiError, RpcRefused
from runnerd.chain.json_values import JsonValue
from runnerd.chain.rpc import Rpc
from runnerd.chain.vault import Batch, Call
from runnerd.chain.vaults.direct import DirectKeeper
from runnerd.chain.vaults.rights import RightsQuestion
from runnerd.config.grants import KeeperAction
from runnerd.config.model import KeeperConfig, VaultConfig
from runnerd.vaults.keepers import find_right
from runnerd.vaults.vaults import find_problem
from tests.chain.vaults.conftest import World
from tests.support.published import create_safe

INTENT = b"\x77" * 32
KEEPER = checksum_address("0x" + "ab" * 20)
FEED = checksum_address("0x" + "cd" * 20)
CALL = Call(to=FEED, value_wei=0, data=b"\x01\x02\x03\x04")


def adapter() -> DirectKeeper:
    return DirectKeeper(operator=KEEPER, contracts={"refresh": FEED})


def test_one_call_is_the_transaction_itself() -> None:
    """Nothing is wrapped around it: the contract's caller is the wallet."""
    assert adapter().build([CALL], INTENT) == Batch(to=FEED, data=CALL.data)
    assert adapter().address == KEEPER


@pytest.mark.parametrize("count", [0, 2])
def test_none_and_several_are_refused(count: int) -> None:
    """A plain account cannot make them one transaction, and half a decision is worse than none."""
    with pytest.raises(AbiError, match=f"{count} actions in one decision: .* cannot make them one transaction"):
        adapter().build([CALL] * count, INTENT)


def test_a_call_with_value_is_refused() -> None:
    """Whatever the policy has let pass."""
    with pytest.raises(AbiError, match="a keeper's calls carry no value"):
        adapter().build([Call(to=FEED, value_wei=1, data=b"")], INTENT)


def test_rights_are_read_from_the_views_that_answer() -> None:
    """A view that is not there says nothing; a node that did not ask is asked again."""
    question = RightsQuestion(account=KEEPER, contracts=[FEED])
    absent: JsonValue | RpcRefused = RpcRefused(3, "execution reverted")
    nobody, we, yes, no = ("0x" + word.rjust(64, "0") for word in ("cd" * 20, "ab" * 20, "1", "0"))
    views = [request[1][0]["data"][:10] for request in question.requests()]  # type: ignore[index,call-overload]
    assert len(set(views)) == len(views) == 6
    assert question.find([nobody, absent, absent, "0x", no, absent]) is None
    assert question.find([nobody, we, absent, absent, absent, absent]) == f"owner of {FEED}"
    assert question.find([absent, absent, absent, absent, absent, yes]) == f"isModuleEnabled of {FEED}"
    with pytest.raises(RpcRefused):
        question.find([nobody, RpcRefused(-32005, "rate limit"), absent, absent, absent, absent])


@pytest.mark.integration
def test_only_a_plain_account_with_contracts_to_call_is_admitted(world: World) -> None:
    """A call to an address without code would succeed and do nothing."""
    stranger = world.account(4)
    assert _problem(world, stranger, world.market) is None
    assert "there is no contract at actions.refresh.contract" in (_problem(world, stranger, FEED) or "")
    assert "is no plain account" in (_problem(world, world.market, world.market) or "")


@pytest.mark.integration
def test_a_wallet_with_a_right_at_a_vault_is_no_keeper(world: World) -> None:
    """An owner of a Safe is found, whatever the Safe's threshold; somebody else is not."""
    safe = create_safe(world.chain, world.kit, [world.account(2), world.account(3)], 2)
    vault = VaultConfig(
        chain="local", address=safe, wallet="hot", adapter="safe_multisig", multisend=world.kit.multisend
    )

    async def ask(account: str) -> str | None:
        async with Rpc(world.anvil.url) as rpc:
            return await find_right(rpc, account, {"treasury": vault})

    assert "has a right at vault treasury (isOwner of" in (asyncio.run(ask(world.account(3))) or "")
    assert asyncio.run(ask(world.account(4))) is None


def _problem(world: World, wallet: str, contract: str) -> str | None:
    action = KeeperAction(contract=contract, function="refresh()", permissionless=True)
    keeper = KeeperConfig(chain="local", wallet="maid", actions={"refresh": action})

    async def ask() -> str | None:
        async with Rpc(world.anvil.url) as rpc:
            return await find_problem(rpc, keeper, wallet)

    return asyncio.run(ask())

"""Each kind of vault against the published contract: what takes place, what does not, and who is let in.

The bytecode is that of the npm packages, deployed on a real node; a 7702 account is delegated by a real transaction.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from eth_account import Account

from runnerd.chain.address import checksum_address
from runnerd.chain.head import Head
from runnerd.chain.rpc import Rpc
from runnerd.chain.simulate import CallMessage, Reverted, Simulated
from runnerd.chain.vault import Call, VaultAdapter
from runnerd.config.model import VaultConfig
from runnerd.vaults.vaults import build_adapter, find_problem
from tests.chain.asking import simulate
from tests.chain.vaults.conftest import World
from tests.chain.venue import SPOT
from tests.support.published import create_safe, deploy_roles, deploy_unwrapper

pytestmark = pytest.mark.integration

OPERATOR, STRANGER = 1, 4
INTENT = b"\x77" * 32
ROLE = "0x" + b"keeper".ljust(32, b"\0").hex()
MINT_SELECTOR = bytes.fromhex("b81d79ae")
SEND = 1
"""Execution option of Zodiac Roles: may send ether, may not be called by delegatecall."""


def config(world: World, address: str, adapter: str, **keys: Any) -> VaultConfig:
    """As it would be decoded from the file."""
    if adapter in ("safe", "safe_multisig", "roles"):
        keys = {"multisend": world.kit.multisend, **keys}
    return VaultConfig(chain="local", address=address, wallet="hot", adapter=adapter, **keys)  # type: ignore[arg-type]


def problem_of(world: World, vault: VaultConfig, operator: str) -> str | None:
    """What admission finds."""

    async def ask() -> str | None:
        async with Rpc(world.anvil.url) as rpc:
            return await find_problem(rpc, vault, operator)

    return asyncio.run(ask())


def simulated(world: World, adapter: VaultAdapter, calls: list[Call]) -> Simulated | Reverted:
    """What the executor learns before it signs."""

    async def ask() -> Simulated | Reverted:
        async with Rpc(world.anvil.url) as rpc:
            batch = adapter.build(calls, INTENT)
            message = CallMessage(sender=adapter.operator, to=batch.to, data=batch.data)
            return await simulate(rpc, await Head(rpc).fetch(), message)

    return asyncio.run(ask())


def execute(world: World, adapter: VaultAdapter, calls: list[Call], intent_id: bytes = INTENT) -> bool:
    """Send it as the operator, whatever a simulation would say; whether it succeeded."""
    batch = adapter.build(calls, intent_id)
    return bool(world.chain.send(batch.data, batch.to, adapter.operator)["status"] == "0x1")


# --- what each kind is on this chain ---------------------------------------------------------------------------------


def delegate(world: World, account: int, to: str) -> None:
    """A transaction of type 4 by which an account delegates to a contract."""
    address, key = world.account(account), world.key(account)
    nonce = int(world.anvil.rpc("eth_getTransactionCount", address, "latest"), 16)
    # Its own transaction has used `nonce` when the authorization is looked at.
    authorization = Account.sign_authorization({"chainId": 31_337, "address": to, "nonce": nonce + 1}, key)
    signed = Account.sign_transaction(
        {
            "type": 4, "chainId": 31_337, "nonce": nonce, "to": world.account(STRANGER), "value": 0, "gas": 200_000,
            "maxFeePerGas": 10**11, "maxPriorityFeePerGas": 10**9, "authorizationList": [authorization],
        },
        key,
    )  # fmt: skip
    sent = world.anvil.rpc("eth_sendRawTransaction", "0x" + signed.raw_transaction.hex().removeprefix("0x"))
    assert world.chain.receipt(sent)["status"] == "0x1"


def delegated(world: World) -> VaultConfig:
    """The operator's own account."""
    executor = world.chain.deploy_ours("BatchExecutor")
    delegate(world, OPERATOR, executor)
    return config(world, world.account(OPERATOR), "eip7702", delegate=executor)


def safe(world: World, **keys: Any) -> VaultConfig:
    """A Safe of the operator alone."""
    return config(world, create_safe(world.chain, world.kit, [world.account(OPERATOR)], 1), "safe", **keys)


def behind_roles(world: World, **keys: Any) -> VaultConfig:
    """A Safe of the deployer, with a modifier in whose role the operator may mint below a strike of 300,000."""
    chain = world.chain
    address = create_safe(chain, world.kit, [chain.owner], 1)
    modifier = deploy_roles(chain, chain.owner, address)
    enable = build_adapter(config(world, address, "safe"), chain.owner).build(
        [Call(to=address, value_wei=0, data=_enable_module(modifier))], INTENT
    )
    assert chain.send(enable.data, enable.to)["status"] == "0x1"
    role = bytes.fromhex(ROLE[2:])
    chain.do(modifier, "assignRoles(address,bytes32[],bool[])", world.account(OPERATOR), [role], [True])
    chain.do(modifier, "scopeTarget(bytes32,address)", role, world.market)
    # ConditionFlat: parent, parameter type, operator, value. Calldata must match: strike below, the rest may be any.
    limit = (300_000).to_bytes(32, "big")
    conditions = [(0, 5, 5, b""), (0, 1, 18, limit), (0, 1, 0, b"")]
    chain.do(
        modifier, "scopeFunction(bytes32,address,bytes4,(uint8,uint8,uint8,bytes)[],uint8)",
        role, world.market, MINT_SELECTOR, conditions, SEND,
    )  # fmt: skip
    chain.do(
        modifier, "setTransactionUnwrapper(address,bytes4,address)",
        world.kit.multisend, bytes.fromhex("8d80ff0a"), deploy_unwrapper(chain),
    )  # fmt: skip
    if "intent_registry" in keys:
        chain.do(modifier, "scopeTarget(bytes32,address)", role, world.registry)
        chain.do(
            modifier, "allowFunction(bytes32,address,bytes4,uint8)",
            role, world.registry, bytes.fromhex("17e28594"), 0,
        )  # fmt: skip
    return config(world, address, "roles", roles_modifier=modifier, role_key=ROLE, **keys)


def _enable_module(modifier: str) -> bytes:
    return bytes.fromhex("610b5925") + bytes(12) + bytes.fromhex(modifier[2:])


KINDS: Mapping[str, Callable[..., VaultConfig]] = {"eip7702": delegated, "safe": safe, "roles": behind_roles}


@pytest.fixture(params=KINDS)
def vault(request: pytest.FixtureRequest, world: World) -> VaultConfig:
    """One vault of each kind that the operator alone can move."""
    return KINDS[request.param](world)


# --- what holds for all of them --------------------------------------------------------------------------------------


def test_two_calls_take_place_in_one_transaction(world: World, vault: VaultConfig) -> None:
    """And one call alone as well; the vault is who pays and holds."""
    adapter = build_adapter(vault, world.account(OPERATOR))
    assert problem_of(world, vault, adapter.operator) is None

    assert isinstance(simulated(world, adapter, [world.mint()]), Simulated)
    assert execute(world, adapter, [world.mint(value_wei=7), world.mint(SPOT + 1, value_wei=5)])
    assert world.minted(vault.address) == 12
    assert execute(world, adapter, [world.mint(value_wei=3)], b"\x78" * 32)
    assert world.minted(vault.address) == 15


def test_call_that_fails_reverts_those_before_it(world: World, vault: VaultConfig) -> None:
    """All or nothing, and simulation says so before anything is signed."""
    adapter = build_adapter(vault, world.account(OPERATOR))
    calls = [world.mint(), world.mint(strike=0)]

    assert isinstance(simulated(world, adapter, calls), Reverted)
    assert not execute(world, adapter, calls)
    assert world.minted(vault.address) == 0
    assert not execute(world, adapter, [world.mint(strike=0)])


def test_stranger_is_refused_at_admission_and_on_chain(world: World, vault: VaultConfig) -> None:
    """Another wallet of ours, or a vault that was taken from us: nothing is signed, and nothing would take effect."""
    adapter = build_adapter(vault, world.account(STRANGER))
    problem = problem_of(world, vault, adapter.operator)

    assert problem is not None
    assert adapter.operator in problem
    assert isinstance(simulated(world, adapter, [world.mint()]), Reverted)
    assert not execute(world, adapter, [world.mint()])


@pytest.mark.parametrize("adapter", ["erc7821", "safe", "safe_multisig", "roles"])
def test_address_without_such_a_contract_is_refused(world: World, adapter: str) -> None:
    """A mistyped address, and a contract of another kind."""
    keys = {"roles_modifier": world.market, "role_key": ROLE} if adapter == "roles" else {}
    for address in ("0x" + "5a" * 20, world.market):
        problem = problem_of(world, config(world, address, adapter, **keys), world.account(OPERATOR))
        assert problem is not None
        assert problem.startswith(f"{address} ")
        assert adapter in problem


# --- the lock of intent ids ------------------------------------------------------------------------------------------


def test_intent_id_works_once_for_a_delegated_account(world: World) -> None:
    """The executor's own lock, also for other calls under the same id."""
    adapter = build_adapter(delegated(world), world.account(OPERATOR))

    assert execute(world, adapter, [world.mint()])
    again = simulated(world, adapter, [world.mint(SPOT + 1)])
    assert isinstance(again, Reverted)
    assert again.reason == "executor: intent already executed"
    assert not execute(world, adapter, [world.mint(SPOT + 1)])
    assert execute(world, adapter, [world.mint(SPOT + 1)], b"\x01" * 32)


@pytest.mark.parametrize("kind", ["safe", "roles"])
def test_intent_registry_lets_an_id_take_effect_once(world: World, kind: str) -> None:
    """The second lock of vaults without ids: one that reverts leaves the id unused, another caller has its own."""
    adapter = build_adapter(KINDS[kind](world, intent_registry=world.registry), world.account(OPERATOR))
    assert problem_of(world, KINDS[kind](world, intent_registry=world.registry), adapter.operator) is None

    assert not execute(world, adapter, [world.mint(strike=0)])
    assert execute(world, adapter, [world.mint()])
    assert not execute(world, adapter, [world.mint(SPOT + 1)])
    assert world.minted(adapter.address) == 10
    other = build_adapter(safe(world, intent_registry=world.registry), world.account(OPERATOR))
    assert execute(world, other, [world.mint()])


@pytest.mark.parametrize("kind", ["safe", "roles"])
def test_without_a_registry_only_the_nonce_is_a_lock(world: World, kind: str) -> None:
    """What docs/security.md says of such a vault: the same batch at a later nonce is a second effect."""
    adapter = build_adapter(KINDS[kind](world), world.account(OPERATOR))

    assert execute(world, adapter, [world.mint()])
    assert execute(world, adapter, [world.mint()])
    assert world.minted(adapter.address) == 20


# --- what only one kind has ------------------------------------------------------------------------------------------


def test_account_without_the_right_delegate_is_refused(world: World) -> None:
    """Before it is delegated, with another delegate, for another address than the wallet's, and after it is undone."""
    us, executor = world.account(OPERATOR), world.chain.deploy_ours("BatchExecutor")
    ours = config(world, us, "eip7702", delegate=executor)
    assert "delegates to nothing" in (problem_of(world, ours, us) or "")
    delegate(world, OPERATOR, world.registry)
    assert f"delegates to {world.registry}" in (problem_of(world, ours, us) or "")
    delegate(world, OPERATOR, executor)
    assert problem_of(world, ours, us) is None
    theirs = config(world, world.account(STRANGER), "eip7702", delegate=executor)
    assert f"must be our wallet itself, {us}" in (problem_of(world, theirs, us) or "")
    delegate(world, OPERATOR, "0x" + "00" * 20)
    assert "delegates to nothing" in (problem_of(world, ours, us) or "")


def test_delegated_account_takes_calls_from_itself_alone(world: World) -> None:
    """Whoever else sends the same calldata gets nothing, and plain ether still arrives."""
    vault = delegated(world)
    batch = build_adapter(vault, world.account(OPERATOR)).build([world.mint()], INTENT)

    assert world.chain.send(batch.data, batch.to, world.account(STRANGER))["status"] == "0x0"
    before = int(world.anvil.rpc("eth_getBalance", vault.address, "latest"), 16)
    gift = {"from": world.account(STRANGER), "to": vault.address, "value": hex(5)}
    assert world.chain.receipt(world.anvil.rpc("eth_sendTransaction", gift))["status"] == "0x1"
    assert int(world.anvil.rpc("eth_getBalance", vault.address, "latest"), 16) == before + 5


def test_safe_that_wants_more_signatures_is_refused(world: World) -> None:
    """With what to use instead; and a helper contract that is not there is named."""
    us = world.account(OPERATOR)
    address = create_safe(world.chain, world.kit, [us, world.account(2)], 2)
    assert problem_of(world, config(world, address, "safe"), us) == (
        'the Safe wants 2 signatures, the adapter "safe" gives 1: use "safe_multisig"'
    )
    single = create_safe(world.chain, world.kit, [us], 1)
    nothing = checksum_address("0x" + "5a" * 20)
    assert problem_of(world, config(world, single, "safe", multisend=nothing), us) == (
        f"there is no contract at multisend = {nothing}"
    )


def test_role_limits_refuse(world: World) -> None:
    """The modifier is the owner's second opinion: a strike above the limit, an unknown function, an unknown target."""
    adapter = build_adapter(behind_roles(world), world.account(OPERATOR))
    forbidden: Mapping[str, Call] = {
        "strike": world.mint(strike=300_000),
        "function": Call(to=world.market, value_wei=0, data=bytes.fromhex("00000001")),
        "target": Call(to=world.registry, value_wei=0, data=bytes.fromhex("17e28594") + INTENT),
    }
    assert execute(world, adapter, [world.mint(strike=299_999)])
    for what, call in forbidden.items():
        assert isinstance(simulated(world, adapter, [call]), Reverted), what
        assert isinstance(simulated(world, adapter, [world.mint(), call]), Reverted), what
    assert world.minted(adapter.address) == 10


def test_modifier_that_is_not_ready_is_refused(world: World) -> None:
    """Each right that is missing is named, with who must give it."""
    us, chain = world.account(OPERATOR), world.chain
    vault = behind_roles(world)
    modifier = str(vault.roles_modifier)
    assert problem_of(world, vault, us) is None
    chain.do(modifier, "assignRoles(address,bytes32[],bool[])", us, [bytes.fromhex(ROLE[2:])], [False])
    chain.do(modifier, "setTransactionUnwrapper(address,bytes4,address)",
             world.kit.multisend, bytes.fromhex("8d80ff0a"), "0x" + "00" * 20)  # fmt: skip
    assert "cannot read batches of multisend" in (problem_of(world, vault, us) or "")
    foreign = deploy_roles(chain, chain.owner, world.market)
    elsewhere = config(world, vault.address, "roles", roles_modifier=foreign, role_key=ROLE)
    assert f"acts for avatar {world.market}" in (problem_of(world, elsewhere, us) or "")
    unknown = deploy_roles(chain, chain.owner, vault.address)
    not_enabled = config(world, vault.address, "roles", roles_modifier=unknown, role_key=ROLE)
    assert f"enableModule({unknown})" in (problem_of(world, not_enabled, us) or "")

"""OperatorVault's roles: what only the owner may do, the pause, the two-step transfer, and ether in and out."""

import pytest
from eth_typing import ABIComponent, ABIFunction
from web3.contract.contract import ContractFunction
from web3.types import TxParams, Wei

from tests.contracts.bench import ETHER, Bench, refusal, revert_data
from tests.support.contracts import deploy, load_artifact

ZERO = "0x" + "00" * 20
NOT_OWNER = "vault: caller is not the owner"


def payable_call(bench: Bench, signature: str) -> ContractFunction:
    """A call of the vault by signature, addresses zero, which web3 lets carry ether whatever the vault's ABI says."""
    name, _, types = signature.removesuffix(")").partition("(")
    inputs: list[ABIComponent] = [{"name": "a", "type": each} for each in types.split(",") if each]
    abi: ABIFunction = {
        "type": "function",
        "name": name,
        "inputs": inputs,
        "outputs": [],
        "stateMutability": "payable",
    }
    return bench.w3.eth.contract(bench.vault.address, abi=[abi]).functions[name](*[ZERO] * len(inputs))


def test_a_fresh_vault_can_do_nothing(bench: Bench) -> None:
    """Caps are zero and nothing is allowed; the constructor announces both roles."""
    address = deploy(bench.w3, "OperatorVault", bench.stranger, bench.operator, sender=bench.owner)
    vault = bench.w3.eth.contract(address, abi=load_artifact("OperatorVault")["abi"])
    functions = vault.functions
    assert (functions.owner().call(), functions.operator().call()) == (bench.stranger, bench.operator)
    assert functions.pendingOwner().call() == ZERO
    assert not functions.paused().call()
    assert (functions.maxPerTransaction().call(), functions.maxPerDay().call(), functions.spentToday().call()) == (
        0,
    ) * 3
    (log, *_) = bench.w3.eth.get_logs({"address": address})
    receipt = bench.w3.eth.get_transaction_receipt(log["transactionHash"])
    assert bench.events(receipt, "OwnershipTransferred") == [{"previousOwner": ZERO, "newOwner": bench.stranger}]
    assert bench.events(receipt, "OperatorChanged") == [{"previous": ZERO, "current": bench.operator}]


def test_a_vault_without_an_owner_cannot_be_deployed(bench: Bench) -> None:
    """Owner zero is refused at deployment; operator zero means "none yet" and is not."""
    artifact = load_artifact("OperatorVault")
    factory = bench.w3.eth.contract(abi=artifact["abi"], bytecode=artifact["bytecode"])
    with pytest.raises(Exception, match="vault: owner is the zero address"):
        factory.constructor(ZERO, bench.operator).estimate_gas({"from": bench.owner})
    deploy(bench.w3, "OperatorVault", bench.owner, ZERO)


@pytest.mark.parametrize("who", ["operator", "stranger"])
@pytest.mark.parametrize("name", ["setOperator", "setAllowed", "setCaps", "withdraw", "transferOwnership"])
def test_configuration_belongs_to_the_owner(bench: Bench, who: str, name: str) -> None:
    """Neither the operator nor anyone else may change the rules or take the funds; the owner may."""
    arguments = {
        "setOperator": (bench.stranger,),
        "setAllowed": (bench.stranger, bytes(4), True),
        "setCaps": (5, 6),
        "withdraw": (bench.stranger, 1),
        "transferOwnership": (bench.stranger,),
    }[name]
    function = bench.vault.functions[name](*arguments)
    assert refusal(function, getattr(bench, who)) == NOT_OWNER
    bench.done(function, bench.owner)


def test_there_is_exactly_one_operator(bench: Bench) -> None:
    """Naming a new one removes the old one."""
    receipt = bench.done(bench.vault.functions.setOperator(bench.stranger), bench.owner)
    assert bench.events(receipt, "OperatorChanged") == [{"previous": bench.operator, "current": bench.stranger}]
    assert refusal(bench.batch(bench.mint()), bench.operator) == "vault: caller is not the operator"
    bench.done(bench.batch(bench.mint()), bench.stranger)


def test_a_vault_without_an_operator_executes_for_nobody(bench: Bench) -> None:
    """Operator zero is "off"."""
    bench.done(bench.vault.functions.setOperator(ZERO), bench.owner)
    for sender in (bench.operator, bench.owner):
        assert refusal(bench.batch(bench.mint()), sender) == "vault: caller is not the operator"


@pytest.mark.parametrize("who", ["owner", "operator"])
def test_owner_and_operator_may_pause_and_only_the_owner_resumes(bench: Bench, who: str) -> None:
    """A pause stops execute at once; the operator, whose key may be the stolen one, cannot lift it."""
    receipt = bench.done(bench.vault.functions.setPaused(True), getattr(bench, who))
    assert bench.events(receipt, "PausedChanged") == [{"paused": True, "by": getattr(bench, who)}]
    assert bench.vault.functions.paused().call()
    assert refusal(bench.batch(bench.mint()), bench.operator) == "vault: paused"
    for other in (bench.operator, bench.stranger):
        assert refusal(bench.vault.functions.setPaused(False), other) == "vault: caller may not change the pause"
    bench.done(bench.vault.functions.setPaused(False), bench.owner)
    bench.done(bench.batch(bench.mint()), bench.operator)


def test_a_stranger_cannot_pause(bench: Bench) -> None:
    """Stopping the vault is a privilege too."""
    assert refusal(bench.vault.functions.setPaused(True), bench.stranger) == "vault: caller may not change the pause"
    assert not bench.vault.functions.paused().call()


def test_ownership_moves_in_two_steps(bench: Bench) -> None:
    """Until the next owner accepts, the old one rules; afterwards only the new one does."""
    offer, accept = bench.vault.functions.transferOwnership(bench.stranger), bench.vault.functions.acceptOwnership()
    assert refusal(accept, bench.stranger) == "vault: caller is not the pending owner"
    receipt = bench.done(offer, bench.owner)
    assert bench.events(receipt, "OwnershipTransferStarted") == [
        {"previousOwner": bench.owner, "newOwner": bench.stranger}
    ]
    assert bench.vault.functions.owner().call() == bench.owner
    assert bench.vault.functions.pendingOwner().call() == bench.stranger
    assert refusal(bench.vault.functions.setCaps(1, 1), bench.stranger) == NOT_OWNER
    for other in (bench.owner, bench.operator):
        assert refusal(accept, other) == "vault: caller is not the pending owner"

    receipt = bench.done(accept, bench.stranger)
    assert bench.events(receipt, "OwnershipTransferred") == [{"previousOwner": bench.owner, "newOwner": bench.stranger}]
    assert bench.vault.functions.owner().call() == bench.stranger
    assert bench.vault.functions.pendingOwner().call() == ZERO
    assert refusal(bench.vault.functions.setCaps(1, 1), bench.owner) == NOT_OWNER
    bench.done(bench.vault.functions.setCaps(1, 1), bench.stranger)
    assert refusal(accept, bench.stranger) == "vault: caller is not the pending owner"


def test_an_offer_of_ownership_can_be_taken_back(bench: Bench) -> None:
    """Offering to zero cancels; the earlier candidate can no longer accept."""
    bench.done(bench.vault.functions.transferOwnership(bench.stranger), bench.owner)
    bench.done(bench.vault.functions.transferOwnership(ZERO), bench.owner)
    accept = bench.vault.functions.acceptOwnership()
    assert refusal(accept, bench.stranger) == "vault: caller is not the pending owner"
    assert bench.vault.functions.owner().call() == bench.owner


def test_the_vault_takes_plain_ether_within_the_2300_gas_stipend(bench: Bench) -> None:
    """So contracts that pay out with transfer() can pay it."""
    before = bench.w3.eth.get_balance(bench.vault.address)
    transaction: TxParams = {"from": bench.stranger, "to": bench.vault.address, "value": Wei(3), "gas": 21_000 + 2_300}
    tx_hash = bench.w3.eth.send_transaction(transaction)
    assert bench.w3.eth.wait_for_transaction_receipt(tx_hash, timeout=10)["status"] == 1
    assert bench.w3.eth.get_balance(bench.vault.address) == before + 3


@pytest.mark.parametrize("signature", ["transferOwnerShip(address)", "withdrawAll()"])
@pytest.mark.parametrize("value", [0, 1])
def test_a_function_that_does_not_exist_is_refused(bench: Bench, signature: str, value: int) -> None:
    """A mistyped call must not look like a success, and is no way to pay in; plain ether is."""
    missing = payable_call(bench, signature)
    assert refusal(missing, bench.owner, value=value) == "vault: unknown function"
    tx_hash = bench.w3.eth.send_transaction({"from": bench.owner, "to": bench.vault.address, "value": Wei(value)})
    assert bench.w3.eth.wait_for_transaction_receipt(tx_hash, timeout=10)["status"] == 1


@pytest.mark.parametrize("signature", ["acceptOwnership()", "owner()", "spentToday()"])
def test_only_execute_and_plain_transfers_take_ether(bench: Bench, signature: str) -> None:
    """Ether sent along with any other function is refused, not kept; the same call without ether passes."""
    bench.done(bench.vault.functions.transferOwnership(bench.owner), bench.owner)
    function = payable_call(bench, signature)
    assert revert_data(function, bench.owner, value=1) == b""
    bench.done(function, bench.owner)


def test_the_owner_withdraws_beyond_the_caps_and_while_paused(bench: Bench) -> None:
    """Caps bind the operator; the owner always gets the funds out, and the day's count does not move."""
    bench.done(bench.vault.functions.setPaused(True), bench.operator)
    before = bench.w3.eth.get_balance(bench.stranger)
    receipt = bench.done(bench.vault.functions.withdraw(bench.stranger, 9 * ETHER), bench.owner)
    assert bench.events(receipt, "Withdrawn") == [{"to": bench.stranger, "amount": 9 * ETHER}]
    assert bench.w3.eth.get_balance(bench.stranger) == before + 9 * ETHER
    assert bench.vault.functions.spentToday().call() == 0


def test_nobody_can_send_more_than_the_vault_holds(bench: Bench) -> None:
    """Both ways out name the reason; all of it may go either way, ether sent along included."""
    bench.done(bench.vault.functions.setCaps(100 * ETHER, 100 * ETHER), bench.owner)
    short = "vault: insufficient balance"
    assert refusal(bench.vault.functions.withdraw(bench.owner, 10 * ETHER + 1), bench.owner) == short
    assert refusal(bench.batch(bench.mint(10 * ETHER), bench.mint(1)), bench.operator) == short
    assert refusal(bench.vault.functions.withdraw(ZERO, 1), bench.owner) == "vault: target is the zero address"
    bench.done(bench.batch(bench.mint(10 * ETHER), bench.mint(1)), bench.operator, value=1)
    assert bench.w3.eth.get_balance(bench.vault.address) == 0
    bench.node.rpc("anvil_setBalance", bench.vault.address, hex(7))
    bench.done(bench.vault.functions.withdraw(bench.owner, 7), bench.owner)
    assert bench.w3.eth.get_balance(bench.vault.address) == 0

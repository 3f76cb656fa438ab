"""OperatorVault's limits: which function of which target, how much in a batch, how much in a day."""

import pytest

from tests.contracts.bench import ETHER, Bench, calldata, refusal, selector
from tests.support.contracts import Call

NOT_ALLOWED = "vault: target or selector not allowed"
PER_TRANSACTION = "vault: per-transaction cap"
PER_DAY = "vault: daily cap"


def test_the_allowlist_is_per_selector(bench: Bench) -> None:
    """setSpot on the very market whose mints are allowed is refused, until the owner allows it."""
    bench.done(bench.market.functions.setSpot(200_000), bench.owner)
    call = Call(bench.market.address, 0, calldata(bench.market, "setSpot", 1))
    assert refusal(bench.batch(call), bench.operator) == NOT_ALLOWED
    bench.allow(bench.market.address, selector("setSpot(uint256)"))
    assert refusal(bench.batch(call), bench.operator) == "market: caller is not the keeper"


def test_the_allowlist_is_per_target(bench: Bench) -> None:
    """The same selector on another address is refused, until the owner allows that address."""
    twin = bench.place(3, bench.w3.eth.get_code(bench.market.address).to_0x_hex())
    call = bench.mint()._replace(to=twin)
    assert refusal(bench.batch(call), bench.operator) == NOT_ALLOWED
    bench.allow(twin, selector("mintBinary(uint256,bool)"))
    bench.done(bench.batch(call), bench.operator)


def test_what_was_granted_can_be_taken_back(bench: Bench) -> None:
    """setAllowed(false) stops one function and leaves its neighbour alone; isAllowed tells."""
    binary, ranged = selector("mintBinary(uint256,bool)"), selector("mintRange(uint256,uint256)")
    bench.done(bench.batch(bench.mint()), bench.operator)
    receipt = bench.done(bench.vault.functions.setAllowed(bench.market.address, binary, False), bench.owner)
    assert bench.events(receipt, "AllowedChanged") == [
        {"target": bench.market.address, "selector": binary, "allowed": False}
    ]
    assert refusal(bench.batch(bench.mint()), bench.operator) == NOT_ALLOWED
    bench.done(bench.batch(bench.mint(lower=190_000)), bench.operator)
    is_allowed = [bench.vault.functions.isAllowed(bench.market.address, each).call() for each in (binary, ranged)]
    assert is_allowed == [False, True]


@pytest.mark.parametrize("position", [0, 1, 2])
def test_one_call_that_is_not_allowed_refuses_the_batch(bench: Bench, position: int) -> None:
    """Wherever it stands; the same batch without it passes."""
    calls = [bench.mint(), bench.mint()]
    bad = Call(bench.stranger, 1)
    assert refusal(bench.batch(*calls[:position], bad, *calls[position:]), bench.operator) == NOT_ALLOWED
    bench.done(bench.batch(*calls), bench.operator)


@pytest.mark.parametrize("data", [b"", b"\xaa", b"\xaa\xbb\xcc", b"\0\0\0\0"])
def test_less_than_four_bytes_count_as_selector_zero(bench: Bench, data: bytes) -> None:
    """Plain ether needs a grant of its own, 0x00000000; one to three bytes and a zero selector fall under it."""
    call = Call(bench.stranger, 5, data)
    before = bench.w3.eth.get_balance(bench.stranger)
    assert refusal(bench.batch(call), bench.operator) == NOT_ALLOWED
    bench.allow(bench.stranger, bytes(4))
    bench.done(bench.batch(call), bench.operator)
    assert bench.w3.eth.get_balance(bench.stranger) == before + 5


def test_a_grant_for_plain_ether_grants_no_function(bench: Bench) -> None:
    """And a grant for a function grants no plain ether."""
    bench.allow(bench.stranger, bytes(4))
    assert refusal(bench.batch(Call(bench.stranger, 0, b"\0\0\0\1")), bench.operator) == NOT_ALLOWED
    assert refusal(bench.batch(Call(bench.market.address, 1)), bench.operator) == NOT_ALLOWED
    bench.done(bench.batch(Call(bench.stranger, 1)), bench.operator)


def test_the_vault_never_calls_itself(bench: Bench) -> None:
    """It can neither be granted nor called; the same data to an allowed target passes."""
    itself, zero = bench.vault.address, "0x" + "00" * 20
    grant = bench.vault.functions.setAllowed
    assert refusal(grant(itself, bytes(4), True), bench.owner) == "vault: target is the vault itself"
    assert refusal(grant(zero, bytes(4), True), bench.owner) == "vault: target is the zero address"
    assert refusal(bench.batch(Call(itself)), bench.operator) == "vault: target is the vault itself"
    assert refusal(bench.batch(Call(zero)), bench.operator) == "vault: target is the zero address"
    bench.allow(bench.stranger, bytes(4))
    bench.done(bench.batch(Call(bench.stranger)), bench.operator)


def test_the_sum_of_a_batch_stays_within_the_transaction_cap(bench: Bench) -> None:
    """One wei over is refused, in one call or over several; exactly the cap passes."""
    assert refusal(bench.batch(bench.mint(ETHER + 1)), bench.operator) == PER_TRANSACTION
    assert refusal(bench.batch(bench.mint(ETHER - 1), bench.mint(1), bench.mint(1)), bench.operator) == PER_TRANSACTION
    bench.done(bench.batch(bench.mint(ETHER - 1), bench.mint(1)), bench.operator)
    assert bench.w3.eth.get_balance(bench.market.address) == ETHER


def test_a_sum_that_would_overflow_is_over_the_cap(bench: Bench) -> None:
    """2**256 - 1 and 1 do not add up to nothing, whatever the cap."""
    bench.done(bench.vault.functions.setCaps(2**256 - 1, 2**256 - 1), bench.owner)
    assert refusal(bench.batch(bench.mint(1), bench.mint(2**256 - 1)), bench.operator) == PER_TRANSACTION
    bench.done(bench.batch(bench.mint(1), bench.mint(ETHER)), bench.operator)
    assert refusal(bench.batch(bench.mint(2**256 - 1)), bench.operator) == PER_DAY


def test_ether_sent_along_does_not_widen_the_cap(bench: Bench) -> None:
    """Value sent with execute lands in the vault; what goes out is capped all the same."""
    assert refusal(bench.batch(bench.mint(ETHER + 1)), bench.operator, value=ETHER) == PER_TRANSACTION
    before = bench.w3.eth.get_balance(bench.vault.address)
    bench.done(bench.batch(bench.mint(ETHER)), bench.operator, value=ETHER)
    assert bench.w3.eth.get_balance(bench.vault.address) == before


def test_the_day_has_a_cap_and_the_next_day_a_new_one(bench: Bench) -> None:
    """Two ether by the last second of a UTC day, not one wei more; in the next second the count starts again."""
    midnight = bench.next_midnight()
    spending, one_wei = bench.batch(bench.mint(ETHER)), bench.batch(bench.mint(1))
    steps = [
        (-3, spending, 1),
        (-2, spending, 1),
        (-1, one_wei, 0),
        (0, spending, 1),
        (1, spending, 1),
        (2, one_wei, 0),
    ]
    for offset_s, function, status in steps:
        bench.next_block_at(midnight + offset_s)
        assert bench.send(function, bench.operator)["status"] == status, f"{offset_s} s from midnight"
        if offset_s == -1:
            assert bench.vault.functions.spentToday().call() == 2 * ETHER
    assert refusal(one_wei, bench.operator) == PER_DAY


def test_spent_today_forgets_yesterday_without_a_transaction(bench: Bench) -> None:
    """The view is of the block's day, not of the last spending."""
    bench.done(bench.batch(bench.mint(7), bench.mint(8)), bench.operator)
    assert bench.vault.functions.spentToday().call() == 15
    bench.node.rpc("evm_increaseTime", 86_400)
    bench.node.rpc("evm_mine")
    assert bench.vault.functions.spentToday().call() == 0


def test_batches_of_one_day_add_up(bench: Bench) -> None:
    """The daily cap counts every batch, with and without an intent id, and refuses the one that would cross it."""
    bench.done(bench.vault.functions.setCaps(ETHER, 10), bench.owner)
    bench.done(bench.batch(bench.mint(4)), bench.operator)
    bench.done(bench.batch(bench.mint(4), intent_id=b"\7" * 32), bench.operator)
    assert refusal(bench.batch(bench.mint(3)), bench.operator) == PER_DAY
    bench.done(bench.batch(bench.mint(2)), bench.operator)
    assert bench.vault.functions.spentToday().call() == 10


def test_a_lowered_cap_counts_what_was_already_spent(bench: Bench) -> None:
    """Below it nothing with value passes, but a batch without value still does."""
    bench.allow(bench.stranger, bytes(4))
    bench.done(bench.batch(bench.mint(100)), bench.operator)
    receipt = bench.done(bench.vault.functions.setCaps(50, 60), bench.owner)
    assert bench.events(receipt, "CapsChanged") == [{"maxPerTransaction": 50, "maxPerDay": 60}]
    caps = (bench.vault.functions.maxPerTransaction().call(), bench.vault.functions.maxPerDay().call())
    assert caps == (50, 60)
    assert refusal(bench.batch(bench.mint(1)), bench.operator) == PER_DAY
    bench.done(bench.batch(Call(bench.stranger)), bench.operator)
    bench.done(bench.vault.functions.setCaps(50, 101), bench.owner)
    bench.done(bench.batch(bench.mint(1)), bench.operator)

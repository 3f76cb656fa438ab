"""The life of an intent: every (state, observation) pair, and what no sequence of observations can do."""

from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from runnerd.chain.fees import Fees
from runnerd.executor.intent import (
    ENDED,
    Accepted,
    Attempt,
    Broadcast,
    Effect,
    Finish,
    IllegalObservation,
    Intent,
    IntentState,
    Mined,
    NonceTaken,
    NotSeen,
    Observation,
    Patience,
    Replace,
    Signed,
    SimulationReverted,
    observe,
)

PATIENCE = Patience(confirmations=3, replace_after_blocks=5)
NONCE = 7


def attempt(number: int, *, is_accepted: bool = False, signed_block: int = 100) -> Attempt:
    """Attempts differ in fees, and so in hash and bytes."""
    fees = Fees(max_fee_per_gas_wei=100 * number, max_priority_fee_per_gas_wei=number)
    return Attempt(
        hash=f"0x{number:064x}", raw=bytes([2, number]), fees=fees, gas_limit=90_000, signed_block=signed_block,
        is_accepted=is_accepted,
    )  # fmt: skip


PLANNED = Intent(
    call_id=1, plugin="alpha", vault="main", chain_id=31337, wallet="0xw", target="0xv", calldata=b"\1", value_wei=5
)
SIGNED = replace(PLANNED, state=IntentState.SIGNED, nonce=NONCE, attempts=(attempt(1),))
SENT = replace(SIGNED, state=IntentState.SENT, attempts=(attempt(1, is_accepted=True),))


def mined(block: int, head: int, *, is_success: bool = True, number: int = 1, block_hash: str = "0xb") -> Mined:
    """A receipt of attempt `number`."""
    return Mined(
        hash=attempt(number).hash, block=block, block_hash=block_hash, is_success=is_success, head=head,
        gas_used=21_000, effective_gas_price_wei=9,
    )  # fmt: skip


STATES = {
    "planned": PLANNED,
    "signed": SIGNED,
    "sent": SENT,
    "included": replace(SENT, state=IntentState.INCLUDED),
    "unresolved": replace(SENT, state=IntentState.UNRESOLVED),
    "final": replace(SENT, state=IntentState.FINAL),
    "reverted": replace(SENT, state=IntentState.REVERTED),
    "denied": replace(PLANNED, state=IntentState.DENIED),
}
OBSERVATIONS: dict[str, Observation] = {
    "would_revert": SimulationReverted("vault: paused", 100),
    "signed": Signed(NONCE, attempt(2)),
    "other_nonce": Signed(NONCE + 1, attempt(2)),
    "accepted": Accepted(attempt(1).hash),
    "mined": mined(101, 102),
    "mined_deep": mined(101, 103),
    "failed": mined(101, 102, is_success=False),
    "failed_deep": mined(101, 103, is_success=False),
    "foreign": mined(101, 103, number=9),
    "not_seen": NotSeen(104),
    "not_seen_long": NotSeen(105),
    "nonce_taken": NonceTaken(104),
}

# The state afterwards, and what is to be done: B(roadcast), R(eplace), F(inish). "=": same state. "!": cannot happen.
TABLE = """
                planned    signed       sent         included     unresolved   final  reverted  denied
would_revert    denied+F   !            !            !            !            =      =         =
signed          signed+B   =+B          =+B          =+B          =+B          =      =         =
other_nonce     signed+B   !            !            !            !            =      =         =
accepted        !          sent         =            =            =            =      =         =
mined           !          included     included     =            included     =      =         =
mined_deep      !          final+F      final+F      final+F      final+F      =      =         =
failed          !          included     included     =            included     =      =         =
failed_deep     !          reverted+F   reverted+F   reverted+F   reverted+F   =      =         =
foreign         !          !            !            !            !            =      =         =
not_seen        !          =+B          =            sent+B       =            =      =         =
not_seen_long   !          =+BR         =+BR         sent+B       =+BR         =      =         =
nonce_taken     !          unresolved+B unresolved+B unresolved+B =+B          =      =         =
"""

DONE: dict[type[Effect], str] = {Broadcast: "B", Replace: "R", Finish: "F"}


def table_cells() -> list[tuple[str, str, str]]:
    """(observation, state, expected) for every cell."""
    head, *rows = [line.split() for line in TABLE.strip().splitlines()]
    return [(row[0], state, cell) for row in rows for state, cell in zip(head, row[1:], strict=True)]


@pytest.mark.parametrize("observation_name, state_name, expected", table_cells())
def test_pair_goes_where_the_table_says(observation_name: str, state_name: str, expected: str) -> None:
    """Every observation in every state has one allowed result, or is a defect of the shell."""
    intent, observation = STATES[state_name], OBSERVATIONS[observation_name]
    if expected == "!":
        with pytest.raises(IllegalObservation, match=f"{type(observation).__name__} while {intent.state}"):
            observe(intent, observation, PATIENCE)
        return
    after, effects = observe(intent, observation, PATIENCE)
    done = "".join(DONE[type(effect)] for effect in effects)
    state = "=" if after.state is intent.state else after.state.value
    assert (f"{state}+{done}" if done else state) == expected


def test_table_has_every_pair() -> None:
    """A new state or observation cannot be forgotten."""
    assert {(name, state) for name, state, _ in table_cells()} == {(o, s) for o in OBSERVATIONS for s in STATES}
    assert {intent.state for intent in STATES.values()} == set(IntentState)
    assert {type(observation) for observation in OBSERVATIONS.values()} == set(Observation.__args__)


def test_simulation_that_reverts_says_at_which_block() -> None:
    """Nothing was signed, no nonce used; the reason goes to the ledger."""
    denied, effects = observe(PLANNED, SimulationReverted("vault: paused", 100), PATIENCE)
    assert effects == (Finish(is_success=False, reason="simulation at block 100 reverted: vault: paused", hash=""),)
    assert (denied.nonce, denied.attempts) == (None, ())


def test_end_names_the_transaction_that_was_included() -> None:
    """It may be an earlier attempt than the last."""
    twice = replace(SENT, attempts=(attempt(1), attempt(2)))
    _, effects = observe(twice, mined(101, 103), PATIENCE)
    assert effects == (Finish(is_success=True, reason="included in block 101, 3 confirmations", hash=attempt(1).hash),)
    _, effects = observe(twice, mined(101, 103, number=2, is_success=False), PATIENCE)
    assert effects == (Finish(is_success=False, reason="reverted on chain in block 101", hash=attempt(2).hash),)


def test_one_confirmation_is_the_block_itself() -> None:
    """`confirmations = 1` means: included is final."""
    final, _ = observe(SENT, mined(101, 101), Patience(confirmations=1, replace_after_blocks=5))
    assert final.state is IntentState.FINAL


def test_reorged_intent_is_sent_again_and_may_be_included_elsewhere() -> None:
    """Mined, gone, mined in another block: only depth in the new one makes it final."""
    intent, _ = observe(SENT, mined(101, 102, block_hash="0xold"), PATIENCE)
    intent, effects = observe(intent, NotSeen(102), PATIENCE)
    assert (intent.state, effects) == (IntentState.SENT, (Broadcast(attempt(1)),))
    _, effects = observe(intent, NotSeen(102), PATIENCE)
    assert effects == (Broadcast(attempt(1)),), "the node took it before the reorg, which says nothing now"
    intent, _ = observe(intent, mined(103, 104, block_hash="0xnew"), PATIENCE)
    assert intent.state is IntentState.INCLUDED
    intent, effects = observe(intent, mined(103, 105, block_hash="0xnew"), PATIENCE)
    assert intent.state is IntentState.FINAL


def test_replacement_is_waited_for_anew() -> None:
    """Patience counts from the block at which the last attempt was signed."""
    intent, _ = observe(SENT, Signed(NONCE, attempt(2, signed_block=105)), PATIENCE)
    intent, _ = observe(intent, Accepted(attempt(2).hash), PATIENCE)
    assert observe(intent, NotSeen(109), PATIENCE)[1] == ()
    assert observe(intent, NotSeen(110), PATIENCE)[1] == (Broadcast(intent.latest), Replace())


def test_acceptance_marks_that_attempt_alone() -> None:
    """A late answer to the first broadcast says nothing of the replacement."""
    intent, _ = observe(SIGNED, Signed(NONCE, attempt(2)), PATIENCE)
    intent, _ = observe(intent, Accepted(attempt(1).hash), PATIENCE)
    assert [a.is_accepted for a in intent.attempts] == [True, False]
    assert observe(intent, NotSeen(101), PATIENCE)[1] == (Broadcast(intent.latest),)


# --- any sequence ----------------------------------------------------------------------------------------------------


class Life(RuleBasedStateMachine):
    """An intent and a chain that includes, reorgs and forgets it, as a shell would report it."""

    def __init__(self) -> None:
        super().__init__()
        self.head = 100
        self.intent = PLANNED
        self.stored: list[Attempt] = []
        self.wants_replacement = True

    def see(self, observation: Observation) -> None:
        before = self.intent
        self.intent, effects = observe(before, observation, PATIENCE)
        if before.state in ENDED:
            assert (self.intent, effects) == (before, ()), "an ended intent changed"
        elif not isinstance(observation, Mined):
            assert self.intent.state not in ENDED, "it ended though nothing was proven"
        for effect in effects:
            if isinstance(effect, Broadcast):
                assert effect.attempt.raw in [a.raw for a in self.stored], "bytes went out that were not stored"
            if isinstance(effect, Replace):
                assert self.head - self.stored[-1].signed_block >= PATIENCE.replace_after_blocks
                self.wants_replacement = True
            if isinstance(effect, Finish):
                assert self.intent.state in ENDED

    @initialize()
    def begin(self) -> None:
        self.sign()

    @precondition(lambda self: self.wants_replacement and len(self.stored) < 9)
    @rule()
    def sign(self) -> None:
        made = attempt(len(self.stored) + 1, signed_block=self.head)
        self.stored.append(made)
        self.wants_replacement = False
        self.see(Signed(NONCE, made))

    @precondition(lambda self: self.stored)
    @rule(data=st.data())
    def accept(self, data: st.DataObject) -> None:
        self.see(Accepted(data.draw(st.sampled_from(self.stored)).hash))

    @precondition(lambda self: self.stored)
    @rule(data=st.data(), age=st.integers(0, 4), is_success=st.booleans())
    def include(self, data: st.DataObject, age: int, is_success: bool) -> None:
        number = data.draw(st.integers(1, len(self.stored)))
        before = self.intent
        self.see(mined(self.head - age, self.head, number=number, is_success=is_success))
        if before.state not in ENDED:
            assert (self.intent.state in ENDED) is (age + 1 >= PATIENCE.confirmations)

    @precondition(lambda self: self.stored)
    @rule()
    def miss(self) -> None:
        self.see(NotSeen(self.head))

    @precondition(lambda self: self.stored)
    @rule()
    def lose_nonce(self) -> None:
        self.see(NonceTaken(self.head))

    @rule(blocks=st.integers(-3, 7))
    def move_head(self, blocks: int) -> None:
        self.head += blocks

    @invariant()
    def all_attempts_share_the_nonce(self) -> None:
        assert self.intent.nonce in (None, NONCE)

    @invariant()
    def attempts_are_those_that_were_stored_in_order(self) -> None:
        kept = [(a.hash, a.raw, a.fees) for a in self.intent.attempts]
        assert kept == [(a.hash, a.raw, a.fees) for a in self.stored][: len(kept)]

    @invariant()
    def what_is_wanted_never_changes(self) -> None:
        same = ("call_id", "target", "calldata", "value_wei", "wallet", "chain_id")
        assert all(getattr(self.intent, name) == getattr(PLANNED, name) for name in same)


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=50, stateful_step_count=25, deadline=None)

"""The life of an intent: every (state, observation) pair, and what no sequence of observations can do."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from runnerd.chain.fees import Fees
from runnerd.executor.intent import IllegalObservation, Rules, is_public, observe
from runnerd.executor.observation import (
    Accepted,
    Broadcast,
    Cancel,
    Died,
    Effect,
    Finish,
    Investigate,
    Mined,
    NonceTaken,
    NotSeen,
    Observation,
    Prove,
    Push,
    Replan,
    Signed,
    SimulationReverted,
    Stale,
)
from runnerd.executor.wanted import (
    ENDED,
    WITHOUT_EFFECT,
    Attempt,
    AttemptKind,
    Cancellation,
    Intent,
    IntentState,
    Route,
)
from runnerd.store.calls import JobOutcome

RULES = Rules(confirmations=3, replace_after_blocks=5, private_blocks=20)
BY_TAG = replace(RULES, is_final_by_tag=True)
NONCE = 7
NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
DEADLINE = NOW + timedelta(minutes=10)
STRANGER = "0x" + "5e" * 32
TOO_LATE = Cancellation(IntentState.EXPIRED, "its deadline passed")
ASKED = Cancellation(IntentState.CANCELLED, "uid:1 asked for it")


def attempt(
    number: int, kind: AttemptKind = AttemptKind.BATCH, *, is_accepted: bool = False, signed_block: int = 100
) -> Attempt:
    """Attempts differ in fees, and so in hash and bytes."""
    fees = Fees(max_fee_per_gas_wei=100 * number, max_priority_fee_per_gas_wei=number)
    return Attempt(
        hash=f"0x{number:064x}", raw=bytes([2, number]), fees=fees, gas_limit=90_000, signed_block=signed_block,
        kind=kind, is_accepted=is_accepted,
    )  # fmt: skip


PLANNED = Intent(
    call_id=1, plugin="alpha", vault="main", chain_id=31337, wallet="0xw", target="0xv", calldata=b"\1", value_wei=5,
    deadline_at=DEADLINE,
)  # fmt: skip
SIGNED = replace(PLANNED, state=IntentState.SIGNED, nonce=NONCE, attempts=(attempt(1),))
SENT = replace(SIGNED, state=IntentState.SENT, attempts=(attempt(1, is_accepted=True),))
NOOP = attempt(2, AttemptKind.NOOP, is_accepted=True)
CANCELLING = replace(SENT, attempts=(*SENT.attempts, NOOP), cancellation=TOO_LATE)


def mined(
    block: int, head: int, *, is_success: bool = True, number: int = 1, is_agreed: bool = True,
    finalized: int | None = None,
) -> Mined:  # fmt: skip
    """A receipt of attempt `number`."""
    return Mined(
        hash=attempt(number).hash, block=block, block_hash="0xb", is_success=is_success, head=head, gas_used=21_000,
        effective_gas_price_wei=9, is_agreed=is_agreed, finalized=finalized,
    )  # fmt: skip


# `cancelling`: its no-op was accepted. `lost`: that, and its nonce is used by something we do not see. `private`: sent,
# by the private lane.
OPEN = {
    "planned": PLANNED,
    "signed": SIGNED,
    "sent": SENT,
    "included": replace(SENT, state=IntentState.INCLUDED),
    "unresolved": replace(SENT, state=IntentState.UNRESOLVED),
    "cancelling": CANCELLING,
    "lost": replace(CANCELLING, state=IntentState.UNRESOLVED),
    "private": replace(SENT, route=Route.PRIVATE),
}
OBSERVATIONS: dict[str, Observation] = {
    "would_revert": SimulationReverted("vault: paused", 100),
    "breach": SimulationReverted("share price", 100, is_breach=True),
    "signed": Signed(NONCE, attempt(3)),
    "other_nonce": Signed(NONCE + 1, attempt(3)),
    "noop": Signed(NONCE, attempt(4, AttemptKind.NOOP), ASKED),
    "noop_again": Signed(NONCE, attempt(4, AttemptKind.NOOP)),
    "batch_cancels": Signed(NONCE, attempt(3), ASKED),
    "accepted": Accepted(attempt(1).hash),
    "not_ours": Accepted(attempt(9).hash),
    "mined": mined(101, 102),
    "mined_deep": mined(101, 103),
    "unproven": mined(101, 103, is_agreed=False),
    "failed": mined(101, 102, is_success=False),
    "failed_deep": mined(101, 103, is_success=False),
    "noop_mined": mined(101, 102, number=2),
    "noop_deep": mined(101, 103, number=2),
    "noop_failed": mined(101, 103, number=2, is_success=False),
    "noop_unproven": mined(101, 103, number=2, is_agreed=False),
    "foreign": mined(101, 103, number=9),
    "not_seen": NotSeen(104, 100),
    "not_seen_long": NotSeen(105, 100),
    "behind_others": NotSeen(105, None),
    "in_turn_lately": NotSeen(105, 101),
    "lane_over": NotSeen(120, 100),
    "not_seen_late": NotSeen(104, 100),
    "nonce_taken": NonceTaken(104),
    "died": Died(STRANGER, 101),
    "died_late": Died(STRANGER, 101),
    "stale": Stale(ASKED),
}
LATE = {"not_seen_late", "died_late"}
"""Observed when the deadline is there."""

# The state afterwards, and what is to be done. "=": same state. "!": cannot happen. B(roadcast); P(ush) the same bytes;
# R(eplacement) is due; C(ancel); V: prove; I(nvestigate); N: replan, for another nonce; F(inish).
TABLE = """
                planned   signed       sent         included     unresolved cancelling   lost       private      ended
would_revert    denied+F  !            !            !            !          !            !          !            =
breach          denied+F  !            !            !            !          !            !          !            =
signed          signed+B  =+B          =+B          =+B          =+B        !            !          =+B          =
other_nonce     signed+B  !            !            !            !          !            !          !            =
noop            !         =+B          =+B          =+B          =+B        =+B          =+B        =+B          =
noop_again      !         !            !            !            !          =+B          =+B        !            =
batch_cancels   !         !            !            !            !          !            !          !            =
accepted        !         sent         =            =            =          =            =          =            =
not_ours        !         !            !            !            !          !            !          !            =
mined           !         included     included     =            included   included     included   included     =
mined_deep      !         final+F      final+F      final+F      final+F    final+F      final+F    final+F      =
unproven        !         included+V   included+V   =+V          included+V included+V   included+V included+V   =
failed          !         included     included     =            included   included     included   included     =
failed_deep     !         reverted+F   reverted+F   reverted+F   reverted+F reverted+F   reverted+F reverted+F   =
noop_mined      !         !            !            !            !          included     included   !            =
noop_deep       !         !            !            !            !          expired+F    expired+F  !            =
noop_failed     !         !            !            !            !          expired+F    expired+F  !            =
noop_unproven   !         !            !            !            !          included+V   included+V !            =
foreign         !         !            !            !            !          !            !          !            =
not_seen        !         =+P          =            sent+P       sent+P     =            sent+P     =            =
not_seen_long   !         =+R          =+R          sent+R       sent+R     =+R          sent+R     =+R          =
behind_others   !         =+P          =+P          sent+P       sent+P     =+P          sent+P     =+P          =
in_turn_lately  !         =+P          =+P          sent+P       sent+P     =+P          sent+P     =+P          =
lane_over       !         =+R          =+R          sent+R       sent+R     =+R          sent+R     =+C          =
not_seen_late   !         =+C          =+C          sent+C       sent+C     =            sent+P     =+C          =
nonce_taken     !         unresolved+I unresolved+I unresolved+I =+I        unresolved+I =+I        unresolved+I =
died            !         !            !            !            planned+N  !            expired+F  !            =
died_late       !         !            !            !            expired+F  !            expired+F  !            =
stale           !         =+C          =+C          =            =          =            =          =+C          =
"""


def letter(effect: Effect) -> str:
    """As the table writes it."""
    letters: dict[type[Effect], str] = {
        Broadcast: "B", Cancel: "C", Prove: "V", Investigate: "I", Replan: "N", Finish: "F",
    }  # fmt: skip
    if isinstance(effect, Push):
        return "R" if effect.is_due else "P"
    return letters[type(effect)]


def table_cells() -> list[tuple[str, str, str]]:
    """(observation, state, expected) for every cell; `ended` stands for each end there is."""
    head, *rows = [line.split() for line in TABLE.strip().splitlines()]
    cells = [(row[0], state, cell) for row in rows for state, cell in zip(head, row[1:], strict=True)]
    return [
        (observation, each, cell)
        for observation, state, cell in cells
        for each in (sorted(ENDED) if state == "ended" else [state])
    ]


@pytest.mark.parametrize("observation_name, state_name, expected", table_cells())
def test_pair_goes_where_the_table_says(observation_name: str, state_name: str, expected: str) -> None:
    """Every observation in every state has one allowed result, or is a defect of the shell."""
    intent = OPEN.get(state_name) or replace(CANCELLING, state=IntentState(state_name))
    observation, now = OBSERVATIONS[observation_name], DEADLINE if observation_name in LATE else NOW
    if expected == "!":
        with pytest.raises(IllegalObservation, match=f"{type(observation).__name__} while {intent.state}"):
            observe(intent, observation, now, RULES)
        return
    after, effects = observe(intent, observation, now, RULES)
    done = "".join(map(letter, effects))
    state = "=" if after.state is intent.state else after.state.value
    assert (f"{state}+{done}" if done else state) == expected
    if intent.state in ENDED:
        assert after is intent


def test_table_has_every_pair() -> None:
    """A new state, observation or effect cannot be forgotten."""
    cells = table_cells()
    assert {(name, state) for name, state, _ in cells} == {(o, s) for o in OBSERVATIONS for s in {*OPEN, *ENDED}}
    assert {intent.state for intent in OPEN.values()} | ENDED == set(IntentState)
    assert {type(observation) for observation in OBSERVATIONS.values()} == set(Observation.__args__)
    assert {effect for _, _, cell in cells for effect in cell.partition("+")[2]} == set("BPRCVINF")
    assert IntentState.FINAL not in WITHOUT_EFFECT < ENDED


# --- what ends say ---------------------------------------------------------------------------------------------------


def finish_of(intent: Intent, observation: Observation, *, now: datetime = NOW, rules: Rules = RULES) -> Finish:
    """The one effect."""
    _, (effect,) = observe(intent, observation, now, rules)
    assert isinstance(effect, Finish)
    return effect


def test_simulation_that_reverts_says_at_which_block() -> None:
    """Nothing was signed, no nonce used; the reason goes to the ledger."""
    denied, effects = observe(PLANNED, SimulationReverted("vault: paused", 100), NOW, RULES)
    assert effects == (Finish(JobOutcome.FAILED, "simulation at block 100 reverted: vault: paused"),)
    assert (denied.nonce, denied.attempts) == (None, ())


def test_breach_of_an_expectation_is_a_denial_in_its_own_words() -> None:
    """It did not revert: it was refused."""
    breach = SimulationReverted("share price moves 12 bps", 100, is_breach=True)
    assert finish_of(PLANNED, breach) == Finish(JobOutcome.DENIED, "simulation at block 100: share price moves 12 bps")


def test_end_names_the_transaction_that_was_included() -> None:
    """It may be an earlier attempt than the last; also the batch, when its cancellation came too late."""
    twice = replace(SENT, attempts=(attempt(1), attempt(2)))
    acted = Finish(JobOutcome.ACTED, "included in block 101, 3 confirmations", attempt(1).hash)
    assert finish_of(twice, mined(101, 103)) == acted
    assert finish_of(CANCELLING, mined(101, 103)) == acted
    failed = Finish(JobOutcome.FAILED, "reverted on chain in block 101", attempt(2).hash)
    assert finish_of(twice, mined(101, 103, number=2, is_success=False)) == failed


@pytest.mark.parametrize(
    "cancellation, outcome", [(TOO_LATE, JobOutcome.EXPIRED), (ASKED, JobOutcome.DENIED)], ids=["expired", "cancelled"]
)
def test_cancelled_intent_ends_as_its_cancellation_says(cancellation: Cancellation, outcome: JobOutcome) -> None:
    """By its no-op, or by a stranger's transaction: either way the batch can never be included, and both say why."""
    cancelling = replace(CANCELLING, cancellation=cancellation)
    after, effects = observe(cancelling, mined(101, 103, number=2), NOW, RULES)
    reason = f"{cancellation.reason}; a no-op took its nonce 7 in block 101"
    assert (after.state, effects) == (cancellation.ending, (Finish(outcome, reason, NOOP.hash),))
    lost = replace(cancelling, state=IntentState.UNRESOLVED)
    after, effects = observe(lost, Died(STRANGER, 101), NOW, RULES)
    reason = f"{cancellation.reason}; its nonce 7 was used by {STRANGER}, which is not ours, in block 101"
    assert (after.state, effects) == (cancellation.ending, (Finish(outcome, reason),))


def test_first_cancellation_stands() -> None:
    """A later no-op may be signed for another reason; what the ledger has is not written over."""
    after, _ = observe(CANCELLING, Signed(NONCE, attempt(4, AttemptKind.NOOP), ASKED), NOW, RULES)
    assert after.cancellation == TOO_LATE


def test_dead_intent_is_planned_again_without_anything_of_before() -> None:
    """Its attempts can never take effect, so it may have another nonce; too late, it ends."""
    lost = OPEN["unresolved"]
    again, effects = observe(lost, Died(STRANGER, 101), NOW, RULES)
    assert (again, effects) == (PLANNED, (Replan(),))
    finish = finish_of(lost, Died(STRANGER, 101), now=DEADLINE)
    assert finish.outcome is JobOutcome.EXPIRED
    assert finish.reason == (
        f"its deadline passed; its nonce 7 was used by {STRANGER}, which is not ours, in block 101"
    )


# --- what is final ---------------------------------------------------------------------------------------------------


def test_one_confirmation_is_the_block_itself() -> None:
    """`confirmations = 1` means: included is final."""
    final, _ = observe(SENT, mined(101, 101), NOW, replace(RULES, confirmations=1))
    assert final.state is IntentState.FINAL


@pytest.mark.parametrize(
    "finalized, expected", [(None, IntentState.INCLUDED), (100, IntentState.INCLUDED), (101, IntentState.FINAL)]
)
def test_by_tag_only_the_finalized_block_counts(finalized: int | None, expected: IntentState) -> None:
    """Not how deep it is; and without an answer about the tag, nothing."""
    assert observe(SENT, mined(101, 900, finalized=finalized), NOW, BY_TAG)[0].state is expected
    shallow = mined(101, 101, finalized=finalized)
    assert observe(SENT, shallow, NOW, BY_TAG)[0].state is expected
    unproven = mined(101, 900, finalized=finalized, is_agreed=False)
    assert observe(SENT, unproven, NOW, BY_TAG)[1] == ((Prove(),) if expected is IntentState.FINAL else ())


# --- waiting ---------------------------------------------------------------------------------------------------------


def test_reorged_intent_is_sent_again_and_may_be_included_elsewhere() -> None:
    """Mined, gone, mined in another block: only depth in the new one makes it final."""
    intent, _ = observe(SENT, mined(101, 102), NOW, RULES)
    intent, effects = observe(intent, NotSeen(102), NOW, RULES)
    assert (intent.state, effects) == (IntentState.SENT, (Push(is_due=False),))
    _, effects = observe(intent, NotSeen(102), NOW, RULES)
    assert effects == (Push(is_due=False),), "the node took it before the reorg, which says nothing now"
    intent, _ = observe(intent, mined(103, 104), NOW, RULES)
    assert intent.state is IntentState.INCLUDED
    intent, effects = observe(intent, mined(103, 105), NOW, RULES)
    assert intent.state is IntentState.FINAL


def test_replacement_is_waited_for_anew() -> None:
    """Patience counts from the block at which the last attempt was signed."""
    intent, _ = observe(SENT, Signed(NONCE, attempt(2, signed_block=105)), NOW, RULES)
    intent, _ = observe(intent, Accepted(attempt(2).hash), NOW, RULES)
    assert observe(intent, NotSeen(109, 100), NOW, RULES)[1] == ()
    assert observe(intent, NotSeen(110, 100), NOW, RULES)[1] == (Push(is_due=True),)


def test_turn_is_waited_for_anew() -> None:
    """One that waited for a lower nonce has had no chance yet: it is only sent again, now and then."""
    assert observe(SENT, NotSeen(200, 200), NOW, RULES)[1] == (Push(is_due=False),)
    assert observe(SENT, NotSeen(204, 200), NOW, RULES)[1] == ()
    assert observe(SENT, NotSeen(205, 200), NOW, RULES)[1] == (Push(is_due=True),)


def test_acceptance_marks_that_attempt_alone() -> None:
    """A late answer to the first broadcast says nothing of the replacement."""
    intent, _ = observe(SIGNED, Signed(NONCE, attempt(2)), NOW, RULES)
    intent, _ = observe(intent, Accepted(attempt(1).hash), NOW, RULES)
    assert [each.is_accepted for each in intent.attempts] == [True, False]
    assert observe(intent, NotSeen(101), NOW, RULES)[1] == (Push(is_due=False),)


def test_reason_of_a_cancellation_says_what_was_exceeded() -> None:
    """The deadline, or the private lane's blocks; one microsecond earlier there is none."""
    (late,) = observe(SENT, NotSeen(101), DEADLINE, RULES)[1]
    assert late == Cancel(Cancellation(IntentState.EXPIRED, "its deadline passed before it was included"))
    assert observe(SENT, NotSeen(101), DEADLINE - timedelta(microseconds=1), RULES)[1] == ()
    private = OPEN["private"]
    (over,) = observe(private, NotSeen(120), NOW, RULES)[1]
    reason = "it was not included within 20 blocks, and may not go out in public"
    assert over == Cancel(Cancellation(IntentState.EXPIRED, reason))
    assert observe(private, NotSeen(119), NOW, RULES)[1] == ()
    assert observe(private, NotSeen(115), NOW, RULES)[1] == (Push(is_due=False),)


def test_private_lane_counts_from_the_first_attempt() -> None:
    """Replacements give it no more time."""
    replaced = replace(OPEN["private"], attempts=(attempt(1), attempt(2, signed_block=118, is_accepted=True)))
    (over,) = observe(replaced, NotSeen(120), NOW, RULES)[1]
    assert isinstance(over, Cancel)


def test_private_first_goes_on_in_public_instead_of_being_cancelled() -> None:
    """That is what the route is for."""
    first = replace(SENT, route=Route.PRIVATE_FIRST)
    assert observe(first, NotSeen(120, 100), NOW, RULES)[1] == (Push(is_due=True),)


@pytest.mark.parametrize(
    "route, head, expected",
    [
        (Route.PUBLIC, 100, (True, True)),
        (Route.PRIVATE, 100, (False, True)),
        (Route.PRIVATE, 999, (False, True)),
        (Route.PRIVATE_FIRST, 100, (False, True)),
        (Route.PRIVATE_FIRST, 119, (False, True)),
        (Route.PRIVATE_FIRST, 120, (True, True)),
    ],
)
def test_what_may_go_to_every_node(route: Route, head: int, expected: tuple[bool, bool]) -> None:
    """The batch, and its no-op, which tells nobody anything."""
    stages = [replace(each, route=route) for each in (SENT, CANCELLING)]
    assert tuple(is_public(each, each.latest, head, RULES) for each in stages) == expected


# --- any sequence ----------------------------------------------------------------------------------------------------


def proves(observation: Observation, before: Intent, end: IntentState) -> bool:
    """Whether this may end an intent so, written down independently of the code."""
    if isinstance(observation, SimulationReverted):
        return end is IntentState.DENIED and not before.attempts
    if isinstance(observation, Died):
        return end in (IntentState.EXPIRED, IntentState.CANCELLED)
    if not isinstance(observation, Mined):
        return False
    kind = next(each.kind for each in before.attempts if each.hash == observation.hash)
    if kind is AttemptKind.NOOP:
        is_fitting = before.cancellation is not None and end is before.cancellation.ending
    else:
        is_fitting = end is (IntentState.FINAL if observation.is_success else IntentState.REVERTED)
    return is_fitting and observation.is_agreed and observation.head - observation.block + 1 >= RULES.confirmations


class Life(RuleBasedStateMachine):
    """An intent, its wallet, and a chain that includes, reorgs, forgets and robs it, as a shell would report it."""

    def __init__(self) -> None:
        super().__init__()
        self.head = 100
        self.now = NOW
        self.intent = PLANNED
        self.next_nonce = NONCE
        self.stored: dict[str, tuple[int, Attempt]] = {}
        """Every attempt ever signed with its nonce, by hash."""
        self.wanted: Effect | None = None
        """What the shell was last asked to sign, and has not signed yet. It takes its time."""
        self.finishes: list[Finish] = []

    def see(self, observation: Observation) -> None:
        before = self.intent
        self.intent, effects = observe(before, observation, self.now, RULES)
        if before.state in ENDED:
            assert (self.intent, effects) == (before, ()), "an ended intent changed"
        elif self.intent.state in ENDED:
            assert proves(observation, before, self.intent.state), "it ended though nothing was proven"
            assert isinstance(effects[-1], Finish)
        for effect in effects:
            if isinstance(effect, Broadcast):
                assert self.stored[effect.attempt.hash] == (self.intent.nonce, effect.attempt), "not stored"
            elif isinstance(effect, Push | Cancel):
                self.wanted = effect
                assert not isinstance(effect, Cancel) or before.cancellation is None, "it is being cancelled already"
            elif isinstance(effect, Finish):
                self.finishes.append(effect)
                assert self.intent.state in ENDED
            if isinstance(effect, Push) and effect.is_due:
                assert isinstance(observation, NotSeen)
                turn = observation.in_turn_since
                assert turn is not None, "a replacement of one that waits for another"
                waited = observation.head - max(turn, self.intent.latest.signed_block)
                assert waited >= RULES.replace_after_blocks

    def sign(self, nonce: int, kind: AttemptKind, cancellation: Cancellation | None = None) -> None:
        self.wanted = None
        made = attempt(len(self.stored) + 1, kind, signed_block=self.head)
        self.stored[made.hash] = (nonce, made)
        self.see(Signed(nonce, made, cancellation))

    @precondition(lambda self: self.intent.state is IntentState.PLANNED)
    @rule()
    def sign_first(self) -> None:
        self.next_nonce += 1
        self.sign(self.next_nonce - 1, AttemptKind.BATCH)

    @precondition(lambda self: self.intent.state is IntentState.PLANNED)
    @rule(chance=st.integers(0, 9), is_breach=st.booleans())
    def simulate(self, chance: int, is_breach: bool) -> None:
        if chance == 0:  # seldom: nothing comes after it
            self.see(SimulationReverted("no", self.head, is_breach))

    @precondition(lambda self: self.wanted and self.intent.state in (IntentState.SIGNED, IntentState.SENT))
    @rule()
    def carry_out(self) -> None:
        """As `push` does, which looks at the state once more before it signs."""
        nonce, wanted = self.intent.nonce, self.wanted
        assert nonce is not None
        if isinstance(wanted, Cancel):
            self.sign(nonce, AttemptKind.NOOP, wanted.cancellation)
        elif isinstance(wanted, Push) and wanted.is_due:
            self.sign(nonce, self.intent.latest.kind)

    @precondition(lambda self: self.intent.attempts and self.intent.state not in ENDED)
    @rule(observation=st.sampled_from(("batch", "nonce", "bare", "unknown")))
    def err(self, observation: str) -> None:
        """What a broken shell might do is refused, and changes nothing."""
        nonce = self.intent.nonce
        assert nonce is not None
        is_cancelled = self.intent.cancellation is not None
        wrong: dict[str, Observation | None] = {
            "batch": Signed(nonce, attempt(99)) if is_cancelled else None,
            "bare": None if is_cancelled else Signed(nonce, attempt(99, AttemptKind.NOOP)),
            "nonce": Signed(nonce + 1, attempt(99, self.intent.latest.kind)),
            "unknown": Accepted(attempt(99).hash),
        }
        if (broken := wrong[observation]) is not None:
            with pytest.raises(IllegalObservation):
                observe(self.intent, broken, self.now, RULES)

    @precondition(lambda self: self.intent.attempts)
    @rule(data=st.data())
    def accept(self, data: st.DataObject) -> None:
        self.see(Accepted(data.draw(st.sampled_from(self.intent.attempts)).hash))

    @precondition(lambda self: self.intent.attempts)
    @rule(data=st.data(), age=st.integers(0, 2), is_success=st.booleans(), votes=st.integers(0, 3))
    def include(self, data: st.DataObject, age: int, is_success: bool, votes: int) -> None:
        is_agreed = votes == 3
        included = data.draw(st.sampled_from(self.intent.attempts))
        before = self.intent
        seen = replace(
            mined(self.head - age, self.head, is_success=is_success, is_agreed=is_agreed), hash=included.hash
        )
        self.see(seen)
        if before.state not in ENDED:
            assert (self.intent.state in ENDED) is (is_agreed and age + 1 >= RULES.confirmations)

    @precondition(lambda self: self.intent.attempts)
    @rule(turn=st.none() | st.integers(0, 8))
    def miss(self, turn: int | None) -> None:
        self.see(NotSeen(self.head, None if turn is None else self.head - turn))

    @precondition(lambda self: self.intent.attempts)
    @rule()
    def lose_nonce(self) -> None:
        self.see(NonceTaken(self.head))

    @precondition(lambda self: self.intent.state is IntentState.UNRESOLVED)
    @rule()
    def die(self) -> None:
        self.see(Died(STRANGER, self.head))

    @precondition(lambda self: self.intent.attempts)
    @rule(cancellation=st.sampled_from((TOO_LATE, ASKED)))
    def go_stale(self, cancellation: Cancellation) -> None:
        self.see(Stale(cancellation))

    @rule(blocks=st.integers(-3, 7))
    def move_head(self, blocks: int) -> None:
        self.head += blocks

    @rule(minutes=st.integers(-2, 6))
    def move_clock(self, minutes: int) -> None:
        self.now += timedelta(minutes=minutes)

    @invariant()
    def live_attempts_share_the_nonce(self) -> None:
        nonces = {self.stored[each.hash][0] for each in self.intent.attempts}
        assert nonces <= {self.intent.nonce}, "two attempts of one intent could both take effect"
        assert (self.intent.nonce is None) == (not self.intent.attempts)

    @invariant()
    def attempts_are_the_last_that_were_stored_unchanged(self) -> None:
        last = list(self.stored.values())[len(self.stored) - len(self.intent.attempts) :]
        kept = [replace(each, is_accepted=False) for each in self.intent.attempts]
        assert kept == [made for _, made in last]

    @invariant()
    def nothing_but_no_ops_follows_a_cancellation(self) -> None:
        kinds = [each.kind for each in self.intent.attempts]
        assert kinds == sorted(kinds), "a batch after a no-op"
        assert (AttemptKind.NOOP in kinds) == (self.intent.cancellation is not None)

    @invariant()
    def it_ends_once(self) -> None:
        assert len(self.finishes) == (self.intent.state in ENDED)

    @invariant()
    def what_is_wanted_never_changes(self) -> None:
        same = ("call_id", "target", "calldata", "value_wei", "wallet", "chain_id", "deadline_at", "route")
        assert all(getattr(self.intent, name) == getattr(PLANNED, name) for name in same)


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)

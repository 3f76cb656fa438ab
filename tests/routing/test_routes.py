"""What comes of a stimulus beside the calls of its triggers: copies for `always` routes, and the fallback."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.limits import MAX_SOURCE_LENGTH
from protocol.messages import TriggerKind
from runnerd.config.routing import AlwaysRoute, FallbackRoute, RouterConfig
from runnerd.routing.routes import Routes
from runnerd.store.calls import NewCall
from tests.support.virtual_time import EPOCH

PLUGINS = ("alpha", "beta", "auditor")
AUDIT = AlwaysRoute(plugin="auditor", job="audit")


def new_call(
    plugin: str = "alpha", number: int = 1, *, trigger: TriggerKind = TriggerKind.EVENT, topic: str | None = "flow",
    event: str | None = None, job: str = "decide",
) -> NewCall:  # fmt: skip
    return NewCall(
        plugin=plugin, trigger=trigger, identity=f"notify {number} event flow", principal="pg:flow", due_at=EPOCH,
        fired_at=EPOCH, deadline_at=EPOCH, topic=topic, payload="{}", source="event flow", job=job, overlap="skip",
        event=f"notify {number}" if event is None else event,
    )  # fmt: skip


def copies(route: AlwaysRoute, *calls: NewCall) -> list[tuple[str, str, str]]:
    made = Routes(RouterConfig(always=(route,))).copies(calls, PLUGINS)
    return [(copy.plugin, copy.job, copy.identity) for copy in made]


def test_a_copy_has_its_own_identity_and_all_that_its_original_tells() -> None:
    """It waits for nobody: the overlap policy was the original's."""
    original = new_call()
    (copy,) = Routes(RouterConfig(always=(AUDIT,))).copies([original], PLUGINS)
    assert copy == replace(
        original, plugin="auditor", job="audit", identity="always audit: notify 1", source="always", overlap="parallel",
        principal="copy of pg:flow",
    )  # fmt: skip


def test_an_event_that_many_take_is_copied_once_and_calls_of_single_plugins_each() -> None:
    """One idempotency key may stand for another request at another plugin."""
    assert copies(AUDIT, new_call("alpha"), new_call("beta"), new_call("alpha", 2)) == [
        ("auditor", "audit", "always audit: notify 1"), ("auditor", "audit", "always audit: notify 2"),
    ]  # fmt: skip
    by_hand = [new_call(plugin, trigger=TriggerKind.MANUAL, event="") for plugin in ("alpha", "beta")]
    assert [identity for _, _, identity in copies(AUDIT, *by_hand)] == [
        "always audit: alpha: notify 1 event flow", "always audit: beta: notify 1 event flow",
    ]  # fmt: skip


def test_what_takes_a_call_back_has_a_copy_that_takes_its_copy_back() -> None:
    """By the rule by which everybody finds what was taken back: `retracted` before the identity."""
    found, undone = (new_call(trigger=TriggerKind.BLOCK, event=event) for event in ("block 7", "retracted block 7"))
    first, second = Routes(RouterConfig(always=(AUDIT,))).copies([found, undone], PLUGINS)
    assert (first.identity, second.identity) == ("always audit: block 7", "retracted always audit: block 7")
    long = "x" * 900
    first, second = Routes(RouterConfig(always=(AUDIT,))).copies(
        [replace(found, event=long), replace(undone, event=f"retracted {long}")], PLUGINS
    )
    assert second.identity == f"retracted {first.identity}"


@pytest.mark.parametrize(
    "route, kept",
    [
        (AUDIT, [1, 2, 3]),
        (AlwaysRoute(plugin="auditor", triggers=(TriggerKind.BLOCK,)), [3]),
        (AlwaysRoute(plugin="auditor", topics=("flow",)), [1]),
        (AlwaysRoute(plugin="auditor", triggers=(TriggerKind.EVENT, TriggerKind.BLOCK), topics=("fees",)), [2]),
        (AlwaysRoute(plugin="alpha", job="decide"), []),
        (AlwaysRoute(plugin="alpha", job="settle"), [1, 2, 3]),
        (AlwaysRoute(plugin="gone"), []),
    ],
)
def test_a_route_takes_what_it_names_of_what_others_get(route: AlwaysRoute, kept: list[int]) -> None:
    """Not what is its own already; and nothing, if its plugin is gone."""
    calls = [new_call(number=1), new_call(number=2, topic="fees"),
             new_call(number=3, trigger=TriggerKind.BLOCK, topic=None)]  # fmt: skip
    assert [identity.rsplit(maxsplit=1)[-1] for _, _, identity in copies(route, *calls)] == [str(n) for n in kept]


routes = st.builds(
    AlwaysRoute,
    plugin=st.sampled_from(PLUGINS),
    job=st.sampled_from(["decide", "audit"]),
    triggers=st.sets(st.sampled_from(TriggerKind), max_size=2).map(tuple),
)


@given(
    st.lists(routes, max_size=4, unique_by=lambda route: (route.plugin, route.job)),
    st.lists(st.builds(new_call, st.sampled_from(PLUGINS), st.integers(1, 3)), max_size=6),
    st.data(),
)
def test_neither_the_order_of_routes_nor_of_calls_changes_who_gets_what(
    always: list[AlwaysRoute], calls: list[NewCall], data: st.DataObject
) -> None:
    """And no two copies have one identity."""
    made = Routes(RouterConfig(always=tuple(always))).copies(calls, PLUGINS)
    shuffled = Routes(RouterConfig(always=tuple(data.draw(st.permutations(always)))))
    again = shuffled.copies(data.draw(st.permutations(calls)), PLUGINS)
    named = [(copy.plugin, copy.identity) for copy in made]
    assert len(set(named)) == len(named)
    assert {(copy.plugin, copy.identity) for copy in again} == set(named)


@pytest.mark.parametrize(
    "trigger, is_owed, expected",
    [
        (TriggerKind.EVENT, False, False), (TriggerKind.EVENT, True, True), (TriggerKind.CRON, False, False),
        (TriggerKind.BLOCK, False, True), (TriggerKind.LOG, False, True), (TriggerKind.METRIC, False, True),
    ],
)  # fmt: skip
def test_a_copy_may_be_dropped_only_where_nobody_goes_on_from_a_position(
    trigger: TriggerKind, is_owed: bool, expected: bool
) -> None:
    """The producers of the others never ask again."""
    original = replace(new_call(trigger=trigger), is_owed=is_owed)
    (copy,) = Routes(RouterConfig(always=(AUDIT,))).copies([original], PLUGINS)
    assert copy.is_owed is expected


def test_what_nobody_takes_is_the_fallbacks_once() -> None:
    """It is told what was asked for; of what is its own already nothing is made."""
    fallen = Routes(RouterConfig(fallback=FallbackRoute(plugin="beta", job="audit")))
    call = fallen.otherwise(new_call("typo", job="settle"))
    assert call is not None
    assert (call.plugin, call.job, call.source) == ("beta", "audit", "fallback")
    assert call.identity == "fallback typo/settle: notify 1 event flow"
    assert fallen.otherwise(call) is None
    assert Routes().otherwise(new_call("typo")) is None


def test_long_identities_are_cut_and_stay_different() -> None:
    """They must fit into a frame, and into an entry of an index."""
    fallen = Routes(RouterConfig(fallback=FallbackRoute(plugin="beta")))
    long = [fallen.otherwise(replace(new_call("typo"), identity="x" * 900 + end)) for end in "ab"]
    identities = {call.identity for call in long if call is not None}
    assert len(identities) == 2
    assert all(len(identity) <= MAX_SOURCE_LENGTH for identity in identities)


def test_routes_that_lead_nowhere_are_named() -> None:
    """As soon as the worker has said which jobs it has."""
    routes = Routes(RouterConfig(always=(AUDIT,), fallback=FallbackRoute(plugin="gone")))
    assert list(routes.problems({"auditor": None, "gone": None})) == []
    assert list(routes.problems({"auditor": ("decide",)})) == [
        "the always route leads to job 'audit' of auditor; it has decide",
        "the fallback route leads to gone, which is not configured any more",
    ]

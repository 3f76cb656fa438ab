"""What a layer covers, and what holds for a route: decided by scopes, and never by the order of declarations."""

import random
import tomllib
from collections.abc import Mapping
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from runnerd.config.plugins import PluginConfig
from runnerd.config.routing import RouteLimits, RouterConfig
from runnerd.routing.layers import EVERYTHING, Declared, Layers, Scope, layers_of, tightest

PLUGINS, JOBS = ("alpha", "beta", "gamma"), ("decide", "settle", "audit")
ROUTES = [(plugin, job) for plugin in PLUGINS for job in JOBS]

limits = st.builds(
    RouteLimits,
    parallel=st.none() | st.integers(1, 9),
    max_calls_per_s=st.none() | st.integers(1, 9),
    decide_deadline_s=st.none() | st.sampled_from([0.5, 1.0, 2.0]),
    call_deadline_s=st.none() | st.sampled_from([5.0, 10.0, 20.0]),
)
scopes = st.builds(Scope, st.none() | st.sampled_from(PLUGINS), st.none() | st.sampled_from(JOBS))
declarations = st.lists(st.tuples(scopes, limits), max_size=12)


def coverage(declared: list[Declared]) -> dict[tuple[str, str], tuple[frozenset[Scope], RouteLimits]]:
    """What holds for every route."""
    layers = Layers(declared)
    return {route: (layers.covering(*route), layers.effective(*route)) for route in ROUTES}


@given(declarations, st.randoms(use_true_random=False))
def test_the_order_of_declaration_never_changes_what_a_layer_covers(
    declared: list[Declared], shuffler: random.Random
) -> None:
    """Elsewhere a layer covers only the routes that were declared before it."""
    shuffled = list(declared)
    shuffler.shuffle(shuffled)
    assert coverage(shuffled) == coverage(declared)


@given(declarations)
def test_every_layer_covers_exactly_the_routes_in_its_scope_and_the_tightest_limit_holds(
    declared: list[Declared],
) -> None:
    """Said again in the simplest words, declaration by declaration."""
    for plugin, job in ROUTES:
        around = [
            each for scope, each in declared if scope.plugin in (None, plugin) and scope.job in (None, job)
        ]  # fmt: skip
        effective = Layers(declared).effective(plugin, job)
        for name in ("parallel", "max_calls_per_s", "decide_deadline_s", "call_deadline_s"):
            given_ones = [value for each in around if (value := getattr(each, name)) is not None]
            assert getattr(effective, name) == (min(given_ones) if given_ones else None)


@given(st.lists(limits, min_size=1, max_size=4))
def test_tightest_does_not_depend_on_order_or_repetition(several: list[RouteLimits]) -> None:
    """So layers of one scope may be declared in several places."""
    assert tightest(*several) == tightest(*reversed(several)) == tightest(*several, *several)


BLOCKS = (
    "[router.layers]\nparallel = 4\ndecide_deadline_s = 3.0\n",
    '[plugins.alpha]\nvault = "main"\nparallel = 8\ndecide_deadline_s = 2.0\n',
    "[plugins.alpha.jobs.settle]\nparallel = 1\ncall_deadline_s = 10.0\n",
    "[plugins.alpha.jobs.audit]\nmax_calls_per_s = 2\n",
    '[plugins.beta]\nvault = "main"\nmax_calls_per_s = 7\n',
    "[plugins.beta.jobs.settle]\ndecide_deadline_s = 0.5\n",
    "[plugins.gamma]\nvault = \"main\"\ncall_deadline_s = 1.5\n",
)  # fmt: skip


def from_text(blocks: list[str]) -> dict[tuple[str, str], RouteLimits]:
    """What holds for every route, as the tables of a file have it."""
    raw: Mapping[str, Any] = tomllib.loads("\n".join(blocks))
    plugins = {name: msgspec.convert(table, PluginConfig) for name, table in raw["plugins"].items()}
    layers = layers_of(plugins, msgspec.convert(raw["router"], RouterConfig).layers)
    return {route: layers.effective(*route) for route in ROUTES}


@given(st.permutations(BLOCKS))
def test_the_order_of_tables_in_the_file_means_nothing(blocks: list[str]) -> None:
    """A layer of all routes may stand before, between or after the plugins."""
    assert from_text(blocks) == from_text(list(BLOCKS))


def test_three_scopes_wrap_a_route() -> None:
    """All routes, its plugin, its job: each limit is the tightest of the three."""
    routes = from_text(list(BLOCKS))
    assert structs.asdict(routes["alpha", "settle"]) == {
        "parallel": 1, "max_calls_per_s": 50, "decide_deadline_s": 2.0, "call_deadline_s": 10.0,
    }  # fmt: skip
    assert (routes["beta", "decide"].parallel, routes["beta", "decide"].decide_deadline_s) == (4, 3.0)
    assert routes["gamma", "audit"].call_deadline_s == 1.5
    assert Layers([(EVERYTHING, RouteLimits(parallel=2))]).effective("never", "declared").parallel == 2

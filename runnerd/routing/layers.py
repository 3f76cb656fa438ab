"""Which limits hold for which calls: layers around all routes, around one plugin's, around one plugin's job.

A layer covers what its scope names, and nothing else decides that: not the order in which layers are declared, nor
whether a route was declared before. Pure. Who holds calls to them: `router`, `supervisor.intake`, `supervisor.desk`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from msgspec import structs

from runnerd.config.plugins import PluginConfig
from runnerd.config.routing import RouteLimits


@dataclass(frozen=True, slots=True)
class Scope:
    """All calls, or those of a plugin, or those of one job of it. None means any."""

    plugin: str | None = None
    job: str | None = None

    def covers(self, plugin: str, job: str) -> bool:
        """Whether a call of this job of this plugin is within."""
        return self.plugin in (None, plugin) and self.job in (None, job)


EVERYTHING: Final = Scope()
Declared: TypeAlias = tuple[Scope, RouteLimits]


class Layers:
    """All layers that were declared. Two of one scope are one, with the tighter of each limit."""

    def __init__(self, declared: Iterable[Declared] = ()) -> None:
        self._limits: dict[Scope, RouteLimits] = {}
        for scope, limits in declared:
            self._limits[scope] = tightest(self._limits.get(scope, RouteLimits()), limits)
        self._known: dict[tuple[str, str], RouteLimits] = {}

    def of(self, scope: Scope) -> RouteLimits:
        """What was declared of exactly this scope."""
        return self._limits.get(scope, RouteLimits())

    def covering(self, plugin: str, job: str) -> frozenset[Scope]:
        """The scopes whose layers a call of this job passes."""
        return frozenset(scope for scope in self._limits if scope.covers(plugin, job))

    def effective(self, plugin: str, job: str) -> RouteLimits:
        """The tightest of each limit over all layers that cover this job."""
        known = self._known.get((plugin, job))
        if known is None:
            known = tightest(*(self._limits[scope] for scope in self.covering(plugin, job)))
            if len(self._known) < MAX_KNOWN:
                self._known[plugin, job] = known
        return known

    def jobs(self, plugin: str) -> dict[str, RouteLimits]:
        """What was declared of single jobs of a plugin."""
        return {
            scope.job: limits for scope, limits in self._limits.items()
            if scope.plugin == plugin and scope.job is not None
        }  # fmt: skip


MAX_KNOWN: Final = 1_000
"""Pairs that are remembered: whoever fires may name jobs that do not exist."""


def tightest(*limits: RouteLimits) -> RouteLimits:
    """The lowest of each limit that is given. The order means nothing."""
    lowest = {}
    for field in structs.fields(RouteLimits):
        given = [value for one in limits if (value := getattr(one, field.name)) is not None]
        lowest[field.name] = min(given, default=None)
    return RouteLimits(**lowest)


def layers_of(plugins: Mapping[str, PluginConfig], all_routes: RouteLimits) -> Layers:
    """As the configuration declares them."""
    declared: list[Declared] = [(EVERYTHING, all_routes)]
    for name, plugin in plugins.items():
        own = {field.name: getattr(plugin, field.name) for field in structs.fields(RouteLimits)}
        declared.append((Scope(name), RouteLimits(**own)))
        declared += [(Scope(name, job), limits) for job, limits in plugin.jobs.items()]
    return Layers(declared)

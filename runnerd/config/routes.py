"""What routes and the limits of jobs must satisfy together with the rest of the file. Called by `check`."""

from collections.abc import Iterator

from msgspec import structs

from protocol.messages import TriggerKind
from runnerd.config.model import Config
from runnerd.config.problem import Problem
from runnerd.config.routing import AlwaysRoute, FallbackRoute, RouteLimits


def check_routes(config: Config) -> Iterator[Problem]:
    """All problems of `[router]` and of `[plugins.NAME.jobs]`. Which jobs there are says only a worker."""
    seen: set[tuple[str, str]] = set()
    for i, route in enumerate(config.router.always):
        key = f"router.always[{i}]"
        yield from _plugin_of(key, route, config)
        if (route.plugin, route.job) in seen:
            yield Problem(key, f"job {route.job!r} of {route.plugin} is in `always` already: put both into one entry")
        seen.add((route.plugin, route.job))
        if route.topics and route.triggers and TriggerKind.EVENT not in route.triggers:
            yield Problem(f"{key}.topics", 'only events have topics, and triggers does not name "event"')
    if config.router.fallback is not None:
        yield from _plugin_of("router.fallback", config.router.fallback, config)
    for name, plugin in config.plugins.items():
        for job, limits in plugin.jobs.items():
            for field in structs.fields(RouteLimits):
                own, whole = getattr(limits, field.name), getattr(plugin, field.name)
                if own is not None and own > whole:
                    text = f"is above {field.name} = {whole} of the plugin, which holds for all its jobs: raise that"
                    yield Problem(f"plugins.{name}.jobs.{job}.{field.name}", text)


def _plugin_of(key: str, route: AlwaysRoute | FallbackRoute, config: Config) -> Iterator[Problem]:
    if route.plugin not in config.plugins:
        known, missing = ", ".join(sorted(config.plugins)) or "none", f"plugins.{route.plugin}"
        yield Problem(f"{key}.plugin", f"there is no [{missing}]; there are: {known}", missing=missing)

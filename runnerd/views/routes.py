"""The routes that stand now, for `status` and `runnerctl routes`: what leads to which job, within which limits."""

from collections.abc import Iterator, Mapping

from msgspec import structs

from runnerd.config.routing import AlwaysRoute, FallbackRoute
from runnerd.control.route_messages import RouteStatus
from runnerd.routing.routes import ALWAYS, FALLBACK, Routes
from runnerd.supervisor.host import PluginHost
from runnerd.triggers.source import source_of


def view_routes(routes: Routes, hosts: Mapping[str, PluginHost]) -> list[RouteStatus]:
    """By plugin and job; of a plugin whose worker has not said Hello yet, what the configuration says."""
    found = [_view(hosts, plugin, job, kind, source) for plugin, job, kind, source in _routes(routes, hosts)]
    return sorted(found, key=lambda route: (route.plugin, route.job, route.kind, route.source))


def route_problems(routes: Routes, hosts: Mapping[str, PluginHost]) -> Iterator[str]:
    """Routes that lead nowhere, and limits of jobs that are not there."""
    jobs = {name: host.declared.jobs if host.declared is not None else None for name, host in hosts.items()}
    yield from routes.problems(jobs)
    for name, host in hosts.items():
        has = jobs[name]
        for job in host.config.jobs if has is not None else ():
            if has is not None and job not in has:
                yield f"[plugins.{name}.jobs.{job}]: the class has no such job; it has {', '.join(has)}"


def _routes(routes: Routes, hosts: Mapping[str, PluginHost]) -> Iterator[tuple[str, str, str, str]]:
    for name, host in hosts.items():
        called = {trigger.job for trigger in host.triggers}
        yield from ((name, trigger.job, "trigger", source_of(trigger)) for trigger in host.triggers)
        declared = host.declared.jobs if host.declared is not None else ()
        yield from ((name, job, "manual", "") for job in declared if job not in called)
    for route in routes.always:
        yield route.plugin, route.job, ALWAYS, _of(route)
    if routes.fallback is not None:
        yield routes.fallback.plugin, routes.fallback.job, FALLBACK, _of(routes.fallback)


def _view(hosts: Mapping[str, PluginHost], plugin: str, job: str, kind: str, source: str) -> RouteStatus:
    host = hosts.get(plugin)
    limits = structs.asdict(host.layers.effective(plugin, job)) if host is not None else {}
    return RouteStatus(kind=kind, source=source, plugin=plugin, job=job, **limits)


def _of(route: AlwaysRoute | FallbackRoute) -> str:
    triggers = [kind.value for kind in route.triggers] if isinstance(route, AlwaysRoute) else []
    parts = [", ".join(triggers), f"topics {', '.join(route.topics)}" if route.topics else ""]
    return "; ".join(part for part in parts if part)

"""Which calls come of a stimulus beside those that its triggers make: copies for `always` routes, and the fallback.

Pure, and without regard to the order in which routes are declared. `router` asks, and commits what comes of it.

Identities: `always JOB: EVENT` for a copy and `fallback PLUGIN/JOB: IDENTITY` for what nobody takes. EVENT is what the
producer calls the stimulus, which may be many plugins' (one copy then); else it is `PLUGIN: IDENTITY` of the call. Of
what takes a call back (`retracted IDENTITY`) the copy takes back that call's copy, by the same rule.
"""

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from protocol.messages import TriggerKind
from runnerd.config.routing import AlwaysRoute, FallbackRoute, RouterConfig
from runnerd.store.calls import RETRACTED, NewCall

MAX_LENGTH: Final = 600
"""An identity must fit into an entry of an index, and an origin into a frame."""
ALWAYS: Final = "always"
FALLBACK: Final = "fallback"
"""The source of such calls."""
_POSITIONED: Final = frozenset({TriggerKind.BLOCK, TriggerKind.LOG, TriggerKind.METRIC})
"""Fired by producers that move a position in the same commit, and would never ask again."""


class Routes:
    """As `[router]` has them."""

    def __init__(self, config: RouterConfig | None = None) -> None:
        config = config or RouterConfig()
        self.always = tuple(sorted(config.always, key=lambda route: (route.plugin, route.job)))
        self.fallback = config.fallback

    def copies(self, taken: Sequence[NewCall], plugins: Collection[str]) -> list[NewCall]:
        """What `always` routes get of these calls, which others get; once for each event, however many take that.

        `plugins`: those that are there. A copy may be dropped for its plugin's bounds where its original could be.
        """
        made: dict[tuple[str, str], NewCall] = {}
        for call in taken if self.always else ():
            for route in self.always:
                if route.plugin in plugins and _wants(route, call):
                    copy = _copy(route, call)
                    made.setdefault((copy.plugin, copy.identity), copy)
        return list(made.values())

    def otherwise(self, call: NewCall) -> NewCall | None:
        """What the fallback gets of a call that nobody takes; None without one, or if this is its own."""
        route = self.fallback
        if route is None or (route.plugin, route.job) == (call.plugin, call.job):
            return None
        asked = f"{call.plugin}/{call.job}" if call.plugin else "nobody"
        return replace(
            call,
            plugin=route.plugin,
            job=route.job,
            identity=_short(f"{FALLBACK} {asked}: {call.identity}"),
            source=FALLBACK,
            overlap="parallel",
        )

    def problems(self, jobs: Mapping[str, Collection[str] | None]) -> Iterator[str]:
        """Routes that lead nowhere. `jobs` by plugin; None while its worker has not said which it has."""
        routes: list[tuple[str, AlwaysRoute | FallbackRoute]] = [(ALWAYS, route) for route in self.always]
        if self.fallback is not None:
            routes.append((FALLBACK, self.fallback))
        for kind, route in routes:
            has = jobs.get(route.plugin, ())
            if route.plugin not in jobs:
                yield f"the {kind} route leads to {route.plugin}, which is not configured any more"
            elif has is not None and route.job not in has:
                yield f"the {kind} route leads to job {route.job!r} of {route.plugin}; it has {', '.join(has)}"


def _wants(route: AlwaysRoute, call: NewCall) -> bool:
    is_own = (route.plugin, route.job) == (call.plugin, call.job)
    is_kind = not route.triggers or call.trigger in route.triggers
    return is_kind and not is_own and (not route.topics or call.topic in route.topics)


def _copy(route: AlwaysRoute, call: NewCall) -> NewCall:
    event = call.event or f"{call.plugin}: {call.identity}"
    retracted = RETRACTED if event.startswith(RETRACTED) else ""
    return replace(
        call,
        plugin=route.plugin,
        job=route.job,
        identity=retracted + _short(f"{ALWAYS} {route.job}: {event.removeprefix(RETRACTED)}"),
        principal=f"copy of {call.principal}",  # nobody who asks for it: it must not pass for the original anywhere
        source=ALWAYS,
        overlap="parallel",
        is_owed=call.is_owed or call.trigger in _POSITIONED,
    )


def _short(identity: str) -> str:
    if len(identity) <= MAX_LENGTH:
        return identity
    return f"{identity[:MAX_LENGTH]} … {hashlib.sha256(identity.encode()).hexdigest()}"

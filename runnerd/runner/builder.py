"""Puts a runner together in code: parts of the application's own beside those that the configuration names.

Everything is checked in `build`, and all that is wrong is told together; nothing is started.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Self

from msgspec import structs

from runnerd.config.check import check
from runnerd.config.consumers import check_echoes
from runnerd.config.extensions import BUILT_IN_PRODUCERS, BUILT_IN_SERVICES, Option
from runnerd.config.load import ConfigError, load_config
from runnerd.config.model import Config
from runnerd.config.routes import check_routes
from runnerd.config.routing import AlwaysRoute, FallbackRoute, RouteLimits, RouterConfig
from runnerd.errors import RunExit, RunnerdError
from runnerd.extensions import (
    ConsumerFactory,
    ExtensionBroken,
    Extensions,
    ProducerFactory,
    ServiceFactory,
    ShutdownHook,
    load_extensions,
)
from runnerd.routing.layers import tightest
from runnerd.runner.misfits import find_misfits, find_policy_misfits, read_router
from runnerd.runner.runner import Runner
from runnerd.services.http import HttpProcess
from runnerd.services.service import ServicePolicy


class RunnerIncomplete(RunnerdError):
    """The parts do not make a runner; nothing was started. Mend every problem listed, then build it again."""

    exit_code = RunExit.CONFIG

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


class RunnerBuilder:
    """Each method returns the builder. The order of the calls is that of the services, and means nothing else."""

    def __init__(self, config: Config | Path | str) -> None:
        """The configuration, or the file with it; it is read in `build`."""
        self._config = config
        self._producers: list[tuple[str, ProducerFactory, Mapping[str, Option]]] = []
        self._consumers: list[tuple[str, ConsumerFactory, Mapping[str, Option]]] = []
        self._services: list[tuple[str, ServiceFactory, Mapping[str, Option], ServicePolicy]] = []
        self._routers: list[RouterConfig | list[str]] = []
        self._hooks: list[ShutdownHook] = []
        self._http: HttpProcess | None = None

    def producer(self, name: str, factory: ProducerFactory, params: Mapping[str, Option] | None = None) -> Self:
        """Fire the `Custom` triggers that name it."""
        self._producers.append((name, factory, params or {}))
        return self

    def consumer(self, name: str, factory: ConsumerFactory, params: Mapping[str, Option] | None = None) -> Self:
        """Let it hear of all JobResults, through a cursor of its own."""
        self._consumers.append((name, factory, params or {}))
        return self

    def service(
        self,
        name: str,
        factory: ServiceFactory,
        params: Mapping[str, Option] | None = None,
        *,
        policy: ServicePolicy | None = None,
    ) -> Self:
        """Run it beside the loop. Started after those before it, stopped before them."""
        self._services.append((name, factory, params or {}, ServicePolicy() if policy is None else policy))
        return self

    def router(
        self,
        *always: AlwaysRoute,
        fallback: FallbackRoute | None = None,
        layers: RouteLimits | None = None,
    ) -> Self:
        """Routes beside those of `[router]`, and limits of all calls: of each the tightest holds."""
        self._routers.append(read_router(always, fallback, layers))
        return self

    def on_shutdown(self, hook: ShutdownHook) -> Self:
        """Call it, or await what it returns, when nothing runs any more; the last one given is the first."""
        self._hooks.append(hook)
        return self

    def http(self, process: HttpProcess) -> Self:
        """Serve over HTTP: by a process that was forked before anything secret was read, and that listens."""
        self._http = process
        return self

    def build(self) -> Runner:
        """The runner, not started. Raises RunnerIncomplete with all that is wrong."""
        problems: list[str] = []
        config = self._read(problems)
        extensions = Extensions()
        if config is not None:
            config = self._with_routes(config, problems)
            try:
                extensions = load_extensions(config)
            except ExtensionBroken as error:
                problems.append(str(error))
        for name, factory, params in self._producers:
            is_taken = name in extensions.producers
            problems.extend(find_misfits("producer", name, factory, BUILT_IN_PRODUCERS, is_taken=is_taken))
            extensions.producers[name] = factory, params
        for name, hear, params in self._consumers:
            is_taken = name in extensions.consumers or (config is not None and name in config.consumers)
            problems.extend(find_misfits("consumer", name, hear, (), is_taken=is_taken))
            extensions.consumers[name] = hear, params
        for name, make, params, policy in self._services:
            is_taken = name in extensions.services
            problems.extend(find_misfits("service", name, make, BUILT_IN_SERVICES, is_taken=is_taken))
            problems.extend(find_policy_misfits(name, policy))
            extensions.services[name] = make, params, policy
        hooks: list[object] = [*self._hooks]
        problems.extend(f"on_shutdown: {hook!r} cannot be called" for hook in hooks if not callable(hook))
        if problems or config is None:
            raise RunnerIncomplete(problems)
        extensions.on_shutdown.extend(self._hooks)
        return Runner(config, extensions, http=self._http)

    def _read(self, problems: list[str]) -> Config | None:
        own = [name for name, _, _ in self._producers]
        if isinstance(self._config, Config):
            problems.extend(f"{self._config.source}: {problem}" for problem in check(self._config, own))
            return self._config
        try:
            return load_config(Path(self._config), own)
        except ConfigError as error:
            problems.extend(str(error).splitlines())
            return None

    def _with_routes(self, config: Config, problems: list[str]) -> Config:
        if not self._routers:
            return config
        problems.extend(text for given in self._routers if isinstance(given, list) for text in given)
        routers = [config.router, *(given for given in self._routers if isinstance(given, RouterConfig))]
        fallbacks = [router.fallback for router in routers if router.fallback is not None]
        if len(fallbacks) > 1:
            problems.append(f"router: there are {len(fallbacks)} fallbacks, and what nobody takes is for one")
        router = RouterConfig(
            always=tuple(route for router in routers for route in router.always),
            fallback=fallbacks[0] if fallbacks else None,
            layers=tightest(*(router.layers for router in routers)),
        )
        known = {str(problem) for problem in (*check_routes(config), *check_echoes(config))}
        config = structs.replace(config, router=router)
        new = [str(problem) for problem in (*check_routes(config), *check_echoes(config))]
        problems.extend(text for text in new if text not in known)
        return config

"""From a plugin's configuration to the request that the zygote gets: what to run, what it may read, its limits."""

from pathlib import Path

from protocol.zygote import LoopSettings, PluginSource, SandboxPolicy, Spawn, WorkerLimits
from runnerd.config.plugins import PluginConfig
from runnerd.supervisor.limits import limits_of


def spawn_request(name: str, generation: int, config: PluginConfig, runtime_dir: str) -> Spawn:
    """The birth of generation `generation`. Its link lives in a directory of that generation alone."""
    link_dir = Path(runtime_dir) / "links" / f"{name}.{generation}"
    source = plugin_source(config)
    limits = limits_of(config)
    own = tuple(str(path) for path in (config.path, config.venv) if path is not None)
    return Spawn(
        plugin=name,
        generation=generation,
        link_dir=str(link_dir),
        link_address=f"ipc://{link_dir}/link",
        code=source,
        python=None if config.python is None else str(config.python),
        read_paths=(*own, *(str(path) for path in config.sandbox.readable_paths)),
        limits=WorkerLimits(
            memory_bytes=limits.memory_wall,
            max_threads=limits.thread_wall,
            max_fds=limits.file_wall,
            scheduling=config.sandbox.scheduling,
        ),
        sandbox=SandboxPolicy(namespaces=config.sandbox.namespaces, require=config.sandbox.require),
        loop=LoopSettings(generation=generation, threads=config.parallel),
    )


def plugin_source(config: PluginConfig) -> PluginSource:
    """Where its code is, and what it must be."""
    venv = None if config.venv is None else str(config.venv)
    if config.path is not None:
        return PluginSource(kind="path", value=str(config.path), venv=venv, pin=config.pin)
    if config.module is not None:
        return PluginSource(kind="module", value=config.module, venv=venv, pin=config.pin)
    return PluginSource(kind="entry_point", value=config.entry_point or "", venv=venv, pin=config.pin)

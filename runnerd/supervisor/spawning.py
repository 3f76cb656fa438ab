"""From a plugin's configuration to the request that the zygote gets: what to run, what it may read, its limits."""

from pathlib import Path

from protocol.zygote import LoopSettings, PluginSource, SandboxPolicy, Spawn, WorkerLimits
from runnerd.config.model import PluginConfig
from runnerd.supervisor.limits import limits_of


def spawn_request(name: str, generation: int, config: PluginConfig, runtime_dir: str) -> Spawn:
    """The birth of generation `generation`. Its link lives in a directory of that generation alone."""
    link_dir = Path(runtime_dir) / "links" / f"{name}.{generation}"
    source = _source(config)
    limits = limits_of(config)
    code = (str(config.path),) if config.path is not None else ()
    return Spawn(
        plugin=name,
        generation=generation,
        link_dir=str(link_dir),
        link_address=f"ipc://{link_dir}/link",
        code=source,
        read_paths=(*code, *(str(path) for path in config.sandbox.readable_paths)),
        limits=WorkerLimits(
            memory_bytes=limits.memory_wall,
            max_threads=limits.thread_wall,
            max_fds=limits.file_wall,
            scheduling=config.sandbox.scheduling,
        ),
        sandbox=SandboxPolicy(namespaces=config.sandbox.namespaces, require=config.sandbox.require),
        loop=LoopSettings(generation=generation, threads=config.parallel),
    )


def _source(config: PluginConfig) -> PluginSource:
    if config.path is not None:
        return PluginSource(kind="path", value=str(config.path))
    if config.module is not None:
        return PluginSource(kind="module", value=config.module)
    return PluginSource(kind="entry_point", value=config.entry_point or "")

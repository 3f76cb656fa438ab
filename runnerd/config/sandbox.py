"""What the keys of `[plugins.NAME.sandbox]` must satisfy together, and with the rest of their plugin."""

from collections.abc import Iterator
from typing import Final

from protocol.zygote import Layer
from runnerd.config.plugins import PluginConfig
from runnerd.config.problem import Problem

OWN_THREADS: Final = 8
"""Of the worker itself: its loop, ZeroMQ's two, and those that libraries start on their own."""


def check_sandbox(key: str, plugin: PluginConfig) -> Iterator[Problem]:
    """`key` is the plugin's dotted path."""
    sandbox = plugin.sandbox
    for path in sandbox.readable_paths:
        if not path.exists():
            yield Problem(f"{key}.sandbox.readable_paths", f"no such file: {path}")
    if sandbox.max_threads is not None and sandbox.max_threads < plugin.parallel + OWN_THREADS:
        least = f"{plugin.parallel + OWN_THREADS}: parallel = {plugin.parallel}, and {OWN_THREADS} more"
        yield Problem(f"{key}.sandbox.max_threads", f"must be at least {least}")
    if sandbox.namespaces == "off" and Layer.NAMESPACES in sandbox.require:
        yield Problem(f"{key}.sandbox.namespaces", "is off, and sandbox.require demands namespaces")

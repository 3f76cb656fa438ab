"""The digests of the configured plugins' code, as their workers would report them. Used by `check`.

Asked of the untrusted side's own code, in a process of the plugin's interpreter: the two sides share no code. Nothing
of a plugin's runs.
"""

import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping
from typing import Final

import msgspec
from msgspec import structs

from protocol.zygote import Identified, PluginSource
from runnerd.config.plugins import PluginConfig
from runnerd.supervisor.interpreter import program
from runnerd.supervisor.spawning import plugin_source

MODULE: Final = "workers.identify"
DEADLINE_S: Final = 60.0

_decoder: msgspec.json.Decoder[dict[str, Identified]] = msgspec.json.Decoder(dict[str, Identified])


def identify_plugins(plugins: Mapping[str, PluginConfig]) -> dict[str, Identified]:
    """What is known of the code of each: its digest, or why that cannot be told here. The pins are left out."""
    groups: dict[str | None, dict[str, PluginSource]] = defaultdict(dict)
    for name, config in plugins.items():
        python = None if config.python is None else str(config.python)
        groups[python][name] = structs.replace(plugin_source(config), pin=None)
    return {name: found for python, sources in groups.items() for name, found in _ask(python, sources).items()}


def _ask(python: str | None, sources: dict[str, PluginSource]) -> dict[str, Identified]:
    command = [sys.executable, "-I", "-m", MODULE] if python is None else [python, "-I", *program(MODULE)]
    try:
        asked = subprocess.run(
            command, input=msgspec.json.encode(sources), capture_output=True, timeout=DEADLINE_S, check=False, env={}
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return _unknown(sources, str(error))
    try:
        return _decoder.decode(asked.stdout)
    except msgspec.DecodeError:
        tail = asked.stderr.decode(errors="replace").strip().splitlines()[-1:] or [f"exit code {asked.returncode}"]
        return _unknown(sources, f"{command[0]}: {tail[0]}")


def _unknown(sources: Mapping[str, PluginSource], reason: str) -> dict[str, Identified]:
    return dict.fromkeys(sources, Identified(problem=reason))

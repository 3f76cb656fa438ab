"""A hostile plugin: runs the probe that its call's payload names, and says how it went."""

import importlib.util
from pathlib import Path
from typing import Any

from workers.sdk import Context, Noop, Plugin


class Prober(Plugin):
    """`params.probes` is the directory with the probes; it is among its readable paths."""

    name = "prober"

    def decide(self, ctx: Context) -> Noop:
        """One probe, in a thread, as plugin code with a plain `def` runs."""
        asked = ctx.call.json()
        try:
            _load(str(ctx.params["probes"]))[asked["probe"]].attempt(asked["targets"])
        except OSError as error:
            return Noop(f"denied: {error.errno} {error}")
        return Noop("succeeded")


def _load(directory: str) -> dict[str, Any]:
    spec = importlib.util.spec_from_file_location("probes_main", Path(directory, "__main__.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    table: dict[str, Any] = module.load()
    return table

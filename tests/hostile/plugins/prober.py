"""A hostile plugin: runs the probe that its call's payload names, and says how it went."""

import importlib.util
import sys
from types import ModuleType

from workers.sdk import Context, Noop, Plugin


class Prober(Plugin):
    """`params.probes` is the file with the probes; it is among its readable paths."""

    name = "prober"

    def decide(self, ctx: Context) -> Noop:
        """One probe, in a thread, as plugin code with a plain `def` runs."""
        asked = ctx.call.json()
        probes = _load(str(ctx.params["probes"]))
        try:
            (probes.PROBES | probes.DEADLY)[asked["probe"]].attempt(asked["targets"])
        except OSError as error:
            return Noop(f"denied: {error.errno} {error}")
        return Noop("succeeded")


def _load(path: str) -> ModuleType:
    if "probes" not in sys.modules:
        spec = importlib.util.spec_from_file_location("probes", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["probes"] = module
        spec.loader.exec_module(module)
    return sys.modules["probes"]

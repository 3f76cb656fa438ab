"""A zygote whose workers run a probe instead of a plugin: the real sandbox, around any Python file.

Started by `runnerd.supervisor.Zygote` in place of `workers.zygote`; see `probes`. The file that the plugin source names
is executed with `link`, `loop` and `settings` in its globals; what it prints goes to the worker's stdout.
With `--no-namespaces` it is the zygote of a host that refuses them.
"""

import asyncio
import runpy
import sys

import zmq

from protocol.zygote import LoopSettings
from workers import zygote
from workers.locate import PluginCode
from workers.sandbox import namespaces


def run_probe(
    link: "zmq.Socket[bytes]", loop: asyncio.AbstractEventLoop, code: PluginCode, settings: LoopSettings
) -> None:
    """What the workers of this zygote do with their life."""
    runpy.run_path(code.source.value, {"link": link, "loop": loop, "settings": settings}, run_name="__probe__")


if __name__ == "__main__":
    if "--no-namespaces" in sys.argv:
        sys.argv.remove("--no-namespaces")
        namespaces.find_obstacle = lambda: "this host refuses"
    zygote.main(run_probe)

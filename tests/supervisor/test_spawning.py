"""The request for a worker: what the operator configured arrives in it."""

from pathlib import Path

from protocol.zygote import Layer
from runnerd.config.plugins import PluginConfig, SandboxConfig
from runnerd.supervisor.limits import limits_of
from runnerd.supervisor.spawning import spawn_request


def test_calls_in_parallel_have_a_thread_each() -> None:
    """A plain `def decide` runs in one; beside them there is room for those of libraries."""
    config = PluginConfig(vault="main", path=Path("/srv/alpha.py"), parallel=40)
    request = spawn_request("alpha", 3, config, "/run/x")
    assert request.loop.threads == 40
    assert request.limits.max_threads == limits_of(config).thread_wall > 40 + 48


def test_code_and_limits_are_those_of_the_configuration() -> None:
    """The plugin may read its own file and what the operator adds; the link is this generation's alone."""
    sandbox = SandboxConfig(memory_mib=300, max_files=99, readable_paths=(Path("/srv/data"),), require=(Layer.CGROUP,))
    config = PluginConfig(vault="main", path=Path("/srv/alpha.py"), sandbox=sandbox)
    request = spawn_request("alpha", 3, config, "/run/x")
    assert (request.code.kind, request.code.value) == ("path", "/srv/alpha.py")
    assert request.read_paths == ("/srv/alpha.py", "/srv/data")
    assert request.link_address == "ipc:///run/x/links/alpha.3/link"
    assert request.sandbox.require == (Layer.CGROUP,)
    limits = limits_of(config)
    assert (request.limits.memory_bytes, request.limits.max_fds) == (limits.memory_wall, limits.file_wall)

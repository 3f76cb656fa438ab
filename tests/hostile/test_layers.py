"""Each layer of the sandbox by itself: all the others are taken away, and it still refuses what it is there for.

In the full sandbox seccomp stands before all of them, so that nobody would notice if one were gone. The workers here
come from a real zygote (`weak_zygote`), and run the same probes as those of the fort.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from protocol.zygote import Layer
from tests.hostile.conftest import PROBES as DIRECTORY
from tests.hostile.conftest import WITHOUT
from tests.hostile.probes import PROBES
from tests.hostile.weak_zygote import WITHOUT as LAYERS
from tests.support.probes import ProbeHost, probe_host

pytestmark = pytest.mark.hostile

ALONE: dict[Layer, dict[str, str]] = {
    Layer.LANDLOCK: {
        "read_the_keystore": "EACCES",
        "list_the_data_directory": "EACCES",
        "write_a_file": "EACCES",
        "follow_a_symlink_out_of_its_directory": "EACCES",
        "link_the_keystore_into_its_directory": "EACCES",
        "go_through_its_own_root": "EACCES",
        "use_shared_memory_files": "EACCES",
        "start_a_program": "EACCES",
    },
    Layer.LANDLOCK_NETWORK: {
        "connect_over_tcp": "EACCES",
        "connect_over_ipv6": "EACCES",
        "listen_on_tcp": "EACCES",
        "listen_on_ipv6": "EACCES",
    },
    Layer.LANDLOCK_SCOPES: {
        "signal_a_neighbour": "EPERM",
        "signal_through_a_pidfd": "EPERM",
        "connect_to_an_abstract_socket": "EPERM",
        "send_to_an_abstract_socket": "EPERM",
    },
    Layer.NAMESPACES: {
        "connect_over_tcp": "ENETUNREACH",
        "send_a_datagram": "ENETUNREACH",
        "signal_a_neighbour": "ESRCH",
        "signal_through_a_pidfd": "ESRCH",
        "trace_a_neighbour": "ESRCH",
        "connect_to_an_abstract_socket": "ECONNREFUSED",
    },
    Layer.PRIVILEGES: {
        "open_a_raw_socket": "EPERM",
        "open_a_packet_socket": "EPERM",
        "change_the_root": "EPERM",
        "name_the_host": "EPERM",
        "gain_by_exec": "EPERM",
        "be_dumped": "EPERM",
    },
    Layer.SECCOMP: {
        "connect_to_postgresql": "EPERM",
        "connect_to_the_control_socket": "EPERM",
        "connect_to_another_workers_link": "EPERM",
        "set_up_io_uring": "EPERM",
        "fork_a_process": "EPERM",
    },
}
"""Layer → probe → the error that is this layer's own word for no."""

RUN = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("probes_main", {main!r})
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
attempt(lambda: module.load()[{name!r}].attempt({targets!r}))
"""


@pytest.fixture(scope="module")
def host(request: pytest.FixtureRequest) -> Iterator[ProbeHost]:
    """A zygote whose workers have one layer (and no_new_privs, without which an ordinary user gets no other)."""
    kept = {request.param, Layer.PRIVILEGES}
    if request.param is Layer.PRIVILEGES:  # what is to be given up are the capabilities of a new namespace
        kept.add(Layer.NAMESPACES)
    removed = set(LAYERS) - kept | {os.environ.get(WITHOUT, "")}
    weak_zygote = Path(__file__).with_name("weak_zygote.py")
    with probe_host((str(weak_zygote), ",".join(sorted(removed)), "--probe")) as host:
        yield host


@pytest.mark.parametrize(
    "host, name, error",
    [(layer, name, error) for layer, probes in ALONE.items() for name, error in probes.items()],
    indirect=["host"],
)
def test_a_layer_refuses_by_itself(
    host: ProbeHost, targets: dict[str, Any], outside: Callable[[str, dict[str, object]], str], name: str, error: str
) -> None:
    """With its own error, so that it was this layer and no other; and the same probe succeeds outside."""
    probe = PROBES[name]
    if probe.needs_root and os.geteuid() != 0:
        pytest.skip("outside the sandbox this needs root as well: there would be no positive control")
    said = outside(name, targets)
    if probe.is_offered_by_some and said != "succeeded":
        pytest.skip(f"this kernel offers it to nobody: {said.splitlines()[-1]}")

    outcome = host.run(
        RUN.format(main=str(DIRECTORY / "__main__.py"), name=name, targets=targets),
        readable=[DIRECTORY, Path(targets["granted"])],
    )

    assert said == "succeeded"
    assert outcome.said == [error], outcome.stderr


def test_a_worker_whose_denials_nobody_hears_is_locked_in_all_the_same() -> None:
    """As below a container manager that holds the kernel's one listener: born, refused, and said to lack that layer."""
    weak_zygote = Path(__file__).with_name("weak_zygote.py")
    with probe_host((str(weak_zygote), Layer.SECCOMP_NOTIFY, "--probe")) as host:
        outcome = host.run("import socket; attempt(lambda: socket.socket())")

    assert outcome.said == ["EPERM"], outcome.stderr
    lacking = {report.layer for report in outcome.layers if not report.is_applied}
    assert lacking - {Layer.CGROUP} == {Layer.SECCOMP_NOTIFY}  # whether there is a cgroup is up to the host

"""What each layer is worth, what to do when the host lacks it, and which may never be missing.

Words and one rule; the layers themselves are in the files named after them. Read by `birth` and `probe`.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from protocol.zygote import Layer, LayerReport, SandboxPolicy
from workers.sandbox.errors import SandboxRefusedError

FLOOR: Final = frozenset({Layer.RLIMITS, Layer.PRIVILEGES, Layer.LANDLOCK, Layer.SECCOMP})
"""Without any of these no plugin is started, whatever the configuration says."""

COST: Final[Mapping[Layer, str]] = {
    Layer.RLIMITS: "a plugin can use up the memory and the descriptors of the host",
    Layer.NAMESPACES: (
        "network, processes and System V IPC of the host are kept away by seccomp and Landlock alone, "
        "and the number of a plugin's threads is bounded by its memory only"
    ),
    Layer.PRIVILEGES: "a plugin keeps whatever capabilities the supervisor was started with",
    Layer.LANDLOCK: "a plugin can read and write every file that the supervisor's user can",
    Layer.LANDLOCK_NETWORK: "TCP is kept away by seccomp alone (and the network namespace, where there is one)",
    Layer.LANDLOCK_SCOPES: "signals and abstract unix sockets are kept away by seccomp alone (and namespaces)",
    Layer.SECCOMP: "a plugin can connect to any socket of the host, start programs and use every kernel interface",
    Layer.CGROUP: (
        "memory is bounded by rlimits, and the supervisor looks at memory, threads and CPU time itself, a little later "
        "than the kernel would"
    ),
    Layer.SECCOMP_NOTIFY: "denied system calls fail in the plugin, but the supervisor cannot log them",
}

REMEDY: Final[Mapping[Layer, str]] = {
    Layer.RLIMITS: "raise the hard limits of the supervisor (LimitNOFILE= in its unit)",
    Layer.NAMESPACES: (
        "allow user namespaces: sysctl `user.max_user_namespaces` above 0; "
        "on Debian `kernel.unprivileged_userns_clone=1`, on Ubuntu an AppArmor profile with `userns` for Python"
    ),
    Layer.PRIVILEGES: "run on a stock Linux kernel",
    Layer.LANDLOCK: "boot Linux 5.13 or later with CONFIG_SECURITY_LANDLOCK=y and `landlock` in its `lsm=` list",
    Layer.LANDLOCK_NETWORK: "Linux 6.7 or later",
    Layer.LANDLOCK_SCOPES: "Linux 6.12 or later",
    Layer.SECCOMP: "install libseccomp 2.4 or later (`apt install libseccomp2`) on x86_64 or aarch64",
    Layer.CGROUP: (
        "cgroup v2 with `Delegate=memory pids cpu` in the unit, as the shipped one has it, under systemd 251 or later"
    ),
    Layer.SECCOMP_NOTIFY: "libseccomp 2.5 or later, and no container manager around the supervisor that listens itself",
}


def missing(layer: Layer, why: str) -> LayerReport:
    """The report of a layer that this worker goes without."""
    return LayerReport(layer=layer, is_applied=False, detail=why, cost=COST[layer])


def validate(reports: Iterable[LayerReport], policy: SandboxPolicy) -> None:
    """Return if the floor and all that `policy` requires is applied, else raise SandboxRefusedError."""
    required = FLOOR.union(policy.require)
    if policy.namespaces == "require":
        required |= {Layer.NAMESPACES}
    applied = {report.layer for report in reports if report.is_applied}
    absent = [layer for layer in Layer if layer in required - applied]
    if absent:
        layer = absent[0]
        details = [report.detail for report in reports if report.layer is layer]
        raise SandboxRefusedError(layer, "; ".join([*details, f"to have it: {REMEDY[layer]}"]))

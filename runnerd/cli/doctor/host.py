"""What this host grants beyond the layers that can be tried: a cgroup of runnerd's own, and user namespaces by name of
the switch that refuses them. And which plugins ask for a layer that is not there.

Reads /proc only. The layers themselves are tried by `sandbox`.
"""

import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from protocol.zygote import Layer
from runnerd.cli.doctor.finding import Finding, Mark, bad, good, weak
from runnerd.config.plugins import PluginConfig
from runnerd.supervisor.cgroups import NotDelegated, find_of

SYSCTLS: Final = Path("/proc/sys")
APPARMOR: Final = "kernel/apparmor_restrict_unprivileged_userns"
"""Ubuntu 23.10 and later. Root is exempt: run doctor as the user of runnerd."""

_CGROUP_COST: Final = (
    "memory is bounded by rlimits, and runnerd looks at memory, threads and CPU time itself, a little later than the "
    "kernel would"
)
_CGROUP_REMEDY: Final = "take `Delegate=memory pids cpu` and `ProtectControlGroups=no` from the shipped unit"
_NO_NAMESPACES: Final = "network, processes and System V IPC of the host are kept away by seccomp and Landlock alone"
_REFUSALS: Final = (
    ("user/max_user_namespaces", "0", "sysctl -w user.max_user_namespaces=15000, and a file in /etc/sysctl.d for it"),
    (
        "kernel/unprivileged_userns_clone",
        "0",
        "sysctl -w kernel.unprivileged_userns_clone=1, and a file in /etc/sysctl.d",
    ),
)


def examine_cgroup(daemon_pid: int | None) -> Finding:
    """Whether runnerd, if it runs, was given a part of the cgroup tree; else whether this process was."""
    whose = "runnerd" if daemon_pid is not None else "this process"
    try:
        delegated = find_of("self" if daemon_pid is None else daemon_pid)
    except NotDelegated as reason:
        if daemon_pid is None:
            remedy = f"start runnerd and ask again; if it has none either, {_CGROUP_REMEDY}"
            return weak(Layer.CGROUP, f"not for this process: {reason}", cost=_CGROUP_COST, remedy=remedy)
        return weak(Layer.CGROUP, f"runnerd has none to give: {reason}", cost=_CGROUP_COST, remedy=_CGROUP_REMEDY)
    return good(Layer.CGROUP, f"{delegated} was delegated to {whose}")


def examine_user_namespaces(*, has_namespaces: bool, sysctls: Path = SYSCTLS) -> list[Finding]:
    """Which switch of the host refuses them. `has_namespaces`: what came of trying."""
    is_restricted = _value(sysctls / APPARMOR) == "1"
    if has_namespaces:
        text = "restricts user namespaces, and lets this user have them" if is_restricted else "restricts none here"
        return [good("AppArmor", text)]
    found = [
        weak("user namespaces", f"{name.replace('/', '.')} = {refusing}", cost=_NO_NAMESPACES, remedy=f"run: {remedy}")
        for name, refusing, remedy in _REFUSALS
        if _value(sysctls / name) == refusing
    ]
    if is_restricted:
        text = f"{APPARMOR.replace('/', '.')} = 1: only a program with a profile that says so may have user namespaces"
        found.append(weak("AppArmor", text, cost=_NO_NAMESPACES, remedy=_profile(Path(sys.executable).resolve())))
    return found


def examine_required(plugins: Mapping[str, PluginConfig], layers: Iterable[Finding]) -> list[Finding]:
    """A finding for each layer that `sandbox.require` names. One that is missing keeps its plugins from starting."""
    asking: dict[Layer, list[str]] = defaultdict(list)
    for name, plugin in plugins.items():
        wanted = {*plugin.sandbox.require, *([Layer.NAMESPACES] if plugin.sandbox.namespaces == "require" else [])}
        for layer in sorted(wanted):
            asking[layer].append(name)
    known = {found.subject: found for found in layers}
    return [_required(layer, names, known.get(layer)) for layer, names in sorted(asking.items())]


def _required(layer: Layer, names: list[str], found: Finding | None) -> Finding:
    if found is None:
        return weak(layer, f"required by {', '.join(names)}, and not known", remedy="see the layers above")
    if found.mark is Mark.GOOD:
        return good(layer, f"is there, as {', '.join(names)} require{'s' if len(names) == 1 else ''}")
    cost = f"not started: {', '.join(names)}"
    remedy = f"{found.remedy}; or take {layer.value} out of sandbox.require" if found.remedy else ""
    return bad(layer, f"required by sandbox.require, and missing: {found.text}", cost=cost, remedy=remedy)


def _profile(python: Path) -> str:
    text = f"abi <abi/4.0>, profile runnerd {python} flags=(unconfined) {{ userns, }}"
    return f"write `{text}` to /etc/apparmor.d/runnerd, and run: apparmor_parser -r /etc/apparmor.d/runnerd"


def _value(path: Path) -> str | None:
    try:
        return path.read_text("ascii").strip()
    except OSError:
        return None

"""`runnerctl doctor`: what the host grants, and which plugins a missing layer keeps from starting."""

from pathlib import Path

import pytest

from protocol.zygote import Layer
from runnerd.cli.doctor.finding import Mark, good, weak
from runnerd.cli.doctor.host import APPARMOR, examine_cgroup, examine_required, examine_user_namespaces
from runnerd.config.plugins import PluginConfig, SandboxConfig

NOTHING = {APPARMOR: "0", "user/max_user_namespaces": "63000", "kernel/unprivileged_userns_clone": "1"}


def sysctls(directory: Path, **changed: str) -> Path:
    """A /proc/sys with these switches; `apparmor`, `most` and `debian` change one each."""
    names = {"apparmor": APPARMOR, "most": "user/max_user_namespaces", "debian": "kernel/unprivileged_userns_clone"}
    for name, value in {**NOTHING, **{names[key]: value for key, value in changed.items()}}.items():
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_text(f"{value}\n")
    return directory


@pytest.mark.parametrize(
    "changed, subject, word",
    [
        ({"apparmor": "1"}, "AppArmor", "apparmor_parser -r /etc/apparmor.d/runnerd"),
        ({"most": "0"}, "user namespaces", "user.max_user_namespaces=15000"),
        ({"debian": "0"}, "user namespaces", "kernel.unprivileged_userns_clone=1"),
    ],
)
def test_switch_that_refuses_namespaces_is_named_with_its_own_remedy(
    tmp_path: Path, changed: dict[str, str], subject: str, word: str
) -> None:
    """ "namespaces: Operation not permitted" alone sends an operator in the wrong direction."""
    [found] = examine_user_namespaces(has_namespaces=False, sysctls=sysctls(tmp_path, **changed))
    assert (found.mark, found.subject) == (Mark.WEAK, subject)
    assert word in found.remedy
    assert found.cost


def test_nothing_is_blamed_that_refuses_nothing(tmp_path: Path) -> None:
    """Namespaces that are there, with or without a profile; and a kernel without these switches."""
    [allowed] = examine_user_namespaces(has_namespaces=True, sysctls=sysctls(tmp_path, apparmor="1"))
    assert (allowed.mark, allowed.subject) == (Mark.GOOD, "AppArmor")
    assert "lets this user have them" in allowed.text
    assert examine_user_namespaces(has_namespaces=False, sysctls=sysctls(tmp_path)) == []
    assert examine_user_namespaces(has_namespaces=False, sysctls=tmp_path / "nothing") == []


def test_required_layer_that_is_missing_names_the_plugins_that_do_not_start() -> None:
    """What a `require` means on this host is seen before the first start."""
    layers = [
        good(Layer.NAMESPACES, "user, network, pid"),
        weak(Layer.CGROUP, "runnerd has none to give: this host has cgroup v1 only", remedy="take Delegate="),
    ]
    plugins = {
        "alpha": PluginConfig(vault="main", sandbox=SandboxConfig(require=(Layer.CGROUP, Layer.NAMESPACES))),
        "beta": PluginConfig(vault="main", sandbox=SandboxConfig(require=(Layer.CGROUP,))),
        "gamma": PluginConfig(vault="main", sandbox=SandboxConfig(namespaces="require")),
        "delta": PluginConfig(vault="main"),
    }
    cgroup, namespaces = examine_required(plugins, layers)
    assert (cgroup.mark, cgroup.cost) == (Mark.BAD, "not started: alpha, beta")
    assert "cgroup v1 only" in cgroup.text
    assert cgroup.remedy == "take Delegate=; or take cgroup out of sandbox.require"
    assert (namespaces.mark, namespaces.text) == (Mark.GOOD, "is there, as alpha, gamma require")
    assert examine_required({"delta": plugins["delta"]}, layers) == []


def test_cgroup_of_a_process_that_was_given_none_is_weak() -> None:
    """pid 1 has what it has by its own right: nobody delegated it. The cost and what to do are said."""
    found = examine_cgroup(1)
    assert (found.mark, found.subject) == (Mark.WEAK, "cgroup")
    assert "Delegate=memory pids cpu" in found.remedy
    assert found.cost
    assert "start runnerd and ask again" in examine_cgroup(None).remedy

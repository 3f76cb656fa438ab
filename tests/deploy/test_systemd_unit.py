"""deploy/runnerd.service: systemd understands every line of it, and it gives away no more than was decided.

`systemd-analyze` needs no running systemd. A key it does not know is only a message there, so any output fails.
"""

import re
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest

from runnerd.supervisor.cgroups import NEEDED, WANTED

REPOSITORY = Path(__file__).resolve().parents[2]
UNIT = REPOSITORY / "deploy/runnerd.service"
MAX_EXPOSURE = 2.4
"""What is left are sockets, user namespaces for the workers' own sandboxes, and what only an operator can decide
(IPAddressAllow=, RootImage=), and the cgroups of the workers (ADR 0021). Lower this with every line that is tightened;
never raise it without an ADR."""

pytestmark = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="no systemd-analyze on this machine (Debian package systemd)"
)


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """A copy of the unit whose ExecStart exists on this machine."""
    copy = tmp_path / "runnerd.service"
    text = UNIT.read_text("utf-8")
    copy.write_text(text.replace("ExecStart=/opt/runnerd/.venv/bin/runnerd ", "ExecStart=/bin/true "))
    assert copy.read_text() != text
    return copy


def verify(unit: Path) -> str:
    """What systemd has to say about the unit; nothing is fine."""
    asked = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, check=False, timeout=60
    )
    return asked.stdout + asked.stderr + (f"exit code {asked.returncode}" if asked.returncode else "")


def exposure(unit: Path, max_exposure: float) -> tuple[float, bool]:
    """systemd's measure of what the unit could do, and whether it is within `max_exposure`."""
    threshold = round(max_exposure * 10)
    asked = subprocess.run(
        ["systemd-analyze", "security", "--no-pager", "--offline=true", f"--threshold={threshold}", unit],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    found = re.search(r"Overall exposure level for \S+: (\d+\.\d+)", asked.stdout)
    assert found is not None, asked.stdout + asked.stderr
    return float(found[1]), asked.returncode == 0


def settings() -> dict[str, list[str]]:
    """The [Service] section: key → its values in order."""
    values: dict[str, list[str]] = defaultdict(list)
    section = UNIT.read_text("utf-8").partition("[Service]\n")[2].partition("\n[")[0]
    for line in section.splitlines():
        if line and not line.startswith("#"):
            key, _, value = line.partition("=")
            values[key].append(value)
    return values


def test_systemd_understands_every_line(unit: Path) -> None:
    """Any output at all fails: unknown keys, bad values, missing programs."""
    assert verify(unit) == ""


@pytest.mark.parametrize(
    "good, bad",
    [
        ("NoNewPrivileges=yes", "NoNewPrivilegs=yes"),
        ("ProtectSystem=strict", "ProtectSystem=perhaps"),
        ("SystemCallFilter=@system-service", "SystemCallFilter=@sistem-service"),
        ("ExecStart=/bin/true", "ExecStart=/no/such/program"),
    ],
)
def test_the_check_sees_a_mistake(unit: Path, good: str, bad: str) -> None:
    """Control: a misspelt key, value, group or path is reported."""
    unit.write_text(unit.read_text().replace(good, bad))
    assert verify(unit) != ""


def test_the_exposure_is_as_low_as_decided(unit: Path) -> None:
    """systemd-analyze security, threshold and figure."""
    figure, is_within = exposure(unit, MAX_EXPOSURE)
    assert is_within, figure


@pytest.mark.parametrize(
    "line",
    ["NoNewPrivileges=yes", "CapabilityBoundingSet=", "ProtectSystem=strict", "PrivateDevices=yes", "User=runnerd"],
)
def test_the_exposure_rises_when_a_line_is_taken_away(unit: Path, line: str) -> None:
    """Control: the threshold is tight enough to notice the loss of any one of these."""
    text = unit.read_text()
    assert f"\n{line}\n" in text
    unit.write_text(text.replace(f"\n{line}\n", "\n"))
    _, is_within = exposure(unit, MAX_EXPOSURE)
    assert not is_within


def test_the_workers_may_build_their_sandbox() -> None:
    """Landlock, seccomp and the namespaces that the workers enter must get through the unit's own filters."""
    unit = settings()
    assert set(unit["RestrictNamespaces"][-1].split()) == {"user", "net", "pid", "ipc", "uts"}
    allowed = {call for line in unit["SystemCallFilter"] if not line.startswith("~") for call in line.split()}
    assert {"landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self", "seccomp", "unshare"} <= allowed


def test_the_workers_may_have_cgroups() -> None:
    """What runnerd asks for is delegated, and can be written."""
    unit = settings()
    assert NEEDED <= set(unit["Delegate"][0].split()) <= set(WANTED)
    assert unit["ProtectControlGroups"] == ["no"]


def test_the_supervisor_is_ended_as_it_expects() -> None:
    """SIGTERM to it alone, no restart after a wrong configuration, no core, no swap; a plugin's crash stays one."""
    unit = settings()
    for key, value in {
        "Type": "notify", "NotifyAccess": "main", "KillMode": "mixed", "Restart": "on-failure",
        "RestartPreventExitStatus": "64 78", "LimitCORE": "0", "MemorySwapMax": "0", "OOMPolicy": "continue",
    }.items():  # fmt: skip
        assert unit[key] == [value], key
    assert int(unit["WatchdogSec"][0]) > 0


def test_nothing_secret_is_in_the_environment() -> None:
    """The passphrase comes as a credential: no Environment= line may carry one."""
    unit = settings()
    assert not [key for key in unit if key.startswith(("Environment", "PassEnvironment"))]
    assert unit["LoadCredentialEncrypted"][0].split(":")[0] == "passphrase"

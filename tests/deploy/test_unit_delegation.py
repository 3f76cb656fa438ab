"""The shipped unit under a real systemd, on a real kernel with cgroup v2: a user-mode Linux that boots both.

Skipped unless `RUNNERD_UML` names the program (`linux.uml` of Debian's package user-mode-linux). That kernel has no
Landlock, so in place of runnerd runs a probe of the cgroups. Half a minute.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

REPOSITORY = Path(__file__).resolve().parents[2]
SYSTEMD = Path("/lib/systemd/systemd")
UML = os.environ.get("RUNNERD_UML")
PYTHON = Path(f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}")
OTHERS = (
    *("Type", "ExecStart", "ExecReload", "User", "Group", "LoadCredential", "Restart", "WatchdogSec", "After", "Wants"),
    *("StateDirectory", "ConfigurationDirectory", "RuntimeDirectory", "ExecPaths"),
)
"""Keys that need runnerd itself, its user or a writable disk. All that hardens and delegates stays as it is shipped."""
INIT = """#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/system
cp {place}/*.service {place}/*.target /run/systemd/system
mount -t tmpfs tmpfs /tmp
exec /lib/systemd/systemd --unit=probe.target --log-target=console --show-status=no
"""
TARGET = "[Unit]\nDefaultDependencies=no\nWants=runnerd.service after.service\n"
AFTER = """[Unit]
DefaultDependencies=no
After=runnerd.service
[Service]
Type=oneshot
ExecStart=/bin/sh -c "cat /run/out > /dev/console; poweroff -f -f"
"""
SERVICE = f"""Type=oneshot
User=nobody
Group=nogroup
Environment=PYTHONPATH={REPOSITORY}:{{packages}} PYTHONDONTWRITEBYTECODE=1
ExecStart={PYTHON} -m tests.support.delegation_probe
WorkingDirectory={REPOSITORY}
StandardOutput=file:/run/out
StandardError=file:/run/out
ExecPaths=/usr /lib -/lib64 /bin {{packages}}
"""


def shipped(packages: Path) -> str:
    """The unit, with another program in it."""
    text = (REPOSITORY / "deploy/runnerd.service").read_text("utf-8")
    lines = [line for line in text.splitlines() if not line.startswith(OTHERS)]
    kept = "\n".join(lines).replace("[Unit]", "[Unit]\nDefaultDependencies=no")
    return kept.replace("[Service]", f"[Service]\n{SERVICE.format(packages=packages)}")


def test_service_can_give_each_worker_a_cgroup(tmp_path: Path) -> None:
    """As an unprivileged user, under every hardening line: it moves aside, limits, and hears why one was ended."""
    if UML is None:
        pytest.skip("RUNNERD_UML is not set (linux.uml of the Debian package user-mode-linux)")
    if not SYSTEMD.exists() or not PYTHON.exists():
        pytest.skip(f"no {SYSTEMD}, or no {PYTHON} that any user can reach")
    files = {
        "runnerd.service": shipped(Path(pytest.__file__).resolve().parents[1]), "after.service": AFTER,
        "probe.target": TARGET, "init": INIT.format(place=tmp_path),
    }  # fmt: skip
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "init").chmod(0o755)
    done = subprocess.run(
        [UML, "mem=768M", "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", f"init={tmp_path}/init", "quiet",
         "con=null", "con0=fd:0,fd:1"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300, check=False,
        env={"HOME": str(tmp_path), "PATH": os.environ["PATH"]},
    )  # fmt: skip
    answers = [line.partition("FOUND ")[2] for line in done.stdout.splitlines() if line.startswith("FOUND ")]
    assert answers, done.stdout
    assert json.loads(answers[0]) == {
        "uid": 65534,
        "own": "0::/system.slice/runnerd.service/supervisor",
        "status": -9,
        "excess": "over its memory limit: 64 of 64 MiB, and ended by the kernel",
        "removed": True,
    }

"""The sandbox as root, as a normal user, and on a host that refuses user namespaces: the same refusals, always.

The refusing kernel is the real one: in a user namespace of its own the test sets `user.max_user_namespaces` to 0.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from protocol.zygote import Layer
from tests.support.short_dir import make_short_dir
from workers.sandbox.layers import FLOOR

pytestmark = pytest.mark.hostile

REPOSITORY = Path(__file__).resolve().parents[2]
NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
NO_NAMESPACES = (
    *("unshare", "--user", "--map-root-user", "sh", "-c"),
    'echo 0 > /proc/sys/user/max_user_namespaces && exec "$0" "$@"',
)
MODES = {
    "itself": (),
    "without namespaces": NO_NAMESPACES,
    "a normal user": NOBODY,
    "a normal user without namespaces": (*NOBODY, *NO_NAMESPACES),
}


@pytest.fixture(scope="module")
def foreign_python() -> Iterator[str]:
    """An interpreter that any user can reach, with our packages; a venv of its own, in a place that all may read."""
    if os.geteuid() != 0:
        pytest.skip("becoming another user needs root")
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    candidates = [sys._base_executable, f"/usr/bin/{name}"]  # type: ignore[attr-defined]  # not in typeshed
    base = next((path for path in candidates if Path(path).exists() and _is_open_to_all(Path(path))), None)
    packages = Path(pytest.__file__).resolve().parents[1]
    if base is None or not _is_open_to_all(REPOSITORY) or not _is_open_to_all(packages):
        pytest.skip(f"no {name}, or no copy of this repository, that another user can reach")
    with make_short_dir() as place:  # what is below pytest's own directory is for its user alone
        place.chmod(0o755)
        subprocess.run([base, "-m", "venv", "--without-pip", str(place)], check=True, timeout=60)
        site = place / "lib" / name / "site-packages"
        (site / "runnerd-tests.pth").write_text(f"{packages}\n{REPOSITORY}\n")
        yield str(place / "bin/python")


def _is_open_to_all(path: Path) -> bool:
    resolved = path.resolve()
    return all(part.stat().st_mode & 0o005 for part in (resolved, *resolved.parents))


def run_as(prefix: Sequence[str], python: str) -> dict[str, Any]:
    """What `mode_probe` says there."""
    if prefix and shutil.which(prefix[0]) is None:
        pytest.skip(f"no {prefix[0]} (Debian package util-linux)")
    done = subprocess.run(
        [*prefix, python, "-m", "tests.support.mode_probe"],
        cwd=REPOSITORY, env={"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    if done.returncode != 0 and "unshare" in prefix and "unshare:" in done.stderr:
        pytest.skip(f"no user namespace to refuse others in: {done.stderr}")
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize("mode", MODES)
def test_sandbox_refuses_the_same_whoever_runs_it(mode: str, request: pytest.FixtureRequest) -> None:
    """Files, sockets, processes, signals; an attack is not answered; what it uses can be seen. Threads work."""
    is_foreign = "user" in mode
    python = request.getfixturevalue("foreign_python") if is_foreign else sys.executable
    found = run_as(MODES[mode], python)

    is_refused = "namespaces" in mode
    has_namespaces = found["layers"][Layer.NAMESPACES] is not None
    assert found["outside"] == [*["done"] * 5, "10"]
    assert found["said"] == ["EACCES", "EACCES", "EPERM", "EPERM", "EPERM", "10"], found["stderr"]
    assert (found["attacks"], found["answered"]) == (["ptrace"], [])
    assert {layer.value for layer in FLOOR} <= {name for name, detail in found["layers"].items() if detail is not None}
    assert not (is_refused and has_namespaces)
    if is_refused or has_namespaces:
        assert found["doctor"] == (["AppArmor"] if has_namespaces else ["user namespaces"])
    assert found["memory_bytes"] > 1 << 20
    assert found["threads"] == 3
    assert found["files"] > 3
    if is_foreign and not is_refused:
        assert found["uid"] == 65534

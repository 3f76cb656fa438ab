"""The plugin's file is changed under a running worker: what runs is what was recorded, until the next start."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol.limits import PROTOCOL_VERSION
from runnerd.control.messages import Restart
from tests.support.scene import Scene

pytestmark = pytest.mark.hostile


@pytest.fixture
def file(fort: Scene) -> Iterator[Path]:
    """The chameleon's file, and its plugin with another digest than any before."""
    path = fort.directory / "chameleon.py"
    original = path.read_text()
    yield path
    path.unlink()
    path.write_text(original)
    _restart(fort)


def _version(path: Path, number: int) -> str:
    return path.read_text().replace("VERSION = 0", f"VERSION = {number}")


def _restart(fort: Scene) -> None:
    former = fort.plugin("chameleon").generation
    fort.daemon.ask(Restart(plugin="chameleon"))
    fort.wait_plugin("chameleon", lambda plugin: plugin.state == "ready" and plugin.generation > former)


def _ask(fort: Scene) -> tuple[str | None, str]:
    """What it answers, and the digest that is recorded with the Decision."""
    fired = fort.fire("chameleon", do="show")
    [row] = fort.rows("select digest from decisions where call_id = %s", fired.call_id)
    return fired.reason, row["digest"]


def test_a_file_that_changes_after_the_start_changes_nothing(fort: Scene, file: Path) -> None:
    """Neither the code that runs nor its recorded digest; from the next start on both are the new ones."""
    _, digest = before = _ask(fort)
    file.write_text(_version(file, 1))

    assert _ask(fort) == before
    _restart(fort)
    version, new_digest = _ask(fort)
    assert version == "version 1"
    assert new_digest != digest


def test_a_path_that_becomes_a_symlink_changes_nothing(fort: Scene, file: Path) -> None:
    """The worker holds code, not a path; whatever a later start runs, its digest is of that."""
    _, digest = before = _ask(fort)
    other = fort.directory / "another.py"
    other.write_text(_version(file, 2))
    file.unlink()
    file.symlink_to(other)

    assert _ask(fort) == before
    _restart(fort)
    version, new_digest = _ask(fort)
    assert version == "version 2"
    assert new_digest != digest


@pytest.mark.parametrize("deed", ["rewrite_itself", "become_a_symlink"])
def test_a_plugin_cannot_change_its_own_file(fort: Scene, file: Path, tmp_path: Path, deed: str) -> None:
    """Its owner's user could: outside of the sandbox the same lines do it."""
    before, answer = file.read_text(), _ask(fort)
    inside = fort.fire("chameleon", do=deed)
    copy = tmp_path / "chameleon.py"
    copy.write_text(before)
    outside = subprocess.run([sys.executable, str(copy), deed], capture_output=True, text=True, check=False)

    assert (inside.outcome, (inside.reason or "").partition(":")[0]) == ("noop", "denied")
    assert (file.read_text(), file.is_symlink()) == (before, False)
    assert outside.returncode == 0, outside.stderr
    assert copy.is_symlink() or copy.read_text() != before
    assert _ask(fort) == answer


# --- before its Hello -------------------------------------------------------------------------------------------------

HELLO = (
    '{{"type":"hello","version":{version},"generation":{generation},"plugin":"{plugin}","vault":"{vault}",'
    '"triggers":[],"reads":[],"digest":"{digest}"}}'
)
HONEST = {
    "version": PROTOCOL_VERSION, "generation": 10**9, "plugin": "chameleon", "vault": "",
    "digest": "sha256:" + "0" * 64,
}  # fmt: skip


@pytest.mark.parametrize(
    "frame, reason",
    [
        (HELLO.format(**{**HONEST, "generation": 1}), "bad protocol: Hello of generation 1"),
        (HELLO.format(**{**HONEST, "generation": 0}), "not a message of this protocol"),
        (HELLO.format(**HONEST), "bad protocol: Hello of generation 1000000000"),
        (HELLO.format(**{**HONEST, "version": 1}), "speaks protocol 1"),
        (HELLO.format(**{**HONEST, "version": PROTOCOL_VERSION + 1}), f"speaks protocol {PROTOCOL_VERSION + 1}"),
        (HELLO.format(**{**HONEST, "digest": "mine"}), "not a message of this protocol"),
        (
            '{"type":"decision","call_id":1,"attempt":1,"outcome":{"kind":"noop","reason":"early"}}',
            "which is not with it",
        ),
    ],
    ids=[
        "old generation",
        "generation 0",
        "later generation",
        "old version",
        "later version",
        "no digest",
        "an answer",
    ],
)
def test_what_is_said_before_hello_is_judged_as_strictly(fort: Scene, file: Path, frame: str, reason: str) -> None:
    """By code that runs as it is imported, before the worker has said what it is."""
    file.write_text(file.read_text() + f"\n\nsay_at_once({frame.encode()!r})\n")
    fort.daemon.ask(Restart(plugin="chameleon"))

    status = fort.wait_plugin("chameleon", lambda plugin: plugin.state == "quarantined" and plugin.pid is None)
    assert reason in status.reason

"""`pin`, `venv` and `python` of real plugins: what runs, what is recorded, and what is quarantined before it runs."""

import hashlib
import os
import signal
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

from runnerd.control.messages import Restart
from tests.cli.running import invoke
from tests.support.scene import Scene, Stage
from tests.support.short_dir import make_short_dir

pytestmark = pytest.mark.integration

TELLER = """
import sys
print("imported", flush=True)
from workers.sdk import Context, Noop, Plugin
{imports}

class Teller(Plugin):
    name = "teller"

    async def decide(self, ctx: Context) -> Noop:
        return Noop({reason})
"""
FORGER = TELLER.format(imports="", reason="'free'") + "\nimport workers.locate as l\n"
FORGER += "l.PluginCode.digest = property(lambda self: 'sha256:' + '0' * 64)\n"
SPY = "import os; builtins.caught = 'nothing'\ntry:\n    open({path!r})\nexcept OSError as error:\n"
SPY += "    builtins.caught = type(error).__name__\n"


def digest_of(file: Path) -> str:
    return "sha256:" + hashlib.sha256(file.read_bytes()).hexdigest()


def site_of(directory: Path) -> Path:
    """The packages of a virtual environment, which is made."""
    venv.EnvBuilder(symlinks=True).create(directory)
    (found,) = directory.glob("lib/python*/site-packages")
    return found


@pytest.fixture(scope="module")
def tellers(stage: Stage) -> Iterator[Scene]:
    """A pinned plugin, a changed one, a forger, and three with an environment of their own."""
    with make_short_dir() as home:
        free = home / "free.py"
        free.write_text(TELLER.format(imports="", reason="'free'"))
        (home / "forger.py").write_text(FORGER)

        own = site_of(home / "venv")
        (own / "aiohttp.py").write_text("VERSION = 'their own'")  # we have another one of that name
        (own / "hook.pth").write_text("import sealed_hook\n")
        (own / "sealed_hook.py").write_text(f"import builtins\n{SPY.format(path=str(home / 'free.py'))}")
        packed = home / "packed"
        packed.mkdir()
        imports = "import aiohttp\nfrom .alias import EXTRA"
        (packed / "__init__.py").write_text(
            TELLER.format(imports=imports, reason="f'{aiohttp.VERSION}, {caught}, {EXTRA}'")
        )
        (packed / "extra.py").write_text("EXTRA = 5")
        (packed / "alias.py").symlink_to("extra.py")

        ours = next(path for path in Path(pytest.__file__).parents if path.name == "site-packages")
        (site_of(home / "python") / "borrowed.pth").write_text(f"{ours}\n")
        foreign = home / "foreign.py"
        foreign.write_text(TELLER.format(imports="", reason="sys.prefix"))
        site_of(home / "bare")

        plugins: dict[str, dict[str, object]] = {
            "pinned": {"path": str(free), "pin": digest_of(free)},
            "changed": {"path": str(free), "pin": "sha256:" + "1" * 64},
            "forger": {"path": str(home / "forger.py")},
            "packed": {"path": str(packed), "venv": str(home / "venv")},
            "foreign": {"path": str(foreign), "python": str(home / "python/bin/python")},
            "bare": {"path": str(foreign), "python": str(home / "bare/bin/python")},
        }
        plugins = {name: {"class_name": "teller", **table} for name, table in plugins.items()}
        with stage.scene(plugins, start=False) as scene:
            scene.start("pinned", "packed", "foreign")
            yield scene


def test_the_digest_is_recorded_with_every_decision_and_shown(tellers: Scene) -> None:
    """In the ledger, by `status` and by `why`: it is that of the file as `sha256sum` has it."""
    plugin = tellers.plugin("pinned")
    assert plugin.digest == plugin.pin
    assert plugin.digest is not None
    fired = tellers.fire("pinned")
    (row,) = tellers.rows("select digest from decisions where call_id = %s", fired.call_id)
    assert row["digest"] == plugin.digest
    assert tellers.run(fired.call_id).digest == plugin.digest
    shown = invoke("--config", str(tellers.config), "why", "pinned").stdout
    assert f"code {plugin.digest} (pinned)" in shown


def test_changed_code_is_quarantined_before_it_runs(tellers: Scene) -> None:
    """Both digests are named, and what to do. With the old code back it runs again; the control is `pinned`."""
    now = tellers.plugin("pinned").digest
    status = tellers.wait_plugin("changed", lambda plugin: plugin.state == "quarantined")
    assert f"its code is {now}, and pin allows only sha256:{'1' * 64}: if the change is meant" in status.reason
    said = {record["plugin"] for record in tellers.log() if record["message"].endswith("imported")}
    assert "pinned" in said
    assert "changed" not in said
    checked = invoke("--config", str(tellers.config), "check")
    assert checked.exit_code == 78
    assert f"plugins.changed.pin: its code is {now}" in checked.stderr


def test_a_pinned_plugin_that_is_changed_on_disk_does_not_come_back(tellers: Scene) -> None:
    """Until its file is what it was."""
    (line,) = [line for line in tellers.config.read_text().splitlines() if "free.py" in line][:1]
    file = Path(line.split('"')[1])
    before = file.read_text()
    try:
        file.write_text(before + "\n# changed\n")
        tellers.daemon.ask(Restart(plugin="pinned"))
        status = tellers.wait_plugin("pinned", lambda plugin: plugin.state == "quarantined")
        assert f"its code is {digest_of(file)}" in status.reason
    finally:
        file.write_text(before)
    tellers.daemon.ask(Restart(plugin="pinned"))
    tellers.wait_plugin("pinned", lambda plugin: plugin.state == "ready")


def test_a_worker_cannot_say_that_it_runs_other_code(tellers: Scene) -> None:
    """What counts was said before its code ran."""
    status = tellers.wait_plugin("forger", lambda plugin: plugin.state == "quarantined")
    assert f"Hello of code sha256:{'0' * 64}, born was sha256:" in status.reason


def test_a_plugins_own_packages_come_before_ours(tellers: Scene) -> None:
    """And their `.pth` files run inside the sandbox: a file of another plugin is refused to them. None of what finds,
    reads and imports the code is a system call that is refused."""
    fired = tellers.fire("packed")
    assert fired.reason == "their own, PermissionError, 5"
    assert [event.detail for event in tellers.history("packed") if event.kind == "denied syscall"] == []


def test_a_plugin_runs_on_an_interpreter_of_its_own_in_the_same_sandbox(tellers: Scene) -> None:
    """With the same layers as all others."""
    fired = tellers.fire("foreign")
    assert fired.reason is not None
    assert fired.reason.endswith("/python")
    foreign, pinned = tellers.plugin("foreign"), tellers.plugin("pinned")
    assert foreign.layers == pinned.layers
    assert foreign.digest is not None
    assert [record["python"] for record in tellers.log("zygote_ready")] == [fired.reason + "/bin/python"]


def test_an_interpreter_that_lacks_what_workers_need_is_refused_with_the_remedy(tellers: Scene) -> None:
    """Nothing of the plugin is to blame, and no restart would help."""
    status = tellers.wait_plugin("bare", lambda plugin: plugin.state == "quarantined")
    assert "/bare/bin/python lacks what workers need: " in status.reason
    assert "-m pip install msgspec==" in status.reason
    assert "pyzmq==" in status.reason


def test_the_death_of_that_interpreters_zygote_is_survived(tellers: Scene) -> None:
    """As that of ours: a new one, and its workers again."""
    before = tellers.plugin("foreign")
    (record,) = tellers.log("zygote_ready")
    others = tellers.plugin("packed").pid
    os.kill(record["pid"], signal.SIGKILL)
    tellers.wait_plugin("foreign", lambda plugin: plugin.state == "ready" and plugin.generation > before.generation)
    assert tellers.fire("foreign").outcome == "noop"
    assert tellers.plugin("packed").pid == others, "the workers of our own zygote live on"

"""A plugin's code as a whole: what its digest covers, what is refused, and that only what was counted is imported."""

import compileall
import hashlib
import importlib
import os
import pkgutil
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol.zygote import PluginSource
from workers import identity
from workers.identity import CodeError, scan
from workers.loader import load
from workers.locate import PluginCode, identify
from workers.sdk import PluginError

CODE = """
from workers.sdk import Noop, Plugin


class Maker(Plugin):
    name = "maker"

    async def decide(self, ctx):
        return Noop("nothing to do")
"""


@pytest.fixture(autouse=True)
def _own_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Modules may be imported out of the test's directory, and neither they nor the hooks stay."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setattr(sys, "path_hooks", [*sys.path_hooks])
    monkeypatch.setattr(sys, "path_importer_cache", {})
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


def write(path: Path, text: str) -> Path:
    """A file, with the directories around it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    return path


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A plugin of several files, one of them data."""
    directory = tmp_path / "maker"
    write(directory / "__init__.py", CODE)
    write(directory / "curve.py", "WIDTH = 50\n")
    write(directory / "models/flat.json", "{}")
    write(directory / "deep/er/__init__.py", "DEPTH = 2\n")
    return directory


def identified(path: Path) -> PluginCode:
    """As at a birth."""
    return identify(PluginSource(kind="path", value=str(path)))


def imported(path: Path, module: str) -> object:
    """The plugin is loaded, then one of its modules."""
    load(identified(path))
    return importlib.import_module(f"runnerd_plugin_{path.stem}.{module}")


# --- the digest ------------------------------------------------------------------------------------------------------


def test_the_digest_of_a_package_can_be_computed_with_sha256sum(package: Path) -> None:
    """An operator needs none of our code to know what is pinned."""
    command = "find . -type f | sed 's|^./||' | LC_ALL=C sort | xargs sha256sum | sha256sum"
    shown = subprocess.run(["sh", "-c", command], cwd=package, capture_output=True, text=True, check=True).stdout
    assert scan(str(package)).digest == f"sha256:{shown.split()[0]}"


@pytest.mark.parametrize("change", ["edit", "edit data", "add", "remove", "rename", "link"])
def test_any_change_of_a_file_changes_it(package: Path, change: str) -> None:
    """Code and data, names and contents."""
    before = scan(str(package)).digest
    match change:
        case "edit":
            write(package / "deep/er/__init__.py", "DEPTH = 3\n")
        case "edit data":
            write(package / "models/flat.json", "[]")
        case "add":
            write(package / "new.py", "")
        case "remove":
            (package / "curve.py").unlink()
        case "rename":
            (package / "curve.py").rename(package / "curves.py")
        case _:
            (package / "models/other").symlink_to("../deep")
    assert scan(str(package)).digest != before


def test_what_tools_leave_behind_does_not_change_it(package: Path) -> None:
    """Compiled code, caches and the repository; and none of it can be imported, see below."""
    before = scan(str(package)).digest
    assert compileall.compile_dir(package, quiet=1)
    write(package / ".git/HEAD", "ref: refs/heads/main")
    write(package / ".mypy_cache/x.py", "")
    write(package / "stale.pyc", "")
    assert scan(str(package)).digest == before


def test_a_modules_code_is_its_top_package_and_none_of_it_runs(tmp_path: Path) -> None:
    """The packages around the module are not imported to find it. A namespace has no code, and is passed through."""
    site = tmp_path / "site"
    write(site / "firm/strategies/__init__.py", "raise SystemExit('it ran')")
    write(site / "firm/strategies/maker.py", CODE)
    write(site / "firm/other/__init__.py", "")
    code = identify(PluginSource(kind="module", value="firm.strategies.maker:Maker"))
    assert code.top == "firm.strategies"
    assert code.digest == scan(str(site / "firm/strategies")).digest
    with pytest.raises(SystemExit, match="it ran"):
        load(code)
    write(site / "firm/strategies/__init__.py", "")
    assert load(identify(code.source)).__module__ == "firm.strategies.maker"


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["../outside.py", "/etc/passwd", "../maker-2", ".."])
def test_a_link_that_leaves_the_directory_is_refused(package: Path, target: str) -> None:
    """What it leads to could be changed without the digest."""
    write(package.parent / "outside.py", "")
    write(package.parent / "maker-2/__init__.py", "")
    (package / "link.py").symlink_to(target)
    with pytest.raises(CodeError, match=r"link\.py is a symbolic link that leaves the plugin's directory, to /"):
        identified(package)


def test_a_link_inside_is_taken(package: Path) -> None:
    """The positive control: what it leads to is counted too."""
    (package / "line.py").symlink_to("curve.py")
    assert imported(package, "line").WIDTH == 50  # type: ignore[attr-defined]


def test_what_is_no_file_is_refused(package: Path) -> None:
    """Reading a pipe would wait for ever."""
    os.mkfifo(package / "pipe")
    with pytest.raises(CodeError, match=r"pipe is not a file"):
        identified(package)


@pytest.mark.parametrize("bound, least", [("MAX_FILES", 3), ("MAX_BYTES", 10), ("MAX_DEPTH", 1), ("MAX_CPU_S", -1.0)])
def test_more_than_can_be_read_at_a_start_is_refused(
    package: Path, monkeypatch: pytest.MonkeyPatch, bound: str, least: float
) -> None:
    """A directory with the data of years beside the code is named, and not read to its end."""
    assert identified(package).digest
    monkeypatch.setattr(identity, bound, least)
    with pytest.raises(CodeError, match=r"is more than|more than 1 deep"):
        identified(package)


def test_a_name_that_cannot_be_shown_is_refused(package: Path) -> None:
    """A line break would forge a line of the list."""
    write(package / "a\nb.py", "")
    with pytest.raises(CodeError, match=r"'a\\nb.py'.*rename it"):
        identified(package)


def test_other_code_than_the_pinned_is_refused(package: Path) -> None:
    """Both digests are named, and what to do; the pinned code itself is taken."""
    pin = scan(str(package)).digest
    source = PluginSource(kind="path", value=str(package), pin=pin)
    assert identify(source).digest == pin
    write(package / "curve.py", "WIDTH = 51\n")
    now = scan(str(package)).digest
    with pytest.raises(PluginError, match=f"its code is {now}, and pin allows only {pin}: .* runnerctl restart"):
        identify(source)


def test_a_module_of_the_worker_is_no_plugin() -> None:
    """It was loaded before anything could be counted."""
    with pytest.raises(PluginError, match="protocol is a part of the worker itself"):
        identify(PluginSource(kind="module", value="protocol.actions:Noop"))


# --- what runs -------------------------------------------------------------------------------------------------------


def test_a_file_changed_after_the_start_is_not_imported(package: Path) -> None:
    """Half of an upgrade would run as the old version."""
    load(identified(package))
    write(package / "curve.py", "WIDTH = 51\n")
    with pytest.raises(CodeError, match=r"curve\.py was changed on disk after this worker started; runnerctl restart"):
        importlib.import_module("runnerd_plugin_maker.curve")


def test_the_first_file_runs_as_it_was_counted(package: Path) -> None:
    """It is read once."""
    code = identified(package)
    write(package / "__init__.py", "raise SystemExit('the new one ran')")
    assert load(code).__name__ == "Maker"


def test_a_file_that_was_not_counted_is_not_there(package: Path) -> None:
    """Whether it came later, or is of a kind that does not count."""
    write(package / "secret.py", "")
    compileall.compile_file(package / "secret.py", quiet=1, legacy=True)
    (package / "secret.py").unlink()
    assert (package / "secret.pyc").exists()
    load(identified(package))
    write(package / "late.py", "")
    for name in ("secret", "late"):
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module(f"runnerd_plugin_maker.{name}")
    assert importlib.util.find_spec("runnerd_plugin_maker.late") is None


def test_compiled_code_beside_the_source_is_not_run(package: Path) -> None:
    """Its date and size may be made to fit. The control: without us it would be taken."""
    file = package / "curve.py"
    stat = write(file, "WIDTH = 99\n").stat()
    compileall.compile_file(file, quiet=1)
    write(file, "WIDTH = 50\n")
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    control = "import curve; print(curve.WIDTH)"
    run = subprocess.run([sys.executable, "-c", control], cwd=package, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "99"
    assert imported(package, "curve").WIDTH == 50  # type: ignore[attr-defined]


def test_the_rule_holds_under_any_name_and_place_on_the_path(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`sys.path.insert(0, dirname(__file__))` is what many plugins do; it may go through a link too."""
    load(identified(package))
    (package.parent / "link").symlink_to(package)
    monkeypatch.syspath_prepend(package.parent / "link")
    assert importlib.import_module("curve").WIDTH == 50
    assert importlib.import_module("deep.er").DEPTH == 2
    write(package / "deep/er/late.py", "")
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("deep.er.late")
    names = {found.name for found in pkgutil.iter_modules([str(package)])}
    assert names == {"curve"}, "as without us: a directory without __init__ is no module"


def test_a_swapped_link_changes_nothing_for_who_runs(package: Path) -> None:
    """`path` may be a link to the present version: it is followed once."""
    link = package.parent / "current"
    link.symlink_to(package)
    load(identified(link))
    shutil.copytree(package, package.parent / "next")
    write(package.parent / "next/curve.py", "WIDTH = 51\n")
    link.unlink()
    link.symlink_to("next")
    assert importlib.import_module("runnerd_plugin_current.curve").WIDTH == 50
    assert identified(link).digest == scan(str(package.parent / "next")).digest


def test_an_extension_module_is_counted_and_looked_at_again(package: Path) -> None:
    """The dynamic loader reads it by itself: a changed one is refused right before."""
    found = importlib.util.find_spec("msgspec._core")
    assert found is not None
    assert found.origin is not None
    binary = shutil.copy(found.origin, package / Path(found.origin).name.replace("_core", "native"))
    before = hashlib.sha256(Path(binary).read_bytes()).hexdigest()
    code = identified(package)
    load(code)
    Path(binary).write_bytes(b"\x7fELF")
    assert before not in scan(str(package)).digest
    with pytest.raises(CodeError, match=r"native\..*\.so was changed on disk"):
        importlib.import_module("runnerd_plugin_maker.native")

"""Finding and importing a plugin's class: file, package directory, module, entry point; and what is refused."""

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from protocol.zygote import PluginSource
from workers import loader
from workers.locate import identify
from workers.sdk import PluginError

CODE = """
from workers.sdk import Noop, Plugin


class {name}(Plugin):
    name = "{name}"

    async def decide(self, ctx):
        return Noop("nothing to do")
"""


@pytest.fixture(autouse=True)
def _own_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Modules may be imported out of the test's directory, and none of them stays."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(tmp_path)
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


def source(kind: str, value: object) -> PluginSource:
    """As it comes with a Spawn."""
    return msgspec.convert({"kind": kind, "value": str(value)}, PluginSource)


def load(source: PluginSource) -> tuple[type, str]:
    """Identified and loaded, as a worker does it."""
    code = identify(source)
    return loader.load(code), code.digest


def digest_of(file: Path) -> str:
    """What a Hello must say of that file."""
    return "sha256:" + hashlib.sha256(file.read_bytes()).hexdigest()


def digest_of_list(*files: Path) -> str:
    """The same of several files in the directory of the first, in order."""
    lines = [f"{digest_of(file)[7:]}  {file.relative_to(files[0].parent)}\n" for file in files]
    return "sha256:" + hashlib.sha256("".join(lines).encode()).hexdigest()


# --- path ------------------------------------------------------------------------------------------------------------


def test_a_file_is_loaded_with_its_digest(tmp_path: Path) -> None:
    """The digest is sha256 of the file, so an operator can check it with `sha256sum`."""
    file = write(tmp_path / "my-maker.py", CODE.format(name="Maker"))
    plugin, digest = load(source("path", file))
    assert plugin.__name__ == "Maker"
    assert digest == digest_of(file)


def test_a_package_directory_is_loaded_with_its_own_modules(tmp_path: Path) -> None:
    """Its relative imports work; the digest is that of `sha256sum`'s list of its files."""
    write(tmp_path / "maker" / "curve.py", "WIDTH = 50\n")
    text = "from .curve import WIDTH\nfrom . import curve\n" + CODE.format(name="Maker") + "    width = WIDTH\n"
    init = write(tmp_path / "maker" / "__init__.py", text)
    plugin, digest = load(source("path", tmp_path / "maker"))
    assert plugin.width == 50  # type: ignore[attr-defined]
    assert digest == digest_of_list(init, tmp_path / "maker" / "curve.py")


def test_a_package_may_define_its_plugin_in_a_module_of_its_own(tmp_path: Path) -> None:
    """Importing it into `__init__.py`, under one name or two, is enough."""
    write(tmp_path / "maker" / "strategy.py", CODE.format(name="Maker"))
    write(tmp_path / "maker" / "__init__.py", "from .strategy import Maker\nDefault = Maker\n")
    assert load(source("path", tmp_path / "maker"))[0].__name__ == "Maker"


def test_a_plugin_that_is_only_imported_does_not_count(tmp_path: Path) -> None:
    """A base class or a helper of another module is not the file's plugin."""
    write(tmp_path / "shared_base.py", CODE.format(name="Base"))
    file = write(tmp_path / "maker.py", "from shared_base import Base\nclass Maker(Base):\n    name = 'maker'\n")
    assert load(source("path", file))[0].__name__ == "Maker"


@pytest.mark.parametrize("name", ["json", "asyncio", "msgspec", "workers"])
def test_a_file_shadows_no_module_of_that_name(tmp_path: Path, name: str) -> None:
    """Not of the standard library, and not of ours: it is imported under a name of its own."""
    known = sys.modules[name]
    file = write(tmp_path / "plugins" / f"{name}.py", CODE.format(name="Maker"))
    assert load(source("path", file))[0].__name__ == "Maker"
    assert sys.modules[name] is known
    assert json.loads("[1]") == [1]


def test_a_files_classes_know_their_module(tmp_path: Path) -> None:
    """dataclasses, typing and tracebacks look it up by name."""
    text = "from dataclasses import dataclass\n" + CODE.format(name="Maker")
    file = write(tmp_path / "maker.py", text + "\n@dataclass\nclass Point:\n    x: 'int'\n")
    plugin, _ = load(source("path", file))
    assert sys.modules[plugin.__module__].Maker is plugin


def test_the_digest_is_taken_before_the_code_runs(tmp_path: Path) -> None:
    """Code that rewrites its file does not change what is recorded of it."""
    text = CODE.format(name="Maker") + "\nfrom pathlib import Path\nPath(__file__).write_text('# innocent')\n"
    file = write(tmp_path / "maker.py", text)
    before = digest_of(file)
    assert load(source("path", file))[1] == before != digest_of(file)


@pytest.mark.parametrize(
    "name, text, reason",
    [
        ("maker.py", "x = 1", "maker.py defines no class that derives from workers.sdk.Plugin"),
        ("maker.py", "from workers.sdk import Plugin", "defines no class"),
        (
            "maker.py",
            CODE.format(name="A") + CODE.format(name="B"),
            r"several plugins \(A, B\); name one with module =",
        ),
        ("maker.txt", CODE.format(name="A"), "maker.txt is not a Python source file"),
    ],
    ids=["nothing", "the base only", "two", "no .py"],
)
def test_a_file_without_exactly_one_plugin_is_refused(tmp_path: Path, name: str, text: str, reason: str) -> None:
    """The file is named, and the remedy."""
    with pytest.raises(PluginError, match=reason):
        load(source("path", write(tmp_path / name, text)))


def test_code_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    """No file, and a directory that is no package."""
    with pytest.raises(PluginError, match=r"absent\.py cannot be read: No such file or directory"):
        load(source("path", tmp_path / "absent.py"))
    with pytest.raises(PluginError, match=r"__init__\.py cannot be read: No such file or directory"):
        load(source("path", tmp_path))


@pytest.mark.parametrize(
    "text, error",
    [("def :", SyntaxError), ("1 / 0", ZeroDivisionError), ("exit(3)", SystemExit), ("import absent", ImportError)],
)
def test_what_the_plugins_own_code_raises_passes_through(tmp_path: Path, text: str, error: type[BaseException]) -> None:
    """Its traceback is what the author needs; the loop turns it into Refused."""
    with pytest.raises(error):
        load(source("path", write(tmp_path / "maker.py", text)))


# --- module ----------------------------------------------------------------------------------------------------------


def test_a_class_of_a_module_is_loaded(tmp_path: Path) -> None:
    """`package.module:Class`; with several plugins in the module, the name decides."""
    write(tmp_path / "makers" / "__init__.py", "")
    file = write(tmp_path / "makers" / "two.py", CODE.format(name="A") + CODE.format(name="B"))
    plugin, digest = load(source("module", "makers.two:B"))
    assert plugin.__name__ == "B"
    assert digest == digest_of_list(tmp_path / "makers" / "__init__.py", file)


def test_a_module_with_one_plugin_needs_no_class(tmp_path: Path) -> None:
    """`package.module` alone."""
    write(tmp_path / "single.py", CODE.format(name="A"))
    assert load(source("module", "single"))[0].__name__ == "A"


@pytest.mark.parametrize(
    "value, reason",
    [
        ("absent_module:A", "module absent_module is not installed"),
        ("absent_package.module:A", "absent_package.module is not installed.*'absent_package'"),
        ("makers.absent:A", "module makers.absent is not installed"),
        ("makers:Absent", "module makers has no Absent"),
        ("makers:VALUE", "makers:VALUE is a int, not a class"),
        ("makers", "defines no class that derives from"),
        ("sys:A", "cannot be read|has no source file"),
        ("", "'' is not the name of a module"),
        (":A", "'' is not the name of a module"),
        (".makers:A", "'.makers' is not the name of a module"),
    ],
)
def test_a_module_without_the_class_is_refused(tmp_path: Path, value: str, reason: str) -> None:
    """What is missing is named."""
    write(tmp_path / "makers" / "__init__.py", "VALUE = 5\n")
    with pytest.raises(PluginError, match=reason):
        load(source("module", value))


def test_a_missing_import_of_the_module_passes_through(tmp_path: Path) -> None:
    """It is the plugin's dependency that is missing, not the plugin."""
    write(tmp_path / "needy" / "__init__.py", "import absent_dependency\n")
    write(tmp_path / "needy" / "maker.py", CODE.format(name="A"))
    with pytest.raises(ModuleNotFoundError, match="absent_dependency"):
        load(source("module", "needy.maker:A"))


# --- entry point -----------------------------------------------------------------------------------------------------


def install(tmp_path: Path, package: str, entry_points: str, *, group: str = "runnerd.plugins") -> None:
    """What `pip install` leaves of a package's metadata."""
    write(tmp_path / f"{package}-1.0.dist-info" / "METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    write(tmp_path / f"{package}-1.0.dist-info" / "entry_points.txt", f"[{group}]\n{entry_points}\n")


def test_an_installed_entry_point_is_loaded(tmp_path: Path) -> None:
    """By its name in the group `runnerd.plugins`; the digest is that of its module."""
    file = write(tmp_path / "installed_maker.py", CODE.format(name="Maker"))
    install(tmp_path, "maker", "maker = installed_maker:Maker\nother = installed_maker:Other")
    plugin, digest = load(source("entry_point", "maker"))
    assert plugin.__name__ == "Maker"
    assert digest == digest_of(file)


@pytest.mark.parametrize(
    "name, reason",
    [
        ("absent", "no installed package has an entry point 'absent' in group runnerd.plugins"),
        ("foreign", "no installed package has an entry point 'foreign'"),
        ("gone", "module gone_module is not installed"),
        ("value", "held:VALUE is a int, not a class"),
        ("twice", r"several installed packages have an entry point 'twice' .*: a_module:A, b_module:B"),
    ],
)
def test_an_entry_point_that_is_none_is_refused(tmp_path: Path, name: str, reason: str) -> None:
    """Absent, of another group, of a package that is gone, no class, or not one but two."""
    write(tmp_path / "held.py", "VALUE = 5\n")
    install(tmp_path, "first", "gone = gone_module:A\nvalue = held:VALUE\ntwice = a_module:A")
    install(tmp_path, "second", "twice = b_module:B")
    install(tmp_path, "third", "foreign = held:VALUE", group="console_scripts")
    with pytest.raises(PluginError, match=reason):
        load(source("entry_point", name))


def test_an_unknown_kind_of_source_is_refused() -> None:
    """The wire knows three; a newer zygote may know more."""
    with pytest.raises(PluginError, match="unknown kind of plugin source 'url'"):
        load(PluginSource(kind="url", value="x"))  # type: ignore[arg-type]

"""The distribution: what is declared is locked, what is imported is declared, and what is needed at run time ships."""

import ast
import re
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import runnerd
from tests.test_arrows import find_imports

REPOSITORY = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
LOCK = (REPOSITORY / "requirements.lock").read_text("utf-8")
SERVER_LOCK = (REPOSITORY / "deploy/requirements.lock").read_text("utf-8")
locks = pytest.mark.parametrize("lock", [LOCK, SERVER_LOCK], ids=["all", "server"])
PACKAGES = ("protocol", "workers", "runnerd")


def pins(lock: str) -> dict[str, str]:
    """Distribution → the version in the lock file."""
    return {canonicalize_name(name): version for name, version in re.findall(r"^([\w.-]+)==(\S+)", lock, re.MULTILINE)}


def declared(*extras: str) -> list[Requirement]:
    """The dependencies of runnerd and of the extras named."""
    lists = [PROJECT["dependencies"], *(PROJECT["optional-dependencies"][extra] for extra in extras)]
    return [Requirement(text) for found in lists for text in found]


@pytest.mark.parametrize("requirement", declared("embedded", "kms", "dev"), ids=lambda requirement: requirement.name)
def test_every_dependency_is_locked_to_a_version_it_allows(requirement: Requirement) -> None:
    """After a change of pyproject.toml: `make lock`."""
    version = pins(LOCK).get(canonicalize_name(requirement.name))
    assert version is not None, "not in requirements.lock: run make lock"
    assert requirement.specifier.contains(version)


def test_what_a_server_installs_is_the_run_time_alone_at_the_tested_versions() -> None:
    """Beside the key lies no compiler, linter or test runner; what lies there is what `make test` ran with."""
    server, tested = pins(SERVER_LOCK), pins(LOCK)
    needed = {canonicalize_name(requirement.name) for requirement in declared("embedded")}
    development = {canonicalize_name(Requirement(text).name) for text in PROJECT["optional-dependencies"]["dev"]}
    assert needed <= server.keys()
    assert not development & server.keys()
    assert server.items() <= tested.items(), "run make lock"
    guide = (REPOSITORY / "deploy/README.md").read_text("utf-8")
    assert re.findall(r"-r (\S+\.lock)", guide) == ["deploy/requirements.lock"]


@locks
def test_the_lock_pins_every_file_and_names_no_host(lock: str) -> None:
    """A hash for each pin; no index, no link, no path: where packages come from is the installer's choice."""
    blocks = re.split(r"^(?=[\w.-]+==)", lock, flags=re.MULTILINE)[1:]
    assert len(blocks) == len(pins(lock)) > 30
    assert all("--hash=sha256:" in block for block in blocks)
    assert "://" not in lock
    assert all(re.match(r"\s*#|\s+--hash=sha256:[0-9a-f]{64}|[\w.-]+==\S+ \\|$", line) for line in lock.splitlines())
    assert "/" not in re.sub(r"^# .*$", "", lock, flags=re.MULTILINE)


def test_what_is_imported_is_declared() -> None:
    """An import that works only because another dependency brings it along breaks with that one's next release."""
    requirements = declared("embedded", "kms")
    known = {canonicalize_name(requirement.name) for requirement in requirements}
    # The extra of a dependency, as in psycopg[pool], is declared by its name there.
    known |= {
        canonicalize_name(f"{requirement.name}-{extra}") for requirement in requirements for extra in requirement.extras
    }
    distributions = packages_distributions()
    undeclared = {
        f"{file.relative_to(REPOSITORY)}: {module}"
        for package in PACKAGES
        for file in (REPOSITORY / package).rglob("*.py")
        for _, module in find_imports(ast.parse(file.read_text("utf-8")))
        if (top := module.split(".")[0]) not in sys.stdlib_module_names and top not in PACKAGES
        if not known & {canonicalize_name(name) for name in distributions.get(top, [])}
    }
    assert not undeclared


def test_every_dependency_says_why_it_is_there() -> None:
    """CONTRIBUTING.md: one sentence each, on the line above."""
    text = (REPOSITORY / "pyproject.toml").read_text("utf-8")
    lines = text[text.index("\ndependencies = [") : text.index("\n[project.scripts]")].splitlines()
    for number, line in enumerate(lines):
        if re.match(r'^ {4}"[a-z][\w.-]*(\[[\w,]+\])?([<>=].*)?",$', line):
            assert re.match(r"^ +# .*[.\w]", lines[number - 1]), line


def test_the_wheel_holds_everything_that_runs(tmp_path: Path) -> None:
    """SQL, templates, the typing marker; both commands; no test, no key material, nothing from outside the packages."""
    wheel = Path(next(WheelBuilder(str(REPOSITORY)).build(directory=str(tmp_path), versions=["standard"])))
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        commands = archive.read(next(name for name in names if name.endswith("entry_points.txt"))).decode()
    wanted = {
        str(file.relative_to(REPOSITORY))
        for package in PACKAGES
        for file in (REPOSITORY / package).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert wanted - names == set()
    assert {name.split("/")[0] for name in names - wanted} == {f"runnerd-{runnerd.__version__}.dist-info"}
    assert {f"{package}/py.typed" for package in PACKAGES} <= names
    assert "runnerd = runnerd.cli.daemon:main" in commands
    assert "runnerctl = runnerd.cli.ctl:main" in commands

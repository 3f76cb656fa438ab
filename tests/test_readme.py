"""The README says what is so: its plugin runs, its configuration is accepted, what it names is there."""

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import pytest

from protocol.zygote import PluginSource
from runnerd.cli.ctl import main as runnerctl
from runnerd.cli.exits import ExitCode
from runnerd.config.load import load_config
from runnerd.config.model import Config
from tests.support.markdown import PAGES, REPOSITORY, Page, read_page, run_tests_of
from workers.loader import load
from workers.locate import identify
from workers.sdk.plugin import declaration_of

README = read_page("README.md")
EXAMPLE = REPOSITORY / "deploy/runnerd.example.toml"
ETC = "/etc/runnerd"
FILES = ("operator.json", "upkeep.json", "plugins/drift.py", "plugins/nav_refresh.py")
SUFFIXES = (".py", ".sql", ".toml", ".md", ".vy", ".service")

pages = pytest.mark.parametrize(
    "page",
    [Page(path, path.read_text("utf-8")) for path in PAGES],
    ids=lambda page: str(page.path.relative_to(REPOSITORY)),
)


def accepted(text: str, directory: Path) -> Config:
    """The configuration in `text`, with the files that it names below /etc/runnerd made in `directory`."""
    for name in FILES:
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).touch()
    file = directory / "runnerd.toml"
    file.write_text(text.replace(ETC, str(directory)), "utf-8")
    return load_config(file)


def commands_of(text: str) -> Iterator[tuple[str, list[str]]]:
    """Every `runnerctl COMMAND` in code or backticks, with the long options after it."""
    for line in re.findall(r"`([^`\n]*runnerctl [^`\n]*)`|^(.*\brunnerctl [a-z].*)$", text, re.MULTILINE):
        for call in re.split(r"&&|\||;|#", "".join(line)):
            match = re.search(r"\brunnerctl(?: --(?:config|socket) \S+)* ([a-z]+)\b(.*)", call)
            if match:
                yield match[1], re.findall(r"(--[a-z-]+)", match[2])


# --- the plugin ------------------------------------------------------------------------------------------------------


def test_the_plugin_and_its_test_run(tmp_path: Path) -> None:
    """A reader copies two blocks into two files and types pytest."""
    assert "1 passed" in run_tests_of(README, tmp_path)


def test_the_plugin_has_twenty_lines_and_its_test_five() -> None:
    """The promise of the page: this is all one has to write."""
    plugin, test = README.files()["drift.py"], README.files()["test_drift.py"]
    assert len(plugin.splitlines()) <= 20
    code = [line for line in test.splitlines() if line.strip() and not line.startswith("#")]
    assert len(code) <= 5


def test_the_configuration_shown_serves_the_plugin_shown(tmp_path: Path) -> None:
    """What the plugin reads and asks for is granted by the very tables below it."""
    (tmp_path / "drift.py").write_text(README.files()["drift.py"], "utf-8")
    plugin = load(identify(PluginSource(kind="path", value=str(tmp_path / "drift.py"))))
    vault = accepted(README.blocks("toml")[0], tmp_path).vaults["main"]
    assert {read.name for read in declaration_of(plugin).reads} <= vault.reads.keys()
    asked = set(re.findall(r'Action\("(\w+)"', README.files()["drift.py"]))
    assert asked
    assert asked <= vault.actions.keys()


# --- the configuration -----------------------------------------------------------------------------------------------


def test_the_shipped_example_is_accepted(tmp_path: Path) -> None:
    """`runnerctl check` finds no problem in it, once the files that it names are there."""
    config = accepted(EXAMPLE.read_text("utf-8"), tmp_path)
    assert {plugin.place for plugin in config.plugins.values()} == {"main", "nav"}


def test_the_configuration_shown_is_a_part_of_the_example(tmp_path: Path) -> None:
    """Who starts from the README and goes on with the example finds the same names and values."""
    shown = README.blocks("toml")[0]
    accepted(shown, tmp_path)
    assert_contains(tomllib.loads(EXAMPLE.read_text("utf-8")), tomllib.loads(shown), "")


def assert_contains(whole: Mapping[str, Any], part: Mapping[str, Any], where: str) -> None:
    """Fails with the key that differs."""
    for key, value in part.items():
        assert key in whole, f"{where}{key} is not in the example"
        if isinstance(value, dict):
            assert_contains(whole[key], value, f"{where}{key}.")
        else:
            assert whole[key] == value, f"{where}{key}"


# --- what is named ---------------------------------------------------------------------------------------------------


@pages
def test_every_link_leads_somewhere(page: Page) -> None:
    """Inside the repository: to a file that is there, and to a heading that it has."""
    for link in page.links:
        name, _, anchor = link.partition("#")
        target = (page.path.parent / name).resolve() if name else page.path
        assert target.exists(), f"{page.path.name}: {link}"
        if anchor:
            assert anchor in Page(target, target.read_text("utf-8")).anchors, f"{page.path.name}: {link}"


def test_every_path_named_in_the_readme_is_there() -> None:
    """Names in backticks that look like files of this repository."""
    named = re.findall(r"`([\w./-]+)`", README.prose)
    paths = [name for name in named if "/" in name.strip("/") and not name.startswith("/")]
    files = [name for name in paths if name.endswith((*SUFFIXES, "/"))]
    assert len(files) > 15
    assert [name for name in files if not (REPOSITORY / name).exists()] == []


@pages
def test_every_command_named_exists_with_its_options(page: Page) -> None:
    """`runnerctl COMMAND --option`, wherever it is written."""
    for name, options in commands_of(page.text):
        command = runnerctl.get_command(click.Context(runnerctl), name)
        assert command is not None, f"{page.path.name}: runnerctl {name}"
        group = command.commands.values() if isinstance(command, click.Group) else (command,)
        known = {option for each in group for parameter in each.params for option in parameter.opts} | {"--help"}
        assert set(options) <= known, f"{page.path.name}: runnerctl {name} {options}"


@pages
def test_every_make_goal_named_exists(page: Page) -> None:
    """`make GOAL` in code or backticks."""
    goals = set(re.findall(r"^([a-z]+):", (REPOSITORY / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = set(re.findall(r"(?:`|^)(?:\w+=\S+ )?make ([a-z]+)", page.text, re.MULTILINE))
    assert named <= goals, page.path.name


def test_the_table_has_every_command_and_known_exit_codes() -> None:
    """None is missing, and no code is invented."""
    rows = README.table("command", "what it does", "exit codes")
    assert isinstance(runnerctl, click.Group)
    named = [re.match(r"`runnerctl (\w+)", row[0]) for row in rows]
    assert [match[1] for match in named if match] == runnerctl.list_commands(click.Context(runnerctl))
    codes = {int(code) for row in rows for code in re.findall(r"\b\d+\b", row[2])}
    assert codes <= {int(code) for code in ExitCode}


@pages
def test_no_page_names_the_machine_it_was_written_on(page: Page) -> None:
    """Neither this directory nor a home."""
    for path in (str(REPOSITORY), str(Path.home())):
        assert f"{path}/" not in page.text, page.path.name

"""The pages in docs/ are complete and current: keys, metrics, log events, limits, states, decisions."""

import re
import sys
import tomllib
from collections.abc import Iterable
from contextlib import suppress
from importlib import import_module
from pathlib import Path

import click
import msgspec
import pytest

from docs.generate import DOCS, MEANINGS, find_metrics, find_tables, render, undocumented_keys
from docs.log_calls import find_log_calls, find_log_events
from protocol import limits
from runnerd.cli.ctl import main as runnerctl
from runnerd.cli.exits import ExitCode
from runnerd.config.load import ConfigError, load_config
from runnerd.config.plugins import PluginConfig
from runnerd.config.routing import RouterConfig
from runnerd.executor.wanted import IntentState
from runnerd.services.metrics import Metrics
from runnerd.store.calls import JobOutcome
from runnerd.supervisor.machine import Phase
from tests.support.markdown import REPOSITORY, read_page, run_tests_of
from workers import sdk, testing

PLUGINS = read_page("docs/plugins.md")
EMBEDDING = read_page("docs/embedding.md")
OPERATIONS = read_page("docs/operations.md")


# --- generated pages -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rendered() -> dict[str, str]:
    """What the generator would write now, by the page's name."""
    return {path.name: text for path, text in render().items()}


@pytest.mark.parametrize("name", ["configuration.md", "metrics.md", "log-events.md"])
def test_a_generated_page_is_current(name: str, rendered: dict[str, str]) -> None:
    """After a change of a key, a metric or a log call: `python -m docs.generate`."""
    assert (DOCS / name).read_text("utf-8") == rendered[name], f"run: python -m docs.generate ({name} is not current)"


def test_each_table_of_the_configuration_has_a_heading_of_its_own(rendered: dict[str, str]) -> None:
    """A reader finds a key below the table that it stands in."""
    headings = re.findall(r"^## (.*)$", rendered["configuration.md"], re.MULTILINE)
    assert len(set(headings)) == len(headings) == len(find_tables())


def test_every_key_of_the_configuration_has_a_meaning() -> None:
    """From a docstring below the key in the code, or else from docs/meanings.toml."""
    assert [*undocumented_keys()] == []


def test_no_meaning_is_left_of_a_key_or_metric_that_is_gone() -> None:
    """Nor of one that has a docstring by now: that one is shown."""
    tables = find_tables()
    keys = {f"{table.__name__}.{key.name}": key for table, keys in tables for key in keys}
    metrics = {str(metric._name) for metric in find_metrics()}
    assert MEANINGS["key"].keys() - keys.keys() == set()
    assert {
        name for name, text in MEANINGS["key"].items() if "meaning" in text and text["meaning"] != keys[name].meaning
    } == set()
    assert MEANINGS["metric"].keys() - metrics == set()
    assert MEANINGS["table"].keys() - {table.__name__ for table, _ in tables} == set()


def test_the_top_of_the_page_has_the_keys_that_the_loader_takes(tmp_path: Path) -> None:
    """The loader itself is asked: it lists them when it refuses another."""
    file = tmp_path / "runnerd.toml"
    file.write_text("zzz = 1")
    with pytest.raises(ConfigError) as refused:
        load_config(file)
    text = next(problem.text for problem in refused.value.problems if problem.key == "zzz")
    (_, top), *_ = find_tables()
    assert {key.name for key in top} == set(text.partition("allowed: ")[2].split(", "))


def test_the_shipped_example_shows_every_key() -> None:
    """Set, or commented out with its default."""
    text = (REPOSITORY / "deploy/runnerd.example.toml").read_text("utf-8")
    shown = set(re.findall(r"(?:^(?:# )?|[{,] )(\w+) =", text, re.MULTILINE)) | set(re.findall(r"[\[.](\w+)", text))
    missing = {f"{table.__name__}.{key.name}" for table, keys in find_tables() for key in keys if key.name not in shown}
    assert missing == set()


def test_every_metric_of_the_registry_is_on_the_page() -> None:
    """By the names under which Prometheus collects them."""
    families = {family.name for family in Metrics(Phase).registry.collect()}
    assert {str(metric._name) for metric in find_metrics()} == families
    text = (DOCS / "metrics.md").read_text("utf-8")
    assert [name for name in sorted(families) if f"`{name}" not in text] == []


def test_every_action_in_the_code_is_on_the_page() -> None:
    """Found a second time, by text instead of syntax."""
    sources = [path.read_text("utf-8") for path in (REPOSITORY / "runnerd").rglob("*.py")]
    pattern = r'(?:\bextra=(?:fields\(|\{"action": )|\*\*fields\()\s*"([a-z_]+)"'
    named = {name for text in sources for name in re.findall(pattern, text)}
    assert "http_record_refused" in named  # no logger makes it
    assert {event.action for event in find_log_events()} == named
    assert len(named) > 30
    text = (DOCS / "log-events.md").read_text("utf-8")
    assert [name for name in sorted(named) if f"| `{name}` |" not in text] == []


def test_every_log_call_of_the_supervisor_has_an_action_and_a_level() -> None:
    """The action is what alerts and searches name; a record without one cannot be found again."""
    calls = [f"{file}:{call.lineno}" for file, call, _ in find_log_calls()]
    events = find_log_events()
    assert len(events) == len(calls) + 1, calls  # one record is made without a logger
    assert [event.action for event in events if not event.levels] == []


# --- the guides ------------------------------------------------------------------------------------------------------


def test_the_example_of_the_plugin_guide_and_its_test_run(tmp_path: Path) -> None:
    """A reader copies two blocks into two files and types pytest."""
    assert "1 passed" in run_tests_of(PLUGINS, tmp_path)


def test_the_examples_of_the_page_on_embedding_run_when_they_are_pasted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All its Python, each block by itself, with our_package as its reader would have it. No block starts anything
    here: there is no runnerd.toml. And every name of ours that the page mentions is imported somewhere on it."""
    (tmp_path / "our_package").mkdir()
    (tmp_path / "our_package/parts.py").write_text(
        "def Board(tools): ...\nHeartbeat = Mailbox = Board\ndef close_our_pool(): ...\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    imported: set[str] = set()
    blocks = EMBEDDING.blocks("python")
    assert len(blocks) == 3
    for block in blocks:
        names: dict[str, object] = {}
        with suppress(ConfigError, SystemExit):
            exec(compile(block, "docs/embedding.md", "exec"), names)
        imported |= names.keys()
    for name in ("our_package.parts", "our_package"):
        sys.modules.pop(name)
    mentioned = set(re.findall(r"`([A-Z]\w+[a-z])\b", EMBEDDING.text)) - {"Authorization"}
    assert mentioned - imported - {"JobResult", "Config"} == set()


def test_every_name_for_authors_that_a_page_shows_is_there() -> None:
    """What an example imports, and each trigger that stands by its bare name, is where it is said to be."""
    shown: dict[str, set[str]] = {"workers.sdk": set()}
    for page in (
        read_page(name) for name in ("README.md", "docs/plugins.md", "docs/operations.md", "docs/embedding.md")
    ):
        for module, names in re.findall(r"^from (workers[.\w]*) import (.+)$", page.text, re.MULTILINE):
            shown.setdefault(module, set()).update(name.strip() for name in names.split(","))
        called = set(re.findall(r"(?<![\w.])([A-Z]\w+)\(", page.text))
        shown["workers.sdk"] |= called & set(sdk.triggers.__all__)
    assert {"Webhook", "Custom", "Metric", "job"} <= shown["workers.sdk"]
    assert {
        f"{module}.{name}" for module, names in shown.items() for name in names
        if name not in import_module(module).__all__
    } == set()  # fmt: skip


def test_the_tables_of_the_plugin_guide_are_plugins() -> None:
    """Each TOML block there is decoded as runnerd would."""
    for block in PLUGINS.blocks("toml"):
        raw = tomllib.loads(block)
        msgspec.convert(raw.get("router", {}), RouterConfig)
        for table in raw["plugins"].values():
            decode = msgspec.convert(table, PluginConfig, dec_hook=lambda kind, value: kind(value))
            assert decode.place == ("rounds" if decode.role == "keeper" else "main")


def test_the_limits_in_the_plugin_guide_are_those_of_the_protocol() -> None:
    """Number by number."""
    rows = PLUGINS.table("limit", "of what", "name")
    assert len(rows) > 10
    for number, _, name in rows:
        assert int(number.replace(",", "")) == getattr(limits, name.strip("`")), name


@pytest.mark.parametrize(
    "head, words",
    [
        (("state", "meaning", "what to do"), Phase),
        (("outcome", "meaning", "what to do"), JobOutcome),
        (("state", "meaning"), IntentState),
    ],
    ids=["plugin", "call", "intent"],
)
def test_the_runbook_explains_every_state(head: tuple[str, ...], words: Iterable[str]) -> None:
    """None is missing, and none is there that the code does not know."""
    assert {row[0].strip("`") for row in OPERATIONS.table(*head)} == set(map(str, words))


def test_the_runbook_explains_every_process_title() -> None:
    """What `ps` shows are the strings that the code gives to setproctitle; `{…}` stands for a name or a number."""
    sources = [path.read_text("utf-8") for side in ("runnerd", "workers") for path in (REPOSITORY / side).rglob("*.py")]
    calls = [call for text in sources for call in re.findall(r"\bsetproctitle\((.*)\)", text)]
    titles = {re.sub(r"\{[^}]*\}", "…", call.removeprefix("f").strip('"')) for call in calls}
    rows = OPERATIONS.table("title", "what it is", "when it is killed")
    explained = {re.sub(r"\b(NAME|N)\b", "…", row[0].strip("`")) for row in rows}
    assert len(titles) == len(calls) >= 6
    assert explained == titles | {"postgres …"}


def test_the_changelog_names_everything_on_the_surface() -> None:
    """Commands, exit codes, `--json`, keys and tables, metrics, names for authors; log events by their page."""
    text = (REPOSITORY / "CHANGELOG.md").read_text("utf-8")
    named = set(re.findall(r"`(?:runnerctl )?([^`]+)`", text))
    assert isinstance(runnerctl, click.Group)
    context = click.Context(runnerctl)
    commands = {name: runnerctl.get_command(context, name) for name in runnerctl.list_commands(context)}
    assert {"wallet new" if name == "wallet" else name for name in commands} <= named
    with_json = {name for name, one in commands.items() if one and any("--json" in p.opts for p in one.params)}
    listed = re.search(r"`--json` for\s+(.*?)\.", text, re.DOTALL)
    assert listed is not None
    assert set(re.findall(r"`(\w+)`", listed[1])) == with_json
    assert {str(int(code)) for code in ExitCode} <= set(re.findall(r"\b\d+\b", text))
    (_, top), *_ = find_tables()
    keys = {key.name for key in top}
    assert keys <= {re.sub(r"^\[(\w+)(\.\*)?\]$", r"\1", name) for name in named}
    assert set(re.findall(r"^\| `(runnerd_\w+)`", (DOCS / "metrics.md").read_text("utf-8"), re.MULTILINE)) <= named
    assert {*sdk.__all__, *testing.__all__} <= named
    assert "docs/log-events.md" in text


def test_every_decision_record_is_in_the_index_and_has_three_parts() -> None:
    """Context, decision, consequence; numbered without gaps."""
    index = (DOCS / "adr/README.md").read_text("utf-8")
    records = sorted((DOCS / "adr").glob("[0-9]*.md"))
    assert [int(record.name[:4]) for record in records] == [*range(1, len(records) + 1)]
    for record in records:
        text = record.read_text("utf-8")
        assert f"({record.name})" in index, record.name
        assert re.findall(r"^\*\*(\w+)\.\*\*", text, re.MULTILINE) == ["Context", "Decision", "Consequence"], (
            record.name
        )

"""Consumers are opened from the configuration: secrets from files, third parties' code by its entry point alone."""

import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from runnerd.clock import SystemClock
from runnerd.config.consumer_model import (
    ConsumerConfig,
    EntryPointConsumerConfig,
    NotifyConsumerConfig,
    SubmitConsumerConfig,
    WebhookConsumerConfig,
)
from runnerd.config.load import ConfigError
from runnerd.config.model import Config, DatabaseConfig
from runnerd.consumers.consumer import ConsumerMisconfigured
from runnerd.consumers.consumers import Consumers
from runnerd.consumers.notify import NotifyConsumer
from runnerd.errors import RunExit
from runnerd.extensions import ExtensionBroken, load_extensions
from runnerd.runner.builder import RunnerBuilder, RunnerIncomplete
from runnerd.runner.consuming import open_consumers
from runnerd.runner.runner import Runner
from runnerd.services.metrics import Metrics
from runnerd.store.calls import JobOutcome, JobResult
from tests.config.toml_bench import GOOD, Place
from tests.support.aio import run_async
from tests.support.calls import job_call
from tests.support.virtual_time import EPOCH

MODULE = """
class Consumer:
    def __init__(self, tools):
        if "broken" in tools.params:
            raise RuntimeError(tools.params["broken"])
        self.name = tools.params.get("as", tools.name)

    def wants(self, result):
        return True

    async def consume(self, result):
        print("heard", result.call.id)

    async def close(self):
        pass

def half(tools):
    return object()
"""


class Parts:
    """What a start has: a ledger that is asked for its id, and results that ring."""

    def __init__(self) -> None:
        self.rings: list[Any] = []
        self.called_by: dict[str, list[str]] = {}

    async def fetch(self, statement: Any) -> list[dict[str, Any]]:
        return [{"id": uuid.UUID(int=1)}]

    def add_consumer(self, ring: Any) -> None:
        self.rings.append(ring)

    async def open(self, **configs: ConsumerConfig) -> Consumers:
        config = cast(
            "Config", SimpleNamespace(consumers=configs, producers={}, services={}, database=DatabaseConfig())
        )
        parts = cast("Any", self)
        extensions = load_extensions(config)
        return await open_consumers(
            config, extensions, "dsn", parts, parts, parts, Metrics([]), SystemClock(), self.called_by.__getitem__
        )


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A third party's distribution, as pip leaves it: a module, and the entry points in its metadata."""
    (tmp_path / "house_consumers.py").write_text(MODULE)
    info = tmp_path / "house-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: house\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[runnerd.consumers]\nhouse = house_consumers:Consumer\nhalf = house_consumers:half\n"
        "none = no_module:Consumer\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("house_consumers", None)


def secret(tmp_path: Path, text: str, mode: int = 0o600) -> Path:
    file = tmp_path / "secret"
    file.touch(mode=mode)
    file.chmod(mode)
    file.write_text(text)
    return file


def hook(file: Path) -> WebhookConsumerConfig:
    return WebhookConsumerConfig(url="https://example.net", secret_file=file)


def test_each_kind_is_opened_and_hears_nothing_before_the_start(tmp_path: Path) -> None:
    """In the order of the file, with its kind."""

    async def scenario() -> None:
        parts = Parts()
        consumers = await parts.open(
            hook=hook(secret(tmp_path, "a secret of this test\n")),
            bell=NotifyConsumerConfig(channel="results"),
            oracle=SubmitConsumerConfig(plugin="alpha", action="answer"),
        )
        assert [(one.name, one.kind, one.trouble) for one in consumers.view()] == [
            ("hook", "webhook", None), ("bell", "notify", None), ("oracle", "submit", None),
        ]  # fmt: skip
        assert consumers.problems() == []
        (ring,) = parts.rings
        ring(JobResult(call=job_call(1), outcome=JobOutcome.NOOP, reason="", finished_at=EPOCH))
        await consumers.stop()

    run_async(scenario())


@pytest.mark.parametrize("text, mode, why", [
    ("short", 0o600, "shorter than 16 bytes"), ("", 0o600, "cannot be read: it is empty"),
    ("a secret of this test", 0o644, "open to every user"),
])  # fmt: skip
def test_a_secret_that_is_none_ends_the_start(tmp_path: Path, text: str, mode: int, why: str) -> None:
    """With the consumer's name, and never the secret. systemd does not try again what only its operator can mend."""
    with pytest.raises(ConsumerMisconfigured, match=f"consumer hook: .*{why}") as refused:
        run_async(Parts().open(hook=hook(secret(tmp_path, text, mode))))
    assert "secret of this test" not in str(refused.value)
    assert refused.value.exit_code == RunExit.CONFIG


def test_a_third_partys_consumer_comes_in_by_its_entry_point(installed: None) -> None:
    """Its code is imported only when it is configured."""

    async def scenario() -> None:
        await (await Parts().open()).stop()
        assert "house_consumers" not in sys.modules
        consumers = await Parts().open(house=EntryPointConsumerConfig(entry_point="house"))
        assert [(one.name, one.kind) for one in consumers.view()] == [("house", "entry_point")]
        await consumers.stop()

    run_async(scenario())


@pytest.mark.parametrize("config, why", [
    (EntryPointConsumerConfig(entry_point="absent"), "no installed package has 'absent' in runnerd.consumers"),
    (EntryPointConsumerConfig(entry_point="none"), "'none' cannot be imported: ModuleNotFoundError"),
    (EntryPointConsumerConfig(entry_point="house", params={"broken": "no room"}), "RuntimeError: no room"),
    (EntryPointConsumerConfig(entry_point="house", params={"as": "other"}), "calls itself 'other'"),
    (EntryPointConsumerConfig(entry_point="half"), "lacks close, consume, name, wants"),
])  # fmt: skip
def test_one_that_is_no_consumer_ends_the_start(installed: None, config: EntryPointConsumerConfig, why: str) -> None:
    """With what is wrong, by its name."""
    with pytest.raises(ExtensionBroken, match=f"house.*{why}"):
        run_async(Parts().open(house=config))


def test_the_configuration_names_those_that_are_installed(installed: None, tmp_path: Path) -> None:
    """Before anything is imported."""
    (tmp_path / "place").mkdir()
    place = Place(tmp_path / "place")
    table = '[consumers.a]\nkind = "entry_point"\nentry_point = "{}"\nparams = {{ room = "ops" }}\n'
    assert place.load(GOOD + table.format("house")).consumers.keys() == {"a"}
    with pytest.raises(ConfigError, match=r"a.entry_point: is 'pigeon', .*; there are: half, house, none"):
        place.load(GOOD + table.format("pigeon"))
    assert "house_consumers" not in sys.modules


def test_an_application_brings_a_consumer_by_the_builder(tmp_path: Path) -> None:
    """Under a name that no table has; what is no factory is told with all that is wrong."""
    place = Place(tmp_path)
    place.load(GOOD + '[consumers.bell]\nkind = "notify"\nchannel = "results"\n')
    assert isinstance(RunnerBuilder(place.file).consumer("board", cast("Any", NotifyConsumer)).build(), Runner)
    with pytest.raises(RunnerIncomplete) as refused:
        RunnerBuilder(place.file).consumer("bell", cast("Any", NotifyConsumer)).consumer("odd", cast("Any", 3)).build()
    assert refused.value.problems == [
        "consumer 'bell': there are two of this name",
        "consumer 'odd': 3 is no factory to be called with its tools",
    ]

"""What `doctor` says of consumers: of those that could not be opened, before the daemon says it."""

from pathlib import Path

import pytest

from runnerd.cli.doctor.consumers import examine_consumer
from runnerd.cli.doctor.finding import Finding, Mark
from runnerd.config.consumer_model import (
    AppriseConsumerConfig,
    ConsumerConfig,
    NotifyConsumerConfig,
    WebhookConsumerConfig,
)

URL = "https://example.org/hook"


def marks(config: ConsumerConfig) -> dict[str, Mark]:
    """By subject."""
    return {finding.subject: finding.mark for finding in examine_consumer(config)}


def test_a_secret_is_there_and_not_for_every_user(tmp_path: Path) -> None:
    """It is never repeated."""
    secret = tmp_path / "secret"
    config = WebhookConsumerConfig(url=URL, secret_file=secret)
    assert marks(config) == {"secret": Mark.BAD}
    secret.touch(0o600)
    secret.write_text("sixteen bytes and more")
    assert marks(config) == {"secret": Mark.GOOD}
    secret.write_text("hush\n")
    (finding,) = examine_consumer(config)
    assert (finding.mark, finding.text) == (Mark.BAD, "its secret is shorter than 16 bytes")
    secret.write_text("sixteen bytes and more")
    secret.chmod(0o604)
    (finding,) = examine_consumer(config)
    assert (finding.mark, "open to every user" in finding.text) == (Mark.BAD, True)
    assert "sixteen" not in finding.text + finding.remedy


def test_a_credential_is_looked_for_where_systemd_puts_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside of the unit that is a remark; a chat needs its library as well."""
    config = AppriseConsumerConfig(url_credential="chat")
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    assert marks(config) == {"url": Mark.WEAK, "apprise": Mark.GOOD}
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert marks(config)["url"] is Mark.BAD
    (tmp_path / "chat").touch(0o600)
    (tmp_path / "chat").write_text("json://example.org")
    assert marks(config)["url"] is Mark.GOOD


def test_a_library_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what installs it."""
    monkeypatch.setattr("runnerd.cli.doctor.consumers.find_spec", lambda _: None)
    found: list[Finding] = list(examine_consumer(AppriseConsumerConfig(url_file=tmp_path / "url")))
    assert (found[-1].mark, found[-1].remedy) == (Mark.BAD, "pip install 'runnerd[notify]'")


def test_those_without_a_secret_need_nothing() -> None:
    """Announcements go through the database, which has a section of its own."""
    assert marks(NotifyConsumerConfig(channel="done")) == {}

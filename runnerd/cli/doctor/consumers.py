"""What a consumer needs at the start: its secret, and its library. Nobody is told anything."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from runnerd.cli.doctor.finding import Finding, bad, good
from runnerd.cli.doctor.secret_file import NO_START, examine_credential, examine_secret
from runnerd.config.consumer_model import AppriseConsumerConfig, ConsumerConfig, WebhookConsumerConfig


def examine_consumer(config: ConsumerConfig) -> Iterator[Finding]:
    """Of the kinds that have a secret; the others need nothing that could be missing."""
    match config:
        case WebhookConsumerConfig():
            yield _secret("secret", config.secret_file, config.secret_credential)
        case AppriseConsumerConfig():
            yield _secret("url", config.url_file, config.url_credential)
            if find_spec("apprise") is None:
                yield bad("apprise", "not installed", cost=NO_START, remedy="pip install 'runnerd[notify]'")
            else:
                yield good("apprise", "installed")
        case _:
            pass


def _secret(what: str, file: Path | None, credential: str | None) -> Finding:
    return examine_secret(what, file) if file is not None else examine_credential(what, credential or "")

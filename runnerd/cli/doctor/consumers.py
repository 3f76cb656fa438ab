"""What a consumer needs at the start: its secret, and its library. Nobody is told anything."""

import os
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TypeAlias

from runnerd.cli.doctor.finding import Finding, Mark, bad, good
from runnerd.cli.doctor.secret_file import NO_START, examine_credential, examine_secret
from runnerd.config.consumer_model import AppriseConsumerConfig, ConsumerConfig, WebhookConsumerConfig
from runnerd.consumers.consumer import ConsumerMisconfigured
from runnerd.consumers.secret import read_key, read_secret
from runnerd.wallets.passphrase import CREDENTIALS_VARIABLE

_Read: TypeAlias = Callable[[Path | None, str | None, Mapping[str, str]], bytes]


def examine_consumer(config: ConsumerConfig) -> Iterator[Finding]:
    """Of the kinds that have a secret; the others need nothing that could be missing."""
    match config:
        case WebhookConsumerConfig():
            yield _secret("secret", config.secret_file, config.secret_credential, read_key)
        case AppriseConsumerConfig():
            yield _secret("url", config.url_file, config.url_credential, read_secret)
            if find_spec("apprise") is None:
                yield bad("apprise", "not installed", cost=NO_START, remedy="pip install 'runnerd[notify]'")
            else:
                yield good("apprise", "installed")
        case _:
            pass


def _secret(what: str, file: Path | None, credential: str | None, read: _Read) -> Finding:
    """Where it is, and then what it is, as the start reads it: of the file's own user, whom `doctor` may not be."""
    finding = examine_secret(what, file) if file is not None else examine_credential(what, credential or "")
    directory = os.environ.get(CREDENTIALS_VARIABLE)
    path = Path(directory, credential or "") if file is None and directory else file
    if finding.mark is not Mark.BAD and path is not None and os.access(path, os.R_OK):
        try:
            read(file, credential, os.environ)
        except ConsumerMisconfigured as error:
            return bad(what, str(error), cost=NO_START, remedy=f"write another one into {path}")
    return finding

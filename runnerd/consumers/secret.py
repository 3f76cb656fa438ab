"""The secret of a consumer: read as the start reads it, and by `doctor` before that, so that both say the same."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from runnerd.consumers.consumer import ConsumerMisconfigured
from runnerd.wallets.errors import PassphraseUnavailable
from runnerd.wallets.passphrase import PassphraseCredential, PassphraseFile, fetch_passphrase

MIN_KEY_BYTES: Final = 16


def read_secret(file: Path | None, credential: str | None, environ: Mapping[str, str]) -> bytes:
    """What stands there. Raises ConsumerMisconfigured, which never repeats it."""
    assert file is not None or credential is not None  # checked with the configuration
    source = PassphraseFile(file) if file is not None else PassphraseCredential(credential or "")
    try:
        return fetch_passphrase(source, environ).reveal()
    except PassphraseUnavailable as error:
        what = error.reason.replace("the passphrase", "the secret")
        raise ConsumerMisconfigured(f"the secret of {error.source} cannot be read: {what}") from None


def read_key(file: Path | None, credential: str | None, environ: Mapping[str, str]) -> bytes:
    """One that signs. Raises ConsumerMisconfigured."""
    secret = read_secret(file, credential, environ)
    if len(secret) < MIN_KEY_BYTES:
        raise ConsumerMisconfigured(f"its secret is shorter than {MIN_KEY_BYTES} bytes")
    return secret

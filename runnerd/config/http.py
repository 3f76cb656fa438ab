"""What the keys of `[http]` must satisfy together: a certificate and its key, which fit. Called by `check`."""

import ssl
from collections.abc import Iterator

from runnerd.config.model import HttpConfig
from runnerd.config.problem import Problem


def check_http(http: HttpConfig) -> Iterator[Problem]:
    """All problems of the table. Reads the two files, as the http process will."""
    if (http.tls_cert is None) != (http.tls_key is None):
        yield Problem("http", "needs both of tls_cert and tls_key, or none of them")
        return
    if http.tls_cert is None or http.tls_key is None:
        return
    missing = [
        (name, file) for name, file in (("tls_cert", http.tls_cert), ("tls_key", http.tls_key)) if not file.is_file()
    ]
    for name, file in missing:
        yield Problem(f"http.{name}", f"no such file: {file}")
    if missing:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(http.tls_cert, http.tls_key, password=_no_passphrase)
    except OSError as error:  # an ssl.SSLError is one
        reason = getattr(error, "reason", None) or error.strerror or "it has a passphrase"
        yield Problem(
            "http.tls_key", f"cannot be used with tls_cert: {reason}; both are PEM files, the key without a passphrase"
        )


def _no_passphrase() -> str:
    """OpenSSL would ask on the terminal."""
    return ""

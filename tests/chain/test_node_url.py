"""Node urls: what is taken, and that nothing secret in one is ever shown."""

import pytest

from runnerd.chain.errors import NodeUrlInvalid
from runnerd.chain.node_url import parse_node_url
from runnerd.chain.rpc import Rpc

SECRETS = ("s3cretkey", "hunter2", "alice")


@pytest.mark.parametrize(
    "text, display",
    [
        ("http://localhost:8545", "http://localhost:8545"),
        ("https://mainnet.example/v2/s3cretkey", "https://mainnet.example/***"),
        ("https://mainnet.example?apikey=s3cretkey", "https://mainnet.example/***"),
        ("wss://alice:hunter2@node.example:8546/", "wss://***@node.example:8546"),
        ("WS://[::1]:8546", "ws://[::1]:8546"),
        ("ipc:///run/geth/geth.ipc", "ipc:///run/geth/geth.ipc"),
    ],
)
def test_display_keeps_the_host_and_hides_credentials_and_path(text: str, display: str) -> None:
    """API keys sit in user info, path and query: only scheme, host and port are shown."""
    assert parse_node_url(text).display == display


@pytest.mark.parametrize(
    "text", ["https://alice:hunter2@node.example/v2/s3cretkey?key=s3cretkey", "wss://alice:hunter2@n.example/s3cretkey"]
)
def test_no_repr_of_a_url_or_an_rpc_shows_a_secret(text: str) -> None:
    """A dataclass repr in a log line is how keys leak."""
    shown = repr(parse_node_url(text)) + repr(Rpc(text)) + Rpc(text).url_for_display + f"{Rpc(text)}"
    assert [secret for secret in SECRETS if secret in shown] == []


def test_credentials_become_a_basic_authorization_header() -> None:
    """Percent-encoding in user info is undone before the header is built (RFC 7617)."""
    assert parse_node_url("http://a%40b:c%3Ad@node.example").authorization == "Basic YUBiOmM6ZA=="


@pytest.mark.parametrize(
    "text",
    [
        "",
        "localhost:8545",
        "ftp://s3cretkey.example/",
        "http:///s3cretkey",
        "http://node.example:99999/s3cretkey",
        "http://node.example/s3cretkey\r\nX-Evil: 1",
        "http://node.example/s3cret key",
        "http://nöde.example/s3cretkey",
        "ipc://relative/s3cretkey",
        "ipc://",
    ],
)
def test_unusable_urls_are_refused_without_repeating_them(text: str) -> None:
    """The error goes to logs and terminals, so it says what is allowed and never quotes the url."""
    with pytest.raises(NodeUrlInvalid) as refused:
        parse_node_url(text)
    assert "s3cret" not in str(refused.value)

"""The url of one node, taken apart. Urls carry API keys in user info, path and query: only `display` may be shown."""

import base64
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from runnerd.chain.errors import NodeUrlInvalid

DEFAULT_PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443}
ALLOWED = "allowed: http://, https://, ws://, wss:// with a host, or ipc:///absolute/path/of/the/socket"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeUrl:
    """A checked url. `target` is path and query, `authorization` a header value; both may be secret and have no repr.

    For `ipc`, `socket_path` is the unix socket and the network fields are empty.
    """

    scheme: str
    display: str
    host: str = ""
    port: int = 0
    socket_path: str = ""
    target: str = field(default="/", repr=False)
    authorization: str | None = field(default=None, repr=False)

    @property
    def is_tls(self) -> bool:
        return self.scheme in {"https", "wss"}

    @property
    def host_header(self) -> str:
        """Value of the Host header: IPv6 in brackets, the port only when it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


def parse_node_url(text: str) -> NodeUrl:
    """Take a node's url apart. Raises NodeUrlInvalid, whose text never repeats the url."""
    # A control character or a space would end up in the request line; urlsplit silently drops some of them.
    if any(character <= " " or character == "\x7f" for character in text):
        raise NodeUrlInvalid("the url holds a space or a control character")
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise NodeUrlInvalid(f"the url does not parse; {ALLOWED}") from None
    scheme = parts.scheme.lower()
    if scheme == "ipc":
        if parts.netloc or not PurePosixPath(parts.path).is_absolute():
            raise NodeUrlInvalid("an ipc url needs three slashes and an absolute path, e.g. ipc:///run/geth/geth.ipc")
        return NodeUrl(scheme=scheme, display=f"ipc://{parts.path}", socket_path=unquote(parts.path))
    if scheme not in DEFAULT_PORTS or not host:
        raise NodeUrlInvalid(f"scheme or host is missing or not supported; {ALLOWED}")
    if not text.isascii():
        raise NodeUrlInvalid("the url is not ASCII: percent-encode the path and write the host in punycode")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    authorization = None
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = "Basic " + base64.b64encode(pair.encode()).decode()
    shown_host = f"[{host}]" if ":" in host else host
    shown_port = f":{port}" if port is not None else ""
    shown_target = "/***" if target != "/" else ""
    shown_user = "***@" if authorization else ""
    return NodeUrl(
        scheme=scheme,
        display=f"{scheme}://{shown_user}{shown_host}{shown_port}{shown_target}",
        host=host,
        port=DEFAULT_PORTS[scheme] if port is None else port,
        target=target,
        authorization=authorization,
    )

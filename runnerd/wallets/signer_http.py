"""JSON-RPC to a remote signer over http(s), by aiohttp: bounded answers, a deadline, bearer token, client certificate.

Beside the transport to nodes, because it concludes other things: a node's error may be a node's mood, a signer's is its
answer. Used by `remote`.
"""

import asyncio
import os
import ssl
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import aiohttp

from runnerd.chain.errors import RpcMalformed, RpcRefused, RpcUnavailable
from runnerd.chain.json_values import JsonParam, JsonValue
from runnerd.chain.jsonrpc import decode_answer, encode_request
from runnerd.chain.node_url import NodeUrl
from runnerd.text import printable
from runnerd.wallets.errors import SignerMismatch, SignerRefused, SignerUnavailable, WalletError
from runnerd.wallets.passphrase import Passphrase
from runnerd.wallets.redacted import Redacted

DEADLINE_S: Final = 10.0
"""Of each request, connecting included. A signer with a hardware module behind it takes a second or two."""
MAX_ANSWER_BYTES: Final = 1 << 20
"""A transaction has at most 128 KiB of data, twice that in hex."""
MAX_CONNECTIONS: Final = 4
IDLE_LIMIT_S: Final = 20.0
_INTERNAL_ERROR: Final = -32603
_CHECK_TOKEN: Final = "check signer_token_file or signer_token_credential, and what the signer lets in"  # noqa: S105  # words


class SignerHttp(Redacted):
    """One signer. `ask` raises SignerUnavailable, SignerRefused or SignerMismatch; no text holds the token or path."""

    __slots__ = ("_headers", "_name", "_next_id", "_session", "_tls", "_url")

    def __init__(self, name: str, url: NodeUrl, tls: ssl.SSLContext | None, token: Passphrase | None) -> None:
        self._name = name
        self._url = f"{url.scheme}://{url.host_header}{url.target}"
        self._tls = tls
        self._headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "runnerd"}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {_header_text(name, token)}"
        self._session: aiohttp.ClientSession | None = None
        self._next_id = 0

    async def ask(self, method: str, params: Sequence[JsonParam]) -> JsonValue:
        """The result of one request."""
        self._next_id += 1
        request_id = self._next_id
        try:
            async with asyncio.timeout(DEADLINE_S):
                status, body = await self._exchange(encode_request(request_id, method, params))
        except TimeoutError:
            raise SignerUnavailable(self._name, f"no answer within {DEADLINE_S:g} s") from None
        except aiohttp.ClientConnectorCertificateError as error:
            reason = f"its certificate is not trusted ({printable(str(error.certificate_error))})"
            raise SignerRefused(self._name, reason, "set signer_ca_file, or correct the host in signer_url") from None
        except (aiohttp.ClientError, OSError) as error:  # their own texts may hold the url
            reason = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
            raise SignerUnavailable(self._name, f"the connection failed ({printable(reason)})") from None
        return self._result(status, body, request_id, method)

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def _exchange(self, request: bytes) -> tuple[int, bytes]:
        if self._session is None:  # made in the loop that uses it
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=MAX_CONNECTIONS, keepalive_timeout=IDLE_LIMIT_S, ssl=self._tls or True
                ),
                headers=self._headers,
                timeout=aiohttp.ClientTimeout(total=None),  # `ask` holds the deadline
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers=("Accept-Encoding",),
                auto_decompress=False,
                trust_env=False,
            )
        # A redirect would carry the token elsewhere.
        async with self._session.post(self._url, data=request, allow_redirects=False) as response:
            parts: list[bytes] = []
            size = 0
            async for part in response.content.iter_any():
                parts.append(part)
                size += len(part)
                if size > MAX_ANSWER_BYTES:
                    response.close()
                    raise SignerMismatch(self._name, f"its answer is larger than {MAX_ANSWER_BYTES} bytes")
            return response.status, b"".join(parts)

    def _result(self, status: int, body: bytes, request_id: int, method: str) -> JsonValue:
        """web3signer sends JSON-RPC errors with any HTTP status; a proxy before it sends a page."""
        try:
            result = decode_answer(body, request_id, method)
        except RpcRefused as error:
            text = f"{method}: error {error.code}: {printable(error.message)[:300]}"
            # web3signer says "no unlocked account" with 500 whatever kept it from signing, its vault's outage included.
            if error.code == _INTERNAL_ERROR or status == 429 or status >= 500:
                raise SignerUnavailable(self._name, text) from None
            raise SignerRefused(self._name, text, "look at the signer's log: does it hold this key?") from None
        except RpcMalformed as error:
            raise self._no_answer(status, error) from None
        except RpcUnavailable as error:  # a JSON-RPC "too many requests"
            raise SignerUnavailable(self._name, str(error)) from None
        if status != 200:
            raise SignerMismatch(self._name, f"a result with HTTP status {status}")
        return result

    def _no_answer(self, status: int, error: RpcMalformed) -> WalletError:
        if status in {401, 403}:
            return SignerRefused(self._name, f"HTTP {status}", _CHECK_TOKEN)
        if status in {408, 429} or status >= 500:
            return SignerUnavailable(self._name, f"HTTP {status}")
        if status != 200:
            return SignerRefused(self._name, f"HTTP {status}", "check the path in signer_url")
        return SignerMismatch(self._name, error.reason)


def load_tls(name: str, ca_file: Path | None, client_cert_file: Path | None) -> ssl.SSLContext:
    """Trusts `ca_file` alone, or what the host trusts; shows `client_cert_file` (PEM: certificate and key).

    Raises SignerRefused.
    """
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except OSError as error:  # ssl.SSLError is one
        raise _unusable(name, "signer_ca_file", ca_file, error) from None
    if client_cert_file is not None:
        try:
            if client_cert_file.stat().st_mode & stat.S_IRWXO:
                reason = f"signer_client_cert_file {client_cert_file} is open to every user"
                raise SignerRefused(name, reason, f"run: chmod 600 {client_cert_file}, and consider its key known")
            # With an empty password an encrypted key is an error; without one OpenSSL would ask on the terminal.
            context.load_cert_chain(os.fspath(client_cert_file), password="")
        except OSError as error:
            raise _unusable(name, "signer_client_cert_file", client_cert_file, error) from None
    return context


def _unusable(name: str, key: str, path: Path | None, error: OSError) -> SignerRefused:
    reason = error.reason if isinstance(error, ssl.SSLError) else error.strerror
    return SignerRefused(name, f"{key} {path}: {reason or 'not a PEM file'}", "give a PEM file that runnerd can read")


def _header_text(name: str, token: Passphrase) -> str:
    """A token that fits into a header line, so that nothing can be written behind it."""
    secret = token.reveal()
    if not all(0x21 <= byte < 0x7F for byte in secret):
        remedy = "write the token alone into its file, on one line"
        raise SignerRefused(name, "its token holds a space or a character that is not ASCII", remedy)
    return secret.decode("ascii")

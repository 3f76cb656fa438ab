"""http(s) to one node, over aiohttp: a pool of kept-alive connections, bounded answers, no redirects.

aiohttp costs some 200 µs a call more than a bare socket; who needs those has ws:// and ipc:// (docs/adr/0008).
"""

import asyncio
import ssl

import aiohttp

from runnerd.chain.node_url import NodeUrl
from runnerd.chain.transports.base import MAX_ANSWER_BYTES, TransportFault

MAX_CONNECTIONS = 32
"""Requests under way at once; more wait their turn within their deadline."""

IDLE_LIMIT_S = 20.0
"""An older idle connection is not used again: proxies close theirs after 30 to 75 s, and a POST lost in that race has
an unknown effect. aiohttp never repeats a POST by itself."""

JSON_RPC_STATUSES = frozenset({200, 400})  # some nodes send a JSON-RPC error with 400


class HttpTransport:
    """`Transport` over HTTP/1.1 with keep-alive."""

    def __init__(self, url: NodeUrl, *, max_answer_bytes: int = MAX_ANSWER_BYTES) -> None:
        self._url = url
        self._limit = max_answer_bytes
        self._tls: ssl.SSLContext | bool = ssl.create_default_context() if url.is_tls else True
        self._session: aiohttp.ClientSession | None = None
        self._is_closed = False
        self._address = f"{url.scheme}://{url.host_header}{url.target}"
        self._headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "runnerd"}
        if url.authorization:
            self._headers["Authorization"] = url.authorization

    async def exchange(self, request_id: int, body: bytes) -> bytes:  # one request per connection
        if self._is_closed:
            raise TransportFault("closed")
        try:
            async with self._get_session().post(self._address, data=body, allow_redirects=False) as response:
                answer = await self._read(response)
        except aiohttp.ClientError as error:
            raise _fault(error) from None
        except asyncio.CancelledError:
            if self._is_closed:  # `close` ended it, not its caller
                raise TransportFault("closed") from None
            raise
        if response.status not in JSON_RPC_STATUSES or (response.status == 400 and not _is_json(answer)):
            raise TransportFault(f"HTTP {response.status}{_hint(response.status)}")
        return answer

    async def close(self) -> None:
        self._is_closed = True
        if self._session is not None:
            await self._session.close()

    def _get_session(self) -> aiohttp.ClientSession:
        if self._session is None:  # made in the loop that uses it
            connector = aiohttp.TCPConnector(
                limit=MAX_CONNECTIONS, keepalive_timeout=IDLE_LIMIT_S, ssl=self._tls, enable_cleanup_closed=False
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                headers=self._headers,
                timeout=aiohttp.ClientTimeout(total=None),  # the caller holds the deadline
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers=("Accept-Encoding",),
                auto_decompress=False,
                trust_env=False,
            )
        return self._session

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        if (response.content_length or 0) > self._limit:
            response.close()
            raise TransportFault(f"an answer larger than {self._limit} bytes")
        parts: list[bytes] = []
        size = 0
        async for part in response.content.iter_any():
            parts.append(part)
            size += len(part)
            if size > self._limit:
                response.close()
                raise TransportFault(f"an answer larger than {self._limit} bytes")
        return b"".join(parts)


def _fault(error: aiohttp.ClientError) -> Exception:
    """aiohttp's own texts may hold the url, which may hold a key: ours never do."""
    match error:
        case aiohttp.ClientConnectorCertificateError():
            return error.certificate_error
        case aiohttp.ClientConnectorError():
            return error.os_error
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientPayloadError() | aiohttp.ClientOSError():
            return TransportFault("the node closed the connection before its answer was complete")
        case aiohttp.ClientResponseError():
            return TransportFault("the node did not answer with HTTP")
        case _:
            return TransportFault(f"the request failed ({type(error).__name__})")


def _is_json(body: bytes) -> bool:
    return body.lstrip()[:1] in {b"{", b"["}


def _hint(status: int) -> str:
    match status:
        case 401 | 403:
            return ": the node refuses the credentials or API key in the url"
        case 404:
            return ": nothing speaks JSON-RPC at this path"
        case 429:
            return ": too many requests"
        case _:
            return ""

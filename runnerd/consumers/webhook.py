"""Posts each result to a URL, signed: `X-Runnerd-Signature: t=SECONDS,v1=HEX`, the HMAC-SHA256 of `t.body`.

A receiver checks the signature, that `t` is near, and drops an `X-Runnerd-Delivery` that it has seen: it is the same
for the same result, however often that comes, and another one for every other ledger and consumer. 2xx is taken as
heard.
"""

import hashlib
import hmac
import uuid
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

import aiohttp

from runnerd.clock import Clock
from runnerd.consumers.address import find_host_problem
from runnerd.consumers.consumer import ConsumerRefused, ConsumerUnavailable
from runnerd.consumers.destination import PrivateAddress, PublicResolver
from runnerd.consumers.message import message_of
from runnerd.store.calls import JobResult

HEADER: Final = "X-Runnerd-Signature"
DELIVERY: Final = "X-Runnerd-Delivery"
TIMEOUT_S: Final = 10.0
RETRIED: Final = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS})
"""Of the 4xx: those that a later attempt may not meet."""


def signature(secret: bytes, at: int, body: bytes) -> str:
    """The value of the header, for a body sent at `at` (seconds since the epoch)."""
    return f"t={at},v1={hmac.new(secret, f'{at}.'.encode() + body, hashlib.sha256).hexdigest()}"


class WebhookConsumer:
    """A Consumer with one connection that is kept. `ledger`: the id of ours."""

    def __init__(
        self,
        name: str,
        url: str,
        secret: bytes,
        clock: Clock,
        ledger: uuid.UUID,
        *,
        allow_private: bool = False,
    ) -> None:
        self.name = name
        self._url = url
        self._host = urlsplit(url).hostname or ""
        self._secret = secret
        self._clock = clock
        self._ledger = ledger
        self._allow_private = allow_private
        self._session: aiohttp.ClientSession | None = None

    def wants(self, result: JobResult) -> bool:
        """All."""
        return True

    async def consume(self, result: JobResult) -> None:
        """Post it. Redirects are not followed: they would lead past the check of the address."""
        body = message_of(result).encode()
        headers = {
            "Content-Type": "application/json",
            DELIVERY: str(uuid.uuid5(self._ledger, f"{self.name} {result.call.id}")),
            HEADER: signature(self._secret, int(self._clock.now().timestamp()), body),
        }
        try:
            self._check_host()
            async with self._connect().post(self._url, data=body, headers=headers, allow_redirects=False) as answer:
                status = answer.status
        except PrivateAddress as error:
            raise ConsumerRefused(str(error)) from None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if isinstance(cause := error.__cause__, PrivateAddress):
                raise ConsumerRefused(str(cause)) from None
            raise ConsumerUnavailable(f"{self._host}: {str(error) or type(error).__name__}") from error
        if status // 100 == 2:
            return
        said = f"{self._host} answered {status}"
        if status // 100 == 4 and status not in RETRIED:
            raise ConsumerRefused(said)
        raise ConsumerUnavailable(said)

    async def close(self) -> None:
        """Hang up."""
        if self._session is not None:
            await self._session.close()

    def _check_host(self) -> None:
        """An address that stands in the URL itself is looked up by nobody."""
        problem = find_host_problem(self._host, allow_private=self._allow_private)
        if problem is not None:
            raise PrivateAddress(problem)

    def _connect(self) -> aiohttp.ClientSession:
        if self._session is None:
            resolver = None if self._allow_private else PublicResolver()
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(resolver=resolver, limit=2),
                timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
            )
        return self._session

"""Where runnerd may send to: not into the network that it stands in, unless the operator says so.

A name is looked up once, by us, and the connection goes to the address that was checked: looked up again it could be
another one (DNS rebinding).
"""

import asyncio
import socket
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult

from runnerd.consumers.address import is_public
from runnerd.errors import RunnerdError


class PrivateAddress(RunnerdError):
    """The name leads to an address inside: loopback, private, link-local. `allow_private = true` lets it."""


class PublicResolver(AbstractResolver):
    """Resolves names to public addresses only. Raises PrivateAddress if one of them is not."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """All addresses of `host`; each has to be public."""
        loop = asyncio.get_running_loop()
        found: list[Any] = await loop.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
        results = []
        for its_family, _, proto, _, address in found:
            if not is_public(address[0]):
                raise PrivateAddress(
                    f"{host} is {address[0]}, which is not on the internet; allow_private = true lets it"
                )
            results.append(
                ResolveResult(
                    hostname=host, host=address[0], port=port, family=its_family, proto=proto,
                    flags=socket.AI_NUMERICHOST,
                )
            )  # fmt: skip
        return results

    async def close(self) -> None:
        """Nothing is held."""

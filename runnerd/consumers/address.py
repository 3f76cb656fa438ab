"""Which addresses belong to the internet at large. Pure: names are looked up by `destination`.

An IPv6 address may lead to an IPv4 one through a translator or tunnel: then the one within is judged as well.
"""

import socket
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Final

_WITHIN: Final = tuple(
    IPv6Network(network)
    for network in (
        "::/96",  # IPv4-compatible (RFC 4291 2.5.5.1)
        "::ffff:0:0/96",  # IPv4-mapped (RFC 4291 2.5.5.2)
        "::ffff:0:0:0/96",  # IPv4-translated (RFC 2765 2.1)
        "64:ff9b::/96",  # NAT64 (RFC 6052 2.1)
    )
)
"""Networks whose addresses end in an IPv4 address."""
_LOCAL_NAT64: Final = IPv6Network("64:ff9b:1::/48")
"""Where the IPv4 address stands in it is each network's own affair (RFC 8215). Older Pythons call it global."""


def is_public(address: str) -> bool:
    """Whether it belongs to the internet at large. Raises ValueError when it is no address."""
    parsed = ip_address(address)
    if isinstance(parsed, IPv4Address):
        return _is_global(parsed)
    # 2001::/32 (Teredo) is not global in any case.
    if parsed.is_site_local or parsed in _LOCAL_NAT64:
        return False
    within = _find_within(parsed)
    return _is_global(within) if within is not None else _is_global(parsed)


def find_host_problem(host: str, *, allow_private: bool) -> str | None:
    """Why nothing may be sent to the host of a URL; None if it may, or is a name, whose addresses are to be judged."""
    name = host.rstrip(".").lower()
    try:
        is_inside = not is_public(host)
    except ValueError:
        address = _find_old_spelling(name)
        if address is not None:
            return f"{host} is an old spelling of an address: write {address}"
        is_inside = name == "localhost" or name.endswith(".localhost")
    if is_inside and not allow_private:
        return f"{host} is not on the internet; allow_private = true lets it"
    return None


def _is_global(address: IPv4Address | IPv6Address) -> bool:
    return address.is_global and not address.is_multicast


def _find_within(address: IPv6Address) -> IPv4Address | None:
    if address.sixtofour is not None:  # 2002::/16
        return address.sixtofour
    if any(address in network for network in _WITHIN):
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return None


def _find_old_spelling(name: str) -> str | None:
    """What `127.1`, `2130706433` or `0177.0.0.1` stands for: the C library connects to it, and no resolver is asked."""
    try:
        return socket.inet_ntoa(socket.inet_aton(name))
    except OSError:
        return None

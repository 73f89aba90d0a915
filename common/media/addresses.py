"""IP addresses: which are public, which a configured host may have, and which names hide one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import Enum
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from common.errors import RefusedAddressError

Address = IPv4Address | IPv6Address

# Not caught by ``is_global`` in every Python: IETF protocol assignments, 6to4 relays, Azure's host endpoint.
_SPECIAL_V4 = [ip_network(n) for n in ("192.0.0.0/24", "192.88.99.0/24", "168.63.129.16/32")]
_GLOBAL_UNICAST = ip_network("2000::/3")
_SIX_TO_FOUR = ip_network("2002::/16")
_NAT64 = ip_network("64:ff9b::/96")
_ENDS_IN_NUMBER = re.compile(r"(^|\.)(\d+|0x[0-9a-f]*)\.?$")
_NAME = re.compile(r"[a-z0-9_]([a-z0-9._-]{0,253}[a-z0-9_.])?")


class Reach(Enum):
    """How far a request may go."""

    CONFIGURED = "configured"
    """The platform or an allowed host: private and loopback addresses too, because a person named it."""
    PUBLIC = "public"
    """A redirect of the platform: every address of the name must be public."""


def literal(host: str) -> Address | None:
    """The address that ``host`` spells in the usual form, None for a name."""
    try:
        return ip_address(host)
    except ValueError:
        return None


def check_host(host: str) -> None:
    """Refuse what is neither a plain name nor an address in its usual form.

    2130706433, 0x7f.1, 0177.0.0.1 and 127.1 all reach 127.0.0.1 through the C library ("ends in a number",
    WHATWG URL standard, section 3.5); zone ids and percent signs have no business in an image's address.

    Raises:
        RefusedAddressError: With the host and what is allowed.
    """
    if literal(host) is not None and "%" not in host:
        return
    if _ENDS_IN_NUMBER.search(host):
        raise RefusedAddressError(
            f"the host {host!r} is a number in disguise: write a name or an address like 192.0.2.7"
        )
    if not _NAME.fullmatch(host):
        raise RefusedAddressError(
            f"the host {host[:80]!r} is not a valid name: letters, digits, '-' and '.' are allowed"
        )


def is_public(address: Address) -> bool:
    """Whether anybody on the internet could reach ``address``; unwraps IPv4 inside IPv6."""
    if isinstance(address, IPv6Address):
        inner = _inner_v4(address)
        if inner is not None:
            return is_public(inner)
        return address in _GLOBAL_UNICAST and address.is_global and address not in _SIX_TO_FOUR
    special = address.is_multicast or address.is_reserved or any(address in n for n in _SPECIAL_V4)
    return address.is_global and not special


def is_usable(address: Address) -> bool:
    """Whether a configured host may have ``address``: link-local (cloud metadata lives there) it may not."""
    plain = (_inner_v4(address) or address) if isinstance(address, IPv6Address) else address
    return not (plain.is_link_local or plain.is_multicast or plain.is_unspecified or _is_reserved_v4(plain))


def permitted(host: str, addresses: Sequence[str], reach: Reach) -> list[str]:
    """The addresses of ``host`` that may be connected to, in the resolver's order.

    A public host must be public in all its addresses: one private among them is a rebinding attempt or a split
    horizon, and which one a connection gets would be chance. A configured host keeps its usable ones.

    Raises:
        RefusedAddressError: Nothing may be connected to.
    """
    if reach is Reach.PUBLIC:
        for text in addresses:
            check_public(host, text)
        return list(addresses)
    usable = [text for text in addresses if is_usable(ip_address(text))]
    if not usable:
        raise RefusedAddressError(
            f"{host} is at {', '.join(addresses)}: link-local, multicast and unspecified ones are never used"
        )
    return usable


def check_public(host: str, text: str) -> None:
    """Refuse ``text``, one address of ``host``, unless it is public.

    Raises:
        RefusedAddressError: With the setting that allows the host, where one can.
    """
    address = ip_address(text)
    if is_public(address):
        return
    if not is_usable(address):
        raise RefusedAddressError(f"{host} is at {text}, an address that is never fetched from")
    raise RefusedAddressError(
        f"{host} is at {text}, which is not a public address: if the images really are there, "
        f"allow the host with HARDFIRST_ALLOW_HOSTS={host}:PORT"
    )


def _inner_v4(address: IPv6Address) -> IPv4Address | None:
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped


def _is_reserved_v4(address: Address) -> bool:
    return isinstance(address, IPv4Address) and address.is_reserved

"""Where a webhook may be: at a public address, or in a network that the operator allows.

An operator of one enrollment must not make the server speak to what only the server reaches: its
own loopback, its site, a cloud's metadata. So an address counts, and never a name: names are looked
up once, and the call goes to an address that passed here.

Source: IANA IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890), RFC 6052 (NAT64), RFC 3056
(6to4), RFC 4291 §2.5.5.2 (IPv4-mapped).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
)
from typing import Final, TypeAlias
from urllib.parse import urlsplit

from fleetroot.errors import InvalidArgument

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

MAX_URL_CHARACTERS: Final = 2048
_HOST: Final = re.compile(r"(?=.{1,253}\Z)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*", re.ASCII)
_TARGET: Final = re.compile(r"[!-~]*", re.ASCII)
_PORTS: Final = {"https": 443, "http": 80}

_SPECIAL_IPV4: Final = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
    )
)
_GLOBAL_UNICAST: Final = IPv6Network("2000::/3")  # all else is special, or not assigned
_SPECIAL_IPV6: Final = tuple(
    IPv6Network(network)
    for network in ("2001::/23", "2001:db8::/32", "2620:4f:8000::/48", "3fff::/20")
)
_NAT64: Final = IPv6Network("64:ff9b::/96")


@dataclass(frozen=True, slots=True)
class WebhookRules:
    """Which webhooks may be called.

    Attributes:
        plain_http: whether one may be without TLS.
        networks: which may be called though they are not public.
    """

    plain_http: bool = False
    networks: tuple[Network, ...] = ()

    def allow(self, address: Address) -> bool:
        """Whether a webhook may be at the address."""
        mapped = _carried(address) if isinstance(address, IPv6Address) else None
        for one in (address, mapped):
            if one is not None and any(one in network for network in self.networks):
                return True
        return is_public(address)


def is_public(address: Address) -> bool:
    """Whether anybody reaches the address: it is unicast, global, and carries no address within it
    that is not.
    """
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _SPECIAL_IPV4)
    if address.scope_id is not None:
        return False
    carried = _carried(address)
    if carried is not None:
        return is_public(carried)
    return address in _GLOBAL_UNICAST and not any(address in network for network in _SPECIAL_IPV6)


def _carried(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that what is sent to an IPv6 address ends up at."""
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour


@dataclass(frozen=True, slots=True)
class WebhookUrl:
    """The URL of a webhook, parsed.

    Attributes:
        host: a name, or an address without brackets.
        target: path and query.
    """

    scheme: str
    host: str
    port: int
    target: str

    @property
    def authority(self) -> str:
        """Host and port, as the header `Host` has them (RFC 9110 §7.2)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


def parse_url(text: str, rules: WebhookRules) -> WebhookUrl:
    """The URL of a webhook that may be called, as far as that can be told without looking its name
    up.

    Raises:
        InvalidArgument: it may not.
    """
    if len(text) > MAX_URL_CHARACTERS:
        raise _wrong(f"is over {MAX_URL_CHARACTERS} characters")
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise _wrong("is not a URL") from None
    if parts.scheme not in ("https", "http"):
        raise _wrong("must be an https URL")
    if parts.scheme == "http" and not rules.plain_http:
        raise _wrong("must be an https URL (`webhook_plain_http` allows http)")
    if parts.username is not None or parts.password is not None:
        raise _wrong("must have no user name and password: calls are signed")
    if parts.fragment or port == 0:
        raise _wrong("must have no fragment, and no port 0")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if not _TARGET.fullmatch(target):
        raise _wrong("must be percent-encoded")
    try:
        address = ip_address(host)
    except ValueError:
        if not _HOST.fullmatch(host):
            raise _wrong("has no host name") from None
    else:
        if not rules.allow(address):
            raise _wrong("is at an address that is not public (`webhook_networks` allows more)")
    return WebhookUrl(parts.scheme, host, port or _PORTS[parts.scheme], target)


def _wrong(why: str) -> InvalidArgument:
    return InvalidArgument(f"webhookUrl: {why}")

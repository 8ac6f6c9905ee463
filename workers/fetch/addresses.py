"""The address guard: which networks are never dialled, and what FETCH_ALLOW lets through all the same."""

import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, Self

from chat_api.core.errors import InvalidUrl
from workers.fetch.urls import normal_host

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# Our own table: the standard library's is_private and is_global pass several of these.
FORBIDDEN: Final[tuple[Network, ...]] = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8",  # this host
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carrier-grade NAT; Alibaba's metadata 100.100.100.200
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # Azure's platform services
        "169.254.0.0/16",  # link-local; most clouds' metadata
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments; Oracle's metadata 192.0.0.192
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
        # Global unicast is 2000::/3. The next three are all the rest: unspecified, loopback, IPv4-compatible and
        # -mapped, NAT64 (64:ff9b::/96, 64:ff9b:1::/48), discard, SRv6, unique local, link-local, site-local, multicast.
        "::/3",
        "4000::/2",
        "8000::/1",
        "2001::/23",  # protocol assignments: Teredo, benchmarks, ORCHID
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4
        "3ffe::/16",  # the former 6bone
        "3fff::/20",  # documentation
    )
)

_PORT = re.compile(r"[0-9]{1,5}")
_MAPPED, _COMPATIBLE, _NAT64 = (IPv6Network(text) for text in ("::ffff:0:0/96", "::/96", "64:ff9b::/96"))
_LOCAL_NAT64, _TEREDO, _SIX_TO_FOUR = (IPv6Network(text) for text in ("64:ff9b:1::/48", "2001::/32", "2002::/16"))


def embedded_ipv4(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that a packet to `address` ends at, where the form of `address` carries one."""
    value = int(address)
    if value <= 1:  # unspecified and loopback carry none
        return None
    if _within(address, (_MAPPED, _COMPATIBLE, _NAT64, _LOCAL_NAT64)):
        return IPv4Address(value & 0xFFFF_FFFF)
    if address in _SIX_TO_FOUR:
        return IPv4Address(value >> 80 & 0xFFFF_FFFF)
    if address in _TEREDO:
        return IPv4Address(~value & 0xFFFF_FFFF)
    return None


@dataclass(frozen=True, slots=True)
class AddressGuard:
    """Decides about addresses before they are dialled. Without entries it lets through public addresses alone."""

    hosts: frozenset[tuple[str, int]] = frozenset()
    """Names and addresses, each with the one port it is let through on."""
    networks: tuple[Network, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """The guard that FETCH_ALLOW describes: comma separated `host:port`, `address:port` or CIDR.

        Raises ValueError naming the first bad entry.
        """
        hosts, networks = set[tuple[str, int]](), list[Network]()
        for entry in filter(None, (part.strip() for part in text.split(","))):
            if "/" in entry:
                networks.append(_network(entry))
            else:
                hosts.add(_host_and_port(entry))
        return cls(frozenset(hosts), tuple(networks))

    def permits(self, host: str, port: int, addresses: Iterable[Address]) -> bool:
        """Whether `host` (as the URL has it, in its one spelling) may be dialled at these addresses, its whole answer.

        A name is let through as written in an entry, or when every one of its addresses is.
        """
        if (host, port) in self.hosts:
            return True
        answer = list(addresses)
        return bool(answer) and all(self.permits_address(address, port) for address in answer)

    def permits_address(self, address: Address, port: int) -> bool:
        """Whether `address` is public or let through, and the IPv4 address inside it, if there is one, too."""
        if (str(address), port) in self.hosts:
            return True
        if _within(address, FORBIDDEN) and not _within(address, self.networks):
            return False
        inner = embedded_ipv4(address) if isinstance(address, IPv6Address) else None
        return inner is None or self.permits_address(inner, port)


def _within(address: Address, networks: Iterable[Network]) -> bool:
    return any(address in network for network in networks)


def _network(entry: str) -> Network:
    try:
        return ip_network(entry)
    except ValueError as error:
        raise ValueError(f"FETCH_ALLOW: {entry!r} is not a network: {error}") from error


def _host_and_port(entry: str) -> tuple[str, int]:
    host, _, port = entry.rpartition(":")
    with suppress(InvalidUrl):
        if _PORT.fullmatch(port) and 0 < int(port) < 65_536:
            return normal_host(host), int(port)
    raise ValueError(f"FETCH_ALLOW: {entry!r} is neither host:port, address:port nor a CIDR network")


def parse_address(text: str) -> Address | None:
    """`text` as an address, without a zone; None when it is a name."""
    try:
        return ip_address(text.partition("%")[0])
    except ValueError:
        return None

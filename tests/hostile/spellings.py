"""Ways to write an address that must not be dialled, and addresses that must be."""

import itertools
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address

from workers.fetch.addresses import FORBIDDEN

_FORMS = ["{}", "0x{:x}", "0X00{:X}", "0{:o}", "000{:o}"]
_LOOPBACK_PARTS = [(127, 0, 0, 1), (127, 0, 1), (127, 1), (0x7F000001,)]
_ODD = [
    *("１２７.０.０.１", "⑫⑦.⓪.⓪.①", "127。0。0。1", "127.0.0.1．", "0", "0.0", "0x0", "00.0.0.0", "0.0.0.0"),
    *("[::1]", "[0:0:0:0:0:0:0:1]", "[::]", "[::127.0.0.1]", "[::ffff:127.0.0.1]", "[::FFFF:7f00:1]"),
    *("[0::ffff:0:0]", "[64:ff9b::7f00:1]", "[64:ff9b:1::7f00:1]", "[2002:7f00:1::]", "[2001::80ff:fffe]"),
]
_INSIDE = ["127.0.0.1", "10.0.0.1", "169.254.169.254", "192.168.1.1", "100.100.100.200", "168.63.129.16", "172.16.0.1"]
_PUBLIC_NETS = [1, 2, 5, 8, 9, 13, 17, 23, 31, 34, 44, 52, 62, 77, 81, 93, 104, 128, 142, 151, 163, 185, 193, 199, 212]


def loopback_hosts() -> list[str]:
    """Hosts that browsers or resolvers take for 127.0.0.1, 0.0.0.0 or ::1."""
    hosts = [
        ".".join(form.format(number) for form, number in zip(chosen, numbers, strict=True))
        for numbers in _LOOPBACK_PARTS
        for chosen in itertools.product(_FORMS, repeat=len(numbers))
    ]
    return list(dict.fromkeys([*hosts, *(f"{host}." for host in hosts[::7]), *_ODD]))


def forbidden_addresses() -> list[str]:
    """The ends and middle of every forbidden network, and IPv4 ones inside IPv6 ones."""
    found = []
    for network in FORBIDDEN:
        first, last = int(network.network_address), int(network.broadcast_address)
        kind = IPv4Address if network.version == 4 else IPv6Address
        found += [str(kind(value)) for value in (first, (first + last) // 2, last)]
    return list(
        dict.fromkeys([*found, *(str(address) for text in _INSIDE for address in _carriers(IPv4Address(text)))])
    )


def _carriers(inner: IPv4Address) -> Iterator[IPv6Address]:
    """IPv6 addresses whose packets end at `inner`: compatible, mapped, NAT64 twice, 6to4, Teredo."""
    value = int(inner)
    for text in ("::", "::ffff:0:0", "64:ff9b::", "64:ff9b:1::"):
        yield IPv6Address(int(IPv6Address(text)) | value)
    yield IPv6Address((0x2002 << 112) | (value << 80))
    yield IPv6Address((0x20010000 << 96) | (~value & 0xFFFFFFFF))


def public_urls() -> dict[str, str]:
    """Good URLs → the address that each is dialled at; names resolve to theirs by `public_answers`."""
    four = [f"{first}.{second}.7.9" for first in _PUBLIC_NETS for second in (20, 130)]
    six = [f"2606:4700::{number:x}" for number in range(1, 31)]
    literal = {f"http://{address}/a": address for address in four} | {
        f"https://[{address}]/": address for address in six
    }
    odd = {
        f"http://{int(IPv4Address(address))}/": address for address in four[::5]
    } | {f"http://{hex(int(IPv4Address(address)))}:8080/": address for address in four[1::5]}  # fmt: skip
    return literal | odd | {f"https://{name}/": answer for name, answer in public_answers().items()}


def public_answers() -> dict[str, str]:
    """Names → the public address that they resolve to."""
    return {f"shop{number}.example.com": f"{net}.99.1.{number + 1}" for number, net in enumerate(_PUBLIC_NETS)} | {
        f"xn--bcher-{number}kva.example": f"2a00:1450:4001::{number + 1:x}" for number in range(10)
    }

"""The address guard's table, network by network, and what FETCH_ALLOW changes in it."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.fetch.addresses import FORBIDDEN, AddressGuard

FORBIDDEN_ADDRESSES = """
0.0.0.0 0.255.255.255 10.0.0.0 10.255.255.255 100.64.0.0 100.100.100.200 100.127.255.255 127.0.0.1 127.255.255.254
168.63.129.16 169.254.0.0 169.254.169.254 169.254.170.2 172.16.0.0 172.31.255.255 192.0.0.0 192.0.0.192 192.0.0.255
192.0.2.1 192.88.99.1 192.168.0.0 192.168.255.255 198.18.0.0 198.19.255.255 198.51.100.7 203.0.113.9 224.0.0.1
239.255.255.255 240.0.0.1 255.255.255.255
:: ::1 ::7f00:1 ::808:808 ::ffff:127.0.0.1 ::ffff:8.8.8.8 ::ffff:0:7f00:1 64:ff9b::7f00:1 64:ff9b::808:808
64:ff9b:1::a00:1 64:ff9b:1:ffff::1 100::1 100:0:0:1::1 5f00::1 2001::1 2001:0:4136:e378:8000:63bf:3fff:fdd2 2001:2::1
2001:10::1 2001:20::1 2001:30::1 2001:db8::1 2002:7f00:1:: 2002:808:808::1 3ffe::1 3fff::1 4000::1 8000::1 fc00::1
fd00:ec2::254 fd20:ce::254 fe80::1 fe80::a9fe:a9fe fec0::1 ff02::1 ff0e::1
ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff
"""

PUBLIC_ADDRESSES = """
1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0 168.63.129.15 168.63.129.17
169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0 192.0.1.0 192.0.3.0 192.88.98.255 192.167.255.255 192.169.0.0
198.17.255.255 198.20.0.0 198.51.99.255 203.0.112.255 223.255.255.255
2001:200::1 2001:4860:4860::8888 2003::1 2606:4700::1111 2a00:1450:4001::1 3ff0::1 3ffd::1
"""


@pytest.mark.parametrize("address", FORBIDDEN_ADDRESSES.split())
def test_private_and_reserved_addresses_are_forbidden(address: str) -> None:
    assert not AddressGuard().permits("example.com", 80, [ip_address(address)])


@pytest.mark.parametrize("address", PUBLIC_ADDRESSES.split())
def test_public_addresses_are_not(address: str) -> None:
    assert AddressGuard().permits("example.com", 80, [ip_address(address)])


@pytest.mark.parametrize("network", FORBIDDEN, ids=str)
def test_a_forbidden_network_is_forbidden_to_its_edges(network: str) -> None:
    edges = ip_network(network)
    assert not AddressGuard().permits_address(edges[0], 80)
    assert not AddressGuard().permits_address(edges[-1], 80)


@given(st.ip_addresses())
def test_nothing_that_the_standard_library_knows_to_be_special_is_let_through(
    address: IPv4Address | IPv6Address,
) -> None:
    if not address.is_global or address.is_multicast or address.is_reserved:
        assert not AddressGuard().permits_address(address, 443)


def test_one_forbidden_answer_forbids_the_name() -> None:
    guard = AddressGuard()
    assert not guard.permits("example.com", 80, [ip_address("1.1.1.1"), ip_address("127.0.0.1")])
    assert not guard.permits("example.com", 80, [])


@pytest.mark.parametrize(
    ("allow", "host", "port", "addresses", "permitted"),
    [
        ("intranet:8080", "intranet", 8080, ["10.0.0.1"], True),
        ("Intranet.:8080", "intranet", 8080, ["10.0.0.1"], True),
        ("intranet:8080", "intranet", 80, ["10.0.0.1"], False),
        ("intranet:8080", "other", 8080, ["10.0.0.1"], False),
        ("intranet:8080", "10.0.0.1", 8080, ["10.0.0.1"], False),
        ("10.0.0.1:8080", "10.0.0.1", 8080, ["10.0.0.1"], True),
        ("0x0a.1:8080", "10.0.0.1", 8080, ["10.0.0.1"], True),
        ("10.0.0.1:8080", "10.0.0.1", 8081, ["10.0.0.1"], False),
        ("10.0.0.1:8080", "intranet", 8080, ["10.0.0.1"], True),
        ("10.0.0.1:8080", "intranet", 8080, ["10.0.0.1", "10.0.0.2"], False),
        ("10.0.0.1:8080", "intranet", 8080, ["10.0.0.1", "1.1.1.1"], True),
        ("10.0.0.0/24", "intranet", 8080, ["10.0.0.1", "10.0.0.2"], True),
        ("10.0.0.0/24", "intranet", 8080, ["10.0.1.1"], False),
        ("10.0.0.0/24 , 10.0.1.1:80", "intranet", 80, ["10.0.0.1", "10.0.1.1"], True),
        ("10.0.0.0/24", "x", 80, ["::ffff:10.0.0.1"], False),
        ("[fd00::1]:80", "fd00::1", 80, ["fd00::1"], True),
        ("[FD00:0::1]:80", "intranet", 80, ["fd00::1"], True),
        ("fd00::/8", "intranet", 80, ["fd00::1"], True),
        ("::1/128", "localhost", 80, ["::1"], True),
        ("64:ff9b::/96", "x", 80, ["64:ff9b::808:808"], True),
        ("64:ff9b::/96", "x", 80, ["64:ff9b::7f00:1"], False),
        ("64:ff9b::/96,127.0.0.0/8", "x", 80, ["64:ff9b::7f00:1"], True),
        ("2002::/16", "x", 80, ["2002:a00:1::"], False),
        ("2002::/16", "x", 80, ["2002:808:808::"], True),
        ("2001::/32", "x", 80, ["2001:0:1:2:3:4:f5ff:fffe"], False),
        ("2001::/32", "x", 80, ["2001:0:1:2:3:4:f7f7:f7f7"], True),
        ("::/0", "x", 80, ["::ffff:169.254.169.254"], False),
        ("0.0.0.0/0", "x", 80, ["169.254.169.254"], True),
        ("", "localhost", 80, ["127.0.0.1"], False),
    ],
)
def test_fetch_allow(allow: str, host: str, port: int, addresses: list[str], permitted: bool) -> None:
    answer = [ip_address(address) for address in addresses]
    assert AddressGuard.parse(allow).permits(host, port, answer) is permitted


@pytest.mark.parametrize(
    "entry",
    [
        "intranet", "10.0.0.1", "intranet:", ":80", "intranet:0", "intranet:65536", "intranet:http", "intra net:80",
        "http://intranet:80", "10.0.0.1/8", "10.0.0.0/33", "intranet/24", "fd00::1", "[fd00::1]", "user@intranet:80",
    ],
)  # fmt: skip
def test_a_bad_entry_is_named(entry: str) -> None:
    with pytest.raises(ValueError) as problem:
        AddressGuard.parse(f"10.0.0.0/8,{entry}")
    assert repr(entry) in str(problem.value)
    assert "FETCH_ALLOW" in str(problem.value)

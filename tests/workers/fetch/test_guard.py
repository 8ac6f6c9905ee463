"""No forbidden address is ever dialled, however it is spelled and whichever way leads there: listeners count connects."""

import itertools
import socket
from collections import Counter
from collections.abc import Iterator, Sequence

import pytest

from chat_api.core.errors import BlockedAddress, FetchFailed, InvalidUrl
from tests.hostile.spellings import loopback_hosts
from tests.workers.fetch.loopback import Site, client_of, redirect, reply, serving

EVERYTHING = "0.0.0.0/0,::/0"


LOOPBACK = loopback_hosts()


@pytest.fixture
def sentinels() -> Iterator[list[Site]]:
    """Listeners on 127.0.0.1 and, where there is IPv6, on ::1, that nobody may reach."""
    with serving({"/": reply(b"secret")}) as four:
        if not socket.has_dualstack_ipv6():
            yield [four]
            return
        with serving({"/": reply(b"secret")}, family=socket.AF_INET6) as six:
            yield [four, six]


def outcomes(urls: Sequence[str], door: Site | None = None, allow: str = "") -> Counter[str]:
    """What becomes of each address, asked for directly or behind a redirect of `door`."""
    found: Counter[str] = Counter()
    with client_of(*([door] if door else []), allow=allow) as client:
        for number, url in enumerate(urls):
            if door:
                door.pages[f"/{number}"] = redirect(url)
            try:
                client.get(door.url(f"/{number}") if door else url)
                found["reached"] += 1
            except (BlockedAddress, InvalidUrl) as error:
                found[error.code] += 1
    return found


def test_no_spelling_of_loopback_is_dialled(sentinels: list[Site]) -> None:
    urls = [f"http://{host}:{site.port}/" for host in LOOPBACK for site in sentinels]
    assert len(urls) >= 800
    assert set(outcomes(urls)) <= {"blocked_address", "invalid_url"}
    assert [site.connects for site in sentinels] == [0] * len(sentinels)


def test_no_redirect_leads_to_loopback(sentinels: list[Site]) -> None:
    urls = [f"http://{host}:{site.port}/" for host in LOOPBACK[::3] for site in sentinels]
    with serving() as door:
        found = outcomes(urls, door)
    assert set(found) <= {"blocked_address", "invalid_url"}
    assert found["blocked_address"] > 200
    assert [site.connects for site in sentinels] == [0] * len(sentinels)


def test_without_the_guard_the_same_spellings_reach_the_listeners(sentinels: list[Site]) -> None:
    urls = [f"http://{host}:{sentinels[0].port}/" for host in LOOPBACK[::40]]
    assert outcomes(urls, allow=EVERYTHING)["reached"] == len(urls) == len(sentinels[0].requests)
    assert sentinels[0].connects > 0


FORBIDDEN_ANSWERS = [
    ["127.0.0.1"],
    ["0.0.0.0"],
    ["10.0.0.1"],
    ["169.254.169.254"],
    ["::1"],
    ["::ffff:127.0.0.1"],
    ["64:ff9b::7f00:1"],
    ["fe80::1%lo"],
    ["1.1.1.1", "127.0.0.1"],
    ["2606:4700::1111", "::1"],
    ["not an address"],
    ["1.1.1.1", "also none"],
]


@pytest.mark.parametrize("answer", FORBIDDEN_ANSWERS, ids=" ".join)
def test_no_name_leads_to_a_forbidden_address(answer: list[str], sentinels: list[Site]) -> None:
    with client_of(resolve=lambda host, port: answer) as client:
        for site in sentinels:
            with pytest.raises(BlockedAddress) as blocked:
                client.get(site.url(host="www.example.com"))
            assert "www.example.com" in blocked.value.message
            assert answer[0] not in blocked.value.message
    assert [site.connects for site in sentinels] == [0] * len(sentinels)


class Rebinding:
    """A resolver that says one thing first and another from then on."""

    def __init__(self, first: str, then: str) -> None:
        self._answers = itertools.chain([first], itertools.repeat(then))
        self.asked = 0

    def __call__(self, host: str, port: int) -> list[str]:
        self.asked += 1
        return [next(self._answers)]


def test_a_name_is_resolved_once_and_that_very_address_is_dialled() -> None:
    resolve = Rebinding("127.0.0.1", "127.0.0.2")
    with serving({"/": reply(b"page")}) as site, client_of(site, resolve=resolve) as client:
        assert client.get(site.url(host="www.example.com")).body == b"page"
        assert (resolve.asked, site.connects) == (1, 1)


def test_a_name_that_changes_its_mind_between_two_connections_is_blocked() -> None:
    resolve = Rebinding("127.0.0.1", "127.0.0.2")
    with serving({"/": reply(b"page", Connection="close")}) as site, client_of(site, resolve=resolve) as client:
        assert client.get(site.url(host="www.example.com")).body == b"page"
        with pytest.raises(BlockedAddress):
            client.get(site.url(host="www.example.com"))
        assert (resolve.asked, site.connects) == (2, 1)


def test_a_peer_that_is_not_the_address_that_was_dialled_is_blocked() -> None:
    with serving({"/": reply(b"page")}) as site:

        def astray(address: tuple[str, int], seconds: float) -> socket.socket:
            return socket.create_connection(("127.0.0.1", site.port), seconds)

        with client_of(connect=astray) as client, pytest.raises(BlockedAddress):
            client.get("http://1.1.1.1/")
        assert site.requests == []


def test_public_names_and_addresses_are_dialled_at_the_address_they_resolve_to() -> None:
    dialled: list[tuple[str, int]] = []

    def record(address: tuple[str, int], seconds: float) -> socket.socket:
        dialled.append(address)
        raise ConnectionRefusedError(111, "Connection refused")

    answers = ["1.1.1.1", "2606:4700::1111"]
    with client_of(connect=record, resolve=lambda host, port: answers) as client:
        for url in ("http://www.example.com/", "https://8.8.8.8/", "http://[2001:4860:4860::8888]:8080/"):
            with pytest.raises(FetchFailed):
                client.get(url)
    assert dialled == [("1.1.1.1", 80), ("2606:4700::1111", 80), ("8.8.8.8", 443), ("2001:4860:4860::8888", 8080)]


def test_an_allowed_port_does_not_open_its_neighbours(sentinels: list[Site]) -> None:
    with serving({"/": reply(b"page")}) as site, client_of(site) as client:
        assert client.get(site.url()).body == b"page"
        with pytest.raises(BlockedAddress):
            client.get(sentinels[0].url())
    assert sentinels[0].connects == 0


def test_a_name_is_let_through_as_written() -> None:
    with serving({"/": reply(b"page")}) as site, client_of(
        allow=f"intranet.example:{site.port}", resolve=lambda host, port: ["127.0.0.1"]
    ) as client:  # fmt: skip
        assert client.get(site.url(host="intranet.example")).body == b"page"
        for url in (site.url(host="other.example"), site.url()):
            with pytest.raises(BlockedAddress):
                client.get(url)

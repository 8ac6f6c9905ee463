"""Forbidden addresses by every road that leads out: `python -m tests.hostile.addresses` prints who was dialled."""

import contextlib
import itertools
import socket
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from chat_api.core.errors import FetchFailed, ServiceError
from tests.hostile.spellings import forbidden_addresses, loopback_hosts, public_answers, public_urls
from tests.workers.fetch.loopback import HASTY, SHORT, Site, client_of, redirect, reply, serving
from workers.fetch.addresses import AddressGuard
from workers.fetch.client import SafeClient
from workers.fetch.crawl import Frontier
from workers.fetch.limits import Exchange
from workers.fetch.network import GuardedBackend, Resolver, system_resolver
from workers.fetch.proxy import GuardedProxy
from workers.fetch.robots import Robots
from workers.fetch.scope import Scope
from workers.fetch.sitemap import read_sitemaps

NOBODY_ALLOWED, EVERYBODY_ALLOWED = "", "0.0.0.0/0,::/0"
NAME = "www.example.com"


@dataclass(slots=True)
class Sentinels:
    """Listeners on loopback that nobody may reach, and a record of every other address that would have been dialled."""

    sites: list[Site]
    door: Site
    """A server that may be reached, and leads elsewhere."""
    dialled: list[tuple[str, int]] = field(default_factory=list)

    def connect(self, address: tuple[str, int], seconds: float) -> socket.socket:
        """Dials whom the listeners may hear; all else is only recorded."""
        ports = {self.door.port, *(site.port for site in self.sites)}
        if address[0] in {"127.0.0.1", "::1"} and address[1] in ports:
            return socket.create_connection(address, seconds)
        self.dialled.append(address)
        raise ConnectionRefusedError(111, "Connection refused")

    @property
    def reached(self) -> int:
        """Connects that the listeners have counted, and dials that went elsewhere."""
        return sum(site.connects for site in self.sites) + len(self.dialled)

    def client(self, allow: str, resolve: Resolver = system_resolver) -> SafeClient:
        """The client as workers have it, under this guard."""
        return client_of(self.door, limits=SHORT, allow=allow, resolve=resolve, connect=self.connect)

    def urls(self, hosts: Sequence[str]) -> list[str]:
        """An address on each listener for every host."""
        return [f"http://{host}:{site.port}/" for host in hosts for site in self.sites]

    def port_for(self, address: str) -> int:
        """The port of the listener that a dial to this address would reach, if any."""
        return self.sites[-1 if ":" in address else 0].port


@contextlib.contextmanager
def sentinels() -> Iterator[Sentinels]:
    """Listeners on 127.0.0.1 and, where there is IPv6, on ::1."""
    with contextlib.ExitStack() as stack:
        sites = [stack.enter_context(serving({"/": reply(b"secret")}))]
        if socket.has_dualstack_ipv6():
            sites.append(stack.enter_context(serving({"/": reply(b"secret")}, family=socket.AF_INET6)))
        yield Sentinels(sites, stack.enter_context(serving()))


Outcomes = Counter[str]
Road = Callable[[Sentinels, str, int], Outcomes]
"""(listeners, FETCH_ALLOW, take every n-th vector) → how many vectors ended how."""


def _code(call: Callable[..., object], *arguments: object) -> str:
    try:
        call(*arguments)
    except ServiceError as error:
        return error.code
    return "reached"


def directly(world: Sentinels, allow: str, every: int) -> Outcomes:
    """The address itself."""
    with world.client(allow) as client:
        return Counter(_code(client.get, url) for url in world.urls(loopback_hosts()[::every]))


def by_redirect(world: Sentinels, allow: str, every: int) -> Outcomes:
    """A good server that redirects there."""

    def ask(client: SafeClient, number: int, url: str) -> str:
        world.door.pages[f"/{number}"] = redirect(url)
        return _code(lambda: client.get(world.door.url(f"/{number}")))

    with world.client(allow) as client:
        return Counter(ask(client, *found) for found in enumerate(world.urls(loopback_hosts()[::every])))


def by_second_redirect(world: Sentinels, allow: str, every: int) -> Outcomes:
    """A good server that redirects to itself first."""
    world.door.pages["/first"] = redirect("/second")

    def ask(client: SafeClient, url: str) -> str:
        world.door.pages["/second"] = redirect(url, "307 Temporary Redirect")
        return _code(lambda: client.get(world.door.url("/first")))

    with world.client(allow) as client:
        return Counter(ask(client, url) for url in world.urls(loopback_hosts()[:: 3 * every]))


def by_name(world: Sentinels, allow: str, every: int) -> Outcomes:
    """A name with one A or AAAA record."""
    return _resolved(world, allow, [[address] for address in forbidden_addresses()[::every]])


def by_name_among_good_ones(world: Sentinels, allow: str, every: int) -> Outcomes:
    """A name with good records and, before or behind them, a forbidden one."""
    good = ["93.184.215.14", "2606:2800:21f:cb07::1"]
    addresses = forbidden_addresses()[::every]
    return _resolved(
        world, allow, [[address, *good] for address in addresses] + [[*good, address] for address in addresses]
    )


def by_rebinding(world: Sentinels, allow: str, every: int) -> Outcomes:
    """A name that is good when it is first asked for, and forbidden at the next connection."""

    def ask(address: str) -> str:
        answers = itertools.chain([["127.0.0.1"]], itertools.repeat([address]))
        with world.client(allow, lambda _host, _port: next(answers)) as client:
            if client.get(world.door.url("/", NAME)).body != b"page":
                raise RuntimeError("the good server was not reached")
            return _code(lambda: client.get(f"http://{NAME}:{world.port_for(address)}/"))

    world.door.pages["/"] = reply(b"page", Connection="close")
    return Counter(map(ask, forbidden_addresses()[::every]))


def _resolved(world: Sentinels, allow: str, answers: Sequence[Sequence[str]]) -> Outcomes:
    def ask(answer: Sequence[str]) -> str:
        with world.client(allow, lambda _host, _port: answer) as client:
            return _code(lambda: client.get(f"http://{NAME}:{world.port_for(answer[0])}/"))

    return Counter(map(ask, answers))


def by_robots(world: Sentinels, allow: str, every: int) -> Outcomes:
    """A robots.txt that redirects there."""

    def ask(client: SafeClient, url: str) -> str:
        world.door.pages["/robots.txt"] = redirect(url)
        return _code(lambda: Robots(client).check(world.door.url("/")))

    with world.client(allow) as client:
        found = Counter(ask(client, url) for url in world.urls(loopback_hosts()[:: 3 * every]))
    del world.door.pages["/robots.txt"]
    return found


def by_sitemap(world: Sentinels, allow: str, every: int) -> Outcomes:
    """A sitemap that lists it as another sitemap, and one that redirects there."""
    found = Outcomes()
    with world.client(allow) as client:
        for url in world.urls(loopback_hosts()[:: 6 * every]):
            listed = f"<sitemapindex><sitemap><loc>{url}</loc></sitemap></sitemapindex>"
            world.door.pages["/s.xml"] = reply(listed.encode())
            listing = read_sitemaps(client, [world.door.url("/s.xml")])
            found["other_host" if url not in listing.pages else "reached"] += 1
            world.door.pages["/s.xml"] = redirect(url)
            found[_code(lambda: read_sitemaps(client, [world.door.url("/s.xml")]))] += 1
    return found


def by_link(world: Sentinels, allow: str, every: int) -> Outcomes:
    """A page that links there, or names it as its canonical or its other language: all three are links to a crawl."""
    found = Outcomes()
    with world.client(allow) as client:
        robots = Robots(client)
        for url in world.urls(loopback_hosts()[:: 3 * every]):
            frontier = Frontier(world.door.url("/"), Scope(), robots.allows)
            frontier.add([url], 1)
            visit = frontier.next()
            found[_code(client.get, visit.url) if visit else next(iter(frontier.skipped.values()))] += 1
    return found


def by_rendering(world: Sentinels, allow: str, every: int) -> Outcomes:
    """What a rendered page's scripts ask for: the browser's only way out is the proxy."""
    hosts = loopback_hosts()[:: 3 * every]
    found = Outcomes()
    for form in (b"CONNECT %s:%d HTTP/1.1\r\n\r\n", b"GET http://%s:%d/ HTTP/1.1\r\nHost: x\r\n\r\n"):
        for host in hosts:
            for site in world.sites:
                found[_through_proxy(world, allow, form % (host.encode(), site.port))] += 1
    return found


def _through_proxy(world: Sentinels, allow: str, request: bytes) -> str:
    listener = socket.create_server(("127.0.0.1", 0))
    guard = AddressGuard.parse(allow)
    backend = GuardedBackend(guard, HASTY, system_resolver, world.connect)
    exchange = Exchange(SHORT, SHORT.max_bytes, "127.0.0.1")
    with GuardedProxy(listener, backend, exchange), socket.create_connection(listener.getsockname(), 5) as browser:
        browser.sendall(request)
        with contextlib.suppress(ConnectionResetError):
            answer = browser.recv(64)
            return "reached" if answer.startswith(b"HTTP/1.1 200") else "refused"
    return "refused"


ROADS: dict[str, Road] = {
    "direct": directly,
    "redirect": by_redirect,
    "second redirect": by_second_redirect,
    "A or AAAA record": by_name,
    "record among good ones": by_name_among_good_ones,
    "rebinding": by_rebinding,
    "robots.txt": by_robots,
    "sitemap": by_sitemap,
    "link": by_link,
    "rendered page": by_rendering,
}


def travel(road: Road, allow: str = NOBODY_ALLOWED, every: int = 1) -> tuple[Outcomes, int]:
    """How the vectors of one road ended, and how many connects they made."""
    with sentinels() as world:
        return road(world, allow, every), world.reached


def good_ones() -> tuple[int, int]:
    """Good URLs, and how many of them are dialled at their very address."""
    dialled: list[str] = []

    def record(address: tuple[str, int], _seconds: float) -> socket.socket:
        dialled.append(address[0])
        raise ConnectionRefusedError(111, "Connection refused")

    urls, answers = public_urls(), public_answers()
    passed = 0
    with client_of(connect=record, resolve=lambda host, _port: [answers[host]]) as client:
        for url, address in urls.items():
            dialled.clear()
            with contextlib.suppress(FetchFailed):
                client.get(url)
            passed += dialled == [address]
    return len(urls), passed


def main(arguments: Sequence[str]) -> int:
    """Prints the table; 0 when no forbidden address was dialled and every good one was."""
    every = int(arguments[0]) if arguments else 1
    vectors, connects = 0, 0
    print(f"{'road':<24}{'vectors':>8}{'connects':>10}  outcomes")
    for name, road in ROADS.items():
        found, reached = travel(road, every=every)
        vectors, connects = vectors + found.total(), connects + reached
        print(
            f"{name:<24}{found.total():>8,}{reached:>10}  {', '.join(f'{code} {n}' for code, n in found.most_common())}"
        )
    tried, passed = good_ones()
    opened = {name: travel(road, EVERYBODY_ALLOWED, 40)[1] for name, road in ROADS.items()}
    print(f"{'all':<24}{vectors:>8,}{connects:>10}")
    print(f"good URLs dialled at their address: {passed} of {tried}")
    print(f"without the guard, every 40th vector: {', '.join(f'{name} {n}' for name, n in opened.items())} connects")
    return int(connects > 0 or passed < tried)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Pages that need their JavaScript, in a real browser; what it must not reach is counted by who listens there."""

import contextlib
import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from threading import Event, Thread
from urllib.parse import urlsplit

import pytest

from chat_api.core.errors import BlockedAddress, FetchTimeout, NeedsRendering
from tests.workers.fetch.loopback import Script, Site, redirect, reply
from workers.fetch.addresses import AddressGuard
from workers.fetch.limits import FetchLimits
from workers.fetch.render import Renderer, find_browser

SHELL = "<!doctype html><title>Shop</title><div id=app></div><script>{script}</script>"
SHOWS = "document.getElementById('app').textContent = {text};"
LIMITS = FetchLimits(timeout_s=30, max_bytes=2_000_000)

pytestmark = pytest.mark.skipif(
    find_browser() is None and not os.environ.get("REQUIRE_BROWSER"), reason="no Chromium is installed"
)


def page(script: str) -> bytes:
    return reply(SHELL.format(script=script).encode(), Content_Type="text/html")


def renderer(*sites: Site, limits: FetchLimits = LIMITS) -> Renderer:
    allowed = ",".join(f"127.0.0.1:{site.port}" for site in sites)
    return Renderer(AddressGuard.parse(allowed), limits, find_browser() or "chromium")


@pytest.fixture
def site() -> Iterator[Site]:
    with contextlib.closing(Site()) as started:
        yield started


@pytest.fixture
def forbidden() -> Iterator[Site]:
    with contextlib.closing(Site({"/secret": reply(b"metadata", Access_Control_Allow_Origin="*")})) as started:
        yield started


@contextlib.contextmanager
def udp_listener() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.setblocking(False)
        yield listener


def browsers_of(home: str) -> list[str]:
    found = subprocess.run(["pgrep", "-f", home], capture_output=True, text=True, check=False)
    return found.stdout.split()


def test_what_scripts_bring_is_in_the_page(site: Site) -> None:
    site.pages["/"] = page("setTimeout(() => fetch('/data').then(r => r.text()).then(t => {" + SHOWS.format(text="t") + "}), 3000)")  # fmt: skip
    site.pages["/data"] = reply("Geöffnet bis 18 Uhr".encode(), Content_Type="text/plain; charset=utf-8")
    fetched = renderer(site).render(site.url())
    assert "Geöffnet bis 18 Uhr" in fetched.body.decode()
    assert (fetched.url, fetched.status, fetched.media_type) == (site.url(), 200, "text/html")


ATTEMPTS = """
    const there = '{authority}', udp = '{udp}';
    fetch('http://' + there + '/secret').catch(() => 0);
    fetch('http://localhost:{port}/secret', {{mode: 'no-cors'}}).catch(() => 0);
    fetch('http://[::1]:{port}/secret', {{mode: 'no-cors'}}).catch(() => 0);
    fetch('http://[::ffff:127.0.0.1]:{port}/secret', {{mode: 'no-cors'}}).catch(() => 0);
    fetch('http://2130706433:{port}/secret', {{mode: 'no-cors'}}).catch(() => 0);
    fetch('http://0x7f.1:{port}/secret', {{mode: 'no-cors'}}).catch(() => 0);
    fetch('https://' + there + '/secret', {{mode: 'no-cors'}}).catch(() => 0);
    fetch('/moved', {{mode: 'no-cors'}}).catch(() => 0);
    navigator.sendBeacon('http://' + there + '/secret', 'x');
    new Image().src = 'http://' + there + '/secret';
    for (const [tag, name] of [['iframe', 'src'], ['link', 'href'], ['script', 'src'], ['object', 'data']]) {{
        const element = document.createElement(tag);
        element.rel = 'preconnect';
        element[name] = 'http://' + there + '/secret';
        document.body.append(element);
    }}
    try {{ new WebSocket('ws://' + there + '/secret'); }} catch (error) {{}}
    try {{ new EventSource('http://' + there + '/secret'); }} catch (error) {{}}
    try {{ new Worker('http://' + there + '/secret'); }} catch (error) {{}}
    try {{
        const peer = new RTCPeerConnection({{iceServers: [
            {{urls: 'stun:' + udp}}, {{urls: 'turn:' + udp, username: 'a', credential: 'b'}},
            {{urls: 'turn:' + there + '?transport=tcp', username: 'a', credential: 'b'}}]}});
        peer.createDataChannel('x');
        peer.createOffer().then(offer => peer.setLocalDescription(offer));
    }} catch (error) {{}}
    const file = document.createElement('iframe');
    file.src = 'file:///etc/passwd';
    document.body.append(file);
    setTimeout(() => {{ document.getElementById('app').textContent = 'tried it all'; }}, 4000);
"""


def test_a_page_reaches_nothing_that_the_guard_forbids(site: Site, forbidden: Site) -> None:
    with udp_listener() as udp:
        authority = f"127.0.0.1:{forbidden.port}"
        script = ATTEMPTS.format(authority=authority, port=forbidden.port, udp=f"127.0.0.1:{udp.getsockname()[1]}")
        site.pages["/"] = page(script)
        site.pages["/moved"] = redirect(f"http://{authority}/secret")
        fetched = renderer(site).render(site.url())
        assert b"tried it all" in fetched.body
        assert forbidden.connects == 0
        with pytest.raises(BlockingIOError):
            udp.recv(100)
    assert any(b"/moved" in request for request in site.requests), "the page did not try"


def test_the_same_attempts_arrive_where_they_are_allowed(site: Site, forbidden: Site) -> None:
    site.pages["/"] = page(
        ATTEMPTS.format(authority=f"127.0.0.1:{forbidden.port}", port=forbidden.port, udp="127.0.0.1:9")
    )
    renderer(site, forbidden).render(site.url())
    assert forbidden.connects > 3


def test_the_page_itself_must_be_allowed(forbidden: Site) -> None:
    with pytest.raises(BlockedAddress):
        renderer().render(forbidden.url("/secret"))
    assert forbidden.connects == 0


def drip(connection: socket.socket, over: Event) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<p>")
    while not over.wait(0.05):
        connection.sendall(b"x" * 4_000)


def silent(_connection: socket.socket, over: Event) -> None:
    over.wait(60)


@pytest.mark.parametrize("script", ["while (true) {}", "fetch('/slow')", ""], ids=["busy", "waiting", "dripping"])
def test_a_page_that_never_ends_is_given_up(site: Site, script: str) -> None:
    answers: Script | bytes = page(script) if script else drip
    site.pages["/"] = answers
    site.pages["/slow"] = silent
    began = time.monotonic()
    with contextlib.suppress(FetchTimeout):
        renderer(site, limits=FetchLimits(timeout_s=5, max_bytes=2_000_000)).render(site.url())
    assert time.monotonic() - began < 20


def endless(connection: socket.socket, over: Event) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nAccess-Control-Allow-Origin: *\r\n\r\n")
    with contextlib.suppress(OSError):
        while not over.is_set():
            connection.sendall(bytes(1 << 16))


def test_bytes_are_bounded(site: Site) -> None:
    site.pages["/"] = page(
        "fetch('/endless').then(r => r.arrayBuffer()).then(b => {" + SHOWS.format(text="b.byteLength + ' bytes'") + "})"
    )
    site.pages["/endless"] = endless
    fetched = renderer(site, limits=FetchLimits(timeout_s=20, max_bytes=300_000)).render(site.url())
    received = re.search(rb">(\d+) bytes</div>", fetched.body)
    assert received
    assert 300_000 < int(received[1]) < 1_000_000


def test_whoever_stops_leaves_no_browser_behind(site: Site) -> None:
    site.pages["/"] = page("while (true) {}")

    class StoppedError(Exception):
        pass

    asked: list[float] = []

    def check() -> None:
        asked.append(time.monotonic())
        if site.connects:
            raise StoppedError

    with pytest.raises(StoppedError):
        renderer(site).render(site.url(), check=check)
    until = time.monotonic() + 10
    while browsers_of(f"proxy-server=http://127.0.0.1.*{urlsplit(site.url()).netloc}") and time.monotonic() < until:
        time.sleep(0.05)
    assert browsers_of(f"proxy-server=http://127.0.0.1.*{urlsplit(site.url()).netloc}") == []
    assert asked


def test_without_a_browser_that_starts_the_page_still_needs_rendering(site: Site) -> None:
    site.pages["/"] = page("")
    broken = Renderer(AddressGuard.parse(f"127.0.0.1:{site.port}"), LIMITS, "/bin/false")
    with pytest.raises(NeedsRendering):
        broken.render(site.url())


def test_two_at_once_take_turns(site: Site) -> None:
    site.pages["/"] = page(SHOWS.format(text="'here'"))
    shared, bodies = renderer(site), list[bytes]()
    threads = [Thread(target=lambda: bodies.append(shared.render(site.url()).body)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [b"here" in body for body in bodies] == [True, True]

"""Renders pages that are empty until their JavaScript runs: a fresh browser in a network where only our proxy is."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock, Thread
from typing import IO, Final

from chat_api.core.errors import FetchFailed, NeedsRendering, TooLarge
from workers.documents import Fetched
from workers.fetch import isolate
from workers.fetch.addresses import AddressGuard
from workers.fetch.limits import Exchange, FetchLimits
from workers.fetch.network import Connect, GuardedBackend, Resolver, system_resolver
from workers.fetch.proxy import GuardedProxy
from workers.fetch.urls import parse_url

BROWSERS: Final = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
NOBODY: Final = 65534
SCRIPTS_MS: Final = 10_000
"""Of the page's own clock, which runs on as fast as nothing is loading."""
START_WITHIN_S: Final = 10.0
TICK_S: Final = 0.2
NO_BROWSER: Final = "The page is empty until its JavaScript runs, and the browser for that did not start here."
_NO_PAGE: Final = b'id="main-frame-error"'
_FLAGS: Final = (
    *("--headless", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--no-default-browser-check"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-default-apps"),
    *("--disable-extensions", "--disable-quic", "--disable-remote-fonts", "--disable-notifications", "--mute-audio"),
    # Loopback, too, goes through the proxy: in the browser's own network there is nothing else.
    *("--proxy-server=http://127.0.0.1:{port}", "--proxy-bypass-list=<-loopback>"),
    *("--blink-settings=imagesEnabled=false", "--js-flags=--max-old-space-size=512"),
    *(f"--virtual-time-budget={SCRIPTS_MS}", "--dump-dom"),
)


@dataclass(frozen=True, slots=True)
class Renderer:
    """Runs one browser at a time, each with a profile of its own that is gone afterwards."""

    guard: AddressGuard
    limits: FetchLimits
    browser: str
    sandbox: bool = True
    """The browser's own, which needs user namespaces; it is not run without one unless the operator says so."""
    resolve: Resolver = system_resolver
    connect: Connect = socket.create_connection

    def render(self, url: str, *, check: Callable[[], None] | None = None) -> Fetched:
        """The page's HTML after its scripts ran; `check` is asked while they do, and may raise to stop.

        Raises NeedsRendering when the browser does not work here, FetchTimeout, FetchFailed, TooLarge, and what the
        guard says of the page's own host.
        """
        start = parse_url(url)
        exchange = Exchange(self.limits, self.limits.max_bytes, start.host)
        backend = GuardedBackend(self.guard, self.limits, self.resolve, self.connect)
        with (
            _ONE_AT_A_TIME,
            tempfile.TemporaryDirectory(prefix="render-", ignore_cleanup_errors=True) as home,
            self._started(Path(home), str(start)) as (process, listener),
            GuardedProxy(listener, backend, exchange) as proxy,
        ):
            html = _output(process, exchange, check)
            if error := proxy.refused.get((start.host, start.port)):
                raise error
        if not html.strip():
            raise NeedsRendering(NO_BROWSER)
        if _NO_PAGE in html:
            raise FetchFailed
        return Fetched(str(start), 200, html, "text/html", "utf-8", fetched_at=datetime.now(UTC))

    @contextlib.contextmanager
    def _started(self, home: Path, url: str) -> Iterator[tuple[subprocess.Popen[bytes], socket.socket]]:
        """The browser at work, and the listener that is all it can reach. Raises NeedsRendering when it can't start."""
        if os.geteuid() == 0:
            os.chown(home, NOBODY, NOBODY)
        flags = [*_FLAGS, f"--user-data-dir={home / 'profile'}", *([] if self.sandbox else ["--no-sandbox"])]
        ours, its = socket.socketpair()
        with ours, its:
            process = subprocess.Popen(
                [sys.executable, "-I", isolate.__file__, str(its.fileno()), self.browser, *flags, url],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd=home,
                env={"HOME": str(home), "TMPDIR": str(home), "PATH": os.defpath, "LANG": "C.UTF-8"},
                pass_fds=[its.fileno()],
                start_new_session=True,
            )
            its.close()
            try:
                yield process, _listener(ours)
            finally:
                _kill_group(process)


def find_browser() -> str | None:
    """The path of a Chromium that is installed here."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


_ONE_AT_A_TIME: Final = Lock()


def _listener(ours: socket.socket) -> socket.socket:
    """What the child has opened in its network. Raises NeedsRendering when it has none."""
    ours.settimeout(START_WITHIN_S)
    try:
        _, descriptors, _, _ = socket.recv_fds(ours, 1, 1)
    except OSError:
        descriptors = []
    if not descriptors:
        raise NeedsRendering(NO_BROWSER)
    return socket.socket(fileno=descriptors[0])


def _output(process: subprocess.Popen[bytes], exchange: Exchange, check: Callable[[], None] | None) -> bytes:
    """What the browser prints. Raises FetchTimeout, TooLarge, and what `check` raises."""
    pieces: list[bytes] = []
    assert process.stdout  # noqa: S101  # it was asked for
    reading = Thread(target=_read, args=(process.stdout, exchange.max_bytes, pieces), daemon=True)
    reading.start()
    while reading.is_alive():
        reading.join(TICK_S)
        exchange.remaining()
        if check:
            check()
    html = b"".join(pieces)
    if len(html) > exchange.max_bytes:
        raise TooLarge("The page is larger than allowed once its JavaScript has run.")
    return html


def _read(output: IO[bytes], at_most: int, pieces: list[bytes]) -> None:
    room = at_most + 1
    with contextlib.suppress(ValueError):  # the page was given up, and the output closed
        while room > 0 and (piece := output.read(min(room, 1 << 16))):
            pieces.append(piece)
            room -= len(piece)


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdout:
        process.stdout.close()

"""The safe client with servers that don't behave: each ends in one typed error, within its limits."""

import socket
from dataclasses import replace
from threading import Event

import pytest

from chat_api.core.errors import FetchFailed, FetchTimeout, TooLarge
from tests.hostile.server_scripts import (
    BODY_OF_100,
    BROKEN,
    LARGE,
    REDIRECTING,
    SLOW,
    SPEAKING,
    cut,
    flood,
    trickle,
)
from tests.workers.fetch.loopback import HASTY, SHORT, Script, client_of, failure, redirect, reply, serving


@pytest.mark.parametrize("behaviour", SLOW)
def test_a_slow_server_ends_at_the_deadline(behaviour: str) -> None:
    assert "127.0.0.1" in failure(SLOW[behaviour], FetchTimeout, HASTY).message


def test_the_deadline_covers_all_redirects_together() -> None:
    def later(number: int) -> Script:
        def write(connection: socket.socket, over: Event) -> None:
            over.wait(0.1)
            connection.sendall(redirect(f"/{number + 1}"))

        return write

    pages: dict[str, bytes | Script] = {f"/{number}": later(number) for number in range(4)}
    with serving({**pages, "/4": reply(b"page")}) as site, client_of(site) as patient:
        assert patient.get(site.url("/0")).body == b"page"
        with client_of(site, limits=HASTY) as client, pytest.raises(FetchTimeout):
            client.get(site.url("/0"))


def test_a_server_that_trickles_is_given_up_before_the_deadline() -> None:
    limits = replace(SHORT, timeout_s=60, patience_s=0.1, min_rate=10_000)
    assert "slowly" in failure(trickle(BODY_OF_100, b"x"), FetchTimeout, limits).message


def test_a_name_server_that_hangs_ends_at_the_deadline() -> None:
    over = Event()

    def resolve(host: str, port: int) -> list[str]:
        over.wait(10)
        return ["127.0.0.1"]

    with client_of(limits=HASTY, resolve=resolve) as client, pytest.raises(FetchTimeout):
        client.get("http://www.example.com/")
    over.set()


def test_a_tls_handshake_that_hangs_ends_at_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with client_of(limits=HASTY, allow=f"127.0.0.1:{port}") as client, pytest.raises(FetchTimeout):
            client.get(f"https://127.0.0.1:{port}/")


@pytest.mark.parametrize("behaviour", LARGE)
def test_a_body_over_the_limit_is_too_large(behaviour: str) -> None:
    assert "100,000 bytes" in failure(LARGE[behaviour], TooLarge).message


def test_a_caller_s_own_limit_counts() -> None:
    with serving({"/": reply(b"x" * 1_000)}) as site, client_of(site) as client:
        assert len(client.get(site.url(), max_bytes=1_000).body) == 1_000
        with pytest.raises(TooLarge):
            client.get(site.url(), max_bytes=999)


def test_a_refusal_with_an_endless_body_is_still_that_refusal() -> None:
    pages: dict[str, bytes | Script] = {
        "/": flood(b"HTTP/1.1 503 Away\r\n\r\n", b"x" * 50_000),
        "/ok": reply(b"page"),
    }
    with serving(pages) as site, client_of(site) as client:
        assert client.answer(site.url()).fetched.status == 503
        assert client.get(site.url("/ok")).body == b"page"


EVERY_BROKEN = BROKEN | REDIRECTING | SPEAKING


@pytest.mark.parametrize("behaviour", EVERY_BROKEN)
def test_a_broken_answer_is_one_typed_error(behaviour: str) -> None:
    assert failure(*EVERY_BROKEN[behaviour]).message.endswith(".")


def test_after_a_bad_answer_the_client_goes_on() -> None:
    pages: dict[str, bytes | Script] = {"/bad": cut(BODY_OF_100 + b"abc"), "/ok": reply(b"page")}
    with serving(pages) as site, client_of(site, limits=replace(SHORT, max_connections=1)) as client:
        for _ in range(3):
            with pytest.raises(FetchFailed):
                client.get(site.url("/bad"))
            assert client.get(site.url("/ok")).body == b"page"

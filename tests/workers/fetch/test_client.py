"""The safe client with servers that behave: bodies, redirects, validators, status codes, certificates."""

import gzip
import socket
import ssl
import zlib
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from threading import Thread

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from chat_api.core.errors import (
    BadResponse,
    FetchFailed,
    Forbidden,
    InvalidUrl,
    NotFound,
    ServiceError,
    TooManyRedirects,
    UnknownHost,
)
from tests.workers.fetch.loopback import client_of, failure, redirect, reply, serving
from workers.fetch.client import USER_AGENT

TEXT = b"A page about parcels. " * 200


def test_a_page_comes_with_what_its_server_says_of_it() -> None:
    answer = reply(
        TEXT, Content_Type='Text/HTML; Charset="UTF-8"', ETag='"v1"', Last_Modified="Mon, 01 Jan 2024 00:00:00 GMT"
    )
    with serving({"/a?b=1": answer}) as site, client_of(site) as client:
        page = client.get(site.url("/a?b=1#part"))
    assert (page.url, page.status, page.body) == (site.url("/a?b=1"), 200, TEXT)
    assert (page.media_type, page.charset) == ("text/html", "utf-8")
    assert (page.etag, page.last_modified) == ('"v1"', "Mon, 01 Jan 2024 00:00:00 GMT")
    assert page.fetched_at is not None
    assert datetime.now(UTC) - page.fetched_at < timedelta(minutes=1)


@pytest.mark.parametrize(
    ("links", "canonical"),
    [
        ('<https://x.example/a,b>; rel="canonical"', "https://x.example/a,b"),
        ("</a/ü>;REL=Canonical", "/a/%C3%BC"),
        ('</wp-json/>; rel="https://api.w.org/", </b>; title="c, d"; rel="shortlink canonical"', "/b"),
        ("</style.css>; rel=preload; as=style\r\nLink: </c>; rel=canonical", "/c"),
        ("</d>; rel=canonical, </e>; rel=canonical", "/d"),
        ("<mailto:a@b.example>; rel=canonical", None),
        ("</f>; rel=next", None),
        ('</g>; title="rel=canonical"', None),
        ('</h>; rel="' + "canonical" * 2000, None),
        ("canonical", None),
    ],
)
def test_a_server_may_name_the_canonical_address(links: str, canonical: str | None) -> None:
    with serving({"/": reply(b"page", Link=links)}) as site, client_of(site) as client:
        named = client.get(site.url()).canonical_url
    assert (named or "").removeprefix(site.url("")) == (canonical or "")


def test_a_page_without_headers_comes_without_them() -> None:
    with serving({"/": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"}) as site, client_of(site) as client:
        page = client.get(site.url())
    assert (page.media_type, page.charset, page.etag, page.last_modified) == (None, None, None, None)


def test_a_request_names_us_and_nothing_else() -> None:
    with serving({"/": reply()}) as site, client_of(site) as client:
        client.get(site.url())
        head = site.requests[0].decode()
    names = [line.partition(":")[0].lower() for line in head.splitlines()[1:] if line]
    assert sorted(names) == ["accept", "accept-encoding", "host", "user-agent"]
    assert f"User-Agent: {USER_AGENT}\r\n" in head
    assert f"Host: 127.0.0.1:{site.port}\r\n" in head


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("gzip", gzip.compress(TEXT)),
        ("GZIP", gzip.compress(TEXT)),
        ("x-gzip", gzip.compress(TEXT)),
        ("deflate", zlib.compress(TEXT)),
        ("deflate", zlib.compress(TEXT, wbits=-15)),
        ("identity", TEXT),
    ],
)
def test_compression_is_undone(coding: str, body: bytes) -> None:
    with serving({"/": reply(body, Content_Encoding=coding)}) as site, client_of(site) as client:
        assert client.get(site.url()).body == TEXT


def test_a_chunked_body_is_read_to_its_end() -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nT: x\r\n\r\n"
    with serving({"/": chunked}) as site, client_of(site) as client:
        assert client.get(site.url()).body == b"hello world"
        assert client.get(site.url()).body == b"hello world"
        assert site.connects == 1


def test_pages_errors_and_redirects_of_one_host_share_a_connection() -> None:
    with serving({"/": reply(TEXT), "/a": redirect("/")}) as site, client_of(site) as client:
        client.get(site.url())
        assert client.get(site.url("/a")).url == site.url()
        with pytest.raises(NotFound):
            client.get(site.url("/missing"))
        assert client.get(site.url()).body == TEXT
        assert site.connects == 1


def test_a_request_that_meets_a_kept_connection_s_end_is_sent_again() -> None:
    def once(connection: socket.socket, over: object) -> None:
        connection.sendall(reply(TEXT))
        connection.recv(65_536)

    with serving({"/": once}) as site, client_of(site) as client:
        for _ in range(3):
            assert client.get(site.url()).body == TEXT
        assert site.connects == 3


def test_several_threads_may_share_a_client() -> None:
    bodies: list[bytes] = []
    with serving({f"/{n}": reply(b"%d" % n * 5_000) for n in range(40)}) as site, client_of(site) as client:

        def fetch(numbers: range) -> None:
            bodies.extend(client.get(site.url(f"/{n}")).body for n in numbers)

        threads = [Thread(target=fetch, args=(range(start, 40, 4),)) for start in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
    assert sorted(bodies) == sorted(b"%d" % n * 5_000 for n in range(40))


# --- validators ---


def test_validators_are_sent_and_a_304_comes_back_without_body() -> None:
    with serving({"/": reply(b"", "304 Not Modified", ETag='"v1"')}) as site, client_of(site) as client:
        page = client.get(site.url(), etag='"v1"', last_modified="Mon, 01 Jan 2024 00:00:00 GMT")
        head = site.requests[0].decode()
    assert (page.status, page.body, page.etag) == (304, b"", '"v1"')
    assert 'If-None-Match: "v1"\r\n' in head
    assert "If-Modified-Since: Mon, 01 Jan 2024 00:00:00 GMT\r\n" in head


def test_a_304_that_nobody_asked_for_is_no_page() -> None:
    failure(reply(b"", "304 Not Modified"), BadResponse)


def test_a_validator_that_could_split_a_request_is_left_out() -> None:
    with serving({"/": reply()}) as site, client_of(site) as client:
        client.get(site.url(), etag='"v1"\r\nX: y')
        assert b"If-None-Match" not in site.requests[0]


# --- redirects ---


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
def test_redirects_are_followed_to_where_they_end(status: str) -> None:
    pages = {"/a": redirect("/b/c", status), "/b/c": redirect("../d?x=1#y"), "/d?x=1": reply(TEXT)}
    with serving(pages) as site, client_of(site) as client:
        page = client.get(site.url("/a"))
    assert (page.url, page.body) == (site.url("/d?x=1"), TEXT)


def test_five_redirects_are_followed_and_six_are_not() -> None:
    pages = {f"/{n}": redirect(f"/{n + 1}") for n in range(6)} | {"/6": reply(TEXT)}
    with serving(pages) as site, client_of(site) as client:
        assert client.get(site.url("/1")).body == TEXT
        with pytest.raises(TooManyRedirects):
            client.get(site.url("/0"))


def test_a_circle_ends_at_its_first_round() -> None:
    with serving({"/a": redirect("/b"), "/b": redirect("/a#again")}) as site, client_of(site) as client:
        with pytest.raises(TooManyRedirects) as found:
            client.get(site.url("/a"))
        assert len(site.requests) == 2
    assert "circle" in found.value.message


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://127.0.0.1/", "http://user@127.0.0.1/", "//", "\\x"])
def test_a_redirect_to_anything_but_a_plain_web_address_is_refused(location: str) -> None:
    assert "redirects" in failure(redirect(location), InvalidUrl).message


def test_a_location_beyond_ascii_is_read_as_utf_8() -> None:
    pages = {"/": redirect("/größe"), "/gr%C3%B6%C3%9Fe": reply(TEXT)}
    with serving(pages) as site, client_of(site) as client:
        assert client.get(site.url()).body == TEXT


def test_a_redirect_without_location_is_no_page() -> None:
    failure(reply(b"", "302 Found"), BadResponse)


# --- status codes ---


@pytest.mark.parametrize(
    ("status", "error"),
    [
        ("404 Not Found", NotFound),
        ("410 Gone", NotFound),
        ("401 Unauthorized", Forbidden),
        ("403 Forbidden", Forbidden),
        ("400 Bad Request", BadResponse),
        ("418 Teapot", BadResponse),
        ("451 Legal", BadResponse),
        ("300 Multiple", BadResponse),
        ("408 Timeout", FetchFailed),
        ("429 Slow Down", FetchFailed),
        ("500 Error", FetchFailed),
        ("503 Away", FetchFailed),
        ("599 Odd", FetchFailed),
    ],
)
def test_a_status_code_becomes_its_typed_error(status: str, error: type[ServiceError]) -> None:
    with serving({"/": reply(b"no", status)}) as site, client_of(site) as client:
        with pytest.raises(error) as raised:
            client.get(site.url())
        answer = client.answer(site.url())
    assert type(raised.value) is error
    assert status[:3] in raised.value.message
    assert (answer.fetched.status, answer.fetched.body) == (int(status[:3]), b"")


def test_retry_after_is_read_in_both_forms_and_bounded() -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    values = {"/s": "7", "/d": later, "/x": "soon", "/n": "-5", "/far": "9" * 30, "/past": format_datetime(
        datetime(2001, 1, 1, tzinfo=UTC), usegmt=True
    )}  # fmt: skip
    pages = {path: reply(b"", "429 Slow Down", Retry_After=value) for path, value in values.items()}
    waits = dict[str, float | None]()
    with serving(pages) as site:
        for path in pages:
            with client_of(site) as client:
                waits[path] = client.answer(site.url(path)).retry_after
        with client_of(site) as client, pytest.raises(FetchFailed) as raised:
            client.get(site.url("/s"))
    assert raised.value.retry_after == 7
    assert waits["/d"] == pytest.approx(100, abs=30)
    assert (waits["/s"], waits["/x"], waits["/n"], waits["/far"], waits["/past"]) == (7, None, None, 86_400, 0)


# --- names and connections that fail ---


def test_a_refused_connection_names_the_host() -> None:
    with serving() as site:
        site.close()
        with client_of(site) as client, pytest.raises(FetchFailed) as failed:
            client.get(site.url())
    assert "127.0.0.1 could not be reached (Connection refused)" in failed.value.message


@pytest.mark.parametrize(("code", "error"), [(socket.EAI_NONAME, UnknownHost), (socket.EAI_AGAIN, FetchFailed)])
def test_a_name_that_does_not_resolve_is_named(code: int, error: type[ServiceError]) -> None:
    def resolve(host: str, port: int) -> list[str]:
        raise socket.gaierror(code, "no")

    with client_of(resolve=resolve) as client, pytest.raises(error) as failed:
        client.get("http://www.example.com/")
    assert "www.example.com" in failed.value.message


def test_the_next_address_of_a_name_is_tried() -> None:
    with serving({"/": reply(TEXT)}) as site:
        allow, answers = f"127.0.0.2:{site.port}", ["127.0.0.2", "127.0.0.1"]
        with client_of(site, allow=allow, resolve=lambda host, port: answers) as client:
            assert client.get(site.url(host="www.example.com")).body == TEXT


def test_the_environment_s_proxies_are_not_used() -> None:
    with serving({"/": reply(TEXT)}) as site, client_of(site) as client, pytest.MonkeyPatch.context() as environment:
        environment.setenv("HTTP_PROXY", "http://127.0.0.1:1")
        environment.setenv("ALL_PROXY", "http://127.0.0.1:1")
        with client_of(site) as fresh:
            assert fresh.get(site.url()).body == client.get(site.url()).body == TEXT


# --- TLS ---


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate of www.example.com with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("www.example.com")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    path.write_bytes(
        signed.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return path


def server_side(certificate: Path) -> ssl.SSLContext:
    """TLS for a site."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def trusting(certificate: Path) -> ssl.SSLContext:
    """Trust in that certificate alone."""
    return ssl.create_default_context(cafile=certificate)


def loopback(host: str, port: int) -> list[str]:
    """Every name is here."""
    return ["127.0.0.1"]


def test_a_certificate_is_checked_against_the_name_and_not_the_address(certificate: Path) -> None:
    with serving({"/": reply(TEXT)}, server_side(certificate)) as site:
        with client_of(site, resolve=loopback, trust=trusting(certificate)) as client:
            assert client.get(site.url(host="www.example.com")).body == TEXT
            assert client.get(site.url(host="www.example.com")).body == TEXT
            assert site.connects == 1
            with pytest.raises(BadResponse) as refused:
                client.get(site.url(host="shop.example.com"))
        assert len(site.requests) == 2
    assert "certificate of shop.example.com" in refused.value.message


def test_a_certificate_that_nobody_trusts_is_refused(certificate: Path) -> None:
    with serving({"/": reply(TEXT)}, server_side(certificate)) as site:
        with client_of(site, resolve=loopback) as client, pytest.raises(BadResponse) as refused:
            client.get(site.url(host="www.example.com"))
        assert site.requests == []
    assert "certificate" in refused.value.message


def test_a_server_that_speaks_no_tls_is_said_so() -> None:
    with serving({"/": reply(TEXT)}) as site, client_of(site) as client, pytest.raises(FetchFailed) as failed:
        client.get(site.url().replace("http:", "https:"))
    assert "secure connection" in failed.value.message


def test_a_server_that_asks_for_a_long_wait_is_left_alone() -> None:
    pages = {"/busy": reply(b"", "503 Away", Retry_After="40"), "/": reply(b"page")}
    with serving(pages) as site, serving({"/": reply(b"other")}) as other, client_of(site, other) as client:
        client.answer(site.url("/busy"))
        with pytest.raises(FetchFailed) as raised:
            client.get(site.url())
        assert client.get(other.url()).body == b"other"
        assert len(site.requests) == 1
    assert 30 < (raised.value.retry_after or 0) <= 40

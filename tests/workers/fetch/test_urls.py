"""One strict parser: what is refused, and the one spelling of what is not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_api.core.errors import InvalidUrl
from workers.fetch.urls import MAX_URL, join_url, matches, parse_url

SPELLINGS = [
    ("http://example.com", "http://example.com/"),
    ("HTTPS://Example.COM:443/Path", "https://example.com/Path"),
    ("http://example.com:80/", "http://example.com/"),
    ("http://example.com:8080/", "http://example.com:8080/"),
    ("http://example.com:/", "http://example.com/"),
    ("https://example.com:80/", "https://example.com:80/"),
    ("  http://example.com/ ", "http://example.com/"),
    ("http://example.com./a", "http://example.com/a"),
    ("http://example.com/a#part", "http://example.com/a"),
    ("http://example.com/?q=1#part?x", "http://example.com/?q=1"),
    ("http://example.com?q=1", "http://example.com/?q=1"),
    ("http://example.com/a?", "http://example.com/a"),
    ("http://example.com/%7euser/%41", "http://example.com/~user/A"),
    ("http://example.com/%e4%2f%3a", "http://example.com/%E4%2F%3A"),
    ("http://example.com/100%", "http://example.com/100%25"),
    ("http://example.com/%zz", "http://example.com/%25zz"),
    ("http://example.com/a b/ü?ö=ß", "http://example.com/a%20b/%C3%BC?%C3%B6=%C3%9F"),
    ("http://example.com/a/./b/../c", "http://example.com/a/c"),
    ("http://example.com/a/%2e%2E/c/%2e", "http://example.com/c/"),
    ("http://example.com/../../a", "http://example.com/a"),
    ("http://example.com/a/..", "http://example.com/"),
    ("http://example.com/a//b", "http://example.com/a//b"),
    ("http://bücher.example/", "http://xn--bcher-kva.example/"),
    ("http://BÜCHER。example/", "http://xn--bcher-kva.example/"),
    ("http://my_shop.example/", "http://my_shop.example/"),
    ("http://[2606:4700:0:0::1111]/", "http://[2606:4700::1111]/"),
    ("http://[2606:4700::1111]:8080/", "http://[2606:4700::1111]:8080/"),
    ("http://[::FFFF:1.2.3.4]/", "http://[::ffff:102:304]/"),
    ("http://1.2.3.4/", "http://1.2.3.4/"),
    ("http://0x7f000001/", "http://127.0.0.1/"),
    ("http://017700000001/", "http://127.0.0.1/"),
    ("http://127.1/", "http://127.0.0.1/"),
    ("http://127.0x1/", "http://127.0.0.1/"),
    ("http://2130706433/", "http://127.0.0.1/"),
    ("http://0x7f.0.0.01./", "http://127.0.0.1/"),
    ("http://１２７.０.０.１/", "http://127.0.0.1/"),
    ("http://⑫⑦.⓪.⓪.①/", "http://127.0.0.1/"),
    ("http://0/", "http://0.0.0.0/"),
    ("http://0x/", "http://0.0.0.0/"),
]

REFUSED = [
    "",
    "example.com",
    "//example.com/",
    "/path",
    "ftp://example.com/",
    "file:///etc/passwd",
    "gopher://example.com/",
    "javascript:alert(1)",
    "data:text/html,x",
    "http:example.com",
    "http:/example.com",
    "http:///path",
    "http://",
    "http://?q",
    "http://:80/",
    "http://user@example.com/",
    "http://user:password@example.com/",
    "http://@example.com/",
    "http://example.com@127.0.0.1/",
    "http://example.com\\@127.0.0.1/",
    "http:\\\\127.0.0.1/",
    "http://example.com\\.evil.example/",
    "http://exa\tmple.com/",
    "http://example.com/a\nb",
    "http://example.com/\r\nHost: x",
    "http://example.com/\0",
    "ht\ntp://example.com/",
    "\x01http://example.com/",
    "http://example.com/\ud800",
    "http://exa mple.com/",
    "http://example.com /",
    "http://exam%70le.com/",
    "http://127.0.0.1%2f@example.com/",
    "http://127.0.0.%31/",
    "http://example..com/",
    "http://.example.com/",
    "http://-example.com/",
    "http://example-.com/",
    "http://exa<mple.com/",
    "http://exa*mple.com/",
    "http://example.com,evil.example/",
    f"http://{'a' * 64}.example/",
    f"http://{'a.' * 130}example/",
    "http://example.com:0/",
    "http://example.com:65536/",
    "http://example.com:-1/",
    "http://example.com:+80/",
    "http://example.com:8o/",
    "http://example.com:٨٠/",
    "http://example.com:80:80/",
    "http://1.2.3.4.5/",
    "http://256.1.1.1/",
    "http://1.2.3.256/",
    "http://1.2.65536/",
    "http://1.16777216/",
    "http://4294967296/",
    "http://08.1.1.1/",
    "http://1.2.3.0x100/",
    "http://1..2/",
    "http://example.0x1/",
    "http://example.123/",
    "http://[::1/",
    "http://::1/",
    "http://[::1]x/",
    "http://[fe80::1%25eth0]/",
    "http://[fe80::1%eth0]/",
    "http://[1.2.3.4]/",
    "http://[v1.x]/",
    "http://[]/",
    "http://[::1]:99999/",
    "http://℀.example/",
    f"http://example.com/{'a' * MAX_URL}",
    f"http://example.com/{'ü' * (MAX_URL // 5)}",
    f"http://example.com/{'a' * 10 * MAX_URL}",
]


@pytest.mark.parametrize(("text", "spelling"), SPELLINGS)
def test_an_address_has_one_spelling(text: str, spelling: str) -> None:
    assert str(parse_url(text)) == spelling
    assert parse_url(spelling) == parse_url(text)


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_no_plain_web_address_is_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(InvalidUrl) as refused:
        parse_url(text)
    assert refused.value.message.endswith(".")


def test_credentials_are_named_as_the_problem() -> None:
    with pytest.raises(InvalidUrl) as refused:
        parse_url("https://user:password@example.com/")
    assert "user name" in refused.value.message
    assert "password@" not in refused.value.message


@given(st.text(max_size=200) | st.text("/.%:@[]?#\\x0123456789abcf", max_size=60).map("http://".__add__))
def test_any_text_is_an_address_in_its_one_spelling_or_refused(text: str) -> None:
    try:
        url = parse_url(text)
    except InvalidUrl:
        return
    assert parse_url(str(url)) == url
    assert str(url).isascii()
    assert str(url).isprintable()
    assert " " not in str(url)


@pytest.mark.parametrize(
    ("reference", "meant"),
    [
        ("c", "http://example.com/a/c"),
        ("./c", "http://example.com/a/c"),
        ("../c", "http://example.com/c"),
        ("/c", "http://example.com/c"),
        ("?x=2", "http://example.com/a/b?x=2"),
        ("#part", "http://example.com/a/b?x=1"),
        ("", "http://example.com/a/b?x=1"),
        ("//other.example/c", "http://other.example/c"),
        ("https://other.example/c", "https://other.example/c"),
    ],
)
def test_a_reference_means_an_address_on_its_page(reference: str, meant: str) -> None:
    assert str(join_url(parse_url("http://example.com/a/b?x=1"), reference)) == meant


@pytest.mark.parametrize(
    "reference", ["javascript:alert(1)", "mailto:a@b.example", "//user@x/", "/\\evil", "http:", "http:c"]
)
def test_a_reference_to_something_else_is_refused(reference: str) -> None:
    with pytest.raises(InvalidUrl):
        join_url(parse_url("http://example.com/"), reference)


@given(st.text(max_size=100))
def test_any_reference_is_an_address_or_refused(reference: str) -> None:
    try:
        url = join_url(parse_url("http://example.com/a/b"), reference)
    except InvalidUrl:
        return
    assert parse_url(str(url)) == url


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("http://example.com/", "https://www.example.com/a", True),
        ("http://example.com:8080/", "http://example.com:8080/a", True),
        ("http://example.com:8080/", "http://example.com/", False),
        ("http://example.com/", "http://shop.example.com/", False),
    ],
)
def test_a_site_is_a_host_with_or_without_www_and_tls(one: str, other: str, same: bool) -> None:
    assert (parse_url(one).site == parse_url(other).site) is same


@pytest.mark.parametrize(
    ("pattern", "text", "fits"),
    [
        ("/a", "/a", True),
        ("/a", "/ab", False),
        ("/a*", "/ab", True),
        ("*", "", True),
        ("*/b", "/a/b", True),
        ("/a*b*c", "/a-b-b-c", True),
        ("/a*b*c", "/a-c-b", False),
        ("/ab*ba", "/aba", False),
        ("/a**b", "/ab", True),
    ],
)
def test_a_star_stands_for_anything(pattern: str, text: str, fits: bool) -> None:
    assert matches(pattern, text) is fits


def test_a_pattern_of_many_stars_takes_no_longer_than_its_text() -> None:
    assert not matches("*a" * 5_000 + "b", "a" * 20_000)

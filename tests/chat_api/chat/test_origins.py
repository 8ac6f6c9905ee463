"""Origins: which pages may talk to a bot."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_api.chat.origins import among, are_origins


@pytest.mark.parametrize(
    ("origin", "allowed", "expected"),
    [
        ("https://a.example", "https://a.example/", True),
        ("https://a.example", "https://A.example:443", True),
        ("http://a.example:80", "http://a.example", True),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000", True),
        ("https://a.example", "http://a.example", False),
        ("https://a.example:8443", "https://a.example", False),
        ("https://www.a.example", "https://a.example", False),
        ("null", "null", False),
        ("", "", False),
        ("https://a.example:x", "https://a.example:x", False),
        ("https://[::1", "https://[::1", False),
        ("https://a.example", "*", False),
        ("https://xn--mnchen-3ya.example", "https://münchen.example", True),
        ("https://xn--mnchen-3ya.example", " https://MÜNCHEN.example:443/", True),
        ("https://xn--mnchen-3ya.example", "https://Xn--Mnchen-3ya.example", True),
        ("https://xn--strae-oqa.example:8443", "https://straße.example:8443", True),
        ("https://xn--mnchen-3ya.example", "https://munchen.example", False),
        ("https://a.example", "https://\u200da.example", False),
        ("https://ü..example", "https://ü..example", False),
        (f"https://{'ü' * 254}", f"https://{'ü' * 254}", False),
    ],
)
def test_origins_are_scheme_host_and_port(origin: str, allowed: str, expected: bool) -> None:
    assert among(origin, [allowed]) is expected


@given(st.text(max_size=300))
def test_what_can_be_no_origin_is_among_none(host: str) -> None:
    origin = f"https://{host}"
    assert among(origin, ["https://a.example", origin]) is are_origins([origin])
    assert not are_origins(["https://a.example", "a.example"])

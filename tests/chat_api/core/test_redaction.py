"""Redaction: what looks like a secret is masked, what is known to be one too, and ordinary text stays."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from sqlalchemy import make_url

from chat_api.core.redaction import MASK, make_redactor, redact_value, secret_values
from chat_api.core.settings import Settings
from tests.chat_api.forge import Forge

TOKEN = Forge().token()

MASKED = [
    ("Authorization: Bearer abc.def", "abc.def"),
    ("{'authorization': 'Basic dXNlcjpwYXNz'}", "dXNlcjpwYXNz"),
    ("chat.v1, bearer.not-quite-a-token", "not-quite"),
    ("GET /ws?a=1&token=canary&b=2", "canary"),
    ('{"type":"auth","token":"canary"}', "canary"),
    ('{"type":"auth","token": "canary with spaces"}', "spaces"),
    (f"cut: {TOKEN[:60]}", TOKEN[:60]),
    (f"cut inside: {TOKEN[: TOKEN.rindex('.') - 5]}", TOKEN[40:60]),
    ("spaced: " + Forge().signed(b"{}", b' { "alg" : "RS256" }'), "IHsg"),
    ("password=canary host=db", "canary"),
    ("password='can ary' host=db", "ary"),
    ("PYTHON_CHAT_DB_PASSWORD: canary", "canary"),
    ("postgresql+psycopg://user:canary@db:5432/chat", "canary"),
    ("redis://:canary@redis:6379/0", "canary"),
    ("https://user:can:ary@proxy/path", "ary@"),
    ("key sk-canary0123456789 refused", "canary"),
    ("api_key=canary", "canary"),
    ("aws_secret_access_key = canary", "canary"),
    ("-----BEGIN PRIVATE KEY-----\ncanary\n-----END PRIVATE KEY-----", "canary"),
    ("-----BEGIN RSA PRIVATE KEY-----\ncanary", "canary"),
]


@pytest.mark.parametrize(("text", "canary"), MASKED)
def test_what_looks_like_a_secret_is_masked(text: str, canary: str) -> None:
    masked = make_redactor()(text)
    assert canary not in masked
    assert MASK in masked


@pytest.mark.parametrize(
    "text",
    [
        "1,234 tokens embedded, prompt_tokens=12, completion_tokens: 7",
        "sqlalchemy.dialects.postgresql and chat_api.core.telemetry",
        "https://example.com:8443/path?page=2#top",
        "https://example.com/a@b",
        "task-skating disk-cleanup-finished",
        "training job 5b0a5a52-6b4f-4f0b-9c1e-2f6f6a2d9b01 of version 1.2.3",
        "the bearer",
        "postgresql://user@db:5432/chat",
        "2026-11-20T21:04:21.031703Z",
    ],
)
def test_ordinary_text_stays(text: str) -> None:
    assert make_redactor(["admin"])(text) == text


@given(st.text(), st.text())
def test_a_known_secret_never_survives(before: str, after: str) -> None:
    assert "Canary!Secret" not in make_redactor(["Canary!Secret"])(f"{before}Canary!Secret{after}")


def test_redaction_takes_linear_time() -> None:
    redact = make_redactor(["secret-value"])
    for text in (
        "eyJ" * 50_000,
        "a" * 200_000,
        "a." * 100_000,
        "://a:" * 30_000,
        "token=" * 30_000,
        "bearer " * 30_000,
    ):
        redact(text)  # a pattern that backtracks would run into the test's time limit


def test_secrets_of_the_settings(offline: Callable[..., Settings]) -> None:
    settings = offline(
        python_chat_db_password="chat-canary",
        redis_url="redis://user:redis%2Fcanary@127.0.0.1:1/0",
        openai_api_key="key-canary",
    )
    assert set(secret_values(settings)) == {"chat-canary", "redis%2Fcanary", "redis/canary", "key-canary"}


def test_plain_values_stay_as_they_are() -> None:
    value = {"tokens": 12, "ms": 1.5, "ok": True, "none": None, "list": ["a", 1]}
    assert redact_value(value, make_redactor()) == value
    assert redact_value(SecretStr("hidden"), make_redactor()) == "SecretStr('**********')"
    url = make_url("postgresql://user:hidden@db/chat")
    assert "hidden" not in str(redact_value(url, make_redactor()))

"""What must never be read in a log or an error text: tokens, keys, passwords; masked in any text or value."""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import cast
from urllib.parse import quote, quote_plus, unquote, urlsplit
from uuid import UUID

from pydantic import SecretStr

from chat_api.core.settings import Settings

MASK = "***"
# Shorter values are words ("admin", "test"): masking them everywhere would hide the log, not the secret.
SHORTEST_SECRET = 6

_VALUE = r"""(?:"[^"]*"|'[^']*'|[^\s"'&,;)}\]]+)"""
_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL), MASK),
    # A token, whole or cut short; then three base64url parts whose header is written in an unusual way.
    (re.compile(r"eyJ[\w-]{8,}(?:\.[\w-]*){0,2}", re.ASCII), MASK),
    (re.compile(r"(?<![\w.-])[\w-]{10,}\.[\w-]*\.[\w-]{64,}", re.ASCII), MASK),
    (re.compile(r"\b(bearer)([\s.]+)[^\s\"',;]+", re.IGNORECASE), rf"\1\2{MASK}"),
    (re.compile(r"(?<![A-Za-z0-9])sk-[\w-]{6,}", re.ASCII), MASK),
    (re.compile(r"(://[^\s:/@]*:)[^\s\"'/?#]+@"), rf"\1{MASK}@"),
    (re.compile(rf"\b(authorization[\"']?\s*[:=]\s*)(?:basic\s+)?{_VALUE}", re.IGNORECASE), rf"\1{MASK}"),
    (
        re.compile(
            rf"((?:password|passwd|pwd|secret|secret_access_key|api_?key)[\"']?\s*[:=]\s*){_VALUE}", re.IGNORECASE
        ),
        rf"\1{MASK}",
    ),
    (re.compile(rf"(token(?:[\"']\s*:|[\"']?\s*=)\s*){_VALUE}", re.IGNORECASE), rf"\1{MASK}"),
)
_SENSITIVE_NAME = re.compile(
    r"(?:token|password|passwd|secret|authorization|cookie|api_?key|access_key|private_key)$", re.IGNORECASE
)


def secret_values(settings: Settings) -> list[str]:
    """Every secret that the settings hold; of an address its password alone, as written and decoded."""
    found: list[str] = []
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, SecretStr):
            text = value.get_secret_value()
            password = urlsplit(text).password if "://" in text else text
            found += [password, unquote(password)] if password else []
    return list(dict.fromkeys(found))


def make_redactor(secrets: Iterable[str] = ()) -> Callable[[str], str]:
    """A function from text to the same text without secrets: the given ones, and whatever looks like one."""
    spellings = {
        spelling
        for secret in secrets
        if len(secret) >= SHORTEST_SECRET
        for spelling in (
            secret,
            quote(secret, safe=""),
            quote_plus(secret),
            json.dumps(secret)[1:-1],
            repr(secret)[1:-1],
        )
    }
    longest_first = sorted(spellings, key=len, reverse=True)
    known = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def redact(text: str) -> str:
        if known:
            text = known.sub(MASK, text)
        for pattern, replacement in _PATTERNS:
            text = pattern.sub(replacement, text)
        return text

    return redact


def redact_value(value: object, redact: Callable[[str], str]) -> object:
    """The same value for a log: plain data stays, texts are redacted, anything else becomes its redacted repr."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {redact(str(key)): redact_field(str(key), item, redact) for key, item in value.items()}
    # Not their subclasses: a named tuple, such as SQLAlchemy's URL, may have a repr that hides a part of it.
    if type(value) in {list, tuple, set, frozenset}:
        return [redact_value(item, redact) for item in cast(Iterable[object], value)]
    if isinstance(value, UUID | datetime):
        return str(value)
    return redact(value.decode(errors="replace") if isinstance(value, bytes) else repr(value))


def redact_field(name: str, value: object, redact: Callable[[str], str]) -> object:
    """A named value for a log: wholly masked when its name says that it is a secret."""
    if value is not None and not isinstance(value, bool) and _SENSITIVE_NAME.search(name):
        return MASK
    return redact_value(value, redact)

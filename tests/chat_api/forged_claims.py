"""Tokens that our key signed and whose payload or claims are wrong."""

import json
from collections.abc import Callable

from tests.chat_api.forge import BOT, MISSING, ORG, Forge, Forgery

PAYLOADS: dict[str, Forgery] = {
    "a list": lambda forge: forge.signed(b"[]"),
    "a string": lambda forge: forge.signed(b'"sub"'),
    "a number": lambda forge: forge.signed(b"1"),
    "null": lambda forge: forge.signed(b"null"),
    "true": lambda forge: forge.signed(b"true"),
    "empty object": lambda forge: forge.signed(b"{}"),
    "not JSON": lambda forge: forge.signed(b"sub=1"),
    "not UTF-8": lambda forge: forge.signed(b'{"sub":"\xff\xfe"}'),
    "UTF-16": lambda forge: forge.signed(json.dumps(forge.claims()).encode("utf-16-le")),
    "UTF-32": lambda forge: forge.signed(json.dumps(forge.claims()).encode("utf-32-be")),
    "byte order mark": lambda forge: forge.raw_json("{", "\ufeff{"),
    "two objects": lambda forge: forge.signed(json.dumps(forge.claims()).encode() * 2),
    "cut": lambda forge: forge.signed(json.dumps(forge.claims()).encode()[:-1]),
    "sub twice": lambda forge: forge.raw_json('"sub"', '"sub": "admin", "sub"'),
    "sub twice, the same": lambda forge: forge.raw_json('"sub"', '"sub": "user-1", "sub"'),
    "org_id twice": lambda forge: forge.raw_json('"org_id"', f'"org_id": "{BOT}", "org_id"'),
    "scope twice": lambda forge: forge.raw_json('"scope"', '"scope": "", "scope"'),
    "scope twice, one escaped": lambda forge: forge.raw_json('"scope"', '"sc\\u006fpe": "", "scope"'),
    "twice in an unknown claim": lambda forge: forge.raw_json("{", '{"x": {"a": 1, "a": 2}, '),
    "twice in a list of an unknown claim": lambda forge: forge.raw_json("{", '{"x": [{"a": 1, "a": 2}], '),
    "NaN in an unknown claim": lambda forge: forge.raw_json("{", '{"x": NaN, '),
    "Infinity in an unknown claim": lambda forge: forge.raw_json("{", '{"x": [-Infinity], '),
    "a number too large in an unknown claim": lambda forge: forge.raw_json("{", '{"x": 1e999, '),
    "an integer of 5,000 digits": lambda forge: forge.raw_json("{", '{"x": ' + "9" * 5000 + ", "),
    "deep": lambda forge: forge.raw_json("{", '{"x": ' + "[" * 2500 + "]" * 2500 + ", "),
    "a token inside": lambda forge: forge.signed(forge.token().encode()),
}


def _later(seconds: int) -> Callable[[Forge], object]:
    return lambda forge: forge.now + seconds


_BAD_CLAIMS: dict[str, list[object]] = {
    "sub": [MISSING, None, "", 1, True, ["user-1"], {"id": "user-1"}, "x" * 129, "a\0b", "\ud800", "a\udfff"],
    "org_id": [
        MISSING,
        None,
        "",
        1,
        True,
        [ORG],
        {"id": ORG},
        "acme",
        ORG.upper(),
        ORG.replace("-", ""),
        "{" + ORG + "}",
        f"urn:uuid:{ORG}",
        f" {ORG}",
        f"{ORG}\n",
        ORG[:-1],
        f"{ORG}0",
        ORG.replace("0", "\N{FULLWIDTH DIGIT ZERO}"),
    ],
    "bot_id": [None, "", 1, True, [BOT], "*", BOT.upper(), BOT.replace("-", ""), f"{BOT}\0", BOT[:-1]],
    "exp": [
        MISSING,
        None,
        True,
        "never",
        [9_999_999_999],
        0,
        -1,
        10**30,
        _later(86_400 - 9),
        _later(-10),
        _later(-11),
        lambda forge: float(forge.now + 600),
        lambda forge: str(forge.now + 600),
    ],
    "iat": [
        MISSING,
        None,
        False,
        [],
        "now",
        _later(45),
        _later(600),
        _later(700),
        -(10**30),
        lambda forge: forge.now - 10.5,
        lambda forge: str(forge.now),
        lambda forge: forge.now - 86_400,
    ],
    "nbf": [None, True, "now", [], _later(45), _later(10**9), lambda forge: float(forge.now - 10), 10**40],
    "scope": [None, 1, True, [], ["chat"], {"chat": True}],
    "origins": [None, 1, True, "https://shop.example", {}, [1], [None], [["https://shop.example"]]],
}


def _with_claim(name: str, value: object) -> Forgery:
    def make(forge: Forge) -> str:
        return forge.token(**{name: value(forge) if callable(value) else value})

    return make


def _name_of(value: object, number: int) -> str:
    shown = {id(MISSING): "missing"}.get(id(value)) or ("computed" if callable(value) else ascii(value)[:40])
    return f"{shown} ({number})"


EXPIRED: dict[str, Forgery] = {
    "long ago": lambda forge: forge.token(iat=forge.now - 90_000, exp=forge.now - 80_000),
    "just past the leeway": lambda forge: forge.token(iat=forge.now - 600, exp=forge.now - 30),
    "in the last century": lambda forge: forge.token(iat=1, exp=2),
    "before time": lambda forge: forge.token(iat=-20, exp=-10),
    "in milliseconds": lambda forge: forge.token(iat=forge.now * 1000, exp=(forge.now + 600) * 1000),
}

CLAIMS: dict[str, Forgery] = {
    f"{claim} {_name_of(value, number)}": _with_claim(claim, value)
    for claim, values in _BAD_CLAIMS.items()
    for number, value in enumerate(values)
}

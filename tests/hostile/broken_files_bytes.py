"""Breaks any file by its bytes, and texts by their lines, characters and encodings."""

import random
import re
from collections.abc import Callable

Change = Callable[[bytes, random.Random], bytes]
"""A file's bytes, broken by a seeded chance."""

MOST_BYTES = 12 << 20
"""What a broken file grows to at most."""
_NUMBER = re.compile(rb"\d+")
_ODD_NUMBERS = (b"-1", b"0", b"65536", b"2147483648", b"999999999", b"18446744073709551616", b"1e308", b"NaN", b"")
_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\xff\xfe\0\0", b"+/v8")
_WIDE = ("utf-16-le", "utf-16-be", "utf-32", "utf-7", "utf-16")
_SIGNS = (b'"', b"\0", b"[", b"*", b"`", b"<", b">", b"{", b"}", b"|", b"&", b"\x1b", b"\xed\xa0\x80", b"\xc0\xaf")


def odd_number(chance: random.Random) -> bytes:
    """A number that nobody expects, or none."""
    return chance.choice(_ODD_NUMBERS)


def cut(body: bytes, chance: random.Random) -> bytes:
    """The end is missing."""
    return body[: chance.randrange(4, max(5, len(body)))]


def beheaded(body: bytes, chance: random.Random) -> bytes:
    """A part of the beginning is missing, but for the signature."""
    return body[:8] + body[8 + chance.randrange(max(1, len(body) // 2)) :]


def flipped(body: bytes, chance: random.Random) -> bytes:
    """Single bits are other ones."""
    changed = bytearray(body)
    for _ in range(chance.choice((1, 4, 40, 400)) if body else 0):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def overwritten(body: bytes, chance: random.Random) -> bytes:
    """A run of bytes is something else."""
    start, size = chance.randrange(len(body) or 1), chance.choice((1, 16, 300, 5000))
    run = chance.choice((b"\0", b"\xff", b"<", b"%PDF-", b"PK\x01\x02", chance.randbytes(64))) * size
    return body[:start] + run[:size] + body[start + size :]


def swapped(body: bytes, chance: random.Random) -> bytes:
    """Two blocks stand in each other's place."""
    first, second, third = sorted(chance.randrange(len(body) + 1) for _ in range(3))
    return body[:first] + body[second:third] + body[first:second] + body[third:]


def doubled(body: bytes, chance: random.Random) -> bytes:
    """A block stands there twice, or a thousand times."""
    start = chance.randrange(len(body) or 1)
    block = body[start : start + chance.choice((8, 200, 4000))]
    return (body[:start] + block * chance.choice((2, 10, 1000)) + body[start:])[:MOST_BYTES]


def renumbered(body: bytes, chance: random.Random) -> bytes:
    """Some of its numbers are absurd."""
    places = [found.span() for found in _NUMBER.finditer(body)]
    for start, end in sorted(chance.sample(places, min(len(places), chance.choice((1, 3, 20)))), reverse=True):
        body = body[:start] + odd_number(chance) + body[end:]
    return body


def recoded(body: bytes, chance: random.Random) -> bytes:
    """The text in another encoding than it says, or behind another's mark."""
    if chance.random() < 0.4:
        return chance.choice(_MARKS) + body
    return body.decode("utf-8", "replace").encode(chance.choice(_WIDE), "replace")


def sprinkled(body: bytes, chance: random.Random) -> bytes:
    """Signs that mean something stand where they should not, one or very many."""
    sign, start = chance.choice(_SIGNS), chance.randrange(len(body) + 1)
    if chance.random() < 0.5:
        return body[:start] + sign * chance.choice((1, 100, 20_000)) + body[start:]
    return body.replace(b" ", sign + b" ", chance.choice((5, 1000)))


def one_line(body: bytes, chance: random.Random) -> bytes:
    """All lines are one, or end as on another machine."""
    return body.replace(b"\r", b"").replace(b"\n", chance.choice((b"", b"\r", b"\n\r", b"\x0b", b"\xe2\x80\xa8")))


ANY: tuple[Change, ...] = (cut, beheaded, flipped, overwritten, swapped, doubled)
TEXT: tuple[Change, ...] = (cut, flipped, doubled, renumbered, recoded, sprinkled, one_line)

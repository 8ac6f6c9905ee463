"""Breaks XML: its grammar, its encoding, its entities, and the numbers and names that its readers rely on."""

import random
import re

from tests.hostile.broken_files_bytes import MOST_BYTES, Change, cut, flipped, odd_number

# Names begin where a run of their characters does: from everywhere in it, megabytes without a blank would take hours.
_ATTRIBUTE = re.compile(rb'(?<![\w:.-])([\w:.-]+)="([^"<]*)"')
_ELEMENT = re.compile(rb"<([\w:.-]+)(?:\s[^<>]*)?>")
_TEXT = re.compile(rb">([^<>]+)<")
_DECLARED = re.compile(rb"^\s*<\?xml[^>]*\?>")
_COUNTS = re.compile(
    rb"((?:number-(?:columns|rows)-(?:repeated|spanned)|[\w:]{0,40}(?:gridSpan|ilvl|outlineLvl|start|numId)[^>]{0,99}?w:val"
    rb'|gridSpan|rowSpan|colspan|rowspan|outline-level|text:c|\br|\bs|\bref|spans|count|uniqueCount|numFmtId|lvl)=")'
    rb'([^"]*)"'
)
_ENTITIES = (
    b'<!DOCTYPE d [<!ENTITY x "text">]>',
    b'<!DOCTYPE d [<!ENTITY x SYSTEM "file:///etc/passwd">]>',
    b'<!DOCTYPE d [<!ENTITY x SYSTEM "http://127.0.0.1:9/x">]>',
    b'<!DOCTYPE d [<!ENTITY % p SYSTEM "file:///etc/passwd"> %p;]>',
    b'<!DOCTYPE d [<!ENTITY x "&y;&y;"><!ENTITY y "&x;&x;">]>',
    b'<!DOCTYPE d SYSTEM "d.dtd">',
)
_CHARACTERS = (b"&#0;", b"&#xD800;", b"&#x110000;", b"&#xFFFE;", b"&unknown;", b"\0", b"\xff", b"]]>", b"<![CDATA[")


def unclosed(body: bytes, chance: random.Random) -> bytes:
    """Closing tags are missing."""
    tags = [found.span() for found in re.finditer(rb"</[^>]*>", body)]
    for start, end in sorted(chance.sample(tags, min(len(tags), chance.choice((1, 3)))), reverse=True):
        body = body[:start] + body[end:]
    return body


def nested(body: bytes, chance: random.Random) -> bytes:
    """An element stands within itself, very often; sometimes closed again."""
    found = _pick(_ELEMENT, body, chance)
    if not found or found.group().endswith(b"/>"):
        return cut(body, chance)
    depth = chance.choice((50, 240, 300, 20_000))
    closing = b"</" + found.group(1) + b">" if chance.random() < 0.7 else b""
    return body[: found.start()] + found.group() * depth + closing * depth + body[found.start() :]


def declared(body: bytes, chance: random.Random) -> bytes:
    """It declares entities, and uses one."""
    rest = _DECLARED.sub(b"", body)
    if found := _pick(_TEXT, rest, chance):
        rest = rest[: found.start(1)] + b"&x;" + rest[found.end(1) :]
    return b'<?xml version="1.0"?>' + chance.choice(_ENTITIES) + rest


def enlarged(body: bytes, chance: random.Random) -> bytes:
    """An attribute or a text is enormous, or there are thousands of attributes."""
    size = chance.choice((100_000, 1_000_000, 11_000_000))
    if chance.random() < 0.2:
        many = b"".join(b' a%d="x"' % number for number in range(size // 100))
        return _ELEMENT.sub(lambda found: found.group()[:-1].rstrip(b"/") + many + b">", body, count=1)
    place = _pick(_ATTRIBUTE if chance.random() < 0.5 else _TEXT, body, chance)
    end = place.end() - 1 if place else len(body)
    return body[:end] + chance.choice((b"x", b" ", b"&lt;", b"9")) * (size // 4) + body[end:]


def misdeclared(body: bytes, chance: random.Random) -> bytes:
    """Its encoding is not the one that it declares."""
    name = chance.choice((b"utf-16", b"utf-7", b"EBCDIC-CP-US", b"utf-32", b"shift_jis", b"no-such", b"iso-8859-1"))
    rest = _DECLARED.sub(b"", body)
    text = rest.decode("utf-8", "replace").encode(chance.choice(("utf-8", "utf-16", "cp1252", "utf-32")), "replace")
    return b'<?xml version="1.0" encoding="' + name + b'"?>' + text


def miscounted(body: bytes, chance: random.Random) -> bytes:
    """Spans, repeats, levels, references and indexes are absurd, one of them or all."""
    pattern = _COUNTS if _COUNTS.search(body) and chance.random() < 0.7 else _ATTRIBUTE
    number = odd_number(chance)
    found = _pick(pattern, body, chance)
    if not found:
        return flipped(body, chance)
    if chance.random() < 0.3:
        return pattern.sub(lambda one: one.group()[: one.start(2) - one.start()] + number + b'"', body)[:MOST_BYTES]
    return body[: found.start(2)] + number + body[found.end(2) :]


def misled(body: bytes, chance: random.Random) -> bytes:
    """Attributes have each other's values, so that styles, parts and lists lead in circles or nowhere."""
    values = [found.group(2) for found in _ATTRIBUTE.finditer(body)][:5000]
    for _ in range(chance.choice((1, 5, 50))):
        if found := _pick(_ATTRIBUTE, body, chance):
            body = body[: found.start(2)] + chance.choice(values) + body[found.end(2) :]
    return body


def shuffled(body: bytes, chance: random.Random) -> bytes:
    """Tags are missing, doubled or elsewhere, with what follows each."""
    tags = body.split(b"<")
    for _ in range(chance.choice((1, 5, 30))):
        at, other = chance.randrange(len(tags)), chance.randrange(len(tags))
        tags[at] = chance.choice((tags[other], b"/" + tags[other], tags[at].replace(b"/>", b">")))
    return b"<".join(tags)


def repeated(body: bytes, chance: random.Random) -> bytes:
    """An element and what is in it stand there thousands of times."""
    found = _pick(_ELEMENT, body, chance)
    end = body.find(b"</" + found.group(1) + b">", found.end()) if found else -1
    if not found or end < 0:
        return body
    piece = body[found.start() : end] + b"</" + found.group(1) + b">"
    return (
        body[: found.start()]
        + piece * min(chance.choice((100, 20_000)), MOST_BYTES // len(piece))
        + body[found.start() :]
    )


def spelled(body: bytes, chance: random.Random) -> bytes:
    """Characters that no XML may have, and references to them."""
    found = _pick(_TEXT, body, chance)
    at = found.start(1) if found else len(body)
    return body[:at] + chance.choice(_CHARACTERS) + body[at:]


def _pick(pattern: re.Pattern[bytes], body: bytes, chance: random.Random) -> re.Match[bytes] | None:
    """One of the first places that match, from somewhere in the body on; else the first of all."""
    start = chance.randrange(len(body) or 1)
    return pattern.search(body, start) or pattern.search(body)


XML: tuple[Change, ...] = (
    *(unclosed, nested, declared, enlarged, misdeclared, miscounted, miscounted, misled, misled, shuffled, shuffled),
    *(repeated, spelled, cut, flipped),
)

"""Breaks PDFs: their cross-references, page trees, filters, fonts, and what their streams hold."""

import random
import re
import zlib

from tests.hostile.broken_files_bytes import ANY, Change, flipped, odd_number, overwritten, renumbered

_REFERENCE = re.compile(rb"(?<![\d.])\d+ \d+ R\b")
_STREAM = re.compile(rb"stream\r?\n(.*?)\r?\n?endstream", re.DOTALL)
_SIZE = re.compile(
    rb"/(?:Count|Length|Size|Prev|Index|First|N|Columns|Colors|BitsPerComponent|Predictor|Width|Height|FirstChar"
    rb"|LastChar|DW|Rotate|W|Widths|MediaBox|XRefStm|Version|ParentTreeNextKey)[\s\[]*(-?[\d.]+)"
)
_KEY = re.compile(rb"/[A-Z][A-Za-z]{2,}")
_FILTER = re.compile(rb"/Filter\s*(?:/\w+|\[[^\]]*\])")
_XREF = re.compile(rb"\d{10} \d{5} [nf]")
_FILTERS = (
    *(b"/LZWDecode", b"/ASCIIHexDecode", b"/ASCII85Decode", b"/RunLengthDecode", b"/DCTDecode", b"/JPXDecode"),
    *(b"/JBIG2Decode", b"/CCITTFaxDecode", b"/Crypt", b"/NoSuchDecode", b"[]", b"[/FlateDecode/FlateDecode]"),
    b"[" + b"/FlateDecode " * 500 + b"]",
)
_PREDICTORS = (
    b"/DecodeParms<</Predictor 12/Columns 2147483647/Colors 32/BitsPerComponent 16>>",
    b"/DecodeParms<</Predictor 2/Columns 1000000000/Colors 4>>",
    b"/DecodeParms[<</Predictor 15/Columns 0>>]",
    b"/DecodeParms<</Predictor 99>>",
)


def misreferenced(body: bytes, chance: random.Random) -> bytes:
    """References lead elsewhere: page trees, parents, forms and fonts in circles or nowhere."""
    found = [one.group() for one in _REFERENCE.finditer(body)]
    if not found:
        return flipped(body, chance)
    if chance.random() < 0.1:
        target = chance.choice(found)
        return _REFERENCE.sub(lambda one: target if chance.random() < 0.5 else one.group(), body)
    places = chance.sample(list(_REFERENCE.finditer(body)), min(len(found), chance.choice((1, 2, 8))))
    for place in sorted(places, key=re.Match.start, reverse=True):
        other = chance.choice((*found[:50], b"999999 0 R", b"0 65535 R"))
        body = body[: place.start()] + other + body[place.end() :]
    return body


def missized(body: bytes, chance: random.Random) -> bytes:
    """Counts, lengths, widths and boxes are absurd."""
    found = list(_SIZE.finditer(body))
    for place in sorted(
        chance.sample(found, min(len(found), chance.choice((1, 2, 6)))), key=re.Match.start, reverse=True
    ):
        body = body[: place.start(1)] + odd_number(chance) + body[place.end(1) :]
    return body


def misfiltered(body: bytes, chance: random.Random) -> bytes:
    """A stream says that it is packed in another way than it is."""
    found = list(_FILTER.finditer(body))
    if not found:
        return flipped(body, chance)
    place = chance.choice(found)
    said = chance.choice((*(b"/Filter " + name for name in _FILTERS), *(place.group() + one for one in _PREDICTORS)))
    return body[: place.start()] + said + body[place.end() :]


def rekeyed(body: bytes, chance: random.Random) -> bytes:
    """Dictionaries have keys and names of each other: fonts, types and encodings that are none."""
    names = sorted({one.group() for one in _KEY.finditer(body)})
    found = list(_KEY.finditer(body))
    for place in sorted(
        chance.sample(found, min(len(found), chance.choice((1, 3, 10)))), key=re.Match.start, reverse=True
    ):
        body = body[: place.start()] + chance.choice((*names, b"/X")) + body[place.end() :]
    return body


def unreferenced(body: bytes, chance: random.Random) -> bytes:
    """The table of cross-references, or the way to it, is wrong or missing."""
    return chance.choice((_scrambled, _without_trailer, _looping, _two_heads))(body, chance)


def _scrambled(body: bytes, chance: random.Random) -> bytes:
    return _XREF.sub(lambda one: b"%010d 00000 n" % chance.randrange(len(body)), body)


def _without_trailer(body: bytes, chance: random.Random) -> bytes:
    return body.replace(chance.choice((b"trailer", b"startxref", b"xref", b"%%EOF")), b"")


def _looping(body: bytes, chance: random.Random) -> bytes:
    at = body.rfind(b"xref", 0, body.rfind(b"startxref"))
    return body.replace(b"/Root", b"/Prev %d/Root" % max(at, 0)).replace(b"/Type /XRef", b"/Type /XRef/Prev %d" % at)


def _two_heads(body: bytes, chance: random.Random) -> bytes:
    return body + body[chance.randrange(len(body)) :] + b"\ntrailer<</Root 1 0 R/Size 1>>\nstartxref\n0\n%%EOF"


def inner(body: bytes, chance: random.Random) -> bytes:
    """What a stream holds is broken, and packed well again."""
    found = list(_STREAM.finditer(body))
    if not found:
        return flipped(body, chance)
    place = chance.choice(found)
    try:
        data, is_packed = zlib.decompress(place.group(1)), True
    except zlib.error:
        data, is_packed = place.group(1), False
    changed = chance.choice((flipped, overwritten, renumbered, _operated))(data, chance)
    return body[: place.start(1)] + (zlib.compress(changed) if is_packed else changed) + body[place.end(1) :]


def _operated(data: bytes, chance: random.Random) -> bytes:
    """Operators that nest, move far away, or write one text very often."""
    more = chance.choice(
        (b" q" * 50_000, b" BT" * 5000, b" 1e30 0 0 1e-30 1e38 -1e38 cm", b" 0 Tz 0 TL 99999999 Tc", b" /X Do" * 1000)
    )
    shown = chance.choice((b" (text) Tj" * 20_000, b" [(a) -1e9 (b)] TJ", b" <FEFF> Tj", b" (((((((" * 1000, b" ET"))
    at = chance.randrange(len(data) + 1)
    return data[:at] + more + shown + data[at:]


PDF: tuple[Change, ...] = (
    *(misreferenced, misreferenced, missized, missized, misfiltered, rekeyed, unreferenced, inner, inner),
    *ANY,
)

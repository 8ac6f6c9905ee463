"""Files that nobody should send: seeds cut, flipped and spliced by a seeded chance, and bombs."""

import io
import random
import struct
import zipfile
from collections.abc import Callable, Collection, Iterator

from tests.workers.extract.files import manual
from tests.workers.extract.office import MAKERS, content, make_docx, repacked, workbook, zipped

TYPED = frozenset(
    {
        *("text", "malformed_document", "no_text", "encrypted_document", "unsupported_type", "too_large"),
        *("needs_rendering", "parser_out_of_memory", "parser_timeout"),
    }
)
"""What may come of any file."""

W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'


def seeds() -> dict[str, bytes]:
    """A sound file of each kind."""
    made = {kind: make(content(3)) for kind, make in MAKERS.items()}
    return made | {
        "pdf": manual(2),
        "json": b'[{"name": "A", "price": 1.5}]',
        "xml": b'<?xml version="1.0"?><a><b>c</b></a>',
    }


def mutants(count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Names and bodies of so many broken files, always the same ones for a seed."""
    chance = random.Random(seed)
    sound = seeds()
    kinds = sorted(sound)
    for number in range(count):
        kind = kinds[number % len(kinds)]
        change = chance.choice(_CHANGES)
        yield f"{kind}-{number}-{change.__name__.strip('_')}.{kind}", change(sound[kind], sound, chance)


Change = Callable[[bytes, dict[str, bytes], random.Random], bytes]


def _cut(body: bytes, sound: dict[str, bytes], chance: random.Random) -> bytes:
    return body[: chance.randrange(4, len(body))]


def _flipped(body: bytes, sound: dict[str, bytes], chance: random.Random) -> bytes:
    changed = bytearray(body)
    for _ in range(chance.choice((1, 3, 30, 300))):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _spliced(body: bytes, sound: dict[str, bytes], chance: random.Random) -> bytes:
    other = sound[chance.choice(sorted(sound))]
    at, start = chance.randrange(len(body)), chance.randrange(len(other))
    return body[:at] + other[start : start + chance.randrange(1, 4000)] + body[at + chance.randrange(4000) :]


def _inner(body: bytes, sound: dict[str, bytes], chance: random.Random) -> bytes:
    """Breaks a member and packs the zip anew, so that the damage reaches the parser; other files are flipped."""
    if not body.startswith(b"PK"):
        return _flipped(body, sound, chance)
    with zipfile.ZipFile(io.BytesIO(body)) as made:
        members = {name: made.read(name) for name in made.namelist()}
    texts = [name for name, data in members.items() if data and name.endswith((".xml", ".xhtml", ".rels", ".opf"))]
    for name in chance.sample(texts, min(len(texts), chance.choice((1, 2, 5)))):
        members[name] = chance.choice((_cut, _flipped, _swapped, _swapped))(members[name] + b"....", sound, chance)
    return zipped(dict(members))


def _swapped(body: bytes, sound: dict[str, bytes], chance: random.Random) -> bytes:
    """Well-formed, but with elements repeated or numbers replaced by absurd ones."""
    tags = body.split(b"<")
    for _ in range(chance.choice((1, 5, 20))):
        at = chance.randrange(len(tags))
        if chance.random() < 0.5:
            tags[at] = _with_number(tags[at], chance)
        else:
            tags[at] = chance.choice(tags)
    return b"<".join(tags)


def _with_number(tag: bytes, chance: random.Random) -> bytes:
    start = tag.find(b'="') + 2
    end = tag.find(b'"', start)
    if start < 2 or end < 0:
        return tag
    return tag[:start] + chance.choice((b"-1", b"999999999", b"0", b"", b"NaN", b"1e308", b"\xc3\xa9")) + tag[end:]


_CHANGES: tuple[Change, ...] = (_cut, _flipped, _spliced, _inner, _inner)


# --- bombs ------------------------------------------------------------------------------------------------------------


def bombs(names: Collection[str] | None = None) -> dict[str, bytes]:
    """Small files that want to be large, deep, slow, or to lead elsewhere; by name. Only these, or all."""
    return {name: make() for name, make in bomb_makers().items() if names is None or name in names}


def bomb_makers() -> dict[str, Callable[[], bytes]]:
    """What makes each bomb."""
    docx = make_docx(content(1))
    paragraph = "<w:p><w:r><w:t>word</w:t></w:r></w:p>"
    body = f"<w:document {W}><w:body>{{}}</w:body></w:document>"
    laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    entities = f'<?xml version="1.0"?><!DOCTYPE d [<!ENTITY l0 "ha">{laughs}]>'
    external = '<?xml version="1.0"?><!DOCTYPE d [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
    return {
        "spaces.docx": lambda: repacked(docx, {"word/document.xml": body.format(" " * (64 << 20))}),
        "spaces-declared-small.docx": lambda: _lying(
            repacked(docx, {"word/document.xml": body.format(" " * (8 << 20))})
        ),
        "laughs.docx": lambda: repacked(
            docx, {"word/document.xml": entities + body.format("<w:p><w:r><w:t>&l9;</w:t></w:r></w:p>")}
        ),
        "external.docx": lambda: repacked(
            docx, {"word/document.xml": external + body.format("<w:p><w:r><w:t>&x;</w:t></w:r></w:p>")}
        ),
        "deep.docx": lambda: repacked(docx, {"word/document.xml": body.format("<w:sdt>" * 100_000)}),
        "deep-closed.docx": lambda: repacked(
            docx, {"word/document.xml": body.format("<w:sdt>" * 240 + paragraph + "</w:sdt>" * 240)}
        ),
        "tables.docx": lambda: repacked(docx, {"word/document.xml": body.format(_nested_tables(80) + paragraph)}),
        "paragraphs.docx": lambda: repacked(docx, {"word/document.xml": body.format(paragraph * 200_000)}),
        "merged.docx": lambda: repacked(docx, {"word/document.xml": body.format(_merged_rows(20_000))}),
        "styles.docx": lambda: repacked(docx, {"word/styles.xml": f"<w:styles {W}>{_style_loop(2000)}</w:styles>"}),
        "cells.xlsx": lambda: workbook('<row><c r="XFD1"><v>1</v></c></row>' * 200_000),
        "strings.xlsx": lambda: workbook('<row><c t="s"><v>0</v></c></row>' * 300_000, "<si><t>x</t></si>"),
        "shared.xlsx": lambda: workbook(_wide_rows(), f"<si><t>{'word ' * 1_000_000}</t></si>"),
        "numbers.xlsx": lambda: workbook("<row><c><v>1e308</v></c></row>" * 9),
        "laughs.xlsx": lambda: workbook('<row><c t="s"><v>0</v></c></row>', "<si><t>&l9;</t></si>", entities),
        "repeated.ods": _repeated,
        "quine.zip": lambda: zipped({"a.zip": zipped({"b.zip": zipped({"c": b"0" * (50 << 20)})})}),
        "members.docx": lambda: zipped({f"word/{number}.xml": b"" for number in range(25_000)}),
        "twice.docx": lambda: _twice(docx),
        "laughs.xml": (entities + "<d>&l9;</d>").encode,
        "deep.json": lambda: b"[" * 200_000 + b"]" * 200_000,
        "deep.rtf": lambda: rb"{\rtf1 " + b"{" * 200_000 + b"x",
        "words.rtf": lambda: rb"{\rtf1 " + rb"\b" * 1_000_000 + b" x}",
        "binary.rtf": lambda: rb"{\rtf1 x\bin999999999 " + b"y" * 1000,
        "quotes.csv": lambda: b"a,b,c\n" + b'"' * 3_000_001,
        "columns.csv": lambda: b"," * 5_000_000 + b"x\n" + b"," * 5_000_000 + b"y\n",
        "heads.csv": lambda: (
            (",".join(f"{'h' * 70}{n}" for n in range(1000)) + "\n").encode() + (b"1," * 999 + b"1\n") * 3000
        ),
        "chapters.epub": _chapters,
    }


def _lying(body: bytes) -> bytes:
    """The zip with its largest member's declared size made small."""
    with zipfile.ZipFile(io.BytesIO(body)) as made:
        size = max(member.file_size for member in made.infolist())
    return body.replace(struct.pack("<L", size), struct.pack("<L", 100))


def _nested_tables(depth: int) -> str:
    return "<w:tbl><w:tr><w:tc>" * depth + "</w:tc></w:tr></w:tbl>" * depth


def _merged_rows(count: int) -> str:
    first = f'<w:tr><w:tc><w:tcPr><w:vMerge w:val="restart"/></w:tcPr><w:p><w:r><w:t>{"x" * 1_000_000}</w:t></w:r></w:p></w:tc>'
    others = "<w:tr><w:tc><w:tcPr><w:vMerge/></w:tcPr></w:tc><w:tc/></w:tr>" * count
    return f"<w:tbl>{first}<w:tc/></w:tr>{others}</w:tbl>"


def _style_loop(count: int) -> str:
    return "".join(f'<w:style w:styleId="s{n}"><w:basedOn w:val="s{(n + 1) % count}"/></w:style>' for n in range(count))


def _wide_rows() -> str:
    """Rows of a thousand cells that are all the first text."""
    return ("<row>" + '<c t="s"><v>0</v></c>' * 1000 + "</row>") * 100


def _repeated() -> bytes:
    cell = '<table:table-cell table:number-columns-repeated="999999999"><text:p>x</text:p></table:table-cell>'
    row = f'<table:table-row table:number-rows-repeated="999999999">{cell}</table:table-row>'
    spaces = (
        'xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0"'
        ' xmlns:table="urn:oasis:names:tc:opendocument:xmlns:table:1.0"'
        ' xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0"'
    )
    markup = (
        f"<office:document-content {spaces}><office:body><office:spreadsheet><table:table>{row * 1000}</table:table>"
        "</office:spreadsheet></office:body></office:document-content>"
    )
    return zipped({"mimetype": "application/vnd.oasis.opendocument.spreadsheet", "content.xml": markup})


def _twice(docx: bytes) -> bytes:
    buffer = io.BytesIO(docx)
    with zipfile.ZipFile(buffer, "a") as made:
        made.writestr("WORD/document.xml", f"<w:document {W}/>")
    return buffer.getvalue()


def _chapters() -> bytes:
    items = "".join(f'<item id="c{n}" href="{"x/../" * n}c.xhtml" media-type="text/html"/>' for n in range(5000))
    spine = "".join(f'<itemref idref="c{n}"/>' for n in range(5000))
    opf = f"<package><manifest>{items}</manifest><spine>{spine}</spine></package>"
    container = '<container><rootfiles><rootfile full-path="b.opf"/></rootfiles></container>'
    chapter = b"<p>" + b"<b>x" * 100_000
    return zipped({"META-INF/container.xml": container, "b.opf": opf, "c.xhtml": chapter})

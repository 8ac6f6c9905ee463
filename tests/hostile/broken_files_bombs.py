"""Files that want to be large, deep, slow or endless, beside those of `tests.workers.extract.broken`."""

import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial

from tests.hostile.broken_files_zips import member, members_of, packed
from tests.workers.extract import broken
from tests.workers.extract.office import EPUB_CONTAINER, content, make_docx, repacked, workbook, zipped

Maker = Callable[[], bytes]
MB = 1 << 20
_W = broken.W


def bombs() -> dict[str, Maker]:
    """What makes each, by name: one at a time, for they are large."""
    return {**broken.bomb_makers(), **_ZIPS, **_OFFICE, **_PDFS, **dict(_texts()), **dict(_markdown())}


# --- zip files --------------------------------------------------------------------------------------------------------


def _overlapping() -> bytes:
    """One megabyte of text that is twenty thousand chapters."""
    chapter = member("c0.xhtml", b"<p>word</p>" * 90_000)
    items = "".join(f'<item id="c{n}" href="c{n}.xhtml" media-type="text/html"/>' for n in range(15_000))
    spine = "".join(f'<itemref idref="c{n}"/>' for n in range(15_000))
    opf = f"<package><manifest>{items}</manifest><spine>{spine}</spine></package>".encode()
    head = [member("META-INF/container.xml", EPUB_CONTAINER.encode()), member("OPS/book.opf", opf)]
    at = sum(30 + len(one.name) + len(one.packed) for one in head)
    others = (
        replace(chapter, name=b"OPS/c%d.xhtml" % n, packed=b"", packed_size=len(chapter.packed))
        for n in range(1, 15_000)
    )
    return packed([*head, replace(chapter, name=b"OPS/c0.xhtml"), *(replace(one, at=at) for one in others)])


def _inside_itself() -> bytes:
    """A zip in a zip in a zip, a thousand deep, that calls itself a Word document at every step."""
    body = make_docx(content(1))
    for _ in range(300):
        body = repacked(zipped({"[Content_Types].xml": "<Types/>"}), {"word/document.xml": body})
    return body


def _thousands(kind: Maker, part: str) -> Maker:
    more = {part.format(number): "<a/>" for number in range(15_000)}
    return lambda: repacked(kind(), more)


def _book(chapters: int, chapter: str) -> bytes:
    items = "".join(f'<item id="c{n}" href="c{n}.xhtml" media-type="text/html"/>' for n in range(chapters))
    spine = "".join(f'<itemref idref="c{n}"/>' for n in range(chapters))
    opf = f"<package><manifest>{items}</manifest><spine>{spine}</spine></package>"
    parts = {f"OPS/c{n}.xhtml": f"{chapter}{n}" for n in range(chapters)}
    return zipped({"META-INF/container.xml": EPUB_CONTAINER, "OPS/book.opf": opf, **parts})


_ZIPS: Mapping[str, Maker] = {
    "overlapping.epub": _overlapping,
    "inside-itself.docx": _inside_itself,
    "thousands.docx": _thousands(lambda: make_docx(content(1)), "word/media/{}.xml"),
    "thousands.epub": lambda: _book(9_000, "<h1>Chapter</h1><p>text "),
    "deep.epub": lambda: _book(3, "<div>" * 100_000 + "text"),
    "nothing.docx": lambda: packed([]),
    "said-huge.docx": lambda: packed([replace(one, size=0xFFFFFFFE) for one in members_of(make_docx(content(1)))]),
}


# --- office files -----------------------------------------------------------------------------------------------------


def _document(markup: str, **parts: str) -> bytes:
    body = f"<w:document {_W}><w:body>{markup}</w:body></w:document>"
    return repacked(
        make_docx(content(1)), {"word/document.xml": body, **{f"word/{k}.xml": v for k, v in parts.items()}}
    )


def _odf(kind: str, markup: str) -> bytes:
    names = ("office", "table", "text", "draw")
    spaces = " ".join(f'xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"' for name in names)
    body = f"<office:document-content {spaces}><office:body>{markup}</office:body></office:document-content>"
    return zipped({"mimetype": f"application/vnd.oasis.opendocument.{kind}", "content.xml": body})


_OFFICE: Mapping[str, Maker] = {
    "million.xlsx": lambda: workbook(("<row>" + "<c><v>1.5</v></c>" * 100 + "</row>") * 10_000),
    "columns.xlsx": lambda: workbook('<row><c r="XFD1"><v>1</v></c></row>' * 50_000),
    "rows.xlsx": lambda: workbook('<row r="999999999"><c><v>1</v></c></row><row r="1"><c><v>1</v></c></row>' * 40_000),
    "indexes.xlsx": lambda: workbook(
        '<row><c t="s"><v>999999999</v></c><c t="s"><v>-1</v></c></row>' * 50_000, "<si/>"
    ),
    "format.xlsx": lambda: workbook(
        '<row><c s="0"><v>45000.5</v></c></row>' * 1000,
        styles=f'<numFmts><numFmt numFmtId="200" formatCode="{"[$-" * 50_000}yyyy{"0#?," * 50_000}"/></numFmts>'
        '<cellXfs><xf numFmtId="200"/></cellXfs>',
    ),
    "attributes.docx": lambda: _document("<w:p " + " ".join(f'w:a{n}="x"' for n in range(400_000)) + "/>"),
    "attribute.docx": lambda: _document(f'<w:p w:a="{"x" * (9 * MB)}"><w:r><w:t>text</w:t></w:r></w:p>'),
    "runs.docx": lambda: _document(f"<w:p>{'<w:r><w:t>a</w:t></w:r>' * 400_000}</w:p>"),
    "boxes.docx": lambda: _document(
        "<w:p><w:r><w:txbxContent>" * 80 + "<w:p><w:r><w:t>x</w:t></w:r></w:p>" + "</w:txbxContent></w:r></w:p>" * 80
    ),
    "spans.docx": lambda: _document(
        "<w:tbl>"
        + '<w:tr><w:tc><w:tcPr><w:gridSpan w:val="999999999"/></w:tcPr><w:p/></w:tc></w:tr>' * 60_000
        + "</w:tbl>"
    ),
    "repeated.ods": lambda: _odf(
        "spreadsheet",
        "<office:spreadsheet><table:table>"
        + '<table:table-row><table:table-cell table:number-columns-repeated="1000"><text:p>word</text:p></table:table-cell></table:table-row>'
        * 40_000
        + "</table:table></office:spreadsheet>",
    ),
    "spaces.odt": lambda: _odf(
        "text", "<office:text><text:p>" + '<text:s text:c="999999999"/>' * 100_000 + "a</text:p></office:text>"
    ),
    "lists.odt": lambda: _odf(
        "text",
        "<office:text>"
        + "<text:list><text:list-item>" * 120
        + "<text:p>x</text:p>"
        + "</text:list-item></text:list>" * 120
        + "</office:text>",
    ),
    "frames.odt": lambda: _odf(
        "text",
        "<office:text>" + "<text:p>a<draw:text-box>" * 120 + "</draw:text-box></text:p>" * 120 + "</office:text>",
    ),
    "note.odt": lambda: _odf(
        "text", f"<office:text>{'<text:p><text:note>' * 60 + 'x' + '</text:note></text:p>' * 60}</office:text>"
    ),
}


# --- PDFs -------------------------------------------------------------------------------------------------------------


def pdf(objects: Mapping[int, str | bytes], *, trailer: str = "/Root 1 0 R") -> bytes:
    """A PDF without a table of cross-references, of objects by number."""
    parts = [b"%PDF-1.7"]
    for number, text in objects.items():
        parts.append(b"%d 0 obj\n%b\nendobj" % (number, text.encode() if isinstance(text, str) else text))
    return b"\n".join([*parts, f"trailer<<{trailer}/Size {max(objects) + 1}>>\nstartxref\n0\n%%EOF".encode()])


def stream(data: bytes, more: str = "") -> bytes:
    """A stream's object."""
    return f"<<{more}/Length {len(data)}>>stream\n".encode() + data + b"\nendstream"


_FONT = "<</Font<</F 5 0 R>>"
_BASIC: dict[int, str | bytes] = {
    1: "<</Type/Catalog/Pages 2 0 R>>",
    2: "<</Type/Pages/Kids[3 0 R]/Count 1>>",
    3: f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 800]/Contents 4 0 R/Resources{_FONT}/XObject<</X 6 0 R>>>>>>",
    4: stream(b"BT /F 12 Tf 20 700 Td (A page of text) Tj ET /X Do"),
    5: "<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
}


def _page(data: bytes, more: str = "", **others: str | bytes) -> bytes:
    """A PDF of one page with this content; other objects are given as `_6`, `_7` …"""
    added = {int(name[1:]): text for name, text in others.items()}
    return pdf({**_BASIC, 4: stream(data, more), **added})


def _zeros(size: int) -> bytes:
    packer = zlib.compressobj(1)
    return b"".join(packer.compress(b" " * MB) for _ in range(size)) + packer.flush()


def flated(size: int) -> bytes:
    """A PDF whose page unpacks to so many MiB."""
    return _page(_zeros(size), "/Filter/FlateDecode")


_TEXT = b"BT /F 12 Tf 20 700 Td (text) Tj ET /X Do"
_IMAGE = "/Type/XObject/Subtype/Image/ColorSpace/DeviceRGB/BitsPerComponent 8"
_FORM = f"/Type/XObject/Subtype/Form/BBox[0 0 600 800]/Resources{_FONT}/XObject<</X 6 0 R/Y 7 0 R>>>>"
_PDFS: Mapping[str, Maker] = {
    "flate.pdf": partial(flated, 1024),
    "flate-twice.pdf": lambda: _page(zlib.compress(_zeros(1024)), "/Filter[/FlateDecode/FlateDecode]"),
    "filters.pdf": lambda: _page(b"x" * 1000, f"/Filter[{'/ASCIIHexDecode' * 50_000}]"),
    "predictor.pdf": lambda: _page(
        zlib.compress(b"\2" * 100_000), "/Filter/FlateDecode/DecodeParms<</Predictor 12/Columns 2147483647/Colors 32>>"
    ),
    "image.pdf": lambda: _page(_TEXT, _6=stream(_zeros(900), f"{_IMAGE}/Width 30000/Height 30000/Filter/FlateDecode")),
    "image-said.pdf": lambda: _page(_TEXT, _6=stream(b"x", f"{_IMAGE}/Width 2147483647/Height 2147483647")),
    "forms.pdf": lambda: _page(_TEXT, _6=stream(_TEXT, _FORM)),
    "forms-in-turn.pdf": lambda: _page(_TEXT, _6=stream(b"/Y Do /Y Do", _FORM), _7=stream(b"/X Do /X Do", _FORM)),
    "shown.pdf": lambda: _page(b"BT /F 12 Tf 20 700 Td " + b"(some words of text) Tj 0 -1 Td " * 300_000 + b"ET"),
    "stacked.pdf": lambda: _page(b"q " * 1_000_000 + _TEXT),
    "pages-loop.pdf": lambda: pdf({**_BASIC, 2: "<</Type/Pages/Kids[2 0 R 2 0 R]/Count 2147483647>>"}),
    "pages-deep.pdf": lambda: pdf(
        {1: "<</Type/Catalog/Pages 2 0 R>>"}
        | {n: f"<</Type/Pages/Kids[{n + 1} 0 R]/Count 1/Parent {n - 1} 0 R>>" for n in range(2, 50_000)}
    ),
    "pages-same.pdf": lambda: pdf({**_BASIC, 2: f"<</Type/Pages/Kids[{'3 0 R ' * 200_000}]/Count 200000>>"}),
    "pages-said.pdf": lambda: pdf({**_BASIC, 2: "<</Type/Pages/Kids[3 0 R]/Count 2147483647>>"}),
    "outline-loop.pdf": lambda: pdf(
        {
            **_BASIC,
            1: "<</Type/Catalog/Pages 2 0 R/Outlines 8 0 R>>",
            8: "<</First 9 0 R/Last 9 0 R/Count 9>>",
            9: "<</Title(Loop)/Parent 8 0 R/Next 9 0 R/First 9 0 R/Dest[3 0 R /Fit]>>",
        }
    ),
    "arrays.pdf": lambda: pdf(
        {**_BASIC, 7: "[" * 500_000 + "]" * 500_000, 3: "<</Type/Page/Parent 2 0 R/Contents 7 0 R>>"}
    ),
    "length.pdf": lambda: pdf({**_BASIC, 4: b"<</Length 4 0 R>>stream\nBT (x) Tj ET\nendstream"}),
    "box.pdf": lambda: pdf(
        {**_BASIC, 3: "<</Type/Page/Parent 2 0 R/MediaBox[0 0 1e30 -1e30]/UserUnit 1e20/Contents 4 0 R>>"}
    ),
    "unicode.pdf": lambda: _page(
        _TEXT,
        _5="<</Type/Font/Subtype/Type1/BaseFont/Helvetica/ToUnicode 8 0 R>>",
        _8=stream(b"begincmap " + b"1 beginbfrange <0000> <FFFF> <D800> endbfrange " * 20_000),
    ),
    "widths.pdf": lambda: _page(
        _TEXT,
        _5=f"<</Type/Font/Subtype/TrueType/BaseFont/X/FirstChar 0/LastChar 2147483647/Widths[{'1e30 ' * 300_000}]>>",
    ),
}


# --- texts ------------------------------------------------------------------------------------------------------------


def _texts() -> Iterator[tuple[str, Maker]]:
    yield "nested.html", lambda: b"<html><body>" + b"<div>" * 100_000 + b"text"
    yield "spans.html", lambda: b"<p>" + b"<b><i>" * 50_000 + b"text" + b"</b>" * 50_000
    yield "tables.html", lambda: b"<html>" + b"<table><tr><td>" * 2_000 + b"text"
    yield "colspans.html", lambda: b"<table>" + b"<tr><td colspan=999999999 rowspan=999999999>x<td>y" * 5_000
    yield "attribute.html", lambda: b"<html><p title='" + b"x" * (10 * MB) + b"'>text"
    yield "attributes.html", lambda: b"<html><p " + b" ".join(b"a%d=x" % n for n in range(300_000)) + b">text"
    yield "comments.html", lambda: b"<html><p>text" + b"<!-- " * 500_000
    yield "brackets.html", lambda: b"<html><p>text" + b"<" * (5 * MB)
    yield "entities.html", lambda: b"<html><p>" + b"&amp" * MB
    yield "paragraphs.html", lambda: b"<html>" + b"<p>A sentence of some words, and no more." * 200_000
    yield "links.html", lambda: b"<html>" + b"".join(b"<a href='/%d'>a</a>" % n for n in range(200_000))
    yield "field.csv", lambda: b'a,b,c\n1,2,"' + b"x" * (50 * MB)
    yield "line.csv", lambda: b"a,b,c\n1,2," + b"x" * (38 * MB)
    yield "empty.csv", lambda: b"a,b,c\n" + b",,\n" * 5_000_000
    yield "line.txt", lambda: b"word " * (4 * MB)
    yield "blank.txt", lambda: b"a" + b"\n \t" * (4 * MB) + b"b"
    yield "marks.txt", lambda: b"a" + "\u0301\u200b\u202e".encode() * MB
    yield "wide.txt", lambda: b"\xff\xfe" + "текст ".encode("utf-16-be") * 100_000
    yield "wider.txt", lambda: b"\xff\xfe\0\0" + b"\xff" * 400_001
    yield "surrogates.txt", lambda: b"text \xed\xa0\x80" * 100_000
    yield "digits.json", lambda: b"[" + b"9" * (5 * MB) + b"]"
    yield "keys.json", lambda: b"{" + b",".join(b'"k%d":{"a":1}' % n for n in range(300_000)) + b"}"
    yield "escapes.json", lambda: b'["' + rb"\ud800\u0000" * 400_000 + b'"]'
    yield (
        "attributes.xml",
        lambda: b"<?xml version='1.0'?><a " + b" ".join(b"a%d='x'" % n for n in range(300_000)) + b"/>",
    )
    yield "siblings.xml", lambda: b"<?xml version='1.0'?><a>" + b"<b>x</b>" * 1_000_000 + b"</a>"
    yield "groups.rtf", lambda: rb"{\rtf1 " + b"{a}" * 1_000_000 + b"}"
    yield "rows.rtf", lambda: rb"{\rtf1 " + rb"\trowd\intbl a\cell b\cell\row" * 200_000 + b"}"
    yield (
        "fonts.rtf",
        lambda: rb"{\rtf1{\fonttbl" + b"".join(rb"{\f%d\fcharset128 x;}" % n for n in range(200_000)) + rb"}x\par}",
    )
    yield "unicode.rtf", lambda: rb"{\rtf1\uc99 " + rb"\u-10179?\u-8704?" * 300_000 + rb"\par}"


def _markdown() -> Iterator[tuple[str, Maker]]:
    """What is known to take parsers a time that grows faster than the text."""
    pieces = {
        **{"brackets": b"[", "stars": b"*", "ticks": b"`", "quotes": b">", "underscores": b"_", "images": b"!["},
        **{"angles": b"<", "braces": b"[a](", "bolds": b"**a ", "lists": b"- ", "pipes": b"|", "entities": b"&"},
        **{
            "comments": b"<!--",
            "cdata": b"<![CDATA[",
            "escapes": b"\\",
            "closed": b"a]",
            "dots": b"1. ",
            "links": b"[a]: x\n",
        },
    }
    for name, piece in pieces.items():
        yield f"{name}.md", partial(_headed, piece)
    yield "ticks-grow.md", lambda: b"# A\n\n" + b" ".join(b"`" * n for n in range(1, 3000))
    yield "quotes-deep.md", lambda: b"# A\n\n" + b"".join(b"> " * n + b"a\n" for n in range(1, 1500))
    yield "lists-deep.md", lambda: b"# A\n\n" + b"".join(b"  " * n + b"- a\n" for n in range(1, 1500))
    yield "table.md", lambda: b"# A\n\n" + b"|a" * 30_000 + b"\n" + b"|-" * 30_000 + b"\n" + b"|\n" * 30_000


def _headed(piece: bytes) -> bytes:
    return b"# A heading\n\n" + piece * (10 * MB // len(piece))

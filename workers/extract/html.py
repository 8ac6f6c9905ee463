"""Owns how a web page is read: what it says of itself, what it hides, its main text, and data that adds to that."""

from collections.abc import Iterator, Sequence
from typing import Any

from chat_api.core.errors import NeedsRendering, NoText
from workers.documents import Block, Document
from workers.extract.encoding import decode, meta_charset
from workers.extract.html_choice import FEW_WORDS, main_pieces
from workers.extract.html_contact import contact_of
from workers.extract.html_dates import page_dates
from workers.extract.html_page import MOST_LINKS, Page, describe, parse
from workers.extract.html_prune import drop_hidden, words
from workers.extract.structured_data import missing_from, page_data
from workers.extract.text import decoding_warnings


def extract_html(body: bytes, *, url: str, charset: str | None = None) -> Document:
    """The page's main text as blocks, none where it has none. `url` is the base of its links, `charset` what its server
    declared.

    Raises NoText where there is no page, and NeedsRendering where scripts would have to bring the text.
    """
    decoded = decode(body, (charset, meta_charset(body)))
    tree = parse(decoded.text)
    if tree is None:
        raise NoText
    held = list(tree.iter())  # lxml makes an element's Python object anew wherever none is held
    page = describe(tree, url)
    data = page_data(tree)
    dates = page_dates(tree, data.dates)
    hidden = drop_hidden(tree)
    shell, contact = _is_shell(tree), contact_of(tree)
    blocks = [piece.block for piece in main_pieces(tree, article=data.article)]
    blocks += missing_from(blocks, data)
    held.clear()
    _check(blocks, shell)
    return Document(
        title=page.title,
        blocks=tuple(blocks),
        media_type="text/html",
        language=page.language,
        links=page.links,
        canonical_url=page.canonical_url,
        directives=page.directives,
        contact=contact,
        warnings=(*decoding_warnings(decoded), *_warnings(hidden, page)),
        **dates,
    )


def _check(blocks: Sequence[Block], shell: bool) -> None:
    if shell and sum(words(block.text) for block in blocks) < FEW_WORDS and all(block.level != 1 for block in blocks):
        raise NeedsRendering


def _warnings(hidden: int, page: Page) -> Iterator[str]:
    if hidden:
        yield f"{hidden} words that the page hides from its readers were dropped."
    if page.more_links:
        yield f"Only the first {MOST_LINKS:,} of the page's links are followed."


def _is_shell(tree: Any) -> bool:
    """Whether the page has scripts and an empty element for them to fill, or words for those without them."""
    if next(tree.iter("script"), None) is None:
        return False
    if any("javascript" in element.text_content().lower() for element in tree.iter("noscript")):
        return True
    return any(
        element.get("id") and not len(element) and not (element.text or "").strip()
        for element in tree.iter("div", "main", "section")
    )

"""Owns Markdown: its tokens become blocks."""

import re
from collections.abc import Iterator, Sequence

from markdown_it import MarkdownIt
from markdown_it.token import Token

from chat_api.core.errors import NoText
from workers.documents import Block, Document
from workers.extract.code_language import named_language
from workers.extract.dates import Dates, dates_of
from workers.extract.encoding import decode
from workers.extract.text import decoding_warnings

_FRONT_MATTER = re.compile(r"\A\ufeff?---[ \t]*\n(.*?\n)?(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)
_FRONT_TITLE = re.compile(r"^title:[ \t]*(.+?)[ \t]*$", re.MULTILINE)
_FRONT_DATE = re.compile(r"^(?:date|published)[ \t]*:[ \t]*(.+?)[ \t]*$", re.MULTILINE)
_FRONT_CHANGE = re.compile(r"^(?:lastmod|last_modified_at|modified|updated)[ \t]*:[ \t]*(.+?)[ \t]*$", re.MULTILINE)
_TAG = re.compile(r"<!--.*?-->|</?[A-Za-z][^<>]*>", re.DOTALL)


def extract_markdown(body: bytes, *, charset: str | None = None) -> Document:
    """The document's blocks; the title is the front matter's, else the first heading's of level 1, else empty.

    Raises NoText.
    """
    decoded = decode(body, (charset,))
    text = decoded.text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")
    front = _FRONT_MATTER.match(text)
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(text[front.end() :] if front else text)
    blocks = tuple(block for block in _blocks(tokens) if block.text.strip())
    if not any(char.isalnum() for block in blocks for char in block.text):
        raise NoText
    return Document(
        title=_front_title(front.group(1) if front else None) or _first_heading(blocks),
        blocks=blocks,
        media_type="text/markdown",
        warnings=decoding_warnings(decoded),
        **_front_dates((front.group(1) if front else None) or ""),
    )


def _front_title(matter: str | None) -> str:
    found = _FRONT_TITLE.search(matter or "")
    return found.group(1).strip("\"'").strip() if found else ""


def _front_dates(matter: str) -> Dates:
    found, changed = (
        [date.strip("\"'") for date in pattern.findall(matter)] for pattern in (_FRONT_DATE, _FRONT_CHANGE)
    )
    return dates_of(found, changed)


def _first_heading(blocks: Sequence[Block]) -> str:
    return next((block.text for block in blocks if block.kind == "heading" and block.level == 1), "")


def _blocks(tokens: Sequence[Token]) -> Iterator[Block]:
    index = 0
    while index < len(tokens):
        token = tokens[index]
        end = _closing(tokens, index)
        inside = tokens[index + 1 : end]
        if token.type == "heading_open":
            yield Block("heading", _inline(inside), int(token.tag[1]))
        elif token.type in {"fence", "code_block"}:
            yield Block("code", token.content.strip("\n"), language=named_language(token.info.strip().split(" ")[0]))
        elif token.type in {"bullet_list_open", "ordered_list_open"} and not _rich(inside):
            yield Block("list", "\n".join(_items(tokens[index : end + 1])))
        elif token.type == "table_open":
            yield Block("table", "\n".join(_rows(inside)))
        elif token.type in {"paragraph_open", "html_block"}:
            yield Block("paragraph", _inline(inside or [token]))
        else:
            end = index  # a quote or a list with rich items: what is inside comes next
        index = end + 1


def _closing(tokens: Sequence[Token], start: int) -> int:
    """The index of the token that closes the one at `start`; `start` itself for a token that stands alone."""
    depth = 0
    for index in range(start, len(tokens)):
        depth += tokens[index].nesting
        if depth <= 0:
            return index
    return len(tokens) - 1


def _rich(tokens: Sequence[Token]) -> bool:
    return any(
        token.type in {"fence", "code_block", "table_open", "heading_open", "blockquote_open"} for token in tokens
    )


def _items(tokens: Sequence[Token]) -> Iterator[str]:
    numbers: list[int | None] = []  # one per open list: the next number, or None for bullets
    marker = ""
    for token in tokens:
        if token.type.endswith("_list_open"):
            numbers.append(int(token.attrGet("start") or 1) if token.tag == "ol" else None)
        elif token.type.endswith("_list_close"):
            numbers.pop()
        elif token.type == "list_item_open":
            marker = _marker(numbers)
        elif token.type in {"inline", "html_block"} and (text := _one_line([token])):
            yield (marker or "  " * len(numbers)) + text
            marker = ""


def _marker(numbers: list[int | None]) -> str:
    """The indented mark of the innermost list's next item, which is counted."""
    number, indent = numbers[-1], "  " * (len(numbers) - 1)
    if number is None:
        return f"{indent}- "
    numbers[-1] = number + 1
    return f"{indent}{number}. "


def _rows(tokens: Sequence[Token]) -> Iterator[str]:
    cells: list[str] = []
    for token in tokens:
        if token.type == "inline":
            cells.append(_one_line([token]).replace("|", "\\|"))
        elif token.type == "tr_close":
            yield f"| {' | '.join(cells)} |"
            cells = []
        elif token.type == "thead_close":
            width = sum(other.type == "th_open" for other in tokens)
            yield "|" + " --- |" * width


def _one_line(tokens: Sequence[Token]) -> str:
    return " ".join(_inline(tokens).split())


def _inline(tokens: Sequence[Token]) -> str:
    """The text that a reader sees: no emphasis marks, no link targets, no tags; images by their alternative text."""
    return "".join(part for token in tokens for part in _parts(token)).strip()


def _parts(token: Token) -> Iterator[str]:
    if token.type in {"html_inline", "html_block"}:
        yield _TAG.sub("", token.content)
    elif token.type in {"softbreak", "hardbreak"}:
        yield "\n" if token.type == "hardbreak" else " "
    elif token.children:
        for child in token.children:
            yield from _parts(child)
    else:
        yield token.content

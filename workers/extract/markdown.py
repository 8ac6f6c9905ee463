"""Owns Markdown: its tokens become blocks."""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence

from markdown_it import MarkdownIt
from markdown_it.token import Token

from chat_api.core.errors import NoText
from workers.documents import Block, Document
from workers.extract.code_language import named_language
from workers.extract.dates import Dates, dates_of
from workers.extract.encoding import decode
from workers.extract.html_page import parse
from workers.extract.html_prune import drop_hidden
from workers.extract.text import decoding_warnings

_FRONT_MATTER = re.compile(r"\A\ufeff?---[ \t]*\n(.*?\n)?(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)
_FRONT_TITLE = re.compile(r"^title:[ \t]*(.+?)[ \t]*$", re.MULTILINE)
_FRONT_DATE = re.compile(r"^(?:date|published)[ \t]*:[ \t]*(.+?)[ \t]*$", re.MULTILINE)
_FRONT_CHANGE = re.compile(r"^(?:lastmod|last_modified_at|modified|updated)[ \t]*:[ \t]*(.+?)[ \t]*$", re.MULTILINE)
_KEY = re.compile(r"[\"']?[\w.-]+[\"']?[ \t]*:(?:\s|$)")
_YAML = re.compile(rf"\s|#|-(?:\s|$)|[\]}}]|{_KEY.pattern}")
_TAG = re.compile(r"(<!--.*?-->|</?[A-Za-z][^<>]*>)", re.DOTALL)
_NAME = re.compile(r"<(/?)([A-Za-z][A-Za-z0-9]*)(?=[\s/>])")
_LINES = re.compile(r"(?<! ) *\n(?: *\n)*")
_INLINE = frozenset(
    {
        *("a", "abbr", "acronym", "b", "bdi", "bdo", "big", "button", "center", "cite", "code", "data", "del", "dfn"),
        *("em", "font", "i", "img", "input", "ins", "kbd", "label", "mark", "nobr", "output", "picture", "q", "rp"),
        *("rt", "ruby", "s", "samp", "small", "source", "span", "strike", "strong", "sub", "sup", "time", "tt", "u"),
        *("var", "wbr"),
    }
)
_PARTING = frozenset(
    {
        *("address", "area", "article", "aside", "audio", "base", "blockquote", "body", "canvas", "caption", "col"),
        *("colgroup", "dd", "details", "dialog", "dir", "div", "dl", "dt", "embed", "fieldset", "figcaption", "figure"),
        *("footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "head", "header", "hgroup", "html", "iframe", "legend"),
        *("li", "link", "main", "map", "menu", "meta", "meter", "nav", "noscript", "object", "ol", "optgroup"),
        *("option", "p", "param", "pre", "progress", "script", "search", "section", "select", "slot", "style"),
        *("summary", "svg", "table", "tbody"),
        *("td", "template", "textarea", "tfoot", "th", "thead", "title", "tr", "track", "ul", "video"),
    }
)
_CODE = frozenset({"script", "style", "svg", "template"})
_VOID = frozenset(
    {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
)


def extract_markdown(body: bytes, *, charset: str | None = None) -> Document:
    """The document's blocks; the title is the front matter's, else the first heading's of level 1, else empty.

    Raises NoText.
    """
    decoded = decode(body, (charset,))
    text = decoded.text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")
    matter, written = _parted(text)
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(written)
    hidden = _drop_unseen(tokens)
    told = f"{hidden} words that the document hides from its readers were dropped."
    blocks = tuple(block for block in _blocks(tokens) if block.text.strip())
    if not any(char.isalnum() for block in blocks for char in block.text):
        raise NoText
    return Document(
        title=_front_title(matter) or _first_heading(blocks),
        blocks=blocks,
        media_type="text/markdown",
        warnings=(*decoding_warnings(decoded), *((told,) if hidden else ())),
        **_front_dates(matter),
    )


def _parted(text: str) -> tuple[str, str]:
    """The front matter, if what stands between two rules at the beginning is YAML and no prose; and what follows."""
    found = _FRONT_MATTER.match(text)
    matter = (found.group(1) or "") if found else ""
    lines = [line for line in matter.split("\n") if line.strip()]
    is_yaml = lines and _KEY.match(lines[0]) and all(map(_YAML.match, lines))
    return (matter, text[found.end() :]) if found and is_yaml else ("", text)


def _front_title(matter: str) -> str:
    found = _FRONT_TITLE.search(matter)
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
            yield Block("heading", _one_line(inside), int(token.tag[1]))
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
    parts = [""]
    for part in (part for token in tokens for part in _parts(token)):
        if part and (part != " " or not parts[-1][-1:].isspace()):
            parts.append(part)
    return _LINES.sub("\n", "".join(parts)).strip()


def _parts(token: Token) -> Iterator[str]:
    if token.type == "html_inline":
        yield _instead(token.content)
    elif token.type in {"softbreak", "hardbreak"}:
        yield "\n" if token.type == "hardbreak" else " "
    elif token.children is not None:
        for child in token.children:
            yield from _parts(child)
    else:
        yield token.content


# --- HTML in it -------------------------------------------------------------------------------------------------------


def _instead(tag: str) -> str:
    """What a reader sees for a tag: what is no HTML element's is text, such as `<your name>`."""
    _, name = _named(tag)
    if name in {"br", "hr"}:
        return "\n"
    if name in _PARTING:
        return " "
    return "" if name in _INLINE or tag.startswith("<!--") else tag


def _named(tag: str) -> tuple[bool, str]:
    """Whether the tag closes an element, and the element's name; empty for what is no tag."""
    found = _NAME.match(tag)
    return (bool(found.group(1)), found.group(2).lower()) if found else (False, "")


def _drop_unseen(tokens: Sequence[Token]) -> int:
    """Empties the tokens in elements that are hidden or code; how many words were hidden.

    The HTML blocks become tags and texts. An element that nothing closes ends with its block.
    """
    leaves, ends = _leaves(tokens)
    closing = _closings(leaves)
    at = hidden = 0
    while at < len(leaves):
        code = _opens(leaves[at]) in _CODE
        if not code and not _hides(leaves[at]):
            at += 1
            continue
        end = closing.get(at, ends[at])
        for leaf in leaves[at : end + 1]:
            hidden += 0 if code or leaf.type == "html_inline" else len(leaf.content.split())
            leaf.type, leaf.content, leaf.children = "text", "", None
        at = end + 1
    return hidden


def _leaves(tokens: Sequence[Token]) -> tuple[list[Token], list[int]]:
    """The tokens that have none in them, and for each the place where its block ends."""
    leaves: list[Token] = []
    ends: list[int] = []
    for token in tokens:
        if token.type == "html_block":
            parts = enumerate(_TAG.split(token.content))
            token.children = [
                Token("html_inline" if place % 2 else "text", "", 0, content=part) for place, part in parts
            ]
        inside = token.children or [token]
        leaves += inside
        ends += [len(leaves) - 1] * len(inside)
    return leaves, ends


def _closings(leaves: Sequence[Token]) -> dict[int, int]:
    """Places of the tags that open elements, with those of the tags that close them."""
    found: dict[int, int] = {}
    still_open: defaultdict[str, list[int]] = defaultdict(list)
    for place, leaf in enumerate(leaves):
        closes, name = _named(leaf.content) if leaf.type == "html_inline" else (False, "")
        if closes and still_open[name]:
            found[still_open[name].pop()] = place
        elif name and not closes:
            still_open[name].append(place)
    return found


def _opens(leaf: Token) -> str:
    """The name of the element that the token opens, if it does."""
    closes, name = _named(leaf.content) if leaf.type == "html_inline" else (True, "")
    return "" if closes or name in _VOID else name


def _hides(leaf: Token) -> bool:
    if not _opens(leaf) or not re.search("hidden|style", leaf.content, re.IGNORECASE):
        return False
    tree = parse(f"{leaf.content}five words that may vanish")
    if tree is None:
        return False
    drop_hidden(tree)
    return not tree.text_content().strip()

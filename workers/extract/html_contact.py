"""Owns what a page's footer says of how to reach its owner: address, telephone, e-mail, opening hours, registration."""

import copy
import re
from collections.abc import Iterator, Sequence
from itertools import chain, groupby
from typing import Any, NamedTuple

from lxml import etree

from workers.documents import Block
from workers.extract.clean import clean_text
from workers.extract.html_blocks import IMAGE, Piece, pieces
from workers.extract.html_forms import BLOCKS
from workers.extract.html_prune import drop_furniture, words
from workers.extract.instructions import instruction_like

HEADING = "Contact"
"""Stands above what has no heading of its own, or several."""
_SHORT, _LONG, _MOST = 15, 60, 400
"""Words: of a line that is kept for what stands beside it, of a paragraph, and of all together."""
_LONGEST = 2_000
"""Characters of a piece."""
_CANDIDATES = etree.XPath(
    "descendant::footer | descendant::address | descendant::*[@role='contentinfo']"
    " | descendant::*[contains(@class, 'ooter') or contains(@id, 'ooter') or contains(@id, 'OOTER')]"
)
_FOOTER = re.compile(r"(?:^|[\s_-])footer(?:$|[\s_-])", re.IGNORECASE)
_OF_OTHERS = frozenset({"article", "blockquote", "nav"})
_WRITES = ("mailto:", "tel:")
_PROPERTIES = frozenset(
    [
        *("address", "streetaddress", "postalcode", "addresslocality", "telephone", "faxnumber", "email"),
        *("openinghours", "openinghoursspecification", "legalname", "vatid", "taxid"),
    ]
)
_EMAIL = r"[\w.+-]{1,64}(?:@|\s?[\[(](?:at|ät)[\])]\s?)[\w-]{1,63}(?:\.[\w-]{1,63}){1,5}"
_DATES = re.compile(r"\b(?:\d{1,2}[./-]\d{1,2}[./-](?:19|20)\d\d|(?:19|20)\d\d-\d\d-\d\d|\d\d:\d\d:\d\d)\b")
_NUMBER = r"[(\d][\d\s()/.–-]{4,25}\d"
_PHONE = (
    rf"(?<!\w)(?:\+\s?|00)[1-9][\d\s()/.–-]{{5,25}}\d|(?<![\w.,])0\d[\d\s()/.–-]{{4,25}}\d"
    r"|(?<!\w)\(?\d{3}\)?[\s.-]{1,2}\d{3}[.\s-]\d{4}(?!\d)"
    rf"|\b(?:t[ée]l|phone|fon|fax|mobil|m[óo]vil|hotline|тел)[^\d\n]{{0,12}}\+?{_NUMBER}|(?:電話|电话)\W*[\d(+]"
)
_CLOCK = r"\d{1,2}(?::|\.|h)\d\d(?:\s?(?:am|pm|h|uhr))?"
_HALF = r"\d{1,2}\s?(?:am|pm|h|uhr)\b"
_TO = r"\s*(?:[-–—〜～~]|to|until|till|bis|à|al?|tot|до)\s*"
_HOURS = rf"\b(?:(?:{_CLOCK}|{_HALF}|\d{{1,2}}){_TO}(?:{_CLOCK}|{_HALF})|24/7|24 h(?:ours)?\b)"
_REGISTERED = (
    r"\b(?:vat|ust|mwst|uid|tva|btw|iva|nif|cif|siret|siren|rcs|kvk|hr[ab]|abn|acn|nip|regon|инн|огрн|cnpj|cvr"
    r"|org\.?\s?nr|registered|company (?:no|number|reg))\b[^\d\n]{0,40}\d{2}"
)
_LOOSE = re.compile("|".join((_EMAIL, _PHONE, _HOURS, _REGISTERED)), re.IGNORECASE)
_STRICT = re.compile(
    r"(?:^|[,;|–-]\s?|\d[a-z]?\s)(?:\d{5}|(?!19|20)\d{4})\s+[^\W\d_a-z]\w+|\b[A-Z]{1,2}-\d{4,5}\s+[^\W\d_a-z]\w+"
    r"|\b[A-Z]{1,2}\d[A-Z\d]?\s+\d[A-Z]{2}\b|\b\d{4}\s?[A-Z]{2}\s+[A-Z]\w|\b[A-Z]{2},?\s+\d{5}(?:-\d{4})?\b"
    r"|\b[A-Z]\d[A-Z]\s?\d[A-Z]\d\b|\b\d{2}-\d{3}\s+[^\W\d_a-z]|\b\d{5}-\d{3}\b|〒\s?\d{3}"
    r"|\b[A-Z]{2}U?\s?\d{8,12}\b|\bEIN\b[^\d\n]{0,20}\d{2}-\d{7}",
    re.MULTILINE,
)
_NOISE = re.compile(r"cookie|newsletter", re.IGNORECASE)
_COPYRIGHT = re.compile(
    r"(?:©|\(c\)|copyright)[\s©]*(?:\d{4}(?:\s*[-–]\s*\d{4})?)?[\s,.:–-]*"
    r"|(?:all rights reserved|alle rechte vorbehalten|tous droits réservés|todos los derechos reservados"
    r"|tutti i diritti riservati|alle rechten voorbehouden|все права защищены)[\s.!]*",
    re.IGNORECASE,
)
_PARTS = re.compile(r"\s*[|·•]\s*")
_LOOKS = re.compile(r"[\d@]")
_FIGURES = re.compile(r"@|\d(?:\D*\d){2}")


class _Line(NamedTuple):
    """A piece of a footer, with what is told of it."""

    piece: Piece
    text: str
    """Without what is no one's contact; empty where nothing is left, or it is too long."""
    sure: bool
    """Whether it says itself how to reach somebody."""
    group: Any
    """What it shares with the pieces that belong to it: the heading above it, or the element around it."""


def contact_of(tree: Any) -> tuple[Block, ...]:
    """The contact facts in the page's footers and `address` elements, under one heading; the tree stays as it is."""
    parts: list[tuple[str, list[Block]]] = []
    met, room = set[Block](), _MOST
    for container in _containers(tree):
        for heading, run in _kept(pieces(_prepared(container))):
            blocks = [block for block in dict.fromkeys(map(_block, run)) if block not in met]
            met.update(blocks)
            room -= sum(words(block.text) for block in blocks)
            if blocks and room >= 0:
                parts.append((heading, blocks))
    return tuple(_written(parts))


def _block(line: _Line) -> Block:
    return Block(line.piece.block.kind, line.text)


def _containers(tree: Any) -> Iterator[Any]:
    """The outermost footers, and addresses outside of the text; none of a single article's, or of a quotation's."""
    chosen: set[Any] = set()
    for element in filter(_is_footer, _CANDIDATES(tree)):
        around = list(element.iterancestors())
        if chosen.isdisjoint(around) and not any(one.tag in _OF_OTHERS for one in around):
            chosen.add(element)
            yield element


def _is_footer(element: Any) -> bool:
    """Whether it is a footer or an address by its tag, role or name, and not what is around the page's text, too."""
    if element.tag not in {"footer", "address"} and (element.get("role") or "").lower() != "contentinfo":
        named = _FOOTER.search(f"{element.get('class') or ''} {element.get('id') or ''}")
        return bool(named) and element.tag != "body" and next(element.iter("main", "article", "h1"), None) is None
    return True


def _prepared(container: Any) -> Any:
    """A copy without navigation and links to pages: what leads elsewhere is no contact, unless its words have some figures."""
    found = copy.deepcopy(container)
    found.tail = None
    for element in found.iter("footer", "nav"):
        if element.tag == "footer" or any(_writes(link) for link in element.iter("a")):
            element.tag = "div"
    for element in found.xpath("descendant-or-self::*[@role]"):
        del element.attrib["role"]
    drop_furniture(found)
    for link in list(found.iter("a")):
        if link is not found and not _writes(link) and not _FIGURES.search(link.text_content()):
            link.drop_tree()
    return found


def _writes(link: Any) -> bool:
    return (link.get("href") or "").strip().lower().startswith(_WRITES)


def _kept(found: Sequence[Piece]) -> Iterator[tuple[str, list[_Line]]]:
    """The runs of lines that say how to reach somebody, each with the heading that it stands under, or none."""
    heading: Block | None = None
    lines: list[_Line] = []
    titles: dict[int, str] = {}
    for piece in found:
        if piece.block.kind == "heading":
            heading = piece.block
            titles[id(heading)] = " ".join(clean_text(heading.text)[0].split())
            lines.append(_Line(piece, "", sure=False, group=None))
        else:
            lines.append(_told(piece, heading))
    for (group, good), run in groupby(lines, key=lambda line: (id(line.group), bool(line.text))):
        if good and (kept := _without_end(list(run))):
            yield titles.get(group, ""), kept


def _told(piece: Piece, heading: Block | None) -> _Line:
    text = "" if _unfit(piece) else _cleaned(piece.block)
    sure = bool(text) and (_says(text) or _marked(piece.element))
    if instruction_like(text) or (not sure and (piece.foreign or words(text) > _SHORT)):
        text = ""
    return _Line(piece, text, sure and bool(text), heading or piece.element.getparent())


def _unfit(piece: Piece) -> bool:
    """Whether it is too long, or what stands for a picture."""
    block = piece.block
    long = block.kind == "paragraph" and words(block.text) > _LONG
    return long or len(block.text) > _LONGEST or block.text.startswith(IMAGE)


def _says(text: str) -> bool:
    text = _DATES.sub("", text)
    return bool(_LOOSE.search(text) or _STRICT.search(text))


def _marked(element: Any) -> bool:
    """Whether the page's author marks it as an address, a number or the like."""
    around, inside = [element, *element.iterancestors()], list(element.iterdescendants())
    if any(one.tag == "address" for one in around) and _LOOKS.search(element.text_content()):
        return True
    if any(one.tag in BLOCKS for one in inside):
        inside = []  # they have pieces of their own
    properties = {(one.get("itemprop") or "").lower() for one in [*around, *inside]}
    return bool(properties & _PROPERTIES) or any(_writes(one) for one in inside)


def _cleaned(block: Block) -> str:
    """The text without lines about cookies and newsletters, without copyright, and without the years of that."""
    lines = clean_text(block.text)[0].split("\n")
    if block.kind == "paragraph":
        lines = [" | ".join(filter(None, map(_own, _PARTS.split(line)))) for line in lines]
    return "\n".join(filter(None, map(_own, lines))).strip()


def _own(line: str) -> str:
    if _NOISE.search(line):
        return ""
    without = _COPYRIGHT.sub("", line)
    return without.rstrip() if without == line or _says(without) else ""


def _without_end(run: list[_Line]) -> list[_Line]:
    """The run up to its last line that is sure, and what stands in one element with that; nothing without such a line."""
    last = max((place for place, line in enumerate(run) if line.sure), default=None)
    if last is None:
        return []
    around = run[last].piece.element.getparent()
    return run[: last + 1] + [line for line in run[last + 1 :] if line.piece.element.getparent() is around]


def _written(parts: Sequence[tuple[str, list[Block]]]) -> Iterator[Block]:
    """The parts as one section, whose heading is their own if they have but one."""
    own = {title for title, _ in parts}
    if not parts:
        return
    yield Block("heading", (own.pop() if len(own) == 1 else "") or HEADING, level=1)
    headed = sorted(parts, key=lambda part: part[0] != "")  # no part comes under a heading that is not its own
    for title, some in groupby(headed, key=lambda part: part[0]):
        if title and own:
            yield Block("heading", title, level=2)
        yield from chain.from_iterable(blocks for _, blocks in some)

"""Owns which of a page's pieces are its text: trafilatura votes, the page's own structure says how far a text reaches."""

import copy
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from workers.extract.html_blocks import IMAGE, Piece, pieces
from workers.extract.html_prune import drop_furniture, main_container, words
from workers.extract.html_vote import Vote, votable, vote_on

FEW_WORDS = 20
_NAME_WORDS = 3
_LINKED, _ALL_LINKS = 0.6, 0.85
_MARKED, _DEEPEST, _OTHERS = 0.6, 0.9, 0.6
_REPEATS = 3
_CRUMB_WORDS = 15
_NO_CONTAINERS = frozenset(
    [
        "blockquote",
        "caption",
        "dd",
        "dl",
        "dt",
        "figure",
        "li",
        "ol",
        "p",
        "pre",
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
_ASIDES = frozenset({"div", "span", "li", "a", "img", "header"})


def main_pieces(tree: Any, *, article: bool) -> list[Piece]:
    """The pieces of the tree that are the page's text, in reading order; what is furniture leaves the tree.

    An `article` stands alone: what is mostly links leads away from it, while elsewhere such lists are the page's text.
    """
    whole = copy.deepcopy(tree) if votable(tree) else None
    drop_furniture(tree)
    found = pieces(tree)
    if not article and _speaks_for_itself(tree, found):
        return _Choice(tree, found, Vote(), article).kept()
    vote = None if whole is None else vote_on(whole)
    if vote is None:
        return _unvoted(_within(found, main_container(tree)))
    if vote.total >= FEW_WORDS and not vote.is_from([piece.block.text for piece in found]):
        return pieces(vote.as_html())
    return _Choice(tree, found, vote, article).kept()


def _unvoted(inside: list[Piece]) -> list[Piece]:
    return [piece for piece in inside if not piece.suspect] or inside


def _speaks_for_itself(tree: Any, found: list[Piece]) -> bool:
    """Whether the page marks most of its text as main, and nothing in there is doubtful: a vote would change nothing."""
    marked = main_container(tree)
    if marked is None:
        return False
    inside = _within(found, marked)
    if any(piece.suspect for piece in inside) or _size(inside) < FEW_WORDS:
        return False
    often = Counter(piece.block.text for piece in inside if piece.element.tag in _ASIDES)
    return sum(map(_weight, inside)) >= _MARKED * sum(map(_weight, found)) and max(often.values(), default=0) < _REPEATS


class _Choice:
    """One page's pieces, weighed."""

    def __init__(self, tree: Any, found: list[Piece], vote: Vote, article: bool) -> None:
        self._tree, self._found, self._vote, self._article = tree, found, vote, article
        self._voted = [piece for piece in found if vote.holds(piece.block.text)]
        self._repeated = Counter(piece.block.text for piece in found)
        self._headings = {piece.block.text.casefold() for piece in found if piece.block.kind == "heading"}

    def kept(self) -> list[Piece]:
        """The container's pieces without those that look like furniture and were not chosen, if that leaves a text."""
        container, marked = self._container()
        inside = _within(self._found, container) or self._found
        kept = self._chosen(inside, marked)
        if _size(kept) >= FEW_WORDS:
            return kept
        return [piece for piece in inside if not piece.suspect] or [one for one in inside if not one.foreign] or inside

    def _chosen(self, inside: list[Piece], marked: bool) -> list[Piece]:
        good = [self._good(piece, marked) for piece in inside]
        own = [ok and not piece.foreign for ok, piece in zip(good, inside, strict=True)]
        if _length(inside, own) > (1 - _OTHERS) * _length(inside, good):
            good = own
        if self._article:
            good = self._trimmed(inside, good)
        elif _length(inside, index := [self._leads_on(piece) for piece in inside]) > _length(inside, good):
            good = [both or leads for both, leads in zip(own, index, strict=True)]  # what it has is what it leads to
        return list(self._headed(inside, good))

    def _trimmed(self, inside: list[Piece], good: list[bool]) -> list[bool]:
        """Without what comes before and after an article's first and last words that were chosen; its title stays."""
        chosen = [place for place, ok in enumerate(good) if ok and self._vote.holds(inside[place].block.text)]
        if not chosen:
            return good
        return [
            ok and (chosen[0] <= place <= chosen[-1] or inside[place].block.level == 1) for place, ok in enumerate(good)
        ]

    def _container(self) -> tuple[Any, bool]:
        """The element to read, and whether the page itself marks it as main: it is unless most votes are outside."""
        weight = sum(map(_weight, self._voted))
        marked = main_container(self._tree)
        if marked is not None and sum(map(_weight, _within(self._voted, marked))) >= _MARKED * weight:
            return marked, True
        return self._widened(self._deepest(_DEEPEST * weight)), False

    def _deepest(self, weight: float) -> Any:
        """The innermost element that holds this weight of votes."""
        held: Counter[Any] = Counter()
        for piece in self._voted:
            held.update(dict.fromkeys([piece.element, *piece.element.iterancestors()], _weight(piece)))
        container = self._tree
        while (inner := next((child for child in container if held[child] >= weight > 0), None)) is not None:
            container = inner
        return container

    def _widened(self, container: Any) -> Any:
        """The element, or what is around it as long as that adds nothing but text."""
        inside = {id(piece) for piece in _within(self._found, container)}
        while (parent := container.getparent()) is not None and parent.tag != "html":
            around = _within(self._found, parent)
            added = [piece for piece in around if id(piece) not in inside]
            good = sum(_weight(piece) for piece in added if not piece.suspect)
            if container.tag not in _NO_CONTAINERS and good < _DEEPEST * sum(len(one.block.text) for one in added):
                break
            container, inside = parent, {id(piece) for piece in around}
        return container

    def _good(self, piece: Piece, marked: bool) -> bool:
        if piece.contents or (piece.linked > _ALL_LINKS and not marked):
            return False
        if piece.block.level == 1:
            return True
        if piece.suspect or (piece.linked > _LINKED and (self._article or not marked)):
            return words(piece.block.text) > _NAME_WORDS and self._vote.holds(piece.block.text)
        return not self._is_crumb(piece)

    def _is_crumb(self, piece: Piece) -> bool:
        """Whether it is a label beside pictures or films: such stand there again and again, and never in paragraphs."""
        text, tag = piece.block.text, piece.element.tag
        if piece.block.kind != "paragraph" or tag not in _ASIDES:
            return False
        if tag == "img":
            return self._says_nothing(piece)
        often = self._repeated[text] >= _REPEATS
        if self._vote.holds(text):
            return often and self._article
        return often or (self._article and words(text) <= _CRUMB_WORDS)

    def _says_nothing(self, picture: Piece) -> bool:
        """Whether a picture's words are said elsewhere, or no part of an article that has it beside its text."""
        text = picture.block.text
        if self._repeated[text] > 1 or text.removeprefix(IMAGE).casefold() in self._headings:
            return True
        beside = next(picture.element.iterancestors("figure", "p"), None) is None
        return self._article and beside and not self._vote.holds(text)

    def _headed(self, inside: list[Piece], good: list[bool]) -> Iterator[Piece]:
        """The good pieces, of the headings those that stay."""
        for index, piece in enumerate(inside):
            if self._heads(inside, good, index) if piece.block.kind == "heading" else good[index]:
                yield piece

    def _heads(self, inside: list[Piece], good: list[bool], index: int) -> bool:
        """Whether a heading stays: a good one that has not lost all it headed, or one named like furniture over such text."""
        heading, scope = inside[index], _scope(inside, index)
        kept = [inside[below] for below in scope if good[below]]
        if kept:
            return good[index] or (self._doubtful(heading) and any(map(self._doubtful, kept)))
        bare = not scope and index + 1 < len(inside)
        return good[index] and bare and (heading.linked <= _LINKED or self._vote.holds(heading.block.text))

    def _doubtful(self, piece: Piece) -> bool:
        """Whether it is named like furniture only, and on no article's page, where such a box is hardly ever the text's."""
        return piece.suspect and not piece.foreign and not self._article and piece.linked <= _LINKED

    def _leads_on(self, piece: Piece) -> bool:
        return not piece.foreign and not piece.contents and piece.linked > _LINKED


def _weight(piece: Piece) -> float:
    """How much text there is: what leads elsewhere speaks for no place."""
    return len(piece.block.text) * max(0.0, 1 - piece.linked)


def _length(found: list[Piece], good: list[bool]) -> int:
    texts = (piece.block.text for ok, piece in zip(good, found, strict=True) if ok)
    return sum(len("".join(text.replace("---", "").replace("|", " ").split())) for text in texts)


def _within(found: list[Piece], container: Any | None) -> list[Piece]:
    if container is None:
        return found
    inside = set(container.iter())
    return [piece for piece in found if piece.element in inside]


def _size(found: Iterable[Piece]) -> int:
    return sum(words(piece.block.text) for piece in found)


def _scope(inside: list[Piece], index: int) -> list[int]:
    """The text under a heading: indices up to the next heading of its level or above."""
    level, scope = inside[index].block.level, []
    for below in range(index + 1, len(inside)):
        block = inside[below].block
        if block.kind == "heading" and block.level <= level:
            break
        if block.kind != "heading":
            scope.append(below)
    return scope

"""Hit rates: at which place the expected source was found, and whether nothing was taken where nothing answers. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import unquote, urldefrag, urlsplit

ALL = "all"


@dataclass(frozen=True, slots=True)
class Passage:
    """What was found: all names of its source, its score, and whether an answer is made from it."""

    names: frozenset[str]
    score: float
    taken: bool

    @classmethod
    def of(cls, row: Mapping[str, Any], file_name: str = "") -> Self:
        """A passage as the API shows it, of a file of this name where that has no address. KeyError for what is none."""
        names = {str(row["source_id"]), str(row["document_id"]), str(row["title"]), file_name}
        if row["url"]:
            address = urldefrag(str(row["url"])).url
            names |= {address, address.rstrip("/"), unquote(urlsplit(address).path.rpartition("/")[2])}
        return cls(frozenset(name.strip().casefold() for name in names if name.strip()), row["score"], row["taken"])

    def is_of(self, expected: str) -> bool:
        """Whether it is of the source that is meant: by id, address, file name or title."""
        name = expected.strip().casefold()
        return name in self.names or urldefrag(name).url in self.names


@dataclass(frozen=True, slots=True)
class Judged:
    """A question's outcome. `place` counts from 1, None where the source was not found; `refused` when nothing was taken."""

    language: str
    answerable: bool
    place: int | None
    refused: bool


def judged(language: str, expected: str | None, passages: Sequence[Passage], threshold: float | None) -> Judged:
    """The outcome of a question; with a `threshold` passages are taken by their scores."""
    taken = [one.taken if threshold is None else one.score >= threshold for one in passages]
    places = [place for place, one in enumerate(passages, 1) if expected is not None and one.is_of(expected)]
    return Judged(language, expected is not None, min(places, default=None), not any(taken))


@dataclass(slots=True)
class Rates:
    """Hit rates of some questions; a rate of none is 0."""

    places: list[int | None] = field(default_factory=list)
    """Of the answerable ones."""
    wrongly_refused: int = 0
    unanswerable: int = 0
    refused: int = 0

    def add(self, one: Judged) -> None:
        """Counts a question."""
        if one.answerable:
            self.places.append(one.place)
            self.wrongly_refused += one.refused
        else:
            self.unanswerable += 1
            self.refused += one.refused

    def hit(self, most: int) -> float:
        """The share of the answerable questions whose source is among the first so many passages."""
        return sum(place is not None and place <= most for place in self.places) / max(1, len(self.places))

    @property
    def mrr(self) -> float:
        """The mean of 1/place."""
        return sum(1 / place for place in self.places if place) / max(1, len(self.places))


def rates_by_language(outcomes: Iterable[Judged]) -> dict[str, Rates]:
    """The rates of each language that is named, in their order, and of all questions."""
    found: dict[str, Rates] = {}
    whole = Rates()
    for one in outcomes:
        whole.add(one)
        if one.language:
            found.setdefault(one.language, Rates()).add(one)
    return {**dict(sorted(found.items())), ALL: whole}

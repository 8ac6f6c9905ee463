"""What the bench's sources say: articles made from a seed, each paragraph with a marker that stands nowhere else."""

import hashlib
import html
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Self

from fpdf import FPDF

# fmt: off
WORDS = (
    "kettle", "delivery", "warranty", "heating", "element", "handle", "water", "litre", "minute", "boil", "switch",
    "cable", "socket", "filter", "refund", "invoice", "courier", "parcel", "tracking", "service", "customer",
    "workshop", "repair", "spare", "number", "colour", "steel", "glass", "copper", "temperature", "garden", "bridge",
    "window", "lantern", "harbour", "meadow", "captain", "violin", "ladder", "compass", "blanket", "orchard",
    "pencil", "market", "saddle", "timber",
)
# fmt: on
SENTENCES = (4, 7)


@dataclass(frozen=True, slots=True)
class Article:
    """A text in sections of one paragraph; `revisions` has one number per section, and an edit raises one of them."""

    key: str
    revisions: tuple[int, ...]
    note: str = ""
    """A last sentence."""

    @classmethod
    def new(cls, key: str, dice: random.Random, note: str = "") -> Self:
        """An article of three to eight sections."""
        return cls(key, (0,) * dice.randint(3, 8), note)

    def edited(self, dice: random.Random) -> Self:
        """The article with one section written anew."""
        place = dice.randrange(len(self.revisions))
        return replace(self, revisions=tuple(n + (place == at) for at, n in enumerate(self.revisions)))

    @property
    def title(self) -> str:
        """Its heading."""
        return f"Article {self.key}"

    @property
    def markers(self) -> list[str]:
        """One marker per section as it stands now."""
        return [marker(self.key, place, revision) for place, revision in enumerate(self.revisions)]

    @property
    def old_markers(self) -> list[str]:
        """The markers of all that was overwritten."""
        return [marker(self.key, place, old) for place, now in enumerate(self.revisions) for old in range(now)]

    def sections(self) -> list[tuple[str, str]]:
        """(heading, paragraph) of each section."""
        made = [self._section(place, revision) for place, revision in enumerate(self.revisions)]
        return [*made, ("A note", self.note)] if self.note else made

    def _section(self, place: int, revision: int) -> tuple[str, str]:
        dice = random.Random(f"{self.key}/{place}/{revision}")
        # The marker is in the first sentence: chunks may repeat the last sentence of the one before.
        sentences = [f"Entry {marker(self.key, place, revision)} is about the {dice.choice(WORDS)}."]
        sentences += [
            f"{' '.join(dice.choices(WORDS, k=dice.randint(8, 16))).capitalize()}."
            for _ in range(dice.randint(*SENTENCES))
        ]
        return f"{dice.choice(WORDS).capitalize()} {place + 1} of {self.key}", " ".join(sentences)

    def markdown(self) -> bytes:
        """As a Markdown file."""
        parts = [f"## {heading}\n\n{paragraph}" for heading, paragraph in self.sections()]
        return "\n\n".join([f"# {self.title}", *parts, ""]).encode()

    def plain(self) -> bytes:
        """As a text file."""
        return "\n\n".join(paragraph for _, paragraph in self.sections()).encode()

    def pairs(self) -> list[dict[str, str]]:
        """As questions and answers."""
        return [{"question": f"What about {heading}?", "answer": paragraph} for heading, paragraph in self.sections()]

    def page(self, links: Sequence[str] = ()) -> bytes:
        """As a web page that links to these addresses."""
        listed = "".join(f'<li><a href="{html.escape(link)}">{html.escape(link)}</a></li>' for link in links)
        body = "".join(f"<h2>{heading}</h2><p>{paragraph}</p>" for heading, paragraph in self.sections())
        navigation = f"<nav><ul>{listed}</ul></nav>" if links else ""
        head = f"<head><meta charset=utf-8><title>{self.title}</title></head>"
        article = f"<article><h1>{self.title}</h1>{body}</article>"
        return f"<!doctype html><html lang=en>{head}<body>{navigation}<main>{article}</main></body></html>".encode()

    def pdf(self) -> bytes:
        """As a PDF, the same bytes each time."""
        document = FPDF()
        document.set_creation_date(datetime(2026, 1, 1, tzinfo=UTC))
        document.set_title(self.title)
        document.add_page()
        for heading, paragraph in self.sections():
            for style, size, text in (("B", 14, heading), ("", 11, paragraph)):
                document.set_font("Helvetica", style, size)
                document.multi_cell(0, 6, text, new_x="LMARGIN", new_y="NEXT")
        return bytes(document.output())


def marker(key: str, place: int, revision: int) -> str:
    """A word that stands in one section of one article at one revision, and nowhere else."""
    return "mk" + hashlib.sha256(f"{key}/{place}/{revision}".encode()).hexdigest()[:14]

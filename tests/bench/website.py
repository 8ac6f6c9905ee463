"""Synthetic websites: pages with navigation, headings, paragraphs of 40 to 120 words and a footer, alike for each seed."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tests.workers.fetch.loopback import Script, Site, reply

LINKS = 20
"""Pages that each page leads to, so that a site of thousands is a few steps deep."""
SYLLABLES = ["ka", "lo", "mi", "ter", "va", "sen", "do", "ri", "pal", "un", "fe", "gra", "tos", "bel", "ni", "ho"]
SECTIONS = ("Overview", "Delivery", "Warranty", "Care", "Questions", "Technical data")


@dataclass(slots=True)
class SitePage:
    """One page's own content: sections, each a heading over its paragraphs."""

    number: int
    sections: list[tuple[str, list[str]]]


@dataclass(slots=True)
class Company:
    """A site of `count` pages; edit it, and `answers` serves what it is then."""

    count: int
    seed: int = 1
    navigation: str = "Home"
    pages: list[SitePage] = field(init=False)

    def __post_init__(self) -> None:
        dice = random.Random(self.seed)
        self.pages = [
            SitePage(
                number,
                [
                    (f"{name} of product {number}", [paragraph(dice) for _ in range(dice.randint(2, 4))])
                    for name in dice.sample(SECTIONS, 3)
                ],
            )
            for number in range(self.count)
        ]

    @property
    def paragraphs(self) -> int:
        """How many paragraphs all pages have."""
        return sum(len(texts) for page in self.pages for _, texts in page.sections)

    def edit(self, share: float, seed: int = 2) -> tuple[int, int]:
        """Changes this share of the paragraphs, every third edit being a new one at a page's top: (edited, of them new)."""
        dice, edits = random.Random(seed), max(3, round(share * self.paragraphs))
        new = edits // 3
        for page in dice.sample(self.pages, new):
            page.sections[0][1].insert(0, paragraph(dice))
        places = [(page, place) for page in self.pages for place in range(len(page.sections))]
        for page, place in dice.sample(places, edits - new):
            texts = page.sections[place][1]
            chosen = dice.randrange(len(texts))
            words = texts[chosen].split()
            words[len(words) // 2 : len(words) // 2 + 3] = [word(dice) for _ in range(3)]
            texts[chosen] = " ".join(words)
        return edits, new

    def answers(self) -> Mapping[str, bytes | Script]:
        """Every page's answer by its path; the first is `/`."""
        kind = {"Content_Type": "text/html; charset=utf-8"}
        return {path_of(page.number): reply(self._html(page).encode(), **kind) for page in self.pages}

    def serve(self, site: Site) -> str:
        """Has the site give these pages from now on; the first page's address."""
        site.pages = dict(self.answers())
        return site.url("/")

    def _html(self, page: SitePage) -> str:
        first = page.number * LINKS + 1
        targets = [0, *range(first, min(first + LINKS, self.count))]
        links = "".join(f'<li><a href="{path_of(target)}">Product {target}</a></li>' for target in targets[1:])
        body = "".join(f"<h2>{heading}</h2>{_paragraphs(texts)}" for heading, texts in page.sections)
        return (
            f"<!doctype html><html lang=en><head><title>Product {page.number} | Shop</title></head><body>"
            f'<header><nav><ul><li><a href="/">{self.navigation}</a></li>{links}</ul></nav></header>'
            f"<main><article><h1>Product {page.number}</h1>{body}</article></main>"
            f"<footer><p>{self.navigation} · Imprint · Privacy · © 2026 Shop Ltd.</p></footer></body></html>"
        )


def path_of(number: int) -> str:
    """Where a page of a company's site is."""
    return f"/product-{number}.html" if number else "/"


def paragraph(dice: random.Random) -> str:
    """40 to 120 made-up words in sentences."""
    left, sentences = dice.randint(40, 120), []
    while left > 0:
        size = min(left, dice.randint(8, 18))
        sentences.append(" ".join(word(dice) for _ in range(size)).capitalize() + ".")
        left -= size
    return " ".join(sentences)


def word(dice: random.Random) -> str:
    """A made-up word of two to four syllables."""
    return "".join(dice.choices(SYLLABLES, k=dice.randint(2, 4)))


def _paragraphs(texts: Sequence[str]) -> str:
    return "".join(f"<p>{text}</p>" for text in texts)

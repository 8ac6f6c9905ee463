"""How much of a page's own text is read, and how much else: precision, recall and F1 beside trafilatura on the same pages.

Words are counted as a bag, each as often as it stands there; a page's figures are averaged over its set, each page alike.
"""

import logging
import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from typing import Any

import trafilatura

from chat_api.core.errors import ServiceError
from tests.bench.gold_pages import GoldPage, sets
from workers.documents import Fetched
from workers.extract.dispatch import extract

# Scripts without spaces count by the character.
_WORD = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|\w+")


def ours(page: GoldPage) -> str:
    """The text of the page's blocks, in this process."""
    try:
        document = extract(Fetched(page.url, 200, page.body, "text/html"))
    except ServiceError:
        return ""
    return "\n".join(block.text for block in document.blocks)


def _trafilatura(**options: Any) -> Callable[[GoldPage], str]:
    def read(page: GoldPage) -> str:
        return trafilatura.extract(page.body, url=page.url, include_comments=False, **options) or ""

    return read


READERS: dict[str, Callable[[GoldPage], str]] = {
    "ours": ours,
    "trafilatura": _trafilatura(),
    "trafilatura, recall": _trafilatura(favor_recall=True),
    "trafilatura, precision": _trafilatura(favor_precision=True),
    "trafilatura, fast": _trafilatura(fast=True),
}


def score(text: str, gold: str) -> tuple[float, float, float]:
    """Precision, recall and F1 of the text's bag of words, each 0–1."""
    found, known = words(text), words(gold)
    common = (found & known).total()
    precision, recall = common / max(1, found.total()), common / max(1, known.total())
    return precision, recall, 2 * precision * recall / ((precision + recall) or 1)


def words(text: str) -> Counter[str]:
    """How often the text has each word."""
    return Counter(_WORD.findall(text.casefold()))


def measure() -> dict[str, Any]:
    """For each set and reader: the figures, and pages a second of one core's time."""
    logging.getLogger("trafilatura").setLevel(logging.CRITICAL)
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="reading-") as folder:
        for name, pages in sets(Path(folder)):
            result[name] = {"pages": len(pages), **{reader: _measured(read, pages) for reader, read in READERS.items()}}
    return result


def _measured(read: Callable[[GoldPage], str], pages: list[GoldPage]) -> dict[str, float]:
    read(pages[0])  # imports and patterns are no page's own
    began = time.process_time()
    texts = [read(page) for page in pages]
    spent = time.process_time() - began
    scores = [score(text, page.text) for text, page in zip(texts, pages, strict=True)]
    figures = dict(zip(("precision", "recall", "f1"), map(mean, zip(*scores, strict=True)), strict=True))
    return figures | {"pages_per_second": len(pages) / spent}


def rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    """The table's lines."""
    lines = []
    for name, measured in result.items():
        lines.append((f"{name}, {measured['pages']} pages", "precision  recall  F1     pages/s"))
        for reader in READERS:
            found = measured[reader]
            shown = f"{found['precision']:.3f}      {found['recall']:.3f}   {found['f1']:.3f}  {found['pages_per_second']:.0f}"
            lines.append((f"  {reader}", shown))
    return lines

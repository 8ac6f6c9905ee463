"""What the bots of `scale` know and are asked: vectors around a centre for each bot, or real sentences by MiniLM.

The sentences are XQuAD's, or those of the manuals in Debian's packages postgresql-doc-15, python3.11-doc and git-doc.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
from lxml import html
from numpy.typing import NDArray

from chat_api.core.embeddings import LOCAL_SPACE, EmbeddingSpace
from chat_api.core.minilm import MiniLM
from tests.bench.xquad import LANGUAGES, read_xquad, sentences_of

QUESTIONS, REAL_QUESTIONS, K = 200, 1_200, 10
SPREAD = 0.05
MANUALS = ("postgresql-doc-*", "python3.*", "git")
LEAST_CHARS, MOST_CHARS = 30, 600
"""Of a sentence of the manuals."""
MODEL = "text-embedding-3-small"
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Exam:
    """Questions, each to a bot, and the chunks (numbers within the bot) that are nearest."""

    bots: NDArray[np.int64]
    vectors: Floats
    right: list[set[int]]


@dataclass(frozen=True, slots=True)
class Contents:
    """The chunks of some bots, and their exam: every other question is about what another bot knows."""

    name: str
    space: EmbeddingSpace
    bots: int
    chunks: int
    """Of all bots."""
    vectors: Callable[[int], Floats]
    """(chunks, dimensions) a bot's unit vectors, the same whenever they are asked for; as halves, as all sides get them."""
    exam: Exam


def synthetic(dimensions: int, bots: int, chunks: int) -> Contents:
    """Vectors around a centre for each bot, so many chunks in each."""
    centres = _unit(np.random.default_rng(7).standard_normal((bots, dimensions), np.float32))
    vectors = partial(_around, centres, chunks)
    name = f"{bots * chunks:,} chunks of {dimensions} dims in {bots:,} bots"
    return Contents(
        name, EmbeddingSpace(MODEL, dimensions), bots, bots * chunks, vectors, _asked_around(centres, vectors)
    )


def real() -> Contents:
    """XQuAD's sentences and questions as MiniLM embeds them, a bot for each language."""
    model, dice = MiniLM(threads=2), np.random.default_rng(11)
    read = [read_xquad(language) for language in LANGUAGES]
    known = [_halves(model.embed(sentences_of(paragraphs))) for paragraphs, _, _ in read]
    bots = dice.integers(0, len(read), REAL_QUESTIONS)
    about = (bots + np.arange(REAL_QUESTIONS) % 2) % len(read)
    asked = _halves(model.embed([dice.choice(read[language][1]) for language in about]))
    chunks = sum(map(len, known))
    name = f"XQuAD's {chunks:,} sentences by MiniLM, {LOCAL_SPACE.dimensions} dims, in {len(read)} bots by language"
    return Contents(name, LOCAL_SPACE, len(read), chunks, known.__getitem__, _exam(bots, asked, known.__getitem__))


def manuals(chunks: int, turns: int = 1) -> Contents:
    """So many sentences of the manuals, asked for by headings of other length, in one bot.

    With several `turns` each vector stands so many times behind itself, turned at random each time: the similarities stay
    what they are, in so many times the dimensions.
    """
    known, asked = (_turned(vectors, turns) for vectors in _manuals(chunks))
    name = f"{len(known):,} sentences of manuals by MiniLM" + f", {turns} times turned" * (turns > 1)
    space = LOCAL_SPACE if turns == 1 else EmbeddingSpace(MODEL, known.shape[1])
    exam = _exam(np.zeros(len(asked), np.int64), asked, lambda _: known)
    return Contents(f"{name}, {space.dimensions} dims", space, 1, len(known), lambda _: known, exam)


@cache
def _manuals(chunks: int) -> tuple[Floats, Floats]:
    sentences, headings = dict[str, None](), dict[str, None]()
    for path in sorted(path for folder in MANUALS for path in Path("/usr/share/doc").glob(f"{folder}/**/*.html")):
        for block in html.parse(path).iter("p", "li", "dd", "td", "h1", "h2", "h3"):
            said = " ".join(block.text_content().split())
            if block.tag.startswith("h"):
                headings[said] = None
            elif not block.xpath(".//p | .//li | .//dd | .//td"):
                sentences |= dict.fromkeys(one for one in sentences_of([said]) if LEAST_CHARS <= len(one) <= MOST_CHARS)
    model, dice = MiniLM(threads=2), np.random.default_rng(11)
    known = dice.permutation([*sentences])[:chunks].tolist()
    asked = dice.permutation([*headings])[:QUESTIONS].tolist()
    return model.embed(known), model.embed(asked)


def _turned(vectors: Floats, turns: int) -> Floats:
    dimensions = vectors.shape[1]
    bases = [
        np.linalg.qr(np.random.default_rng([17, turn]).standard_normal((dimensions, dimensions)))[0]
        for turn in range(1, turns)
    ]
    return _halves(_unit(np.hstack([vectors, *(vectors @ base.astype(np.float32) for base in bases)])))


def _asked_around(centres: Floats, vectors: Callable[[int], Floats]) -> Exam:
    dice = np.random.default_rng(11)
    bots = dice.integers(0, len(centres), QUESTIONS)
    strange = _unit(dice.standard_normal((QUESTIONS, centres.shape[1]), np.float32))
    neighbours = centres[(bots + 1) % len(centres)] if len(centres) > 1 else strange
    about = np.where((np.arange(QUESTIONS) % 2).astype(bool)[:, None], neighbours, centres[bots])
    noise = dice.standard_normal(about.shape, np.float32)
    return _exam(bots, _halves(_unit(about + np.float32(SPREAD) * noise)), vectors)


def _exam(bots: NDArray[np.int64], asked: Floats, vectors: Callable[[int], Floats]) -> Exam:
    right: dict[int, set[int]] = {}
    for bot in np.unique(bots):
        of_bot = np.flatnonzero(bots == bot)
        scores = vectors(int(bot)) @ asked[of_bot].T
        right |= {int(number): set(np.argsort(-scores[:, row])[:K].tolist()) for row, number in enumerate(of_bot)}
    return Exam(bots, asked, [right[number] for number in range(len(bots))])


def _around(centres: Floats, chunks: int, bot: int) -> Floats:
    noise = np.random.default_rng([7, bot]).standard_normal((chunks, centres.shape[1]), np.float32)
    return _halves(_unit(centres[bot] + np.float32(SPREAD) * noise))


def _unit(vectors: Floats) -> Floats:
    unit: Floats = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    return unit


def _halves(vectors: Floats) -> Floats:
    return vectors.astype(np.float16).astype(np.float32)

"""How well passages are found, and how fast: XQuAD by leg and language, terms, POST /api/search.

`python -m tests.bench.retrieval [part …]` prints a table and writes bench-retrieval.json. The folder of XQuAD is XQUAD_DIR.
"""

import asyncio
import json
import random
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any
from uuid import UUID, uuid4

import httpx2
import numpy as np
from numpy.typing import NDArray

from chat_api.core.lexemes import pack, terms_of
from chat_api.core.minilm import MiniLM
from chat_api.core.postings import Place, Postings, Segment
from chat_api.core.scores import CANDIDATES, fused, score_of, trust_in
from tests.bench.chat import fill
from tests.bench.stage import UNLIMITED, percentile, provider, resting, running_stack
from tests.bench.xquad import LANGUAGES, read_xquad

CHUNKS, SENTENCES = 10_000, 9
COMMON = "what is the name of the city that was in the war of the and to for"
SEARCHES, AT_ONCE = 150, 16
RANK_CONSTANT = 60
Floats = NDArray[np.float32]
Rows = list[tuple[str, str]]


# --- XQuAD ------------------------------------------------------------------------------------------------------------


def index_of(passages: Sequence[str]) -> Postings:
    """An index of the passages; a chunk's id is its number, from 1 on."""
    ids = b"".join(UUID(int=number).bytes for number in range(1, len(passages) + 1))
    return Postings.of([Segment(Place(UUID(int=0), 1), ids, b"".join(map(pack, passages)))])


def shares(index: Postings, questions: Sequence[str]) -> Floats:
    """(questions, passages) the share that each passage has of each question's words."""
    found = np.zeros((len(questions), len(index.chunk_ids)), np.float32)
    for row, question in enumerate(questions):
        for hit in index.find(terms_of(question)["term"], 50):
            found[row, hit.chunk_id.int - 1] = hit.coverage
    return found


def measure_xquad() -> dict[str, Any]:
    """By language and leg: hit@1, hit@5, MRR of the right paragraph; and of German questions about English paragraphs."""
    model = MiniLM(threads=2)
    found: dict[str, Any] = {}
    english: tuple[Floats, Postings] | None = None
    for language in LANGUAGES:
        paragraphs, questions, right = read_xquad(language)
        vectors, index, asked = model.embed(paragraphs), index_of(paragraphs), model.embed(questions)
        found[language] = _legs(asked @ vectors.T, shares(index, questions), questions, right, model)
        english = english or (vectors, index)
        if language == "de":
            crossed = _legs(asked @ english[0].T, shares(english[1], questions), questions, right, model)
            found["de questions, en content"] = crossed
    return found


def _legs(
    cosines: Floats, words: Floats, questions: Sequence[str], right: Sequence[int], model: MiniLM
) -> dict[str, dict[str, float]]:
    scores = np.zeros_like(cosines)
    for row, question in enumerate(questions):
        candidates = {*np.argsort(-cosines[row])[:CANDIDATES], *np.argsort(-words[row])[:CANDIDATES]}
        trust = trust_in(model.space, question)
        for one in candidates:
            scores[row, one] = fused(trust * score_of(model.space, float(cosines[row, one])), float(words[row, one]))
    legs = {"vectors": cosines, "words": words, "both": scores, "reciprocal ranks": _by_ranks(cosines, words)}
    return {name: _rates(leg, right) for name, leg in legs.items()}


def _by_ranks(*legs: Floats) -> Floats:
    """The legs fused by the passages' places alone; a leg that has not found a passage gives it nothing."""
    places = (np.argsort(np.argsort(-leg, axis=1), axis=1) + 1 for leg in legs)
    found = [np.where(leg != 0, 1 / (RANK_CONSTANT + place), 0) for leg, place in zip(legs, places, strict=True)]
    fused_ranks: Floats = np.sum(found, axis=0, dtype=np.float32)
    return fused_ranks


def _rates(scores: Floats, right: Sequence[int]) -> dict[str, float]:
    """A passage that the leg has not found has the score 0, and is no hit."""
    places = [
        int((row > row[one]).sum()) + 1 if row[one] != 0 else len(row) for row, one in zip(scores, right, strict=True)
    ]
    return {
        "hit@1": float(np.mean([place == 1 for place in places])),
        "hit@5": float(np.mean([place <= 5 for place in places])),
        "mrr": float(np.mean([1 / place for place in places])),
    }


def xquad_rows(result: dict[str, Any]) -> Rows:
    """The table's lines."""
    return [
        (f"XQuAD {name}, {leg}: hit@1, hit@5, MRR", "  ".join(f"{share:.3f}" for share in rates.values()))
        for name, legs in result.items()
        for leg, rates in legs.items()
    ]


# --- terms ------------------------------------------------------------------------------------------------------------


def measure_terms() -> dict[str, float]:
    """P9, and what terms cost: CPU of a question with common words in 10,000 chunks, of writing, of loading."""
    paragraphs, questions, right = read_xquad("en")
    first = _rates(shares(index_of(paragraphs), questions), right)["hit@1"]
    dice = random.Random(7)
    sentences = [sentence for paragraph in paragraphs for sentence in paragraph.split(". ")]
    chunks = [". ".join(dice.choices(sentences, k=SENTENCES)) for _ in range(CHUNKS)]
    began = time.process_time()
    packed = [pack(chunk) for chunk in chunks]
    written = time.process_time() - began
    segment = Segment(Place(uuid4(), 1), b"".join(uuid4().bytes for _ in chunks), b"".join(packed))
    began = time.process_time()
    index = Postings.of([segment])
    loaded = time.process_time() - began
    took = []
    for _ in range(50):
        began = time.process_time()
        index.find(terms_of(COMMON)["term"], 50)
        took.append(1000 * (time.process_time() - began))
    return {
        "right_paragraph_first": first,
        "common_words_cpu_ms": median(took),
        "write_cpu_s_per_1000_chunks": 1000 * written / CHUNKS,
        "bytes_per_chunk": sum(map(len, packed)) / CHUNKS,
        "characters_per_chunk": sum(map(len, chunks)) / CHUNKS,
        "load_cpu_s": loaded,
        "index_mb": index.bytes / 1e6,
    }


def terms_rows(result: dict[str, float]) -> Rows:
    """The table's lines."""
    return [
        ("words alone: right paragraph first, XQuAD-en (P9: 0.93)", f"{result['right_paragraph_first']:.3f}"),
        ("question of common words in 10,000 chunks (P9: 5 ms CPU)", f"{result['common_words_cpu_ms']:.1f} ms CPU"),
        (
            f"terms of 1,000 chunks of {result['characters_per_chunk']:,.0f} characters",
            f"{result['write_cpu_s_per_1000_chunks']:.2f} s CPU, {result['bytes_per_chunk']:,.0f} bytes each",
        ),
        ("index of 10,000 chunks", f"{result['load_cpu_s']:.2f} s CPU, {result['index_mb']:.0f} MB"),
    ]


# --- POST /api/search -------------------------------------------------------------------------------------------------


def measure_search() -> dict[str, Any]:
    """P11: milliseconds of a search in 10,000 chunks of 1,536 dimensions, alone and with 16 at once, by the provider's."""
    found: dict[str, Any] = {}
    for latency_ms in (0, 100):
        with (
            provider(latency_ms) as base_url,
            running_stack(base_url, **UNLIMITED) as (client, described),
            resting(described),
        ):
            bot_id = client.add_bot("Bench", {"similarity_threshold": 0})
            fill(client.org_id, bot_id, described["chat_db_dsn"])
            headers = {"Authorization": f"Bearer {client.sign_token('training:read', subject='bench')}"}
            found[f"{latency_ms}"] = asyncio.run(_searches(described["api_url"], headers, str(bot_id)))
    return found


async def _searches(url: str, headers: dict[str, str], bot_id: str) -> dict[str, dict[str, float]]:
    async with httpx2.AsyncClient(base_url=url, headers=headers, trust_env=False, timeout=60) as client:

        async def ask(number: int) -> float:
            body = {"bot_id": bot_id, "query": f"How long does the kettle number {number} take to boil?"}
            began = time.perf_counter()
            answer = await client.post("/api/search", json=body)
            took = 1000 * (time.perf_counter() - began)
            if answer.status_code != 200 or not answer.json()["passages"]:
                raise RuntimeError(f"nothing was found: {answer.status_code}")
            return took

        async def visitor(first: int) -> list[float]:
            return [await ask(first + number) for number in range(SEARCHES // AT_ONCE)]

        for number in range(30):  # until the words are loaded, and connections are open
            await ask(number)
        alone = [await ask(number) for number in range(SEARCHES)]
        together = await asyncio.gather(*(visitor(1000 * number) for number in range(AT_ONCE)))
    all_together = [took for one in together for took in one]
    return {
        name: {"p50": percentile(took, 50), "p95": percentile(took, 95)}
        for name, took in (("alone", alone), (f"{AT_ONCE}_at_once", all_together))
    }


def search_rows(result: dict[str, Any]) -> Rows:
    """The table's lines."""
    return [
        (f"POST /api/search, provider at {latency} ms, {name}: p50 / p95", f"{took['p50']:.1f} / {took['p95']:.1f} ms")
        for latency, by_load in result.items()
        for name, took in by_load.items()
    ]


PARTS: dict[str, tuple[Callable[[], dict[str, Any]], Callable[[dict[str, Any]], Rows]]] = {
    "terms": (measure_terms, terms_rows),
    "xquad": (measure_xquad, xquad_rows),
    "search": (measure_search, search_rows),
}


def main(names: Sequence[str]) -> int:
    """The parts that are named, or all; 0 when all could be measured."""
    if unknown := set(names) - set(PARTS):
        print(f"retrieval: there is no {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}", file=sys.stderr)
        return 2
    results: dict[str, Any] = {}
    lines: Rows = []
    for name in names or PARTS:
        measure, rows = PARTS[name]
        results[name] = measure()
        lines += rows(results[name])
    width = max(len(label) for label, _ in lines)
    print("\n".join(f"{label:<{width}}  {value}" for label, value in lines))
    Path("bench-retrieval.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

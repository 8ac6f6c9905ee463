"""The pipeline's pure parts: batches that fit the memory, and a receipt that fits a JSON column."""

import json
from collections.abc import Iterator
from typing import Any

from chat_api.core.errors import NotFound
from workers.documents import Chunk, Document, Fetched, Reading
from workers.lease import Progress
from workers.pipeline import BATCH_BYTES, NAMED_FAILURES, Receipt, batches


def page(chunks: int = 1, size: int = 10, **changes: Any) -> Reading:
    return Reading(
        "https://a.example/",
        fetched=Fetched("https://a.example/", 200, bytes(size)),
        chunks=tuple(Chunk(number, "words", tokens=3) for number in range(chunks)),
        **changes,
    )


def sizes(readings: list[Reading]) -> list[int]:
    return [len(batch) for batch in batches(readings)]


def test_batches_are_bounded_by_chunks_pages_and_bytes() -> None:
    assert sizes([page(chunks=100)] * 13) == [6, 6, 1]
    assert sizes([page()] * 450) == [200, 200, 50]
    assert sizes([page(size=BATCH_BYTES // 2)] * 5) == [2, 2, 1]
    assert sizes([]) == []


def test_a_batch_is_given_before_the_next_page_is_read() -> None:
    taken = 0

    def readings() -> Iterator[Reading]:
        nonlocal taken
        for _ in range(1000):
            taken += 1
            yield page()

    next(batches(readings()))
    assert taken == 200


def test_a_receipt_names_some_failures_and_counts_all() -> None:
    receipt = Receipt()
    for _ in range(100):
        receipt.count(page(chunks=2, document=Document("", (), "text/html", warnings=("odd",) * 3)))
        receipt.count(page(chunks=0, error=NotFound("A \0 bad \ud800 word")))
    found = json.loads(receipt.as_json(Progress(), 1.5))
    assert found["pages"] | found["chunks"] == {
        "found": 200, "fetched": 200, "unchanged": 0, "changed": 100, "removed": 0, "failed": 100,
        "total": 200, "embedded": 200, "reused": 0,
    }  # fmt: skip
    assert (found["tokens"], len(found["failures"]), len(found["warnings"])) == (600, NAMED_FAILURES, NAMED_FAILURES)
    assert found["failures"][0]["message"] == "A  bad ? word"
    assert len(receipt.warnings) == NAMED_FAILURES

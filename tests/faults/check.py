"""The checker: what the chat database holds after the last fault, beside the truth and beside what the sources say."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from tests.faults.sources import Source
from tests.faults.world import Row, rows_of

Chunk = tuple[str, str, int, int | None, str, bytes, str | None]
"""(document's address, heading, ordinal, page, text, embedded_sha256, vector)"""

LIVE_CHUNKS = """
    SELECT source.source_id, document.url, chunk.heading, chunk.ordinal, chunk.page, chunk.text, chunk.embedded_sha256,
           embedding.vector::text AS vector
    FROM sources AS source
    JOIN chunks AS chunk ON (chunk.org_id, chunk.bot_id, chunk.source_id, chunk.generation)
        = (source.org_id, source.bot_id, source.source_id, source.live_generation)
    LEFT JOIN documents AS document ON (document.org_id, document.bot_id, document.source_id, document.generation,
        document.document_id)
        = (chunk.org_id, chunk.bot_id, chunk.source_id, chunk.generation, chunk.document_id)
    LEFT JOIN bots AS bot ON (bot.org_id, bot.bot_id) = (source.org_id, source.bot_id)
    LEFT JOIN embeddings AS embedding ON (embedding.org_id, embedding.bot_id, embedding.source_id, embedding.generation,
        embedding.chunk_id, embedding.space_id)
        = (chunk.org_id, chunk.bot_id, chunk.source_id, chunk.generation, chunk.chunk_id, bot.space_id)
"""
JOBS = """
    SELECT DISTINCT ON (source_id) source_id, status, error_code FROM training_jobs
    ORDER BY source_id, created_at DESC, job_id
"""
OPEN_JOBS = "SELECT count(*) AS n FROM training_jobs WHERE status IN ('waiting', 'running')"
SEVERAL_LIVE = """
    SELECT source_id FROM generations WHERE state = 'live' GROUP BY org_id, bot_id, source_id HAVING count(*) > 1
"""


@dataclass(slots=True)
class Verdict:
    """What is wrong, by source; every list is empty when all promises hold."""

    lost: list[UUID] = field(default_factory=list)
    """A chunk of the truth is not there."""
    doubled: list[UUID] = field(default_factory=list)
    """A chunk is there more often than in the truth, or a source has two live generations."""
    mixed: list[UUID] = field(default_factory=list)
    """A chunk is there that the truth has not: of an older edit, of a page that is gone, or of nobody."""
    misread: list[UUID] = field(default_factory=list)
    """A marker that must stand there once does not, or one that must not stand there does."""
    resurrected: list[UUID] = field(default_factory=list)
    stuck: list[UUID] = field(default_factory=list)
    """Its last run is not over."""
    quarantined: list[UUID] = field(default_factory=list)
    failed: list[UUID] = field(default_factory=list)
    untold: list[UUID] = field(default_factory=list)
    """The dashboard's row does not say `trained`."""


def live_chunks(dsn: str) -> dict[UUID, list[Chunk]]:
    """What answers now, by source."""
    found: dict[UUID, list[Chunk]] = defaultdict(list)
    for row in rows_of(dsn, LIVE_CHUNKS):
        digest = bytes(row["embedded_sha256"])
        place = row["url"] or "", row["heading"], row["ordinal"], row["page"]
        found[row["source_id"]].append((*place, row["text"], digest, row["vector"]))
    return dict(found)


def compare(ours: Mapping[UUID, Sequence[Chunk]], truth: Mapping[UUID, Sequence[Chunk]], verdict: Verdict) -> None:
    """Notes where the chunks differ from the truth's; both are of sources that are not deleted."""
    for source_id in ours.keys() | truth.keys():
        here, there = Counter(ours.get(source_id, ())), Counter(truth.get(source_id, ()))
        if there - here:
            verdict.lost.append(source_id)
        more = here - there
        if any(there[chunk] for chunk in more):
            verdict.doubled.append(source_id)
        if any(not there[chunk] for chunk in more):
            verdict.mixed.append(source_id)


def read_markers(chunks: Sequence[Chunk], source: Source) -> bool:
    """Whether every marker of the source stands in its chunks exactly once, and no old one does."""
    text = "\n".join(chunk[4] for chunk in chunks)
    return all(text.count(marker) == 1 for marker in source.expected) and not any(
        marker in text for marker in source.forbidden
    )


def judge(
    ours: Mapping[UUID, Sequence[Chunk]], jobs: Iterable[Row], told: Iterable[Row], sources: Sequence[Source]
) -> Verdict:
    """The verdict without the truth: by the sources' own markers, their last runs, and the dashboard's rows."""
    verdict = Verdict()
    status_of = {row["source_id"]: row["status"] for row in jobs}
    said = {row["id"]: row["status"] for row in told}
    outcomes = {"quarantined": verdict.quarantined, "failed": verdict.failed, "cancelled": verdict.failed}
    for source in sources:
        status = status_of.get(source.source_id, "waiting")
        if source.deleted:
            if source.source_id in ours:
                verdict.resurrected.append(source.source_id)
            continue
        if status in {"waiting", "running"}:
            verdict.stuck.append(source.source_id)
        elif status in outcomes:
            outcomes[status].append(source.source_id)
        elif said.get(source.source_id) != "trained":
            verdict.untold.append(source.source_id)
        if not read_markers(ours.get(source.source_id, ()), source):
            verdict.misread.append(source.source_id)
    return verdict


def several_live(dsn: str) -> list[UUID]:
    """Sources with more than one live generation."""
    return [row["source_id"] for row in rows_of(dsn, SEVERAL_LIVE)]

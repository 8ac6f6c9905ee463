"""What becomes, at a crawl's end, of the pages that were live before it: kept, gone, or too many gone at once."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, text

from chat_api.core.errors import BlockedByRobots, NoText, NotFound, ServiceError, TooManyPages, training_errors
from chat_api.core.keys import OF_GENERATION
from workers.crawl.ledger import key_of, met_of
from workers.crawl.state import Crawl
from workers.fetch.crawl import SKIPPED_AT_MOST, UNREAD
from workers.fetch.names import identity
from workers.fetch.robots import unanswered
from workers.fetch.urls import parse_url
from workers.receipt import NAMED_FAILURES, Receipt
from workers.store.generation import copy_unchanged
from workers.store.rows import Build
from workers.tasks.life import assert_held

MISSING = "missing"
NAMED_REMOVALS = 100
BRAKE_SHARE = 0.2
BRAKE_PAGES = 10
UNWANTED = "The pages ask not to be learned (noindex). Remove that from them, or give other pages."
ERRORS = {error.code: error for error in training_errors()}
# What robots.txt forbids, or is beyond max_pages, was not asked for: that is the crawl's own rule, no page's failure.
FAILED = sorted(set(ERRORS) - {BlockedByRobots.code, TooManyPages.code})
KEPT = set(FAILED) - {NotFound.code}


@dataclass(slots=True)
class Comparison:
    """What the live generation has and this crawl has not."""

    live_generation: int = 0
    live_pages: int = 0
    same_source: bool = True
    """Whether the source is as it was when the live generation was read."""
    kept: dict[str, list[str]] = field(default_factory=dict)
    """The ledger's outcome → the addresses whose old text stays."""
    removed: list[str] = field(default_factory=list)

    @property
    def held(self) -> bool:
        """Whether so much would be gone that the owner is asked first."""
        many = len(self.removed) > BRAKE_PAGES and len(self.removed) > BRAKE_SHARE * self.live_pages
        return many and self.same_source


LIVE = text("""
    SELECT live.generation, live.source_version = build.source_version AS same_source,
           (SELECT count(*) FROM pages WHERE org_id = :org_id AND bot_id = :bot_id AND source_id = :source_id
            AND generation = live.generation AND chunks > 0) AS live_pages
    FROM sources AS source
    JOIN generations AS live USING (org_id, bot_id, source_id)
    JOIN generations AS build USING (org_id, bot_id, source_id)
    WHERE source.org_id = :org_id AND source.bot_id = :bot_id AND source.source_id = :source_id
      AND live.generation = source.live_generation AND build.generation = :generation
""")
LOST = text("""
    SELECT old.url, old.outcome AS was, document.url AS cited_url, new.outcome AS now
    FROM pages AS old
    JOIN documents AS document USING (org_id, bot_id, source_id, generation, document_id)
    LEFT JOIN pages AS new ON new.org_id = old.org_id AND new.bot_id = old.bot_id AND new.source_id = old.source_id
                          AND new.generation = :generation AND new.url = old.url
    WHERE old.org_id = :org_id AND old.bot_id = :bot_id AND old.source_id = :source_id
      AND old.generation = :live_generation AND old.chunks > 0 AND coalesce(new.chunks, 0) = 0
    ORDER BY old.url
""")


def compare(connection: Connection, build: Build, *, cut_short: bool = False) -> Comparison:
    """Judges every page that was live and has no text now.

    One that fails now keeps its text, unless its server says that it is gone; so does one that was not met, the first
    time. One that the crawl's rules leave out is removed, and of a source that was edited all that was not met. A crawl
    that was `cut_short` by what its org may still read this month removes nothing that it did not reach.
    """
    live = connection.execute(LIVE, key_of(build)).one_or_none()
    if live is None:
        return Comparison()
    found = Comparison(live.generation, live.live_pages, live.same_source)
    lost = connection.execute(LOST, {**key_of(build), "live_generation": live.generation}).all()
    renamed = _renamed(connection, build, [(row.url, row.cited_url) for row in lost if row.now in {None, UNREAD}])
    for row in lost:
        if row.url in renamed:
            continue
        may_go = not live.same_source or row.was == MISSING
        if outcome := _kept_as(row.now, may_go=may_go, cut_short=cut_short):
            found.kept.setdefault(outcome, []).append(row.url)
        else:
            found.removed.append(row.url)
    return found


def _kept_as(now: str | None, *, may_go: bool, cut_short: bool) -> str | None:
    """The outcome under which a lost page keeps its old text; None removes the page.

    `now` is what this crawl found of it, None if it was not met. `may_go`: whether an unmet page is removed.
    """
    if now is None:
        return MISSING if cut_short or not may_go else None
    return now if now in KEPT or (cut_short and now == TooManyPages.code) else None


def _renamed(connection: Connection, build: Build, pages: Sequence[tuple[str, str | None]]) -> set[str]:
    """Those of (url, where it led) whose text is here under another spelling of either."""
    names = [name for page in pages for name in page if name]
    found = {identity(parse_url(url)) for url in met_of(connection, build, names, with_text=True)}
    return {page[0] for page in pages if any(name and identity(parse_url(name)) in found for name in page)}


FORGET_VALIDATORS = text(f"""
    UPDATE pages SET content_sha256 = NULL, etag = NULL, last_modified = NULL
    WHERE {OF_GENERATION} AND url = ANY (:urls)
""")  # noqa: S608


def keep(connection: Connection, build: Build, live_generation: int, urls: Sequence[str], outcome: str) -> int:
    """Copies the live text of pages that have none now, under `outcome`; how many chunks.

    With the validators of that text, so that the next crawl does not take what failed now for what is kept. Raises
    LeaseLostError.
    """
    assert_held(connection, build.task)
    connection.execute(FORGET_VALIDATORS, {**key_of(build), "urls": list(urls)})
    return copy_unchanged(connection, build, live_generation, urls, outcome)


# --- telling ----------------------------------------------------------------------------------------------------------

COUNTS = text(f"""
    SELECT count(*) FILTER (WHERE outcome <> '{MISSING}') AS found,
           count(*) FILTER (WHERE outcome = 'unchanged') AS unchanged,
           count(*) FILTER (WHERE outcome = 'indexed') AS changed,
           count(*) FILTER (WHERE position IS NOT NULL AND outcome = ANY (:failed)) AS failed,
           count(*) FILTER (WHERE outcome = 'noindex') AS unwanted,
           coalesce(sum(chunks), 0) AS chunks,
           coalesce(sum(chunks) FILTER (WHERE outcome IN ('indexed', 'unchanged')), 0) AS fresh_chunks
    FROM pages WHERE {OF_GENERATION}
""")  # noqa: S608
FAILURES = text(f"""
    SELECT url, outcome AS code, message FROM pages
    WHERE {OF_GENERATION} AND position IS NOT NULL AND outcome = ANY (:codes) ORDER BY position LIMIT :at_most
""")  # noqa: S608
UNMET = text(f"""
    SELECT url FROM pages WHERE {OF_GENERATION} AND outcome = '{MISSING}' ORDER BY url LIMIT :at_most
""")  # noqa: S608
RESULTS = text("""
    SELECT result -> 'receipt' FROM training_tasks WHERE job_id = :job_id AND kind = 'pages' ORDER BY ordinal
""")
CHANGES = text("""
    SELECT count(*) FILTER (WHERE old.url IS NULL) AS added,
           count(*) FILTER (WHERE old.url IS NOT NULL AND new.outcome = 'indexed') AS changed
    FROM pages AS new
    LEFT JOIN pages AS old ON old.org_id = new.org_id AND old.bot_id = new.bot_id AND old.source_id = new.source_id
                          AND old.generation = :live_generation AND old.url = new.url AND old.chunks > 0
    WHERE new.org_id = :org_id AND new.bot_id = :bot_id AND new.source_id = :source_id
      AND new.generation = :generation AND new.chunks > 0
""")


def first_error(connection: Connection, build: Build) -> ServiceError | None:
    """Why no page gave text, or None where one did."""
    counts = _counts(connection, build)
    if counts.fresh_chunks:
        return None
    values = {**key_of(build), "codes": list(ERRORS), "at_most": 1}
    row = connection.execute(FAILURES, values).one_or_none()
    if row:
        return ERRORS[row.code](row.message)
    return NoText(UNWANTED if counts.unwanted else None)


def receipt_of(connection: Connection, build: Build, crawl: Crawl, compared: Comparison) -> Receipt:
    """What the whole crawl did: what its tasks before this one spent, and what the ledger says came of it."""
    receipt = Receipt()
    for words in crawl.warnings:
        receipt.warn(words)
    if crawl.skipped >= SKIPPED_AT_MOST:
        receipt.warn(f"{SKIPPED_AT_MOST:,} addresses that were left out are noted. Any beyond these are not.")
    for origin in unanswered(crawl.robots):
        receipt.warn(f"Nothing was read at {origin}, whose robots.txt gave no answer. Texts from there are kept.")
    for url in connection.execute(UNMET, {**key_of(build), "at_most": NAMED_FAILURES}).scalars():
        receipt.warn(f"{url} was not met this time. Its text is kept until the next training.")
    for (stored,) in connection.execute(RESULTS, {"job_id": build.task.job_id}):
        receipt.merge(Receipt.of(stored))
    counts = _counts(connection, build)
    receipt.pages |= {name: getattr(counts, name) for name in ("found", "unchanged", "changed", "failed")}
    receipt.pages["removed"] = len(compared.removed)
    # What was read for nothing, of pages that turned out to be duplicates, is paid for and yet not there.
    receipt.chunks["total"] = int(counts.chunks)
    receipt.chunks["reused"] = max(0, receipt.chunks["total"] - receipt.chunks["embedded"])
    failures = connection.execute(FAILURES, {**key_of(build), "codes": FAILED, "at_most": NAMED_FAILURES})
    receipt.failures = [{"url": row.url, "code": row.code, "message": row.message or ""} for row in failures]
    return receipt


def diff_of(connection: Connection, build: Build, compared: Comparison) -> dict[str, Any]:
    """What releasing the generation would change."""
    values = {**key_of(build), "live_generation": compared.live_generation}
    changes = connection.execute(CHANGES, values).one()
    return {
        "removed": compared.removed[:NAMED_REMOVALS],
        "removed_count": len(compared.removed),
        "added_count": changes.added,
        "changed_count": changes.changed,
    }


def _counts(connection: Connection, build: Build) -> Row[Any]:
    return connection.execute(COUNTS, {**key_of(build), "failed": FAILED}).one()

"""What a crawl's tasks share: the state of the crawl, its ledger, and how it advances from task to task.

Tasks end in any order, but what they found is consumed in the order in which they were made, one advance at a time: so
a crawl is the same whoever works on it. Only addresses that are new cost anything, however large the site is.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, text

from chat_api.core.errors import TrainingError, training_errors
from chat_api.core.keys import OF_GENERATION
from chat_api.core.storable import storable
from workers.crawl.plan import add_tasks, hand_out
from workers.crawl.state import Before, Crawl, TaskResult, Visited, same_page
from workers.documents import READER_VERSION
from workers.fetch.crawl import Frontier, Skip, Visit
from workers.fetch.names import identity, link_of, spellings
from workers.fetch.urls import parse_url
from workers.store.known import LivePage
from workers.store.rows import Build, document_id
from workers.tasks.life import LeaseLostError, Task

CONSUMED_AT_ONCE = 50
SECOND_TRY_S, LONGEST_WAIT_S = 5, 3600
PASSING = [error.code for error in training_errors() if issubclass(error, TrainingError) and error.retryable]


# --- looking ----------------------------------------------------------------------------------------------------------

FIND_CRAWL = text(f"SELECT crawl FROM generations WHERE {OF_GENERATION}")  # noqa: S608  # the part is our own
LOCK_CRAWL = text(f"SELECT crawl FROM generations WHERE {OF_GENERATION} FOR NO KEY UPDATE")  # noqa: S608
STORE_CRAWL = text(f"UPDATE generations SET crawl = CAST(:crawl AS jsonb) WHERE {OF_GENERATION}")  # noqa: S608
MET = text(f"SELECT url FROM pages WHERE {OF_GENERATION} AND url = ANY (:urls) AND chunks >= :least")  # noqa: S608
FIND_RESULT = text("SELECT result FROM training_tasks WHERE task_id = :task_id")


def find_crawl(connection: Connection, build: Build) -> Crawl:
    """The state that all tasks share."""
    return Crawl.of(connection.execute(FIND_CRAWL, key_of(build)).scalar_one())


def find_result(connection: Connection, task: Task) -> TaskResult:
    """What earlier attempts at the task have written."""
    stored = connection.execute(FIND_RESULT, {"task_id": task.task_id}).scalar_one_or_none()
    return TaskResult.of(stored) if stored else TaskResult()


def met_of(connection: Connection, build: Build, urls: Iterable[str], *, with_text: bool = False) -> list[str]:
    """The addresses in the ledger that are spellings of `urls`; or those of them that gave text."""
    least = int(with_text)
    urls = set(urls)
    # Most are spelled as they were before: only the others are looked for under all their spellings.
    found = _among(connection, build, urls, least)
    others = [link for link in map(link_of, urls - found) if link]
    return list(found | _among(connection, build, {name for link in others for name in spellings(link)}, least))


def _among(connection: Connection, build: Build, urls: set[str], least: int) -> set[str]:
    if not urls:
        return set()
    return set(connection.execute(MET, {**key_of(build), "urls": list(urls), "least": least}).scalars())


BEFORE = text("""
    SELECT live.generation, live.source_version, page.url, page.etag, page.last_modified, page.content_sha256,
           page.chunks, document.title, document.url AS cited_url, document.text_sha256, page.links,
           live.crawl ->> 'example' AS example, live.reader_version = :reader_version AND live.space_id = :space_id AS same
    FROM sources AS source
    JOIN generations AS live USING (org_id, bot_id, source_id)
    JOIN pages AS page USING (org_id, bot_id, source_id, generation)
    JOIN documents AS document USING (org_id, bot_id, source_id, generation, document_id)
    WHERE source.org_id = :org_id AND source.bot_id = :bot_id AND source.source_id = :source_id
      AND live.generation = source.live_generation AND page.url = ANY (:urls) AND page.chunks > 0
""")


def pages_before(connection: Connection, build: Build, crawl: Crawl, urls: Sequence[str]) -> dict[str, Before]:
    """Those of the addresses that have text in the live generation, as they are there."""
    values = {"space_id": build.space_id, "reader_version": READER_VERSION, "urls": list(urls)}
    found = {}
    for *columns, links, example, same in connection.execute(BEFORE, key_of(build) | values):
        live = LivePage(*columns)
        # Where another page than before keeps what all share, neither can be taken as it is.
        keeps = any(
            same_page(one, live.url, live.cited_url) for one in {example, crawl.example} if example != crawl.example
        )
        # Without its links, where they are followed, a page can't either.
        comparable = same and not keeps and not build.task.force and (links is not None or not crawl.follow)
        found[live.url] = Before(live, tuple(links or ()), comparable)
    return found


def key_of(build: Build) -> dict[str, Any]:
    """The generation's key as statements name it."""
    return dict(zip(("org_id", "bot_id", "source_id", "generation"), build.key, strict=True))


# --- growing ----------------------------------------------------------------------------------------------------------

ADD_PAGES = text("""
    INSERT INTO pages (org_id, bot_id, source_id, generation, url, outcome, position, depth)
    SELECT :org_id, :bot_id, :source_id, :generation, met.*
    FROM unnest(CAST(:urls AS text[]), CAST(:outcomes AS text[]), CAST(:positions AS int[]), CAST(:depths AS int[])) AS met
    ORDER BY 5
    ON CONFLICT DO NOTHING
""")


def grow(connection: Connection, build: Build, crawl: Crawl, frontier: Frontier) -> None:
    """Puts what the frontier has found into the ledger, and its addresses to visit among those that wait."""
    visits = list(iter(frontier.next, None))
    pages: list[tuple[str, str, int | None, int | None]] = [
        (visit.url, "waiting", crawl.accepted + place, visit.depth) for place, visit in enumerate(visits)
    ]
    pages += [(url, reason, None, None) for url, reason in frontier.skipped.items()]
    if pages:
        columns = zip(("urls", "outcomes", "positions", "depths"), zip(*pages, strict=True), strict=True)
        values = {name: list(column) for name, column in columns}
        connection.execute(ADD_PAGES, {**key_of(build), **values, "urls": [storable(url) for url in values["urls"]]})
    crawl.start, crawl.accepted = frontier.start, frontier.accepted
    crawl.skipped += len(frontier.skipped)
    crawl.pending += visits


def store_crawl(connection: Connection, build: Build, crawl: Crawl) -> None:
    """Writes the state for the tasks to come."""
    connection.execute(STORE_CRAWL, {**key_of(build), "crawl": crawl.as_json()})


# --- advancing --------------------------------------------------------------------------------------------------------

NOTE_URL = text("""
    UPDATE training_tasks SET at_url = :url WHERE task_id = :task_id AND fence = :fence AND status = 'running'
""")
NOTE_RESULT = text("""
    UPDATE training_tasks SET result = CAST(:result AS jsonb), at_url = NULL
    WHERE task_id = :task_id AND fence = :fence AND status = 'running'
""")
MARK_DONE = text("""
    UPDATE training_tasks
    SET status = 'done', result = CAST(:result AS jsonb), at_url = NULL, lease_holder = NULL, lease_expires_at = NULL
    WHERE task_id = :task_id AND fence = :fence AND status = 'running'
""")
LOCK_JOB = text("SELECT status FROM training_jobs WHERE job_id = :job_id FOR NO KEY UPDATE")
READY = text("""
    SELECT ordinal, result FROM (
        SELECT ordinal, result, bool_and(status = 'done') OVER (ORDER BY ordinal) AS all_done
        FROM (SELECT ordinal, status, result FROM training_tasks
              WHERE job_id = :job_id AND kind = 'pages' AND ordinal >= :consumed ORDER BY ordinal LIMIT :at_once) AS next
    ) AS task
    WHERE all_done ORDER BY ordinal
""")
FORGET_DOCUMENTS = text(f"""
    WITH document AS (DELETE FROM documents WHERE {OF_GENERATION} AND document_id = ANY (:document_ids))
    DELETE FROM chunks WHERE {OF_GENERATION} AND document_id = ANY (:document_ids) RETURNING chunk_id
""")  # noqa: S608
# The whole key is given, as arrays: joined, or without the space, all vectors of the generation may be read.
FORGET_VECTORS = text(f"""
    DELETE FROM embeddings WHERE {OF_GENERATION} AND chunk_id = ANY (:chunk_ids)
                             AND space_id = ANY (ARRAY(SELECT space_id FROM embedding_spaces))
""")  # noqa: S608
REJECT = text(f"""
    UPDATE pages SET outcome = reason, message = NULL, document_id = NULL, chunks = 0, links = NULL
    FROM unnest(CAST(:urls AS text[]), CAST(:reasons AS text[])) AS rejected (rejected_url, reason)
    WHERE {OF_GENERATION} AND url = rejected_url
""")  # noqa: S608
# Of duplicates only those have links that have named another address: that one is the first.
CANONICAL = text(f"""
    SELECT url, links[1] AS canonical FROM pages
    WHERE {OF_GENERATION} AND outcome = 'duplicate' AND position IS NOT NULL AND links IS NOT NULL
""")  # noqa: S608
TRY_AGAIN = text(f"""
    UPDATE pages SET outcome = 'waiting', links = CASE WHEN outcome = ANY (:passing) THEN links END
    WHERE {OF_GENERATION} AND position IS NOT NULL AND (outcome = ANY (:passing) OR url = ANY (:unfounded))
    RETURNING url, depth, position
""")  # noqa: S608
# Under which names those were about to be read: else their second try would find them met.
LANDED = text("""
    SELECT visited ->> 2 FROM training_tasks CROSS JOIN LATERAL jsonb_array_elements(result -> 'visited') AS visited
    WHERE job_id = :job_id AND kind = 'pages' AND visited ->> 0 = ANY (:urls) AND visited ->> 2 IS NOT NULL
""")
FORGET_LANDED = text(f"""
    DELETE FROM pages WHERE {OF_GENERATION} AND position IS NULL AND outcome = 'duplicate' AND url = ANY (:urls)
""")  # noqa: S608
NOTE_PROGRESS = text("""
    UPDATE training_jobs
    SET stage = :stage, progress_done = least(progress_done + :done, :total), progress_total = :total,
        progress_unit = 'pages', error_code = NULL, error_message = NULL, error_retryable = NULL,
        status_version = nextval('status_versions')
    WHERE job_id = :job_id
""")


def note_url(connection: Connection, task: Task, url: str) -> None:
    """Says which page a suspect task is about to read, for when it dies of it."""
    connection.execute(NOTE_URL, {"task_id": task.task_id, "fence": task.fence, "url": storable(url)})


def note_result(connection: Connection, task: Task, result: TaskResult) -> None:
    """Keeps what a task that is still held has found so far: another attempt goes on behind it."""
    connection.execute(NOTE_RESULT, {"task_id": task.task_id, "fence": task.fence, "result": result.as_json()})


def forget_texts(connection: Connection, build: Build, urls: Iterable[str]) -> None:
    """Removes what the generation has of these pages: documents, chunks and vectors."""
    documents = [document_id(build.task.source_id, url) for url in urls]
    chunks = list(connection.execute(FORGET_DOCUMENTS, {**key_of(build), "document_ids": documents}).scalars())
    if chunks:
        connection.execute(FORGET_VECTORS, {**key_of(build), "chunk_ids": chunks})


def advance(connection: Connection, task: Task, build: Build, result: TaskResult, stage: str) -> int:
    """Ends a task in the transaction of its last rows, and makes those that come next; how many. Raises LeaseLostError."""
    values = {"task_id": task.task_id, "fence": task.fence, "result": result.as_json()}
    if not connection.execute(MARK_DONE, values).rowcount:
        raise LeaseLostError
    connection.execute(LOCK_JOB, {"job_id": task.job_id})
    crawl = Crawl.of(connection.execute(LOCK_CRAWL, key_of(build)).scalar_one())
    ready = True
    while ready:
        results = _ready(connection, task, crawl.consumed)
        _consume(connection, build, crawl, results)
        crawl.consumed += len(results)
        ready = len(results) == CONSUMED_AT_ONCE
    made = _go_on(connection, task, build, crawl)
    store_crawl(connection, build, crawl)
    note_progress(connection, task, crawl, stage, len(result.visited))
    return made


def note_progress(connection: Connection, task: Task, crawl: Crawl, stage: str, done: int) -> None:
    """Tells the run how many more pages are done, and of how many."""
    values = {"job_id": task.job_id, "stage": stage, "done": done, "total": crawl.accepted}
    connection.execute(NOTE_PROGRESS, values)


def _ready(connection: Connection, task: Task, consumed: int) -> list[TaskResult]:
    """The results that come next and are there, in order."""
    values = {"job_id": task.job_id, "consumed": consumed, "at_once": CONSUMED_AT_ONCE}
    return [TaskResult.of(row.result) for row in connection.execute(READY, values)]


def _consume(connection: Connection, build: Build, crawl: Crawl, results: Sequence[TaskResult]) -> None:
    for result in results:
        crawl.robots = result.robots | crawl.robots
        crawl.retry_after = max(crawl.retry_after, result.retry_after)
    pages = [page for result in results for page in result.visited]
    told = {url for page in pages for url in (page.landed, *page.links) if url}
    frontier = crawl.frontier(met_of(connection, build, told))
    reasons = {page.url: _met(crawl, frontier, page) for page in pages}
    if rejected := {url: reason for url, reason in reasons.items() if reason}:
        forget_texts(connection, build, rejected)
        values = {"urls": list(rejected), "reasons": list(rejected.values())}
        connection.execute(REJECT, {**key_of(build), **values})
    grow(connection, build, crawl, frontier)


def _met(crawl: Crawl, frontier: Frontier, page: Visited) -> Skip | None:
    """Takes up the page's links and what it brought, or says why it does not count."""
    reason = frontier.landed(Visit(page.url, page.depth), page.landed) if page.landed else None
    if not reason:
        frontier.add(page.links, page.depth + 1)
    sketch = "" if reason == "duplicate" else page.sketch
    if sketch is not None:
        crawl.shapes.note(parse_url(page.url), sketch)
    return reason


def _go_on(connection: Connection, task: Task, build: Build, crawl: Crawl) -> int:
    """Makes the next tasks; when nothing is left to read those of a second try, and at last the one that finishes."""
    made = hand_out(connection, task, crawl)
    if made or crawl.made > crawl.consumed:
        return made
    if not crawl.tried_again:
        crawl.tried_again = True
        values = {**key_of(build), "passing": PASSING, "unfounded": _unfounded(connection, build)}
        again = connection.execute(TRY_AGAIN, values).all()
        crawl.pending = [Visit(row.url, row.depth) for row in sorted(again, key=lambda row: row.position)]
        _forget_landed(connection, task, build, [visit.url for visit in crawl.pending])
        wait_s = min(max(SECOND_TRY_S, crawl.retry_after), LONGEST_WAIT_S)
        if made := hand_out(connection, task, crawl, wait_s=wait_s):
            return made
    add_tasks(connection, task, crawl, "finish", [{}], [0])
    return 1


def _forget_landed(connection: Connection, task: Task, build: Build, urls: Sequence[str]) -> None:
    landed = connection.execute(LANDED, {"job_id": task.job_id, "urls": urls}).scalars().all()
    names = [str(name) for name in map(link_of, landed) if name]
    connection.execute(FORGET_LANDED, {**key_of(build), "urls": names})


def _unfounded(connection: Connection, build: Build) -> list[str]:
    """The pages that named another as their canonical one, which has given no text."""
    named = connection.execute(CANONICAL, key_of(build)).all()
    targets = {row.canonical for row in named}
    found = {identity(parse_url(url)) for url in met_of(connection, build, targets, with_text=True)}
    return [row.url for row in named if identity(parse_url(row.canonical)) not in found]

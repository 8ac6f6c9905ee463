"""Pages that are another's double: by a canonical address that turns out to have text, or by having the very same text."""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Connection, text

from chat_api.core.keys import OF_GENERATION
from workers.crawl.ledger import forget_texts, key_of
from workers.store.rows import Build
from workers.tasks.life import assert_held


class Twin(NamedTuple):
    """A page, and the one before it in the crawl that has its title and text."""

    url: str
    first_url: str


TWINS = text(f"""
    SELECT url, first_url FROM (
        SELECT page.url, first_value(page.url) OVER same AS first_url
        FROM pages AS page JOIN documents AS document USING (org_id, bot_id, source_id, generation, document_id)
        WHERE {OF_GENERATION} AND page.chunks > 0 AND page.outcome IN ('indexed', 'unchanged')
        WINDOW same AS (PARTITION BY document.title, document.text_sha256 ORDER BY page.position NULLS LAST, page.url)
    ) AS page
    WHERE url <> first_url ORDER BY url
""")  # noqa: S608  # the part is our own
MARK = text(f"""
    UPDATE pages SET outcome = 'duplicate', message = 'It has the text of ' || first_url, document_id = NULL, chunks = 0
    FROM unnest(CAST(:urls AS text[]), CAST(:first_urls AS text[])) AS twin (twin_url, first_url)
    WHERE {OF_GENERATION} AND url = twin_url
""")  # noqa: S608


def twins_of(connection: Connection, build: Build) -> list[Twin]:
    """The pages that have title and text of one that was met before them."""
    return [Twin(*row) for row in connection.execute(TWINS, key_of(build))]


def merge(connection: Connection, build: Build, twins: Sequence[Twin]) -> None:
    """Removes the twins' texts: the first page's stays. Raises LeaseLostError."""
    assert_held(connection, build.task)
    urls = [twin.url for twin in twins]
    forget_texts(connection, build, urls)
    connection.execute(MARK, {**key_of(build), "urls": urls, "first_urls": [twin.first_url for twin in twins]})

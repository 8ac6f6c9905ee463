"""The owner's sources, and what each must say: created, edited, deleted and queued through public doors alone."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid5

import psycopg
from psycopg.types.json import Jsonb

from deploy.local.client import DashboardClient, Row
from tests.faults.content import Article
from tests.faults.website import Site
from tests.faults.world import NAMESPACE, World, insist

FILES = {"md": Article.markdown, "txt": Article.plain, "html": Article.page, "pdf": Article.pdf}
SITE_PAGES = (20, 60)


@dataclass
class Source:
    """One source and its truth."""

    source_id: UUID
    client: DashboardClient
    bot_id: UUID
    kind: str
    """`text`, `qa`, `url`, `site`, or a file's ending."""
    articles: dict[str, Article]
    """What it says: by path for a site, else under ""."""
    host: Site | None = None
    gone: dict[str, Article] = field(default_factory=dict)
    deleted: bool = False
    wishes: bool = False
    """Whether an edit of its pages waits for a run that reads them."""

    @property
    def expected(self) -> list[str]:
        """The markers that must be found, each once."""
        return [marker for article in self.articles.values() for marker in article.markers]

    @property
    def forbidden(self) -> list[str]:
        """The markers of what was overwritten or is gone."""
        old = [marker for article in self.articles.values() for marker in article.old_markers]
        return old + [marker for article in self.gone.values() for marker in (*article.markers, *article.old_markers)]


class Owner:
    """Everything a dashboard's users do in a run; it insists while a database or the API is away."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.dice = random.Random(f"owner {world.size.seed}")
        self.sources: list[Source] = []

    def create(self, kind: str, number: int, note: str = "") -> Source:
        """A new source of this kind, not queued yet, that ends in `note`. Each number is used once."""
        key, source = self._key(number), self.planned(kind, number)
        if kind == "site":
            pages = self.dice.randint(*SITE_PAGES)
            source.articles = {
                path: Article.new(f"{key}p{page}", self.dice) for page, path in enumerate(_paths(number, pages))
            }
        else:
            source.articles = {"": Article.new(key, self.dice, note)}
        self._publish(source)
        values = self.columns(source)
        insist(lambda: add_row(source, values))
        self.sources.append(source)
        return source

    def planned(self, kind: str, number: int) -> Source:
        """The source that `create` will make of this number; it says nothing yet."""
        place = number % len(self._world.clients)
        client, bot_id = self._world.clients[place], self._world.bots[place]
        return Source(uuid5(NAMESPACE, self._key(number)), client, bot_id, kind, {}, self._host(kind, number))

    def _key(self, number: int) -> str:
        return f"s{self._world.size.seed}n{number}"

    def _host(self, kind: str, number: int) -> Site | None:
        # The first one is the bench's own; a crawled site is one host, so sites get theirs apart from single pages.
        single, crawled = self._world.sites[1:3], self._world.sites[3:]
        if kind == "site":
            return crawled[number % len(crawled)]
        return single[number % len(single)] if kind == "url" else None

    def _publish(self, source: Source) -> None:
        """Put the source's pages on its host."""
        if source.host and source.kind == "url":
            source.host.put(f"/{source.source_id}.html", source.articles[""].page())
        elif source.host:
            publish_site(source.host, source.articles, [*source.articles, *reversed(source.gone)])

    def columns(self, source: Source) -> Row:
        """The dashboard's columns for what the source says now."""
        article = next(iter(source.articles.values()))
        if source.kind == "url" and source.host:
            return {"type": "url", "url": source.host.url(f"/{source.source_id}.html")}
        if source.kind == "site" and source.host:
            start = next(iter(source.articles))
            # Sites share a host: each crawl stays in its own folder.
            return {
                "type": "site",
                "url": source.host.url(start),
                "options": Jsonb({"include": [f"{start.rpartition('/')[0]}/*"]}),
            }
        if source.kind == "text":
            content = Jsonb({"text": article.markdown().decode()})
            return {"type": "text", "title": article.title, "content": content}
        if source.kind == "qa":
            return {"type": "qa", "title": article.title, "content": Jsonb({"pairs": article.pairs()})}
        return {"type": "file", "file_id": self._upload(source, article)}

    def _upload(self, source: Source, article: Article) -> UUID:
        body = FILES[source.kind](article)
        file_id = uuid5(source.source_id, str(article.revisions))
        name = f"{source.source_id}.{source.kind}"
        key = f"{source.client.org_id}/{file_id}/{name}"
        self._world.put_object(key, body)
        insist(lambda: add_file(source, file_id, key, name, len(body)))
        return file_id

    def queue(self, sources: list[Source]) -> None:
        """Have sources of one org trained."""
        insist(lambda: sources[0].client.queue_many([source.source_id for source in sources]))

    def edit(self, source: Source) -> None:
        """Change one section, or also lose a page of a site, and have it trained."""
        path = self.dice.choice(list(source.articles))
        source.articles[path] = source.articles[path].edited(self.dice)
        if source.kind == "site" and self.dice.random() < 0.3:
            self._lose_page(source)
        self._publish(source)
        if source.host:
            source.wishes = True
        else:
            values = self.columns(source)
            insist(lambda: change_row(source, values))
            insist(lambda: source.client.queue(source.source_id))

    def _lose_page(self, source: Source) -> None:
        path = list(source.articles)[-1]
        source.gone[path] = source.articles.pop(path)
        if source.host:
            source.host.pages.pop(path, None)

    def press(self) -> int:
        """Ask again for the runs that edited pages wait for; how many still wait.

        A run under way may have read the page before the edit: only a run that was not yet begun will do.
        """
        for source in self.sources:
            if source.wishes and not source.deleted:
                job = insist(lambda source=source: source.client.queue(source.source_id))  # type: ignore[misc]
                source.wishes = job["status"] != "waiting"
        return sum(source.wishes and not source.deleted for source in self.sources)

    def delete(self, source: Source) -> None:
        """Take the source away for good."""
        source.deleted = True
        insist(lambda: source.client.delete_source(source.source_id))

    def living(self) -> Iterator[Source]:
        """The sources that are not deleted."""
        return (source for source in self.sources if not source.deleted)


def _paths(number: int, pages: int) -> list[str]:
    return [f"/site{number}/{'index' if page == 0 else f'page{page}'}.html" for page in range(pages)]


def publish_site(host: Site, articles: dict[str, Article], paths: list[str]) -> None:
    """Put the pages up: the first links to the first half of `paths`, each of those to one of the second.

    Links to pages that are gone stay, so that a crawl finds them gone.
    """
    half = max(1, len(paths) // 2)
    for place, path in enumerate(paths):
        links = paths[1 : half + 1] if place == 0 else paths[half + place : half + place + 1]
        if path in articles:
            host.put(path, articles[path].page(links))


def add_row(source: Source, values: Row) -> None:
    """The dashboard's row of a new source; once, however often it is called."""
    columns = {
        "id": source.source_id, "org_id": source.client.org_id, "bot_id": source.bot_id, "options": Jsonb({}), **values,
    }  # fmt: skip
    names, marks = ", ".join(columns), ", ".join(["%s"] * len(columns))
    statement = f"INSERT INTO training_sources ({names}) VALUES ({marks}) ON CONFLICT (id) DO NOTHING"
    run(source.client, statement, *columns.values())


def change_row(source: Source, values: Row) -> None:
    """What the owner changed."""
    assignments = ", ".join(f"{name} = %s" for name in values)
    statement = f"UPDATE training_sources SET {assignments}, updated_at = now() WHERE id = %s"
    run(source.client, statement, *values.values(), source.source_id)


def add_file(source: Source, file_id: UUID, key: str, name: str, size: int) -> None:
    """The row of a file in the bucket."""
    statement = (
        "INSERT INTO files (id, org_id, object_key, filename, size_bytes) VALUES (%s, %s, %s, %s, %s)"
        " ON CONFLICT (id) DO NOTHING"
    )
    run(source.client, statement, file_id, source.client.org_id, key, name, size)


def run(client: DashboardClient, statement: str, *values: Any) -> None:
    """A statement in the dashboard's database, committed."""
    with psycopg.connect(client.stack["dashboard_db_dsn"], connect_timeout=3) as connection:
        connection.execute(statement.encode(), values)

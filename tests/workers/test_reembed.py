"""Bots are embedded anew beside what they read, each switched by itself when it is whole; nothing is paid for twice."""

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import SecretStr
from sqlalchemy import Engine, text

from chat_api.core.database import of_org
from chat_api.core.embeddings import EmbeddingSpace, OpenAIEmbedder
from chat_api.core.errors import EmbeddingMisconfigured, Held
from chat_api.core.refusals import UnknownBot
from chat_api.core.settings import Settings
from tests.conftest import make_settings
from tests.provider import Provider
from tests.provider_model import HashedEmbeddings
from tests.servers import Servers, as_workers
from tests.workers.chat_rows import engine_of
from workers.bootstrap import Collaborators, bootstrap
from workers.chunk import chunk, embedded_text
from workers.commands.reembed import await_switch, reembed, space_named
from workers.documents import Block, Document
from workers.jobs import process
from workers.reembed import embed_again
from workers.spaces import LOCK_TASKS, BotKey, aim, switch_if_whole, tend_spaces
from workers.store.generation import ensure_space
from workers.tasks.claims import claim
from workers.tasks.expiry import MAX_CRASHES, expire_leases
from workers.tasks.lease import Progress
from workers.tasks.life import HandBackError, LeaseLostError, Task, hand_back
from workers.tasks.retries import MAX_ATTEMPTS

OLD = EmbeddingSpace("text-embedding-3-small", 64)
NEW = EmbeddingSpace("text-embedding-3-large", 32)
THIRD = EmbeddingSpace("text-embedding-3-large", 48)


def nothing() -> None:
    """A check that lets everything go on."""


@dataclass
class Shelf:
    """Bots whose sources are trained, in a chat database of the module's."""

    worker: Collaborators
    provider: Provider
    admin: Engine
    said: list[str] = field(default_factory=list)

    def add_bot(self) -> BotKey:
        """A bot that reads the old space, without passages."""
        bot = BotKey(uuid4(), uuid4())
        with self.admin.begin() as connection:
            space_id = ensure_space(connection, OLD)
            connection.execute(
                text("INSERT INTO bots (org_id, bot_id, space_id, name) VALUES (:org_id, :bot_id, :space_id, 'Shop')"),
                {**bot.values, "space_id": space_id},
            )
        return bot

    def add_source(self, bot: BotKey, texts: Sequence[str]) -> UUID:
        """A source of the bot with these passages, live."""
        source_id = uuid4()
        self.sql(
            "INSERT INTO sources (org_id, bot_id, source_id) VALUES (:org_id, :bot_id, :source_id)",
            **bot.values,
            source_id=source_id,
        )
        self.train(bot, source_id, texts)
        return source_id

    def train(self, bot: BotKey, source_id: UUID, texts: Sequence[str], state: str = "live") -> None:
        """The source's next generation, as a training in the bot's present space leaves it."""
        key = {**bot.values, "source_id": source_id}
        of = "org_id = :org_id AND bot_id = :bot_id AND source_id = :source_id"
        if state == "live":
            self.sql(f"UPDATE generations SET state = 'discarded' WHERE {of} AND state = 'kept'", **key)
            self.sql(f"UPDATE generations SET state = 'kept' WHERE {of} AND state = 'live'", **key)
        [row] = self.sql(
            f"UPDATE sources SET last_generation = last_generation + 1 WHERE {of} RETURNING last_generation", **key
        )
        [space] = self.sql(
            "SELECT space_id, model, dimensions FROM bots JOIN embedding_spaces USING (space_id)"
            " WHERE org_id = :org_id AND bot_id = :bot_id",
            **bot.values,
        )
        key |= {"generation": row["last_generation"], "space_id": space["space_id"], "document_id": uuid4()}
        self.sql(
            "INSERT INTO generations (org_id, bot_id, source_id, generation, state, space_id, job_id, source_version)"
            " VALUES (:org_id, :bot_id, :source_id, :generation, :state, :space_id, :document_id, 'v')",
            **key,
            state=state,
        )
        self.sql(
            "INSERT INTO documents (org_id, bot_id, source_id, generation, document_id, title, media_type, text_sha256)"
            " VALUES (:org_id, :bot_id, :source_id, :generation, :document_id, 'Title', 'text/html', '')",
            **key,
        )
        vectors = HashedEmbeddings().embed([as_read(one) for one in texts], space["dimensions"], space["model"])
        self.sql(
            "WITH given AS (SELECT * FROM unnest(CAST(:ids AS uuid[]), CAST(:texts AS text[]), CAST(:shas AS bytea[]),"
            " CAST(:vectors AS text[])) WITH ORDINALITY AS given (chunk_id, text, sha, vector, place)),"
            " written AS (INSERT INTO chunks (org_id, bot_id, source_id, generation, chunk_id, document_id, ordinal,"
            " heading, text, tokens, embedded_sha256) SELECT :org_id, :bot_id, :source_id, :generation, chunk_id,"
            " :document_id, place, 'Heading', text, 9, sha FROM given)"
            " INSERT INTO embeddings (org_id, bot_id, source_id, generation, chunk_id, space_id, vector)"
            " SELECT :org_id, :bot_id, :source_id, :generation, chunk_id, :space_id, CAST(vector AS halfvec) FROM given",
            **key,
            ids=[uuid4() for _ in texts],
            texts=list(texts),
            shas=[hashlib.sha256(as_read(one).encode()).digest() for one in texts],
            vectors=[str(vector.tolist()) for vector in vectors],
        )
        if state == "live":
            self.sql(f"UPDATE sources SET live_generation = :generation WHERE {of}", **key)

    def begin(self, space: EmbeddingSpace | None = NEW, *bots: BotKey) -> list[BotKey]:
        """The operator's command."""
        return reembed(self.worker.engines.chat, space, [bot.bot_id for bot in bots], self.said.append)

    def claim(self) -> Task | None:
        """The next task that is due."""
        with self.worker.engines.chat.begin() as connection:
            return next(iter(claim(connection, "worker-1", cap=8)), None)

    def claimed(self) -> Task:
        """The next task, which there is."""
        task = self.claim()
        assert task is not None
        assert task.kind == "reembed"
        assert task.priority == "bulk"
        return task

    def do(self, task: Task, check: Callable[[], None] = nothing) -> None:
        """Does a task."""
        stages = replace(self.worker.stages, chat=of_org(self.worker.stages.chat, task.org_id))
        embed_again(task, stages, Progress(), check)

    def work(self) -> int:
        """Does what is due; how many tasks."""
        done = 0
        while task := self.claim():
            self.do(task)
            done += 1
        return done

    def tend(self) -> None:
        """The sweeper's duty."""
        tend_spaces(self.worker.engines.chat)

    def spaces(self, bot: BotKey) -> tuple[EmbeddingSpace, EmbeddingSpace | None]:
        """(what the bot reads, what is built beside)."""
        [row] = self.sql(
            "SELECT now.model, now.dimensions, next.model AS next_model, next.dimensions AS next_dimensions FROM bots"
            " JOIN embedding_spaces AS now USING (space_id)"
            " LEFT JOIN embedding_spaces AS next ON next.space_id = next_space_id"
            " WHERE org_id = :org_id AND bot_id = :bot_id",
            **bot.values,
        )
        beside = EmbeddingSpace(row["next_model"], row["next_dimensions"]) if row["next_model"] else None
        return EmbeddingSpace(row["model"], row["dimensions"]), beside

    def vectors(self, bot: BotKey, space: EmbeddingSpace) -> int:
        """How many vectors the bot has in a space; each of them is its text's."""
        rows = self.sql(
            "SELECT text, CAST(vector AS text) AS vector FROM embeddings JOIN embedding_spaces USING (space_id)"
            " JOIN chunks USING (org_id, bot_id, source_id, generation, chunk_id)"
            " WHERE org_id = :org_id AND bot_id = :bot_id AND model = :model AND dimensions = :dimensions",
            **bot.values,
            model=space.model,
            dimensions=space.dimensions,
        )
        if rows:
            wanted = HashedEmbeddings().embed([as_read(row["text"]) for row in rows], space.dimensions, space.model)
            found = np.array([[float(one) for one in row["vector"].strip("[]").split(",")] for row in rows])
            assert np.allclose(found, wanted, atol=2e-3)
        return len(rows)

    def paid(self, bot: BotKey) -> int:
        """How many texts the bot's account says were embedded."""
        [used] = self.sql(
            "SELECT coalesce(sum(calls), 0) AS n FROM usage_days WHERE bot_id = :bot_id", bot_id=bot.bot_id
        )
        return int(used["n"])

    def tasks(self, bot: BotKey) -> list[dict[str, Any]]:
        """The bot's tasks."""
        query = "SELECT * FROM training_tasks WHERE org_id = :org_id AND bot_id = :bot_id ORDER BY task_id"
        return self.sql(query, **bot.values)

    def sql(self, query: str, **values: object) -> list[dict[str, Any]]:
        """Rows as mappings, in a transaction of their own."""
        with self.admin.begin() as connection:
            result = connection.execute(text(query), values)
            return [dict(row) for row in result.mappings()] if result.returns_rows else []


def as_read(passage: str) -> str:
    """A passage as the embedding model reads it."""
    return f"Title\nHeading\n\n{passage}"


def passages(count: int, name: str = "shelf") -> list[str]:
    return [f"Passage {number} of the {name} tells about article {number * 7}." for number in range(count)]


@pytest.fixture(scope="module")
def running() -> Iterator[Provider]:
    with Provider() as provider:
        yield provider


@pytest.fixture(scope="module")
def worker(
    servers: Servers, module_chat_db: str, module_dashboard_db: str, running: Provider
) -> Iterator[Collaborators]:
    settings: Settings = make_settings(servers, module_chat_db, module_dashboard_db, servers.redis_url, "no-bucket")
    changes = {
        "embedding_provider": "openai",
        "embedding_model": NEW.model,
        "embedding_dimensions": NEW.dimensions,
        "openai_base_url": running.base_url,
        "openai_api_key": SecretStr("sk-test"),
    }
    made = bootstrap(as_workers(settings.model_copy(update=changes)))
    yield made
    made.engines.chat.dispose()
    made.engines.dashboard.dispose()
    made.stages.reader.client.close()


@pytest.fixture
def shelf(worker: Collaborators, running: Provider, module_chat_db: str) -> Shelf:
    running.reset()
    shelf = Shelf(worker, running, engine_of(module_chat_db))
    for table in ("training_tasks", "embeddings", "chunks", "documents", "generations", "sources", "bots"):
        shelf.sql(f"DELETE FROM {table}")
    return shelf


def stopping_after(calls: int) -> Callable[[], None]:
    """A check by which the worker is told to stop at the given call."""
    left = iter(range(calls))

    def check() -> None:
        if next(left, None) is None:
            raise HandBackError

    return check


def test_a_bot_is_switched_when_all_its_sources_are_whole(shelf: Shelf) -> None:
    bot = shelf.add_bot()
    for name in ("first", "second", "third"):
        shelf.add_source(bot, passages(20, name))
    assert shelf.begin() == [bot]
    for done in range(3):
        assert shelf.spaces(bot) == (OLD, NEW)
        assert shelf.vectors(bot, NEW) == 20 * done
        shelf.do(shelf.claimed())
    assert shelf.spaces(bot) == (NEW, None)
    assert shelf.vectors(bot, NEW) == 60
    assert {row["space_id"] for row in shelf.sql("SELECT space_id FROM generations")} == {
        row["space_id"] for row in shelf.sql("SELECT space_id FROM bots")
    }
    shelf.tend()
    assert shelf.vectors(bot, OLD) == 0
    assert shelf.vectors(bot, NEW) == 60
    assert shelf.tasks(bot) == []
    assert shelf.provider.counts.models == {NEW.model: 60}


def test_a_task_that_is_handed_back_goes_on_where_it_was(shelf: Shelf) -> None:
    bot = shelf.add_bot()
    shelf.add_source(bot, passages(1300))
    shelf.begin()
    task = shelf.claimed()
    with pytest.raises(HandBackError):
        shelf.do(task, stopping_after(5))
    written = shelf.vectors(bot, NEW)
    assert 512 <= written < 1300
    with shelf.worker.engines.chat.begin() as connection:
        hand_back(connection, [task])
    asked_before = shelf.provider.counts.inputs
    assert shelf.work() == 1
    assert shelf.vectors(bot, NEW) == 1300
    assert shelf.provider.counts.inputs - asked_before == 1300 - written
    assert shelf.spaces(bot) == (NEW, None)


@pytest.mark.parametrize("end", ["stopped", "refused", "lost"])
def test_what_came_before_the_end_is_written_and_on_the_account(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    monkeypatch.setattr(OpenAIEmbedder, "max_inputs", 100)
    monkeypatch.setattr("workers.bootstrap.REQUESTS_IN_FLIGHT", 1)
    bot = shelf.add_bot()
    shelf.add_source(bot, passages(500))
    shelf.begin()
    task = shelf.claimed()

    def check() -> None:
        if shelf.provider.counts.inputs < 200:
            return
        if end == "stopped":
            raise HandBackError
        if end == "lost":
            shelf.sql("UPDATE training_tasks SET fence = nextval('fences')")
        elif not shelf.provider.controls.faults:
            shelf.provider.fail(404, times=10)

    with suppress(HandBackError, LeaseLostError):
        shelf.do(task, check)
    written = shelf.vectors(bot, NEW)
    if end == "lost":
        assert (written, shelf.paid(bot)) == (0, 500)
        return
    assert 100 <= written == shelf.paid(bot) < 500
    shelf.provider.reset()
    shelf.sql(
        "UPDATE training_tasks SET status = 'waiting', lease_holder = NULL, lease_expires_at = NULL, result = NULL"
    )
    assert shelf.work() == 1
    assert shelf.provider.counts.inputs == 500 - written
    assert shelf.paid(bot) == 500
    assert shelf.spaces(bot) == (NEW, None)


def test_what_two_generations_share_is_embedded_once(shelf: Shelf) -> None:
    bot = shelf.add_bot()
    source_id = shelf.add_source(bot, passages(30))
    shelf.train(bot, source_id, [*passages(30), "One more."])
    shelf.train(bot, source_id, [*passages(29), "Another one."], state="parked")
    shelf.begin()
    shelf.work()
    assert shelf.provider.counts.inputs == 32
    assert shelf.vectors(bot, NEW) == 30 + 31 + 30
    assert shelf.spaces(bot) == (NEW, None)
    [used] = shelf.sql(
        "SELECT purpose, model, calls, prompt_tokens FROM usage_days WHERE bot_id = :bot_id", **bot.values
    )
    assert used == {"purpose": "embed", "model": NEW.model, "calls": 32, "prompt_tokens": 32 * 9}


def test_bots_are_switched_one_by_one(shelf: Shelf) -> None:
    first, second = shelf.add_bot(), shelf.add_bot()
    for bot in (first, second):
        shelf.add_source(bot, passages(5))
    assert set(shelf.begin()) == {first, second}
    task = shelf.claimed()
    shelf.do(task)
    done, other = (first, second) if task.bot_id == first.bot_id else (second, first)
    assert shelf.spaces(done) == (NEW, None)
    assert shelf.spaces(other) == (OLD, NEW)
    assert shelf.vectors(other, NEW) == 0
    shelf.work()
    assert shelf.spaces(other) == (NEW, None)


def test_only_the_named_bots_are_embedded_anew(shelf: Shelf) -> None:
    first, second = shelf.add_bot(), shelf.add_bot()
    shelf.add_source(first, passages(2))
    shelf.add_source(second, passages(2))
    assert shelf.begin(NEW, second) == [second]
    assert shelf.spaces(first) == (OLD, None)


def test_a_bot_that_others_hold_is_left_out_and_told(shelf: Shelf) -> None:
    held, free = shelf.add_bot(), shelf.add_bot()
    for bot in (held, free):
        shelf.add_source(bot, passages(2))
    with shelf.admin.connect() as holder:
        holder.execute(text("SELECT FROM bots WHERE bot_id = :bot_id FOR UPDATE"), {"bot_id": held.bot_id})
        with pytest.raises(Held, match="1 bots were left out"):
            shelf.begin()
    assert (shelf.spaces(held), shelf.spaces(free)) == ((OLD, None), (OLD, NEW))
    assert [line for line in shelf.said if "since other work holds it" in line]


def test_a_bot_that_is_not_known_stops_the_command(shelf: Shelf) -> None:
    bot, nobody = shelf.add_bot(), BotKey(uuid4(), uuid4())
    shelf.add_source(bot, passages(2))
    with pytest.raises(UnknownBot, match=str(nobody.bot_id)):
        shelf.begin(NEW, bot, nobody)
    assert shelf.spaces(bot) == (OLD, None)


def test_a_bot_without_passages_is_switched_at_once(shelf: Shelf) -> None:
    bot = shelf.add_bot()
    shelf.begin()
    assert shelf.spaces(bot) == (NEW, None)


def test_a_training_in_between_is_embedded_anew_too(shelf: Shelf) -> None:
    bot = shelf.add_bot()
    source_id, other = shelf.add_source(bot, passages(10)), shelf.add_source(bot, passages(10, "other"))
    shelf.begin()
    shelf.do(shelf.claimed())
    last = shelf.claimed()
    for each in (source_id, other):
        shelf.train(bot, each, [*passages(10), "It was edited."])
    shelf.do(last)
    assert shelf.spaces(bot) == (OLD, NEW)
    assert [task["status"] for task in shelf.tasks(bot)] == ["waiting"]
    shelf.work()
    assert shelf.spaces(bot) == (NEW, None)
    assert shelf.provider.counts.inputs == 21


def test_the_sweeper_goes_on_where_a_worker_died(shelf: Shelf) -> None:
    """Its last task had ended, or was lost; the bot was not switched."""
    bot = shelf.add_bot()
    shelf.add_source(bot, passages(10))
    shelf.begin()
    shelf.sql("DELETE FROM training_tasks")
    shelf.tend()
    assert shelf.work() == 1
    assert shelf.spaces(bot) == (NEW, None)


def test_a_text_that_is_refused_holds_the_bot_and_is_named(shelf: Shelf) -> None:
    bot = shelf.add_bot()
    source_id = shelf.add_source(bot, [*passages(5), "This one is poisoned."])
    shelf.add_source(bot, passages(5, "other"))
    shelf.provider.controls.poison = "poisoned"
    shelf.begin()
    shelf.work()
    shelf.tend()
    assert shelf.spaces(bot) == (OLD, NEW)
    assert shelf.claim() is None
    assert not await_switch(shelf.worker.engines.chat, [bot], shelf.said.append)
    assert str(source_id) in shelf.said[-1]
    assert "poisoned" in shelf.said[-1]

    shelf.train(bot, source_id, [*passages(5), "This one is fine."])
    shelf.tend()
    shelf.work()
    assert shelf.spaces(bot) == (NEW, None)
    states = shelf.sql("SELECT state FROM generations WHERE source_id = :id ORDER BY generation", id=source_id)
    assert [row["state"] for row in states] == ["discarded", "live"]  # to it there is no way back
    assert await_switch(shelf.worker.engines.chat, [bot], shelf.said.append)


def test_a_source_that_ends_its_workers_holds_the_bot_until_it_is_trained_again(shelf: Shelf) -> None:
    bot = shelf.add_bot()
    source_id = shelf.add_source(bot, passages(3))
    shelf.begin()
    for _ in range(MAX_CRASHES):
        task = shelf.claimed()
        shelf.sql(
            "UPDATE training_tasks SET lease_expires_at = now() - interval '1 s' WHERE task_id = :id", id=task.task_id
        )
        with shelf.worker.engines.chat.begin() as connection:
            expire_leases(connection)
        shelf.sql("UPDATE training_tasks SET run_after = now()")
        shelf.tend()
    assert shelf.claim() is None
    assert not await_switch(shelf.worker.engines.chat, [bot], shelf.said.append)
    assert str(source_id) in shelf.said[-1]

    shelf.train(bot, source_id, passages(4))
    shelf.tend()
    shelf.work()
    assert shelf.spaces(bot) == (NEW, None)


def test_a_source_whose_tries_are_used_up_holds_the_bot_and_is_named(shelf: Shelf) -> None:
    def broken(*_: object, **__: object) -> NDArray[np.float32]:
        raise ZeroDivisionError

    bot = shelf.add_bot()
    source_id = shelf.add_source(bot, passages(3))
    shelf.begin()
    worker = replace(shelf.worker, stages=replace(shelf.worker.stages, embed=broken))
    process(worker, [replace(shelf.claimed(), attempt=MAX_ATTEMPTS)], lambda: False)
    shelf.tend()
    assert shelf.claim() is None
    assert not await_switch(shelf.worker.engines.chat, [bot], shelf.said.append)
    assert str(source_id) in shelf.said[-1]


class StillWaitingError(Exception):
    """Raised instead of sleeping."""


def still_waiting(_seconds: float) -> None:
    raise StillWaitingError


def test_nobody_who_works_is_waited_for_only_so_long(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    bot = shelf.add_bot()
    shelf.add_source(bot, passages(3))
    shelf.begin()
    with pytest.raises(StillWaitingError):
        await_switch(shelf.worker.engines.chat, [bot], shelf.said.append, still_waiting)
    monkeypatch.setattr("workers.commands.reembed.STILL_FOR_S", 0)
    assert not await_switch(shelf.worker.engines.chat, [bot], shelf.said.append, still_waiting)
    assert "Start `python -m workers`" in shelf.said[-1]

    shelf.claimed()
    monkeypatch.setattr("workers.commands.reembed.STILL_FOR_S", 0.05)
    naps = iter([0.1, 0.1])

    def nap(seconds: float) -> None:
        if (for_s := next(naps, None)) is None:
            still_waiting(seconds)
        else:
            time.sleep(for_s)

    with pytest.raises(StillWaitingError):
        await_switch(shelf.worker.engines.chat, [bot], shelf.said.append, nap)


def test_a_refused_text_is_tried_again_when_the_command_is_repeated(shelf: Shelf) -> None:
    bot = shelf.add_bot()
    shelf.add_source(bot, ["This one is poisoned."])
    shelf.provider.controls.poison = "poisoned"
    shelf.begin()
    shelf.work()
    shelf.provider.controls.poison = None
    shelf.begin()
    shelf.work()
    assert shelf.spaces(bot) == (NEW, None)


def test_a_provider_that_serves_no_such_model_holds_the_bot_and_discards_nothing(shelf: Shelf) -> None:
    bot = shelf.add_bot()
    source_id = shelf.add_source(bot, passages(3))
    shelf.train(bot, source_id, passages(3))
    shelf.begin()
    shelf.provider.fail(404, times=5)
    shelf.work()
    shelf.tend()
    assert shelf.claim() is None
    [task] = shelf.tasks(bot)
    assert task["result"]["error"]["code"] == EmbeddingMisconfigured.code
    states = shelf.sql("SELECT state FROM generations ORDER BY generation")
    assert [row["state"] for row in states] == ["kept", "live"]


def test_a_provider_that_asks_to_wait_is_waited_for(shelf: Shelf) -> None:
    bot = shelf.add_bot()
    shelf.add_source(bot, passages(3))
    shelf.begin()
    shelf.provider.fail(429, retry_after=0.1, times=2)
    shelf.work()
    assert shelf.provider.counts.refused["429"] == 2
    assert shelf.spaces(bot) == (NEW, None)


def test_the_command_and_the_sweeper_never_wait_for_each_other(shelf: Shelf) -> None:
    bot = shelf.add_bot()
    shelf.add_source(bot, passages(3))
    shelf.begin()
    failed = '{"error": {}, "state": "kept", "generation": 9}'
    shelf.sql("UPDATE training_tasks SET status = 'done', result = CAST(:failed AS jsonb)", failed=failed)

    def sweep() -> bool:
        with of_org(shelf.worker.engines.chat, bot.org_id).begin() as connection:
            return switch_if_whole(connection, bot)

    deadline = time.monotonic() + 20
    with ThreadPoolExecutor(1) as threads:
        with shelf.worker.engines.chat.begin() as connection:
            connection.execute(LOCK_TASKS, bot.values)
            swept = threads.submit(sweep)
            while not shelf.sql("SELECT 1 FROM pg_locks WHERE NOT granted") and time.monotonic() < deadline:
                pass
            [space] = shelf.sql("SELECT next_space_id FROM bots")
            assert aim(connection, bot, space["next_space_id"])
        assert not swept.result(20)
    assert [task["status"] for task in shelf.tasks(bot)] == ["waiting"]


def test_abandoning_takes_the_work_from_its_worker_and_leaves_no_vectors(shelf: Shelf) -> None:
    bot = shelf.add_bot()
    shelf.add_source(bot, passages(600))
    shelf.begin()
    task = shelf.claimed()

    calls = 0

    def check() -> None:
        nonlocal calls
        calls += 1
        if calls == 4:
            assert shelf.vectors(bot, NEW) == 512
            shelf.begin(None)

    with pytest.raises(LeaseLostError):
        shelf.do(task, check)
    assert shelf.spaces(bot) == (OLD, None)
    assert shelf.vectors(bot, NEW) == 0
    assert shelf.vectors(bot, OLD) == 600
    assert shelf.tasks(bot) == []


def test_another_wish_collects_what_was_built_for_the_first(shelf: Shelf) -> None:
    bot = shelf.add_bot()
    shelf.add_source(bot, passages(10))
    shelf.add_source(bot, passages(10, "other"))
    shelf.begin(THIRD)
    shelf.do(shelf.claimed())
    assert shelf.begin(NEW) == [bot]
    shelf.work()
    shelf.tend()
    assert shelf.spaces(bot) == (NEW, None)
    assert [shelf.vectors(bot, space) for space in (OLD, THIRD, NEW)] == [0, 0, 20]


def test_the_way_back_uses_what_was_not_collected_yet(shelf: Shelf) -> None:
    bot = shelf.add_bot()
    shelf.add_source(bot, passages(10))
    shelf.begin(NEW)
    shelf.work()
    shelf.begin(OLD)
    shelf.work()
    shelf.tend()
    assert shelf.spaces(bot) == (OLD, None)
    assert shelf.provider.counts.models == {NEW.model: 10}
    assert [shelf.vectors(bot, space) for space in (OLD, NEW)] == [10, 0]


def test_a_worker_that_lost_its_task_writes_nothing(shelf: Shelf) -> None:
    bot = shelf.add_bot()
    shelf.add_source(bot, passages(10))
    shelf.begin()
    task = shelf.claimed()

    def check() -> None:
        shelf.sql("UPDATE training_tasks SET fence = nextval('fences')")

    with pytest.raises(LeaseLostError):
        shelf.do(task, check)
    assert shelf.vectors(bot, NEW) == 0
    assert shelf.spaces(bot) == (OLD, NEW)


def test_a_generation_that_is_given_up_meanwhile_is_left(shelf: Shelf) -> None:
    bot = shelf.add_bot()
    source_id = shelf.add_source(bot, passages(5))
    shelf.add_source(bot, passages(5, "other"))
    shelf.begin()

    def check() -> None:
        shelf.sql("UPDATE sources SET deleted_at = now(), live_generation = NULL WHERE source_id = :id", id=source_id)
        shelf.sql("UPDATE generations SET state = 'discarded' WHERE source_id = :id", id=source_id)

    tasks = [shelf.claimed(), shelf.claimed()]
    for task in sorted(tasks, key=lambda task: task.source_id != source_id):
        shelf.do(task, check if task.source_id == source_id else nothing)
    assert shelf.spaces(bot) == (NEW, None)
    assert shelf.vectors(bot, NEW) == 5


@pytest.mark.parametrize(
    ("model", "dimensions", "space"),
    [
        (None, None, NEW),
        (NEW.model, None, NEW),
        (None, 48, THIRD),
        ("text-embedding-3-small", None, EmbeddingSpace("text-embedding-3-small", 1536)),
        ("all-MiniLM-L6-v2", None, EmbeddingSpace("all-MiniLM-L6-v2", 384)),
        ("bge-m3", 1024, EmbeddingSpace("bge-m3", 1024)),
    ],
)
def test_a_space_as_an_operator_names_it(
    worker: Collaborators, model: str | None, dimensions: int | None, space: EmbeddingSpace
) -> None:
    assert space_named(worker.settings, model, dimensions) == space


def test_a_model_nobody_knows_needs_its_dimensions(worker: Collaborators) -> None:
    with pytest.raises(EmbeddingMisconfigured, match="--dimensions"):
        space_named(worker.settings, "bge-m3", None)


WORDS = st.text(st.sampled_from("abc ›\n"), min_size=1, max_size=40)


@given(
    title=st.one_of(st.just(""), WORDS),
    blocks=st.lists(st.tuples(st.sampled_from(["heading", "paragraph"]), WORDS, st.integers(1, 3)), max_size=12),
    maximum=st.integers(4, 40),
)
def test_what_was_embedded_is_found_again_from_what_is_stored(
    title: str, blocks: list[tuple[Any, str, int]], maximum: int
) -> None:
    parts = tuple(Block(kind, words, level if kind == "heading" else 0) for kind, words, level in blocks)
    made = chunk(Document(title, parts, "text/plain"), count=lambda one: len(one.split()), target=20, maximum=maximum)
    for one in made:
        digest = hashlib.sha256(one.embedded_text.encode()).digest()
        assert embedded_text(title, one.heading, one.text, digest) == one.embedded_text


def test_an_unknown_checksum_gives_the_fullest_text() -> None:
    assert embedded_text("Title", "A › B", "Words.", b"") == "Title\nA › B\n\nWords."
    assert embedded_text("", "", "Words.", b"") == "Words."

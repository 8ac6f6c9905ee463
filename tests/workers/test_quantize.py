"""Large bots are searched by codes of their vectors where that finds the same, and as any other bot where it does not."""

import subprocess
import sys
from uuid import UUID, uuid4

import numpy as np
import pytest
from numpy.typing import NDArray
from sqlalchemy.ext.asyncio import create_async_engine

from chat_api.chat.retrieve import search
from chat_api.core.database import CONNECT_ARGS, AsyncEngines
from chat_api.core.embeddings import EmbeddingSpace
from chat_api.core.quantized import levels
from deploy.local.databases import API
from tests.servers import REPOSITORY, as_role
from tests.workers.chat_rows import ChatRows
from workers import quantize
from workers.quantize import Quantizer, let_go, needed, write_codes

pytestmark = pytest.mark.anyio
SPACE = EmbeddingSpace("text-embedding-3-small", 128)
LARGE, CHUNKS, K = 1_000, 600, 10
Floats = NDArray[np.float32]


def like_texts(seed: int, number: int = CHUNKS) -> Floats:
    """Unit vectors that differ in a few respects alone, as those of texts do."""
    respects = np.random.default_rng(1).standard_normal((6, SPACE.dimensions))
    return unit(np.random.default_rng(seed).standard_normal((number, 6)) @ respects)


def unit(vectors: NDArray[np.float64]) -> Floats:
    """Vectors of length 1."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / lengths, np.float32)


@pytest.fixture(autouse=True)
def _few_chunks_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantize, "LEAST", 20)
    monkeypatch.setattr(quantize, "MOST", 0.2)


class Library:
    """A bot's live sources, whose chunks are nothing but vectors."""

    def __init__(self, rows: ChatRows) -> None:
        self.rows = rows
        self.space = SPACE
        self.key = {"o": rows.org_id, "b": rows.bot_id}
        space = {"m": SPACE.model, "d": SPACE.dimensions}
        rows.sql("INSERT INTO embedding_spaces (model, dimensions) VALUES (:m, :d) ON CONFLICT DO NOTHING", **space)
        rows.sql(
            "INSERT INTO bots (org_id, bot_id, space_id, name) SELECT :o, :b, space_id, 'Shop' FROM embedding_spaces"
            " WHERE model = :m AND dimensions = :d", **self.key, **space,
        )  # fmt: skip

    def train(self, vectors: Floats, source_id: UUID | None = None) -> UUID:
        """A source's next generation, live."""
        key = {**self.key, "s": source_id or uuid4()}
        [row] = self.rows.sql(
            "INSERT INTO sources (org_id, bot_id, source_id, last_generation, live_generation) VALUES (:o, :b, :s, 1, 1)"
            " ON CONFLICT (org_id, bot_id, source_id) DO UPDATE SET last_generation = sources.last_generation + 1,"
            " live_generation = sources.last_generation + 1 RETURNING live_generation", **key,
        )  # fmt: skip
        key["g"] = row["live_generation"]
        self.rows.sql(
            "UPDATE generations SET state = 'kept' WHERE org_id = :o AND bot_id = :b AND source_id = :s", **key
        )
        self.rows.sql(
            "INSERT INTO generations (org_id, bot_id, source_id, generation, state, space_id, job_id, source_version,"
            " receipt) SELECT :o, :b, :s, :g, 'live', space_id, :s, '', jsonb_build_object('chunks',"
            " jsonb_build_object('total', CAST(:n AS int))) FROM bots WHERE bot_id = :b", **key, n=len(vectors),
        )  # fmt: skip
        self.rows.sql(
            "INSERT INTO documents (org_id, bot_id, source_id, generation, document_id, title, media_type, text_sha256)"
            " VALUES (:o, :b, :s, :g, :s, 'Title', 'text/plain', '')", **key,
        )  # fmt: skip
        self.rows.sql(
            "WITH given AS (SELECT gen_random_uuid() AS chunk_id, CAST(vector AS halfvec) AS vector"
            "     FROM unnest(CAST(:vectors AS text[])) AS vector),"
            " written AS (INSERT INTO chunks (org_id, bot_id, source_id, generation, chunk_id, document_id, ordinal,"
            "     heading, text, tokens, embedded_sha256) SELECT :o, :b, :s, :g, chunk_id, :s, 0, '', 'x', 1, '' FROM given)"
            " INSERT INTO embeddings (org_id, bot_id, source_id, generation, chunk_id, space_id, vector)"
            " SELECT :o, :b, :s, :g, chunk_id, space_id, vector FROM given, bots WHERE bot_id = :b",
            **key, vectors=[str(vector.tolist()) for vector in vectors],
        )  # fmt: skip
        return UUID(str(key["s"]))

    def tend(self) -> None:
        """What the sweeps of a minute do."""
        self.quantizer = Quantizer(self.rows.engine, large=LARGE, batch=250)
        while self.quantizer.quantize():
            pass

    def rescored(self) -> int | None:
        """How many vectors are compared."""
        found = self.rows.sql("SELECT rescored FROM quantized_bots WHERE bot_id = :b", b=self.rows.bot_id)
        return found[0]["rescored"] if found else None

    def codes(self) -> dict[tuple[UUID, int], int]:
        """How many there are, by source and generation."""
        found = self.rows.sql("SELECT source_id, generation, count(*) AS n FROM quantized_embeddings GROUP BY 1, 2")
        return {(row["source_id"], row["generation"]): row["n"] for row in found}

    def write_one_batch(self) -> None:
        """What the first transaction for the bot does."""
        [bot] = self.rows.sql("SELECT org_id, bot_id, space_id FROM bots WHERE bot_id = :b", b=self.rows.bot_id)
        with self.rows.engine.begin() as connection:
            assert write_codes(connection, {**bot, "batch": 250, "levels": levels(SPACE.dimensions)})

    def let_one_batch_go(self) -> None:
        """What the first transaction does that lets codes go."""
        [bot] = self.rows.sql("SELECT org_id, bot_id, space_id FROM bots WHERE bot_id = :b", b=self.rows.bot_id)
        with self.rows.engine.begin() as connection:
            assert let_go(connection, {**bot, "batch": 250})

    def read_another_space(self) -> None:
        """As a re-embedding ends, of whatever version: the same vectors, in a space of another name."""
        [row] = self.rows.sql(
            "INSERT INTO embedding_spaces (model, dimensions) VALUES ('another', :d) ON CONFLICT (model, dimensions)"
            " DO UPDATE SET model = 'another' RETURNING space_id", d=SPACE.dimensions,
        )  # fmt: skip
        self.rows.sql(
            "INSERT INTO embeddings (org_id, bot_id, source_id, generation, space_id, chunk_id, vector)"
            " SELECT org_id, bot_id, source_id, generation, :n, chunk_id, vector FROM embeddings WHERE bot_id = :b",
            b=self.rows.bot_id, n=row["space_id"],
        )  # fmt: skip
        self.rows.sql("UPDATE bots SET space_id = :n WHERE bot_id = :b", b=self.rows.bot_id, n=row["space_id"])
        self.space = EmbeddingSpace("another", SPACE.dimensions)

    async def recall(self, asked: Floats) -> float:
        """Of what the API finds by comparing all vectors, the share that it finds as it searches this bot."""
        dsn = as_role(self.rows.admin.url.render_as_string(hide_password=False), API)
        engine = create_async_engine(dsn.replace("postgresql://", "postgresql+psycopg://"), connect_args=CONNECT_ARGS)
        engines = AsyncEngines(engine, engine)
        shares = []
        for vector in asked:
            wanted, got = [
                {
                    one.passage.chunk_id
                    for one in await search(
                        engines, self.rows.org_id, self.rows.bot_id, self.space, vector, K, quantized=by_codes
                    )
                }
                for by_codes in (False, True)
            ]
            assert len(wanted) == K
            shares.append(len(wanted & got) / K)
        await engine.dispose()
        return float(np.mean(shares))


@pytest.fixture
def library(rows: ChatRows) -> Library:
    """A bot without sources."""
    return Library(rows)


async def test_a_large_bot_is_searched_by_codes_and_finds_what_it_found(library: Library) -> None:
    sources = [library.train(like_texts(number)) for number in range(3)]
    library.tend()
    assert library.codes() == {(source_id, 1): CHUNKS for source_id in sources}
    assert 0 < (library.rescored() or 0) < 0.2 * 3 * CHUNKS
    assert await library.recall(like_texts(9, 100)) >= 0.99
    # It is by the codes that it is searched: what has none any more is not found.
    library.rows.sql("DELETE FROM quantized_embeddings")
    assert await library.recall(like_texts(9, 3)) == 0


async def test_a_source_that_is_retrained_is_found_before_it_has_codes_again(library: Library) -> None:
    first, *_ = [library.train(like_texts(number)) for number in range(3)]
    library.tend()
    library.train(like_texts(7), first)
    assert await library.recall(like_texts(7, 20)) >= 0.99
    library.tend()
    assert {generation for source_id, generation in library.codes() if source_id == first} == {2}
    assert await library.recall(like_texts(7, 20)) >= 0.99


async def test_a_rollback_while_codes_come_and_go_is_found(library: Library) -> None:
    first, *_ = [library.train(like_texts(number)) for number in range(3)]
    library.tend()
    library.train(like_texts(7), first)
    library.write_one_batch()
    library.let_one_batch_go()
    assert library.codes()[first, 1] == CHUNKS - 250
    library.rows.sql("UPDATE sources SET live_generation = 1 WHERE source_id = :s", s=first)
    assert await library.recall(like_texts(0, 20)) >= 0.99
    library.tend()
    assert {key for key in library.codes() if key[0] == first} == {(first, 1)}
    assert library.codes()[first, 1] == CHUNKS
    assert await library.recall(like_texts(0, 20)) >= 0.99


async def test_vectors_without_likeness_are_all_compared(library: Library) -> None:
    dice = np.random.default_rng(3)
    for _ in range(2):
        library.train(unit(dice.standard_normal((CHUNKS, SPACE.dimensions))))
    library.tend()
    assert library.rescored() == 0
    assert await library.recall(unit(dice.standard_normal((20, SPACE.dimensions)))) == 1


async def test_a_bot_that_is_large_no_more_loses_its_codes(library: Library) -> None:
    sources = [library.train(like_texts(number)) for number in range(3)]
    library.tend()
    library.rows.sql("UPDATE sources SET deleted_at = now() WHERE source_id = ANY (:gone)", gone=sources[1:])
    library.tend()
    assert (library.rescored(), library.codes()) == (None, {})
    assert await library.recall(like_texts(0, 10)) == 1


async def test_small_bots_have_no_codes(library: Library) -> None:
    library.train(like_texts(1))
    library.tend()
    assert (library.rescored(), library.codes()) == (None, {})


async def test_a_bot_is_looked_at_once_a_minute(library: Library) -> None:
    library.tend()
    for number in range(3):
        library.train(like_texts(number))
    assert not library.quantizer.quantize()
    assert library.codes() == {}


async def test_a_bot_that_reads_another_space_is_searched_without_codes_until_it_has_new_ones(library: Library) -> None:
    for number in range(2):
        library.train(like_texts(number))
    library.tend()
    library.read_another_space()
    assert await library.recall(like_texts(9, 10)) == 1
    library.tend()
    assert library.rescored()
    assert set(library.codes().values()) == {CHUNKS}
    assert await library.recall(like_texts(9, 10)) >= 0.99


async def test_what_was_measured_holds_until_the_bot_grows(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = [library.train(like_texts(number)) for number in range(3)]
    library.tend()
    measured = library.rescored()
    monkeypatch.setattr(quantize, "needed", lambda *_: 77)
    library.train(like_texts(8), sources[0])
    library.tend()
    assert library.rescored() == measured
    library.train(like_texts(9))
    library.tend()
    assert library.rescored() == 77


async def test_a_part_of_a_very_large_bot_tells_how_many_are_compared_of_all(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantize, "PART", 900)
    for number in range(3):
        library.train(like_texts(number))
    library.tend()
    assert 0 < (library.rescored() or 0) < 0.2 * 3 * CHUNKS
    assert await library.recall(like_texts(9, 50)) >= 0.99


def test_a_worker_writes_codes_that_has_nothing_of_the_api(library: Library) -> None:
    for number in range(2):
        library.train(like_texts(number))
    dsn = library.rows.admin.url.render_as_string(hide_password=False)
    code = (
        "import sys; from workers.sweeper import Quantizer; from sqlalchemy import create_engine;"
        "quantizer = Quantizer(create_engine(sys.argv[1]), large=1000); quantizer.quantize();"
        "assert not [name for name in sys.modules if name.startswith('chat_api.chat')]"
    )
    subprocess.run([sys.executable, "-c", code, dsn], check=True, timeout=60, cwd=REPOSITORY)
    assert set(library.codes().values()) == {CHUNKS}


def test_as_many_are_compared_as_were_needed_and_as_many_again() -> None:
    assert needed([1] * 985 + [300] * 15, 100_000) == 600
    assert needed([1] * 995 + [300] * 5, 100_000) == 20
    assert needed([1] * 985 + [300] * 15, 2_999) == 0
    assert needed([], 100_000) == 0
    assert needed([1] * 985 + [300] * 15, 100_000, 0.5) == 1_200

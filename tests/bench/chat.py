"""Search in a bot of 10,000 chunks, by itself and by its route, and how much of the wait for an answer's first piece is ours.

The answers are those of a bot of 1,000 chunks, and once of the large one, whose search takes longer.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from functools import partial
from random import Random
from statistics import quantiles
from typing import Any
from uuid import UUID, uuid4

import httpx2
import numpy as np
import psycopg
from numpy.typing import NDArray
from openai import AsyncOpenAI
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from chat_api.chat.retrieve import search
from chat_api.core.database import AsyncEngines
from chat_api.core.embeddings import EmbeddingSpace
from deploy.local.client import DashboardClient
from tests.bench.stage import DIMENSIONS, UNLIMITED, provider, resting, running_stack
from workers.documents import Block, Chunk, Document, Reading
from workers.store.rows import Build, stage_readings
from workers.tasks.life import Task

CHUNKS, USUAL_CHUNKS, SEARCHES, TURNS, AT_ONCE = 10_000, 1_000, 200, 100, 50
EVERY_S = 10.0
"""How long a visitor of an active chat thinks on average before the next question."""
SEARCHERS, SLOW_PROVIDER_MS = 16, 100
SPACE = EmbeddingSpace("text-embedding-3-small", DIMENSIONS)
BATCH = 1_000
Talk = Callable[..., Awaitable[list[float]]]
"""Of one visitor, by a number of turns and, if it thinks between them, its dice."""
# The same rows as pgvector's documentation would have them: `vector`, cosine distance, compressed out of line.
PEER = "CREATE TABLE peer (id bigint GENERATED ALWAYS AS IDENTITY, bot_id uuid, embedding vector(1536))"
PEER_SEARCH = "SELECT id FROM peer WHERE bot_id = %s ORDER BY embedding <=> %s::vector LIMIT 6"


def measure() -> dict[str, Any]:
    """Milliseconds of a search (p50, p99) beside pgvector's defaults, and of the first piece of an answer."""
    with provider(0) as base_url, running_stack(base_url, **UNLIMITED) as (client, described), resting(described):
        bot_id = client.add_bot("Bench", {"similarity_threshold": 0})
        vectors = fill(client.org_id, bot_id, described["chat_db_dsn"])
        usual_bot_id = client.add_bot("Usual", {"similarity_threshold": 0})
        fill(client.org_id, usual_bot_id, described["chat_db_dsn"], USUAL_CHUNKS)
        ours = asyncio.run(_searches(client.org_id, bot_id, described["chat_db_dsn"], vectors))
        peer = _peer(bot_id, described["chat_db_dsn"], vectors)
        first = asyncio.run(_first_deltas(client, usual_bot_id, bot_id, base_url))
        routed = asyncio.run(_routed(client, bot_id, base_url))
    return {"chunks": CHUNKS, "dimensions": DIMENSIONS, "search_ms": ours, "peer_search_ms": peer, **first, **routed}


def fill(org_id: UUID, bot_id: UUID, dsn: str, chunks: int = CHUNKS) -> NDArray[np.float32]:
    """A source of so many chunks with random unit vectors, written as a worker writes them; the vectors."""
    dice = np.random.default_rng(7)
    vectors = dice.standard_normal((chunks, DIMENSIONS)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    task = Task(
        1, "read", None, org_id, bot_id, uuid4(), "text", 1, 1, False, 0, None, 1, 0, False, None, 0, {}, "bulk"
    )
    engine = create_engine(dsn.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        values = {"o": org_id, "b": bot_id, "s": task.source_id, "m": SPACE.model, "d": SPACE.dimensions}
        for statement in (
            "INSERT INTO embedding_spaces (model, dimensions) VALUES (:m, :d) ON CONFLICT DO NOTHING",
            "INSERT INTO sources (org_id, bot_id, source_id, live_generation) VALUES (:o, :b, :s, 1)",
            "INSERT INTO generations (org_id, bot_id, source_id, generation, state, space_id, job_id, source_version)"
            " SELECT :o, :b, :s, 1, 'live', space_id, :s, '' FROM embedding_spaces WHERE model = :m AND dimensions = :d",
        ):
            connection.execute(text(statement), values)
        space_id = connection.execute(text("SELECT space_id FROM embedding_spaces")).scalar_one()
        build = Build(task, 1, space_id, SPACE)
        for start in range(0, chunks, BATCH):
            for statement in stage_readings(connection, [(build, [_reading(start)], vectors[start : start + BATCH])]):
                connection.exec_driver_sql(statement, ([task.source_id],))
            connection.exec_driver_sql("DROP TABLE staged_pages, staged_documents, staged_chunks, staged_embeddings")
    engine.dispose()
    with psycopg.connect(dsn, autocommit=True) as connection_:
        connection_.execute("VACUUM ANALYZE")
    return vectors


def _reading(start: int) -> Reading:
    words = "The kettle boils a litre of water in three minutes and switches itself off. " * 12
    chunks = tuple(
        Chunk(n, f"{start + n}. {words}", embedded_text=f"{start + n}. {words}", tokens=220) for n in range(BATCH)
    )
    document = Document(f"Document {start}", (Block("paragraph", str(start)),), "text/plain")
    return Reading(f"source:{start}", document=document, chunks=chunks)


async def _searches(org_id: UUID, bot_id: UUID, dsn: str, vectors: NDArray[np.float32]) -> dict[str, float]:
    engine = create_async_engine(
        dsn.replace("postgresql://", "postgresql+psycopg://"), connect_args={"prepare_threshold": None}
    )
    engines, took = AsyncEngines(engine, engine), []
    for number in range(SEARCHES + 10):
        began = time.perf_counter()
        found = await search(engines, org_id, bot_id, SPACE, vectors[number * 31 % CHUNKS], 6)
        took.append(1000 * (time.perf_counter() - began))
        if len(found) != 6 or found[0].score < 0.999:
            raise RuntimeError("the search did not find the chunk that it was given")
    await engine.dispose()
    return _percentiles(took[10:])


def _peer(bot_id: UUID, dsn: str, vectors: NDArray[np.float32]) -> dict[str, float]:
    took = []
    with psycopg.connect(dsn, autocommit=True, prepare_threshold=None) as connection:
        connection.execute(PEER)
        with connection.cursor().copy("COPY peer (bot_id, embedding) FROM STDIN") as copy:
            for vector in vectors:
                copy.write_row((bot_id, str(vector.tolist())))
        connection.execute("VACUUM ANALYZE peer")
        for number in range(SEARCHES // 4 + 5):
            query = str(vectors[number * 31 % CHUNKS].tolist())
            began = time.perf_counter()
            connection.execute(PEER_SEARCH, (bot_id, query)).fetchall()
            took.append(1000 * (time.perf_counter() - began))
    return _percentiles(took[5:])


async def _first_deltas(client: DashboardClient, bot_id: UUID, large_bot_id: UUID, base_url: str) -> dict[str, Any]:
    address = client.stack["api_url"].replace("http", "ws", 1) + "/api/chat/ws"

    async def talk(turns: int, think: Random | None = None, to: UUID = bot_id) -> list[float]:
        headers = {"Authorization": f"Bearer {client.sign_token('chat', bot_id=to, subject='bench')}"}
        async with connect(
            address, subprotocols=[Subprotocol("chat.v1")], additional_headers=headers, proxy=None
        ) as socket:
            return await _paced(partial(_ask, socket), turns, think)

    async with AsyncOpenAI(api_key="sk-bench", base_url=base_url, max_retries=0) as openai:
        bare = partial(_paced, partial(_ask_provider, openai))
        provider_alone, provider_active = await _alone(bare), await _active(bare)
    ours, large, active = await _alone(talk), await _alone(partial(talk, to=large_bot_id)), await _active(talk)
    together = await asyncio.gather(*(talk(4) for _ in range(AT_ONCE)))
    return {
        "first_delta_ms": ours,
        "provider_alone_ms": provider_alone,
        "first_delta_overhead_ms": _more(ours, provider_alone),
        "first_delta_large_overhead_ms": _more(large, provider_alone),
        f"first_delta_{AT_ONCE}_active_ms": active,
        f"provider_{AT_ONCE}_active_ms": provider_active,
        f"first_delta_{AT_ONCE}_active_overhead_ms": _more(active, provider_active),
        f"first_delta_{AT_ONCE}_at_once_ms": _percentiles([took for turns in together for took in turns]),
    }


async def _paced(ask: Callable[[], Awaitable[float]], turns: int, think: Random | None = None) -> list[float]:
    """Milliseconds of each question of one visitor, who asks at once or thinks before."""
    took = []
    for _ in range(turns):
        await asyncio.sleep(think.expovariate(1 / EVERY_S) if think else 0)
        took.append(await ask())
    return took


async def _alone(talk: Talk) -> dict[str, float]:
    await talk(5)
    return _percentiles(await talk(TURNS))


async def _active(talk: Talk) -> dict[str, float]:
    """Of many visitors who think between their questions, the same moments whoever is asked."""
    visitors = await asyncio.gather(*(talk(4, Random(number)) for number in range(AT_ONCE)))
    return _percentiles([took for turns in visitors for took in turns])


async def _routed(client: DashboardClient, bot_id: UUID, base_url: str) -> dict[str, Any]:
    """Milliseconds of POST /api/search: one after the other, many at once, and both again with a slow provider."""
    headers = {"Authorization": f"Bearer {client.sign_token('training:read', subject='bench')}"}
    api, took = client.stack["api_url"], {}
    async with httpx2.AsyncClient(base_url=api, headers=headers, trust_env=False, timeout=60) as http:

        async def search_by(number: int) -> list[float]:
            return [await _search_once(http, bot_id) for _ in range(number)]

        for latency_ms in (0, SLOW_PROVIDER_MS):
            control = f"{base_url.removesuffix('/v1')}/control"
            (await http.post(control, json={"latency_ms": latency_ms})).raise_for_status()
            await search_by(5)
            alone = await search_by(SEARCHES // 4)
            together = await asyncio.gather(*(search_by(8) for _ in range(SEARCHERS)))
            took[f"route_{latency_ms}_ms"] = _percentiles(alone)
            took[f"route_{latency_ms}_at_once_ms"] = _percentiles([one for each in together for one in each])
    return took


async def _search_once(http: httpx2.AsyncClient, bot_id: UUID) -> float:
    wanted = {"bot_id": str(bot_id), "query": f"How long does kettle {uuid4().hex} take?", "k": 10}
    began = time.perf_counter()
    (await http.post("/api/search", json=wanted)).raise_for_status()
    return 1000 * (time.perf_counter() - began)


async def _ask(socket: ClientConnection) -> float:
    """Milliseconds from a conversation's first question, which nobody has asked before, to the first piece of its answer."""
    ask_id = uuid4().hex
    question = f"How long does kettle {ask_id} take?"
    began = time.perf_counter()
    await socket.send(json.dumps({"type": "ask", "id": ask_id, "text": question, "conversation_id": str(uuid4())}))
    first = 0.0
    while True:
        frame = json.loads(await socket.recv())
        if frame["type"] == "delta" and not first:
            first = 1000 * (time.perf_counter() - began)
        if frame["type"] == "error":
            raise RuntimeError(frame["message"])
        if frame["type"] == "done":
            return first


async def _ask_provider(openai: AsyncOpenAI) -> float:
    """Milliseconds of what a turn asks of the provider: one embedding, then the first piece of a streamed answer."""
    began = time.perf_counter()
    await openai.embeddings.create(
        model=SPACE.model, input=["How long does the kettle take?"], dimensions=DIMENSIONS, encoding_format="base64"
    )
    stream = await openai.chat.completions.create(
        model="gpt-4o-mini", messages=[{"role": "user", "content": "How long?"}], stream=True
    )
    try:
        async for chunk in stream:
            if chunk.choices and chunk.choices[0].delta.content:
                return 1000 * (time.perf_counter() - began)
    finally:
        await stream.close()
    raise RuntimeError("the provider has answered nothing")


def _percentiles(values: list[float]) -> dict[str, float]:
    cuts = quantiles(values, n=100, method="inclusive")
    return {"p50": cuts[49], "p99": cuts[98]}


def _more(ours: dict[str, float], theirs: dict[str, float]) -> dict[str, float]:
    return {name: ours[name] - theirs[name] for name in ours}


def rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    """The table's lines."""

    def pair(name: str) -> str:
        return f"{result[name]['p50']:.1f} / {result[name]['p99']:.1f} ms"

    ratio = result["peer_search_ms"]["p50"] / result["search_ms"]["p50"]
    return [
        (f"search in {result['chunks']:,} chunks of {result['dimensions']} dims, p50 / p99", pair("search_ms")),
        ("  the same with pgvector's defaults", f"{pair('peer_search_ms')}  ({ratio:.1f} times ours)"),
        (f"first piece of an answer from {USUAL_CHUNKS:,} chunks, p50 / p99", pair("first_delta_ms")),
        ("  the provider's calls alone", pair("provider_alone_ms")),
        ("  of it ours", pair("first_delta_overhead_ms")),
        (f"  and in the bot of {result['chunks']:,} chunks", pair("first_delta_large_overhead_ms")),
        (
            f"first piece with {AT_ONCE} active chats, each every {EVERY_S:g} s",
            pair(f"first_delta_{AT_ONCE}_active_ms"),
        ),
        ("  the provider's calls alone, asked at the same moments", pair(f"provider_{AT_ONCE}_active_ms")),
        ("  of it ours", pair(f"first_delta_{AT_ONCE}_active_overhead_ms")),
        (f"first piece with {AT_ONCE} chats at once, p50 / p99", pair(f"first_delta_{AT_ONCE}_at_once_ms")),
        ("POST /api/search, provider at 0 ms, p50 / p99", pair("route_0_ms")),
        (f"  {SEARCHERS} at once", pair("route_0_at_once_ms")),
        (f"  provider at {SLOW_PROVIDER_MS} ms", pair(f"route_{SLOW_PROVIDER_MS}_ms")),
        (f"  provider at {SLOW_PROVIDER_MS} ms, {SEARCHERS} at once", pair(f"route_{SLOW_PROVIDER_MS}_at_once_ms")),
    ]

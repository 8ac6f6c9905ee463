"""Wires the worker's real collaborators, after the fork; a test hands over its own by keyword."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from redis import Redis

from chat_api.core.database import Engines, make_engines
from chat_api.core.embeddings import Embedder, make_embedder
from chat_api.core.jobs import connect_redis
from chat_api.core.settings import Settings
from chat_api.core.storage import make_s3_client
from workers.embed import Backoff, embed_texts
from workers.extract.sandbox import Sandbox
from workers.fetch.addresses import AddressGuard
from workers.fetch.bucket import read_object
from workers.fetch.client import SafeClient
from workers.fetch.limits import FetchLimits
from workers.pipeline import Stages
from workers.reading import ChunkSizes, Extractor, Reader
from workers.runs import holder_name

EMBED_AT_MOST_S = 900
REQUESTS_IN_FLIGHT = 4
BYTES_PER_TOKEN = 4


@dataclass(frozen=True, slots=True)
class Collaborators:
    """What a worker process works with; `holder` names it in leases."""

    settings: Settings
    engines: Engines
    stages: Stages
    holder: str


def bootstrap(
    settings: Settings,
    *,
    engines: Engines | None = None,
    redis: "Redis | None" = None,
    embedder: Embedder | None = None,
    extractor: Extractor | None = None,
    client: SafeClient | None = None,
) -> Collaborators:
    """The collaborators that the settings ask for."""
    engines = engines or make_engines(settings)
    embedder = embedder or make_embedder(settings)
    backoff = Backoff(settings.embedding_server, redis or connect_redis(settings))
    reader = Reader(
        client=client or _client(settings),
        read_object=partial(read_object, make_s3_client(settings), settings.r2_bucket),
        extractor=extractor or Sandbox(memory_mb=settings.parser_memory_mb, timeout_s=settings.parser_timeout_s),
        sizes=chunk_sizes(settings, embedder),
        max_file_mb=settings.max_file_mb,
        public_base_url=settings.cloudflare_r2_base_url,
    )
    in_flight = 1 if settings.embedding_provider == "local" else REQUESTS_IN_FLIGHT
    stages = Stages(reader, embedder, _embed(embedder, backoff, in_flight), engines.chat)
    return Collaborators(settings, engines, stages, holder_name())


def chunk_sizes(settings: Settings, embedder: Embedder) -> ChunkSizes:
    """Sizes that suit the model: MiniLM reads 256 tokens; for larger ones a token is taken as four bytes."""
    if settings.embedding_provider == "local":
        return ChunkSizes(embedder.count_tokens, target=200, maximum=embedder.max_input_tokens)
    return ChunkSizes(lambda text: -(-len(text.encode()) // BYTES_PER_TOKEN), target=300, maximum=400)


def _client(settings: Settings) -> SafeClient:
    limits = FetchLimits(timeout_s=settings.fetch_timeout_s, max_bytes=settings.fetch_max_bytes)
    return SafeClient(limits, AddressGuard.parse(settings.fetch_allow))


def _embed(
    embedder: Embedder, backoff: Backoff, in_flight: int
) -> Callable[[list[str], Callable[[], None], Callable[[int], None]], NDArray[np.float32]]:
    def embed(texts: list[str], check: Callable[[], None], embedded: Callable[[int], None]) -> NDArray[np.float32]:
        return embed_texts(
            embedder,
            texts,
            backoff=backoff,
            deadline=time.monotonic() + EMBED_AT_MOST_S,
            check=check,
            in_flight=in_flight,
            on_batch=lambda batch, _: embedded(len(batch)),
        )

    return embed

"""Wires the worker's real collaborators, after the fork; a test hands over its own by keyword."""

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial

import structlog
from redis import Redis

from chat_api.core.database import Engines, make_engines
from chat_api.core.embeddings import LOCAL_SPACE, Embedder, Embedders, EmbeddingSpace
from chat_api.core.errors import EmbeddingRejected
from chat_api.core.prices import cost_microusd
from chat_api.core.redis_client import connect_redis
from chat_api.core.settings import Settings
from chat_api.core.storage import make_s3_client
from workers.embed import Backoff, Vectors, embed_texts
from workers.extract.ocr import OcrLimits, OcrReader, find_tesseract
from workers.extract.sandbox import Sandbox
from workers.fetch.addresses import AddressGuard
from workers.fetch.bucket import read_object
from workers.fetch.client import SafeClient
from workers.fetch.limits import FetchLimits
from workers.fetch.manners import Manners
from workers.fetch.render import Renderer, find_browser
from workers.reading import ChunkSizes, Extractor, Reader
from workers.stages import Embed, Stages
from workers.tasks.life import holder_name

EMBED_AT_MOST_S = 900
REQUESTS_IN_FLIGHT = 4
BYTES_PER_TOKEN = 4
log = structlog.get_logger(__name__)


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
    """The collaborators that the settings ask for; warns where these open the address guard."""
    if settings.fetch_allow:
        log.warning("address_guard_opened", fetch_allow=settings.fetch_allow)
    engines = engines or make_engines(settings)
    embedders = Embedders(settings, embedder)
    redis = redis or connect_redis(settings)
    backoff = Backoff(settings.embedding_server, redis)
    reader = Reader(
        client=client or _client(settings, redis),
        read_object=partial(read_object, make_s3_client(settings), settings.r2_bucket),
        extractor=extractor or _extractor(settings),
        sizes=chunk_sizes(settings, embedders.of(embedders.space)),
        max_file_mb=settings.max_file_mb,
        public_base_url=settings.cloudflare_r2_base_url,
        renderer=_renderer(settings),
        bucket=settings.r2_bucket,
    )
    stages = Stages(
        reader,
        _embed(embedders, backoff),
        engines.chat,
        embedders.space,
        lambda space, tokens: cost_microusd(settings.prices, space.model, tokens),
        redis,
    )
    return Collaborators(settings, engines, stages, holder_name())


def chunk_sizes(settings: Settings, embedder: Embedder) -> ChunkSizes:
    """Sizes that suit the model: MiniLM reads 256 tokens; for larger ones a token is taken as four bytes."""
    if settings.embedding_provider == "local":
        return ChunkSizes(embedder.count_tokens, target=200, maximum=embedder.max_input_tokens)
    return ChunkSizes(lambda text: -(-len(text.encode()) // BYTES_PER_TOKEN), target=300, maximum=400)


def _extractor(settings: Settings) -> Extractor:
    sandbox = Sandbox(memory_mb=settings.parser_memory_mb, timeout_s=settings.parser_timeout_s)
    if not settings.ocr_languages:
        return sandbox
    try:
        program = find_tesseract(settings.ocr_languages)
    except ValueError as problem:
        log.warning("ocr_unavailable", problem=str(problem))
        return sandbox
    limits = OcrLimits(pages=settings.ocr_max_pages, file_s=settings.ocr_timeout_s)
    return OcrReader(sandbox, program, settings.ocr_languages, limits)


def _client(settings: Settings, redis: "Redis") -> SafeClient:
    limits = FetchLimits(timeout_s=settings.fetch_timeout_s, max_bytes=settings.fetch_max_bytes)
    manners = Manners(redis, at_once=settings.fetch_at_once, pace_s=settings.fetch_pace_s)
    return SafeClient(limits, AddressGuard.parse(settings.fetch_allow), manners=manners)


def _renderer(settings: Settings) -> Renderer | None:
    browser = settings.browser_path or find_browser()
    limits = FetchLimits(timeout_s=settings.render_timeout_s, max_bytes=settings.fetch_max_bytes)
    guard = AddressGuard.parse(settings.fetch_allow)
    return Renderer(guard, limits, browser, sandbox=settings.browser_sandbox) if browser else None


def _embed(embedders: Embedders, backoff: Backoff) -> Embed:
    def embed(
        space: EmbeddingSpace,
        texts: Sequence[str],
        check: Callable[[], None],
        *,
        on_batch: Callable[[range, Vectors], None] | None = None,
        refused: Callable[[int, EmbeddingRejected], Collection[int]] | None = None,
    ) -> Vectors:
        return embed_texts(
            embedders.of(space),
            texts,
            backoff=backoff,
            deadline=time.monotonic() + EMBED_AT_MOST_S,
            check=check,
            in_flight=1 if space == LOCAL_SPACE else REQUESTS_IN_FLIGHT,
            on_batch=on_batch,
            refused=refused,
        )

    return embed

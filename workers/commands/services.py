"""The doctor's look at what training needs besides the two databases: Redis, the bucket, the embedding provider."""

import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from chat_api.core.embeddings import make_embedder
from chat_api.core.errors import EmbeddingThrottled, NotFound, ServiceError, StorageUnavailable
from chat_api.core.redis_client import connect_redis
from chat_api.core.settings import Settings
from chat_api.core.storage import make_s3_client, storage_errors
from workers.commands.doctor import Finding

LIMIT_S = 20.0
"""How long all answers are waited for; a server on one's own machine may have its model to load first."""
WORD = "doctor"


class Service(NamedTuple):
    """What is asked, and what is said when that raises."""

    name: str
    ask: Callable[[Settings], object]
    sentence: str
    mend: str


def _ask_redis(settings: Settings) -> None:
    with connect_redis(settings) as redis:
        redis.ping()


def _ask_bucket(settings: Settings) -> None:
    try:
        with storage_errors():
            make_s3_client(settings).head_bucket(Bucket=settings.r2_bucket)
    except NotFound as error:
        raise StorageUnavailable(f"There is no bucket {settings.r2_bucket}.") from error


def _ask_provider(settings: Settings) -> None:
    """One word is embedded, which costs a provider's smallest sum; one that is busy does serve."""
    with suppress(EmbeddingThrottled):
        make_embedder(settings).embed([WORD])


SERVICES = (
    Service(
        "redis_away",
        _ask_redis,
        "Redis does not serve: no worker hears of work, so nothing is trained, and no rate limit is shared.",
        "bring it back, or correct REDIS_URL; what is queued stays queued, and is rung for then",
    ),
    Service(
        "bucket_away",
        _ask_bucket,
        "The bucket can't be reached: no file is trained.",
        "bring it back, or correct R2_BUCKET, its endpoint and its key, which must be allowed to list the bucket",
    ),
    Service(
        "embedding_provider",
        _ask_provider,
        "The embedding provider gives no vectors: nothing new is trained.",
        "correct its key, credit, model or address, and then have trained what failed: process --failed",
    ),
)


def examine_services(settings: Settings, limit_s: float = LIMIT_S) -> list[Finding]:
    """Those that do not answer, or not within `limit_s` seconds, with the reason; all are asked at once."""
    until = time.monotonic() + limit_s
    asked = [(service, _ask(service, settings)) for service in SERVICES]
    findings = []
    for service, answer in asked:
        try:
            trouble = answer.get(timeout=max(0.0, until - time.monotonic()))
        except queue.Empty:
            trouble = f"no answer within {limit_s:g} s"
        if trouble:
            findings.append(Finding(service.name, service.sentence, [trouble], service.mend, fixable=False))
    return findings


def _ask(service: Service, settings: Settings) -> "queue.Queue[str | None]":
    """Where the answer will be: None, or the trouble. A thread that is not waited for any more ends with the process."""
    answer: queue.Queue[str | None] = queue.Queue()
    threading.Thread(target=lambda: answer.put(_trouble(service, settings)), name=service.name, daemon=True).start()
    return answer


def _trouble(service: Service, settings: Settings) -> str | None:
    try:
        service.ask(settings)
    except ServiceError as error:
        return error.message
    except Exception as error:  # noqa: BLE001  # whatever it raises is the answer; its words may hold an address
        return type(error).__name__
    return None

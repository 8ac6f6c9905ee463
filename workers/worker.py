"""One process of the pool: an RQ worker that trains in its own process."""

import contextlib
import logging
import os
from types import FrameType

import structlog
from redis import Redis
from redis.exceptions import RedisError
from rq import Queue, SimpleWorker
from rq.serializers import JSONSerializer

from chat_api.core.redis_client import connect_redis
from chat_api.core.settings import load_settings
from workers.extract.confine import die_with_parent
from workers.jobs import collaborators, stopping

WORKER_TTL_S = 30
"""A worker asks Redis anew at half of it, and so finds out when that has gone without a word."""
ASK_AGAIN_S = 1.0
log = structlog.get_logger(__name__)


class PoolWorker(SimpleWorker):
    """An RQ worker that trains in its own process: parsing has its own child, so a fork per bell buys nothing."""

    max_connection_wait_time = 2.0

    def request_stop(self, signum: int, frame: FrameType | None) -> None:
        """Has the tasks in hand handed back, then stops as RQ does."""
        stopping.set()
        super().request_stop(signum, frame)  # type: ignore[no-untyped-call]  # RQ leaves it unannotated

    def set_shutdown_requested_date(self) -> None:
        """Notes it in Redis, for RQ's own views; called by a signal in the middle of a run, which it must not break."""
        with contextlib.suppress(RedisError, OSError):
            super().set_shutdown_requested_date()  # type: ignore[no-untyped-call]  # RQ leaves it unannotated

    def run_maintenance_tasks(self) -> None:
        """Nothing: RQ's registries put jobs back in the queue by themselves, and the runs' rows are the truth."""


def work_for_ever(queue_name: str, parent: int) -> None:
    """One worker process: connects, then answers bells until it is told to stop; Redis away is waited for."""
    die_with_parent(parent)
    settings = load_settings()
    collaborators()
    redis = connect_redis(settings)
    _wait_for(redis)
    queue = Queue(queue_name, connection=redis, serializer=JSONSerializer)
    worker = PoolWorker([queue], connection=redis, serializer=JSONSerializer, worker_ttl=WORKER_TTL_S)
    try:
        worker.work(with_scheduler=False, logging_level="WARNING")
    except (RedisError, OSError) as error:  # RQ takes its leave of Redis, which may be away
        log.warning("redis_away", error=type(error).__name__)
    logging.shutdown()
    os._exit(0)  # a request that hangs has a thread, which the interpreter would wait for


def _wait_for(redis: "Redis") -> None:
    while not stopping.is_set():
        try:
            redis.ping()
        except (RedisError, OSError) as error:
            log.warning("redis_away", error=type(error).__name__)
            stopping.wait(ASK_AGAIN_S)
        else:
            return

"""Whether and when a task that failed is tried again."""

import random

from chat_api.core.errors import DependencyError, ServiceError
from workers.tasks.life import Task

MAX_ATTEMPTS = 5
PATIENCE_S = 24 * 3600
LONGEST_WAIT_S = 3600


def costs_attempt(error: ServiceError) -> bool:
    """Whether one of the task's attempts is spent by `error`: not by a dependency that is away or asks to wait."""
    return not isinstance(error, DependencyError)


def retry_in(task: Task, error: ServiceError) -> float | None:
    """Seconds until the task is tried again after `error`, or None when it has failed for good.

    A dependency that is away costs patience (24 hours from the first claim), another passing error one of five
    attempts. The wait grows from 5 s to 5 minutes, jittered; a server that asks for more gets up to an hour.
    """
    if not error.retryable:
        return None
    if costs_attempt(error):
        if task.attempt >= MAX_ATTEMPTS:
            return None
        wait = 5.0 * 2.0**task.attempt / 2
    elif task.age_s >= PATIENCE_S:
        return None
    else:
        wait = task.age_s / 4
    wait = min(300.0, max(5.0, wait)) * random.uniform(0.8, 1.2)  # noqa: S311  # jitter, not a secret
    return min(LONGEST_WAIT_S, max(wait, error.retry_after or 0.0))

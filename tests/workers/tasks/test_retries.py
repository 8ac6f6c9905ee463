"""Whether and when a failed task is tried again."""

import json
from dataclasses import replace
from uuid import UUID

import pytest

from chat_api.core.errors import (
    EmbeddingThrottled,
    EmbeddingUnavailable,
    FetchFailed,
    NoText,
    ServiceError,
    StorageUnavailable,
)
from workers.tasks.life import Task
from workers.tasks.retries import retry_in

ID = UUID(int=1)
TASK = Task(1, "read", ID, ID, ID, ID, "url", 1, 1, False, 0.0, None, None, 0, False, None, 0, {}, "bulk")


@pytest.mark.parametrize(
    ("error", "attempt", "age_s", "between"),
    [
        (FetchFailed(), 1, 0, (4, 6)),
        (FetchFailed(), 4, 0, (32, 48)),
        (FetchFailed(), 5, 0, None),
        (ServiceError(), 5, 0, None),
        (NoText(), 1, 0, None),
        (EmbeddingUnavailable(), 5, 0, (4, 6)),
        (StorageUnavailable(), 50, 400, (80, 120)),
        (StorageUnavailable(), 1, 80_000, (240, 360)),
        (StorageUnavailable(), 1, 90_000, None),
        (EmbeddingThrottled(retry_after=700), 1, 0, (700, 700)),
        (EmbeddingThrottled(retry_after=1e9), 1, 0, (3600, 3600)),
    ],
)
def test_a_wait_grows_with_attempts_and_age(
    error: ServiceError, attempt: int, age_s: float, between: tuple[float, float] | None
) -> None:
    wait = retry_in(replace(TASK, attempt=attempt, age_s=age_s), error)
    assert wait is None if between is None else wait is not None and between[0] <= wait <= between[1]


def test_a_task_names_itself_in_logs() -> None:
    assert json.dumps(TASK.names)
    assert "job_id" not in replace(TASK, job_id=None).names

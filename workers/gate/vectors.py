"""Vectors of test questions: each is paid for once, and kept in Redis for as long as it is asked again within a week."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import structlog
from numpy.typing import NDArray
from redis.exceptions import RedisError

from chat_api.core.words import about_tokens
from workers.stages import Stages, Vectors
from workers.store.rows import Build

KEPT_S = 7 * 86_400
log = structlog.get_logger(__name__)


@dataclass(slots=True)
class QuestionVectors:
    """By question its unit vector, shape (dimensions,); none of those that are refused. `tokens` were paid for now."""

    by_question: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    tokens: int = 0


def question_vectors(
    build: Build, questions: Sequence[str], stages: Stages, check: Callable[[], None]
) -> QuestionVectors:
    """The questions' vectors in the build's space. Raises as `Embed` does; what has come by then is kept."""
    found = QuestionVectors(_kept(build, questions, stages))
    new = [question for question in dict.fromkeys(questions) if question not in found.by_question]

    def received(batch: range, vectors: Vectors) -> None:
        come = {new[place]: vector for place, vector in zip(batch, vectors, strict=True)}
        found.by_question |= come
        found.tokens += sum(map(about_tokens, come))
        _keep(build, come, stages)

    if new:
        stages.embed(build.space, new, check, on_batch=received, refused=lambda *_: ())
    return found


def _key(build: Build, question: str) -> str:
    org_id, bot_id = build.key[:2]
    identity = f"{build.space.model}\0{build.space.dimensions}\0{question}"
    return f"question:{org_id}:{bot_id}:{hashlib.sha256(identity.encode('utf-8', 'replace')).hexdigest()}"


def _kept(build: Build, questions: Sequence[str], stages: Stages) -> dict[str, NDArray[np.float32]]:
    if stages.redis is None:
        return {}
    pipeline = stages.redis.pipeline(transaction=False)
    for question in questions:
        pipeline.getex(_key(build, question), ex=KEPT_S)
    try:
        kept = pipeline.execute()
    except RedisError as error:
        log.warning("question_vectors_not_read", error=type(error).__name__)
        return {}
    size = 2 * build.space.dimensions
    return {
        question: np.frombuffer(raw, "<f2").astype(np.float32)
        for question, raw in zip(questions, kept, strict=True)
        if raw and len(raw) == size
    }


def _keep(build: Build, vectors: dict[str, NDArray[np.float32]], stages: Stages) -> None:
    if stages.redis is None:
        return
    pipeline = stages.redis.pipeline(transaction=False)
    for question, vector in vectors.items():
        pipeline.set(_key(build, question), vector.astype("<f2").tobytes(), ex=KEPT_S)
    try:
        pipeline.execute()
    except RedisError as error:
        log.warning("question_vectors_not_kept", error=type(error).__name__)

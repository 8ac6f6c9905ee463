"""The embed stage: texts into batches (pure), batches into vectors, with waits that all replicas share."""

import random
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Self

import numpy as np
from numpy.typing import NDArray
from redis import Redis, RedisError

from chat_api.core.embeddings import Embedder
from chat_api.core.errors import (
    EmbeddingMisconfigured,
    EmbeddingRejected,
    EmbeddingThrottled,
    EmbeddingUnavailable,
)
from chat_api.core.redis_client import Away

Vectors = NDArray[np.float32]

FAILURES_ALLOWED = 4
"""Times one batch may fail by a fault that passes; refusals to hurry (429) are not counted."""
FIRST_DELAY_S, LONGEST_DELAY_S = 0.5, 60.0
SHORTEST_HOLD_S, LONGEST_HOLD_S = 0.1, 600.0
"""However long a provider asks for, one call tries again after this."""
TICK_S = 1.0
"""How often `check` is called while nothing comes back."""
SPREAD_S = 0.25
"""Replicas that waited together go on within this, not all at once."""


def plan_batches(token_counts: Sequence[int], *, max_inputs: int, max_tokens: int) -> list[range]:
    """Consecutive ranges over all texts, each within both limits; a text above `max_tokens` is alone in its range."""
    batches, start, tokens = [], 0, 0
    for index, count in enumerate(token_counts):
        if index > start and (index - start == max_inputs or tokens + count > max_tokens):
            batches.append(range(start, index))
            start, tokens = index, 0
        tokens += count
    if token_counts:
        batches.append(range(start, len(token_counts)))
    return batches


class Backoff:
    """Until when nobody calls the provider: told to every replica through Redis, kept here alone while Redis is away."""

    def __init__(self, server: str, redis: Redis | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._key = f"embed:resume_at:{server}"
        self._redis = redis
        self._clock = clock
        self._resume_at = 0.0
        self._away = Away("embedding_backoff_not_shared", clock)

    def remaining(self) -> float:
        """Seconds until the next call is allowed; 0 when it is now."""
        own = self._resume_at - self._clock()
        return max(0.0, own, self._shared())

    def hold(self, seconds: float, *, everybody: bool) -> None:
        """Allow no call for `seconds`, by this object or by every replica; a longer hold that is there stays."""
        seconds = min(seconds, LONGEST_HOLD_S)
        self._resume_at = max(self._resume_at, self._clock() + seconds)
        if everybody and seconds > self._shared():
            self._share(seconds)

    def _shared(self) -> float:
        """What is left of the other replicas' hold: by the key's expiry, since machines' clocks differ."""
        if self._redis is None or self._away:
            return 0.0
        try:
            return max(0, self._redis.pttl(self._key)) / 1000
        except RedisError as error:
            self._away.note(error)
            return 0.0

    def _share(self, seconds: float) -> None:
        if self._redis is None or self._away:
            return
        try:
            self._redis.set(self._key, f"{time.time() + seconds:.3f}", px=max(1, round(seconds * 1000)))
        except RedisError as error:
            self._away.note(error)


def embed_texts(
    embedder: Embedder,
    texts: Sequence[str],
    *,
    backoff: Backoff,
    deadline: float,
    check: Callable[[], None],
    in_flight: int = 1,
    on_batch: Callable[[range, Vectors], None] | None = None,
    refused: Callable[[int, EmbeddingRejected], Collection[int]] | None = None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Vectors:
    """Unit vectors of shape (len(texts), dimensions), in the order of `texts`.

    Up to `in_flight` requests at once (1 for a model in process). `deadline` is on `clock`. In the calling thread:
    `check` between requests and at least every second, which may raise to stop; `on_batch` with each range that is
    done and its vectors, as they come; `refused` with the index of a text that the provider refuses, which answers with
    the indexes that nobody needs any more: their rows mean nothing, and the others go on. Raises EmbeddingThrottled
    (with `retry_after`) when the provider wants us to wait beyond the deadline, EmbeddingUnavailable after repeated
    failures or at the deadline, EmbeddingRejected (where there is no `refused`) with the one text, EmbeddingMisconfigured,
    QuotaExceeded, and what `check` raises.
    """
    sizes = [embedder.count_tokens(text) for text in texts]
    batches = plan_batches(sizes, max_inputs=embedder.max_inputs, max_tokens=embedder.max_batch_tokens)
    vectors = np.empty((len(texts), embedder.space.dimensions), np.float32)
    with _Calls(embedder, texts, backoff, in_flight, refused) as calls:
        calls.waiting.extend(batches)
        while calls.waiting or calls.flying:
            check()
            pause = backoff.remaining()
            _still_time(clock(), deadline, pause)
            if not pause:
                calls.launch()
            if calls.waiting and not calls.flying:
                sleep(min(TICK_S, pause + random.uniform(0, SPREAD_S)))  # noqa: S311  # jitter, not a secret
            for batch, found in calls.land(min(TICK_S, deadline - clock())):
                vectors[batch.start : batch.stop] = found
                if on_batch:
                    on_batch(batch, found)
    return vectors


def _still_time(now: float, deadline: float, pause: float) -> None:
    if now >= deadline:
        raise EmbeddingUnavailable("The embedding provider did not answer in time. Training goes on by itself.")
    if now + pause > deadline:
        raise EmbeddingThrottled(retry_after=pause)


class _Calls:
    """The requests of one `embed_texts`: those that wait, those under way, and what becomes of their failures."""

    def __init__(
        self,
        embedder: Embedder,
        texts: Sequence[str],
        backoff: Backoff,
        in_flight: int,
        refused: Callable[[int, EmbeddingRejected], Collection[int]] | None,
    ) -> None:
        self.waiting: deque[range] = deque()
        self.flying: dict[Future[Vectors], range] = {}
        self._embedder = embedder
        self._texts = texts
        self._backoff = backoff
        self._in_flight = in_flight
        self._refused = refused
        self._dropped: set[int] = set()
        self._failures: Counter[range] = Counter()
        self._throttled = 0
        self._pool = ThreadPoolExecutor(in_flight, "embed")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # Whoever stops must not wait for a server that hangs; its thread ends with the request's own time limit.
        self._pool.shutdown(wait=False, cancel_futures=True)

    def launch(self) -> None:
        """Send waiting batches, as many as may be under way at once."""
        while self.waiting and len(self.flying) < self._in_flight:
            batch = self.waiting.popleft()
            if self._dropped.issuperset(batch):
                continue
            self.flying[self._pool.submit(self._embedder.embed, self._texts[batch.start : batch.stop])] = batch

    def land(self, timeout: float) -> Iterator[tuple[range, Vectors]]:
        """What has come back within `timeout` seconds; failed batches wait again or raise, after the good ones."""
        done, _ = wait(self.flying, timeout, FIRST_COMPLETED)
        for future in sorted(done, key=lambda future: future.exception() is not None):
            batch = self.flying.pop(future)
            try:
                yield batch, future.result()
                self._throttled = 0
            except EmbeddingThrottled as error:
                self._throttle(batch, error)
            except EmbeddingUnavailable as error:
                self._retry(batch, error)
            except EmbeddingMisconfigured:
                raise
            except EmbeddingRejected as error:
                self._halve(batch, error)

    def _throttle(self, batch: range, error: EmbeddingThrottled) -> None:
        self.waiting.appendleft(batch)
        if error.retry_after is not None:
            self._backoff.hold(max(error.retry_after, SHORTEST_HOLD_S), everybody=True)
        elif not self._backoff.remaining():  # refusals that come together are one event
            self._throttled += 1
            self._backoff.hold(_delay(self._throttled), everybody=True)

    def _retry(self, batch: range, error: EmbeddingUnavailable) -> None:
        self._failures[batch] += 1
        if self._failures[batch] > FAILURES_ALLOWED:
            raise error
        self.waiting.appendleft(batch)
        self._backoff.hold(max(_delay(self._failures[batch]), error.retry_after or 0), everybody=False)

    def _halve(self, batch: range, error: EmbeddingRejected) -> None:
        if len(batch) == 1:
            start = " ".join(self._texts[batch.start][:80].split())
            named = EmbeddingRejected(f"The text “{start}” was refused: {error.message}")
            if self._refused is None:
                raise named from error
            self._dropped |= {batch.start, *self._refused(batch.start, named)}
            return
        middle = batch.start + len(batch) // 2
        self.waiting.extendleft([range(middle, batch.stop), range(batch.start, middle)])


def _delay(failures: int) -> float:
    """Seconds before the next try: doubling, jittered."""
    longest = min(LONGEST_DELAY_S, FIRST_DELAY_S * 2.0 ** (failures - 1))
    return longest * random.uniform(0.5, 1)  # noqa: S311  # jitter, not a secret

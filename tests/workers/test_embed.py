"""The embed stage: batches, and what becomes of refusals, waits, faults, deadlines and cancels on the way."""

import socket
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from chat_api.core.embeddings import Embedder, EmbeddingSpace, OpenAIEmbedder
from chat_api.core.errors import (
    EmbeddingMisconfigured,
    EmbeddingRejected,
    EmbeddingThrottled,
    EmbeddingUnavailable,
    QuotaExceeded,
)
from tests.provider import Provider
from workers.embed import FAILURES_ALLOWED, LONGEST_HOLD_S, Backoff, Vectors, embed_texts, plan_batches

TEXTS = [f"Text number {index} about shoes" for index in range(40)]


class Cancelled(Exception):
    """The run is no longer ours."""


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


class SmallBatches(OpenAIEmbedder):
    """The real embedder with limits that a test reaches."""

    max_inputs = 8
    max_batch_tokens = 10_000


@pytest.fixture(scope="module")
def server() -> Iterator[Provider]:
    with Provider() as started:
        yield started


@pytest.fixture
def provider(server: Provider) -> Iterator[Provider]:
    server.reset()
    yield server
    # What a stopped stage left under way must not be counted in the next test.
    for thread in threading.enumerate():
        if thread.name.startswith("embed"):
            thread.join(10)


@pytest.fixture
def embedder(provider: Provider) -> SmallBatches:
    return SmallBatches(EmbeddingSpace("m", 32), api_key="k", base_url=provider.base_url, timeout_s=10)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def nothing() -> None:
    """A lease that is never lost."""


def run(
    embedder: Embedder,
    texts: Sequence[str],
    clock: Clock,
    *,
    limit_s: float = 3600,
    check: Callable[[], None] = nothing,
    in_flight: int = 1,
    on_batch: Callable[[range, Vectors], None] | None = None,
    refused: Callable[[int, EmbeddingRejected], Collection[int]] | None = None,
    backoff: Backoff | None = None,
) -> NDArray[np.float32]:
    return embed_texts(
        embedder,
        texts,
        backoff=backoff or Backoff("loopback", clock=clock),
        deadline=clock() + limit_s,
        check=check,
        in_flight=in_flight,
        on_batch=on_batch,
        refused=refused,
        clock=clock,
        sleep=clock.sleep,
    )


@given(st.lists(st.integers(0, 50)), st.integers(1, 10), st.integers(1, 60))
def test_batches_cover_all_texts_in_order_within_both_limits(sizes: list[int], inputs: int, tokens: int) -> None:
    batches = plan_batches(sizes, max_inputs=inputs, max_tokens=tokens)
    assert [index for batch in batches for index in batch] == list(range(len(sizes)))
    for batch in batches:
        assert 1 <= len(batch) <= inputs
        assert len(batch) == 1 or sum(sizes[index] for index in batch) <= tokens


@given(st.lists(st.integers(0, 50)), st.integers(1, 10), st.integers(1, 60))
def test_a_batch_ends_only_where_the_next_text_does_not_fit(sizes: list[int], inputs: int, tokens: int) -> None:
    batches = plan_batches(sizes, max_inputs=inputs, max_tokens=tokens)
    for batch in batches[:-1]:
        together = sum(sizes[index] for index in batch) + sizes[batch.stop]
        assert len(batch) == inputs or together > tokens


@pytest.mark.parametrize("in_flight", [1, 4])
def test_vectors_come_in_the_texts_order(
    embedder: SmallBatches, provider: Provider, clock: Clock, in_flight: int
) -> None:
    provider.controls.latency_ms = 100
    vectors = run(embedder, TEXTS, clock, in_flight=in_flight)
    assert provider.counts.requests["embeddings"] == 5
    assert min(2, in_flight) <= provider.counts.peak <= in_flight
    provider.reset()
    assert vectors.dtype == np.float32
    assert np.array_equal(vectors, embedder.embed(TEXTS))


def test_no_texts_are_no_requests(embedder: SmallBatches, provider: Provider, clock: Clock) -> None:
    assert run(embedder, [], clock).shape == (0, 32)
    assert provider.counts.requests.total() == 0


def test_each_batch_is_handed_over_once_in_the_callers_thread(embedder: SmallBatches, clock: Clock) -> None:
    seen: list[tuple[range, str]] = []
    found = np.zeros((len(TEXTS), 32), np.float32)

    def take(batch: range, vectors: Vectors) -> None:
        seen.append((batch, threading.current_thread().name))
        found[batch.start : batch.stop] = vectors

    vectors = run(embedder, TEXTS, clock, in_flight=3, on_batch=take)
    assert np.array_equal(found, vectors)
    assert sorted(index for batch, _ in seen for index in batch) == list(range(len(TEXTS)))
    assert {name for _, name in seen} == {threading.current_thread().name}


@pytest.mark.parametrize("bad", [0, 5, 17, 39])
@pytest.mark.parametrize("in_flight", [1, 3])
def test_halving_finds_and_names_the_one_refused_text(
    embedder: SmallBatches, provider: Provider, clock: Clock, bad: int, in_flight: int
) -> None:
    provider.controls.poison = "XYZZY"
    texts = [*TEXTS]
    texts[bad] = "A   poisoned\ntext XYZZY " + "and so on " * 20
    with pytest.raises(EmbeddingRejected) as caught:
        run(embedder, texts, clock, in_flight=in_flight)
    named = " ".join(texts[bad][:80].split())
    assert caught.value.message.startswith(f"The text “{named}” was refused: ")
    assert provider.counts.requests["embeddings"] <= 5 + 2 * 3
    assert clock.slept == []


@pytest.mark.parametrize("in_flight", [1, 3])
def test_refused_texts_are_told_and_the_others_go_on(
    embedder: SmallBatches, provider: Provider, clock: Clock, in_flight: int
) -> None:
    provider.controls.poison = "XYZZY"
    bad = {3, 4, 31}
    texts = [f"{text} XYZZY" if index in bad else text for index, text in enumerate(TEXTS)]
    told: list[int] = []

    def refused(index: int, error: EmbeddingRejected) -> Collection[int]:
        assert "XYZZY" in error.message
        told.append(index)
        return ()

    vectors = run(embedder, texts, clock, in_flight=in_flight, refused=refused)
    assert set(told) == bad
    assert len(told) == 3
    good = [index for index in range(40) if index not in bad]
    assert provider.counts.inputs == len(good)
    provider.reset()
    assert np.array_equal(vectors[good], embedder.embed([TEXTS[index] for index in good]))


def test_texts_that_nobody_needs_after_a_refusal_are_not_asked_for(
    embedder: SmallBatches, provider: Provider, clock: Clock
) -> None:
    provider.controls.poison = "XYZZY"
    texts = ["first XYZZY", *TEXTS[1:]]
    run(embedder, texts, clock, refused=lambda index, _: range(1, 40))
    # The batch that holds it is halved to the end; of what comes after nothing is sent.
    assert provider.counts.requests["embeddings"] == 4
    assert provider.counts.inputs == 0


def test_a_refused_batch_is_halved_until_it_is_taken_and_never_repeated(
    embedder: SmallBatches, provider: Provider, clock: Clock
) -> None:
    provider.controls.max_inputs = 3
    vectors = run(embedder, TEXTS, clock)
    assert np.array_equal(vectors[33], embedder.embed([TEXTS[33]])[0])
    # 8 → 4 + 4 → 2 + 2 + 2 + 2, for each of five batches; and the one comparison.
    assert provider.counts.requests["embeddings"] == 5 * (1 + 2 + 4) + 1
    assert provider.counts.refused == {"400": 5 * 3}


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (401, None, EmbeddingMisconfigured),
        (404, None, EmbeddingMisconfigured),
        (429, "insufficient_quota", QuotaExceeded),
    ],
)
def test_what_no_smaller_batch_can_cure_ends_at_once(
    embedder: SmallBatches, provider: Provider, clock: Clock, status: int, code: str | None, error: type[Exception]
) -> None:
    provider.fail(status, code=code, times=100)
    with pytest.raises(error):
        run(embedder, TEXTS, clock)
    assert provider.counts.requests["embeddings"] == 1


def test_vectors_of_a_wrong_length_end_at_once(embedder: SmallBatches, provider: Provider, clock: Clock) -> None:
    provider.controls.dimensions = 16
    with pytest.raises(EmbeddingRejected, match="16 dimensions, but 32"):
        run(embedder, TEXTS, clock)
    assert provider.counts.requests["embeddings"] == 1


def test_a_429_is_waited_out_as_long_as_it_says_however_often(
    embedder: SmallBatches, provider: Provider, clock: Clock
) -> None:
    provider.fail(429, times=3 * FAILURES_ALLOWED, retry_after=30)
    begun = clock()
    assert run(embedder, TEXTS, clock).shape == (40, 32)
    assert clock() - begun >= 3 * FAILURES_ALLOWED * 30
    assert provider.counts.inputs == 40


def test_a_429_without_a_wait_is_waited_out_longer_each_time(
    embedder: SmallBatches, provider: Provider, clock: Clock
) -> None:
    provider.fail(429, times=6)
    begun = clock()
    assert run(embedder, TEXTS, clock).shape == (40, 32)
    assert clock() - begun >= (0.5 + 1 + 2 + 4 + 8 + 16) / 2


def test_nobody_is_called_while_the_provider_wants_quiet(
    embedder: SmallBatches, provider: Provider, clock: Clock
) -> None:
    backoff = Backoff("loopback", clock=clock)
    backoff.hold(20, everybody=True)
    called_at: list[float] = []

    def check() -> None:
        if provider.counts.requests.total():
            called_at.append(clock())

    run(embedder, TEXTS, clock, check=check, backoff=backoff)
    assert called_at[0] >= 1020


def test_a_wait_beyond_the_deadline_is_handed_back_with_its_length(
    embedder: SmallBatches, provider: Provider, clock: Clock
) -> None:
    provider.fail(429, retry_after=300)
    with pytest.raises(EmbeddingThrottled) as caught:
        run(embedder, TEXTS, clock, limit_s=100)
    assert caught.value.retry_after == pytest.approx(300)
    assert clock.slept == []


def test_faults_that_pass_are_tried_again_after_growing_waits(
    embedder: SmallBatches, provider: Provider, clock: Clock
) -> None:
    provider.fail(500, times=2)
    provider.fail(503)
    provider.fail("malformed")
    assert run(embedder, TEXTS, clock).shape == (40, 32)
    assert provider.counts.inputs == 40
    assert 0.5 * 7.5 <= sum(clock.slept) <= 7.5 + 10


def test_faults_that_stay_end_as_unavailable(embedder: SmallBatches, provider: Provider, clock: Clock) -> None:
    provider.fail(500, times=100)
    with pytest.raises(EmbeddingUnavailable):
        run(embedder, TEXTS, clock)
    assert provider.counts.requests["embeddings"] == FAILURES_ALLOWED + 1


def test_a_503_that_says_when_is_waited_out(embedder: SmallBatches, provider: Provider, clock: Clock) -> None:
    provider.fail(503, retry_after=50)
    begun = clock()
    run(embedder, TEXTS, clock)
    assert clock() - begun >= 50


@pytest.fixture
def hung() -> Iterator[tuple[Provider, SmallBatches]]:
    """A provider that never answers, of a test's own, so that its end frees whoever still waits."""
    with Provider() as provider:
        provider.fail("hang", times=4)
        yield provider, SmallBatches(EmbeddingSpace("m", 32), api_key="k", base_url=provider.base_url, timeout_s=30)


def test_a_server_that_hangs_is_left_at_the_deadline(hung: tuple[Provider, SmallBatches], clock: Clock) -> None:
    provider, embedder = hung
    passing = threading.Timer(0.2, clock.sleep, [3601])
    passing.start()
    with pytest.raises(EmbeddingUnavailable, match="in time"):
        run(embedder, TEXTS, clock, in_flight=4)
    passing.join()
    assert provider.counts.running > 0


def test_a_cancel_is_seen_between_batches(embedder: SmallBatches, provider: Provider, clock: Clock) -> None:
    def check() -> None:
        if provider.counts.requests["embeddings"] == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        run(embedder, TEXTS, clock, check=check)
    assert provider.counts.requests["embeddings"] == 2


def cancelling_at(call: int) -> Callable[[], None]:
    asked = iter(range(1, call))

    def check() -> None:
        if next(asked, None) is None:
            raise Cancelled

    return check


def test_a_cancel_is_seen_while_a_request_hangs(hung: tuple[Provider, SmallBatches], clock: Clock) -> None:
    provider, embedder = hung
    with pytest.raises(Cancelled):
        run(embedder, TEXTS, clock, check=cancelling_at(2))
    assert provider.counts.running == 1


def test_a_cancel_is_seen_while_everybody_waits(embedder: SmallBatches, clock: Clock) -> None:
    backoff = Backoff("loopback", clock=clock)
    backoff.hold(500, everybody=False)
    with pytest.raises(Cancelled):
        run(embedder, TEXTS, clock, check=cancelling_at(3), backoff=backoff)
    assert sum(clock.slept) < 10


def test_a_long_hold_stays_and_none_is_longer_than_the_longest(clock: Clock) -> None:
    backoff = Backoff("loopback", clock=clock)
    assert backoff.remaining() == 0
    backoff.hold(10, everybody=False)
    backoff.hold(1, everybody=False)
    assert backoff.remaining() == 10
    backoff.hold(86_400, everybody=False)
    assert backoff.remaining() == LONGEST_HOLD_S


def test_without_redis_a_hold_is_kept_here(clock: Clock) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with closing(Redis(host="127.0.0.1", port=port, retry=Retry(NoBackoff(), 0))) as redis:
        backoff = Backoff("loopback", redis, clock=clock)
        assert backoff.remaining() == 0
        backoff.hold(10, everybody=True)
        assert backoff.remaining() == 10


@pytest.mark.stack
def test_a_hold_for_everybody_reaches_the_other_replicas_and_one_for_this_does_not(redis_url: str) -> None:
    with closing(Redis.from_url(redis_url)) as redis:
        one, other, stranger = Backoff("a", redis), Backoff("a", redis), Backoff("b", redis)
        one.hold(5, everybody=False)
        assert other.remaining() == 0
        one.hold(60, everybody=True)
        one.hold(3, everybody=True)
        assert 50 < other.remaining() <= 60
        assert stranger.remaining() == 0
        assert redis.keys() == [b"embed:resume_at:a"]

"""An object that is overwritten under its key is another version of its source: it is read again when it is asked for."""

import io
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

import httpx2
import pytest

from chat_api.core.errors import TrainingError
from tests.flows.test_queue import QUEUE, WRITE, answering, chat, queue, queue_one, take
from tests.flows.world import World, api
from workers.documents import Document, Fetched
from workers.jobs import process
from workers.reading import Extractor

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from sqlalchemy import Engine

pytestmark = pytest.mark.stack
__all__ = ["chat"]


@pytest.fixture
def shop(open_shop: World) -> World:
    return open_shop


@dataclass
class Pausing:
    """An extractor that waits before it begins: its files have been read."""

    extractor: Extractor
    begun: threading.Event = field(default_factory=threading.Event)
    gate: threading.Event = field(default_factory=threading.Event)

    def extract_many(
        self, items: Sequence[tuple[Fetched, str | None]], *, check: Callable[[], None] | None = None
    ) -> list[Document | TrainingError]:
        self.begun.set()
        assert self.gate.wait(100)
        return self.extractor.extract_many(items, check=check)


@contextmanager
def paused_after_reading(shop: World, chat: "Engine") -> Iterator[None]:
    """A worker has read the file of what is due, and does no more as long as this lasts."""
    worker = shop.worker
    pausing = Pausing(worker.stages.reader.extractor)
    paused = replace(worker, stages=replace(worker.stages, reader=replace(worker.stages.reader, extractor=pausing)))
    thread = threading.Thread(target=process, args=(paused, take(chat), lambda: False))
    thread.start()
    try:
        assert pausing.begun.wait(30)
        yield
    finally:
        pausing.gate.set()
        thread.join(30)


def add(shop: World, words: str) -> UUID:
    return shop.client.add_file(shop.bot_id, "hours.txt", io.BytesIO(words.encode()), len(words))


def overwrite(shop: World, s3: "S3Client", source_id: UUID, words: str) -> None:
    [file] = shop.dashboard(
        "SELECT object_key FROM files JOIN training_sources AS source ON source.file_id = files.id WHERE source.id = %s",
        source_id,
    )
    s3.put_object(Bucket=shop.settings.r2_bucket, Key=file["object_key"], Body=words.encode())


def queued(shop: World) -> dict[str, bool]:
    """What a call for the whole bot queues: source id → whether that is a new job."""
    return {job["source_id"]: job["created"] for job in queue(shop, {"bot_id": str(shop.bot_id)}).json()["jobs"]}


def test_a_file_that_is_overwritten_after_it_was_read_gets_one_more_job(
    shop: World, chat: "Engine", s3: "S3Client"
) -> None:
    source_id = add(shop, "The old words are here.")
    first = queue_one(shop, source_id)
    with paused_after_reading(shop, chat):
        assert queue_one(shop, source_id) == {**first, "status": "running", "created": False}
        assert queued(shop) == {str(source_id): False}
        overwrite(shop, s3, source_id, "The new words are here.")
        second, third = queue_one(shop, source_id), queue_one(shop, source_id)
        assert (second["status"], second["created"], third["created"]) == ("waiting", True, False)
        assert first["job_id"] != second["job_id"] == third["job_id"]
    assert answering(shop) == ["The old words are here."]
    shop.work()
    assert answering(shop) == ["The new words are here."]


def test_of_a_bots_trained_files_those_are_queued_that_were_overwritten(shop: World, s3: "S3Client") -> None:
    same, other, gone = (add(shop, f"These are the words of {name}.") for name in ("one", "two", "three"))
    for source_id in (same, other, gone):
        shop.train(source_id)
    assert queued(shop) == {}
    overwrite(shop, s3, other, "Two has other words.")
    shop.dashboard("UPDATE training_sources SET updated_at = now()")
    assert queued(shop) == {str(other): True}
    shop.work()
    assert "Two has other words." in answering(shop)
    assert queued(shop) == {}


def test_while_the_bucket_is_away_files_count_as_unchanged(shop: World, chat: "Engine") -> None:
    trained, running = add(shop, "Some words are here."), add(shop, "Other words are here.")
    shop.train(trained)
    first = queue_one(shop, running)
    headers: dict[str, Any] = {"Authorization": f"Bearer {shop.client.sign_token(WRITE)}"}
    with paused_after_reading(shop, chat):
        for change in ({"r2_endpoint_url": "http://127.0.0.1:1"}, {"access_key_id": None}):
            with api(shop.settings.model_copy(update=change)) as address:
                answer = httpx2.post(
                    f"{address}{QUEUE}", json={"bot_id": str(shop.bot_id)}, headers=headers, trust_env=False, timeout=20
                )
            assert answer.status_code == 202
            [job] = answer.json()["jobs"]
            assert (job["job_id"], job["created"]) == (first["job_id"], False)

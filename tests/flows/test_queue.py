"""The queue, job and delete routes: one job per wish, the same refusal for all that is not yours, and delete wins."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
from rq import Queue
from rq.serializers import JSONSerializer
from sqlalchemy import Engine

from chat_api.core.models.dashboard import DashboardBot
from chat_api.core.redis_client import connect_redis
from tests.flows.world import Row, World, api
from tests.servers import free_port
from tests.workers.chat_rows import engine_of
from tests.workers.fetch.loopback import reply
from workers.jobs import process
from workers.receipt import Receipt
from workers.store.generation import open_generation, remember_bot
from workers.store.rows import Build
from workers.store.switch import switch
from workers.sweeper import Sweeper
from workers.tasks.claims import claim
from workers.tasks.life import Task

pytestmark = pytest.mark.stack
WRITE, READ = "training:write", "training:read"
QUEUE, DELETE = "/api/training/queue", "/api/training/delete/"
TEXT = "We are open from nine to five, Monday to Friday."


@pytest.fixture
def shop(open_shop: World) -> World:
    return open_shop


@pytest.fixture
def chat(shop: World) -> Iterator[Engine]:
    engine = engine_of(shop.chat_dsn)
    yield engine
    engine.dispose()


def add(shop: World, words: str = TEXT) -> UUID:
    return shop.client.add_text_source(shop.bot_id, "Hours", words)


def queue(shop: World, body: Row, **claims: Any) -> httpx2.Response:
    return shop.call("POST", QUEUE, body, scope=WRITE, **claims)


def queue_one(shop: World, source_id: UUID, **options: Any) -> Row:
    answer = queue(shop, {"source_id": str(source_id), **options})
    assert answer.status_code == 202, answer.text
    job: Row = answer.json()["jobs"][0]
    return job


def delete(shop: World, source_id: UUID, **claims: Any) -> httpx2.Response:
    return shop.call("DELETE", f"{DELETE}{source_id}", scope=WRITE, **claims)


def take(chat: Engine) -> list[Task]:
    with chat.begin() as connection:
        tasks = claim(connection, "another-worker", cap=1000)
    assert tasks
    return tasks


def train(shop: World, tasks: list[Task]) -> None:
    process(shop.worker, tasks, lambda: False)


def edit(shop: World, source_id: UUID, words: str) -> None:
    shop.dashboard(
        "UPDATE training_sources SET content = jsonb_build_object('text', %s::text) WHERE id = %s", words, source_id
    )


def answering(shop: World) -> list[str]:
    rows = shop.chat(
        "SELECT text FROM chunks JOIN sources USING (org_id, bot_id, source_id)"
        " WHERE generation = live_generation AND deleted_at IS NULL"
    )
    return [row["text"] for row in rows]


def sweep(shop: World) -> None:
    redis = connect_redis(shop.settings, limit_s=2)
    assert Sweeper(shop.worker.engines, redis, shop.settings, f"test-{uuid4()}").sweep()


# --- one job per wish ------------------------------------------------------------------------------------------------


def test_a_source_has_one_job_while_it_waits_and_runs_and_a_new_one_afterwards(shop: World, chat: Engine) -> None:
    source_id = add(shop)
    first = queue_one(shop, source_id)
    assert (first["status"], first["created"]) == ("waiting", True)
    assert queue_one(shop, source_id) == {**first, "created": False}
    run = take(chat)
    assert queue_one(shop, source_id) == {**first, "created": False, "status": "running"}
    train(shop, run)
    later = queue_one(shop, source_id)
    assert later["created"]
    assert later["job_id"] != first["job_id"]


def test_a_list_answers_in_its_order_and_names_what_it_can_not_train(shop: World) -> None:
    one, two, unknown = add(shop), add(shop), uuid4()
    asked = [two, unknown, one, two]
    answer = queue(shop, {"source_ids": [str(source_id) for source_id in asked]}).json()
    assert [job["source_id"] for job in answer["jobs"]] == [str(two), str(one)]
    assert answer["rejected"] == [{"source_id": str(unknown), "code": "unknown_source"}]
    assert answer["next_cursor"] is None


def test_an_edit_during_training_gets_one_more_job(shop: World, chat: Engine) -> None:
    source_id, other = add_page(shop, "The old words are here."), add_page(shop, "The new words are here.")
    first = queue_one(shop, source_id)
    with paused_after_reading(shop, take(chat)):
        shop.dashboard(
            "UPDATE training_sources SET url = (SELECT url FROM training_sources WHERE id = %s) WHERE id = %s",
            *(other, source_id),
        )
        second, third = queue_one(shop, source_id), queue_one(shop, source_id)
        assert (second["created"], third["created"]) == (True, False)
        assert first["job_id"] != second["job_id"] == third["job_id"]
    assert answering(shop) == ["The old words are here."]
    sweep(shop)
    assert (shop.source_row(source_id)["status"], str(shop.source_row(source_id)["job_id"])) == (
        "queued", second["job_id"],
    )  # fmt: skip
    shop.work()
    assert answering(shop) == ["The new words are here."]
    row = shop.source_row(source_id)
    assert (row["status"], str(row["job_id"])) == ("trained", second["job_id"])


def add_page(shop: World, words: str) -> UUID:
    path = f"/{uuid4()}.txt"
    shop.site.pages[path] = reply(words.encode(), Content_Type="text/plain")
    return shop.client.add_url_source(shop.bot_id, shop.site.url(path))


@contextmanager
def paused_after_reading(shop: World, tasks: list[Task]) -> Iterator[None]:
    """Does the task, whose source is a page, in a thread that waits for the website as long as this lasts."""
    gate = threading.Event()

    def wait(stream: socket.socket, _over: threading.Event) -> None:
        gate.wait(10)
        stream.sendall(reply(b"", "404 Not Found"))

    shop.site.pages["/robots.txt"] = wait
    thread = threading.Thread(target=train, args=(shop, tasks))
    thread.start()
    deadline = time.monotonic() + 10
    while not shop.chat(
        "SELECT 1 FROM training_jobs WHERE job_id = %s AND source_version IS NOT NULL", tasks[0].job_id
    ):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    try:
        yield
    finally:
        gate.set()
        thread.join(20)


def test_an_edit_of_a_source_that_only_waits_needs_no_second_job(shop: World) -> None:
    source_id = add(shop)
    first = queue_one(shop, source_id)
    edit(shop, source_id, "Something else.")
    assert queue_one(shop, source_id)["job_id"] == first["job_id"]
    shop.work()
    assert answering(shop) == ["Something else."]


def test_an_explicit_call_lifts_a_waiting_job_to_its_own_urgency(shop: World) -> None:
    source_id = add(shop)
    queue_one(shop, source_id, priority="bulk")
    queue_one(shop, source_id, priority="interactive", force=True)
    queue_one(shop, source_id, priority="bulk")
    assert shop.chat("SELECT priority, force FROM training_jobs") == [{"priority": "interactive", "force": True}]


def test_many_calls_at_once_make_one_job_for_each_source(shop: World) -> None:
    ids = [str(add(shop)) for _ in range(12)]

    def call(number: int) -> httpx2.Response:
        turned = ids[number % 12 :] + ids[: number % 12]
        return queue(shop, {"source_ids": turned if number % 2 else turned[::-1]})

    with ThreadPoolExecutor(12) as threads:
        answers = list(threads.map(call, range(24)))
    assert {answer.status_code for answer in answers} == {202}
    jobs = [job for answer in answers for job in answer.json()["jobs"]]
    assert len({job["job_id"] for job in jobs}) == sum(job["created"] for job in jobs) == 12


def test_calls_at_the_moment_of_the_claim_get_the_job_that_is_there(shop: World, chat: Engine) -> None:
    ids, over = [add(shop) for _ in range(8)], threading.Event()

    def claim_all() -> None:
        while not over.is_set():
            with chat.begin() as connection:
                claim(connection, "another-worker", cap=1000)

    with ThreadPoolExecutor(10) as threads:
        claiming = [threads.submit(claim_all) for _ in range(2)]
        answers = list(threads.map(lambda number: queue_one(shop, ids[number // 5]), range(40)))
        over.set()
        for claimer in claiming:
            claimer.result(10)
    assert sum(answer["created"] for answer in answers) == len({answer["job_id"] for answer in answers}) == 8
    assert len(shop.chat("SELECT 1 FROM training_jobs")) == 8


def test_the_callers_request_id_is_the_runs(shop: World) -> None:
    source_id = add(shop)
    token = shop.client.sign_token(WRITE)
    headers = {"Authorization": f"Bearer {token}", "X-Request-ID": "from-the-edge-0001"}
    shop.http.post(QUEUE, json={"source_id": str(source_id)}, headers=headers)
    assert shop.chat("SELECT request_id FROM training_jobs") == [{"request_id": "from-the-edge-0001"}]


def test_a_run_of_the_bot_that_a_source_has_left_serves_nobody(shop: World, chat: Engine) -> None:
    source_id, other_bot = add(shop), shop.client.add_bot("Other", {})
    old = queue_one(shop, source_id)
    take(chat)
    assert queue_one(shop, source_id)["job_id"] == old["job_id"]
    shop.dashboard("UPDATE training_sources SET bot_id = %s WHERE id = %s", other_bot, source_id)
    moved = queue_one(shop, source_id)
    assert (moved["created"], moved["status"]) == (True, "waiting")
    assert shop.chat("SELECT bot_id FROM training_jobs WHERE job_id = %s", moved["job_id"]) == [{"bot_id": other_bot}]


# --- what is not yours -----------------------------------------------------------------------------------------------


def _of_another_org(shop: World) -> UUID:
    org_id, bot_id, source_id = uuid4(), uuid4(), uuid4()
    shop.dashboard("INSERT INTO orgs (id, name) VALUES (%s, 'Other')", org_id)
    shop.dashboard("INSERT INTO bots (id, org_id, name) VALUES (%s, %s, 'Other')", bot_id, org_id)
    shop.dashboard(
        "INSERT INTO training_sources (id, org_id, bot_id, type) VALUES (%s, %s, %s, 'text')", source_id, org_id, bot_id
    )
    return source_id


def _deleted(shop: World) -> UUID:
    source_id = add(shop)
    shop.dashboard("UPDATE training_sources SET deleted_at = now() WHERE id = %s", source_id)
    return source_id


def _of_a_deleted_bot(shop: World) -> UUID:
    bot_id = shop.client.add_bot("Gone", {})
    source_id = shop.client.add_text_source(bot_id, "Hours", TEXT)
    shop.dashboard("UPDATE bots SET deleted_at = now() WHERE id = %s", bot_id)
    return source_id


def _on_another_orgs_bot(shop: World) -> UUID:
    source_id, theirs = add(shop), _of_another_org(shop)
    shop.dashboard(
        "UPDATE training_sources SET bot_id = (SELECT bot_id FROM training_sources WHERE id = %s) WHERE id = %s",
        *(theirs, source_id),
    )
    return source_id


UNKNOWN: dict[str, Callable[[World], UUID]] = {
    "an id that is nobody's": lambda _: uuid4(),
    "another org's": _of_another_org,
    "deleted": _deleted,
    "a deleted bot's": _of_a_deleted_bot,
    "on another org's bot": _on_another_orgs_bot,
}


@pytest.mark.parametrize("whose", UNKNOWN)
def test_a_source_that_can_not_be_trained_is_unknown(shop: World, whose: str) -> None:
    source_id = UNKNOWN[whose](shop)
    refused, nobodys = queue(shop, {"source_id": str(source_id)}), queue(shop, {"source_id": str(uuid4())})
    assert (refused.status_code, refused.content) == (404, nobodys.content)
    assert refused.json()["code"] == "unknown_source"
    assert queue(shop, {"source_ids": [str(source_id)]}).json() == {
        "jobs": [], "rejected": [{"source_id": str(source_id), "code": "unknown_source"}], "next_cursor": None,
    }  # fmt: skip
    assert shop.chat("SELECT 1 FROM training_jobs") == []


def test_a_token_of_one_bot_trains_and_deletes_no_others_sources(shop: World) -> None:
    source_id, other_bot = add(shop), shop.client.add_bot("Other", {})
    refused = queue(shop, {"source_id": str(source_id)}, bot_id=other_bot)
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden_bot")
    listed = queue(shop, {"source_ids": [str(source_id)]}, bot_id=other_bot).json()
    assert listed["rejected"] == [{"source_id": str(source_id), "code": "forbidden_bot"}]
    assert queue(shop, {"bot_id": str(shop.bot_id)}, bot_id=other_bot).status_code == 403
    assert delete(shop, source_id, bot_id=other_bot).status_code == 403
    job = queue_one(shop, source_id)
    assert shop.call("GET", f"/api/training/jobs/{job['job_id']}", scope=READ, bot_id=other_bot).status_code == 403
    assert delete(shop, source_id, bot_id=other_bot).status_code == 403
    assert delete(shop, source_id, bot_id=shop.bot_id).status_code == 200


def test_another_orgs_bot_job_and_source_are_unknown(shop: World, chat: Engine) -> None:
    theirs = _of_another_org(shop)
    [row] = shop.dashboard("SELECT org_id, bot_id FROM training_sources WHERE id = %s", theirs)
    with chat.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO training_jobs (job_id, org_id, bot_id, source_id) VALUES (%(job)s, %(org_id)s, %(bot_id)s, %(job)s)",
            {**row, "job": theirs},
        )
    for id_ in (theirs, uuid4()):
        job = shop.call("GET", f"/api/training/jobs/{id_}", scope=READ)
        assert (job.status_code, job.json()["code"]) == (404, "unknown_job")
    for bot_id in (row["bot_id"], uuid4()):
        assert queue(shop, {"bot_id": str(bot_id)}).json()["code"] == "unknown_bot"
        assert queue(shop, {"bot_id": str(bot_id)}, bot_id=shop.bot_id).status_code == 404
    assert delete(shop, theirs).content == delete(shop, uuid4()).content
    assert delete(shop, theirs).status_code == 404


WRONG: list[Row] = [
    {},
    {"source_id": str(UUID(int=1)), "bot_id": str(UUID(int=1))},
    {"source_ids": []},
    {"source_ids": [str(UUID(int=number)) for number in range(501)]},
    {"source_id": "not-an-id"},
    {"source_id": str(UUID(int=1)), "org_id": str(UUID(int=2))},
    {"source_id": str(UUID(int=1)), "priority": "urgent"},
]


@pytest.mark.parametrize("body", WRONG, ids=range(len(WRONG)))
def test_a_call_that_says_no_one_thing_is_refused(shop: World, body: Row) -> None:
    answer = queue(shop, body)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert answer.headers["content-type"] == "application/problem+json"


def test_reading_is_not_writing(shop: World) -> None:
    source_id = add(shop)
    body = {"source_id": str(source_id)}
    assert shop.call("POST", QUEUE, body, scope=READ).json()["code"] == "missing_scope"
    assert shop.call("DELETE", f"{DELETE}{source_id}", scope=READ).status_code == 403
    job = queue_one(shop, source_id)
    assert shop.call("GET", f"/api/training/jobs/{job['job_id']}", scope=WRITE).status_code == 403


# --- quota -----------------------------------------------------------------------------------------------------------


def test_sources_beyond_the_orgs_quota_are_refused_and_the_older_ones_trained(shop: World) -> None:
    ids = [add(shop) for _ in range(3)]
    for n, source_id in enumerate(ids):
        shop.dashboard(
            "UPDATE training_sources SET created_at = now() - make_interval(days => %s) WHERE id = %s", 9 - n, source_id
        )
    gone = add(shop)
    shop.dashboard(
        "UPDATE training_sources SET created_at = now() - interval '99 days', deleted_at = now() WHERE id = %s", gone
    )
    _limit(shop, 2)
    try:
        refused = queue(shop, {"source_id": str(ids[2])})
        assert (refused.status_code, refused.json()["code"]) == (422, "quota_exceeded")
        listed = queue(shop, {"source_ids": [str(source_id) for source_id in ids]}).json()
        assert [job["source_id"] for job in listed["jobs"]] == [str(source_id) for source_id in ids[:2]]
        assert listed["rejected"] == [{"source_id": str(ids[2]), "code": "quota_exceeded"}]
        whole = queue(shop, {"bot_id": str(shop.bot_id)}).json()
        assert {job["source_id"] for job in whole["jobs"]} == {str(source_id) for source_id in ids[:2]}
        assert whole["rejected"] == listed["rejected"]
        for nothing in ("many", -1, True, None):
            _limit(shop, nothing)
            assert queue(shop, {"source_id": str(ids[2])}).status_code == 202
    finally:
        _limit(shop, None)


def _limit(shop: World, most: object) -> None:
    shop.dashboard(
        "UPDATE orgs SET limits = %s::jsonb WHERE id = %s", json.dumps({"max_sources": most}), shop.client.org_id
    )


def test_a_wish_ends_a_roll_back_and_says_what_is_to_be_read(shop: World) -> None:
    source_id, page = add(shop), add_page(shop, TEXT)
    queue_one(shop, source_id)
    shop.chat("UPDATE sources SET pinned_version = 'v'")
    for wished in (source_id, page):
        queue_one(shop, wished)
    assert shop.chat("SELECT 1 FROM sources WHERE pinned_version IS NOT NULL") == []
    tasks = shop.chat(
        "SELECT kind, small, source_type FROM training_tasks JOIN training_jobs USING (job_id) ORDER BY 3"
    )
    assert tasks == [{"kind": "read", "small": True, "source_type": type_} for type_ in ("text", "url")]


# --- a bot's sources -------------------------------------------------------------------------------------------------


def add_many(shop: World, count: int) -> None:
    shop.dashboard(
        "INSERT INTO training_sources (id, org_id, bot_id, type, content) SELECT gen_random_uuid(), %s, %s, 'text',"
        ' \'{"text": "words"}\' FROM generate_series(1, %s)',
        *(shop.client.org_id, shop.bot_id, count),
    )


def test_a_bots_sources_are_all_queued_and_listed_page_by_page(shop: World) -> None:
    add_many(shop, 620)
    body = {"bot_id": str(shop.bot_id), "priority": "bulk"}
    first = queue(shop, body).json()
    assert (len(first["jobs"]), {job["created"] for job in first["jobs"]}) == (500, {True})
    assert shop.chat("SELECT count(*) AS n FROM training_jobs WHERE status = 'waiting'") == [{"n": 620}]
    second = queue(shop, {**body, "cursor": first["next_cursor"]}).json()
    assert (len(second["jobs"]), {job["created"] for job in second["jobs"]}) == (120, {False})
    assert second["next_cursor"] is None
    assert len({job["source_id"] for job in first["jobs"] + second["jobs"]}) == 620
    with connect_redis(shop.settings, limit_s=2) as redis:
        assert 0 < Queue(shop.settings.queue_name, connection=redis, serializer=JSONSerializer).count <= 500


def test_of_a_bots_sources_those_are_queued_that_need_it(shop: World) -> None:
    same, edited, failed = add(shop), add(shop), add_page(shop, TEXT)
    for _ in range(2):
        for source_id in (same, edited, failed):
            queue_one(shop, source_id)
        shop.work()
        shop.site.pages.clear()
    edit(shop, edited, "Something else.")
    new = add(shop)
    answer = queue(shop, {"bot_id": str(shop.bot_id)}).json()
    assert {job["source_id"] for job in answer["jobs"]} == {str(edited), str(failed), str(new)}
    answer = queue(shop, {"bot_id": str(shop.bot_id), "force": True}).json()
    assert {job["source_id"]: job["created"] for job in answer["jobs"]} == {
        str(same): True, str(edited): False, str(failed): False, str(new): False,
    }  # fmt: skip
    again = queue(shop, {"bot_id": str(shop.bot_id)}).json()
    assert {job["created"] for job in again["jobs"]} == {False}
    assert len(again["jobs"]) == 4


def test_a_page_whose_cursor_is_gone_goes_on_all_the_same(shop: World) -> None:
    ids = sorted(add(shop) for _ in range(4))
    body = {"bot_id": str(shop.bot_id)}
    queue(shop, body)
    shop.dashboard("DELETE FROM training_sources WHERE id = %s", ids[1])
    listed = queue(shop, {**body, "cursor": str(ids[1])}).json()["jobs"]
    assert [job["source_id"] for job in listed] == [str(ids[2]), str(ids[3])]


def test_a_further_page_looks_at_its_own_sources_alone(shop: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chat_api.routes.training.MAX_SOURCES", 2)
    monkeypatch.setattr("chat_api.routes.training.ROWS_LOOKED_AT", 1)
    ids = sorted(add(shop) for _ in range(6))
    body = {"bot_id": str(shop.bot_id)}
    first = queue(shop, body).json()
    assert (first["next_cursor"], len(first["jobs"])) == (str(ids[1]), 2)
    shop.chat("DELETE FROM training_jobs WHERE source_id = %s RETURNING 1", ids[5])
    second = queue(shop, {**body, "cursor": first["next_cursor"]}).json()
    assert [job["source_id"] for job in second["jobs"]] == [str(ids[2]), str(ids[3])]
    assert not shop.chat("SELECT 1 FROM training_jobs WHERE source_id = %s", ids[5])
    last = queue(shop, {**body, "cursor": second["next_cursor"]}).json()
    assert [(job["source_id"], job["created"]) for job in last["jobs"]] == [(str(ids[4]), False), (str(ids[5]), True)]
    assert last["next_cursor"] is None


# --- what we stand on is away ----------------------------------------------------------------------------------------


def _closed() -> str:
    return f"redis://127.0.0.1:{free_port()}/0"


def test_a_call_while_redis_is_away_is_heard_when_it_is_back(shop: World) -> None:
    source_id = add(shop)
    away = shop.settings.model_copy(update={"redis_url": type(shop.settings.redis_url)(_closed())})
    headers = {"Authorization": f"Bearer {shop.client.sign_token(WRITE)}"}
    with api(away) as address:
        answer = httpx2.post(f"{address}{QUEUE}", json={"source_id": str(source_id)}, headers=headers, trust_env=False)
    assert (answer.status_code, answer.json()["jobs"][0]["created"]) == (202, True)
    with connect_redis(shop.settings, limit_s=2) as redis:
        bells = Queue(shop.settings.queue_name, connection=redis, serializer=JSONSerializer)
        assert bells.count == 0
        sweep(shop)
        assert bells.count == 1


@pytest.mark.parametrize("database", ["dashboard_db_port", "python_chat_db_port"])
def test_a_database_that_is_away_is_said_so(shop: World, database: str) -> None:
    source_id = add(shop)
    headers = {"Authorization": f"Bearer {shop.client.sign_token(WRITE)}"}
    away = shop.settings.model_copy(update={database: free_port()})
    with api(away) as address, httpx2.Client(base_url=address, headers=headers, trust_env=False) as http:
        for body in ({"source_id": str(source_id)}, {"bot_id": str(shop.bot_id)}):
            answer = http.post(QUEUE, json=body)
            assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
            assert int(answer.headers["retry-after"]) > 0
        assert http.delete(f"{DELETE}{source_id}").status_code == 503
    assert shop.chat("SELECT 1 FROM training_jobs") == []


# --- delete ----------------------------------------------------------------------------------------------------------


def test_a_deleted_source_answers_no_more_and_its_row_is_pending(shop: World) -> None:
    source_id = add(shop)
    shop.train(source_id)
    assert answering(shop) == [TEXT]
    assert delete(shop, source_id).json() == {
        "source_id": str(source_id), "status": "deleted", "documents": 1, "chunks": 1,
    }  # fmt: skip
    assert answering(shop) == []
    assert shop.source_row(source_id)["status"] == "pending"
    again = delete(shop, source_id)
    assert (again.status_code, again.json()["documents"], again.json()["chunks"]) == (200, 0, 0)
    shop.dashboard("UPDATE training_sources SET created_at = now() - interval '1 hour', updated_at = created_at")
    sweep(shop)
    assert shop.chat("SELECT 1 FROM chunks") == []
    assert shop.client.job(shop.chat("SELECT job_id FROM training_jobs")[0]["job_id"])["status"] == "succeeded"


def test_a_source_that_one_side_alone_knows_can_be_deleted(shop: World) -> None:
    there, here = add(shop), add(shop)
    shop.train(here)
    shop.dashboard("DELETE FROM training_sources WHERE id = %s", here)
    assert delete(shop, there).json()["chunks"] == 0
    assert delete(shop, here).json()["chunks"] == 1
    assert delete(shop, there).status_code == delete(shop, here).status_code == 200


def test_only_an_explicit_call_trains_a_deleted_source_again(shop: World) -> None:
    source_id = add(shop)
    shop.train(source_id)
    delete(shop, source_id)
    assert queue_one(shop, source_id)["created"]
    shop.work()
    assert answering(shop) == [TEXT]
    assert shop.source_row(source_id)["status"] == "trained"


def test_a_waiting_job_is_cancelled_by_the_delete(shop: World) -> None:
    source_id = add(shop)
    job = queue_one(shop, source_id)
    delete(shop, source_id)
    assert shop.client.job(job["job_id"])["status"] == "cancelled"
    assert shop.work() == 0
    sweep(shop)
    assert shop.source_row(source_id)["status"] == "pending"


def test_delete_wins_over_a_training_in_flight(shop: World, chat: Engine) -> None:
    source_id = add_page(shop, TEXT)
    job = queue_one(shop, source_id)
    with paused_after_reading(shop, take(chat)):
        assert delete(shop, source_id).status_code == 200
    assert shop.client.job(job["job_id"])["status"] == "cancelled"
    sweep(shop)
    assert answering(shop) == []
    assert shop.chat("SELECT 1 FROM chunks") == []
    assert shop.source_row(source_id)["status"] == "pending"


def test_a_call_right_after_the_delete_is_not_answered_with_the_dying_job(shop: World, chat: Engine) -> None:
    source_id = add_page(shop, TEXT)
    dying = queue_one(shop, source_id)
    with paused_after_reading(shop, take(chat)):
        delete(shop, source_id)
        job = queue_one(shop, source_id)
        assert job["created"]
        assert job["job_id"] != dying["job_id"]
    shop.work()
    assert [shop.client.job(id_["job_id"])["status"] for id_ in (dying, job)] == ["cancelled", "succeeded"]
    assert answering(shop) == [TEXT]
    assert shop.source_row(source_id)["status"] == "trained"


def test_a_delete_at_the_moment_of_the_switch_waits_for_it_and_wins(shop: World, chat: Engine) -> None:
    source_id = add(shop)
    shop.train(source_id)
    queue_one(shop, source_id)
    build = _built(shop, chat, take(chat)[0])
    with ThreadPoolExecutor(1) as threads, chat.connect() as connection:
        assert switch(connection, [(build, Receipt())])
        deleting = threads.submit(delete, shop, source_id)
        time.sleep(0.2)
        connection.commit()
        assert deleting.result(10).status_code == 200
    assert answering(shop) == []
    assert shop.chat("SELECT 1 FROM generations WHERE state <> 'discarded'") == []


def _built(shop: World, chat: Engine, task: Task) -> Build:
    with chat.begin() as connection:
        remember_bot(connection, DashboardBot(id=task.bot_id, org_id=task.org_id, name="Bot", config={}))
        return open_generation(connection, task, shop.worker.stages.space, "version")


def test_many_deletes_at_once_all_succeed(shop: World) -> None:
    source_id = add(shop)
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: delete(shop, source_id), range(8)))
    assert {answer.status_code for answer in answers} == {200}


def test_deletes_calls_and_trainings_at_once_never_fail_and_leave_what_was_wished_last(shop: World) -> None:
    ids = [add(shop) for _ in range(4)]
    over = threading.Event()

    def keep_training() -> None:
        while not over.is_set():
            shop.work()

    def disturb(number: int) -> int:
        source_id = ids[number % 4]
        return (
            delete(shop, source_id).status_code
            if number % 3
            else queue(shop, {"source_id": str(source_id)}).status_code
        )

    with ThreadPoolExecutor(8) as threads:
        training = [threads.submit(keep_training) for _ in range(2)]
        codes = set(threads.map(disturb, range(60)))
        last = {delete(shop, ids[0]).status_code, queue(shop, {"source_id": str(ids[1])}).status_code}
        deadline = time.monotonic() + 20
        while shop.chat("SELECT 1 FROM training_jobs WHERE status IN ('waiting', 'running')"):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        over.set()
        for worker in training:
            worker.result(20)
    assert (codes, last) == ({200, 202}, {200, 202})
    live = shop.chat("SELECT source_id FROM sources WHERE live_generation IS NOT NULL AND deleted_at IS NULL")
    assert ids[0] not in {row["source_id"] for row in live}
    assert ids[1] in {row["source_id"] for row in live}
    sweep(shop)
    assert [shop.source_row(ids[number])["status"] for number in (0, 1)] == ["pending", "trained"]


def test_a_delete_while_the_dashboard_is_away_is_told_later(shop: World) -> None:
    source_id = add(shop)
    shop.train(source_id)
    away = shop.settings.model_copy(update={"dashboard_db_port": free_port()})
    headers = {"Authorization": f"Bearer {shop.client.sign_token(WRITE)}"}
    with api(away) as address:
        answer = httpx2.delete(f"{address}{DELETE}{source_id}", headers=headers, trust_env=False)
    assert (answer.status_code, answer.json()["chunks"]) == (200, 1)
    assert (answering(shop), shop.source_row(source_id)["status"]) == ([], "trained")
    sweep(shop)
    assert shop.source_row(source_id)["status"] == "pending"


# --- jobs ------------------------------------------------------------------------------------------------------------


def test_a_job_says_why_it_waits(shop: World, chat: Engine) -> None:
    first, second = add(shop), add(shop)
    jobs = [queue_one(shop, source_id) for source_id in (first, second)]

    def places() -> list[tuple[object, object]]:
        found = [shop.client.job(job["job_id"]) for job in jobs]
        return [(job["queue_position"], job["waiting_reason"]) for job in found]

    assert places() == [(1, "no_workers"), (2, "no_workers")]
    sweep(shop)
    assert places() == [(1, "in_queue"), (2, "in_queue")]
    shop.chat("UPDATE training_tasks SET small = false")  # else one worker takes both
    run = take(chat)
    assert places() == [(None, None), (1, "in_queue")]
    train(shop, run)
    shop.chat("UPDATE training_tasks SET run_after = now() + interval '1 hour' WHERE status = 'waiting'")
    assert places() == [(None, None), (1, "retry_later")]

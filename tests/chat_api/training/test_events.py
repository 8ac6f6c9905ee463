"""The events stream: every change once, also what commits late; resumed where it broke off; ended in good time."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import httpx2
import psycopg
import pytest
from psycopg.types.json import Jsonb

from chat_api.core.settings import Settings
from chat_api.training import events as module
from chat_api.training.events import LATE_VERSIONS, MAX_WATCHERS
from tests.chat_api.chat_world import serving
from tests.chat_api.training.office import READ, Office, Row
from tests.servers import free_port

pytestmark = pytest.mark.stack
EVENTS = "/api/training/events"
BUMP = "UPDATE training_jobs SET progress_done = progress_done + 1, status_version = nextval('status_versions')"


@dataclass
class Stream:
    """An open stream, read line by line."""

    response: httpx2.Response
    comments: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._lines = self.response.iter_lines()

    def next(self) -> tuple[int, Row]:
        """The next event: (id, job)."""
        event: dict[str, str] = {}
        for line in self._lines:
            if line.startswith(":"):
                self.comments.append(line)
            elif line:
                name, _, value = line.partition(": ")
                event[name] = value
            elif event:
                assert event["event"] == "job"
                return int(event["id"]), json.loads(event["data"])
        raise EOFError(self.comments)

    def take(self, count: int) -> list[tuple[int, Row]]:
        """The next events."""
        return [self.next() for _ in range(count)]

    def rest(self) -> list[tuple[int, Row]]:
        """All events until the stream ends."""
        found = []
        try:
            while True:
                found.append(self.next())
        except EOFError:
            return found


@contextmanager
def following(office: Office, query: str = "", after: int | None = None, **claims: Any) -> Iterator[Stream]:
    headers = office.headers(READ, **claims) | ({} if after is None else {"Last-Event-ID": str(after)})
    with office.http.stream("GET", f"{EVENTS}{query}", headers=headers) as response:
        assert response.status_code == 200, response.read()
        yield Stream(response)


def statuses(events: list[tuple[int, Row]]) -> dict[str, str]:
    return {job["job_id"]: job["status"] for _, job in events}


def bump(office: Office, job_id: UUID, **columns: object) -> int:
    more = "".join(f", {name} = %s" for name in columns)
    [row] = office.chat(f"{BUMP}{more} WHERE job_id = %s RETURNING status_version", *columns.values(), job_id)
    version: int = row["status_version"]
    return version


def test_a_stream_begins_with_what_is_under_way_and_tells_each_change(office: Office) -> None:
    over, waiting, running = office.add_job(status="failed"), office.add_job(), office.add_job(status="running")
    with following(office) as stream:
        assert stream.response.headers["content-type"].startswith("text/event-stream")
        assert stream.response.headers["cache-control"] == "no-store"
        first = stream.take(2)
        assert statuses(first) == {str(waiting): "waiting", str(running): "running"}
        assert first[0][0] < first[1][0]
        version = bump(office, running, status="succeeded", finished_at="now")
        assert stream.next() == (version, office.get(f"/jobs/{running}"))
        new = office.add_job()
        assert stream.next()[1] == office.get(f"/jobs/{new}")
        bump(office, over, status="waiting")
        assert stream.next()[1]["job_id"] == str(over)


def test_only_the_org_and_the_bot_are_followed(office: Office) -> None:
    other_org, other_bot = uuid4(), office.add_bot()
    their_bot = office.add_bot(other_org)
    jobs = [office.add_job(), office.add_job(bot_id=other_bot), office.add_job(org_id=other_org, bot_id=their_bot)]
    with ExitStack() as stack:
        by_query = stack.enter_context(following(office, f"?bot_id={other_bot}"))
        by_token = stack.enter_context(following(office, bot_id=other_bot))
        whole = stack.enter_context(following(office))
        theirs = stack.enter_context(following(office, org_id=other_org))
        assert statuses(whole.take(2)).keys() == {str(job_id) for job_id in jobs[:2]}
        for stream, mine in ((by_query, jobs[1]), (by_token, jobs[1]), (theirs, jobs[2])):
            assert stream.next()[1]["job_id"] == str(mine)
        for job_id in jobs:
            bump(office, job_id)
        for stream, mine in ((by_query, jobs[1]), (by_token, jobs[1]), (theirs, jobs[2])):
            assert stream.next()[1]["job_id"] == str(mine)
        assert statuses(whole.take(2)).keys() == {str(job_id) for job_id in jobs[:2]}


def test_a_stream_goes_on_where_it_broke_off(office: Office) -> None:
    jobs = [office.add_job(status="running") for _ in range(4)]
    with following(office) as stream:
        stream.take(4)
        first, second = bump(office, jobs[0]), bump(office, jobs[1], status="failed", finished_at="now")
        assert [version for version, _ in stream.take(2)] == [first, second]
    third = bump(office, jobs[2], status="succeeded", finished_at="now")
    with following(office, after=first) as stream:
        assert [version for version, _ in stream.take(2)] == [second, third]
        fourth = bump(office, jobs[3])
        assert stream.next()[0] == fourth
    with following(office, after=fourth) as stream:
        fifth = bump(office, jobs[3])
        assert stream.next()[0] == fifth


def test_a_change_that_commits_after_a_later_one_is_told(office: Office) -> None:
    late, early = office.add_job(status="running"), office.add_job(status="running")
    with following(office) as stream, psycopg.connect(office.chat_dsn) as slow:
        stream.take(2)
        row = slow.execute(f"{BUMP} WHERE job_id = %s RETURNING status_version".encode(), [late]).fetchone()
        assert row
        assert stream_next_is(stream, bump(office, early))
        slow.commit()
        assert stream_next_is(stream, row[0])


def test_a_change_from_before_the_first_stream_is_told_when_it_commits(office: Office) -> None:
    late, early = office.add_job(status="running"), office.add_job(status="running")
    with psycopg.connect(office.chat_dsn) as slow:
        ending = f"{BUMP}, status = 'succeeded', finished_at = now() WHERE job_id = %s RETURNING status_version"
        row = slow.execute(ending.encode(), [late]).fetchone()
        assert row
        bump(office, early)
        with following(office) as stream:
            assert statuses(stream.take(2)) == {str(late): "running", str(early): "running"}
            slow.commit()
            bump(office, early)
            assert stream_next_is(stream, row[0])


def stream_next_is(stream: Stream, version: int) -> bool:
    return stream.next()[0] == version


@pytest.mark.parametrize("followed", [True, False], ids=["while followed", "while nobody followed"])
def test_a_change_that_commits_after_the_last_event_id_is_told_on_resuming(office: Office, followed: bool) -> None:
    late, early = office.add_job(status="running"), office.add_job(status="running")
    with psycopg.connect(office.chat_dsn) as slow, ExitStack() as others:
        with following(office) as stream:
            stream.take(2)
            row = slow.execute(f"{BUMP} WHERE job_id = %s RETURNING status_version".encode(), [late]).fetchone()
            last = bump(office, early)
            assert stream.next()[0] == last
            other = others.enter_context(following(office)) if followed else None
            if other:
                other.take(2)  # from now on it hears what the feed finds
        slow.commit()
        if other:
            assert row
            while other.next()[0] != row[0]:
                pass
        with following(office, after=last) as stream:
            assert row
            assert stream.next()[0] == row[0]
            last = bump(office, early)
            assert stream.next()[0] == last


def test_another_process_resumes_too(office: Office, api_settings: Settings) -> None:
    early, late, next_one = (office.add_job(status="running") for _ in range(3))
    old = bump(office, office.add_job(), status="failed", finished_at="now")
    office.chat("SELECT setval('status_versions', %s)", old + LATE_VERSIONS)
    with following(office) as stream, psycopg.connect(office.chat_dsn) as slow:
        stream.take(3)
        # It ended long before its follower comes back.
        ending = f"{BUMP}, status = 'succeeded', finished_at = now() - interval '2 minutes' WHERE job_id = %s"
        row = slow.execute(f"{ending} RETURNING status_version".encode(), [late]).fetchone()
        last = bump(office, early)
        assert stream.next()[0] == last
        slow.commit()
    news = bump(office, next_one, status="succeeded", finished_at="now")
    with serving(api_settings) as address:
        elsewhere = Office.__new__(Office)
        elsewhere.http = httpx2.Client(
            base_url=address.replace("ws://", "http://").removesuffix("/api/chat/ws"), timeout=20, trust_env=False
        )
        elsewhere.org_id = office.org_id
        with elsewhere.http, following(elsewhere, after=last) as stream:
            seen: list[int] = []
            while not seen or seen[-1] != news:
                seen.append(stream.next()[0])
    assert old not in seen
    assert row
    assert row[0] in seen


def test_many_changes_at_once_are_all_told_as_they_stand(office: Office) -> None:
    source = office.add_source()
    office.chat(
        "INSERT INTO training_jobs (job_id, org_id, bot_id, source_id, status)"
        " SELECT gen_random_uuid(), %s, %s, gen_random_uuid(), 'running' FROM generate_series(1, 1200)",
        *(office.org_id, office.bot_id),
    )
    with following(office) as stream:
        assert len(statuses(stream.take(1200))) == 1200
        office.chat(BUMP)
        events = stream.take(1200)
        assert {job["progress"]["done"] for _, job in events} == {1}
        assert [version for version, _ in events] == sorted(version for version, _ in events)
        last = office.add_job(source)
        assert stream.next()[1]["job_id"] == str(last)


def test_an_org_has_so_many_streams_and_no_more(office: Office) -> None:
    with ExitStack() as stack:
        for _ in range(MAX_WATCHERS):
            stack.enter_context(following(office))
        refused = office.call("GET", "/events")
        assert (refused.status_code, refused.json()["code"]) == (429, "too_many_streams")
        assert int(refused.headers["retry-after"]) > 0
        assert refused.headers["content-type"] == "application/problem+json"
    until_there_is_room(office)


def test_a_stream_ends_with_its_token(office: Office) -> None:
    office.add_job()
    now = int(time.time())
    with following(office, iat=now - 10, exp=now + 2) as stream:
        assert len(stream.rest()) == 1
    assert "time is over" in stream.comments[-1]


def test_a_stream_ends_with_a_word_when_the_database_goes_away(office: Office) -> None:
    job_id = office.add_job()
    with following(office) as stream, psycopg.connect(office.chat_dsn) as holder:
        stream.next()
        holder.execute("LOCK TABLE training_jobs IN ACCESS EXCLUSIVE MODE")
        deadline = time.monotonic() + 20
        while not (waiting := waiting_for_a_lock(office)):
            assert time.monotonic() < deadline
        holder.execute("SELECT pg_terminate_backend(%s)", [waiting[0]["pid"]])
        assert stream.rest() == []
    assert "database" in stream.comments[-1]
    with following(office) as stream:
        assert stream.next()[1]["job_id"] == str(job_id)


def waiting_for_a_lock(office: Office) -> list[Row]:
    return office.chat(
        "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )


def test_a_stream_does_not_begin_without_the_database(office: Office, api_settings: Settings) -> None:
    away = api_settings.model_copy(update={"python_chat_db_port": free_port()})
    with serving(away) as address:
        url = address.replace("ws://", "http://").removesuffix("/api/chat/ws") + EVENTS
        answer = httpx2.get(url, headers=office.headers(READ), timeout=20, trust_env=False)
    assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")


def test_a_stream_does_not_begin_while_the_database_says_nothing(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_WITHIN_S", 0.5)
    with psycopg.connect(office.chat_dsn) as holder:
        holder.execute("LOCK TABLE training_jobs IN ACCESS EXCLUSIVE MODE")
        answer = office.call("GET", "/events")
    assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
    assert int(answer.headers["retry-after"]) > 0
    until_there_is_room(office)


@pytest.mark.parametrize("value", ["x", "-1", "1.5", str(2**63)])
def test_a_last_event_id_that_is_none_is_refused(office: Office, value: str) -> None:
    answer = office.http.get(EVENTS, headers=office.headers(READ) | {"Last-Event-ID": value})
    assert answer.status_code == 422


def test_a_reader_that_does_not_read_is_cut_off(office: Office) -> None:
    for _ in range(20):
        office.add_job(status="running")
    office.chat("UPDATE training_jobs SET receipt = %s", Jsonb({"warnings": ["w" * 500_000]}))
    token = office.headers(READ)["Authorization"]
    with ExitStack() as others, socket.socket() as lazy:
        for _ in range(MAX_WATCHERS - 1):
            others.enter_context(following(office, f"?bot_id={office.add_bot()}"))
        lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        lazy.connect((office.http.base_url.host, office.http.base_url.port))
        lazy.sendall(f"GET {EVENTS} HTTP/1.1\r\nHost: api\r\nAuthorization: {token}\r\n\r\n".encode())
        assert b"200 OK" in lazy.recv(1024)
        assert office.call("GET", "/events").status_code == 429
        until_there_is_room(office)


def until_there_is_room(office: Office) -> None:
    deadline = time.monotonic() + 30
    while True:
        with office.http.stream("GET", EVENTS, headers=office.headers(READ)) as answer:
            if answer.status_code == 200:
                return
        assert time.monotonic() < deadline
        time.sleep(0.2)

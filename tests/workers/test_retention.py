"""Retention: what is too old goes, what is not stays, one org at a time and with the workers' login."""

from collections.abc import Iterator
from uuid import uuid4

import psycopg
import pytest

from tests.workers.chat_rows import engine_of, workers_engine
from workers.retention import Retention

pytestmark = pytest.mark.stack


class Kept:
    """Conversations with a turn and an answer's frames, and how many of each are there."""

    def __init__(self, dsn: str) -> None:
        self.connection = psycopg.connect(dsn, autocommit=True)
        self.orgs = [(uuid4(), uuid4()) for _ in range(3)]
        for org_id, bot_id in self.orgs:
            self.connection.execute(
                "INSERT INTO bots (org_id, bot_id, name, config, allowed_origins) VALUES (%s, %s, '', '{}', '{}')",
                [org_id, bot_id],
            )

    def add(self, org: int, *, conversation_days: float = 0, answer_hours: float = 0) -> None:
        """One of each, so old."""
        key = {"org": self.orgs[org][0], "bot": self.orgs[org][1], "conversation": uuid4(), "message": uuid4()}
        values = {**key, "days": conversation_days, "hours": answer_hours}
        for statement in (
            "INSERT INTO conversations (org_id, bot_id, conversation_id, visitor, last_turn_at)"
            " VALUES (%(org)s, %(bot)s, %(conversation)s, 'v', now() - make_interval(secs => 86400 * %(days)s))",
            "INSERT INTO turns (org_id, bot_id, message_id, conversation_id, ask_id, question, answer, finish_reason)"
            " VALUES (%(org)s, %(bot)s, %(message)s, %(conversation)s, 'q', 'q', 'a', 'stop')",
            "INSERT INTO answers (org_id, bot_id, conversation_id, ask_id, visitor, question, holder, expires_at,"
            " created_at) VALUES (%(org)s, %(bot)s, %(conversation)s, 'q', 'v', 'q', %(message)s, now(),"
            " now() - make_interval(secs => 3600 * %(hours)s))",
            "INSERT INTO answer_frames (org_id, bot_id, conversation_id, ask_id, first_seq, last_seq, frames)"
            " VALUES (%(org)s, %(bot)s, %(conversation)s, 'q', 1, 1, '{}')",
        ):
            self.connection.execute(statement, values)

    def counts(self) -> tuple[int, ...]:
        """(conversations, turns, answers, frames)."""
        row = self.connection.execute(
            "SELECT (SELECT count(*) FROM conversations), (SELECT count(*) FROM turns), (SELECT count(*) FROM answers),"
            " (SELECT count(*) FROM answer_frames)"
        ).fetchone()
        return row or ()


@pytest.fixture
def kept(chat_db: str) -> Iterator[Kept]:
    made = Kept(chat_db)
    yield made
    made.connection.close()


@pytest.fixture
def collector(chat_db: str) -> Retention:
    return Retention(workers_engine(engine_of(chat_db)), conversation_days=90, journal_hours=24)


def test_what_is_too_old_goes_and_nothing_else(kept: Kept, collector: Retention) -> None:
    for org in range(3):
        kept.add(org, conversation_days=90.1, answer_hours=1)
        kept.add(org, conversation_days=1, answer_hours=24.1)
        kept.add(org, conversation_days=89.9, answer_hours=23.9)
    assert collector.collect() == 6
    assert kept.counts() == (6, 6, 6, 6)


def test_it_is_done_once_an_hour(kept: Kept, collector: Retention) -> None:
    assert collector.collect() == 0
    kept.add(0, conversation_days=100)
    assert collector.collect() == 0


def test_more_than_a_batch_is_taken_in_several(kept: Kept, chat_db: str) -> None:
    for _ in range(5):
        kept.add(1, conversation_days=100, answer_hours=100)
    kept.add(1)
    engine = workers_engine(engine_of(chat_db))
    assert Retention(engine, conversation_days=90, journal_hours=24, at_once=2).collect() == 10
    assert kept.counts() == (1, 1, 1, 1)

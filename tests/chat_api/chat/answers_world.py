"""Answers in flight as tests see them: slow ones, those that were begun, and what is left when their replica is gone."""

import contextlib
from collections.abc import Iterator
from typing import Any

import psycopg
from psycopg import sql

from tests.chat_api.chat_world import Chat, Frame, TestBot, Visit
from tests.servers import Servers

PARCELS = "Parcels ordered by 11:30 leave on the same day."
WORDS = 60


def slow_bot(chat: Chat, **config: Any) -> TestBot:
    """A bot whose next answer takes its time."""
    chat.provider.controls.token_delay_ms = 20
    chat.provider.controls.answers.append(" ".join(f"word{n}" for n in range(WORDS)))
    return chat.add_bot(PARCELS, **config)


def begun(visit: Visit, frames: int = 4) -> list[Frame]:
    """The first frames of an answer that is in flight then."""
    visit.ask()
    return [visit.receive() for _ in range(frames)]


def resume(visit: Visit, conversation_id: object, after: int, ask_id: str = "q1") -> None:
    """Asks for the frames after `after`."""
    visit.send({"type": "resume", "conversation_id": str(conversation_id), "id": ask_id, "after": after})


def text_of(frames: list[Frame]) -> str:
    """What a client shows: it starts its text over at `sources`."""
    shown = ""
    for frame in frames:
        shown = "" if frame["type"] == "sources" else shown + (frame["text"] if frame["type"] == "delta" else "")
    return shown


def assert_whole(frames: list[Frame]) -> None:
    """One answer without a gap, which ends with all of its text."""
    assert [frame["seq"] for frame in frames] == list(range(1, len(frames) + 1))
    assert frames[-1]["type"] == "done"
    assert text_of(frames) == frames[-1]["text"]
    assert len(frames[-1]["text"].split()) == WORDS


def paid(chat: Chat) -> int:
    """How many answers the provider was asked for."""
    return chat.provider.counts.requests["chat"]


def answers(chat: Chat, bot: TestBot) -> list[Any]:
    """(state, attempt, whether somebody holds it) of the bot's answers."""
    return chat.rows("SELECT state, attempt, expires_at > now() FROM answers WHERE bot_id = %s", bot.bot_id)


def abandon(chat: Chat, bot: TestBot, *, frames_after: int | None = None) -> None:
    """Makes an answer look as a replica leaves it that is killed: nobody holds it, and not all was kept."""
    chat.rows(
        "UPDATE answers SET state = 'streaming', holder = gen_random_uuid(), expires_at = now() - interval '1 second'"
        " WHERE bot_id = %s",
        bot.bot_id,
    )
    if frames_after is not None:
        chat.rows("DELETE FROM answer_frames WHERE bot_id = %s AND first_seq > %s", bot.bot_id, frames_after)
    chat.rows("DELETE FROM turns WHERE bot_id = %s", bot.bot_id)


@contextlib.contextmanager
def away(servers: Servers, chat: Chat) -> Iterator[None]:
    """Has the chat database end all connections, and take none."""
    name = str(psycopg.conninfo.conninfo_to_dict(chat.chat_dsn)["dbname"])
    door = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
    with psycopg.connect(servers.cluster_dsn, autocommit=True) as admin:
        admin.execute(door.format(sql.Identifier(name), sql.SQL("false")))
        try:
            admin.execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s", [name])
            yield
        finally:
            admin.execute(door.format(sql.Identifier(name), sql.SQL("true")))

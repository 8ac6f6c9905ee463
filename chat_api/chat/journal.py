"""Answers' frames in the chat database, and the lease on each answer in flight: whoever holds it makes the answer."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple
from uuid import UUID, uuid4

from sqlalchemy import text

from chat_api.chat.client_frames import Ask
from chat_api.chat.stream import AnswerStream
from chat_api.core.database import AsyncEngines, Rows, Said

LEASE_S = 6.0
WITHIN_S = 5.0
FOLLOW_EVERY_S = 4.0
FOLLOWED_S = 12.0
"""For how long a replica's word counts that the visitor reads an answer there."""
MOST_ATTEMPTS = 2
"""How often an answer is begun without being asked for anew."""
ROWS_AT_ONCE = 200

IN_CONVERSATION = "org_id = :org_id AND bot_id = :bot_id AND conversation_id = :conversation_id"
KEY = f"{IN_CONVERSATION} AND ask_id = :ask_id"
# None of these rows is worth waiting for the disk: an answer that is lost with the server is asked for again.
QUICKLY = "quickly AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true))"
# An answer that cites what was deleted since is not repeated: it gives way as one that failed does.
FORGET_OUTDATED = text(f"""
    WITH {QUICKLY}, outdated AS (
        UPDATE turns SET error_code = 'source_deleted'
        WHERE {KEY} AND error_code IS NULL AND EXISTS (
            SELECT FROM jsonb_array_elements(turns.sources) AS offered JOIN sources AS source
              ON source.org_id = turns.org_id AND source.bot_id = turns.bot_id
             AND source.source_id = CAST(offered ->> 'source_id' AS uuid)
            WHERE source.deleted_at IS NOT NULL AND CAST(offered ->> 'n' AS bigint) = ANY (turns.citations)
        )
        RETURNING ask_id
    )
    DELETE FROM answers WHERE {KEY} AND EXISTS (SELECT FROM outdated)
    RETURNING (SELECT count(*) FROM quickly)
""")  # noqa: S608  # the module's own pieces
CLAIM = text(f"""
    WITH {QUICKLY}, claimed AS (
        INSERT INTO answers AS answer (org_id, bot_id, conversation_id, ask_id, visitor, question, page_url, holder,
                                       expires_at)
        SELECT :org_id, :bot_id, :conversation_id, :ask_id, :visitor, :question, :page_url, :holder,
               now() + make_interval(secs => :lease_s)
        WHERE NOT EXISTS (SELECT FROM turns WHERE {KEY} AND error_code IS NULL)
          AND NOT EXISTS (SELECT FROM conversations WHERE {IN_CONVERSATION} AND conversations.visitor <> :visitor)
        ON CONFLICT (org_id, bot_id, conversation_id, ask_id) DO UPDATE
        SET question = excluded.question, page_url = excluded.page_url, state = 'streaming', attempt = 1,
            holder = excluded.holder, expires_at = excluded.expires_at, stop_requested = false, created_at = now()
        WHERE answer.visitor = excluded.visitor
          AND (answer.state = 'failed' OR (answer.state = 'streaming' AND answer.expires_at < now()))
        RETURNING CAST(CAST(xmax AS text) AS bigint) <> 0 AS again
    ), forgotten AS (
        DELETE FROM answer_frames WHERE {KEY} AND EXISTS (SELECT FROM claimed WHERE again)
    )
    SELECT (SELECT count(*) FROM quickly) FROM claimed
""")  # noqa: S608
HELD = f"""
    UPDATE answers SET state = :state, expires_at = now() + make_interval(secs => :lease_s)
    WHERE {KEY} AND holder = :holder AND state = 'streaming' AND (NOT :unexpired OR expires_at > now())
    RETURNING stop_requested, coalesce(followed_at > now() - make_interval(secs => :followed_s), false) AS followed
"""  # noqa: S608
KEPT = """
    INSERT INTO answer_frames (org_id, bot_id, conversation_id, ask_id, first_seq, last_seq, frames)
    SELECT :org_id, :bot_id, :conversation_id, :ask_id, :first_seq, :last_seq, :frames FROM held
    WHERE :last_seq >= :first_seq
    ON CONFLICT (org_id, bot_id, conversation_id, ask_id, first_seq) DO UPDATE
    SET last_seq = excluded.last_seq, frames = excluded.frames
"""
KEEP = text(f"""
    WITH {QUICKLY}, held AS ({HELD}), kept AS ({KEPT})
    SELECT stop_requested, followed, (SELECT count(*) FROM quickly) FROM held
""")  # noqa: S608
CLOSE = text(f"WITH held AS ({HELD}), kept AS ({KEPT}) SELECT stop_requested, followed FROM held")  # noqa: S608
CLOSED = f"EXISTS (SELECT FROM answers WHERE {KEY} AND holder = :holder AND expires_at = now())"
"""Whether this very transaction has closed the holder's answer."""
READ = text("""
    SELECT answer.state, answer.expires_at > now() AS held, answer.holder, kept.first_seq, kept.last_seq, kept.frames
    FROM answers AS answer LEFT JOIN answer_frames AS kept
      ON kept.org_id = answer.org_id AND kept.bot_id = answer.bot_id AND kept.conversation_id = answer.conversation_id
     AND kept.ask_id = answer.ask_id AND kept.last_seq > :after
    WHERE answer.org_id = :org_id AND answer.bot_id = :bot_id AND answer.conversation_id = :conversation_id
      AND answer.ask_id = :ask_id AND answer.visitor = :visitor
    ORDER BY kept.first_seq LIMIT :rows
""")
IS_KEPT = text(f"SELECT 1 FROM answers WHERE {KEY} AND visitor = :visitor AND state = 'done'")  # noqa: S608
FOLLOW = text(f"UPDATE answers SET followed_at = now() WHERE {KEY} AND visitor = :visitor AND state = 'streaming'")  # noqa: S608
# A holder that was not told whether it has it may ask again.
TAKE_OVER = text(f"""
    UPDATE answers SET holder = :holder, attempt = attempt + CAST(holder <> :holder AS int),
        expires_at = now() + make_interval(secs => :lease_s)
    WHERE {KEY} AND visitor = :visitor AND state = 'streaming' AND expires_at < now()
      AND (attempt < :attempts OR holder = :holder)
    RETURNING question, page_url, stop_requested
""")  # noqa: S608
REQUEST_STOP = text("""
    UPDATE answers SET stop_requested = true
    WHERE org_id = :org_id AND bot_id = :bot_id AND visitor = :visitor AND ask_id = :ask_id AND state = 'streaming'
      AND conversation_id = coalesce(CAST(:conversation_id AS uuid), conversation_id)
""")


@dataclass(frozen=True, slots=True)
class AnswerKey:
    """Which answer: the visitor's question `ask_id` in a conversation with a bot."""

    org_id: UUID
    bot_id: UUID
    conversation_id: UUID
    ask_id: str

    def values(self) -> dict[str, Any]:
        """The key as statements take it."""
        return {each.name: getattr(self, each.name) for each in fields(self)}


class InFlightElsewhereError(Exception):
    """Another replica makes this answer."""


class LeaseNews(NamedTuple):
    """What the lease's row says to its holder."""

    stop_requested: bool
    followed: bool
    """Whether the visitor reads the answer through another replica."""


class Batch(NamedTuple):
    """Frames as they are kept: the first one's seq, and JSON texts."""

    first_seq: int
    frames: list[str]


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept of an answer after some seq."""

    state: str
    held: bool
    """Whether somebody makes it."""
    holder: UUID
    batches: Sequence[Batch]
    more: bool
    """Whether there are further batches."""


class Taken(NamedTuple):
    """An answer that was taken over: the question, and whether the visitor wants no more of it."""

    question: str
    page_url: str | None
    stop_requested: bool


class Journal:
    """What is kept of a visitor's answers, for replicas that do not make them. All raise SQLAlchemyError, TimeoutError."""

    def __init__(self, engines: AsyncEngines) -> None:
        self._engines = engines

    async def read(self, key: AnswerKey, visitor: str, after: int) -> Kept | None:
        """The answer's state and its frames after `after`; None when the visitor has no such answer here."""
        values = {**key.values(), "visitor": visitor, "after": after, "rows": ROWS_AT_ONCE}
        async with asyncio.timeout(WITHIN_S):
            [rows] = await self._engines.trip(key.org_id, (READ, values))
        if not rows:
            return None
        batches = [Batch(row.first_seq, row.frames.split("\n")) for row in rows if row.frames is not None]
        return Kept(rows[0].state, rows[0].held, rows[0].holder, batches, len(rows) == ROWS_AT_ONCE)

    async def follow(self, key: AnswerKey, visitor: str) -> None:
        """Tells who makes the answer that the visitor reads it here."""
        async with asyncio.timeout(WITHIN_S):
            await self._engines.trip(key.org_id, (FOLLOW, {**key.values(), "visitor": visitor}))

    async def take_over(self, key: AnswerKey, visitor: str, hold: "Hold") -> Taken | None:
        """Gives an answer that nobody makes any more to `hold`; None when another was faster, or it was tried before."""
        values = {"visitor": visitor, "holder": hold.holder, "lease_s": LEASE_S, "attempts": MOST_ATTEMPTS}
        async with asyncio.timeout(WITHIN_S):
            [rows] = await self._engines.trip(key.org_id, (TAKE_OVER, {**key.values(), **values}))
        hold.claimed = bool(rows)
        return Taken(*rows[0]) if rows else None

    async def read_current(self, key: AnswerKey, visitor: str, after: int) -> Kept | None:
        """As `read`; an answer that cites what was deleted since is forgotten, and None."""
        kept = await self.read(key, visitor, after)
        if not kept or kept.state != "done":
            return kept
        async with asyncio.timeout(WITHIN_S):
            [forgotten] = await self._engines.trip(key.org_id, (FORGET_OUTDATED, key.values()))
        return None if forgotten else kept

    async def request_stop(
        self, org_id: UUID, bot_id: UUID, visitor: str, ask_id: str, conversation_id: UUID | None
    ) -> None:
        """Tells who makes the visitor's answer, in that or (None) any conversation, that it is to end."""
        values = {
            **{"org_id": org_id, "bot_id": bot_id, "visitor": visitor},
            **{"ask_id": ask_id, "conversation_id": conversation_id},
        }
        async with asyncio.timeout(WITHIN_S):
            await self._engines.trip(org_id, (REQUEST_STOP, values))


class Hold:
    """One replica's hold on an answer that it makes, and the frames of it that are kept."""

    def __init__(
        self,
        engines: AsyncEngines,
        key: AnswerKey,
        visitor: str,
        stream: AnswerStream,
        on_claim: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_claim`: called when the answer is claimed; what it raises ends the claimant's turn."""
        self.key, self.holder = key, uuid4()
        self.claimed = False
        self._engines, self._visitor, self._stream, self._on_claim = engines, visitor, stream, on_claim
        self._kept = len(stream.frames)
        self._one_at_a_time = asyncio.Lock()

    def values(self) -> dict[str, Any]:
        """Whose answer it is, and who holds it, as CLOSED asks for them."""
        return {**self.key.values(), "holder": self.holder}

    def begin_at(self, length: int) -> None:
        """Nothing of the first `length` frames is to be kept by this hold."""
        self._kept = length

    async def claim(self, ask: Ask, *said: Said) -> list[Rows]:
        """Claims the answer, and gives what the statements `said` behind that give, in one transaction.

        It is not `claimed` afterwards when it was given, or another replica makes it, or it is another visitor's.
        """
        if self.claimed:
            return await self._engines.trip(self.key.org_id, *said)
        values = {
            **self.key.values(),
            **{"visitor": self._visitor, "question": ask.text, "page_url": ask.page_url},
            **{"holder": self.holder, "lease_s": LEASE_S},
        }
        claimed, *found = await self._engines.trip(self.key.org_id, (CLAIM, values), *said)
        if not claimed:
            outdated = (FORGET_OUTDATED, self.key.values())
            _, claimed, *found = await self._engines.trip(self.key.org_id, outdated, (CLAIM, values), *said)
        self.claimed = bool(claimed)
        if self.claimed:
            self._on_claim()
        return found

    async def is_kept(self) -> bool:
        """Whether the visitor's answer was made to its end, and its frames are still kept. Raises SQLAlchemyError."""
        values = {**self.key.values(), "visitor": self._visitor}
        [rows] = await self._engines.trip(self.key.org_id, (IS_KEPT, values))
        return bool(rows)

    async def keep(self, followed_s: float = FOLLOWED_S) -> LeaseNews | None:
        """Keeps what is new and renews the lease; None when it was lost. Raises SQLAlchemyError, TimeoutError.

        `followed_s`: for how long it counts that the visitor read the answer through another replica.
        """
        async with asyncio.timeout(WITHIN_S), self._one_at_a_time:
            length = len(self._stream.frames)
            values = {**self._values("streaming", LEASE_S), "followed_s": followed_s}
            [told] = await self._engines.trip(self.key.org_id, (KEEP, values))
            if told:
                self._kept = length
        return LeaseNews(told[0].stop_requested, told[0].followed) if told else None

    async def close(self, state: str, last: str | None, *said: Said, again: bool = False) -> None:
        """Keeps the rest, `last` being the answer's last frame, and does what is `said` behind that, in one transaction.

        What is to be done by the answer's holder alone asks whether it is CLOSED. With the state `streaming` the answer
        is left for another replica to make anew. Whether a try was heard may not be known: `again` finds nothing CLOSED
        that the one before has closed. Raises SQLAlchemyError.
        """
        async with self._one_at_a_time:
            # What was left stays as it was but for its lease.
            values = {**self._values(state, 0, *([last] if last else [])), "unexpired": again and state == "streaming"}
            closing = [(CLOSE, values)] if self.claimed else []
            await self._engines.trip(self.key.org_id, *closing, *said)

    def _values(self, state: str, lease_s: float, *last: str) -> dict[str, Any]:
        stream = self._stream
        texts = [*(stream.text_of(index) for index in range(self._kept, len(stream.frames))), *last]
        return {
            **self.values(),
            **{"state": state, "lease_s": lease_s, "followed_s": FOLLOWED_S, "unexpired": False},
            **{"first_seq": self._kept + 1, "last_seq": self._kept + len(texts), "frames": "\n".join(texts)},
        }

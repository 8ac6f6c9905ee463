"""Tells the replicas that make them which answers are wanted no more, a few at a time, however many stops come in."""

import asyncio
from collections import Counter
from uuid import UUID

import structlog
from sqlalchemy.exc import SQLAlchemyError

from chat_api.chat.journal import Journal

AT_ONCE = 4
"""Of the process's connections to the database, which answers need."""
MOST_PER_VISITOR = 2
"""Stops that wait: a visitor has an answer or two under way, and who sends more of them floods."""
log = structlog.get_logger(__name__)


class Stops:
    """The stops of this process that are on their way to other replicas."""

    def __init__(self, journal: Journal) -> None:
        self._journal, self._room = journal, asyncio.Semaphore(AT_ONCE)
        self._waiting: Counter[tuple[UUID, UUID, str]] = Counter()

    async def pass_on(
        self, org_id: UUID, bot_id: UUID, visitor: str, ask_id: str, conversation_id: UUID | None
    ) -> None:
        """Has the visitor's answer end, in that or (None) any conversation; not while too many stops of theirs wait."""
        whose = (org_id, bot_id, visitor)
        if self._waiting[whose] >= MOST_PER_VISITOR:
            return
        self._waiting[whose] += 1
        try:
            async with self._room:
                await self._journal.request_stop(*whose, ask_id, conversation_id)
        except (SQLAlchemyError, TimeoutError) as error:
            log.warning("stop_not_passed_on", error=type(error).__name__)
        finally:
            self._waiting[whose] -= 1
            if not self._waiting[whose]:
                del self._waiting[whose]

"""The answers of this process: made here or passed on from the replica that makes them, for any number of readers."""

import asyncio
import contextlib
import time
from collections.abc import Coroutine
from uuid import UUID

import structlog
from sqlalchemy.exc import SQLAlchemyError

from chat_api.chat.bot import Bot
from chat_api.chat.citations import cited_in
from chat_api.chat.client_frames import Ask, CannotResume, Resume
from chat_api.chat.journal import FOLLOWED_S, LEASE_S, AnswerKey, Hold, InFlightElsewhereError, Journal, Kept, Taken
from chat_api.chat.live import LiveAnswer, Why
from chat_api.chat.passing import Passed, Passing
from chat_api.chat.record import conversation_of, loading
from chat_api.chat.relay import Relay
from chat_api.chat.services import ChatServices
from chat_api.chat.stops import Stops
from chat_api.chat.stream import told_by
from chat_api.chat.turn import Turn
from chat_api.core.database import DATABASE_DOWN
from chat_api.core.errors import DatabaseUnavailable, ServiceError
from chat_api.core.refusals import UnknownConversation, UnknownResource

KEEP_EVERY_S = 0.25
RENEW_EVERY_S = 1.0
END_WITHIN_S = 15.0
RESUME_WITHIN_S = 10.0
MOST_REFUSALS = 2
MOST_AFTER = 20_000
"""Frames that a client may say to have; no answer has more."""
log = structlog.get_logger(__name__)


class Answers:
    """All answers in flight here: a question that is asked twice is answered once."""

    def __init__(self, services: ChatServices, relay: Relay, *, grace_s: float) -> None:
        """`grace_s`: how long an answer goes on that nobody reads, so that its visitor can come back to it."""
        self._services, self._relay, self._grace_s = services, relay, grace_s
        self._journal = Journal(services.engines)
        self._stops = Stops(self._journal)
        self._live: dict[tuple[AnswerKey, str], LiveAnswer] = {}
        self._background: set[asyncio.Task[None]] = set()
        self.draining = False

    def ask(self, bot: Bot, visitor: str, ask: Ask, conversation_id: UUID) -> LiveAnswer:
        """Begins the answer to a question, or joins the one in flight. What goes wrong is told in its frames."""
        key = AnswerKey(bot.org_id, bot.bot_id, conversation_id, ask.id)
        return self._in_flight(key, visitor) or self._begin(LiveAnswer(key, bot, visitor, self._grace_s), ask)

    async def resume(self, bot: Bot, visitor: str, wanted: Resume) -> LiveAnswer:
        """The answer that the visitor has the frames of up to `after`.

        Raises CannotResume where there is nothing to go on with, or fewer frames, SQLAlchemyError, TimeoutError.
        """
        key = AnswerKey(bot.org_id, bot.bot_id, wanted.conversation_id, wanted.id)
        if wanted.after > MOST_AFTER:
            raise CannotResume
        if answer := self._in_flight(key, visitor, wanted.after):
            return answer
        kept = await self._kept(key, visitor, wanted.after)
        if answer := self._in_flight(key, visitor, wanted.after):
            return answer
        if kept and (kept.batches or kept.state == "streaming"):
            return self._begin(LiveAnswer(key, bot, visitor, self._grace_s), None)
        recorded = await self._recorded(key, bot, visitor)
        if (answer := self._in_flight(key, visitor)) and len(answer.stream.frames) >= wanted.after:
            return answer
        # Its frames are not kept any more: the answer as it was recorded begins again.
        answer = LiveAnswer(key, bot, visitor, self._grace_s)
        answer.stream.skip_to(wanted.after)
        return self._begin(answer, recorded)

    def _in_flight(self, key: AnswerKey, visitor: str, after: int = 0) -> LiveAnswer | None:
        answer = self._live.get((key, visitor))
        if not answer or not answer.joinable:
            return None
        if answer.made_here and after > len(answer.stream.frames):
            # Of an answer that was made anew, whose first maker sent more than it kept: asked again, it begins again.
            raise CannotResume
        return answer

    async def _kept(self, key: AnswerKey, visitor: str, after: int) -> Kept | None:
        """What is kept of the answer, if it still holds. A database that does not answer is waited for a while, as the answer would."""
        loop = asyncio.get_running_loop()
        until = loop.time() + RESUME_WITHIN_S
        while True:
            try:
                return await self._journal.read_current(key, visitor, after)
            except (SQLAlchemyError, TimeoutError) as error:
                if loop.time() > until:
                    raise
                log.warning("resume_waits", error=type(error).__name__)
            await asyncio.sleep(KEEP_EVERY_S)

    async def _recorded(self, key: AnswerKey, bot: Bot, visitor: str) -> Ask:
        try:
            [rows] = await self._services.engines.trip(key.org_id, loading(bot, key.conversation_id, key.ask_id))
            found = conversation_of(rows, visitor, key.conversation_id, key.ask_id)
        except UnknownResource:
            raise CannotResume from None
        if found.answered is None:
            raise CannotResume
        return Ask(type="ask", id=key.ask_id, text=found.answered.question)

    def stop(self, answer: LiveAnswer) -> None:
        """Has an answer end with what was streamed, wherever it is made."""
        if not answer.stop():
            self._tell_to_stop(answer)

    def stop_unseen(self, bot: Bot, visitor: str, ask_id: str, conversation_id: UUID | None) -> None:
        """Has an answer of the visitor's end that is not read here, in that or (None) any conversation."""
        wanted = (bot.org_id, bot.bot_id, ask_id, visitor)
        for (key, whose), answer in self._live.items():
            same = (key.org_id, key.bot_id, key.ask_id, whose) == wanted
            if same and conversation_id in {None, key.conversation_id}:
                self.stop(answer)
                return
        self._spawn(self._stops.pass_on(bot.org_id, bot.bot_id, visitor, ask_id, conversation_id))

    def _tell_to_stop(self, answer: LiveAnswer) -> None:
        key = answer.key
        self._spawn(self._stops.pass_on(key.org_id, key.bot_id, answer.visitor, key.ask_id, key.conversation_id))

    async def drain(self, within_s: float) -> None:
        """Lets the answers that are made here end within the time; what is left is handed to whoever resumes it."""
        self.draining = True
        made = [answer.task for answer in self._live.values() if answer.turn and answer.task]
        if made:
            await asyncio.wait(made, timeout=within_s)
        await self.aclose()

    async def aclose(self) -> None:
        """Ends all answers and hands them back."""
        self.draining = True
        for answer in list(self._live.values()):
            answer.end(Why.LEFT)
        tasks = {*self._background, *(answer.task for answer in self._live.values() if answer.task)}
        if tasks:
            await asyncio.wait(tasks, timeout=END_WITHIN_S)

    def _begin(self, answer: LiveAnswer, ask: Ask | None) -> LiveAnswer:
        """Has an answer made here, or passed on where there is no question to answer."""
        self._live[answer.key, answer.visitor] = answer
        answer.task = self._spawn(self._make(answer, ask))
        answer.task.add_done_callback(lambda _: self._forget(answer))
        return answer

    def _forget(self, answer: LiveAnswer) -> None:
        answer.stream.end()
        if self._live.get((answer.key, answer.visitor)) is answer:
            del self._live[answer.key, answer.visitor]

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._background.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("answer_broke", exc_info=error)

    async def _make(self, answer: LiveAnswer, ask: Ask | None) -> None:
        try:
            if ask is None or not await self._answer(answer, ask, self._hold(answer)):
                await self._pass_on(answer)
        except (SQLAlchemyError, TimeoutError) as error:
            log.warning("answer_not_passed_on", error=type(error).__name__)

    def _hold(self, answer: LiveAnswer) -> Hold:
        return Hold(self._services.engines, answer.key, answer.visitor, answer.stream, answer.claimed)

    async def _pass_on(self, answer: LiveAnswer) -> None:
        """Passes the answer on from where it is made, and makes it here once nobody does any more."""
        passing = Passing(self._journal, self._relay, answer.key, answer.visitor, answer.stream)
        hold, refused = self._hold(answer), 0
        while (passed := await passing.run()) is Passed.ABANDONED:
            try:
                taken = await self._journal.take_over(answer.key, answer.visitor, hold)
            except (SQLAlchemyError, TimeoutError) as error:
                # Whether it was taken is not known; the same hold learns it when its lease is over.
                log.warning("take_over_unanswered", error=type(error).__name__)
                continue
            if taken:
                await self._take_over(answer, taken, hold)
                return
            if refused == MOST_REFUSALS:
                answer.fail(CannotResume())
                return
            # Another replica was faster, which is seen at the next look, or the holder is alive and only slow.
            await asyncio.sleep(LEASE_S if refused else 0)
            refused += 1
        if passed is Passed.UNKNOWN:
            answer.fail(UnknownConversation())
        elif passed is Passed.AWAY:
            answer.fail(DatabaseUnavailable())

    async def _take_over(self, answer: LiveAnswer, taken: Taken, hold: Hold) -> None:
        """Makes an answer anew whose replica died; its first frame follows the last one that any reader has."""
        stream = answer.stream
        heard = told_by(stream)
        stream.skip_to(max([len(stream.frames), *(reader.position for reader in stream.readers)]))
        hold.begin_at(len(stream.frames))
        ask = Ask(type="ask", id=answer.key.ask_id, text=taken.question, page_url=taken.page_url)
        log.info("answer_taken_over", bot_id=str(answer.key.bot_id))
        if taken.stop_requested or answer.stop_wanted:
            turn = Turn(self._services, answer.bot, answer.visitor, ask, hold)
            turn.record.sources, turn.record.answer = heard
            turn.record.citations = cited_in(turn.record.answer)
            await turn.stopped(stream)
        else:
            await self._answer(answer, ask, hold)

    async def _answer(self, answer: LiveAnswer, ask: Ask, hold: Hold) -> bool:
        """Makes the answer; False when another replica does."""
        turn = Turn(self._services, answer.bot, answer.visitor, ask, hold)
        answer.turn, answer.hold, answer.heard_at = turn, hold, time.monotonic()
        keeping = self._spawn(self._keep(answer, hold))
        try:
            await turn.run(answer.stream)
        except InFlightElsewhereError:
            answer.turn = None
            if answer.stop_wanted:
                self._tell_to_stop(answer)
            return False
        except asyncio.CancelledError:
            await answer.wind_up(turn)
        except UnknownResource as error:
            answer.fail(error)
        except ServiceError as error:
            log.warning("turn_failed", code=error.code, message=error.message)
            answer.error = error
            await turn.failed(answer.stream, error)
        except DATABASE_DOWN as error:
            log.warning("turn_without_database", error=type(error).__name__)
            answer.error = DatabaseUnavailable()
            await turn.failed(answer.stream, answer.error)
        except Exception:  # the edge of a turn: the visitor is told, and the connection lives on
            log.exception("turn_broke")
            answer.error = ServiceError()
            await turn.failed(answer.stream, answer.error)
        finally:
            keeping.cancel()
        return True

    async def _keep(self, answer: LiveAnswer, hold: Hold) -> None:
        """Keeps frames soon after they were sent, tells them to other replicas, and ends the answer where it should."""
        stream, grew = answer.stream, answer.stream.watch()
        position = len(stream.frames)
        try:
            while True:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(RENEW_EVERY_S):
                        await grew.wait()
                await asyncio.sleep(KEEP_EVERY_S)
                grew.clear()
                if hold.claimed and position >= 0:
                    self._spawn(self._relay.tell_all(answer.key, hold.holder, stream, position))
                    position = -1
                if hold.claimed:
                    await self._keep_once(answer, hold)
        finally:
            stream.unwatch(grew)

    async def _keep_once(self, answer: LiveAnswer, hold: Hold) -> None:
        followed_s = max(FOLLOWED_S, self._grace_s)
        followed = time.monotonic() - answer.heard_at < followed_s  # for so long it may be, unheard
        try:
            told = await hold.keep(followed_s)
        except (SQLAlchemyError, TimeoutError) as error:
            # The answer streams on; what is missing is kept with what comes next.
            log.warning("journal_behind", error=type(error).__name__)
        else:
            answer.heard_at = time.monotonic()
            if told is None:
                log.warning("answer_lost", bot_id=str(answer.key.bot_id))
                answer.end(Why.LEFT)
            elif told.stop_requested:
                answer.end(Why.STOPPED)
            followed = bool(told and told.followed)
        if answer.deserted and not followed:
            answer.end(Why.LEFT)

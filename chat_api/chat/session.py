"""One visitor's socket after the handshake: takes frames, and passes on one answer at a time."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from uuid import UUID, uuid4

import structlog
from sqlalchemy.exc import SQLAlchemyError

from chat_api.auth import Principal, require
from chat_api.chat.answers import Answers
from chat_api.chat.bot import Bot
from chat_api.chat.client_frames import (
    Ask,
    Auth,
    BadFrame,
    Busy,
    CannotResume,
    ClientFrame,
    Feedback,
    Ping,
    Resume,
    Stop,
    parse_frame,
)
from chat_api.chat.error_frames import error_of
from chat_api.chat.live import LiveAnswer
from chat_api.chat.origins import check_token_origin
from chat_api.chat.record import keep_feedback
from chat_api.chat.services import ChatServices
from chat_api.chat.sockets import FrameRate, Over
from chat_api.chat.stream import ClientGoneError, SlowReaderError, Wire
from chat_api.core.errors import ServiceError
from chat_api.core.refusals import ForbiddenBot, ForbiddenOrigin, MissingScope, Unauthenticated

SAME_PERSON = ("sub", "org_id", "bot_id")
log = structlog.get_logger(__name__)


class Session:
    """A visitor's connection to a bot. `over` is done, with the reason, when the service wants to end it."""

    def __init__(
        self,
        services: ChatServices,
        answers: Answers,
        bot: Bot,
        principal: Principal,
        wire: Wire,
        verify: Callable[[str], Principal],
        *,
        origin: str | None = None,
        address: str | None = None,
    ) -> None:
        """`origin`: the handshake's. `address`: the client's, by which its messages are counted too."""
        self._services, self._answers, self._bot = services, answers, bot
        self._accept_token(principal)
        self._wire, self._verify = wire, verify
        self._origin, self._address = origin, address
        self._conversation_id = uuid4()
        self._last_read: UUID | None = None
        """The conversation of the answer that was read last; None on a connection that has read none."""
        self._rate = FrameRate()
        self._answer: LiveAnswer | None = None
        self._passing_on: asyncio.Task[None] | None = None
        self._draining = False
        self.over: asyncio.Future[Over] = asyncio.get_running_loop().create_future()

    def seconds_left(self) -> float:
        """Until the token expires; one that was taken in its leeway lasts to that one's end."""
        return (self._ends_at - datetime.now(UTC)).total_seconds()

    def _accept_token(self, principal: Principal) -> None:
        self._principal = principal
        self._ends_at = principal.ends_at(datetime.now(UTC))

    async def greet(self) -> None:
        """Sends `ready`."""
        config = self._bot.config
        about = {
            "name": self._bot.name,
            "welcome_message": config.welcome_message,
            "sample_questions": list(config.sample_questions),
            "disclaimer": config.disclaimer,
        }
        await self._wire.send(
            {
                "type": "ready",
                "bot": about,
                "conversation_id": str(self._conversation_id),
                "expires_at": self._principal.expires_at.isoformat(),
            }
        )

    async def take(self, text: str) -> None:
        """Does what a frame asks for.

        Raises Unauthenticated, MissingScope, ForbiddenBot, ForbiddenOrigin, TooManyFrames to end the socket.
        """
        ask_id: str | None = None
        self._rate.take()
        try:
            frame = parse_frame(text)
            ask_id = frame.id if isinstance(frame, Ask | Stop | Resume) else None
            await self._act(frame)
        except (Unauthenticated, MissingScope, ForbiddenBot, ForbiddenOrigin):
            raise
        except BadFrame as error:
            await self._tell(error, error.ask_id or ask_id)
        except ServiceError as error:
            await self._tell(error, ask_id)
        except (SQLAlchemyError, TimeoutError) as error:
            log.warning("frame_without_database", error=type(error).__name__)
            await self._tell(ServiceError(), ask_id)

    async def refuse(self, error: BadFrame) -> None:
        """Counts a frame that is none of chat.v1's whatever it holds, and says so. Raises TooManyFrames."""
        self._rate.take()
        await self._tell(error, None)

    def drain(self) -> None:
        """Ends the socket as soon as no answer is passed on."""
        self._draining = True
        if self._answer is None:
            self._end(Over.RESTARTING)

    async def end(self) -> None:
        """Leaves the answer under way, which goes on for a while in case its visitor comes back."""
        if self._passing_on:
            self._passing_on.cancel()
            await asyncio.wait([self._passing_on])

    def _end(self, reason: Over) -> None:
        if not self.over.done():
            self.over.set_result(reason)

    async def _act(self, frame: ClientFrame) -> None:
        match frame:
            case Ask():
                await self._ask(frame)
            case Stop():
                self._stop(frame.id)
            case Resume():
                await self._resume(frame)
            case Feedback():
                await self._feedback(frame)
            case Ping():
                await self._wire.send({"type": "pong"})
            case Auth():
                await self._renew(frame.token)

    async def _renew(self, token: str) -> None:
        renewed = self._verify(token)
        require(renewed, "chat")
        check_token_origin(self._origin, renewed.origins)
        if any(getattr(renewed, name) != getattr(self._principal, name) for name in SAME_PERSON):
            raise ForbiddenBot
        self._accept_token(renewed)
        await self.greet()

    async def _ask(self, ask: Ask) -> None:
        conversation_id = ask.conversation_id or self._conversation_id
        if self._passes_on(conversation_id, ask.id):
            return
        await self._make_ready()
        await self._services.rates.take(self._bot, self._principal.sub, self._address)
        self._pass_on(self._answers.ask(self._bot, self._principal.sub, ask, conversation_id), 0)

    async def _resume(self, wanted: Resume) -> None:
        if not self._passes_on(wanted.conversation_id, wanted.id):
            await self._make_ready()
        answer = await self._answers.resume(self._bot, self._principal.sub, wanted)
        await self.end()
        self._pass_on(answer, wanted.after)

    def _passes_on(self, conversation_id: UUID, ask_id: str) -> bool:
        key = self._answer.key if self._answer else None
        return key is not None and (key.conversation_id, key.ask_id) == (conversation_id, ask_id)

    def _stop(self, ask_id: str) -> None:
        if self._answer and self._answer.key.ask_id == ask_id:
            self._answers.stop(self._answer)
        else:
            # Other tabs may have given the same id: only who has just come back is taken to mean any conversation.
            self._answers.stop_unseen(self._bot, self._principal.sub, ask_id, self._last_read)

    async def _make_ready(self) -> None:
        """Sees that there may be another answer, from the bot as it is now. Raises Busy, ForbiddenBot."""
        if self._answer:
            raise Busy
        bot = await self._services.bots.get(self._bot.org_id, self._bot.bot_id)
        if bot is None:
            raise ForbiddenBot
        self._bot = bot

    def _pass_on(self, answer: LiveAnswer, after: int) -> None:
        self._answer, self._last_read = answer, answer.key.conversation_id
        self._passing_on = asyncio.create_task(self._send_frames(answer, after))

    async def _send_frames(self, answer: LiveAnswer, after: int) -> None:
        try:
            with answer.followed(after) as frames:
                async for frame in frames:
                    await self._wire.send_text(frame)
            if answer.finished and len(answer.stream.frames) <= after:
                # It ended before what the visitor has of an earlier beginning: asked again, it is told whole.
                await self._tell(CannotResume(), answer.key.ask_id)
        except SlowReaderError:
            answer.cut()
            self._end(Over.SLOW)
        except ClientGoneError:
            return
        except Exception:  # the edge of a socket: its visitor is not left to wait, and comes back for the rest
            log.exception("frame_not_sent")
            self._end(Over.RESTARTING)
        finally:
            self._answer = None
        if self._draining or not answer.finished:
            # What was not finished here is gone on with elsewhere.
            self._end(Over.RESTARTING)

    async def _tell(self, error: ServiceError, ask_id: str | None) -> None:
        await self._wire.send(error_of(error, ask_id))

    async def _feedback(self, frame: Feedback) -> None:
        async with self._services.engines.tenant(self._bot.org_id) as connection:
            known = await keep_feedback(
                connection, self._bot, self._principal.sub, frame.message_id, frame.value, frame.comment
            )
        if not known:
            raise BadFrame("There is no answer of yours with this message_id.")

"""One visitor's socket after the handshake: takes frames, and answers one question at a time."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import structlog
from sqlalchemy.exc import SQLAlchemyError

from chat_api.auth import LEEWAY_S, Principal, require
from chat_api.chat.bot import Bot
from chat_api.chat.messages import (
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
    error_frame,
    parse_frame,
)
from chat_api.chat.record import keep_feedback
from chat_api.chat.stream import AnswerStream, SlowReaderError, Wire
from chat_api.chat.turn import ChatServices, Turn
from chat_api.core.errors import (
    EmbeddingRejected,
    EmbeddingUnavailable,
    ForbiddenBot,
    MissingScope,
    ProviderRejected,
    ProviderUnavailable,
    QuotaExceeded,
    RequestError,
    ServiceError,
    Unauthenticated,
    UnknownResource,
)

END_WITHIN_S = 15.0
SAME_PERSON = ("sub", "org_id", "bot_id")
log = structlog.get_logger(__name__)


class Session:
    """A visitor's connection to a bot. `broken` is done when the visitor does not read what is sent."""

    def __init__(
        self,
        services: ChatServices,
        bot: Bot,
        principal: Principal,
        wire: Wire,
        verify: Callable[[str], Principal],
        *,
        address: str | None = None,
    ) -> None:
        """`address`: the client's, by which its messages are counted too."""
        self._services, self._bot = services, bot
        self._hold(principal)
        self._wire, self._verify, self._address = wire, verify, address
        self._conversation_id = uuid4()
        self._answer: asyncio.Task[None] | None = None
        self._ask_id: str | None = None
        self._gone = False
        self.broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def seconds_left(self) -> float:
        """Until the token expires; one that was taken in its leeway lasts to that one's end."""
        return (self._ends_at - datetime.now(UTC)).total_seconds()

    def _hold(self, principal: Principal) -> None:
        self._principal = principal
        in_leeway = principal.expires_at <= datetime.now(UTC)
        self._ends_at = principal.expires_at + timedelta(seconds=LEEWAY_S if in_leeway else 0)

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
        """Does what a frame asks for. Raises Unauthenticated, MissingScope or ForbiddenBot when the socket must end."""
        ask_id: str | None = None
        try:
            frame = parse_frame(text)
            ask_id = frame.id if isinstance(frame, Ask | Stop | Resume) else None
            await self._act(frame)
        except (Unauthenticated, MissingScope, ForbiddenBot):
            raise
        except BadFrame as error:
            await self._tell(error, error.ask_id or ask_id)
        except ServiceError as error:
            await self._tell(error, ask_id)
        except SQLAlchemyError as error:
            log.warning("frame_without_database", error=type(error).__name__)
            await self._tell(ServiceError(), ask_id)

    async def end(self) -> None:
        """Ends the answer under way, and the model's work on it, without telling the visitor; it is recorded."""
        self._gone = True
        if self._answer and not self._answer.done():
            self._answer.cancel()
            await asyncio.wait([self._answer], timeout=END_WITHIN_S)

    async def _act(self, frame: ClientFrame) -> None:
        match frame:
            case Ask():
                await self._ask(frame)
            case Stop():
                if frame.id == self._ask_id and self._answer and not self._answer.done():
                    self._answer.cancel()
            case Resume():
                raise CannotResume
            case Feedback():
                await self._feedback(frame)
            case Ping():
                await self._wire.send({"type": "pong"})
            case Auth():
                await self._renew(frame.token)

    async def _renew(self, token: str) -> None:
        renewed = self._verify(token)
        require(renewed, "chat")
        if any(getattr(renewed, name) != getattr(self._principal, name) for name in SAME_PERSON):
            raise ForbiddenBot
        self._hold(renewed)
        await self.greet()

    async def _ask(self, ask: Ask) -> None:
        if self._answer and not self._answer.done():
            raise Busy
        bot = await self._services.bots.get(self._bot.org_id, self._bot.bot_id)
        if bot is None:
            raise ForbiddenBot
        self._bot = bot
        await self._services.rates.take(bot, self._principal.sub, self._address)
        conversation_id = ask.conversation_id or self._conversation_id
        turn = Turn(self._services, bot, self._principal.sub, ask, conversation_id)
        self._ask_id = ask.id
        self._answer = asyncio.create_task(self._run(turn, AnswerStream(self._wire, ask.id)))

    async def _run(self, turn: Turn, stream: AnswerStream) -> None:
        try:
            await self._finish(turn, stream)
        except SlowReaderError:
            await turn.stopped(None)
            if not self.broken.done():
                self.broken.set_result(None)

    async def _finish(self, turn: Turn, stream: AnswerStream) -> None:
        ask_id = turn.record.ask_id
        try:
            await turn.run(stream)
        except asyncio.CancelledError:
            # By the visitor's `stop`, who is told; or by the end of the socket, when nobody is left to tell.
            if task := asyncio.current_task():
                task.uncancel()
            await turn.stopped(None if self._gone else stream)
        except UnknownResource as error:
            await self._tell(BadFrame(error.message), ask_id)
        except ServiceError as error:
            log.warning("turn_failed", code=error.code, message=error.message)
            await turn.failed(error.code)
            await self._tell(error, ask_id)
        except SlowReaderError:
            raise
        except Exception:  # the edge of a turn: the visitor is told, and the socket lives on
            log.exception("turn_broke")
            await turn.failed(ServiceError.code)
            await self._tell(ServiceError(), ask_id)

    async def _tell(self, error: ServiceError, ask_id: str | None) -> None:
        shown = for_visitors(error)
        await self._wire.send(error_frame(shown.code, shown.message, ask_id, error.retry_after))

    async def _feedback(self, frame: Feedback) -> None:
        async with self._services.engines.tenant(self._bot.org_id) as connection:
            known = await keep_feedback(
                connection, self._bot, self._principal.sub, frame.message_id, frame.value, frame.comment
            )
        if not known:
            raise BadFrame("There is no answer of yours with this message_id.")


def for_visitors(error: ServiceError) -> ServiceError:
    """The error as a visitor may read it: what is wrong inside stays in the log."""
    match error:
        case RequestError() | ProviderUnavailable() | ProviderRejected():
            return error
        case EmbeddingUnavailable():
            return ProviderUnavailable()
        case EmbeddingRejected() | QuotaExceeded():
            return ProviderRejected()
    return ServiceError()

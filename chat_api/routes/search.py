"""A bot's passages for a question, with how each was found and why an answer would, or would not, be made from it."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, BackgroundTasks, Depends, Request
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from chat_api.auth import Principal
from chat_api.chat.access import admit_visitor, bot_asked_for
from chat_api.chat.bot import Bot
from chat_api.chat.budget import Allowance, BudgetExhausted, Step
from chat_api.chat.choose import Choice, Reason
from chat_api.chat.client_frames import Storable
from chat_api.chat.error_frames import for_visitors
from chat_api.chat.find import Timings
from chat_api.chat.prompt import PastTurn
from chat_api.chat.rewrite import tokens_to_find
from chat_api.chat.services import ChatServices
from chat_api.core.errors import ServiceError
from chat_api.core.refusals import ForbiddenBot, MissingScope, UnknownBot
from chat_api.deps import Allowed, TokenFirst, no_store
from chat_api.errors import PROBLEMS

VISITOR, OWNER = "chat", "training:read"
MOST = 50

router = APIRouter(
    prefix="/api", tags=["search"], responses=PROBLEMS, dependencies=[Depends(no_store)], route_class=TokenFirst
)

Words = Annotated[str, StringConstraints(strip_whitespace=True, max_length=4_000), Storable]


class Earlier(BaseModel):
    """What was asked and answered before."""

    question: Words
    answer: Words = ""


class SearchRequest(BaseModel):
    """A question to a bot, and how many passages are wanted."""

    model_config = ConfigDict(extra="forbid")

    bot_id: UUID
    query: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=4_000), Storable]
    k: int = Field(10, strict=True, ge=1, le=MOST)
    history: list[Earlier] = Field(
        [], max_length=10, description="What came before, oldest first: the query may follow it"
    )


class FoundPassage(BaseModel):
    """A passage. `score` is on the scale of the bot's threshold; the ranks count from 1, null where it is not among them."""

    chunk_id: UUID
    document_id: UUID
    source_id: UUID
    title: str
    url: str | None
    page: int | None
    heading: str
    text: str
    score: float
    vector_rank: int | None = Field(description="Its place by similarity")
    lexical_rank: int | None = Field(description="Its place by the question's words")
    taken: bool = Field(description="Whether an answer would be made from it")
    reason: Reason


class SearchAnswer(BaseModel):
    """The passages, best first."""

    passages: list[FoundPassage]


def _require_searcher(principal: Principal) -> None:
    """Raises MissingScope, and ForbiddenBot for a visitor's token without a bot."""
    if not principal.scopes & {VISITOR, OWNER}:
        raise MissingScope
    if OWNER not in principal.scopes and principal.bot_id is None:
        raise ForbiddenBot


@router.post("/search")
async def search(
    body: SearchRequest,
    request: Request,
    principal: Annotated[Principal, Depends(Allowed(_require_searcher))],
    after: BackgroundTasks,
) -> SearchAnswer:
    """Searches as for a question in the chat. The threshold cuts nothing here, it decides `taken`."""
    services: ChatServices = request.app.state.chat
    bot = await bot_asked_for(services.bots, principal, body.bot_id)
    if bot is None:
        raise UnknownBot
    _admit(request, principal, bot)
    await services.rates.take(bot, principal.sub, request.client.host if request.client else None)
    allowance = Allowance()
    history = [PastTurn(earlier.question, earlier.answer) for earlier in body.history]
    await services.budgets.reserve(bot, tokens_to_find(body.query, history), allowance)
    if allowance.step is Step.FREE_ONLY:
        raise BudgetExhausted(retry_after=allowance.retry_after)
    finder = services.finder(bot, Timings())
    try:
        choices = await finder.look(services.answerer, body.query, history, k=body.k)
    except BaseException as error:
        await services.budgets.settle(bot, allowance, finder.uses)
        if isinstance(error, ServiceError) and OWNER not in principal.scopes:
            raise for_visitors(error) from error
        raise
    after.add_task(services.budgets.settle, bot, allowance, finder.uses)
    return SearchAnswer(passages=[_shown(choice) for choice in choices])


def _admit(request: Request, principal: Principal, bot: Bot) -> None:
    """Raises ForbiddenOrigin for a visitor's page, as the socket does; an owner's may be any."""
    if OWNER not in principal.scopes:
        production = request.app.state.settings.in_production
        admit_visitor(request.headers.get("origin"), principal, bot, production=production)


def _shown(choice: Choice) -> FoundPassage:
    found, passage = choice.found, choice.found.passage
    return FoundPassage(
        chunk_id=passage.chunk_id,
        document_id=passage.document_id,
        source_id=passage.source_id,
        title=passage.title,
        url=passage.url,
        page=passage.page,
        heading=passage.heading,
        text=passage.text,
        score=round(passage.score, 4),
        vector_rank=found.vector_rank,
        lexical_rank=found.lexical_rank,
        taken=choice.taken,
        reason=choice.reason,
    )

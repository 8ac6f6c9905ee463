"""Whose conversations a token may see: a visitor their own, the owner a whole bot's; and from which web pages."""

from dataclasses import dataclass
from uuid import UUID

from chat_api.auth import Principal, require, require_bot
from chat_api.chat.bot import Bot, Bots
from chat_api.chat.origins import among, check_origin
from chat_api.core.refusals import ForbiddenBot, MissingScope, UnknownBot

READ = "conversations:read"


@dataclass(frozen=True, slots=True)
class View:
    """Which of an org's conversations are seen: of one bot or (None) all, of one visitor or (None) all."""

    org_id: UUID
    bot_id: UUID | None
    visitor: str | None

    @property
    def values(self) -> dict[str, UUID | str | None]:
        """What its statements bind."""
        return {"org_id": self.org_id, "bot_id": self.bot_id, "visitor": self.visitor}


async def bot_asked_for(bots: Bots, principal: Principal, bot_id: UUID | None) -> Bot | None:
    """The bot that a request names, else the token's; None when neither names one.

    Raises UnknownBot for one that the org does not have, ForbiddenBot for another than the token's and when the token's
    own is gone.
    """
    wanted = bot_id or principal.bot_id
    if wanted is None:
        return None
    bot = await bots.get(principal.org_id, wanted)
    if bot is None:
        raise UnknownBot if bot_id else ForbiddenBot
    require_bot(principal, wanted)
    return bot


def view_of(principal: Principal, bot: Bot | None, *, bot_named: bool) -> View:
    """What the token may see. A visitor's token that may read all as well shows all when the request names the bot.

    Raises MissingScope, and ForbiddenBot for a visitor's token without a bot.
    """
    owner = READ in principal.scopes and (bot_named or principal.bot_id is None or "chat" not in principal.scopes)
    if owner:
        return View(principal.org_id, bot.bot_id if bot else None, None)
    require(principal, "chat")
    if principal.bot_id is None:
        raise ForbiddenBot
    return View(principal.org_id, principal.bot_id, principal.sub)


def require_reader(principal: Principal) -> None:
    """Raises MissingScope unless the token may see some conversations."""
    if not principal.scopes & {READ, "chat"}:
        raise MissingScope


async def admitted_bot(bots: Bots, principal: Principal, origin: str | None, *, production: bool) -> Bot:
    """The bot of a visitor's token, for a page that it allows. Raises ForbiddenBot, ForbiddenOrigin."""
    bot = await bots.get(principal.org_id, principal.bot_id) if principal.bot_id else None
    if bot is None:
        raise ForbiddenBot
    check_origin(origin, bot.allowed_origins, principal.origins, production=production)
    return bot


def admit_visitor(origin: str | None, principal: Principal, bot: Bot, *, production: bool) -> str | None:
    """The origin whose page may read the answer to a visitor. Raises ForbiddenOrigin, as the socket's handshake does."""
    check_origin(origin, bot.allowed_origins, principal.origins, production=production)
    return origin


def admit_owner(origin: str | None, bot: Bot | None, *, production: bool) -> str | None:
    """The origin whose page may read the answer to an owner; None for a page that is not the bot's.

    No page is refused: the dashboard may hand on its browser's origin.
    """
    if origin is None or bot is None:
        return None
    by_bot = among(origin, bot.allowed_origins) if bot.allowed_origins else not production
    return origin if by_bot else None

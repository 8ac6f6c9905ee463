"""What turns of chat stand on."""

from dataclasses import dataclass

from chat_api.chat.answer import Answerer
from chat_api.chat.bot import Bot, Bots
from chat_api.chat.budget import Budgets
from chat_api.chat.cache import AnswerCache
from chat_api.chat.find import Finder, SearchServices, Timings
from chat_api.chat.lexical import Lexical
from chat_api.chat.limits import MessageRates
from chat_api.core.database import AsyncEngines
from chat_api.core.embeddings import Embedders


@dataclass(frozen=True, slots=True)
class ChatServices:
    """One for the whole process."""

    engines: AsyncEngines
    embedders: Embedders
    answerer: Answerer
    bots: Bots
    budgets: Budgets
    cache: AnswerCache
    rates: MessageRates
    lexical: Lexical
    passage_tokens: int
    """How many tokens of passages an answer is made from."""
    patience_s: float = 60
    """How long the embedding of a question is waited for."""

    def finder(self, bot: Bot, timings: Timings) -> Finder:
        """What finds one turn's passages."""
        sources = SearchServices(
            self.bots, self.embedders, self.engines, self.lexical, self.passage_tokens, self.patience_s
        )
        return Finder(bot, timings, sources)

"""Whether a new generation may go live: not when test questions that its source answers now would lose their answer."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import urldefrag
from uuid import UUID

from sqlalchemy import text

from chat_api.core.bot_config import BotConfig, OwnersQuestion, parse_config
from chat_api.core.errors import QuestionsLost
from chat_api.core.models.dashboard import DashboardBot
from workers.gate.search import Passage, Search, key_of
from workers.gate.vectors import QuestionVectors, question_vectors
from workers.learn import Stages
from workers.receipt import Receipt
from workers.store.rows import Build
from workers.store.usage import add_usage

ASKED_WITHIN_S = 60.0
"""How long a generation's questions are asked; what there is no time for holds nothing back."""
NAMED, NAMED_CHARS = 5, 80

# Canonical addresses, and those that pages were read at, of this source's two generations.
AT_ADDRESSES = text("""
    WITH wanted AS (
        SELECT generation FROM generations
        WHERE org_id = :org_id AND bot_id = :bot_id AND source_id = :source_id
          AND (generation = :generation OR state = 'live')
    )
    SELECT url, document_id FROM documents
    WHERE org_id = :org_id AND bot_id = :bot_id AND source_id = :source_id
      AND generation IN (SELECT generation FROM wanted) AND url = ANY (CAST(:urls AS text[]))
    UNION
    SELECT url, document_id FROM pages
    WHERE org_id = :org_id AND bot_id = :bot_id AND source_id = :source_id AND document_id IS NOT NULL
      AND generation IN (SELECT generation FROM wanted) AND url = ANY (CAST(:urls AS text[]))
""")


@dataclass(frozen=True, slots=True)
class _Question:
    """A test question that concerns a source; `documents` are those of the source that may answer, None if all may."""

    owners: OwnersQuestion
    source_id: UUID
    documents: frozenset[UUID] | None = None

    @property
    def text(self) -> str:
        return self.owners.question

    def passes(self, passages: Sequence[Passage], threshold: float) -> bool:
        """Whether what is expected is among the passages above the threshold; where nothing is, whether there are none."""
        worth = [passage for passage in passages if passage.score >= threshold]
        return any(map(self._expects, worth)) if self.owners.answerable else not worth

    def _expects(self, passage: Passage) -> bool:
        if passage.place.source_id == self.source_id:
            return self.documents is None or passage.document_id in self.documents
        return bool(self.owners.url and passage.url and set(_spellings(passage.url)) & set(_spellings(self.owners.url)))

    def failing(self) -> str:
        """What the owner is told of it when it fails."""
        if not self.owners.answerable:
            return f"Test question “{self.text}”: passages are found, though nothing should answer it."
        return f"Test question “{self.text}”: what should answer it is not among the best passages."


def lost_questions(
    build: Build, bot: DashboardBot, receipt: Receipt, stages: Stages, check: Callable[[], None]
) -> list[str]:
    """The test questions that pass now and would fail with the build live; the receipt names those that fail without it.

    None where the bot has no questions that concern the source, or the source is not live yet. Raises what `check` and
    the provider raise.
    """
    config, _ = parse_config(bot.config)
    questions = list(_concerning(build, config.test_questions, stages)) if config.test_questions else []
    if not questions:
        return []
    vectors = question_vectors(build, [question.text for question in questions], stages, check)
    _pay(build, vectors, receipt, stages)
    return _judged(build, questions, vectors, config, receipt, stages, check)


def lost_error(lost: Sequence[str]) -> QuestionsLost:
    """Why the generation is held back, with the first of the questions."""
    named = ", ".join(f"“{_short(question)}”" for question in lost[:NAMED])
    more = f" and {len(lost) - NAMED} more" if len(lost) > NAMED else ""
    return QuestionsLost(f"{QuestionsLost.__doc__} {named}{more}.")


def _short(question: str) -> str:
    return question if len(question) <= NAMED_CHARS else f"{question[:NAMED_CHARS]}…"


def _judged(
    build: Build,
    questions: Sequence[_Question],
    vectors: QuestionVectors,
    config: BotConfig,
    receipt: Receipt,
    stages: Stages,
    check: Callable[[], None],
) -> list[str]:
    until, unasked, lost = time.monotonic() + ASKED_WITHIN_S, 0, []
    search = Search.over(build, stages.chat, [question.text for question in questions])
    for question in questions:
        check()
        vector = vectors.by_question.get(question.text)
        if vector is None or time.monotonic() > until:
            unasked += 1
            continue
        answers = search.ask(question.text, vector)
        if question.passes(answers.after, config.similarity_threshold):
            continue
        if search.live and question.passes(answers.before, config.similarity_threshold):
            lost.append(question.text)
        else:
            receipt.warn(question.failing())
    if unasked:
        receipt.warn(f"{unasked} test questions could not be asked: there was no time, or no vector of them.")
    return lost


def _concerning(build: Build, given: Sequence[OwnersQuestion], stages: Stages) -> Iterator[_Question]:
    """Those that expect this source or one of its pages, now or in its new generation; and those that expect nothing."""
    source_id = build.task.source_id
    at = _documents_at(build, [question.url for question in given if question.url], stages)
    for question in given:
        if question.source_id == source_id or not question.answerable:
            yield _Question(question, source_id)
        elif question.url:
            documents = frozenset().union(*(at.get(spelling, ()) for spelling in _spellings(question.url)))
            if documents:
                yield _Question(question, source_id, documents)


def _documents_at(build: Build, urls: Sequence[str], stages: Stages) -> dict[str, set[UUID]]:
    """By address, however it is spelt, the documents that the source has there, now or in its new generation."""
    at: dict[str, set[UUID]] = {}
    if urls:
        values = {**key_of(build), "urls": [spelling for url in urls for spelling in _spellings(url)]}
        with stages.chat.begin() as connection:
            for row in connection.execute(AT_ADDRESSES, values):
                at.setdefault(row.url, set()).add(row.document_id)
    return at


def _spellings(url: str) -> list[str]:
    """An address without its fragment, with and without a slash at its end."""
    plain = urldefrag(url).url.rstrip("/")
    return [plain, f"{plain}/"]


def _pay(build: Build, vectors: QuestionVectors, receipt: Receipt, stages: Stages) -> None:
    """Adds the vectors' cost to the receipt, and to the bot's account."""
    if not vectors.tokens:
        return
    spent, cost = Receipt(), stages.cost(build.space, vectors.tokens)
    spent.embedded(chunks=0, reused=0, tokens=vectors.tokens, cost_microusd=cost)
    receipt.merge(spent)
    with stages.chat.begin() as connection:
        add_usage(connection, [(build, spent)])

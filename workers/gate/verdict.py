"""Whether a new generation may go live: not when test questions that its source answers now would lose their answer."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import urldefrag
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import text

from chat_api.core.bot_config import BotConfig, OwnersQuestion, parse_config
from chat_api.core.errors import QuestionsLost
from chat_api.core.models.dashboard import DashboardBot
from workers.gate.search import Passage, Search, key_of
from workers.gate.vectors import QuestionVectors, question_vectors
from workers.receipt import Receipt
from workers.stages import Stages
from workers.store.rows import Build
from workers.store.usage import add_usage

ASKED_WITHIN_S = 60.0
"""How long a generation's questions are asked; what there is no time for holds nothing back."""
NAMED, NAMED_CHARS = 5, 80

# A chunk's id is made from its document and its text: with the same ids, the same is found.
CHANGE = text("""
    SELECT live_generation IS NOT NULL AS live, EXISTS (
        SELECT FROM (SELECT chunk_id FROM chunks WHERE org_id = :org_id AND bot_id = :bot_id
                         AND source_id = :source_id AND generation = source.live_generation) AS old
        FULL JOIN (SELECT chunk_id FROM chunks WHERE org_id = :org_id AND bot_id = :bot_id
                       AND source_id = :source_id AND generation = :generation) AS new USING (chunk_id)
        WHERE old.chunk_id IS NULL OR new.chunk_id IS NULL
    ) AS changed
    FROM sources AS source
    WHERE org_id = :org_id AND bot_id = :bot_id AND source_id = :source_id AND deleted_at IS NULL
""")
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

    None where the bot has no questions that concern the source, or the source says what it said; and while it says
    nothing yet, none can be lost. Raises what `check` and the provider raise.
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
    return QuestionsLost(f"{QuestionsLost.__doc__} Lost: {named}{more}.")


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
    # Of all questions, so that what is kept of the words is what the bot's next source asks for.
    search = Search.over(build, stages.chat, [owners.question for owners in config.test_questions])
    for question in questions:
        check()
        vector = vectors.by_question.get(question.text)
        if vector is None or time.monotonic() > until:
            unasked += 1
            continue
        before, after = _outcomes(search, question, vector, config.similarity_threshold)
        if before and not after:
            lost.append(question.text)
        elif not after:
            receipt.warn(question.failing())
    if unasked:
        receipt.warn(f"{unasked} test questions could not be asked: there was no time, or no vector of them.")
    return lost


def _outcomes(search: Search, question: _Question, vector: NDArray[np.float32], threshold: float) -> tuple[bool, bool]:
    """Whether the question passes as things are, and with the build live.

    What others say is there before and after. So a question that nothing should answer is lost only by what its source
    says, and where that answers it for the first time, others are asked if they have answered it already.
    """
    if not question.owners.answerable:
        own = search.ask(question.text, vector, alone=True)
        before, after = question.passes(own.before, threshold), question.passes(own.after, threshold)
        if after or not before:
            return before, after
    answers = search.ask(question.text, vector)
    before = bool(search.words.live) and question.passes(answers.before, threshold)
    return before, question.passes(answers.after, threshold)


def _concerning(build: Build, given: Sequence[OwnersQuestion], stages: Stages) -> Iterator[_Question]:
    """Those that expect this source or one of its pages, now or in its new generation; and those that expect nothing.

    None where both generations say the same; and of a source's first one, none that expect nothing: they can't be lost.
    """
    source_id = build.task.source_id
    with stages.chat.begin() as connection:
        change = connection.execute(CHANGE, key_of(build)).one_or_none()
    if change is None or not change.changed:
        return
    at = _documents_at(build, [question.url for question in given if question.url], stages)
    for question in given:
        if question.source_id == source_id or (change.live and not question.answerable):
            yield _Question(question, source_id)
        elif question.url in at:
            yield _Question(question, source_id, at[question.url])


def _documents_at(build: Build, urls: Sequence[str], stages: Stages) -> dict[str, frozenset[UUID]]:
    """By address, the documents that the source has there however it is spelt, now or in its new generation."""
    if not urls:
        return {}
    found: dict[str, set[UUID]] = {}
    values = {**key_of(build), "urls": [spelling for url in urls for spelling in _spellings(url)]}
    with stages.chat.begin() as connection:
        for row in connection.execute(AT_ADDRESSES, values):
            found.setdefault(row.url, set()).add(row.document_id)
    at = {url: frozenset().union(*(found.get(spelling, ()) for spelling in _spellings(url))) for url in urls}
    return {url: documents for url, documents in at.items() if documents}


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

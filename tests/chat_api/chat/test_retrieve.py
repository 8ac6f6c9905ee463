"""Which passages an answer is made from: scores of two legs, what is taken and why not, neighbours."""

from collections.abc import AsyncIterator
from datetime import date
from itertools import pairwise
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_api.chat.choose import PAGE_BONUS, Choice, Wish, choose
from chat_api.chat.neighbours import joined, widened
from chat_api.chat.retrieve import Found, search
from chat_api.core.database import AsyncEngines, async_engines
from chat_api.core.embeddings import LOCAL_SPACE, EmbeddingSpace
from chat_api.core.postings import Hit, Place
from chat_api.core.scores import FOREIGN_LANGUAGE, FOREIGN_SCRIPT, fused, trust_in
from chat_api.core.settings import Settings
from tests.chat_api.chat.passages import passage
from tests.chat_api.chat_world import DIMENSIONS, MODEL, Chat
from tests.provider_model import HashedEmbeddings
from tests.servers import as_api

pytestmark = pytest.mark.anyio
SPACE = EmbeddingSpace(MODEL, DIMENSIONS)
SHIPPING = (
    "We ship every parcel by courier on the day of the order if it comes in before noon and to islands a day later"
)
shares = st.floats(0, 1)


def found(number: int, score: float, text: str | None = None, tokens: int = 100, **changed: object) -> Found:
    """A passage that was found with this score."""
    one = passage(text or f"Text of its own {number}.", chunk_id=UUID(int=number), score=score, **changed)
    return Found(one, 1, number, tokens, number, None)


def wish(question: str = "What?", **changed: object) -> Wish:
    """What is wanted of the passages."""
    values = {"question": question, "k": 3, "threshold": 0.3, "tokens": 1000, "page_url": None}
    return Wish(**{**values, **changed})  # type: ignore[arg-type]


def told(choices: list[Choice]) -> list[tuple[int, str]]:
    """Each passage's number and what became of it."""
    return [(choice.found.passage.chunk_id.int, choice.reason) for choice in choices]


# --- scores -----------------------------------------------------------------------------------------------------------


@given(shares, shares, st.floats(0, 2))
def test_either_leg_raises_a_score_and_none_lowers_it(similarity: float, more: float, coverage: float) -> None:
    assert similarity - 1e-9 <= fused(similarity, coverage) <= 1
    assert fused(min(similarity, more), coverage) <= fused(max(similarity, more), coverage) + 1e-9


def test_words_alone_find_a_code_and_common_ones_do_not() -> None:
    scores = [fused(0.0, share / 10) for share in range(11)]
    assert all(one < two for one, two in pairwise(scores))
    assert scores[3] < 0.3 < scores[6], "up to 0.3 is what passages beside the question have"  # a range


@pytest.mark.parametrize(
    ("question", "space", "trust"),
    [
        ("What does it cost?", LOCAL_SPACE, 1),
        ("Was kostet das für Österreich?", LOCAL_SPACE, FOREIGN_LANGUAGE),
        ("Was kostet das für Österreich?", SPACE, 1),
        ("Сколько это стоит?", LOCAL_SPACE, FOREIGN_SCRIPT),
        ("كم يكلف OK-6407؟", LOCAL_SPACE, FOREIGN_SCRIPT),
        ("配送多少钱？", LOCAL_SPACE, FOREIGN_SCRIPT),
        ("配送多少钱？", SPACE, 1),
        ("4545?", LOCAL_SPACE, 1),
    ],
)
def test_an_english_model_is_not_believed_where_it_can_not_read(
    question: str, space: EmbeddingSpace, trust: float
) -> None:
    assert trust_in(space, question) == trust


# --- what is taken ----------------------------------------------------------------------------------------------------


def test_each_passage_gets_its_reason() -> None:
    given_ = [
        found(1, 0.9, SHIPPING),
        found(2, 0.8, f"{SHIPPING}."),
        found(3, 0.7, tokens=950),
        found(4, 0.6),
        found(5, 0.5),
        found(6, 0.4),
        found(7, 0.2),
    ]
    assert told(choose(given_[::-1], wish())) == [
        (1, "taken"), (2, "duplicate"), (3, "over_token_budget"), (4, "taken"), (5, "taken"), (6, "beyond_k"),
        (7, "below_threshold"),
    ]  # fmt: skip


def test_the_best_passage_is_taken_whatever_its_size() -> None:
    assert told(choose([found(1, 0.9, tokens=5000), found(2, 0.8)], wish())) == [
        (1, "taken"),
        (2, "over_token_budget"),
    ]


@pytest.mark.parametrize(
    ("one", "other", "question", "reason"),
    [
        (SHIPPING, SHIPPING, "Shipping?", "duplicate"),
        (SHIPPING, f"{SHIPPING} again", "Shipping?", "duplicate"),
        (f"{SHIPPING} for 9 pounds", f"{SHIPPING} for 8 pounds", "Shipping?", "taken"),
        (f"{SHIPPING} Heron", f"{SHIPPING} Osprey", "How is the osprey shipped?", "taken"),
        (SHIPPING, "Something else entirely, of which nothing was said before", "Shipping?", "taken"),
        ("Yes", "Yes", "Shipping?", "duplicate"),
    ],
)
def test_only_what_says_the_same_is_folded(one: str, other: str, question: str, reason: str) -> None:
    assert told(choose([found(1, 0.9, one), found(2, 0.8, other)], wish(question))) == [(1, "taken"), (2, reason)]


def test_the_same_text_under_the_title_that_was_asked_for_stays() -> None:
    both = [found(1, 0.9, SHIPPING, title="Heron"), found(2, 0.8, SHIPPING, title="Osprey")]
    assert told(choose(both, wish("osprey shipping")))[1] == (2, "taken")
    assert told(choose(both, wish("shipping")))[1] == (2, "duplicate")


def test_the_owners_answer_to_this_very_question_wins() -> None:
    pair = found(2, 0.1, heading="FAQ › Can I  pay by card?")
    [first, _] = choose([found(1, 0.9), pair], wish("can I pay by card"))
    assert (first.found.passage.chunk_id.int, first.found.score, first.reason) == (2, 1.0, "taken")


@pytest.mark.parametrize(
    ("url", "page_url", "preferred"),
    [
        ("https://shop.test/kiln", "https://shop.test/kiln?utm_source=x#top", True),
        ("https://shop.test/kiln/", "http://SHOP.test/kiln", True),
        ("https://shop.test/kiln?id=1", "https://shop.test/kiln?id=2", False),
        ("https://shop.test/kiln", "https://other.test/kiln", False),
        ("https://shop.test/kiln", "https://[", False),
        (None, "https://shop.test/kiln", False),
    ],
)
def test_the_visitors_page_is_preferred_among_what_is_relevant(url: str | None, page_url: str, preferred: bool) -> None:
    here, other, beside = found(1, 0.5, url=url), found(2, 0.52), found(3, 0.28, url=url)
    choices = choose([here, other, beside], wish(page_url=page_url))
    assert [choice.found.passage.chunk_id.int for choice in choices] == ([1, 2, 3] if preferred else [2, 1, 3])
    assert choices[-1].reason == "below_threshold", "what is beside the question stays so"
    assert max(choice.found.score for choice in choices) == pytest.approx(0.5 + PAGE_BONUS if preferred else 0.52)


# --- neighbours -------------------------------------------------------------------------------------------------------


@given(st.text(max_size=50), st.text(min_size=20, max_size=60), st.text(max_size=50))
def test_joined_chunks_say_nothing_twice(before: str, both: str, behind: str) -> None:
    whole = joined(before + both, both + behind)
    assert whole.startswith(before + both)
    assert whole.endswith(behind)
    assert len(whole) <= len(before + both + behind)


@pytest.fixture
def anyio_backend() -> str:
    """What the application runs on."""
    return "asyncio"


@pytest.fixture
async def engines(chat_settings: Settings) -> AsyncIterator[AsyncEngines]:
    """The API's, with its own login."""
    async with async_engines(as_api(chat_settings)) as engines:
        yield engines


async def test_the_best_passages_get_their_neighbours(chat: Chat, engines: AsyncEngines) -> None:
    bot = chat.add_bot("First of all.", "Boil the water.", "Then pour it.", "Last of all.")
    [vector] = HashedEmbeddings().embed(["Boil the water."], DIMENSIONS)
    first, *_ = await search(engines, bot.org_id, bot.bot_id, SPACE, vector, 4)
    wide = await widened(engines, bot.org_id, bot.bot_id, [first], 100)
    narrow = await widened(engines, bot.org_id, bot.bot_id, [first], first.tokens + 9)
    none = await widened(engines, bot.org_id, bot.bot_id, [first], first.tokens)
    assert [one.text for one in wide] == ["First of all.\n\nBoil the water.\n\nThen pour it."]
    assert [one.text for one in narrow] == ["Boil the water.\n\nThen pour it."], "what follows comes first"
    assert none == [first.passage]
    source = wide[0].as_source(1)
    assert source["snippet"] == "Boil the water.", "the citation is of the chunk itself"


@pytest.mark.parametrize(
    ("published", "modified", "dated"),
    [
        ("2019-01-02", None, date(2019, 1, 2)),
        ("2019-01-02", "2024-05-06", date(2024, 5, 6)),
        ("2024-05-06", "2019-01-02", date(2024, 5, 6)),
        (None, None, None),
    ],
)
async def test_a_passage_is_of_the_newer_of_its_documents_days(
    chat: Chat, engines: AsyncEngines, published: str | None, modified: str | None, dated: date | None
) -> None:
    bot = chat.add_bot("Boil the water.")
    chat.rows(
        "UPDATE documents SET published_on = %s, modified_on = %s WHERE bot_id = %s", published, modified, bot.bot_id
    )
    [vector] = HashedEmbeddings().embed(["Boil the water."], DIMENSIONS)
    [only] = await search(engines, bot.org_id, bot.bot_id, SPACE, vector, 4)
    assert only.passage.dated == dated


async def test_another_sections_chunk_is_no_neighbour(chat: Chat, engines: AsyncEngines) -> None:
    bot = chat.add_bot("First of all.", "Boil the water.", "Then pour it.")
    chat.rows("UPDATE chunks SET heading = 'Heading › Part' WHERE text LIKE 'First%%' AND bot_id = %s", bot.bot_id)
    chat.rows("UPDATE chunks SET heading = 'Headings' WHERE text LIKE 'Then%%' AND bot_id = %s", bot.bot_id)
    [vector] = HashedEmbeddings().embed(["Boil the water."], DIMENSIONS)
    first, *_ = await search(engines, bot.org_id, bot.bot_id, SPACE, vector, 4)
    [wide] = await widened(engines, bot.org_id, bot.bot_id, [first], 100)
    assert wide.text == "First of all.\n\nBoil the water."


@pytest.mark.parametrize(
    ("headings", "expected"),
    [
        (("Tea", "Tea › Ice", "Tea", "Tea › Hot", "Tea › Hot"), "For orders. […] On tea. Boil the water. Pour it."),
        (("Tea", "Tea › Ice", "Other", "Tea › Hot", "Other"), "For orders. […] Boil the water."),
        (("Other", "Tea", "Tea › Hot", "Tea › Hot", "Other"), "Cold drinks. On tea. Boil the water."),
        (("Tea › A", "Tea", "Tea › Ice", "Tea › Hot", "Other"), "Boil the water."),
        (("Other", "Other", "Other", "Hot", "Other"), "Boil the water."),
    ],
    ids=["before a neighbour", "far off", "adjoining", "siblings joined in the middle", "of no section"],
)
async def test_a_passage_gets_the_beginning_of_the_section_that_its_own_is_a_part_of(
    chat: Chat, engines: AsyncEngines, headings: tuple[str, ...], expected: str
) -> None:
    texts = ("For orders.", "Cold drinks.", "On tea.", "Boil the water.", "Pour it.")
    bot = chat.add_bot(*texts)
    for said, heading in zip(texts, headings, strict=True):
        chat.rows("UPDATE chunks SET heading = %s WHERE text = %s AND bot_id = %s", heading, said, bot.bot_id)
    [vector] = HashedEmbeddings().embed(["Boil the water."], DIMENSIONS)
    first, *_ = await search(engines, bot.org_id, bot.bot_id, SPACE, vector, 5)
    [wide] = await widened(engines, bot.org_id, bot.bot_id, [first], 100)
    assert " ".join(wide.text.split()) == expected
    assert wide.as_source(1)["snippet"] == "Boil the water."
    assert await widened(engines, bot.org_id, bot.bot_id, [first], first.tokens + 1) == [first.passage]


def kept_beside(chat: Chat, source_id: UUID) -> int:
    """Makes a second generation of the source, as the live one and beside it; its number."""
    rows = {
        "generations": "state, space_id, job_id, source_version",
        "documents": "document_id, url, title, media_type, text_sha256",
        "chunks": "chunk_id, document_id, ordinal, heading, page, text, tokens, embedded_sha256",
        "embeddings": "chunk_id, space_id, vector",
    }
    for table, columns in rows.items():
        copied = columns.replace("state", "'kept'")
        chat.rows(
            f"INSERT INTO {table} (org_id, bot_id, source_id, generation, {columns})"
            f" SELECT org_id, bot_id, source_id, 2, {copied} FROM {table} WHERE source_id = %s",
            source_id,
        )
    return 2


async def test_the_nearest_are_of_all_that_is_live_and_of_nothing_else(chat: Chat, engines: AsyncEngines) -> None:
    bot = chat.add_bot("The kettle boils.", "Water is poured.", "A cup of tea.")
    chat.add_bot("The kettle is another bot's.", org_id=bot.org_id)
    deleted = chat.teach(bot, ["The kettle is deleted."])
    chat.rows("UPDATE sources SET deleted_at = now() WHERE source_id = %s", deleted)
    again = chat.teach(bot, ["The kettle was red.", "The kettle is blue."])
    live = kept_beside(chat, again)
    chat.rows("UPDATE sources SET live_generation = %s WHERE source_id = %s", live, again)
    for table, chosen in (
        ("embeddings", "chunk_id IN (SELECT chunk_id FROM chunks WHERE text LIKE '%%red.')"),
        ("chunks", "text LIKE '%%red.'"),
    ):
        chat.rows(f"DELETE FROM {table} WHERE source_id = %s AND generation = %s AND {chosen}", again, live)
    known = ["The kettle boils.", "Water is poured.", "A cup of tea.", "The kettle is blue."]
    [asked, *vectors] = HashedEmbeddings().embed(["The kettle", *known], DIMENSIONS)
    nearest = [text for _, text in sorted(zip([-float(one @ asked) for one in vectors], known, strict=True))]

    all_of_it = await search(engines, bot.org_id, bot.bot_id, SPACE, asked, 10)
    two = await search(engines, bot.org_id, bot.bot_id, SPACE, asked, 2)
    by_rank = sorted(all_of_it, key=lambda one: one.vector_rank or 0)
    assert [(one.passage.text, one.vector_rank) for one in by_rank] == list(zip(nearest, range(1, 5), strict=True))
    assert {one.passage.text for one in two} == set(nearest[:2])


async def test_what_words_have_found_gets_its_similarity(chat: Chat, engines: AsyncEngines) -> None:
    bot = chat.add_bot("The kettle boils.", "Part OK-6407.")
    chat.add_bot("Part OK-6407 of another bot.", org_id=bot.org_id)
    rows = {row[0]: row for row in chat.rows("SELECT text, source_id, chunk_id FROM chunks")}
    hits = [
        Hit(Place(rows[text][1], 1), rows[text][2], 1.0) for text in ("Part OK-6407.", "Part OK-6407 of another bot.")
    ]
    stale = Hit(Place(hits[0].place.source_id, kept_beside(chat, hits[0].place.source_id)), hits[0].chunk_id, 1.0)
    [vector] = HashedEmbeddings().embed(["The kettle boils."], DIMENSIONS)
    both = await search(engines, bot.org_id, bot.bot_id, SPACE, vector, 1, hits[:1])
    nearest = await search(engines, bot.org_id, bot.bot_id, SPACE, vector, 1, [stale, hits[1], hits[1]])
    assert [(one.passage.text, one.vector_rank, one.lexical_rank) for one in both] == [
        ("The kettle boils.", 1, None),
        ("Part OK-6407.", None, 1),
    ]
    assert [one.passage.text for one in nearest] == ["The kettle boils."], "no old generation, no other bot"

"""The lexical index: BM25 in arrays as it is defined, updates that equal a new index, loading, forgetting, limits."""

import asyncio
import math
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_api.chat import lexical
from chat_api.chat.bot import Bot
from chat_api.chat.lexical import Lexical
from chat_api.core.bot_config import BotConfig
from chat_api.core.database import AsyncEngines, async_engines
from chat_api.core.lexemes import pack, terms_of
from chat_api.core.postings import K1, LEAST_WEIGHT, B, Hit, Place, Postings, Segment
from chat_api.core.settings import Settings
from tests.chat_api.chat_world import Chat, TestBot
from tests.servers import as_api

pytestmark = pytest.mark.anyio
WORDS = ["kettle", "boils", "water", "lid", "OK-6407", "kettles", "the", "of", "90"]
texts = st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=12).map(" ".join), max_size=8)


def segment(place: Place, passages: Sequence[str], first: int = 1) -> Segment:
    """Passages of a place; their ids are numbers from `first` on."""
    ids = b"".join(UUID(int=first + number).bytes for number in range(len(passages)))
    return Segment(place, ids, b"".join(map(pack, passages)))


def asked(index: Postings, question: str, most: int = 50) -> list[Hit]:
    """What the index finds."""
    return index.find(terms_of(question)["term"], most)


def by_definition(passages: Sequence[str], question: str) -> dict[int, float]:
    """BM25 as its formula says, over what the search is measured by; by the passage's number from 1 on."""
    counted = [Counter({int(term): int(count) for term, count in terms_of(passage)}) for passage in passages]
    mean = max(1.0, sum(sum(one.values()) for one in counted) / len(counted))
    scores: dict[int, float] = {}
    weighed = 0.0
    for term in terms_of(question)["term"]:
        having = sum(term in one for one in counted)
        weight = math.log(1 + (len(counted) - having + 0.5) / (having + 0.5))
        weighed += weight
        for number, one in enumerate(counted, 1):
            if term in one:
                norm = K1 * (1 - B + B * sum(one.values()) / mean)
                scores[number] = scores.get(number, 0) + weight * (K1 + 1) * one[term] / (one[term] + norm)
    ideal = max(weighed, LEAST_WEIGHT * math.log(1 + (len(counted) - 0.5) / 1.5))
    return {number: score / ideal for number, score in scores.items()}


@given(texts, st.lists(st.sampled_from([*WORDS, "pizza"]), min_size=1).map(" ".join))
def test_a_share_is_what_bm25_says(passages: list[str], question: str) -> None:
    found = asked(Postings.of([segment(Place(uuid4(), 1), passages)]), question)
    expected = by_definition(passages, question) if passages else {}
    assert {hit.chunk_id.int: hit.coverage for hit in found} == pytest.approx(expected, rel=1e-4)
    assert [hit.coverage for hit in found] == sorted((hit.coverage for hit in found), reverse=True)


@given(st.lists(texts, max_size=5), st.data())
def test_an_updated_index_is_the_same_as_a_new_one(sources: list[list[str]], data: st.DataObject) -> None:
    places = [Place(UUID(int=number), 1) for number in range(len(sources))]
    segments = [
        segment(place, some, 100 * (at + 1)) for at, (place, some) in enumerate(zip(places, sources, strict=True))
    ]
    first = data.draw(st.integers(0, len(sources)))
    gone = data.draw(st.sets(st.sampled_from(places[:first]))) if first else set()
    before = Postings.of(segments[:first])
    assert before.chunks_without(gone) == sum(
        len(some) for place, some in zip(places[:first], sources, strict=False) if place not in gone
    )
    updated = Postings.of(segments[first:], before, gone)
    anew = Postings.of([one for one in segments if one.place not in gone])
    for question in ("kettle water", "OK-6407", "the lid of 90"):
        assert {hit.chunk_id: hit for hit in asked(updated, question)} == {
            hit.chunk_id: hit for hit in asked(anew, question)
        }


def test_words_that_no_chunk_has_make_the_share_smaller() -> None:
    index = Postings.of([segment(Place(uuid4(), 1), ["A kettle boils water.", "A lid.", "Nothing.", "More."])])
    [alone, *_], [beside, *_] = asked(index, "kettle boils"), asked(index, "kettle pizza concert tickets Mongolia")
    assert alone.chunk_id == beside.chunk_id
    assert beside.coverage < 0.3
    assert alone.coverage > 0.6


def test_a_greeting_is_no_evidence() -> None:
    passages = [f"This is how you are served, number {number}: {'tea' * number}." for number in range(20)]
    assert asked(Postings.of([segment(Place(uuid4(), 1), passages)]), "How are you?")[0].coverage < 0.3


# --- over the database ------------------------------------------------------------------------------------------------


@pytest.fixture
def anyio_backend() -> str:
    """What the application runs on."""
    return "asyncio"


@pytest.fixture
async def engines(chat_settings: Settings) -> AsyncIterator[AsyncEngines]:
    """The API's, with its own login."""
    async with async_engines(as_api(chat_settings)) as engines:
        yield engines


def as_bot(bot: TestBot) -> Bot:
    """The bot as a conversation sees it."""
    return Bot(bot.org_id, bot.bot_id, "Robin", BotConfig())


async def found(index: Lexical, bot: TestBot, question: str) -> int:
    """How many chunks have the question's words, once the index is there."""
    return len(await index.find(as_bot(bot), question, 50, wait_s=20))


def now(index: Lexical) -> None:
    """Has the index looked after at the next question."""
    for one in index._indexes.values():
        one.checked_at = float("-inf")


async def test_chunks_without_terms_are_read_by_their_text(chat: Chat, engines: AsyncEngines) -> None:
    bot = chat.add_bot("The lid rope is part OK-6407.", "The kettle boils.")
    chat.rows(
        "UPDATE chunks SET lexemes = %s WHERE bot_id = %s AND text LIKE 'The kettle%%'", b"\xff\0\0\0\0", bot.bot_id
    )
    index = Lexical(engines, most_bytes=1 << 20)
    assert await found(index, bot, "ok6407") == 1
    assert await found(index, bot, "boiling kettles") == 1, "terms of another format are not believed"
    assert await found(index, bot, "heading") == 2, "headings count"
    await index.aclose()


async def test_what_a_worker_stores_is_what_is_read(chat: Chat, engines: AsyncEngines) -> None:
    bot = chat.add_bot("What stands here is not what is stored.")
    chat.rows("UPDATE chunks SET lexemes = %s WHERE bot_id = %s", pack("Something else"), bot.bot_id)
    index = Lexical(engines, most_bytes=1 << 20)
    assert await found(index, bot, "something else") == 1
    assert await found(index, bot, "stands") == 0
    await index.aclose()


async def test_pages_of_chunks_are_one_index(
    chat: Chat, engines: AsyncEngines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lexical, "PAGE", 3)
    bot = chat.add_bot(*(f"Common word, number {number}." for number in range(8)))
    chat.teach(bot, ["Common word of a second source."])
    chat.teach(bot, ["Common word of a third.", "And a fourth."])
    index = Lexical(engines, most_bytes=1 << 20)
    assert await found(index, bot, "common") == 10
    assert await found(index, bot, "number 7") == 8
    await index.aclose()


async def test_what_changes_is_found_and_only_that_is_read(chat: Chat, engines: AsyncEngines) -> None:
    bot = chat.add_bot("The kettle boils.")
    index = Lexical(engines, most_bytes=1 << 20)
    assert await found(index, bot, "kettle") == 1
    chat.rows("UPDATE chunks SET text = 'Changed behind its back.' WHERE bot_id = %s", bot.bot_id)
    second = chat.teach(bot, ["The kiln fires.", "The kettle whistles."])
    now(index)
    assert await found(index, bot, "kettle") == 2, "what was read is not read again"
    assert await found(index, bot, "kiln") == 1
    chat.rows("UPDATE sources SET deleted_at = now() WHERE source_id = %s", second)
    now(index)
    assert await found(index, bot, "kiln") == 0
    assert await found(index, bot, "kettle") == 1
    await index.aclose()


async def test_nobody_waits_for_an_index_longer_than_said(chat: Chat, engines: AsyncEngines) -> None:
    bot = chat.add_bot("The kettle boils.")
    index = Lexical(engines, most_bytes=1 << 20)
    assert await index.find(as_bot(bot), "kettle", 5, wait_s=0) == []
    assert await found(index, bot, "kettle") == 1, "the load went on"
    await index.aclose()


async def test_another_bots_words_are_not_found(chat: Chat, engines: AsyncEngines) -> None:
    bot = chat.add_bot("The kettle boils.")
    others = [chat.add_bot("Secret OK-6407.", org_id=bot.org_id), chat.add_bot("Secret OK-6407.")]
    index = Lexical(engines, most_bytes=1 << 20)
    assert [await found(index, one, "OK-6407") for one in [bot, *others]] == [0, 1, 1]
    stranger = TestBot(uuid4(), others[1].bot_id)
    assert await found(index, stranger, "OK-6407") == 0, "a bot's id with another org's"
    await index.aclose()


async def test_the_longest_unasked_makes_room(chat: Chat, engines: AsyncEngines) -> None:
    bots = [chat.add_bot("The kettle boils.") for _ in range(3)]
    one = Lexical(engines, most_bytes=1 << 20)
    assert await found(one, bots[0], "kettle") == 1
    index = Lexical(engines, most_bytes=2 * one._bytes())
    for bot in bots:
        assert await found(index, bot, "kettle") == 1
    assert [key[1] for key in index._indexes] == [bot.bot_id for bot in bots[1:]]
    await asyncio.gather(one.aclose(), index.aclose())


@pytest.mark.parametrize("limits", [{"most_bytes": 100}, {"most_bytes": 1 << 20, "most_chunks": 2}])
async def test_of_a_bot_that_is_too_large_nothing_is_kept(
    chat: Chat, engines: AsyncEngines, limits: dict[str, int]
) -> None:
    bot = chat.add_bot("The kettle boils.", "The kettle whistles.", "The kettle leaks.")
    index = Lexical(engines, **limits)
    assert await found(index, bot, "kettle") == 0
    assert index._bytes() == 0
    chat.rows("DELETE FROM chunks WHERE bot_id = %s", bot.bot_id)
    chat.rows("UPDATE sources SET deleted_at = now() WHERE bot_id = %s", bot.bot_id)
    chat.teach(bot, ["k"])
    now(index)
    if "most_chunks" in limits:
        assert await found(index, bot, "k") == 1, "it is looked at again when the bot has changed"
    await index.aclose()


async def test_a_database_that_is_away_costs_the_words_alone(chat_settings: Settings) -> None:
    away = chat_settings.model_copy(update={"python_chat_db_port": 1})
    async with async_engines(away) as engines:
        index = Lexical(engines, most_bytes=1 << 20)
        assert await found(index, TestBot(uuid4(), uuid4()), "kettle") == 0
        await index.aclose()

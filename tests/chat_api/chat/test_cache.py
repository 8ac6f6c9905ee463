"""Kept answers: which pages share one, and many visitors who look for theirs at once."""

import asyncio
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_api.chat.bot import Bot
from chat_api.chat.cache import AnswerCache, CachedAnswer, cache_key
from chat_api.chat.choose import Wish, choose
from chat_api.chat.retrieve import Found
from chat_api.core.bot_config import BotConfig
from tests.chat_api.chat.passages import passage
from tests.chat_api.chat_world import wait_until

BOT = Bot(UUID(int=1), UUID(int=2), "Robin", BotConfig())
LAMP = "https://shop.test/lamp"
AT_ONCE = 150
addresses = st.builds(
    "{}://{}{}{}".format,
    st.sampled_from(["https", "http"]),
    st.sampled_from(["shop.test", "SHOP.test", "shop.test:81", "["]),
    st.sampled_from(["", "/", "/lamp", "/lamp/", "/Lamp", "/lamp//"]),
    st.sampled_from(["", "?", "?id=1", "?id=2", "?ID=1", "#top", "?id=1#top"]),
)
arrivals = st.sampled_from(["", "utm_source=mail", "gclid=x&utm_term=", "FBCLID=7"])


def key(page_url: str | None) -> str:
    """The key of an answer to the same question on this page."""
    return cache_key(BOT, "model", "content", "What does it cost?", page_url)


def arrived(url: str, by: str) -> str:
    """The address as a visitor has it who came by an advertisement."""
    address, hash_, top = url.partition("#")
    return f"{address}{'&' if '?' in address else '?'}{by}{hash_}{top}" if by else url


def score(url: str, page_url: str) -> float:
    """The score of the page's passage for who is on `page_url`."""
    found = Found(passage("It costs 10.", url=url, score=0.5), 1, 1, 9, 1, None)
    return choose([found], Wish("What does it cost?", 3, 0.3, 100, page_url))[0].found.score


@given(st.builds(arrived, addresses, arrivals), st.builds(arrived, addresses, arrivals), addresses)
def test_visitors_share_an_answer_only_where_the_same_passages_are_preferred(one: str, other: str, page: str) -> None:
    if key(one) == key(other):
        assert score(page, one) == score(page, other)


@pytest.mark.parametrize(
    ("url", "shared"),
    [
        (LAMP, True), (f"{LAMP}/", True), ("http://SHOP.test/lamp#price", True), (f"{LAMP}?gclid=abc", True),
        (f"{LAMP}?utm_source=mail&id=2", True), (f"{LAMP}?id=2", False), ("https://shop.test/chair", False),
        ("https://other.test/lamp", False), (None, False), ("https://[", False),
    ],
)  # fmt: skip
def test_spellings_of_a_page_share_an_answer(url: str | None, shared: bool) -> None:
    assert (key(url) == key(LAMP)) is shared


def test_no_page_has_one_spelling() -> None:
    assert key(None) == key("") == key("https://[")


@pytest.mark.stack
def test_many_at_once_find_their_answers(redis_url: str) -> None:
    answer = CachedAnswer("Ten.", [], [1])

    async def found() -> int:
        cache = AnswerCache(redis_url)
        await cache.keep("answer:1", answer)
        answers = await asyncio.gather(*(cache.find("answer:1") for _ in range(AT_ONCE)))
        await cache.aclose()
        return answers.count(answer)

    wait_until(lambda: asyncio.run(found()) == AT_ONCE)  # while Redis is slow the cache is left alone for some seconds

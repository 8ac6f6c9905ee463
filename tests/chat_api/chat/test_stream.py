"""An answer's frames: read from anywhere without a gap, and never far ahead of everybody who reads."""

import asyncio
import contextlib
import json
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import cast
from uuid import uuid4

from hypothesis import given
from hypothesis import strategies as st

from chat_api.auth import Principal
from chat_api.chat.answers import Answers
from chat_api.chat.bot import Bot
from chat_api.chat.journal import AnswerKey
from chat_api.chat.live import LiveAnswer, Why
from chat_api.chat.services import ChatServices
from chat_api.chat.session import Session
from chat_api.chat.sockets import FRAMES_AT_ONCE, FrameRate, Over, TooManyFrames
from chat_api.chat.stream import AHEAD, AnswerStream, Reader, Wire, encoded, told_by


async def read(stream: AnswerStream, after: int) -> list[str]:
    with Reader(stream, after) as reader:
        return [text async for text in reader]


async def soon() -> None:
    """Lets every task that can go on do so."""
    for _ in range(10):
        await asyncio.sleep(0)


@given(
    st.lists(st.one_of(st.text(max_size=5), st.integers(1, 5)), max_size=30),
    st.integers(0, 40),
)
def test_frames_are_read_without_a_gap_from_anywhere_whatever_was_lost(steps: list[str | int], after: int) -> None:
    async def play() -> list[str]:
        stream = AnswerStream("q")
        for step in steps:
            if isinstance(step, int):
                stream.skip_to(len(stream.frames) + step)
            else:
                await stream.send("delta", text=step)
        reading = asyncio.create_task(read(stream, after))
        await soon()
        stream.finish(stream.next("done", text=""))
        assert len(stream.frames) == sum(step if isinstance(step, int) else 1 for step in steps) + 1
        return await reading

    frames = [json.loads(text) for text in asyncio.run(play())]
    length = sum(step if isinstance(step, int) else 1 for step in steps) + 1
    assert [frame["seq"] for frame in frames] == list(range(after + 1, length + 1))
    assert {frame["id"] for frame in frames} <= {"q"}


@given(st.text(st.sampled_from("aé\0\ud7ff\ud800\udc00\udfff😀"), max_size=9))
def test_a_frame_is_utf_8_whatever_a_model_says(text: str) -> None:
    frame = encoded({"type": "delta", "text": text})
    assert json.loads(frame.encode())["text"] == "".join("?" if "\ud800" <= each <= "\udfff" else each for each in text)


def test_an_answer_ends_at_its_next_frame_when_a_library_lost_the_cancellation() -> None:
    async def play() -> tuple[bool, int]:
        answer = LiveAnswer(AnswerKey(uuid4(), uuid4(), uuid4(), "q"), cast("Bot", None), "visitor", 1.0)
        lost = asyncio.Event()

        async def make() -> None:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(60)
            lost.set()
            await answer.stream.send("delta", text="unwanted")

        answer.task = asyncio.create_task(make())
        await soon()
        answer.end(Why.STOPPED)
        await asyncio.wait((answer.task,))
        return answer.task.cancelled() and lost.is_set(), len(answer.stream.frames)

    assert asyncio.run(play()) == (True, 0)


def test_an_answer_waits_for_its_fastest_reader_alone() -> None:
    async def play() -> None:
        stream = AnswerStream("q")

        async def make() -> None:
            for n in range(10 * AHEAD):
                await stream.send("delta", text=str(n))

        with Reader(stream), Reader(stream) as fast:
            frames = aiter(fast)
            making = asyncio.create_task(make())
            await soon()
            assert len(stream.frames) == AHEAD + 1
            for _ in range(3):
                await anext(frames)
            await soon()
            assert len(stream.frames) == AHEAD + 4
        await making
        assert len(stream.frames) == 10 * AHEAD, "without readers it waits for nobody"

    asyncio.run(play())


def test_what_was_told_is_counted_from_where_the_answer_last_began() -> None:
    async def play() -> tuple[list[dict[str, object]], str]:
        stream = AnswerStream("q")
        await stream.send("sources", sources=[{"n": 1}])
        await stream.send("delta", text="lost")
        stream.skip_to(9)
        await stream.send("sources", sources=[{"n": 2}])
        await stream.send("delta", text="a")
        await stream.send("delta", text="b")
        return told_by(stream)

    assert asyncio.run(play()) == ([{"n": 2}], "ab")


def test_a_socket_that_can_not_be_sent_a_frame_is_ended_so_that_its_visitor_returns() -> None:
    async def play() -> Over:
        bot, conversation_id = SimpleNamespace(org_id=uuid4(), bot_id=uuid4()), uuid4()
        answer = LiveAnswer(AnswerKey(bot.org_id, bot.bot_id, conversation_id, "q"), cast("Bot", bot), "visitor", 1.0)

        async def send(text: str) -> None:
            raise UnicodeEncodeError("utf-8", text, 0, 1, "surrogates not allowed")

        async def resumed(*_: object) -> LiveAnswer:
            return answer

        async def known(*_: object) -> object:
            return bot

        services = cast("ChatServices", SimpleNamespace(bots=SimpleNamespace(get=known)))
        answers = cast("Answers", SimpleNamespace(resume=resumed))
        visitor = Principal("visitor", bot.org_id, bot.bot_id, frozenset({"chat"}), datetime.now(UTC))
        session = Session(services, answers, cast("Bot", bot), visitor, Wire(send), lambda _: visitor)
        await session.take(f'{{"type":"resume","id":"q","conversation_id":"{conversation_id}","after":0}}')
        await answer.stream.send("delta", text="a")
        return await asyncio.wait_for(session.over, 5)

    assert asyncio.run(play()) is Over.RESTARTING


def test_frames_are_limited_at_once() -> None:
    rate = FrameRate()
    taken = 0
    try:
        for _ in range(10 * FRAMES_AT_ONCE):
            rate.take()
            taken += 1
    except TooManyFrames:
        pass
    assert FRAMES_AT_ONCE <= taken < 2 * FRAMES_AT_ONCE

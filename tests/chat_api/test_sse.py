"""Server-Sent Events: kept alive, ended in time, and their source closed however they end."""

import asyncio
from collections.abc import AsyncGenerator

import pytest
from starlette.types import Message

from chat_api.sse import EventStream, event, kept_alive


def test_an_event_has_the_number_that_it_is_given() -> None:
    assert event("job", "{}") == "event: job\ndata: {}\n\n"
    assert event("job", "{}", 0) == "id: 0\nevent: job\ndata: {}\n\n"


def test_a_silent_event_stream_is_kept_alive_and_closed_with_its_source() -> None:
    async def play() -> tuple[list[str], bool]:
        more, closed = asyncio.Event(), asyncio.Event()

        async def events() -> AsyncGenerator[str]:
            try:
                await more.wait()
                yield "second"
                await asyncio.Event().wait()
            finally:
                closed.set()

        stream = kept_alive("first", events(), longest_s=60, every_s=0.01)
        said = [await anext(stream), await anext(stream), await anext(stream)]
        more.set()
        said += [text for text in [await anext(stream), await anext(stream)] if not text.startswith(":")]
        said.append(await anext(stream))
        await stream.aclose()
        return said, closed.is_set()

    beat = ": still here\n\n"
    assert asyncio.run(play()) == (["first", beat, beat, "second", beat], True)


def test_an_event_stream_ends_with_its_source_or_its_time() -> None:
    async def play(longest_s: float, *texts: str) -> list[str]:
        async def events() -> AsyncGenerator[str]:
            for text in texts:
                yield text

        return [text async for text in kept_alive("first", events(), longest_s=longest_s)]

    assert asyncio.run(play(60, "a", "b")) == ["first", "a", "b"]
    assert asyncio.run(play(0, "a")) == ["first", ": the time is over\n\n"]


@pytest.mark.parametrize("taken", [0, 1, 2])
def test_its_source_is_closed_when_the_client_goes_whatever_it_took(taken: int) -> None:
    """Also a source that needs a while to end, as one does that waits for a database."""

    async def play() -> list[str]:
        ended, sent = list[str](), list[Message]()

        async def events() -> AsyncGenerator[str]:
            try:
                yield "first"
                await asyncio.Event().wait()
            finally:
                for _ in range(5):
                    await asyncio.sleep(0)
                ended.append("source")

        async def send(message: Message) -> None:
            if len(sent) == taken:
                await asyncio.Event().wait()
            sent.append(message)

        async def receive() -> Message:
            await asyncio.sleep(0.02)
            return {"type": "http.disconnect"}

        source = events()
        stream = EventStream(await anext(source), source, longest_s=60, left=lambda: ended.append("stream"))
        await stream({"type": "http"}, receive, send)
        return ended

    assert asyncio.run(play()) == ["source", "stream"]

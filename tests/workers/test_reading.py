"""What a source's row may hold, and what is taken for unchanged: none of it may break a worker, or train old text."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from chat_api.core.errors import (
    BlockedByRobots,
    FetchFailed,
    InvalidUrl,
    NoText,
    NotFound,
    ServiceError,
    TooLarge,
    TrainingError,
    UnsupportedType,
)
from chat_api.core.models.dashboard import DashboardBot, File, Org, TrainingSource
from tests.workers.fetch.loopback import Site, client_of, redirect, reply, serving
from workers.dashboard import SourceToTrain
from workers.documents import Block, Document, Fetched, Reading
from workers.reading import ChunkSizes, Reader
from workers.store.known import LivePage
from workers.store.rows import text_sha256

MIB = 2**20
PAGE = b"<p>words</p>"


class Words:
    """An extractor that takes the bytes for one paragraph, and counts what it was given; `poison` is no text."""

    def __init__(self) -> None:
        self.asked: list[list[bytes]] = []

    def extract_many(
        self, items: Sequence[tuple[Fetched, str | None]], *, check: Callable[[], None] | None = None
    ) -> list[Document | TrainingError]:
        self.asked.append([fetched.body for fetched, _ in items])
        return [_document(fetched.body.decode()) for fetched, _ in items]


def _document(words: str) -> Document | TrainingError:
    return NoText() if words == "poison" else Document("", (Block("paragraph", words),), "text/plain")


def reader(
    *sites: Site, read_object: Callable[[str, int], Fetched] | None = None, extractor: Words | None = None
) -> Reader:
    return Reader(
        client=client_of(*sites),
        read_object=read_object or (lambda key, _most: Fetched(f"s3://b/{key}", 200, b"words of a file")),
        extractor=extractor or Words(),
        sizes=ChunkSizes(lambda words: len(words.split()), target=50, maximum=80),
        max_file_mb=50,
    )


def found(kind: str, *, file: File | None = None, limits: Any = None, **columns: Any) -> SourceToTrain:
    source = TrainingSource(id=UUID(int=1), type=kind, **columns)
    return SourceToTrain(source, file, DashboardBot(), Org(limits=limits))


def read(source: SourceToTrain, *sites: Site, live: LivePage | None = None, **options: Any) -> Reading:
    made = reader(*sites, **options)
    [reading] = made.extract([made.fetch(source, live)], lambda: None)
    if isinstance(reading.error, TrainingError):
        raise reading.error
    return made.chunk(reading)


NOT_OBJECTS: list[Any] = [None, [], [1], "text", 7, True]


@pytest.mark.parametrize("content", [*NOT_OBJECTS, {}, {"text": None}, {"text": ["a"]}, {"text": " \n"}])
def test_a_text_that_is_none_is_empty(content: Any) -> None:
    with pytest.raises(NoText):
        read(found("text", content=content))


@pytest.mark.parametrize(
    "content",
    [
        *NOT_OBJECTS,
        {"pairs": None},
        {"pairs": {"question": "?"}},
        {"pairs": [1, None, [], {"question": "?"}]},
        {"pairs": []},
    ],
)
def test_pairs_that_are_none_are_empty(content: Any) -> None:
    with pytest.raises(NoText):
        read(found("qa", content=content))


def test_good_pairs_among_bad_ones_are_read() -> None:
    pairs = [
        {"question": 1, "answer": 2},
        None,
        {"question": " Open? ", "answer": "Yes."},
        {"question": "", "answer": "x"},
    ]
    reading = read(found("qa", content={"pairs": pairs}))
    assert [(chunk.heading, chunk.text, chunk.ordinal) for chunk in reading.chunks] == [("Open?", "Yes.", 0)]


def test_a_pair_keeps_its_question_under_a_title_that_says_the_same() -> None:
    pairs = [{"question": "Are you\nopen?", "answer": "Yes."}, {"question": "When?", "answer": "Now."}]
    chunks = read(found("qa", title="Are you open?", content={"pairs": pairs})).chunks
    assert [(chunk.heading, chunk.embedded_text) for chunk in chunks] == [
        ("Are you open?", "Are you open?\n\nYes."),
        ("When?", "Are you open?\nWhen?\n\nNow."),
    ]


@pytest.mark.parametrize("url", [None, "", "   ", "ftp://a.example/", "http://", "not an address", "http://a b/"])
def test_an_address_that_is_none_is_invalid(url: str | None) -> None:
    with pytest.raises(InvalidUrl):
        read(found("url", url=url, options={}))


def test_an_unknown_type_and_a_file_that_is_gone() -> None:
    with pytest.raises(UnsupportedType, match="podcast"):
        read(found("podcast"))
    with pytest.raises(NotFound):
        read(found("file"))


@pytest.mark.parametrize("limits", [*NOT_OBJECTS, {}, {"max_file_mb": None}])
def test_limits_that_are_none_are_the_settings(limits: Any) -> None:
    asked: list[int] = []

    def read_object(key: str, most: int) -> Fetched:
        asked.append(most)
        return Fetched(key, 200, b"words")

    read(
        found("file", file=File(object_key="k", filename="a.txt", size_bytes=None), limits=limits),
        read_object=read_object,
    )
    assert asked == [50 * MIB]


@pytest.mark.parametrize(("limit", "size", "error"), [
    (1, 2 * MIB, TooLarge), (3, 2 * MIB, None), (True, 2 * MIB, None), (-1, 2 * MIB, None), ("1", 2 * MIB, None),
    (10**30, 2 * MIB, None), (1.7e308, 2 * MIB, None), (1, -5, None), (0.5, MIB, TooLarge), (0.5, MIB // 4, None),
    (0, 1, TooLarge),
])  # fmt: skip
def test_the_orgs_limit_of_a_file(limit: Any, size: int, error: type[ServiceError] | None) -> None:
    source = found("file", file=File(object_key="k", filename="a.txt", size_bytes=size), limits={"max_file_mb": limit})
    if error:
        with pytest.raises(error):
            read(source)
    else:
        assert read(source).outcome == "indexed"


def test_equal_pairs_are_told_apart_and_keep_their_places() -> None:
    pairs = [{"question": "Open?", "answer": "Yes."}] * 2 + [{"question": "When?", "answer": "Now."}]
    reading = read(found("qa", content={"pairs": pairs}))
    assert [(chunk.ordinal, chunk.repeat) for chunk in reading.chunks] == [(0, 0), (1, 1), (2, 0)]


def test_several_are_extracted_together_each_with_its_own_outcome() -> None:
    extractor = Words()
    made = reader(extractor=extractor)
    texts = ["one", "poison", "three"]
    fresh = [made.fetch(found("text", content={"text": text})) for text in texts]
    fresh.insert(1, made.fetch(found("qa", content={"pairs": [{"question": "?", "answer": "!"}]})))
    readings = made.extract(fresh, lambda: None)
    assert [reading.outcome for reading in readings] == ["indexed", "indexed", "no_text", "indexed"]
    assert readings[3].document == _document("three")
    assert extractor.asked == [[b"one", b"poison", b"three"]]


# --- robots.txt ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("render", [True, False])
@pytest.mark.parametrize("elsewhere", [True, False])
def test_where_a_page_leads_robots_count_too(render: bool, elsewhere: bool) -> None:
    rules = reply(b"User-agent: *\nDisallow: /private")
    with serving({"/robots.txt": rules}) as site, serving({"/robots.txt": rules}) as other:
        target = other if elsewhere else site
        site.pages |= {"/a": redirect(target.url("/private/a")), "/b": redirect(target.url("/open"))}
        target.pages |= {"/private/a": reply(PAGE), "/open": reply(PAGE)}
        with pytest.raises(BlockedByRobots, match="/private/a"):
            read(found("url", url=site.url("/a"), options={"render": render}), site, other)
        reading = read(found("url", url=site.url("/b"), options={"render": render}), site, other)
    assert (reading.outcome, reading.cited_url) == ("indexed", target.url("/open"))


def test_a_page_is_read_once_its_robots_answer_again() -> None:
    with serving({"/robots.txt": reply(b"", "503 Away", Retry_After="60"), "/a": reply(PAGE)}) as site:
        with pytest.raises(FetchFailed, match=r"robots\.txt") as failed:
            read(found("url", url=site.url("/a")), site)
        assert [head.split(b" ")[1] for head in site.requests] == [b"/robots.txt"]
        site.pages["/robots.txt"] = reply(b"")
        assert read(found("url", url=site.url("/a")), site).outcome == "indexed"
    assert (failed.value.retryable, failed.value.retry_after) == (True, 60)


class Footed(Words):
    """Every page has a footer."""

    def extract_many(
        self, items: Sequence[tuple[Fetched, str | None]], *, check: Callable[[], None] | None = None
    ) -> list[Document | TrainingError]:
        contact = (Block("heading", "Contact", level=1), Block("paragraph", "Call 030 123456"))
        return [
            replace(one, contact=contact) if isinstance(one, Document) else one
            for one in super().extract_many(items, check=check)
        ]


def test_a_page_or_file_of_its_own_keeps_its_footers_contact() -> None:
    file = File(object_key="k", filename="page.html")
    with serving({"/robots.txt": reply(b"", "404 Not Found"), "/": reply(PAGE)}) as site:
        page = read(found("url", url=site.url("/")), site, extractor=Footed())
    stored = read(found("file", file=file), extractor=Footed())
    for reading in (page, stored):
        assert "Call 030 123456" in "\n".join(chunk.text for chunk in reading.chunks)
    assert page.document
    live = replace(live_of("", url=page.url, cited_url=page.url), text_sha256=text_sha256(page.document))
    with serving({"/robots.txt": reply(b"", "404 Not Found"), "/": reply(PAGE)}) as site:
        url = site.url("/")
        assert read(
            found("url", url=url), site, live=replace(live, url=url, cited_url=url), extractor=Footed()
        ).unchanged


# --- unchanged -------------------------------------------------------------------------------------------------------


def live_of(words: str, **changes: Any) -> LivePage:
    """The live page that a text without a title would have left."""
    document = Document("", (Block("paragraph", words),), "text/plain")
    body = hashlib.sha256(words.encode()).digest()
    url = f"source:{UUID(int=1)}"
    live = LivePage(1, "version", url, None, None, body, 1, "", None, text_sha256(document))
    return replace(live, **changes)


@pytest.mark.parametrize(
    ("title", "live", "extracted", "unchanged"),
    [
        ("A", live_of("words", title="A"), False, True),
        ("A", live_of("words", title="B"), True, False),
        ("A", live_of("other", title="A"), True, False),
        ("A", live_of("words", title="A", content_sha256=b"other bytes"), True, True),
        ("A", live_of("words", title="A", cited_url="https://a.example/"), True, False),
        (None, live_of("words"), True, True),
        (None, live_of("words", title="A"), True, False),
        (None, None, True, False),
    ],
)
def test_a_text_is_unchanged_under_the_same_title(
    title: str | None, live: LivePage | None, extracted: bool, unchanged: bool
) -> None:
    extractor = Words()
    reading = read(found("text", content={"text": "words"}, title=title), live=live, extractor=extractor)
    assert (bool(extractor.asked), reading.unchanged) == (extracted, unchanged)
    assert bool(reading.chunks) is not unchanged
    assert reading.outcome == ("unchanged" if unchanged else "indexed")


@pytest.mark.parametrize(("title", "unchanged"), [("A", True), ("B", False), (None, False)])
def test_pairs_are_unchanged_under_the_same_title(title: str | None, unchanged: bool) -> None:
    content = {"pairs": [{"question": "Open?", "answer": "Yes."}]}
    reading = read(found("qa", content=content, title=title), live=live_of("", title="A"))
    assert (reading.unchanged, bool(reading.chunks)) == (unchanged, not unchanged)


def test_a_page_is_asked_for_with_its_validators_and_taken_as_it_is() -> None:
    with serving({"/robots.txt": reply(b"", "404 Not Found"), "/": reply(PAGE, ETag='"1"')}) as site:
        url = site.url("/")
        live = live_of("", url=url, cited_url=url, etag='"1"', content_sha256=hashlib.sha256(PAGE).digest())
        same = read(found("url", url=url), site, live=live)
        edited = read(found("url", url=url), site, live=replace(live, content_sha256=b"other"))
        site.pages["/"] = reply(b"", "304 Not Modified", ETag='"1"')
        not_modified = read(found("url", url=url), site, live=replace(live, content_sha256=b"other"))
        moved = replace(live, cited_url="https://elsewhere.example/")
        with pytest.raises(ServiceError):  # asked again without validators, this server still says 304
            read(found("url", url=url), site, live=moved)
    assert (same.unchanged, edited.unchanged, not_modified.unchanged) == (True, False, True)
    assert not_modified.fetched
    assert not_modified.fetched.status == 304

"""What a source's row may hold: owners and other programs write it, and none of it may break a worker."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest

from chat_api.core.errors import InvalidUrl, NoText, NotFound, ServiceError, TooLarge, UnsupportedType
from chat_api.core.models.dashboard import DashboardBot, File, Org, TrainingSource
from tests.workers.fetch.loopback import Site, client_of, reply, serving
from workers.dashboard import SourceToTrain
from workers.documents import Block, Document, Fetched, Reading
from workers.lease import Progress
from workers.reading import ChunkSizes, Reader

MIB = 2**20
PAGE = b"<p>words</p>"


class Words:
    """An extractor that takes the bytes for one paragraph; words beginning with http are its links."""

    def extract(self, fetched: Fetched, *, filename: str | None = None) -> Document:
        words = fetched.body.decode()
        links = tuple(word for word in words.split() if word.startswith("http"))
        return Document("", (Block("paragraph", words),), "text/plain", links=links)


def reader(*sites: Site, read_object: Callable[[str, int], Fetched] | None = None) -> Reader:
    return Reader(
        client=client_of(*sites),
        read_object=read_object or (lambda key, _most: Fetched(f"s3://b/{key}", 200, b"words of a file")),
        extractor=Words(),
        sizes=ChunkSizes(lambda words: len(words.split()), target=50, maximum=80),
        max_file_mb=50,
    )


def found(kind: str, *, file: File | None = None, limits: Any = None, **columns: Any) -> SourceToTrain:
    source = TrainingSource(id=UUID(int=1), type=kind, **columns)
    return SourceToTrain(source, file, DashboardBot(), Org(limits=limits))


def read(source: SourceToTrain, *sites: Site, progress: Progress | None = None, **options: Any) -> list[Reading]:
    return list(reader(*sites, **options).read(source, progress or Progress(), lambda: None))


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
    [reading] = read(found("qa", content={"pairs": pairs}))
    assert [(chunk.heading, chunk.text, chunk.ordinal) for chunk in reading.chunks] == [("Open?", "Yes.", 0)]


@pytest.mark.parametrize("options", NOT_OBJECTS)
def test_options_that_are_none_are_defaults(options: Any) -> None:
    with serving({"/": reply(PAGE), "/robots.txt": reply(b"", "404 Not Found")}) as site:
        [reading] = read(found("site", url=site.url("/"), options=options), site)
    assert reading.outcome == "indexed"


@pytest.mark.parametrize("url", [None, "", "   ", "ftp://a.example/", "http://", "not an address", "http://a b/"])
@pytest.mark.parametrize("kind", ["url", "site", "sitemap"])
def test_an_address_that_is_none_is_invalid(kind: str, url: str | None) -> None:
    with pytest.raises(InvalidUrl):
        read(found(kind, url=url, options={}))


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
    (10**30, 2 * MIB, None), (1, -5, None),
])  # fmt: skip
def test_the_orgs_limit_of_a_file(limit: Any, size: int, error: type[ServiceError] | None) -> None:
    source = found("file", file=File(object_key="k", filename="a.txt", size_bytes=size), limits={"max_file_mb": limit})
    if error:
        with pytest.raises(error):
            read(source)
    else:
        assert read(source)[0].outcome == "indexed"


def test_the_progress_of_a_crawl_knows_the_links_of_the_page_just_read() -> None:
    with serving({"/robots.txt": reply(b"", "404 Not Found")}) as site:
        site.pages["/"] = reply(" ".join(site.url(f"/{number}") for number in range(9)).encode())
        site.pages |= {f"/{number}": reply(PAGE) for number in range(9)}
        progress = Progress()
        readings = reader(site).read(found("site", url=site.url("/"), options={}), progress, lambda: None)
        seen = [(progress.done, progress.total) for _ in readings]
    assert seen == [(number, 10) for number in range(1, 11)]

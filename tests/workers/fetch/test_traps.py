"""Addresses without end: by their looks, and by what their pages bring."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.fetch.crawl import Frontier
from workers.fetch.scope import Scope
from workers.fetch.traps import READ_FIRST, Shapes, runs_in_circles, shape_of, sketch_of
from workers.fetch.urls import parse_url

HOME = "https://shop.example"
MANY = " one two three four five six seven eight nine ten eleven twelve "


@pytest.mark.parametrize(("path", "endless"), [
    ("/a/b/a/b/a/b", True), ("/a/b/a/b/a/b/index.html", True), ("/x/a/a/a", True), ("/a/1/a/2/a/3/a/4", True),
    ("/" + "/".join(map(str, range(31))), True), ("/?" + "&".join(f"p{n}=1" for n in range(13)), True),
    ("/?f=1&f=2&f=3&f=4", True), ("/a/b/a/b", False), ("/a/a", False), ("/2011/11/11/a", False), ("/a/x/a/y/a", False),
    ("/?a=1&b=2&c=3&page=7", False), ("/a/ab/a", False), ("/", False), ("/en/docs/en/guide/en/x", False),
])  # fmt: skip
def test_an_address_that_runs_in_circles_shows_it(path: str, endless: bool) -> None:
    assert runs_in_circles(parse_url(HOME + path)) is endless
    crawl = Frontier(HOME, Scope())
    crawl.add([HOME + path], 1)
    assert list(crawl.skipped.values()) == (["trap"] if endless else [])


@pytest.mark.parametrize(("path", "shape"), [
    ("/calendar/2024/05", "/calendar/#/#"), ("/p?b=1&a=2&a=3", "/p?a&b"), ("/day-7?view", "/day-#?view"),
    ("/about", None), ("/", None),
])  # fmt: skip
def test_what_is_counted_out_has_a_shape(path: str, shape: str | None) -> None:
    assert shape_of(parse_url(HOME + path)) == shape


def test_figures_and_the_address_itself_are_no_news() -> None:
    first, second = parse_url(f"{HOME}/red-shoes/1"), parse_url(f"{HOME}/blue-hats/2")
    same = sketch_of([f"No red shoes on 5 May {MANY}"], first)
    assert same == sketch_of(["no BLUE hats on", f"17 may {MANY}"], second) != ""
    assert sketch_of([f"No green hats on 5 May {MANY}"], second) != same
    assert sketch_of(["1 2 3 4 5 6 7 8 9 red shoes"], first) == ""


@pytest.mark.parametrize(("sketches", "exhausted"), [
    ([""], True), (["same"], True), (["a", "b", "c"], True), ([f"{n}" for n in range(READ_FIRST)], False),
    (["", "", "x{}"], False), (["", *["same"] * 18, "x{}"], True),
])  # fmt: skip
def test_a_shape_that_brings_nothing_new_is_exhausted(sketches: list[str], exhausted: bool) -> None:
    shapes, page = Shapes(), parse_url(f"{HOME}/p/1")
    for number in range(READ_FIRST):
        assert not shapes.exhausted(page)
        shapes.note(parse_url(f"{HOME}/p/{number}"), sketches[number % len(sketches)].format(number))
    assert shapes.exhausted(page) is exhausted
    assert not shapes.exhausted(parse_url(f"{HOME}/q/1"))
    assert not shapes.exhausted(parse_url(f"{HOME}/p/"))
    assert Shapes(shapes.stored).exhausted(page) is exhausted


def test_what_is_remembered_is_bounded() -> None:
    shapes = Shapes()
    for number in range(2_000):
        shapes.note(parse_url(f"{HOME}/{'a' * (number % 1_000)}{number}"), str(number))
    assert len(shapes.stored) <= 300
    assert all(len(texts) <= 48 for _, _, texts in shapes.stored.values())


@given(st.lists(st.sampled_from(["a", "b", "1", "", "x.y"]), max_size=40), st.text("ab=&1", max_size=60))
def test_any_address_is_judged(segments: list[str], query: str) -> None:
    url = parse_url(f"{HOME}/{'/'.join(segments)}?{query}")
    assert runs_in_circles(url) in {True, False}
    Shapes().note(url, "")


def test_a_long_address_is_judged_in_time() -> None:
    assert runs_in_circles(parse_url(HOME + "/a" * 900)) is True
    assert runs_in_circles(parse_url(HOME + "/" + "ab" * 900)) is False

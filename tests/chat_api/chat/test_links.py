"""What of an answer reaches the visitor: no foreign address in any spelling, whatever the pieces it comes in."""

import re
from itertools import pairwise

import lxml.html
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from chat_api.chat.citations import AnswerFilter
from chat_api.chat.links import hosts_of, may_show
from tests.chat_api.chat.hostile_answers import FOREIGN, HOSTILE, OWN, READ_ELSE

HOSTS = hosts_of([f"{OWN}/delivery", None, "not an address", "http://docs.example:8080/a"])
ADDRESS = re.compile(
    r"[a-z]?:[/\\]{2}(?=\w)(?!shop\.example(?![\w.@:\\]))|(?<![\w:/\\.])[/\\]{2}\w|(?<![^\W_])(?<![.@/\\-])www\.(?!shop\.example)\w",
    re.IGNORECASE,
)
FETCHING = re.compile(
    r"!\[[^\]]*\]\([^)]*\)|<\s*(?:img|iframe|script|svg|a|image)\b|\[[^\]]*\]\(\s*<?(?!https?://shop\.example)(?:[^()\s]|\([^()\s]*\))+\)",
    re.IGNORECASE,
)
MARKDOWN = MarkdownIt("commonmark")
MARKDOWN.validateLink = lambda url: url is not None  # type: ignore[method-assign]  # other readers know no bad schemes
UNASKED = re.compile(r"on\w+|style|background")
TERMS = ("secret sauce", "Foo")


def shown(pieces: list[str], *, offered: int = 3, terms: tuple[str, ...] = ()) -> tuple[str, AnswerFilter]:
    """What the visitor sees of pieces fed one after the other."""
    answer = AnswerFilter(offered, hosts=HOSTS, blocked_terms=terms)
    return "".join([*(answer.feed(piece) for piece in pieces), answer.finish()]), answer


def in_pieces(text: str, cuts: set[int]) -> list[str]:
    """The text cut at these places."""
    bounds = [0, *sorted(cut for cut in cuts if cut < len(text)), len(text)]
    return [text[start:end] for start, end in pairwise(bounds)]


def leaks(text: str) -> bool:
    """Whether there is a foreign address, or anything that fetches, in what is shown."""
    return bool(ADDRESS.search(text) or FETCHING.search(text) or leads_away(text))


def leads_away(text: str) -> bool:
    """Whether a reader of Markdown or of HTML makes an image of any of it, or a link that is not the bot's own."""
    for page in (MARKDOWN.render(text), text):
        for element in lxml.html.fromstring(f"<div>{page}</div>").iter(lxml.html.etree.Element):
            if element.tag in {"img", "image"} or any(
                said for name, said in element.items() if UNASKED.fullmatch(name)
            ):
                return True
            if (link := element.get("href")) is not None and not may_show(link, HOSTS):
                return True
    return False


def test_there_are_enough_of_them() -> None:
    assert len(set(HOSTILE)) >= 400
    assert sum(map(leaks, HOSTILE)) >= 0.9 * len(HOSTILE)
    assert [answer for answer in HOSTILE if "http:evil" in answer and not leaks(answer)] == []


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1_000])
def test_no_foreign_address_gets_through(size: int) -> None:
    leaked = []
    for answer in HOSTILE:
        text, _ = shown([answer[start : start + size] for start in range(0, len(answer), size)])
        if leaks(text):
            leaked.append((answer, text))
    assert leaked == []


@pytest.mark.parametrize("answer", READ_ELSE)
def test_whatever_the_place_where_it_is_cut(answer: str) -> None:
    places = range(0, len(answer), 1 + len(answer) // 100)
    assert [place for place in places if leaks(shown(in_pieces(answer, {place}))[0])] == []


@given(st.sampled_from(HOSTILE), st.sampled_from(HOSTILE), st.sets(st.integers(0, 150)))
def test_nor_in_any_pieces(one: str, two: str, cuts: set[int]) -> None:
    text, _ = shown(in_pieces(f"{one} {two}", cuts))
    assert not leaks(text)


WORDS = """
    ht tp s: // / https:// evil.example shop.example [ ] ( ) ![ ]( < > src= www. [9] [1] : \\ secret foo
    <no_answer/> x javascript:
"""
PARTS = [*WORDS.split(), " ", "\n", "img ", "a ", " sauce"]


@given(st.lists(st.sampled_from(PARTS), max_size=25))
def test_no_foreign_address_can_be_put_together(pieces: list[str]) -> None:
    text, answer = shown(pieces, terms=TERMS)
    assert not leaks(text)
    assert not re.search(r"no_answer\s*/?>", text)
    assert not re.search(r"(?<!\w)(?:secret\s+sauce|foo)(?!\w)", text, re.IGNORECASE)
    assert set(re.findall(r"\[(\d+)\]", text)) <= {"1"}
    assert ("[1]" in text) == (answer.cited == [1])


STRANGE = ["[", "]", "](", "]:", "![", "!", "\\", "(", ")", "<", ">", "\n", " ", "x", "- ", '"', "'", "a", "b ", "[1]", "[9]",
           "http:evil.example", "https://shop.example", "javascript:", "&colon;", "<b ", "</", " style", "=", "^", "https:", "//",
           "<no_answer/>"]  # fmt: skip


@given(st.lists(st.sampled_from(STRANGE), max_size=25), st.booleans())
def test_nor_any_link_or_image_of_a_reader_of_markdown_or_html(parts: list[str], at_once: bool) -> None:
    text, _ = shown(["".join(parts)] if at_once else parts)
    assert not leads_away(text)


@given(st.text(alphabet="abch tps:/.w\n,1é", max_size=80), st.sets(st.integers(0, 80)))
def test_pieces_make_no_difference_to_plain_text(text: str, cuts: set[int]) -> None:
    assert shown(in_pieces(text, cuts))[0] == shown([text])[0]


@pytest.mark.parametrize(
    "text",
    [
        f"See [delivery]({OWN}/delivery?a=1#b), [1].",
        f"Under {OWN}/delivery (or https://www.shop.example/x).",
        "At http://docs.example:8080/page.",
        "Use a[i] and b[], if a < b: List<String>; C:\\Users\\me // a comment, and/or 24/7!",
        "Note: it is 5 h. Wow! [sic] (see below)",
        f"[a]({OWN}/Foo_(bar))[2] ok",
        "At _www.shop.example_ now",
        f"[a\\_b! [c] d]({OWN}/a_b)",
        "See [1]: it is. x[i]: int, [sic]: no link here; [ ] to do",
        f"Under [1]: {OWN}/delivery\n\n[2]: see there",
        'Use `std::vector<std::string>`, i<n, `<b>` and <br>, or:\n\n```c\nfor (i=0;i<n;i++) a[i]="x";\n```',
        "```html\n<div class=\"a\" id='b'>x</div>\n```\nA ratio of 1:2 <3 and 5 > 4, \\[ x^2 \\]",
    ],
)
def test_what_is_ours_stays_as_it_is(text: str) -> None:
    assert shown(list(text))[0] == text
    assert shown([text])[0] == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"See [the terms](https://{FOREIGN}/).", "See the terms."),
        (f"![A chart](https://{FOREIGN}/x.png) shows it", "A chart shows it"),
        (f"![A chart]({OWN}/x.png) shows it", "A chart shows it"),
        (f"Noon [1](https://{FOREIGN}/).", "Noon [1]."),
        (f"Go to https://{FOREIGN}/login, now", "Go to …, now"),
        ("[here](/relative) or [there](mailto:a@b.example)", "here or there"),
    ],
)
def test_a_foreign_link_becomes_its_text(text: str, expected: str) -> None:
    assert shown(list(text))[0] == expected


def test_an_address_is_known_by_its_host_and_port() -> None:
    assert may_show(f"{OWN}:443/x", HOSTS)
    assert may_show("http://www.shop.example", HOSTS)
    assert not may_show(f"{OWN}:8443/x", HOSTS)
    assert not may_show("http://docs.example/", HOSTS)
    assert not may_show(f"{OWN}/{'x' * 2_000}", HOSTS)
    assert not may_show("https://[::1/", HOSTS)
    assert may_show("https://xn--mnchen-3ya.de/x", hosts_of(["https://www.münchen.de/a"]))


def test_an_endless_link_is_not_waited_for() -> None:
    answer = AnswerFilter(1, hosts=HOSTS)
    sent = "".join(answer.feed(f"[{'x' * 50}" if not number else "(y " * 20) for number in range(200))
    assert len(sent) > 5_000
    assert not leaks(sent)


@pytest.mark.parametrize("size", [1, 4, 100])
def test_a_blocked_term_is_masked(size: int) -> None:
    text = "Our Secret\n sauce is no food; FOO, foobar and the secret."
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    assert shown(pieces, terms=TERMS)[0] == "Our ••• is no food; •••, foobar and the secret."


@pytest.mark.parametrize("marker", ["<no_answer/>", "<NO_ANSWER>", " < no answer / > ", "<no_answer/>\n"])
def test_the_models_no_is_understood_and_not_shown(marker: str) -> None:
    for pieces in ([marker], list(marker)):
        text, answer = shown(pieces)
        assert (text.strip(), answer.declined) == ("", True)
    assert not shown(["There is no answer."])[1].declined

"""The sample company holds together: links resolve, facts are where the questions say, nothing leaves the site."""

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import TypedDict
from urllib.parse import urlsplit
from xml.etree import ElementTree

import pypdfium2
import pytest

from deploy.local.sample import manual

SAMPLE = Path(manual.__file__).parent
SITE = SAMPLE / "site"
PAGES = sorted(path.name for path in SITE.glob("*.html"))
CLOSED = {"basket.html"}
# Names of vocabularies: written like addresses, fetched by nobody.
VOCABULARIES = ("https://schema.org", "http://www.w3.org/2000/svg", "http://www.sitemaps.org/schemas/sitemap/0.9")
VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "wbr"}


class Question(TypedDict, total=False):
    """One line of questions.json."""

    question: str
    expected: str | None
    answer_contains: str | None
    demo: bool


class Page(HTMLParser):
    """What a reader sees of a page, where it leads, and the places in it that can be linked to."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.languages: set[str] = set()
        self.linked_data: list[str] = []
        self.words: list[str] = []
        self._unseen: list[str] = []
        self._in_linked_data = False
        self.feed(markup)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.links += [given[name] or "" for name in ("href", "src", "action") if given.get(name)]
        self.anchors |= {given.get("id") or "", (given.get("name") or "") if tag == "a" else ""}
        self.languages.add(given.get("lang") or "")
        self._in_linked_data = given.get("type") == "application/ld+json"
        if tag not in VOID and (self._unseen or _unseen(tag, given)):
            self._unseen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self._unseen and self._unseen[-1] == tag:
            self._unseen.pop()

    def handle_data(self, data: str) -> None:
        if self._in_linked_data and data.strip():
            self.linked_data.append(data)
        if not self._unseen:
            self.words.append(data)


def _unseen(tag: str, given: dict[str, str | None]) -> bool:
    style = (given.get("style") or "").replace(" ", "")
    return (
        tag in {"script", "style", "head", "noscript"}
        or "hidden" in given
        or bool(re.search("display:none|font-size:0", style))
    )


def _markup(name: str) -> str:
    raw = (SITE / name).read_bytes()
    declared = re.search(rb"charset=[\"']?([\w-]+)", raw[:1024])
    assert declared, f"{name} declares no charset"
    return raw.decode(declared[1].decode())


def _plain(text: str) -> str:
    return " ".join(re.sub("[\u200b\u00ad]", "", text).split())


@pytest.fixture(scope="module")
def manual_pages(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    path = tmp_path_factory.mktemp("manual") / "manual.pdf"
    manual.write_manual(path)
    return [page.get_textpage().get_text_bounded() for page in pypdfium2.PdfDocument(path)]


@pytest.fixture(scope="module")
def texts(manual_pages: list[str]) -> dict[str, str]:
    """Every document's visible text, by file name."""
    site = {name: _plain("".join(Page(_markup(name)).words)) for name in PAGES}
    return site | {"manual.pdf": _plain(" ".join(manual_pages))}


@pytest.fixture(scope="module")
def questions() -> list[Question]:
    found: list[Question] = json.loads((SAMPLE / "questions.json").read_text(encoding="utf-8"))
    return found


# --- the site --------------------------------------------------------------------------------------------------------


def _targets(name: str) -> Iterator[tuple[str, str]]:
    for link in Page(_markup(name)).links:
        if not link.startswith(("mailto:", "tel:")):
            parts = urlsplit(link)
            yield parts.path or name, parts.fragment


def test_there_are_enough_pages() -> None:
    assert len(set(PAGES) - CLOSED) >= 16


@pytest.mark.parametrize("name", PAGES)
def test_every_link_resolves_inside_the_site(name: str) -> None:
    for path, fragment in _targets(name):
        assert (SITE / path).is_file(), path
        assert not fragment or fragment in Page(_markup(path)).anchors, fragment


@pytest.mark.parametrize("name", sorted(path.name for path in SITE.iterdir()))
def test_no_file_names_an_external_host(name: str) -> None:
    text = (SITE / name).read_bytes().decode("latin-1")
    for vocabulary in VOCABULARIES:
        text = text.replace(vocabulary, "")
    assert not re.search(r"(?i)\w+://|(?:href|src|action)\s*=\s*[\"']?//|url\(\s*[\"']?//", text)


def test_a_crawl_from_the_start_page_finds_every_page() -> None:
    seen: set[str] = set()
    waiting = ["index.html"]
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += [path for path, _ in _targets(name) if path.endswith(".html")]
    assert seen == set(PAGES)


def test_the_sitemap_lists_what_robots_txt_leaves_open() -> None:
    tree = ElementTree.fromstring((SITE / "sitemap.xml").read_text(encoding="utf-8"))
    listed = [found.text or "" for found in tree.iter("{http://www.sitemaps.org/schemas/sitemap/0.9}loc")]
    assert sorted(listed) == sorted(f"{{base}}/{name}" for name in PAGES if name not in CLOSED)
    robots = (SITE / "robots.txt").read_text(encoding="utf-8")
    assert {line.removeprefix("Disallow: /") for line in robots.splitlines() if line.startswith("Disallow")} == CLOSED
    assert "Sitemap: {base}/sitemap.xml" in robots


def test_one_page_is_german_and_one_is_in_windows_1252() -> None:
    assert "de" in Page(_markup("lieferung-deutschland.html")).languages
    raw = (SITE / "discontinued-models.html").read_bytes()
    with pytest.raises(UnicodeDecodeError):
        raw.decode("utf-8")
    assert "2009–2016" in _markup("discontinued-models.html")


def test_linked_data_is_json() -> None:
    blocks = [json.loads(block) for name in PAGES for block in Page(_markup(name)).linked_data]
    assert {block["@type"] for block in blocks} == {"Product", "Store", "FAQPage"}


def test_the_care_page_hides_text_that_no_reader_sees(texts: dict[str, str]) -> None:
    markup = _markup("cleaning-and-care.html")
    for hidden in ("£899", "Note to assistants", "Draft note", "kiln shop near me"):
        assert hidden in markup.replace("&pound;", "£")
        assert hidden not in texts["cleaning-and-care.html"]
    assert "\u200b" in markup


# --- the manual ------------------------------------------------------------------------------------------------------


def test_the_manual_is_long_and_every_page_has_text_and_its_number(manual_pages: list[str]) -> None:
    assert len(manual_pages) >= 12
    for number, text in enumerate(manual_pages[1:], start=2):
        assert f"Page {number}" in text
        assert "Ottermere Kilns" in text


def test_the_manual_reads_in_the_order_of_its_source(manual_pages: list[str]) -> None:
    body = " ".join(manual_pages[1 + manual.CONTENTS_PAGES :])
    source = (SAMPLE / "manual.md").read_text(encoding="utf-8")
    headings = re.findall(r"^##? (.+)$", source, re.MULTILINE)
    places = [
        match.start() for match in re.finditer(r"^\d+(?:\.\d+)? +(.+?)\r?$", body, re.MULTILINE) if match[1] in headings
    ]
    assert [re.sub(r"^\S+ +", "", body[at:].splitlines()[0]) for at in places] == headings


def test_the_bookmarks_lead_to_the_pages_that_bear_their_titles(tmp_path: Path, manual_pages: list[str]) -> None:
    manual.write_manual(tmp_path / "manual.pdf")
    bookmarks = list(pypdfium2.PdfDocument(tmp_path / "manual.pdf").get_toc())
    chapters = [mark.get_title() for mark in bookmarks if mark.level == 0]
    assert [chapter.split()[0] for chapter in chapters] == [str(n) for n in range(1, len(chapters) + 1)]
    for mark in bookmarks:
        target = mark.get_dest()
        assert target is not None
        assert _plain(mark.get_title()) in _plain(manual_pages[target.get_index() or 0])


def test_the_manual_is_the_same_each_time_and_embeds_no_font(tmp_path: Path) -> None:
    for name in ("one.pdf", "two.pdf"):
        manual.write_manual(tmp_path / name)
    first = (tmp_path / "one.pdf").read_bytes()
    assert first == (tmp_path / "two.pdf").read_bytes()
    created = pypdfium2.PdfDocument(tmp_path / "one.pdf").get_metadata_value("CreationDate")
    assert created.startswith(f"D:{manual.EDITION:%Y%m%d%H%M%S}")
    assert b"/FontFile" not in first


# --- the questions ---------------------------------------------------------------------------------------------------


def test_each_fact_stands_in_the_document_that_is_expected(questions: list[Question], texts: dict[str, str]) -> None:
    for question in questions:
        expected, fact = question["expected"], question["answer_contains"]
        if expected is None or fact is None:
            assert expected is fact is None
        else:
            assert fact in texts[expected], question


def test_the_questions_cover_site_manual_german_and_the_unanswerable(questions: list[Question]) -> None:
    asked = [question["expected"] for question in questions]
    assert len({question["question"] for question in questions}) == len(questions)
    assert len(asked) - asked.count(None) >= 30
    assert asked.count("manual.pdf") >= 8
    assert asked.count("lieferung-deutschland.html") >= 3
    assert asked.count(None) == 6


def test_the_demo_question_has_its_answer_in_one_document_only(
    questions: list[Question], texts: dict[str, str]
) -> None:
    (demo,) = (question for question in questions if question.get("demo"))
    assert [name for name, text in texts.items() if (demo["answer_contains"] or "") in text] == [demo["expected"]]

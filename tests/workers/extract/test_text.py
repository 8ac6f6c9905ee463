"""Markdown and plain text, and what all documents have in common."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chat_api.core.errors import NoText
from tests.workers.extract.files import headings, outcome, read, texts
from workers.documents import Block

MARKDOWN = """---
title: "Front matter"
tags: [a]
---
# Kiln *care*

Some [linked](https://example.com "t") text with `code`,
wrapped.  \nBroken.

- one
  - nested **bold**
- two

  more of two

3. three
4. four

| Part | Price |
|------|------:|
| A \\| B | 5 |

> A quote.

```python
def f():
    return 1
```

1. Run:

   ```
   go
   ```

![A diagram](x.png) <b>html</b> &amp; more
"""


def test_markdown_blocks() -> None:
    document = read(MARKDOWN, filename="care.md")
    assert document.title == "Front matter"
    assert document.media_type == "text/markdown"
    assert headings(document) == [(1, "Kiln care")]
    assert texts(document, "paragraph") == [
        "Some linked text with code, wrapped.\nBroken.",
        "A quote.",
        "Run:",
        "A diagram html & more",
    ]
    assert texts(document, "list") == ["- one\n  - nested bold\n- two\n  more of two", "3. three\n4. four"]
    assert texts(document, "table") == ["| Part | Price |\n| --- | --- |\n| A \\| B | 5 |"]
    assert texts(document, "code") == ["def f():\n    return 1", "go"]


def test_markdown_title_without_front_matter() -> None:
    assert read("# The title\n\n[a](https://b.example)", filename="x.md").title == "The title"


@pytest.mark.parametrize(
    ("written", "seen"),
    [
        ("9-17<br>Sat 10-14<br />\nSun closed", ["9-17\nSat 10-14\nSun closed"]),
        ("<table><tr><td>Price</td><td>10</td></tr></table>", ["Price 10"]),
        ("<p>one</p>\n<p>two</p>", ["one\ntwo"]),
        ("un<b>believ</b>able <a href='/x'>here</a><!-- note -->", ["unbelievable here"]),
        ("with <order number> as reference", ["with <order number> as reference"]),
        ("<your name>\n\nnext", ["<your name>", "next"]),
        ("- a<br>b", ["- a b"]),
        ("# Open<br>daily", ["Open daily"]),
    ],
)
def test_html_in_markdown_is_what_readers_see(written: str, seen: list[str]) -> None:
    document = read(written, filename="x.md")
    assert [block.text for block in document.blocks] == seen
    assert document.warnings == ()


@pytest.mark.parametrize(
    "hidden",
    [
        '<div style="display:none">our cost</div>',
        "<div hidden>\n\nour\n\n```\ncost\n```\n\n<div>\n\n</div></div>",
        "<p hidden>our cost",
        "see <span style='display: none'>our *cost*</span>",
        "- see\n- <b hidden>our</b> <i hidden>cost</i>",
    ],
)
def test_hidden_html_in_markdown_is_dropped_and_reported(hidden: str) -> None:
    document = read(f"{hidden}\n\nthe price", filename="x.md")
    text = "\n".join(block.text for block in document.blocks)
    assert "the price" in text
    assert not any(word in text for word in ("our", "cost"))
    assert document.warnings == ("2 words that the document hides from its readers were dropped.",)


def test_classes_hide_nothing_and_code_is_no_text() -> None:
    body = (
        "<div class='is hidden now' id=style>shown</div>\n\n<style>\np {}\n\nq {}\n</style>\n\nend <script>x</script>"
    )
    document = read(body, filename="x.md")
    assert [block.text for block in document.blocks] == ["shown", "end"]
    assert document.warnings == ()


@pytest.mark.parametrize(
    "first",
    ["We are open.\n\nEvery day.", "Hours: 9-17\nWe are closed on Sunday.", "Opening hours: 9-17", "\n# Hours\n\nx: y"],
)
def test_rules_around_prose_are_no_front_matter(first: str) -> None:
    document = read(f"---\n{first}\n\n---\n\nContact: 030 123", filename="x.md")
    found = "\n".join(block.text for block in document.blocks)
    assert all(word in found for word in first.replace("#", "").split())
    assert "Contact: 030 123" in found


def test_front_matter_may_hold_lists_comments_and_long_values() -> None:
    matter = "\ntitle: T\n# by hand\n'tags':\n- a\n-\n  b\nnote: >\n  some prose\nlinks: [\n  x\n]"
    document = read(f"---\n{matter}\n---\ntext", filename="x.md")
    assert (document.title, [block.text for block in document.blocks]) == ("T", ["text"])


def test_plain_text_paragraphs() -> None:
    document = read(b"One\r\nline.\r\n\r\n \r\nTwo\twith tab.\n", filename="price_list-2026.txt")
    assert document.title == "price list 2026"
    assert document.blocks == (Block("paragraph", "One\nline."), Block("paragraph", "Two with tab."))


def test_title_of_text_without_a_name_is_its_host() -> None:
    assert read("Just words.").title == "help"


@pytest.mark.parametrize("text", ["***", "---\ntitle: only\n---\n", "[](x)\n\n- \n"])
def test_no_text(text: str) -> None:
    with pytest.raises(NoText):
        read(text, filename="x.md")


@settings(max_examples=80)
@given(st.text(max_size=300), st.sampled_from(["a.md", "a.txt", "a.html", None]))
def test_any_text_is_read_or_refused_by_type(text: str, filename: str | None) -> None:
    body = text.encode("utf-8", "surrogatepass")
    found = outcome(body, filename=filename)
    assert found in {"text", "no_text", "unsupported_type"}
    if found == "text":
        document = read(body, filename=filename)
        assert document.title
        assert all(block.text.strip() and "\0" not in block.text for block in document.blocks)

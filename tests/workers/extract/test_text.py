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


@settings(max_examples=80, deadline=None)
@given(st.text(max_size=300), st.sampled_from(["a.md", "a.txt", "a.html", None]))
def test_any_text_is_read_or_refused_by_type(text: str, filename: str | None) -> None:
    body = text.encode("utf-8", "surrogatepass")
    found = outcome(body, filename=filename)
    assert found in {"text", "no_text", "unsupported_type"}
    if found == "text":
        document = read(body, filename=filename)
        assert document.title
        assert all(block.text.strip() and "\0" not in block.text for block in document.blocks)

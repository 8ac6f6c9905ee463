"""Where a source is linked at, and what is shown of it."""

import pytest

from chat_api.chat.retrieve import deep_link, snippet


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("Parcels, ordered by 11:30, leave – same-day – at noon & more", "Parcels%2C%20ordered%20by%2011%3A30%2C%20leave%20%E2%80%93%20same%2Dday%20%E2%80%93"),
        ("- first item\n- second", "first%20item"),
        ("1. Look at it", "Look%20at%20it"),
        ("|  | Wren | Heron |\n| --- | --- | --- |", "Wren"),
        ("> **Bold** `code`", "Bold%20code"),
        ("```\nx = 1\n```", "x%20%3D%201"),
        ("```python\n\nx = 2**3 | 1\n```", "x%20%3D%202%2A%2A3%20%7C%201"),
        ("```bash\n```\n\n**Then** wait", "Then%20wait"),
    ],
)  # fmt: skip
def test_a_web_page_is_linked_at_the_passages_words(text: str, fragment: str) -> None:
    assert deep_link("https://shop.example/a", None, text) == f"https://shop.example/a#:~:text={fragment}"


def test_a_link_leads_to_a_documents_page_and_nothing_is_invented() -> None:
    assert deep_link("https://shop.example/m.pdf", 12, "text") == "https://shop.example/m.pdf#page=12"
    assert deep_link(None, 12, "text") is None
    assert deep_link("https://shop.example/a#b", None, "text") == "https://shop.example/a#b:~:text=text"
    assert deep_link("https://shop.example/a", None, "| --- |") == "https://shop.example/a"


def test_a_snippet_is_one_line() -> None:
    assert snippet("one\n\n two") == "one two"
    cut = snippet("word " * 100)
    assert len(cut) <= 242
    assert cut.endswith("word …")

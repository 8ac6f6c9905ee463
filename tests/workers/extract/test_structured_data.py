"""JSON-LD and microdata: what readers would miss, once, and nothing that is broken."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.workers.extract.files import all_text, headings, read
from workers.extract.html_page import parse
from workers.extract.structured_data import missing_from, page_data

TEXT = "<p>Parcels are packed on the day you order and leave the house on the next working morning, by post.</p>"


def shop(*data: Any, body: str = TEXT) -> str:
    """A page with these JSON-LD values."""
    scripts = "".join(f'<script type="application/ld+json">{json.dumps(value)}</script>' for value in data)
    return f"<html lang=en><head>{scripts}</head><body><main><h1>Help</h1>{body}</main></body></html>"


def question(asked: str, answer: str) -> dict[str, Any]:
    """A question as schema.org has it."""
    return {"@type": "Question", "name": asked, "acceptedAnswer": {"@type": "Answer", "text": answer}}


FAQ = {
    "@context": "https://schema.org",
    "@type": "FAQPage",
    "mainEntity": [
        question("May I pay later?", "<p>Yes, within <b>fourteen</b> days of delivery &amp; by invoice.</p>"),
        question("Is it loud?", "No, it hums at forty decibels."),
    ],
}


def test_questions_that_the_page_does_not_show_are_added() -> None:
    document = read(shop(FAQ))
    assert headings(document) == [(1, "Help"), (2, "May I pay later?"), (2, "Is it loud?")]
    assert "Yes, within fourteen days of delivery & by invoice." in all_text(document)


def test_what_the_page_shows_is_not_doubled() -> None:
    shown = "<h2>Is it loud?</h2><p>No, it hums at forty decibels.</p>"
    text = all_text(read(shop(FAQ, body=TEXT + shown)))
    assert text.count("forty decibels") == 1
    assert "fourteen days" in text


def test_answers_in_a_graph_and_of_a_forum() -> None:
    suggested = [{"@type": "Answer", "text": "Linseed oil, thinned by half."}]
    asked = {"@type": "QAPage", "mainEntity": {"@type": "Question", "name": "Which oil?", "suggestedAnswer": suggested}}
    assert "Linseed oil, thinned by half." in all_text(read(shop({"@graph": [{"@type": "WebSite"}, asked]})))


def test_instructions_are_numbered() -> None:
    steps = [{"@type": "HowToStep", "name": "Fill", "text": "Fill the tank."}, {"@type": "HowToStep", "text": "Wait."}]
    guide = {"@type": "HowTo", "name": "Descale it", "step": [{"@type": "HowToSection", "itemListElement": steps}]}
    assert "1. Fill the tank.\n2. Wait." in all_text(read(shop(guide)))


def test_a_product_tells_its_price() -> None:
    product = {
        "@type": ["Product"],
        "name": "Brewmaster",
        "brand": {"@type": "Brand", "name": "Kiln Co"},
        "sku": 3000,
        "offers": [{"@type": "Offer", "price": 129.5, "priceCurrency": "EUR"}],
    }
    text = all_text(read(shop(product)))
    assert "- Brand: Kiln Co\n- Article number: 3000\n- Price: 129.5 EUR" in text


def test_microdata_of_folded_answers() -> None:
    folded = (
        '<div itemscope itemtype="https://schema.org/FAQPage"><div itemscope itemprop="mainEntity"'
        ' itemtype="https://schema.org/Question"><h3 itemprop="name">May I swap?</h3><div itemscope'
        ' itemprop="acceptedAnswer" itemtype="https://schema.org/Answer" style="display:none"><p itemprop="text">Within'
        " a month, unused.</p></div></div></div>"
    )
    document = read(shop(body=TEXT + folded))
    assert "Within a month, unused." in all_text(document)
    assert all_text(document).count("Within a month") == 1


@pytest.mark.parametrize("broken", ["{", '{"@type": "FAQPage", "mainEntity": 7}', "[" * 5000, '"\\ud800"', "null", ""])
def test_broken_data_is_no_error(broken: str) -> None:
    markup = f'<html><script type="application/ld+json">{broken}</script><body><main>{TEXT}</main></body></html>'
    assert "Parcels are packed" in all_text(read(markup))


def test_the_number_of_entries_has_a_limit() -> None:
    tree = parse(shop({"@type": "FAQPage", "mainEntity": [question(f"Is it {n}?", f"It is {n}.") for n in range(900)]}))
    assert len(page_data(tree).entries) == 200


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["@type", "name", "text", "step", "offers", "price", "mainEntity", "acceptedAnswer"]),
            inner | st.sampled_from(["Question", "HowTo", "HowToStep", "Product", "NewsArticle"]),
            max_size=5,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=80)
@given(_values)
def test_any_data_gives_blocks_with_text(value: Any) -> None:
    tree = parse(f'<html><script type="application/ld+json">{json.dumps(value)}</script><body><p>x')
    data = page_data(tree)
    assert all(block.text.strip() for block in missing_from([], data))

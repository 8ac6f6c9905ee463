"""Parts of a page's content that are called like furniture: accordions, cards, tabs, builders' widgets, scroll reveals."""

import pytest

from tests.workers.extract.files import all_text, headings, read, texts
from workers.documents import Document

TEXT = (
    "<p>Parcels are packed on the day you order and leave the house on the next working morning, by post.</p>"
    "<p>Glass travels in double boxes, which is why it takes a day longer than the rest of what we send.</p>"
)
TOP = (
    "<header class='site-header'><a class='navbar-brand' href='/'>Shop logo</a>"
    "<nav class='navbar navbar-expand-lg'><ul class='navbar-nav'><li class='nav-item'><a href='/a'>All drawers</a></li>"
    "</ul></nav></header>"
    "<div class='header'><h2>Seasonal greetings</h2><p>Call now</p></div>"
    "<div id='nav-top' class='nav'><p>Where to go</p></div>"
)
BOTTOM = (
    "<div class='sidebar widget-area'><section class='widget widget_recent'><h3>Recent posts</h3>"
    "<ul><li><a href='/p1'>On clay</a></li></ul></section></div>"
    "<div class='footer'><h4>Company</h4><p>Imprint here</p></div><footer><p>Rights reserved</p></footer>"
)
FURNITURE = (
    "Shop logo",
    "All drawers",
    "Seasonal greetings",
    "Call now",
    "Where to go",
    "Recent posts",
    "On clay",
    "Company",
    "Imprint here",
    "Rights reserved",
)


def framed(body: str, *, marked: bool = False) -> Document:
    """A page with this among real furniture, which none of its text is; `marked` as the page's main text."""
    tag = "main" if marked else "div"
    document = read(
        f"<html><head><title>Help</title></head><body>{TOP}<{tag} class='container'><h1>Help</h1>{body}{TEXT}</{tag}>"
        f"{BOTTOM}</body></html>"
    )
    found = all_text(document)
    assert [words for words in FURNITURE if words in found] == []
    return document


both = pytest.mark.parametrize("marked", [True, False], ids=["main", "div"])

ACCORDION_5 = """<div class="accordion" id="accordionExample">
  <div class="accordion-item">
    <h2 class="accordion-header">
      <button class="accordion-button" type="button" data-bs-toggle="collapse" data-bs-target="#collapseOne"
        aria-expanded="true" aria-controls="collapseOne">May I pay later, and how?</button>
    </h2>
    <div id="collapseOne" class="accordion-collapse collapse show" data-bs-parent="#accordionExample">
      <div class="accordion-body">You may, within thirty days, by bank transfer.</div>
    </div>
  </div>
  <div class="accordion-item">
    <h2 class="accordion-header">
      <button class="accordion-button collapsed" type="button" data-bs-toggle="collapse" data-bs-target="#collapseTwo"
        aria-expanded="false" aria-controls="collapseTwo">Do you send abroad?</button>
    </h2>
    <div id="collapseTwo" class="accordion-collapse collapse" data-bs-parent="#accordionExample">
      <div class="accordion-body">We send to all of Europe for nine euros.</div>
    </div>
  </div>
</div>"""
ACCORDION_4 = """<div class="accordion" id="accordionExample">
  <div class="card">
    <div class="card-header" id="headingOne">
      <h2 class="mb-0">
        <button class="btn btn-link btn-block text-left" type="button" data-toggle="collapse" data-target="#collapseOne"
          aria-expanded="true" aria-controls="collapseOne">May I pay later, and how?</button>
      </h2>
    </div>
    <div id="collapseOne" class="collapse show" aria-labelledby="headingOne" data-parent="#accordionExample">
      <div class="card-body">You may, within thirty days, by bank transfer.</div>
    </div>
  </div>
  <div class="card">
    <div class="card-header" id="headingTwo">
      <h2 class="mb-0">
        <button class="btn btn-link btn-block text-left collapsed" type="button" data-toggle="collapse"
          data-target="#collapseTwo" aria-expanded="false" aria-controls="collapseTwo">Do you send abroad?</button>
      </h2>
    </div>
    <div id="collapseTwo" class="collapse" aria-labelledby="headingTwo" data-parent="#accordionExample">
      <div class="card-body">We send to all of Europe for nine euros.</div>
    </div>
  </div>
</div>"""


@both
@pytest.mark.parametrize("accordion", [ACCORDION_5, ACCORDION_4], ids=["bootstrap 5", "bootstrap 4"])
def test_an_accordion_s_questions_stand_over_their_answers(accordion: str, marked: bool) -> None:
    document = framed(accordion, marked=marked)
    assert texts(document)[1:5] == [
        "May I pay later, and how?",
        "You may, within thirty days, by bank transfer.",
        "Do you send abroad?",
        "We send to all of Europe for nine euros.",
    ]
    assert headings(document)[1:] == [(2, "May I pay later, and how?"), (2, "Do you send abroad?")]


@both
def test_a_part_s_counted_id_is_no_page_s_header(marked: bool) -> None:
    accordion = """<div class="MuiPaper-root MuiAccordion-root"><div class="MuiButtonBase-root MuiAccordionSummary-root"
        tabindex="0" role="button" aria-expanded="false" aria-controls="panel1-content" id="panel1-header">
        <div class="MuiAccordionSummary-content"><p class="MuiTypography-root">May I?</p></div></div>
      <div aria-labelledby="panel1-header" id="panel1-content" role="region"><p>You may, by bank transfer.</p></div></div>
      <div id="section-header"><h2>On sale</h2></div>"""
    found = texts(framed(accordion, marked=marked))
    assert found[1:3] == ["May I?", "You may, by bank transfer."]
    assert "On sale" not in found


@both
def test_plans_keep_their_names_beside_their_prices(marked: bool) -> None:
    plan = """<div class="col"><div class="card mb-4 rounded-3 shadow-sm">
      <div class="card-header py-3"><h4 class="my-0 fw-normal">{name}</h4></div>
      <div class="card-body"><h1 class="card-title pricing-card-title">{price}<small class="text-muted">/mo</small></h1>
        <ul class="list-unstyled mt-3 mb-4"><li>{users} users included</li><li>{users} GB of storage</li></ul>
        <button type="button" class="w-100 btn btn-lg btn-outline-primary">Sign up</button></div></div></div>"""
    plans = [("Free", "$0", 10), ("Pro", "$15", 20), ("Enterprise", "$29", 30)]
    rows = "".join(plan.format(name=name, price=price, users=users) for name, price, users in plans)
    document = framed(f'<div class="row row-cols-1 row-cols-md-3 mb-3 text-center">{rows}</div>', marked=marked)
    told = [text for _, text in headings(document)]
    assert told[1:7] == ["Free", "$0/mo", "Pro", "$15/mo", "Enterprise", "$29/mo"]
    assert "Sign up" not in all_text(document)


@both
def test_tabs_are_text(marked: bool) -> None:
    tabs = """<nav><div class="nav nav-tabs" id="nav-tab" role="tablist">
      <button class="nav-link active" id="nav-home-tab" data-bs-toggle="tab" data-bs-target="#nav-home" type="button"
        role="tab" aria-controls="nav-home" aria-selected="true">Home</button></div></nav>
    <div class="tab-content" id="nav-tabContent">
      <div class="tab-pane fade show active" id="nav-home" role="tabpanel" aria-labelledby="nav-home-tab" tabindex="0">
        <h3>For homes</h3><p>Two litres.</p></div>
      <div class="tab-pane fade" id="nav-profile" role="tabpanel" aria-labelledby="nav-profile-tab" tabindex="0">
        <h3>For offices</h3><p>Nine litres.</p></div></div>"""
    found = texts(framed(tabs, marked=marked))
    assert found[1:5] == ["For homes", "Two litres.", "For offices", "Nine litres."]


@both
def test_a_page_builder_s_widgets_are_text_and_its_furniture_is_none(marked: bool) -> None:
    def widget(kind: str, body: str) -> str:
        return (
            f'<div class="elementor-element elementor-element-7a1 elementor-widget elementor-widget-{kind}" data-id="7a1"'
            f' data-element_type="widget"><div class="elementor-widget-container">{body}</div></div>'
        )

    body = (
        '<div data-elementor-type="wp-page" class="elementor elementor-9"><div class="elementor-widget-wrap">'
        + widget("heading", '<h2 class="elementor-heading-title elementor-size-default">Opening hours</h2>')
        + widget("text-editor", "<p>Daily, ten to six.</p>")
        + widget("heading", '<h2 class="elementor-heading-title elementor-size-default">Price</h2>')
        + widget("text-editor", "<p>19 €</p>")
        + widget("nav-menu", "<p>Our other houses</p>")
        + widget("share-buttons", "<p>Tell your friends</p>")
        + "</div></div>"
        '<div data-elementor-type="footer" class="elementor elementor-3 elementor-location-footer">'
        + widget("heading", "<h2>Our newsletter</h2>")
        + widget("text-editor", "<p>Sign up</p>")
        + "</div>"
    )
    found = texts(framed(body, marked=marked))
    assert found[1:5] == ["Opening hours", "Daily, ten to six.", "Price", "19 €"]
    for gone in ("Our other houses", "Tell your friends", "Our newsletter", "Sign up"):
        assert gone not in found


def test_a_short_heading_stays_with_what_is_chosen_below_it() -> None:
    box = f"<div class='widget'><h3>Glass</h3>{TEXT.replace('arcel', 'rate')}</div>"
    assert (3, "Glass") in headings(framed(f"<p>All that we send.</p>{box}"))


@pytest.mark.parametrize(
    "attributes",
    [
        "style='opacity:0;transform:translateY(20px)'",
        "style='opacity: 0; will-change: transform'",
        "style='filter:blur(4px);opacity:0'",
        "style='opacity:0;transition:opacity .6s'",
        "data-w-id='5c1f2a' style='opacity:0'",
        "data-aos='fade-up' style='opacity:0'",
        "data-framer-appear-id='1x' style='opacity:0.0'",
        "data-animate style='opacity:0'",
        "data-scroll='in' style='opacity:0'",
    ],
)
def test_what_fades_in_as_the_reader_scrolls_is_text(attributes: str) -> None:
    document = framed(f"<section {attributes}><h2>Prices</h2><p>Nineteen euros a month.</p></section>")
    assert "Nineteen euros a month." in texts(document)
    assert document.warnings == ()


@pytest.mark.parametrize(
    "attributes",
    [
        "style='opacity:0;transform:none;display:none'",
        "style='visibility:hidden;opacity:0;transition:all 1s'",
        "style='opacity:0;transform:scale(.9);pointer-events:none'",
        "style='opacity:0;color:red'",
        "data-word='x' style='opacity:0'",
        "data-aos='fade-up' hidden style='opacity:0'",
    ],
)
def test_what_is_hidden_in_another_way_too_is_none(attributes: str) -> None:
    document = framed(f"<section {attributes}><p>Nineteen euros a month.</p></section>")
    assert "Nineteen" not in all_text(document)
    assert document.warnings != ()

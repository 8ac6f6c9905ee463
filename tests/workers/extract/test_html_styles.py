"""What a page's own stylesheet hides is no text; what its readers can unfold is, however the stylesheet begins."""

import pytest

from tests.workers.extract.files import all_text, read
from workers.documents import Document

TEXT = (
    "<p>Parcels are packed on the day you order and leave the house on the next working morning, by post.</p>"
    "<p>Glass travels in double boxes, which is why it takes a day longer than the rest of what we send.</p>"
)
ANSWER = "Nineteen euros a month."


def styled(css: str, body: str = f"<div class='x' id='y'><p>{ANSWER}</p></div>", *, more: str = "") -> Document:
    """A page with this stylesheet and this among its text; `more` stands in its head."""
    return read(
        f"<html><head><title>Help</title><style>{css}</style>{more}</head><body><main><h1>Help</h1>{TEXT}{body}{TEXT}"
        "</main></body></html>"
    )


@pytest.mark.parametrize(
    "css",
    [
        ".x{display:none}",
        "#y { DISPLAY : NONE !important; color: red }",
        "div.x{visibility:hidden}",
        "DIV#y{display:none}",
        "p.z, .x , h2{display:none}",
        "@charset 'utf-8'; @import url(a.css);\n.x{display:none}",
        "/* } */ .a::after{content:'{'} <!-- .x{display:none} -->",
        "@media print{.a{color:red}.b{color:red}} .x{display:none}",
        ".x{color:red}.x p{display:block}.x{display:none}",
        ".x{display:none",
    ],
)
def test_what_a_simple_selector_hides_is_dropped_and_reported(css: str) -> None:
    document = styled(css)
    assert ANSWER not in all_text(document)
    assert document.warnings == ("4 words that the page hides from its readers were dropped.",)


@pytest.mark.parametrize(
    "css",
    [
        "@media print{.x{display:none}}",
        "@media (max-width:40em){.x{display:none}}",
        "@media print{.a::after{content:'}'}.x{display:none}}",
        ".a{.x{display:none}}",
        ".x{display:none;&.open{display:block}}",
        "p.x{display:none}",
        ".X{display:none}",
        ".x.folded{display:none}",
        ".y .x{display:none}",
        ".x:empty{display:none}",
        ".x::before{display:none}",
        "/* .x{display:none} */",
        ".x{display:none-such}",
        ".x{--display:none}",
        ".x{display:none}.x.open{display:block}",
        ".x{display:none}input:checked~.x{display:block}",
        ".x{display:none}:target{display:block}#y:target{display:block}",
        ".x{display:none}@media (min-width:40em){.x{display:flex}}",
        ".x{visibility:hidden}.x.seen{visibility:visible}",
        ".x{visibility:hidden;transition:visibility 1s}",
        'q::before{content:"\\""}@media print{a::after{content:" (" attr(href) ")"}.x{display:none}}',
    ],
)
def test_what_other_readers_or_another_moment_see_is_text(css: str) -> None:
    document = styled(css)
    assert ANSWER in all_text(document)
    assert document.warnings == ()


@pytest.mark.parametrize(
    "more",
    [
        "<script>document.querySelectorAll('.x').forEach(show)</script>",
        "<script>$('.faq .x').slideDown()</script>",
        '<script>document.getElementById("y").hidden = false</script>',
        "<script>a.nextElementSibling.classList.toggle(`x`)</script>",
    ],
)
def test_what_a_script_speaks_of_is_text(more: str) -> None:
    assert ANSWER in all_text(styled(".x{display:none}", more=more))


def test_a_script_that_speaks_of_something_else_shows_nothing() -> None:
    script = "<script>dataLayer = ['none', '']; if (x.length) gtag('config', \"G-1\")</script>"
    document = styled(".x{display:none}", f"<div class='x'>{ANSWER}</div>", more=script)
    assert ANSWER not in all_text(document)


@pytest.mark.parametrize(
    "body",
    [
        # W3Schools' accordion, jQuery's, MDN's tabs and what people make of them; the script is a file of its own.
        "<button class='q'>What does it cost?</button><div class='x'><p>{}</p></div>",
        "<h3 class='q'>What does it cost?</h3><div class='x'>{}</div>",
        "<h3>What does it cost?</h3><style>.q{{}}</style><div class='x'><p>{}</p></div>",
        "<dl><dt>What does it cost?</dt><dd class='x'>{}</dd></dl>",
        "<div class='q'><span role='button' tabindex='0'>What does it cost?</span></div><div class='x'>{}</div>",
        "<div class='q' onclick='go(this)'>What does it cost?</div><div class='x'>{}</div>",
        "<div class='q'><label>What does it cost?<input type='checkbox'></label></div><div class='x'>{}</div>",
        "<a href='#cost'>What does it cost?</a><p>It depends.</p><div class='x' id='cost'>{}</div>",
        "<a data-open='cost'>What does it cost?</a><p>It depends.</p><div class='x' id='cost'>{}</div>",
        "<a onclick=\"show('cost')\">What does it cost?</a><p>It depends.</p><div class='x' id='cost'>{}</div>",
        "<a aria-controls='cost'>What does it cost?</a><p>It depends.</p><div class='x' id='cost'>{}</div>",
        "<p>What does it cost?</p><div class='x' role='tabpanel'>{}</div>",
        "<p>What does it cost?</p><div class='x accordion-content'>{}</div>",
        "<p>What does it cost?</p><div class='x TabPane'>{}</div>",
        "<p>What does it cost?</p><div class='x' id='answer1'>{}</div>",
        "<div class='faq-item'><p>What does it cost?</p><div class='x'>{}</div></div>",
        "<div class='x elementor-invisible' data-settings='{{}}'>{}</div>",
        "<div class='x' data-aos='fade-up'>{}</div>",
        "<details open><summary>What does it cost?</summary><div class='x'>{}</div></details>",
        "<h3>What does it cost?</h3><p class='x'>It depends.</p><p class='x'>{}</p>",
        "<p>It depends.</p><div class='x'>{}</div><button>Read on</button>",
        "<section class='faq'><div><p>What does it cost?</p><div class='x'>{}</div></div></section>",
        "<p>It depends.</p><div class='x' style='display:block'>{}</div>",
        "<p>It depends.</p><div class='x'><h1>Costs</h1><p>{}</p></div>",
        "<p>It depends.</p><article class='x'>{}</article>",
        "<style>.in{{visibility:visible}}</style><p>It depends.</p><div class='x'><p class='in'>{}</p></div>",
        "<style media='(min-width:48em)'>.x{{display:block}}</style><p>It depends.</p><div class='x'>{}</div>",
    ],
)
def test_what_readers_unfold_is_text(body: str) -> None:
    document = styled(".x{display:none}", body.format(ANSWER), more="<script src='/app.js'></script>")
    assert ANSWER in all_text(document)
    assert document.warnings == ()


def test_a_page_that_a_script_shows_when_it_is_ready_is_text() -> None:
    body = f"<style>.page{{visibility:hidden}}</style><script src='/a.js'></script><div class='page'><h1>Help</h1>{TEXT}</div>"
    document = read(f"<html><body>{body}<p>Wait a moment.</p></body></html>")
    assert "double boxes" in all_text(document)
    assert document.warnings == ()


@pytest.mark.parametrize(
    "sheet",
    [
        "<style media='print'>.x{display:none}</style>",
        "<noscript><style>.x{display:none}</style></noscript>",
        "<template><style>.x{display:none}</style></template>",
    ],
)
def test_a_stylesheet_for_others_hides_nothing(sheet: str) -> None:
    assert ANSWER in all_text(styled("", more=sheet))


def test_a_stylesheet_for_screens_in_the_body_hides() -> None:
    body = f"<style media='screen'>.x{{display:none}}</style><div class='x'>{ANSWER}</div>"
    assert ANSWER not in all_text(styled("", body))


@pytest.mark.parametrize(
    ("css", "body"),
    [
        ("/*" * 400_000, ""),
        ("{" * 800_000, ""),
        ("}" * 800_000, ""),
        ('"' * 800_000, ""),
        (".x{display:none}" * 50_000, ""),
        ("a," * 400_000 + "b{display:none}", ""),
        (".x{display:none}", f"<div class='{'a' * 500_000}'>{'<p class=x>word' * 20_000}</div>"),
        (".x{display:none}", "<a href=# data-a>a</a>" * 50_000),
    ],
    ids=["comments", "opened", "closed", "quotes", "rules", "selectors", "named", "led to"],
)
@pytest.mark.timeout(20)
def test_heavy_stylesheets_stay_cheap(css: str, body: str) -> None:
    assert "double boxes" in all_text(styled(css, body))


def test_a_stylesheet_beyond_the_bound_hides_nothing() -> None:
    assert ANSWER in all_text(styled(f".x{{display:none}}{' ' * 1_000_000}"))

"""Web pages: all of their own text in its structure, none of their furniture, nothing that they hide."""

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chat_api.core.errors import NeedsRendering, NoText, UnsupportedType
from tests.workers.extract.files import all_text, headings, page, read, texts
from workers.documents import Document, Fetched
from workers.extract.dispatch import extract

FILLER = (
    "<p>Parcels are packed on the day you order and leave the house on the next working morning, which is usually early"
    " enough for the neighbouring towns. Everything else takes a little longer than that.</p>"
)


def article(body: str, *, head: str = "", before: str = "", after: str = "") -> Document:
    """A page whose main text is `body`, read."""
    return extract(
        page(f"<html lang='en'><head>{head}</head><body>{before}<main>{body}{FILLER}</main>{after}</body></html>")
    )


# --- structure --------------------------------------------------------------------------------------------------------


def test_headings_paragraphs_and_lists() -> None:
    document = article(
        "<h1>Returns<a href='#returns'>¶</a></h1><p>Send it <b>back</b>,\n  please.<br>Soon.</p><h2>How</h2>"
        "<ul><li>First<ul><li>nested</li></ul></li><li><p>Second</p></li></ul><ol start=3><li>three<li>four</ol>"
    )
    assert headings(document) == [(1, "Returns"), (2, "How")]
    assert texts(document, "paragraph")[0] == "Send it back, please.\nSoon."
    assert texts(document, "list") == ["- First\n  - nested\n- Second", "3. three\n4. four"]


def test_tables_are_markdown_with_spans_filled_in() -> None:
    document = article(
        "<table><caption>Prices</caption><thead><tr><th rowspan=2>Land</th><th colspan=2>Parcel</th></tr>"
        "<tr><th>small</th><th>big</th></tr></thead><tbody><tr><td rowspan=2>Wales</td><td>£5</td><td>£8 | £9</td></tr>"
        "<tr><td>£6</td></tr></tbody></table>"
    )
    assert "Prices" in texts(document, "paragraph")
    assert texts(document, "table") == [
        "| Land | Parcel small | Parcel big |\n| --- | --- | --- |\n| Wales | £5 | £8 \\| £9 |\n| Wales | £6 |  |"
    ]


@pytest.mark.parametrize("rowspan", ["60", "5000", "65534"])
def test_a_value_over_many_rows_is_said_in_each_as_far_as_there_are_rows(rowspan: str) -> None:
    rows = "".join(f"<tr><td>Size {number}</td><td>£{number}</td></tr>" for number in range(1, 60))
    (table,) = texts(
        article(
            f"<table><tr><th>Land</th><th>Size</th><th>Price</th></tr><tr><td rowspan={rowspan}>Wales</td><td>Size 0</td>"
            f"<td>£0</td></tr>{rows}</table>"
        ),
        "table",
    )
    assert table.split("\n")[2:] == [f"| Wales | Size {number} | £{number} |" for number in range(60)]


def test_a_long_value_over_many_rows_is_said_once() -> None:
    rows = "".join(f"<tr><td>Size {number}</td></tr>" for number in range(1, 99))
    head = f"<tr><th>Land</th><th>Size</th></tr><tr><td rowspan=99>{'Wales ' * 60}</td><td>Size 0</td></tr>"
    (table,) = texts(article(f"<table>{head}{rows}</table>"), "table")
    assert table.split("\n")[-1] == "|  | Size 98 |"
    assert table.count("Wales") == 60


def test_table_without_heads_gets_none() -> None:
    (table,) = texts(
        article("<table><tr><td>Weight</td><td>3 kg</td></tr><tr><td>Volume</td><td>2 l</td></tr></table>"), "table"
    )
    assert table == "|  |  |\n| --- | --- |\n| Weight | 3 kg |\n| Volume | 2 l |"


def test_layout_tables_are_read_through() -> None:
    document = article(
        "<table><tr><td><h2>Left</h2><p>Words on the left.</p></td><td><p>Words on the right.</p></td></tr></table>"
    )
    assert (2, "Left") in headings(document)
    assert texts(document, "table") == []
    assert "Words on the right." in texts(document)


def test_code_is_verbatim_without_line_numbers() -> None:
    document = article("<pre><span class='lineno'>1</span>def f():<br>    return <b>1</b>\n</pre>")
    assert texts(document, "code") == ["def f():\n    return 1"]


def test_definition_lists_and_details_survive() -> None:
    document = article(
        "<dl><dt>Batt</dt><dd>A shelf.</dd><dt>Cone</dt><dt>Witness</dt><dd>A bar.</dd></dl>"
        "<h2>Questions</h2><details><summary>Is it loud?</summary><p>No, it hums.</p></details>"
        "<details><summary>Is it hot?</summary><p>Very much so.</p></details>"
    )
    assert texts(document, "list") == ["- Batt: A shelf.\n- Cone, Witness: A bar."]
    assert headings(document) == [(2, "Questions"), (3, "Is it loud?"), (3, "Is it hot?")]
    assert "No, it hums." in texts(document)


def test_rich_definition_list_keeps_its_inner_structure() -> None:
    document = article("<dl><dt>open()</dt><dd><p>Opens it.</p><pre>open(1)</pre></dd></dl>")
    assert texts(document, "code") == ["open(1)"]
    assert "open():" in texts(document)


def test_numbered_steps_with_code_keep_their_numbers() -> None:
    document = article("<ol><li>Stop it:<pre>stop</pre></li><li>Start it:<pre>start</pre></li></ol>")
    assert texts(document)[:4] == ["1. Stop it:", "stop", "2. Start it:", "start"]


@pytest.mark.parametrize(
    ("markup", "expected"),
    [
        ("<ol start=-1><li>a<li>b<li>c</ol>", ["-1. a\n0. b\n1. c"]),
        ("<ol reversed><li>a<li>b<li>c</ol>", ["3. a\n2. b\n1. c"]),
        ("<ol reversed start=10><li>a<li>b</ol>", ["10. a\n9. b"]),
        ("<ol><li>a<li value=7>b<li>c<li value=x>d</ol>", ["1. a\n7. b\n8. c\n9. d"]),
        ("<ol reversed><li>a<li value=9>b<li>c</ol>", ["3. a\n9. b\n8. c"]),
        ("<ol start='4th'><li>a<ol start=2><li>x</ol><li>b</ol>", ["4. a\n  2. x\n5. b"]),
        ("<ul><li value=7>a</ul>", ["- a"]),
        ("<ol reversed><li>a<pre>x</pre><li value=5>b<li>c</ol>", ["3. a", "x", "5. b", "4. c"]),
    ],
)
def test_items_have_the_numbers_that_a_browser_shows(markup: str, expected: list[str]) -> None:
    document = article(f"<h1>Steps</h1>{markup}<p>End of it.</p>")
    assert texts(document)[1 : texts(document).index("End of it.")] == expected


@pytest.mark.parametrize(
    ("markup", "expected"),
    [
        ("<ul>We <b>need</b>:<li>a<li>b</ul>", ["We need:", "- a\n- b"]),
        (
            "<ol><li>a</li>then <a href='mailto:x@y.example'>ask</a><li>b</li>and rest.</ol>",
            ["1. a", "then ask (x@y.example)", "2. b", "and rest."],
        ),
        ("<ul><li>a<ul>inner<li>x</ul></ul>", ["- a\n  inner\n  - x"]),
        ("<dl>These:<dt>Batt<dd>A shelf.</dl>", ["These:", "Batt:", "A shelf."]),
        ("<dl><div>These: <dt>Batt<dd>A shelf.</div></dl>", ["These:", "Batt:", "A shelf."]),
        ("<dl><p>These:</p><dt>Batt<dd>A shelf.</dl>", ["These:", "Batt:", "A shelf."]),
        (
            "<table>Prices<tr><th>a<th>b</tr>in euros<tr>x<td>1<td>2</table>",
            ["Prices in euros x", "| a | b |\n| --- | --- |\n| 1 | 2 |"],
        ),
        (
            "<table><caption>Top</caption><p>Prices</p><tr><th>a<th>b</tr><tr><td>1<td>2</tr><div>Rest</div></table>",
            ["Top", "Prices", "Rest", "| a | b |\n| --- | --- |\n| 1 | 2 |"],
        ),
        (
            "<table><center>Ask<tr><th>a<th>b</tr><tr><td>1<td>2</tr></center></table>",
            ["Ask", "| a | b |\n| --- | --- |\n| 1 | 2 |"],
        ),
    ],
)
def test_text_in_no_item_or_cell_is_kept_in_its_place(markup: str, expected: list[str]) -> None:
    document = article(f"<h1>Steps</h1><p>Before.</p>{markup}<p>End of it.</p>")
    found = texts(document)
    assert [" ".join(text.split(" ")) for text in found[2 : found.index("End of it.")]] == expected


@pytest.mark.parametrize(
    ("markup", "expected"),
    [
        ("<p>Only 19<sup>99</sup> €</p>", "Only 19 99 €"),
        ("<p><b>19</b><sup><small>99</small></sup> €</p>", "19 99 €"),
        ("<p><span>19</span>\n<span><sup>99</sup></span></p>", "19 99"),
        ("<p>About 10<sup>6</sup> of them</p>", "About 10 6 of them"),
        ("<p>10<sup>−6</sup></p>", "10 −6"),
        ("<p><sup>3</sup>2024 and <sup>3</sup>/<sub>4</sub></p>", "3 2024 and 3/4"),
        ("<p>500<sup>1</sup> pieces</p>", "500 1 pieces"),
        ("<p>500<a href='#fn'><sup>1</sup></a> pieces</p>", "500 1 pieces"),
        ("<p>2<sup>1</sup>/<sub>2</sub> l</p>", "2 1/2 l"),
        ("<p>4 m<sup>2</sup>, H<sub>2</sub>O, 1<sup>st</sup>, 7<sup>[2]</sup></p>", "4 m2, H2O, 1st, 7[2]"),
        ("<ul><li>19<sup>99</sup></ul>", "- 19 99"),
        ("<h2>From 19<sup>99</sup></h2><p>€</p>", "From 19 99"),
        (
            "<table><tr><th>Box<th>Price<tr><td>Big<td>19<sup>99</sup></table>",
            "| Box | Price |\n| --- | --- |\n| Big | 19 99 |",
        ),
    ],
)
def test_raised_and_lowered_numbers_are_no_part_of_those_before_them(markup: str, expected: str) -> None:
    assert texts(article(f"<h1>Prices</h1>{markup}"))[1] == expected


def test_accordion_buttons_in_headings_are_text() -> None:
    document = article(
        "<h3><button aria-controls='a'>May I pay later?</button></h3><div id='a' hidden><p>You may.</p></div>"
    )
    assert (3, "May I pay later?") in headings(document)
    assert "You may." in texts(document)


def test_addresses_behind_links_are_kept() -> None:
    text = all_text(
        article(
            "<p><a href='mailto:help@shop.example?subject=x'>Write to us</a> or <a href='tel:+441632960417'>01632 960417</a>.</p>"
        )
    )
    assert "Write to us (help@shop.example) or 01632 960417." in text


# --- furniture and hidden text ----------------------------------------------------------------------------------------


def test_furniture_is_dropped() -> None:
    document = article(
        "<nav>Home / Help</nav><h1>Returns</h1><aside class='related'><h3>Related</h3><a href='/a'>Other things to read</a></aside>"
        "<ul class='toc'><li><a href='#x'>Jump there</a></ul><form><input><button>Send</button></form>",
        before="<header><a href='/'>Shop logo</a></header><div class='cookie-banner'>We use cookies.</div>",
        after="<footer>Imprint and such</footer><script>var tracked = 1</script><style>p{}</style><noscript>Turn it on</noscript>",
    )
    for gone in (
        "Home / Help",
        "Other things",
        "Jump there",
        "Send",
        "Shop logo",
        "cookies",
        "Imprint",
        "tracked",
        "Turn it on",
        "Related",
    ):
        assert gone not in all_text(document)
    assert headings(document) == [(1, "Returns")]


def test_callouts_in_the_text_are_kept() -> None:
    assert "Mind the heat." in all_text(article("<aside role='note'><p>Mind the heat.</p></aside>"))


def test_a_page_about_cookies_keeps_them() -> None:
    assert "chocolate" in all_text(article("<div class='cookie-recipes'><h1>Cookies</h1><p>Take chocolate.</p></div>"))


def test_page_without_any_landmark() -> None:
    markup = f"<body><div class=top><a href=/>Logo</a> <a href=/b>Shop</a> <a href=/c>Help centre</a></div><div><h1>Care</h1>{FILLER * 3}</div></body>"
    document = extract(page(markup))
    assert headings(document) == [(1, "Care")]
    assert "Logo" not in all_text(document)


@pytest.mark.parametrize(
    "hidden",
    [
        "<p hidden>secret words</p>",
        "<div style='color:red; display : none'><p>secret words</p></div>",
        "<span style='VISIBILITY:hidden'>secret words</span>",
        "<p style='font-size:0px'>secret words</p>",
        "<p style='opacity: 0;'>secret words</p>",
        "<p style='position:absolute;left:-9999px'>secret words</p>",
    ],
)
def test_hidden_text_is_dropped_and_reported(hidden: str) -> None:
    document = article(hidden)
    assert "secret" not in all_text(document)
    assert document.warnings == ("2 words that the page hides from its readers were dropped.",)


def test_what_readers_can_unfold_is_not_hidden() -> None:
    document = article(
        "<div role='tabpanel' hidden><p>Second tab.</p></div><p hidden='until-found'>Found by search.</p>"
        "<a aria-controls='more'>More</a><p id='more' style='display:none'>Unfolded later.</p><p style='opacity:0.9'>Pale.</p>"
    )
    for kept in ("Second tab.", "Found by search.", "Unfolded later.", "Pale."):
        assert kept in all_text(document)
    assert document.warnings == ()


def test_icons_are_not_words() -> None:
    assert "chevron" not in all_text(article("<p>Next <i aria-hidden='true'>chevron_right</i></p>"))


# --- what the page says of itself -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "body", "title"),
    [
        ("<title>Returns | Shop</title>", "<h1>Returns</h1>", "Returns"),
        ("<title>Returns and refunds - Shop</title>", "<h1>Welcome</h1>", "Returns and refunds"),
        ("<title>A - B</title>", "", "A - B"),
        ("<title>Old</title><meta property='og:title' content='New'>", "", "New"),
        ("<title>Tea :: Kiln Co</title><meta property='og:site_name' content='Kiln Co'>", "", "Tea"),
        ("", "<h1>Only\n a  heading</h1>", "Only a heading"),
        ("", "", "returns"),
    ],
)
def test_title(head: str, body: str, title: str) -> None:
    assert article(body, head=head).title == title


def test_links_are_absolute_and_once_each() -> None:
    document = article(
        "<a href='a.html#x'>1</a><a href='/dir/a.html'>2</a><a href='#y'>3</a><a href='mailto:a@b.c'>4</a><a href='javascript:x()'>5</a>"
        "<a href='//other.example/p?q=1'>6</a><a href='http://[bad'>7</a><a href=' b.html\n'>8</a><a href='ftp://x.example/'>9</a>",
        head="<base href='/dir/'>",
    )
    assert document.links == (
        "https://shop.example/dir/a.html",
        "https://other.example/p?q=1",
        "https://shop.example/dir/b.html",
    )


def test_canonical_and_language() -> None:
    document = extract(
        page(f"<html lang='de_AT'><head><link rel='Canonical' href='/hilfe'></head><body><main>{FILLER}</main>")
    )
    assert document.canonical_url == "https://shop.example/hilfe"
    assert document.language == "de-at"
    assert extract(page(f"<html lang='{'x' * 40}'><body>{FILLER}")).language == "en"  # as its words tell


def test_charset_of_server_and_page() -> None:
    markup = f"<html><head><meta charset='koi8-r'></head><body><main><p>Возврат товара</p>{FILLER}</main></body></html>"
    by_meta = extract(Fetched("https://a.example/", 200, markup.encode("koi8-r"), "text/html"))
    by_server = extract(
        Fetched("https://a.example/", 200, markup.encode("cp1251"), "text/html", charset="windows-1251")
    )
    assert "Возврат товара" in all_text(by_meta)
    assert "Возврат товара" in all_text(by_server)


# --- pages without text -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "markup",
    [
        "<html><body><div id='root'></div><script src='/app.js'></script></body></html>",
        "<html><body><noscript>You need to enable JavaScript to run this app.</noscript><div id=app></div><script>1</script>",
        "<html><head><title>App</title></head><body><nav>Home</nav><main id='content'></main><script src=x></script></body>",
    ],
)
def test_an_empty_shell_needs_rendering(markup: str) -> None:
    with pytest.raises(NeedsRendering):
        extract(page(markup))


@pytest.mark.parametrize(
    "markup", ["<html></html>", "<html><body><p> &nbsp; </p></body></html>", "<!doctype html>", "<p>—</p>"]
)
def test_no_text(markup: str) -> None:
    with pytest.raises(NoText):
        extract(page(markup))


def test_a_short_page_with_scripts_is_text() -> None:
    assert "Closed today" in all_text(
        read("<html><body><h1>Hours</h1><p>Closed today.</p><div id=m></div><script>1</script></body></html>")
    )


# --- strange pages ----------------------------------------------------------------------------------------------------

_tag = st.sampled_from(
    [
        "div",
        "p",
        "ul",
        "ol",
        "li",
        "dl",
        "dt",
        "dd",
        "table",
        "tr",
        "td",
        "th",
        "h1",
        "h2",
        "pre",
        "code",
        "span",
        "a",
        "b",
        "details",
        "summary",
        "nav",
        "main",
        "br",
        "form",
    ]
)
_soup = st.lists(
    st.one_of(
        _tag.map(lambda tag: f"<{tag}>"),
        _tag.map(lambda tag: f"</{tag}>"),
        st.text(max_size=12),
        st.just("<a href='#'>"),
        st.just("<td colspan=9 rowspan=7>"),
    ),
    max_size=60,
).map("".join)


@settings(max_examples=60)
@given(_soup)
def test_tag_soup_gives_text_or_a_typed_error(soup: str) -> None:
    with suppress(NoText, NeedsRendering, UnsupportedType):
        document = extract(page(f"<html><body>{soup}"))
        assert all(block.text.strip() for block in document.blocks)


@pytest.mark.parametrize(
    "markup",
    [
        "<table>" + "<tr><th rowspan=50 colspan=50>a</th><td>b</td></tr>" * 300,
        "<p>" + "<span>word</span> " * 20_000,
        "<ol>" + "<li>word</li>" * 5000,
        "<div>" * 3000 + "deep",
        "<p>a<p hidden>" * 2000,
        "<p>1" + "<sup>1</sup>" * 50_000,
        "<table>" + f"<tr><td rowspan=9999>{'x' * 190}</td><td>b</td></tr>" * 3000 + "</table>",
    ],
    ids=["spans", "inline", "items", "nesting", "hidden", "raised", "rows"],
)
@pytest.mark.timeout(20)
def test_heavy_pages_stay_cheap(markup: str) -> None:
    with suppress(NoText):
        extract(page(f"<html><body><main>{markup}"))


def test_a_page_of_code_in_spanning_cells_is_read() -> None:
    rows = "".join(
        f"<tr><td rowspan=3><code>type{number}_ops</code><td><code>= (a,b)</code>"
        "<tr><td><code>&lt; (a,b)</code><tr><td><code>&gt; (a,b)</code>"
        for number in range(40)
    )
    document = read(
        f"<html><h1>Operators</h1><p>Short.<div><table><tr><th>Name<th>Operators{rows}</table></div></html>"
    )
    assert "type39_ops" in all_text(document)

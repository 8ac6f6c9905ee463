"""PDF files: text in order with its pages, and every condition that a file can be in."""

from contextlib import closing
from io import BytesIO

import pypdfium2
import pytest
from fpdf import FPDF
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from chat_api.core.errors import EncryptedDocument, MalformedDocument, NoText, TooLarge
from tests.workers.extract.files import (
    LONG,
    Manual,
    all_text,
    encrypted,
    headings,
    joined,
    manual,
    outcome,
    read,
    scan,
    stamped,
    texts,
)
from workers.extract.pdf_furniture import without_furniture
from workers.extract.pdf_layout import blocks_of
from workers.extract.pdf_lines import read_with_pypdf
from workers.extract.pdf_paged import HYPHEN, Line, Page


def test_paragraphs_are_joined_and_know_their_page() -> None:
    document = read(manual(4))
    assert document.pages == 4
    assert document.media_type == "application/pdf"
    assert f"Chapter 3 is about item 21. {LONG}" in texts(document, "paragraph")
    assert [block.page for block in document.blocks if block.kind == "heading"] == [1, 2, 3, 4]


def test_outline_gives_headings() -> None:
    assert headings(read(manual(2))) == [(1, "One things to know"), (1, "Two things to know")]


def test_running_headers_and_footers_are_dropped_but_for_the_first_that_does_not_count() -> None:
    document = read(manual(4))
    assert [(block.page, block.text) for block in document.blocks if "Brewmaster" in block.text] == [
        (1, "Brewmaster 3000 - User Manual")
    ]
    assert "of 4" not in all_text(document)


def test_an_address_below_each_page_is_kept_once_and_parts_no_sentence() -> None:
    foot = (line("Kiln Company, 14 Bulrush Lane", 760, size=8), line("Telephone 0555 1234", 772, size=8))
    pages = [
        Page(1, 800, (line("It begins here", 400), *foot)),
        Page(2, 800, (line("and ends there.", 400), *foot)),
        Page(3, 800, (line("More of it.", 400), *foot)),
    ]
    assert [(block.text, block.page) for block in blocks_of(without_furniture(pages), [])] == [
        ("It begins here and ends there.", 1),
        ("Kiln Company, 14 Bulrush Lane\nTelephone 0555 1234", 1),
        ("More of it.", 3),
    ]


@pytest.mark.parametrize(
    ("head", "size", "pages", "kept"),
    [
        ("Room {}", 10, 2, True),
        ("Question {}", 10, 3, True),
        ("Plan {}", 8, 2, True),
        ("Manual {}", 8, 3, False),
        ("Page {}", 10, 2, False),
        ("Das Handbuch, Seite {}", 10, 2, False),
        ("Handbook {} of 9", 10, 2, False),
        ("- {} -", 10, 2, False),
    ],
)
def test_lines_that_count_at_the_top_are_text_unless_they_say_that_they_count_pages(
    head: str, size: float, pages: int, kept: bool
) -> None:
    paged = [
        Page(number, 800, (line(head.format(number), 60, size=size), line(f"It costs {number * number} euros.", 200)))
        for number in range(1, pages + 1)
    ]
    text = [block.text for block in blocks_of(without_furniture(paged), [])]
    assert [head.format(number) in " ".join(text) for number in range(1, pages + 1)] == [kept] * pages


def test_bold_lines_above_text_are_headings() -> None:
    pdf = FPDF()
    pdf.add_page()
    for title in ("Cleaning", "Storing"):
        pdf.set_font("Helvetica", "B", 11)
        pdf.multi_cell(0, 6, title, new_x="LMARGIN", new_y="NEXT")
        pdf.set_font("Helvetica", "", 11)
        pdf.multi_cell(0, 6, f"{LONG} **{LONG}**", markdown=True, new_x="LMARGIN", new_y="NEXT")
        pdf.ln(4)
    assert headings(read(bytes(pdf.output()))) == [(1, "Cleaning"), (1, "Storing")]


def test_chapters_names_above_the_pages_count_on_over_chapters() -> None:
    heads = [*("Chapter 1: Tanks",) * 2, "", *("Chapter 2: Cups",) * 3]
    paged = [
        Page(number, 800, (line(f"{head} {number + 4}".strip(), 60), line(f"It costs {number * number} euros.", 200)))
        for number, head in enumerate(heads, 1)
    ]
    text = [block.text for block in blocks_of(without_furniture(paged), [])]
    assert text == [f"It costs {number * number} euros." for number in range(1, 7)]


def test_text_that_repeats_on_pages_is_kept() -> None:
    def write(pdf: Manual, number: int) -> None:
        pdf.text_block("This sentence stands on every page of the book, and it belongs there.")

    assert all_text(read(manual(4, write=write))).count("This sentence stands on every page") == 4


def test_lists_and_tables_keep_their_lines() -> None:
    def write(pdf: Manual, number: int) -> None:
        for line in ("- Fill the tank", f"- Press button {number}"):
            pdf.multi_cell(0, 6, line, new_x="LMARGIN", new_y="NEXT")
        with pdf.table() as table:
            for cells in (("Part", "Price"), ("Filter", f"{number}.50"), ("Tank", "12.00")):
                table.row(cells)

    document = read(manual(2, write=write))
    assert texts(document, "list") == ["- Fill the tank\n- Press button 1", "- Fill the tank\n- Press button 2"]
    assert texts(document)[-1] == "Part | Price\nFilter | 2.50\nTank | 12.00"


@pytest.mark.parametrize(
    ("declared", "title"),
    [
        ("Coffee for all", "Coffee for all"),
        ("Microsoft Word - Coffee.docx", "Coffee"),
        ("untitled", "One things to know"),
        ("", "One things to know"),
    ],
)
def test_title(declared: str, title: str) -> None:
    assert read(manual(1, title=declared)).title == title


# --- conditions -------------------------------------------------------------------------------------------------------


def test_scan_says_how_many_pages_were_seen() -> None:
    with pytest.raises(NoText, match=r"none of its 3 page\(s\) has a text layer.* Pages without text: 1–3\."):
        read(scan(3))


def test_scanned_pages_inside_a_good_file_are_named() -> None:
    document = read(joined(manual(2), scan(3), manual(1), scan(1)))
    assert document.warnings == ("Pages without text, perhaps scanned: 3–5, 7.",)
    assert document.pages == 7


CAM = "Scanned with CamScanner"


@pytest.mark.parametrize(
    "stamps",
    [
        [CAM] * 2,
        [CAM] * 10,
        [f"ABC{number:06}" for number in (1, 2, 3)],
        [CAM if n % 2 else str(n) for n in range(1, 11)],
    ],
)
def test_a_stamp_makes_no_text_of_a_scan(stamps: list[str]) -> None:
    with pytest.raises(NoText, match=rf"none of its {len(stamps)} page\(s\).* Pages without text: 1–{len(stamps)}\."):
        read(stamped(*stamps))


def test_stamped_scans_behind_text_are_named() -> None:
    document = read(joined(manual(1), stamped(CAM, CAM, CAM)))
    assert document.warnings == ("Pages without text, perhaps scanned: 2–4.",)
    assert CAM not in all_text(document)


def test_a_short_page_is_none_without_a_picture_of_its_size() -> None:
    pdf = FPDF()
    pdf.set_font("Helvetica", size=11)
    for page in range(2):
        pdf.add_page()
        pdf.cell(0, 8, f"{('Closed', 'Open')[page]} on Mondays", new_x="LMARGIN", new_y="NEXT")
        pdf.image(Image.new("RGB", (60, 80), "grey"), w=100)
    document = read(bytes(pdf.output()))
    assert (texts(document), document.warnings) == (["Closed on Mondays", "Open on Mondays"], ())


def test_words_on_a_picture_of_a_page_are_text() -> None:
    assert texts(read(stamped("Open from nine to five", "Closed on Sundays and Mondays too"))) == [
        "Open from nine to five",
        "Closed on Sundays and Mondays too",
    ]


@pytest.mark.parametrize(("scale", "expected"), [(1.0, "no_text"), (0.5, "text")])
def test_pictures_within_forms_are_as_large_as_they_are_shown(scale: float, expected: str) -> None:
    with (
        closing(pypdfium2.PdfDocument(stamped(CAM))) as source,
        closing(pypdfium2.PdfDocument.new()) as target,
        closing(source.page_as_xobject(0, target)) as form,
    ):
        shown = form.as_pageobject()
        shown.set_matrix(pypdfium2.PdfMatrix().scale(scale, scale))
        page = target.new_page(595, 842)
        page.insert_obj(shown)
        page.gen_content()
        out = BytesIO()
        target.save(out)
    assert outcome(out.getvalue()) == expected


def test_password() -> None:
    with pytest.raises(EncryptedDocument):
        read(encrypted(manual(1), "secret"))


def test_an_empty_password_is_none() -> None:
    assert "Chapter 1" in all_text(read(encrypted(manual(1), "")))


def test_a_lock_of_another_kind_is_one_too() -> None:
    with pytest.raises(EncryptedDocument):
        read(encrypted(manual(1), "").replace(b"/Filter /Standard", b"/Filter /Unheard-"))


def test_truncated_file_gives_what_is_left_with_a_warning() -> None:
    body = joined(manual(6))
    document = read(body[: body.rindex(b"xref\n0")])
    assert "Chapter 1" in all_text(document)
    assert document.warnings[-1] == "The file is damaged or incomplete; what could be read was taken."


@pytest.mark.parametrize("body", [b"%PDF-1.7\n", b"%PDF-1.4\n" + bytes(range(256)) * 20, manual(1)[:200]])
def test_damaged(body: bytes) -> None:
    with pytest.raises(MalformedDocument):
        read(body, filename="x.pdf")


def test_nothing_at_all() -> None:
    with pytest.raises(NoText, match="empty"):
        read(b"", filename="x.pdf")


def test_too_many_pages(endless: bytes) -> None:
    with pytest.raises(TooLarge, match="5001 pages"):
        read(endless)


@pytest.fixture(scope="module")
def endless() -> bytes:
    """A file that repeats one page 5,001 times."""
    kids = " ".join(["3 0 R"] * 5001)
    return (
        "%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n"
        f"2 0 obj<</Type/Pages/Kids[{kids}]/Count 5001>>endobj\n"
        "3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]>>endobj\ntrailer<</Root 1 0 R/Size 4>>\n%%EOF"
    ).encode()


def test_the_fallback_reads_the_same_words() -> None:
    body = manual(3)
    paged = read_with_pypdf(body)
    fallback = " ".join(block.text for block in blocks_of(without_furniture(paged.pages), paged.outline))
    assert set(all_text(read(body)).split()) - set(fallback.split()) <= {"to", "know"}
    assert paged.repaired


@settings(max_examples=40)
@given(st.integers(0, 5000), st.binary(min_size=1, max_size=40), st.floats(0.2, 1))
def test_broken_files_give_text_or_a_typed_error(at: int, noise: bytes, share: float) -> None:
    body = _MANUAL[: int(len(_MANUAL) * share)]
    assert outcome(body[:at] + noise + body[at + len(noise) :], filename="x.pdf") in {
        *("text", "malformed_document", "no_text", "encrypted_document", "unsupported_type", "too_large"),
    }


_MANUAL = manual(2)


# --- layout -----------------------------------------------------------------------------------------------------------


def line(text: str, top: int, *, left: float = 50, right: float = 500, size: float = 10) -> Line:
    """A line `top` points below the page's upper edge."""
    return Line(text, left, right, 800 - top, 800 - top, size)


def layout(*lines: Line) -> list[str]:
    """The texts of one page's blocks."""
    return [block.text for block in blocks_of(without_furniture([Page(1, 800, lines)]), [])]


def test_hyphenated_words_are_mended() -> None:
    assert layout(line(f"the manu{HYPHEN}al of", 100), line("the coffee ma-", 112), line("chine", 124, right=80)) == [
        "the manual of the coffee machine"
    ]


def test_hyphens_that_belong_to_the_word_stay() -> None:
    assert layout(line(f"a well{HYPHEN}known and OK{HYPHEN}6145 part, well-known", 100)) == [
        "a well-known and OK-6145 part, well-known"
    ]


def test_ligatures_and_leaders() -> None:
    assert layout(line("eﬃcient ﬁring ........ 12", 100)) == ["efficient firing … 12"]


def test_gap_and_indent_begin_paragraphs() -> None:
    assert layout(
        *(line("One.", 100), line("two.", 112), line("Three", 124, left=65), line("four.", 136), line("Five", 180)),
        *(line("six", 192), line("seven", 204)),
    ) == ["One. two.", "Three four.", "Five six seven"]


def test_short_lines_stay_lines() -> None:
    lines = [
        line("Kiln Company", 100, right=120),
        line("14 Bulrush Lane", 112, right=130),
        line("LQ4 7KN", 124, right=90),
    ]
    assert (
        layout(*lines, line("A full line of text", 160), line("and another", 172))[0]
        == "Kiln Company\n14 Bulrush Lane\nLQ4 7KN"
    )


def test_two_columns_are_not_mixed() -> None:
    left = [line(f"left{number}", 100 + 12 * number, left=50, right=240) for number in range(4)]
    right = [line(f"right{number}", 100 + 12 * number, left=300, right=500) for number in range(4)]
    assert layout(*left, *right) == ["left0 left1 left2 left3", "right0 right1 right2 right3"]


def test_sentence_goes_on_over_the_page() -> None:
    pages = [
        Page(1, 800, (line("It begins here", 400),)),
        Page(2, 800, (line("and ends there.", 400), line("New.", 440))),
    ]
    assert [(block.text, block.page) for block in blocks_of(without_furniture(pages), [])] == [
        ("It begins here and ends there.", 1),
        ("New.", 2),
    ]


def test_a_list_over_pages_is_a_list_on_each() -> None:
    pages = [
        Page(number, 800, tuple(line(f"{40 * number + item}. Item", 50 + 14 * item) for item in range(40)))
        for number in (1, 2, 3)
    ]
    blocks = blocks_of(without_furniture(pages), [])
    assert [(block.kind, block.page, block.text.split()[0]) for block in blocks] == [
        ("list", 1, "40."),
        ("list", 2, "80."),
        ("list", 3, "120."),
    ]


def test_an_item_goes_on_over_the_page_and_the_next_is_on_its_own() -> None:
    pages = [
        Page(1, 800, (line("• Fill the tank, and then the", 400),)),
        Page(2, 800, (line("cup, too.", 200), line("• Press it.", 212))),
    ]
    assert [(block.text, block.page) for block in blocks_of(without_furniture(pages), [])] == [
        ("- Fill the tank, and then the cup, too.", 1),
        ("- Press it.", 2),
    ]


def test_prose_without_gaps_is_a_block_over_two_pages_at_most() -> None:
    pages = [
        Page(number, 800, tuple(line(f"line {row} of evenly spaced text", 120 + 12 * row) for row in range(40)))
        for number in range(1, 6)
    ]
    assert [block.page for block in blocks_of(without_furniture(pages), [])] == [1, 3, 5]


def test_larger_text_is_a_heading_where_there_is_no_outline() -> None:
    page = Page(
        1,
        800,
        (
            line("Big", 100, size=20),
            line("Smaller", 140, size=14),
            *(line("body text", 170 + 12 * n) for n in range(9)),
        ),
    )
    assert [(block.kind, block.level) for block in blocks_of(without_furniture([page]), [])] == [
        ("heading", 1),
        ("heading", 2),
        ("paragraph", 0),
    ]

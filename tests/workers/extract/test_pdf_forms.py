"""What is filled into a PDF's form is read where it stands; a form that only Adobe's programs show says so."""

from io import BytesIO

import pytest
from pypdf import PdfReader, PdfWriter
from pypdf.generic import ArrayObject, DictionaryObject, FloatObject, NameObject, TextStringObject

from chat_api.core.errors import NoText, UnsupportedType
from tests.workers.extract.files import all_text, outcome, read, stamped, texts

WAIT = (
    "Please wait... If this message is not eventually replaced by the proper contents of the document, your PDF viewer"
    " may not be able to display this type of document. You can upgrade to the latest version of Adobe Reader"
)


def field(value: str, left: int, bottom: int, *, kind: str = "Tx", more: str = "", height: int = 18) -> str:
    """A form field and where it stands; `more` are further entries."""
    rect = f"{left} {bottom} {left + 120} {bottom + height}"
    return f"<</Type/Annot/Subtype/Widget/FT/{kind}/T(f{left}.{bottom})/V{value}/Rect[{rect}]/DA(/F1 11 Tf)/F 4{more}>>"


def form(words: dict[tuple[int, int], str], *fields: str, catalog: str = "", acroform: str = "") -> bytes:
    """A page with words at these places, and these fields."""
    shown = " ".join(f"BT /F1 11 Tf {left} {bottom} Td ({text}) Tj ET" for (left, bottom), text in words.items())
    objects = [
        f"<</Type/Catalog/Pages 2 0 R/AcroForm<</Fields[{{refs}}]/DR<</Font<</F1 5 0 R>>>>{acroform}>>{catalog}>>",
        "<</Type/Pages/Kids[3 0 R]/Count 1>>",
        "<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 800]/Contents 4 0 R/Annots[{refs}]/Resources<</Font<</F1 5 0 R>>>>>>",
        f"<</Length {len(shown)}>>stream\n{shown}\nendstream",
        "<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
        *fields,
    ]
    refs = " ".join(f"{number} 0 R" for number in range(6, 6 + len(fields)))
    body = "".join(f"{number} 0 obj{one.replace('{refs}', refs)}endobj\n" for number, one in enumerate(objects, 1))
    return f"%PDF-1.7\n{body}trailer<</Root 1 0 R/Size {len(objects) + 1}>>\nstartxref\n0\n%%EOF".encode("latin-1")


def test_values_stand_behind_their_labels() -> None:
    body = form(
        {(50, 700): "Name:", (300, 700): "Date:", (50, 670): "Street: ____________", (50, 640): "Thank you."},
        field("(Mrs Okafor)", 90, 695),
        field("(5 May)", 340, 695),
        field("(Bulrush Lane 14)", 90, 665),
    )
    assert all_text(read(body)).splitlines() == [
        "Name: Mrs Okafor Date: 5 May",
        "Street: Bulrush Lane 14",
        "Thank you.",
    ]


def test_a_value_in_a_sentence_stands_where_it_was_written() -> None:
    body = form({(50, 700): "The fee is", (260, 700): "for members."}, field("(12 euros)", 120, 695))
    assert texts(read(body)) == ["The fee is 12 euros for members."]


def test_a_value_below_its_label_stands_there() -> None:
    words = {(50, 740): "Opening hours", (50, 640): "Rooms", (50, 540): "The end"}
    body = form(words, field("(a hall)", 50, 615), field("(Monday to\\rFriday)", 50, 680, height=50))
    text = " ".join(all_text(read(body)).split())
    assert text == "Opening hours Monday to Friday Rooms a hall The end"


@pytest.mark.parametrize(
    ("value", "more", "shown"),
    [
        ("(bl)", "/Ff 131072/Opt[[(rd)(Red)][(bl)(Blue)]]", "Colour: Blue"),
        ("(Green)", "/Ff 393216/Opt[(Red)(Blue)]", "Colour: Green"),
        ("[(Red)(Blue)]", "/Ff 2097152/Opt[(Red)(Grey)(Blue)]", "Colour: Red, Blue"),
    ],
)
def test_what_was_chosen_is_said_as_it_is_shown(value: str, more: str, shown: str) -> None:
    assert texts(read(form({(50, 700): "Colour:"}, field(value, 120, 695, kind="Ch", more=more)))) == [shown]


@pytest.mark.parametrize("more", ["/F 2", "/F 32", "/Ff 8192"])
def test_hidden_fields_and_passwords_are_left_out(more: str) -> None:
    hidden = field("(secret)", 120, 695, more=more)
    hidden = hidden.replace("/F 4", "") if more.startswith("/F ") else hidden
    assert texts(read(form({(50, 700): "Name:"}, hidden, field("()", 120, 600)))) == ["Name:"]


def test_a_form_of_nothing_but_fields_is_text() -> None:
    assert texts(read(form({}, field("(Closed on Mondays)", 50, 700)))) == ["Closed on Mondays"]
    with pytest.raises(NoText):
        read(form({}, field("()", 50, 700)))


def test_a_scan_that_was_typed_over_stays_a_scan() -> None:
    def filled(page: bytes) -> bytes:
        writer = PdfWriter(clone_from=PdfReader(BytesIO(page)))
        box = ArrayObject(map(FloatObject, (50, 700, 300, 720)))
        entries = {"Type": "Annot", "Subtype": "Widget", "FT": "Tx"}
        typed = DictionaryObject({NameObject(f"/{key}"): NameObject(f"/{name}") for key, name in entries.items()})
        words = TextStringObject("What six words of it say")
        typed |= {NameObject("/T"): words, NameObject("/V"): words, NameObject("/Rect"): box}
        held = ArrayObject([writer._add_object(typed)])
        writer.pages[0][NameObject("/Annots")] = held
        writer.root_object[NameObject("/AcroForm")] = DictionaryObject({NameObject("/Fields"): held})
        out = BytesIO()
        writer.write(out)
        return out.getvalue()

    assert outcome(filled(stamped(""))) == "no_text"
    assert texts(read(filled(stamped("Open from nine to five o'clock")))) == [
        "What six words of it say",
        "Open from nine to five o'clock",
    ]


def test_a_form_that_only_adobe_shows_says_what_to_do() -> None:
    placeholder = form({(50, 700): WAIT}, catalog="/NeedsRendering true", acroform="/XFA 4 0 R")
    with pytest.raises(UnsupportedType, match="save it as an ordinary PDF"):
        read(placeholder)


@pytest.mark.parametrize(
    ("text", "catalog", "acroform"),
    [
        (WAIT, "", ""),
        (WAIT, "", "/XFA 4 0 R"),
        ("The fee is five euros.", "/NeedsRendering true", "/XFA 4 0 R"),
    ],
)
def test_pages_that_all_programs_show_are_read(text: str, catalog: str, acroform: str) -> None:
    assert text in all_text(read(form({(50, 700): text}, catalog=catalog, acroform=acroform)))

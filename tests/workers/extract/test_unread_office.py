"""Office documents that can't be read: the error names what they are, and what to save them as."""

import pytest

from chat_api.core.errors import UnsupportedType
from tests.workers.extract.files import read
from tests.workers.extract.office import zipped

_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument"


def compound(*streams: str, at: int = 1024) -> bytes:
    """The head of a compound file whose directory names these streams."""
    entries = b"".join(name.encode("utf-16-le").ljust(128, b"\0") for name in ("Root Entry", *streams))
    return (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1".ljust(at, b"\0") + entries).ljust(4096, b"\0")


@pytest.mark.parametrize(
    ("body", "filename", "told"),
    [
        (compound("WordDocument", "1Table"), "a.doc", r"old Word document \(\.doc\).* Save it as \.docx or PDF"),
        (compound("Workbook"), "a.xls", r"old Excel workbook \(\.xls\).* Save it as \.xlsx"),
        (compound("Book"), None, r"old Excel workbook \(\.xls\)"),
        (
            compound("PowerPoint Document", "Workbook"),
            "a.ppt",
            r"old PowerPoint presentation .* Save it as \.pptx or PDF",
        ),
        (compound("Contents"), "a.pub", r"an old Office document, .* Save it as \.docx, \.xlsx, \.pptx or PDF"),
        (compound("WordDocument", at=1030), "a.doc", "an old Office document"),  # a text, and no entry
        (zipped({"Index/Document.iwa": b"x"}), "Plan.PAGES", r"a Pages document .* Export it as \.docx or PDF"),
        (zipped({"Index/Document.iwa": b"x"}), "a.numbers", r"a Numbers spreadsheet .* Export it as \.xlsx"),
        (zipped({"Index.zip": b"x"}), "a.key", r"a Keynote presentation .* Export it as \.pptx or PDF"),
        (zipped({"Index/Document.iwa": b"x"}), None, "a Pages, Numbers or Keynote document"),
    ],
)
def test_the_error_says_what_to_save_it_as(body: bytes, filename: str | None, told: str) -> None:
    with pytest.raises(UnsupportedType, match=told):
        read(body, filename=filename)


def test_binary_workbooks_are_no_damaged_ones() -> None:
    related = f'<Relationships><Relationship Id="r" Type="{_OFFICE}" Target="xl/workbook.bin"/></Relationships>'
    members: dict[str, str | bytes] = {
        "[Content_Types].xml": "<Types/>",
        "_rels/.rels": related,
        "xl/workbook.bin": b"\x83\x01\0",
    }
    with pytest.raises(UnsupportedType, match=r"binary Excel workbook \(\.xlsb\).* Save it as \.xlsx"):
        read(zipped(members), filename="prices.xlsb")

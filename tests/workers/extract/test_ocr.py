"""Scanned pages read by Tesseract: what is found, what is not, the limits, and what its process can't do."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from io import BytesIO

import pypdfium2
import pytest
from fpdf import FPDF
from hypothesis import given
from hypothesis import strategies as st

from chat_api.core.errors import NoText
from chat_api.core.settings import Settings
from deploy.local.databases import REPOSITORY
from tests.workers.extract.files import joined, manual, scan
from tests.workers.extract.processes import children
from workers.bootstrap import bootstrap
from workers.documents import Document, Fetched
from workers.extract.ocr import OcrLimits, OcrReader, find_tesseract
from workers.extract.ocr_table import paragraphs
from workers.extract.sandbox import Sandbox

installed = pytest.mark.skipif(not shutil.which("tesseract"), reason="Tesseract is not installed (tesseract-ocr)")
HERON = "The Heron kiln holds forty-five litres and needs a concrete floor."
SUPPLY = "It takes a three phase supply of sixteen amperes."


def printed(*texts: str, stamp: str = "") -> bytes:
    """A PDF whose pages are pictures of these texts, with the stamp as text at their feet."""
    pdf = FPDF()
    pdf.set_font("Helvetica", size=14)
    for text in texts:
        pdf.add_page()
        pdf.multi_cell(0, 8, text)
    scanned = FPDF()
    for page in pypdfium2.PdfDocument(bytes(pdf.output())):
        scanned.add_page()
        picture = BytesIO()
        page.render(scale=2.5).to_pil().save(picture, "PNG")
        scanned.image(picture, x=0, y=0, w=210)
        scanned.set_font("Helvetica", size=8)
        scanned.text(80, 288, stamp)
    return bytes(scanned.output())


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """One fork server for all tests here."""
    with Sandbox() as found:
        yield found


def read(sandbox: Sandbox, body: bytes, limits: OcrLimits | None = None) -> object:
    """What OCR makes of it."""
    reader = OcrReader(sandbox, find_tesseract("eng"), "eng", limits or OcrLimits())
    return reader.extract_many([(Fetched("s3://bucket/key", 200, body), "a_scan.pdf")])[0]


@installed
def test_a_scan_is_read_page_by_page(sandbox: Sandbox) -> None:
    document = read(sandbox, printed(HERON, f"{SUPPLY}\n\n{HERON}"))
    assert isinstance(document, Document)
    assert [(block.page, block.text) for block in document.blocks] == [(1, HERON), (2, SUPPLY), (2, HERON)]
    assert (document.title, document.pages, document.language) == ("a scan", 2, "en")
    assert document.warnings == ("2 page(s) were read by OCR (eng), which makes mistakes: 1–2.",)


@installed
def test_scanned_pages_stand_among_the_others(sandbox: Sandbox) -> None:
    document = read(sandbox, joined(manual(1), printed(HERON), scan(1), manual(1)))
    assert isinstance(document, Document)
    assert [block.page for block in document.blocks] == sorted(block.page or 0 for block in document.blocks)
    assert [block.text for block in document.blocks if block.page == 2] == [HERON]
    assert {block.page for block in document.blocks} == {1, 2, 4}
    assert document.warnings == (
        "1 page(s) were read by OCR (eng), which makes mistakes: 2.",
        "Pages without text, perhaps scanned: 3.",
    )


@installed
def test_pictures_without_words_are_still_no_text(sandbox: Sandbox) -> None:
    error = read(sandbox, scan(1))
    assert isinstance(error, NoText)
    assert "Pages without text: 1. OCR has found none, either." in error.message


@installed
def test_stamped_scans_are_read(sandbox: Sandbox) -> None:
    document = read(sandbox, joined(manual(1), printed(HERON, SUPPLY, stamp="Scanned with CamScanner")))
    assert isinstance(document, Document)
    assert [block.text for block in document.blocks if block.text in {HERON, SUPPLY}] == [HERON, SUPPLY]
    assert document.warnings == ("2 page(s) were read by OCR (eng), which makes mistakes: 2–3.",)


@installed
def test_nobody_says_that_ocr_found_none_where_it_saw_no_page(sandbox: Sandbox) -> None:
    error = read(sandbox, _NO_PAGE_THERE)
    assert isinstance(error, NoText)
    assert "OCR" not in error.message


_NO_PAGE_THERE = (
    b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[9 0 R]/Count 1>>endobj\n"
    b"trailer<</Root 1 0 R/Size 4>>\n%%EOF"
)


@installed
def test_a_file_has_so_many_pages_and_no_more(sandbox: Sandbox) -> None:
    document = read(sandbox, printed(HERON, SUPPLY), OcrLimits(pages=1))
    assert isinstance(document, Document)
    assert [block.page for block in document.blocks] == [1]
    assert "Pages without text, perhaps scanned: 2." in document.warnings
    assert "OCR reads 1 pages of a file at most." in document.warnings


@installed
@pytest.mark.parametrize("limits", [OcrLimits(file_s=0.01), OcrLimits(page_s=0.01)])
def test_what_takes_too_long_stays_without_text(sandbox: Sandbox, limits: OcrLimits) -> None:
    assert isinstance(read(sandbox, printed(HERON), limits), NoText)


@installed
def test_who_is_told_to_stop_leaves_nothing_behind(sandbox: Sandbox) -> None:
    class Stop(Exception):
        pass

    before, asked = set(children(os.getpid())), 0

    def check() -> None:
        nonlocal asked
        asked += any("pictures" in _command(pid) for pid in set(children(os.getpid())) - before)
        if asked:
            raise Stop

    reader = OcrReader(sandbox, find_tesseract("eng"), "eng")
    with pytest.raises(Stop):
        reader.extract_many([(Fetched("s3://b/k", 200, printed(HERON)), None)], check=check)
    assert set(children(os.getpid())) == before


def _command(pid: int) -> str:
    return subprocess.run(["ps", "-o", "args=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout


@installed
def test_what_is_missing_is_said() -> None:
    with pytest.raises(ValueError, match="no data for xxx"):
        find_tesseract("eng+xxx")


@installed
@pytest.mark.parametrize(("languages", "kind"), [("", Sandbox), ("eng", OcrReader), ("eng+xxx", Sandbox)])
def test_workers_do_it_where_languages_are_named_and_there(languages: str, kind: type) -> None:
    databases = {
        f"{database}_{name}": "x"
        for database in ("dashboard_db", "python_chat_db")
        for name in ("host", "username", "name")
    }
    settings = Settings.model_validate(
        {
            **databases,
            "embedding_provider": "local",
            "llm_provider": "extractive",
            "r2_endpoint_url": "http://127.0.0.1:1",
            "access_key_id": "x",
            "secret_access_key": "x",
            "ocr_languages": languages,
        }
    )
    assert type(bootstrap(settings).stages.reader.extractor) is kind


def test_files_of_other_kinds_are_not_looked_at(sandbox: Sandbox) -> None:
    reader = OcrReader(sandbox, "/nowhere/tesseract", "eng")
    empty, text = reader.extract_many([(Fetched("s3://b/a.txt", 200, b" "), None), (_text(), "b.txt")])
    assert isinstance(empty, NoText)
    assert isinstance(text, Document)


def test_a_tesseract_that_does_not_start_changes_nothing(sandbox: Sandbox) -> None:
    reader = OcrReader(sandbox, "/nowhere/tesseract", "eng")
    (error,) = reader.extract_many([(Fetched("s3://b/a.pdf", 200, scan(1)), None)])
    assert isinstance(error, NoText)


def _text() -> Fetched:
    return Fetched("s3://b/b.txt", 200, b"Words.")


DEEDS = """
import os, socket, sys
def attempt(deed):
    try:
        deed()
    except OSError as error:
        return type(error).__name__
    return "done"
def write():
    with open("/tmp/by-ocr", "w") as file:
        file.write("x")
def fork():
    if os.fork() == 0:
        os._exit(0)
print(attempt(lambda: socket.socket()), attempt(lambda: os.kill(os.getppid(), 0)), attempt(write), attempt(fork),
      attempt(lambda: os.unlink("/tmp/x")), attempt(lambda: open("/proc/%d/environ" % os.getppid())),
      attempt(lambda: open("/etc/passwd")), os.getuid(), sorted(os.environ))
"""


def test_its_process_has_no_network_and_no_powers() -> None:
    command = [
        sys.executable,
        "-s",
        "-m",
        "workers.extract.program",
        "512",
        "20",
        "/usr/bin/python3",
        "-S",
        "-c",
        DEEDS,
    ]
    ended = subprocess.run(
        command, cwd=REPOSITORY, env={"LC_ALL": "C.UTF-8"}, capture_output=True, text=True, timeout=60, check=False
    )
    socket, kill, write, fork, unlink, secrets, users, uid, names = ended.stdout.split(maxsplit=8)
    assert {socket, kill, write, unlink, secrets, users} == {"PermissionError"}
    assert fork in {"BlockingIOError", "PermissionError"}
    assert (uid == "0", names.strip()) == (False, "['LC_ALL']")


# --- Tesseract's table ------------------------------------------------------------------------------------------------


def row(block: int, line: int, word: str, sure: float = 90) -> str:
    """A word of a table."""
    return "\t".join(map(str, (5, 1, block, 1, line, 1, 0, 0, 9, 9, sure, word)))


def test_lines_become_paragraphs_and_parted_words_whole() -> None:
    table = [
        row(1, 1, "Fill"),
        row(1, 1, "the"),
        row(1, 1, "ves-"),
        row(1, 2, "sel."),
        row(2, 1, "Part-"),
        row(2, 2, "B"),
    ]
    assert paragraphs("\n".join(table)) == ["Fill the vessel.", "Part- B"]


def test_noise_is_dropped() -> None:
    assert paragraphs(
        "\n".join([row(1, 1, "qz", 12), row(1, 1, "|", 30), row(2, 1, "Oven", 80), row(3, 1, "~|", 99)])
    ) == ["Oven"]


@given(st.text(), st.lists(st.text(alphabet="5\t\n ab-", max_size=40)))
def test_no_table_is_too_strange(text: str, rows: list[str]) -> None:
    assert all(isinstance(found, str) for found in paragraphs(text + "\n".join(rows)))

"""Thousands of broken files' little brother: a seeded few of each kind, and the bombs, in the real sandbox."""

import io
import zipfile
from collections.abc import Iterator

import pytest

from chat_api.core.errors import EncryptedDocument, MalformedDocument, TooLarge, TrainingError
from tests.workers.extract.broken import TYPED, bombs, mutants
from tests.workers.extract.files import outcome
from tests.workers.extract.office import zipped
from workers.documents import Fetched
from workers.extract import archive
from workers.extract.archive import Archive
from workers.extract.sandbox import Sandbox

_QUICK = (
    *("spaces.docx", "spaces-declared-small.docx", "laughs.docx", "external.docx", "deep.docx", "deep-closed.docx"),
    *("tables.docx", "styles.docx", "numbers.xlsx", "laughs.xlsx", "quine.zip", "members.docx", "twice.docx"),
    *("laughs.xml", "deep.json", "deep.rtf", "binary.rtf", "quotes.csv"),
)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(timeout_s=60) as started:
        yield started


def test_broken_files_give_text_or_a_typed_error() -> None:
    assert {outcome(body, filename=name) for name, body in mutants(160, seed=7)} <= TYPED


def test_bombs_end_typed_and_alone(sandbox: Sandbox) -> None:
    made = bombs(_QUICK)
    found = sandbox.extract_many([(Fetched("", 200, body), name) for name, body in made.items()])
    codes = {
        name: one.code if isinstance(one, TrainingError) else "text" for name, one in zip(made, found, strict=True)
    }
    assert set(codes.values()) <= TYPED
    for name in ("spaces.docx", "members.docx"):
        assert codes[name] == "too_large"
    for name in ("laughs.docx", "external.docx", "laughs.xlsx", "laughs.xml", "twice.docx", "deep.docx", "deep.rtf"):
        assert codes[name] == "malformed_document"
    assert [codes[name] for name in ("deep-closed.docx", "tables.docx", "quine.zip")] == [
        "text",
        "text",
        "unsupported_type",
    ]


# --- zip files --------------------------------------------------------------------------------------------------------


def test_members_are_found_in_any_case_and_with_either_slash() -> None:
    made = Archive(zipped({"/Word\\Document.XML": b"x"}))
    assert "word/document.xml" in made
    assert made.read("word/document.xml") == b"x"


def test_missing_members_are_damage() -> None:
    with pytest.raises(MalformedDocument):
        Archive(zipped({"a": b"x"})).read("b")


def test_ratio_and_total_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TooLarge):
        Archive(zipped({"a": bytes(4 << 20)})).read("a")
    monkeypatch.setattr(archive, "MAX_UNPACKED", 1000)
    made = Archive(zipped({"a": b"x" * 600}))
    made.read("a")
    with pytest.raises(TooLarge):
        made.read("a")


def test_encrypted_members_and_odd_methods() -> None:
    body = zipped({"a": b"text"})
    at = body.index(b"PK\x01\x02")
    locked = bytearray(body)
    locked[6] |= 1
    locked[at + 8] |= 1
    with pytest.raises(EncryptedDocument):
        Archive(bytes(locked)).read("a")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_LZMA) as made:
        made.writestr("a", b"text")
    with pytest.raises(MalformedDocument):
        Archive(buffer.getvalue()).read("a")


def test_a_stream_gives_all_bytes_in_any_steps() -> None:
    data = bytes(range(256)) * 1000
    stream = Archive(zipped({"a": data})).stream("a")
    assert stream.read(10) + b"".join(iter(lambda: stream.read(70_001), b"")) == data

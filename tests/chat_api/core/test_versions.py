"""A source's version: it changes with what the owner gave, and with nothing else."""

from datetime import UTC, datetime
from uuid import UUID

import pytest

from chat_api.core.models.dashboard import TrainingSource, etag_of, row_version, source_version, version_of_row

KEY = "org/price-list.pdf"


def a_row(**columns: object) -> TrainingSource:
    """A file source, but for `columns`."""
    given = {"id": UUID(int=1), "type": "file", "url": None, "content": None, "options": {}}
    return TrainingSource(**given | columns)


@pytest.mark.parametrize("edit", [{"type": "site"}, {"url": "https://a.example"}, {"content": {"text": "x"}}])
def test_it_changes_with_what_the_owner_gave(edit: dict[str, object]) -> None:
    assert row_version(a_row(**edit), KEY) != row_version(a_row(), KEY)


def test_it_changes_with_a_files_key() -> None:
    assert row_version(a_row(), "another") != row_version(a_row(), KEY)


def test_it_does_not_change_with_the_file_that_a_row_of_another_type_still_names() -> None:
    site = {"type": "site", "url": "https://a.example"}
    assert row_version(a_row(**site), KEY) == row_version(a_row(**site), None)


def test_it_does_not_change_with_what_we_write() -> None:
    written = a_row(status="trained", progress=100, updated_at=datetime.now(UTC))
    assert row_version(written, KEY) == row_version(a_row(), KEY)


@pytest.mark.parametrize("etag", ["", '"5d41:402a"'])
def test_a_files_version_is_its_rows_and_its_objects(etag: str) -> None:
    version = source_version("row", etag)
    assert (version_of_row(version), etag_of(version)) == ("row", etag)

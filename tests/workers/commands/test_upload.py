"""`upload`: a folder becomes objects and rows, once, whatever happens in between; what is left out is named."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from uuid import UUID, uuid4

import psycopg
import pytest

from deploy.local.databases import REPOSITORY
from tests.workers.commands.conftest import Operator

pytestmark = pytest.mark.stack
MANY = 400
PNG = b"\x89PNG\r\n\x1a\n" + bytes(64)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two files, one of them in a folder of its own."""
    found = tmp_path / "manuals"
    (found / "kilns").mkdir(parents=True)
    (found / "delivery.md").write_text("# Delivery\n\nParcels leave at 11:30 on working days.\n")
    (found / "kilns" / "heron.html").write_text("<h1>Heron 45</h1><p>The Heron 45 holds forty-five litres.</p>")
    return found


def key_of(operator: Operator, name: str) -> str:
    return str(operator.sources()[name]["object_key"])


def test_files_become_objects_and_rows_and_answers(operator: Operator, folder: Path) -> None:
    code, out, _ = operator.run("upload", folder, "--bot", operator.bot_id, "--process")
    assert (code, "2 uploaded" in out, "2 succeeded" in out) == (0, True, True)
    rows = operator.sources()
    assert list(rows) == ["delivery.md", "kilns/heron.html"]
    row = rows["kilns/heron.html"]
    assert (row["type"], row["content_type"], row["size_bytes"], row["status"]) == ("file", "text/html", 61, "trained")
    assert operator.objects()[row["object_key"]] == (folder / "kilns" / "heron.html").read_bytes()
    assert len(operator.objects()) == 2
    assert any("forty-five litres" in passage["text"] for passage in operator.live())


def test_again_nothing_is_sent_or_written_twice(operator: Operator, folder: Path) -> None:
    assert operator.run("upload", folder, "--bot", operator.bot_id)[0] == 0
    before = operator.sources(), operator.objects()
    lost = key_of(operator, "delivery.md")
    assert "2 unchanged" in operator.run("upload", folder, "--bot", operator.bot_id)[1]
    assert (operator.sources(), operator.objects()) == before
    operator.s3.delete_object(Bucket=operator.world.settings.r2_bucket, Key=lost)
    assert "1 restored, 1 unchanged" in operator.run("upload", folder, "--bot", operator.bot_id)[1]
    operator.s3.put_object(Bucket=operator.world.settings.r2_bucket, Key=lost, Body=b"half of")
    assert "1 restored, 1 unchanged" in operator.run("upload", folder, "--bot", operator.bot_id)[1]
    assert (operator.sources(), operator.objects()) == before


def test_killed_in_the_middle_it_goes_on_where_it_was(operator: Operator, tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(MANY):
        (folder / f"note-{number:03}.txt").write_text(f"Note number {number} is about item {number * 7}.")
    command = [sys.executable, "-m", "workers.cli", "upload", str(folder), "--bot", str(operator.bot_id)]
    process = subprocess.Popen(
        command, cwd=REPOSITORY, env={**os.environ, **operator.environment}, stdout=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    while not len(operator.sources()) >= 5 and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    written = operator.sources()
    assert 5 <= len(written) < MANY
    code, out, _ = operator.run("upload", folder, "--bot", operator.bot_id, "--threads", 2)
    assert (code, f"{len(written)} unchanged, {MANY - len(written)} uploaded" in out) == (0, True)
    assert len(operator.sources()) == len(operator.objects()) == MANY
    assert {row["id"] for row in written.values()} <= {row["id"] for row in operator.sources().values()}
    assert {row["object_key"] for row in operator.sources().values()} == set(operator.objects())


def test_what_was_not_trained_before_a_kill_is_trained_by_the_next_run(operator: Operator, folder: Path) -> None:
    assert operator.run("upload", folder, "--bot", operator.bot_id)[0] == 0
    code, out, _ = operator.run("upload", folder, "--bot", operator.bot_id, "--process")
    assert (code, "2 succeeded" in out) == (0, True)
    assert "succeeded" not in operator.run("upload", folder, "--bot", operator.bot_id, "--process")[1]


def test_changed_files_need_the_operators_word(operator: Operator, folder: Path) -> None:
    operator.run("upload", folder, "--bot", operator.bot_id)
    before, old = operator.sources(), key_of(operator, "delivery.md")
    operator.world.dashboard("UPDATE training_sources SET title = 'Ours', options = '{\"public\": true}'")
    (folder / "delivery.md").write_text("# Delivery\n\nParcels leave at noon.\n")
    code, out, _ = operator.run("upload", folder, "--bot", operator.bot_id)
    assert (code, key_of(operator, "delivery.md")) == (0, old)
    assert "delivery.md: skipped: changed since it was uploaded; --overwrite replaces it" in out
    code, out, _ = operator.run("upload", folder, "--bot", operator.bot_id, "--overwrite")
    assert (code, "1 overwritten, 1 unchanged" in out) == (0, True)
    row = operator.sources()["delivery.md"]
    assert (row["id"], row["title"], row["options"]) == (before["delivery.md"]["id"], "Ours", {"public": True})
    assert operator.objects()[row["object_key"]] == (folder / "delivery.md").read_bytes()
    assert old not in operator.objects()


def test_a_deleted_source_stays_deleted_unless_told(operator: Operator, folder: Path) -> None:
    operator.run("upload", folder, "--bot", operator.bot_id, "--process")
    operator.world.client.delete_source(UUID(str(operator.sources()["delivery.md"]["id"])))
    out = operator.run("upload", folder, "--bot", operator.bot_id)[1]
    assert "delivery.md: skipped: its source was deleted in the dashboard" in out
    assert operator.sources()["delivery.md"]["deleted_at"] is not None
    code, out, _ = operator.run("upload", folder, "--bot", operator.bot_id, "--overwrite", "--process")
    assert (code, operator.sources()["delivery.md"]["deleted_at"]) == (0, None)
    assert "1 succeeded" in out
    assert any("11:30" in passage["text"] for passage in operator.live())


def test_a_source_deleted_through_the_api_is_not_trained_unless_told(operator: Operator, folder: Path) -> None:
    operator.run("upload", folder, "--bot", operator.bot_id, "--process")
    source_id = operator.sources()["delivery.md"]["id"]
    deleted = operator.world.call("DELETE", f"/api/training/delete/{source_id}", scope="training:write")
    assert deleted.status_code == 200
    code, out, _ = operator.run("upload", folder, "--bot", operator.bot_id, "--process")
    assert (code, f"{source_id}: deleted; --overwrite trains it again" in out) == (1, True)
    assert not any("11:30" in passage["text"] for passage in operator.live())
    code, out, _ = operator.run("upload", folder, "--bot", operator.bot_id, "--overwrite", "--process")
    assert (code, "1 succeeded" in out) == (0, True)
    assert any("11:30" in passage["text"] for passage in operator.live())


def test_what_is_left_out_is_named_with_its_reason(operator: Operator, folder: Path, tmp_path: Path) -> None:
    operator.world.dashboard("UPDATE orgs SET limits = '{\"max_file_mb\": 1}'")
    (tmp_path / "secret.txt").write_text("Outside.")
    (folder / ".git").mkdir()
    (folder / ".git" / "config").write_text("x")
    (folder / "~$plan.docx").write_text("x")
    (folder / "empty.txt").touch()
    (folder / "large.txt").write_bytes(b"word " * 250_000)
    (folder / "logo.md").write_bytes(PNG)
    (folder / "blank.txt").write_text(" \n\n ")
    (folder / "out").symlink_to(tmp_path / "secret.txt")
    (folder / "up").symlink_to(tmp_path)
    (folder / "again.md").symlink_to(folder / "delivery.md")
    (folder / "new\nline.txt").write_text("x")
    os.mkfifo(folder / "pipe")
    code, out, _ = operator.run("upload", folder, "--bot", operator.bot_id)
    operator.world.dashboard("UPDATE orgs SET limits = '{}'")
    assert (code, list(operator.sources())) == (0, ["delivery.md", "kilns/heron.html"])
    for line in (
        ".git: skipped: hidden",
        "~$plan.docx: skipped: hidden",
        "empty.txt: skipped: empty",
        "large.txt: skipped: larger than the 1 MB that are allowed",
        "logo.md: skipped: This is a PNG image.",
        "blank.txt: skipped: The file is empty",
        "out: skipped: a link that leads out of the folder",
        "up: skipped: a link that leads out of the folder",
        "again.md: skipped: a link within the folder",
        "'new\\nline.txt': skipped: its name has characters that can't be shown",
        "pipe: skipped: not a file",
    ):
        assert line in out
    assert "11 skipped, 2 uploaded" in out


def test_a_dry_run_does_nothing(operator: Operator, folder: Path) -> None:
    code, out, _ = operator.run("upload", folder, "--bot", operator.bot_id, "--dry-run", "--process")
    assert (code, operator.sources(), operator.objects()) == (0, {}, {})
    assert "delivery.md: would be uploaded" in out


def test_a_login_without_the_right_is_told_what_to_grant(
    operator: Operator, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(operator.world.dashboard_dsn, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS status_writer")
        connection.execute("CREATE ROLE status_writer LOGIN PASSWORD 'words'")
        connection.execute("GRANT SELECT ON orgs, bots, files, training_sources TO status_writer")
        monkeypatch.setenv("DASHBOARD_DB_USERNAME", "status_writer")
        monkeypatch.setenv("DASHBOARD_DB_PASSWORD", "words")
        code, _, err = operator.run("upload", folder, "--bot", operator.bot_id)
        assert (code, operator.objects()) == (2, {})
        assert 'GRANT SELECT, INSERT, UPDATE ON files, training_sources TO "status_writer"' in err
        connection.execute("GRANT SELECT, INSERT, UPDATE ON files, training_sources TO status_writer")
        assert operator.run("upload", folder, "--bot", operator.bot_id)[0] == 0
        connection.execute("DROP OWNED BY status_writer")
        connection.execute("DROP ROLE status_writer")


def test_failures_are_named_and_have_no_rows(operator: Operator, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("R2_BUCKET", "there-is-none")
    code, out, _ = operator.run("upload", folder, "--bot", operator.bot_id)
    assert (code, operator.sources()) == (1, {})
    assert "delivery.md: failed: The file storage refused the request (NoSuchBucket)." in out


def test_what_can_not_be_is_a_sentence(operator: Operator, folder: Path) -> None:
    nobody = uuid4()
    assert operator.run("upload", folder, "--bot", nobody)[::2] == (2, f"There is no bot {nobody} in the dashboard.\n")
    code, _, err = operator.run("upload", folder / "delivery.md", "--bot", operator.bot_id)
    assert (code, "is not a folder" in err) == (2, True)

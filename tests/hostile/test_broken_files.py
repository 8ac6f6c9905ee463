"""Broken files as the program that counts them meets them: text or one documented error each, within limits."""

import os
import signal
from functools import partial

import pytest

from tests.hostile.broken_files import Outcome, Reader, Tally
from tests.hostile.broken_files_bombs import bombs, flated
from tests.hostile.broken_files_reader import ENTRY
from tests.hostile.broken_files_seeds import File, made, mutants
from tests.workers.extract.processes import KILLERS, server_pids
from workers.extract.sandbox import Sandbox

pytestmark = pytest.mark.timeout(400)
MEMORY_MB, SECONDS = 200, 60
MUTANTS = 100
# Those that take little time, one of each sort.
BOMBS = (
    *("laughs.docx", "members.docx", "overlapping.epub", "said-huge.docx", "attributes.docx", "repeated.ods"),
    *("forms.pdf", "pages-loop.pdf", "outline-loop.pdf", "predictor.pdf", "image-said.pdf", "filters.pdf"),
    *("wider.txt", "surrogates.txt", "digits.json", "fonts.rtf", "lists.odt", "note.odt"),
)
HUNGRY = File("hungry.pdf", partial(flated, 400), "bomb")


@pytest.fixture(scope="module")
def tally() -> Tally:
    """What came of a small run."""
    sound, harmful = made(), bombs()
    with Sandbox(entry=ENTRY, memory_mb=MEMORY_MB, timeout_s=SECONDS) as sandbox:
        found = Tally(Reader(sandbox, SECONDS))
        list(found.add([*sound, *mutants(sound, MUTANTS, 1), HUNGRY]))
        list(found.add(File(name, harmful[name], "bomb") for name in BOMBS))
    return found


def test_nothing_happens_that_must_not(tally: Tally) -> None:
    assert [(one.file.name, one.code, one.raised) for one in tally.bad] == []
    assert set(tally.zeros.values()) == {0}


def test_sound_files_of_all_types_give_text(tally: Tally) -> None:
    sound = {one.file.name: one.code for one in tally.outcomes if one.file.family == "sound"}
    assert {name for name, code in sound.items() if code != "text"} == {"scan.pdf"}
    assert len({one.file.kind for one in tally.outcomes}) >= 15


def test_some_of_what_is_broken_is_refused(tally: Tally) -> None:
    codes = {one.code for one in tally.outcomes if one.file.family == "mutant"}
    assert codes >= {"text", "malformed_document", "no_text"}


def test_no_child_takes_more_than_its_memory(tally: Tally) -> None:
    peaks = {one.file.name: one.mib or 0.0 for one in tally.outcomes}
    warm = peaks["plain.txt"]
    assert max(peaks.values()) < warm + MEMORY_MB
    assert {one.file.name: one.code for one in tally.outcomes}[HUNGRY.name] == "parser_out_of_memory"


def test_mutants_are_the_same_for_a_seed() -> None:
    sound = made()
    first, again, other = ([(one.name, one.make()) for one in mutants(sound, 20, seed)] for seed in (5, 5, 6))
    assert first == again
    assert first != other


# --- the counting can fail --------------------------------------------------------------------------------------------


def counted(*deeds: str, seconds: float = SECONDS) -> Tally:
    """What is counted of readers that do such deeds."""
    with Sandbox(entry=KILLERS, memory_mb=128, timeout_s=seconds) as sandbox:
        tally = Tally(Reader(sandbox, seconds, KILLERS))
        for name in deeds:
            list(tally.add([_deed(name)]))
            if name == "pid":
                os.kill(server_pids()[-1], signal.SIGKILL)
    return tally


def _deed(name: str) -> File:
    return File(f"{name}.txt", name.encode, "deed")


@pytest.mark.parametrize(
    ("deeds", "zero", "bad"),
    [
        (["segfault"], "children crashed", ["segfault.txt"]),
        (["untyped"], "untyped errors", ["untyped.txt"]),
        (["foreign error"], "children crashed", ["foreign error.txt"]),
        (["pid", "pid"], "fork servers lost", []),
    ],
)
def test_what_must_not_happen_is_counted(deeds: list[str], zero: str, bad: list[str]) -> None:
    tally = counted(*deeds)
    assert {name for name, count in tally.zeros.items() if count} == {zero}
    assert [one.file.name for one in tally.bad] == bad


def test_a_child_that_ends_at_its_limits_is_no_crash() -> None:
    tally = counted("eat", "spin", seconds=1)
    assert [one.code for one in tally.outcomes] == ["parser_out_of_memory", "parser_timeout"]
    assert set(tally.zeros.values()) == {0}


def test_a_file_that_ends_too_late_is_counted() -> None:
    with Sandbox(entry=KILLERS) as sandbox:
        reader = Reader(sandbox, 1, KILLERS)
        assert reader.late(Outcome(_deed("sleep"), "text", seconds=12))
        assert not reader.late(Outcome(_deed("sleep"), "text", seconds=2))

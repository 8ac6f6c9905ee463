"""Owns the reading of a PDF's scanned pages by Tesseract: pages become pictures in one confined child, words in others."""

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Protocol
from urllib.parse import unquote, urlsplit

import structlog
from pydantic import BaseModel

from chat_api.core.errors import NoText, TooLarge, TrainingError
from workers.documents import Block, Document, Fetched
from workers.extract.children import Pulse
from workers.extract.clean import clean_document
from workers.extract.ocr_table import paragraphs
from workers.extract.pictures_wire import DPI, MOST_PIXELS, PICTURE
from workers.extract.scanned import WITHOUT_TEXT, ranges
from workers.extract.spawned import (
    MEMORY_MB,
    PYTHON,
    ROOT,
    Ended,
    child_of,
    confined,
    environment,
    frames_of,
    memory,
    output,
)
from workers.extract.told import told_of

Item = tuple[Fetched, str | None]
Outcome = Document | TrainingError

_PROGRAM = "tesseract"
_MOST_WORDS = 4 << 20
"""Bytes of one page's table of words."""
_START_S = 30.0

log = structlog.get_logger(__name__)


class Reads(Protocol):
    """Who reads all that is text: the sandbox."""

    def extract_many(self, items: Sequence[Item], *, check: Callable[[], None] | None = None) -> list[Outcome]:
        """The document in each (bytes, filename), or why there is none."""


@dataclass(frozen=True, slots=True)
class OcrLimits:
    """Pages of a file, and seconds of a page and of a file, that Tesseract may have."""

    pages: int = 100
    page_s: float = 60.0
    file_s: float = 600.0


class _Known(BaseModel, strict=True):
    """What the child that makes pictures says of the file; it has read what strangers wrote."""

    pages: int
    title: str
    language: str | None
    empty: list[int]


@dataclass(slots=True)
class _Scan:
    """A file, and the paragraphs that were read, by page."""

    known: _Known
    words: dict[int, list[str]] = field(default_factory=dict)
    late: bool = False
    """Whether the file's time was over before its pages were."""


@dataclass(frozen=True, slots=True)
class OcrReader:
    """Reads as `sandbox` does, and then the pages of PDFs on which that found no text.

    `program` is Tesseract's path, `languages` are its own names, joined by `+`. Safe to use from several threads.
    """

    sandbox: Reads
    program: str
    languages: str
    limits: OcrLimits = field(default_factory=OcrLimits)

    def extract_many(self, items: Sequence[Item], *, check: Callable[[], None] | None = None) -> list[Outcome]:
        """As the sandbox's. A page on which nothing is found stays without text."""
        outcomes = self.sandbox.extract_many(items, check=check)
        pulse = Pulse(check)
        for place, ((fetched, filename), outcome) in enumerate(zip(items, outcomes, strict=True)):
            if _is_scan(fetched, outcome):
                outcomes[place] = self._read(fetched, filename, outcome, pulse)
        return outcomes

    def _read(self, fetched: Fetched, filename: str | None, outcome: Outcome, pulse: Pulse) -> Outcome:
        try:
            scan = self._scanned(fetched.body, pulse)
        except (Ended, TooLarge, ValueError) as error:
            log.warning("ocr_failed", url=fetched.url, error=type(error).__name__)
            return outcome
        log.info("ocr_done", url=fetched.url, pages=len(scan.words), empty=len(scan.known.empty))
        if scan.words:
            return _merged(scan, outcome, filename or fetched.url, self)
        if isinstance(outcome, NoText) and scan.known.empty:
            return NoText(f"{outcome.message} OCR has found none, either.")
        return outcome

    def _scanned(self, body: bytes, pulse: Pulse) -> _Scan:
        """Reads the pages without text. Raises Ended, TooLarge, ValueError, and what the pulse raises."""
        until = time.monotonic() + self.limits.file_s
        with memory(body) as file, child_of(self._pictures(file), file=file) as child:
            frames = frames_of(child, until, pulse, MOST_PIXELS + PICTURE.size)
            scan = _Scan(_Known.model_validate_json(next(frames)))
            try:
                for page, frame in zip(scan.known.empty[: self.limits.pages], frames, strict=False):
                    if words := self._words(page, frame, until, pulse):
                        scan.words[page] = words
            except Ended:
                scan.late = True
        return scan

    def _words(self, number: int, frame: bytes, until: float, pulse: Pulse) -> list[str]:
        """The paragraphs of a page; none where Tesseract fails. Raises Ended when the file's time is over."""
        width, height, dpi = PICTURE.unpack(frame[: PICTURE.size].ljust(PICTURE.size, b"\0"))
        pixels = memoryview(frame)[PICTURE.size :]
        if not pixels or len(pixels) != width * height or not 0 < dpi <= DPI:
            return []
        # What a stranger's file has touched is wrapped here, so that Tesseract reads a picture of the simplest form.
        picture = b"P5 %d %d 255\n%b" % (width, height, bytes(pixels))
        until_page = time.monotonic() + self.limits.page_s
        with memory(picture) as file, child_of(self._tesseract(dpi), stdin=file) as child:
            try:
                table = b"".join(output(child, min(until, until_page), pulse, _MOST_WORDS))
            except (Ended, TooLarge) as error:
                if time.monotonic() >= until:
                    raise Ended from error
                log.warning("ocr_page_failed", page=number, error=type(error).__name__)
                return []
        return paragraphs(table.decode(errors="replace"))

    def _pictures(self, file: int) -> list[str]:
        seconds = str(int(self.limits.file_s) + 1)
        return [*PYTHON, "workers.extract.pictures", str(file), str(MEMORY_MB), seconds, str(self.limits.pages)]

    def _tesseract(self, dpi: int) -> list[str]:
        return [
            *confined(self.limits.page_s),
            self.program,
            "stdin",
            "stdout",
            "-l",
            self.languages,
            "--dpi",
            str(dpi),
            "tsv",
        ]


def find_tesseract(languages: str) -> str:
    """The path of the Tesseract that is installed. Raises ValueError, in a sentence, where it or a language is not."""
    program = shutil.which(_PROGRAM)
    if program is None:
        raise ValueError("Tesseract is not installed (Debian: tesseract-ocr).")
    command = [*confined(_START_S), program, "--list-langs"]
    listed = subprocess.run(
        command, capture_output=True, text=True, timeout=_START_S, check=False, cwd=ROOT, env=environment()
    )
    if listed.returncode:
        raise ValueError(f"Tesseract can't be started confined: {listed.stderr.strip()[-200:]}")
    missing = set(languages.split("+")) - set(listed.stdout.split())
    if missing:
        names = ", ".join(sorted(missing))
        raise ValueError(f"Tesseract has no data for {names} (Debian: tesseract-ocr-LANGUAGE).")
    return program


def _is_scan(fetched: Fetched, outcome: Outcome) -> bool:
    if isinstance(outcome, Document):
        return any(warning.startswith(WITHOUT_TEXT) for warning in outcome.warnings)
    return isinstance(outcome, NoText) and b"%PDF-" in fetched.body[:1024]


def _merged(scan: _Scan, outcome: Outcome, name: str, reader: OcrReader) -> Document:
    """The document with the pages that were read among the others."""
    read = [Block("paragraph", text, page=page) for page, texts in scan.words.items() for text in texts]
    found = (
        outcome if isinstance(outcome, Document) else Document(scan.known.title or _stem(name), (), "application/pdf")
    )
    told = told_of(clean_document(replace(found, blocks=tuple(read))))
    blocks = sorted([*found.blocks, *read], key=lambda block: block.page or 0)
    kept = [warning for warning in found.warnings if not warning.startswith(WITHOUT_TEXT)]
    return clean_document(
        replace(
            found,
            blocks=tuple(blocks),
            pages=scan.known.pages,
            language=found.language or scan.known.language or told.language,
            warnings=(*kept, *_warnings(scan, reader), *told.warnings),
        )
    )


def _warnings(scan: _Scan, reader: OcrReader) -> Iterator[str]:
    read = sorted(scan.words)
    yield f"{len(read)} page(s) were read by OCR ({reader.languages}), which makes mistakes: {ranges(read)}."
    if left := [page for page in scan.known.empty if page not in scan.words]:
        yield f"{WITHOUT_TEXT}{ranges(left)}."
    if len(scan.known.empty) > reader.limits.pages:
        yield f"OCR reads {reader.limits.pages} pages of a file at most."
    if scan.late:
        yield f"The time for OCR was over after {reader.limits.file_s:.0f} seconds."


def _stem(name: str) -> str:
    with suppress(ValueError):
        name = unquote(urlsplit(name).path)
    return " ".join(PurePosixPath(name).stem.replace("_", " ").replace("-", " ").split())

"""The file that `export` writes and `import` reads: a zip of JSON lines and vectors, every entry with its checksum.

For each source `source.json`, `pages.ndjson`, `documents.ndjson`, `chunks.ndjson` and
`vectors.f16` (a row of little-endian halves for each chunk, in the chunks' order); then `manifest.json`, last `checksums.json`.
"""

import hashlib
import json
import os
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, ValidationError

from chat_api.core.errors import ServiceError

FORMAT, VERSION = "chat_api.knowledge", 1
MANIFEST, CHECKSUMS, SOURCE, VECTORS = "manifest.json", "checksums.json", "source.json", "vectors.f16"
TABLES: Final = ("pages", "documents", "chunks")
_PIECE, _MOST_JSON = 1 << 20, 64 << 20


class BadArchive(ServiceError):
    """This is no export of a bot's knowledge."""

    code = "bad_archive"
    retryable = False


class Space(BaseModel):
    """The model of the file's vectors, and their dimensions."""

    model: str
    dimensions: int = Field(ge=1, le=4000)

    def __str__(self) -> str:
        return f"{self.model} ({self.dimensions} dimensions)"


class Manifest(BaseModel):
    """What the file is. `id` is the export's own: the same file is never imported twice."""

    format: Literal["chat_api.knowledge"] = "chat_api.knowledge"
    version: int = VERSION
    id: str = Field(min_length=1, max_length=64)
    exported_at: str
    bot_id: str
    bot_name: str
    space: Space
    sources: int = Field(ge=0, le=1_000_000)


class FileDefinition(BaseModel):
    """A row of the dashboard's `files`; the object itself is not in the export."""

    id: str
    object_key: str
    filename: str
    content_type: str | None
    size_bytes: int | None


class Definition(BaseModel):
    """A source as its owner gave it, and the generation that answered."""

    id: str
    type: str
    url: str | None
    title: str | None
    content: dict[str, Any] | None
    options: dict[str, Any] | None
    file: FileDefinition | None
    source_version: str
    reader_version: int
    crawl: dict[str, Any] | None
    chunks: int = Field(ge=0)


class ArchiveWriter:
    """Writes entries one after the other; nothing larger than a row is held in memory."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._zip = archive
        self._sums: dict[str, str] = {}

    def write(self, name: str, pieces: Iterable[bytes]) -> None:
        """An entry made of these pieces."""
        entry = zipfile.ZipInfo(name)
        entry.compress_type = zipfile.ZIP_STORED if name.endswith(VECTORS) else zipfile.ZIP_DEFLATED
        digest = hashlib.sha256()
        with self._zip.open(entry, "w", force_zip64=True) as stream:
            for piece in pieces:
                digest.update(piece)
                stream.write(piece)
        self._sums[name] = digest.hexdigest()

    def end(self) -> None:
        """Writes the checksums: without them the file is a part of one."""
        self._zip.writestr(CHECKSUMS, json.dumps(self._sums))


@contextmanager
def new_archive(path: Path) -> Iterator[ArchiveWriter]:
    """A file that is there, under its name, only when it is whole; for its owner alone to read. Raises OSError."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with os.fdopen(os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "w+b") as file:
            with zipfile.ZipFile(file, "w") as archive:
                writer = ArchiveWriter(archive)
                yield writer
                writer.end()
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


class Archive:
    """An export that is read; all of it has been checked before anything of it is used."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._zip = archive
        sums = self._json(CHECKSUMS)
        names = [entry.filename for entry in archive.infolist() if entry.filename != CHECKSUMS]
        if not isinstance(sums, dict) or sorted(sums) != sorted(names):
            raise BadArchive("The export is not whole: its entries are not those that it lists.")
        for name in names:
            if self._sum(name) != sums[name]:
                raise BadArchive(f"The export is damaged: {name} is not what was written.")
        self.manifest = self._manifest()

    def definition(self, number: int) -> Definition:
        """The source of this number, from 0. Raises BadArchive."""
        try:
            return Definition.model_validate(self._json(entry_name(number, SOURCE)))
        except ValidationError as error:
            raise BadArchive(f"The export's source {number} is not described as it should be.") from error

    def rows(self, number: int, table: str, at_once: int) -> Iterator[list[dict[str, Any]]]:
        """The rows of a source's table, so many at once. Raises BadArchive."""
        with self._open(entry_name(number, f"{table}.ndjson")) as stream:
            batch: list[dict[str, Any]] = []
            while line := stream.readline(_MOST_JSON):
                batch.append(_object(line))
                if len(batch) == at_once:
                    yield batch
                    batch = []
            if batch:
                yield batch

    def vectors(self, number: int) -> Iterator[NDArray[np.float32]]:
        """The vectors of a source one by one, shape (dimensions,), in the chunks' order. Raises BadArchive."""
        size = 2 * self.manifest.space.dimensions
        with self._open(entry_name(number, VECTORS)) as stream:
            while raw := stream.read(size):
                if len(raw) != size:
                    raise BadArchive("The export's vectors end in the middle of one.")
                yield np.frombuffer(raw, "<f2").astype(np.float32)

    def _manifest(self) -> Manifest:
        given = self._json(MANIFEST)
        version = given.get("version") if isinstance(given, dict) and given.get("format") == FORMAT else None
        if isinstance(version, int) and version > VERSION:
            raise BadArchive(f"The export is of version {version}, this program reads {VERSION}. Use a newer one.")
        try:
            return Manifest.model_validate(given)
        except ValidationError as error:
            raise BadArchive from error

    def _json(self, name: str) -> Any:
        with self._open(name) as stream:
            raw = stream.read(_MOST_JSON + 1)
        if len(raw) > _MOST_JSON:
            raise BadArchive(f"The export's {name} is too large.")
        try:
            return json.loads(raw)
        except ValueError as error:
            raise BadArchive from error

    def _sum(self, name: str) -> str:
        digest = hashlib.sha256()
        with self._open(name) as stream:
            while piece := stream.read(_PIECE):
                digest.update(piece)
        return digest.hexdigest()

    @contextmanager
    def _open(self, name: str) -> Iterator[Any]:
        try:
            with self._zip.open(name) as stream:
                yield stream
        except KeyError as error:
            raise BadArchive from error
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
            raise BadArchive(f"The export is damaged: {name} can't be read.") from error


@contextmanager
def read_archive(path: Path) -> Iterator[Archive]:
    """The export in this file, after every byte of it was checked. Raises BadArchive and OSError."""
    try:
        opened = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise BadArchive(f"{path} is no export of a bot's knowledge, or is cut off.") from error
    with opened:
        yield Archive(opened)


def entry_name(number: int, name: str) -> str:
    """An entry of the source of this number."""
    return f"sources/{number:06}/{name}"


def _object(line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise BadArchive("The export has a row that is not JSON.") from error
    if not isinstance(row, dict):
        raise BadArchive("The export has a row that is not one.")
    return row

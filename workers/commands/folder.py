"""Which files of a folder can be uploaded, and why the others can't."""

import os
import stat
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from chat_api.core.errors import ServiceError

MOST_FILES = 100_000
LOCK_FILE = "~$"
"""What Office puts beside a document that is open."""


class BadFolder(ServiceError):
    """The folder can't be read."""

    code = "bad_command"
    retryable = False


@dataclass(frozen=True, slots=True)
class Found:
    """A file that may be uploaded."""

    path: Path
    name: str
    """Its path within the folder, with slashes and composed accents: the same on every machine."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file, link or folder that is left out."""

    name: str
    reason: str


def look_into(folder: Path, max_bytes: int) -> list[Found | Skipped]:
    """What is in the folder, in the order of names. Raises BadFolder."""
    root = folder.resolve()
    if not root.is_dir():
        raise BadFolder(f"{folder} is not a folder.")
    found: list[Found | Skipped] = []
    names: set[str] = set()
    for path in _walk(root):
        one = _judged(path, root, max_bytes)
        if one.name in names:
            one = Skipped(one.name, "another file's name differs from it only in how accents are written")
        names.add(one.name)
        found.append(one)
        if len(found) > MOST_FILES:
            raise BadFolder(f"{folder} has more than {MOST_FILES:,} files. Upload its folders one by one.")
    return found


def _walk(folder: Path) -> Iterator[Path]:
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise BadFolder(f"{folder} can't be read: {error.strerror}.") from error
    for path in entries:
        if path.is_dir() and not path.is_symlink() and not _hidden(path.name):
            yield from _walk(path)
        else:
            yield path


def _hidden(name: str) -> bool:
    return name.startswith((".", LOCK_FILE))


def _judged(path: Path, root: Path, max_bytes: int) -> Found | Skipped:
    name = unicodedata.normalize("NFC", path.relative_to(root).as_posix())
    reason = _reason(path, root, name, max_bytes)
    return Skipped(shown(name), reason) if reason else Found(path, name)


def _reason(path: Path, root: Path, name: str, max_bytes: int) -> str:
    if _hidden(path.name):
        return "hidden"
    if path.is_symlink():
        inside = path.resolve().is_relative_to(root)
        return "a link within the folder" if inside else "a link that leads out of the folder"
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        return "not a file"
    if not name.isprintable():
        return "its name has characters that can't be shown"
    if not os.access(path, os.R_OK):
        return "this user may not read it"
    if not status.st_size:
        return "empty"
    return "" if status.st_size <= max_bytes else f"larger than the {max_bytes >> 20} MB that are allowed"


def shown(name: str) -> str:
    """A name as a terminal may print it."""
    return name if name.isprintable() else ascii(name)

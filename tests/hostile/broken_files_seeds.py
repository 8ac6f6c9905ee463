"""Owns which files are broken, and how: sound ones made on the spot, those found in a folder, and mutants of both."""

import random
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from pypdf import PdfReader, PdfWriter

from tests.hostile.broken_files_bombs import Maker
from tests.hostile.broken_files_bytes import ANY, MOST_BYTES, TEXT, Change
from tests.hostile.broken_files_pdf import PDF
from tests.hostile.broken_files_xml import XML
from tests.hostile.broken_files_zips import ZIP
from tests.workers.extract import broken
from tests.workers.extract.files import encrypted, joined, scan

_UNREADABLE = (zipfile.BadZipFile, zlib.error, ValueError, LookupError, OSError, EOFError, RuntimeError)
_CHANGES: dict[str, Sequence[Change]] = {
    **dict.fromkeys(("docx", "docm", "dotx", "pptx", "pptm", "xlsx", "xlsm", "odt", "ott", "ods", "odp", "epub"), ZIP),
    **dict.fromkeys(("html", "htm", "xhtml", "xml", "fodt"), (*TEXT, *XML)),
    **dict.fromkeys(("md", "markdown", "txt", "csv", "tsv", "json", "rtf"), TEXT),
    "pdf": PDF,
}


@dataclass(frozen=True, slots=True)
class File:
    """A file to read: its name ends with its kind, and its bytes are made when they are wanted."""

    name: str
    make: Maker
    family: str
    """`sound`, `found`, `mutant` or `bomb`."""

    @property
    def kind(self) -> str:
        """Its name's suffix, in lower case."""
        return self.name.rpartition(".")[2].lower()


def made() -> list[File]:
    """Sound documents of all types, of several sorts where readers take different ways through them."""
    bodies = {f"seed.{kind}": body for kind, body in broken.seeds().items()}
    pdf = bodies["seed.pdf"]
    bodies |= {
        "packed.pdf": _packed(pdf),
        "joined.pdf": joined(pdf, scan(1)),
        "locked.pdf": encrypted(pdf, ""),
        "scan.pdf": scan(2),
        "page.html": _PAGE,
        "page.md": _MARKDOWN,
        "plain.txt": "Größe und Preis.\n\nDer Tank fasst zwei Liter.\n".encode("cp1252") * 20,
        "table.tsv": b"Name\tPrice\tNote\n" + b'Tank\t12.50\t"two\tlitres"\n' * 30,
    }
    return [File(name, _given(body), "sound") for name, body in sorted(bodies.items())]


def found(folder: Path) -> list[File]:
    """The files below a folder that are not too large to be read in numbers."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.stat().st_size < MOST_BYTES)
    return [File(path.name, path.read_bytes, "found") for path in paths]


def mutants(files: Sequence[File], count: int, seed: int) -> Iterator[File]:
    """So many broken files, as many of each kind; of the same files always the same ones for a seed."""
    kinds: dict[str, list[File]] = {}
    for file in files:
        kinds.setdefault(file.kind, []).append(file)
    names = sorted(kinds.keys() & _CHANGES.keys())
    for number in range(count):
        kind = names[number % len(names)]
        chance = random.Random(f"{seed}:{number}")
        file = chance.choice(kinds[kind])
        changes = [chance.choice(_CHANGES[kind]) for _ in range(chance.choice((1, 1, 1, 2)))]
        label = "+".join(f"{change.__module__.rpartition('_')[2]}-{change.__name__}" for change in changes)
        yield File(f"{number}-{label}-{file.name}", _mutant(file, changes, f"{seed}:{number}:bytes"), "mutant")


def _mutant(file: File, changes: Sequence[Change], seed: str) -> Maker:
    def make() -> bytes:
        body, chance = file.make(), random.Random(seed)
        for change in changes:
            try:
                body = change(body, chance)
            except _UNREADABLE:  # what is broken already can't be taken apart
                body = chance.choice(ANY)(body, chance)
        return body[:MOST_BYTES]

    return make


def _given(body: bytes) -> Maker:
    return lambda: body


def _packed(pdf: bytes) -> bytes:
    """The PDF as newer programs write it: its objects in packed streams."""
    writer = PdfWriter(clone_from=PdfReader(BytesIO(pdf)))
    writer.compress_identical_objects()
    out = BytesIO()
    writer.write(out)
    return out.getvalue()


_PAGE = b"""<!doctype html><html lang="de"><head><meta charset="utf-8"><title>Kaffee</title>
<script type="application/ld+json">{"@type": "Product", "name": "Tank", "offers": {"price": "12.50"}}</script></head>
<body><nav><a href="/">Home</a></nav><main><h1>Der Tank</h1><p>Er fasst zwei Liter <b>Wasser</b>.</p>
<table><tr><th>Teil<th>Preis<tr><td rowspan="2">Tank<td>12,50<tr><td>13</table><ul><li>eins<li>zwei<ul><li>drei</ul></ul>
<pre><code>x = 1</code></pre><dl><dt>Frage?<dd>Antwort.</dl></main></body></html>"""
_MARKDOWN = b"""---
title: "The tank"
---
# The tank

It holds *two* litres of `water`, see [here](https://example.com/a_(b)).

- one
  1. two
     > quoted

| Part | Price |
| --- | ---: |
| Tank | 12.50 |

```python
x = 1
```
"""

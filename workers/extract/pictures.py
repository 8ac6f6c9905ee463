"""Owns the child that makes pictures of a PDF's pages without text: confined like every reader, started by `ocr`.

Run as `python -m workers.extract.pictures FILE MEMORY_MB SECONDS MOST_PAGES`, FILE being the PDF's descriptor. It writes
frames to its standard output: what it knows of the file, then a page each, no faster than they are taken.
"""

import encodings.utf_16_le  # noqa: F401  # what reads titles; nothing can be imported any more once confined
import json
import os
import sys
from contextlib import closing
from typing import Any

import pypdfium2

from workers.extract.confine import Limits, confine
from workers.extract.pdf import declared_title
from workers.extract.pdf_furniture import without_furniture
from workers.extract.pdf_lines import read_pdf
from workers.extract.pictures_wire import DPI, MOST_PIXELS, PICTURE
from workers.extract.wire import write_frame

_POINTS_PER_INCH = 72
_ANSWERS = 1


def main(arguments: list[str]) -> None:
    """Reads the file and writes its frames; ends with another status than 0 where there is nothing to show."""
    file, memory_mb, seconds, most = map(int, arguments)
    body = os.pread(file, os.fstat(file).st_size, 0)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    confine(Limits(memory_mb << 20, seconds), os.getppid())
    paged = read_pdf(body)
    empty = without_furniture(paged.pages).empty
    known = {
        "pages": len(paged.pages) + len(paged.unreadable),
        "title": declared_title(paged),
        "language": paged.language,
        "empty": empty,
    }
    write_frame(_ANSWERS, json.dumps(known).encode())
    with closing(pypdfium2.PdfDocument(body)) as document:
        for number in empty[:most]:
            write_frame(_ANSWERS, _picture(document, number))


def _picture(document: Any, number: int) -> bytes:
    """The page in grey, at 300 dots per inch, or fewer where it is large."""
    with closing(document[number - 1]) as page:
        width, height = page.get_size()
        inches = max(1.0, width * height) / _POINTS_PER_INCH**2
        dpi = int(min(DPI, (MOST_PIXELS / inches) ** 0.5))
        with closing(page.render(scale=dpi / _POINTS_PER_INCH, grayscale=True)) as bitmap:
            rows = memoryview(bitmap.buffer)
            pixels = b"".join(
                rows[start : start + bitmap.width] for start in range(0, bitmap.height * bitmap.stride, bitmap.stride)
            )
            return PICTURE.pack(bitmap.width, bitmap.height, dpi) + pixels


if __name__ == "__main__":
    main(sys.argv[1:])
    os._exit(0)

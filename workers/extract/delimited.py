"""Owns CSV and TSV: delimiter, quoting and encoding are told by the content; rows become records."""

import csv
from collections import Counter
from collections.abc import Iterator

from chat_api.core.errors import MalformedDocument, TooLarge
from workers.documents import Document
from workers.extract.encoding import decode
from workers.extract.grid import MAX_TEXT, Records
from workers.extract.text import decoding_warnings

MAX_BYTES = 2 * MAX_TEXT
_MAX_FIELD = 1 << 20
_DELIMITERS = "\t;,|"
_SAMPLE, _SAMPLE_ROWS, _FEW_ROWS = 65_536, 100, 4
_HINT = "sep="


class _Unquoted(csv.excel):
    """A quote is a character like any other."""

    quoting = csv.QUOTE_NONE


def extract_delimited(body: bytes, *, charset: str | None = None) -> Document:
    """The table's rows as records; the title stays empty. Raises TooLarge and MalformedDocument."""
    if len(body) > MAX_BYTES:
        raise TooLarge(f"The table has {len(body) >> 20} MB, more than the {MAX_BYTES >> 20} that are read. Split it.")
    decoded = decode(body, (charset,))
    text = decoded.text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    delimiter = delimiter_of(text, sure=True) or ","
    dialect = csv.excel if _is_quoted(text, delimiter) else _Unquoted
    csv.field_size_limit(_MAX_FIELD)
    try:
        blocks = tuple(Records().blocks(csv.reader(_lines(text), dialect, delimiter=delimiter)))
    except csv.Error:
        raise MalformedDocument from None
    return Document(title="", blocks=blocks, media_type="text/csv", warnings=decoding_warnings(decoded))


def delimiter_of(text: str, *, sure: bool) -> str | None:
    """What parts the columns of a text, told by its first lines; None where it is no table.

    `sure` is whether its name or server calls it one: without that, at least four rows must all have the same number of
    columns, three at least, or two where tabs or semicolons part them.
    """
    sample = text[:_SAMPLE]
    if sample.startswith(_HINT) and sample[5:6] == "\n":
        return sample[4]
    best, highest = None, (0.0, 0)
    for delimiter in _DELIMITERS:
        agreeing, columns, rows = _shape(sample, delimiter)
        good = columns >= 2 if sure else agreeing == 1 and rows >= _FEW_ROWS and columns >= 3 - (delimiter in "\t;")
        if good and (agreeing, columns) > highest:
            best, highest = delimiter, (agreeing, columns)
    return best


def _shape(sample: str, delimiter: str) -> tuple[float, int, int]:
    """The share of the rows that have the most frequent number of columns, that number, and how many rows there are."""
    rows = []
    try:
        for row in csv.reader(_lines(sample), delimiter=delimiter):
            if any(row):
                rows.append(len(row))
            if len(rows) > _SAMPLE_ROWS:
                break
    except csv.Error:
        return 0.0, 0, 0
    if len(sample) == _SAMPLE and len(rows) > 1:
        rows.pop()  # the sample may end within it
    columns, count = Counter(rows).most_common(1)[0] if rows else (0, 0)
    return count / max(1, len(rows)), columns, len(rows)


def _is_quoted(text: str, delimiter: str) -> bool:
    """Whether quotes are used as they should be: no field runs on past all reason, as after a lone quote."""
    try:
        csv.field_size_limit(_SAMPLE)
        for _ in csv.reader(_lines(text), delimiter=delimiter):
            pass
    except csv.Error:
        return False
    return text.count('"') % 2 == 0


def _lines(text: str) -> Iterator[str]:
    """The text's lines with their ends, without a copy of all of it; not the first where it names the delimiter."""
    start = 6 if text.startswith(_HINT) and text[5:6] == "\n" else 0
    while start < len(text):
        end = text.find("\n", start) + 1 or len(text)
        yield text[start:end]
        start = end

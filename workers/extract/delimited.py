"""Owns CSV and TSV: delimiter, quoting and encoding are told by the content; rows become records."""

import csv
import re
from collections import Counter
from collections.abc import Iterator, Sequence

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
_VALUE = re.compile(r"\s*[^\w\s]*\d[\d.,:/%’'\s-]*+[^\w\s]*+\s*")
_ENDED = re.compile(r"[.!?…][\"'”’»)]*\s*\Z")


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
    columns, of which three have text, or two where tabs or semicolons part them; and they must not read as sentences.
    """
    sample = text[:_SAMPLE]
    if sample.startswith(_HINT) and sample[5:6] == "\n":
        return sample[4]
    best, highest = None, (0.0, 0)
    for delimiter in _DELIMITERS:
        rows = _rows(sample, delimiter)
        agreeing, columns = _shape(rows)
        good = columns >= 2 and (sure or (agreeing == 1 and len(rows) >= _FEW_ROWS and _tabular(rows, delimiter)))
        if good and (agreeing, columns) > highest:
            best, highest = delimiter, (agreeing, columns)
    return best


def _rows(sample: str, delimiter: str, dialect: type[csv.Dialect] = csv.excel) -> list[list[str]]:
    """The first rows that have text; none where they can't be told apart."""
    rows = []
    try:
        for row in csv.reader(_lines(sample), dialect, delimiter=delimiter):
            if any(row):
                rows.append(row)
            if len(rows) > _SAMPLE_ROWS:
                break
    except csv.Error:
        return []
    if len(sample) == _SAMPLE and len(rows) > 1:
        rows.pop()  # the sample may end within it
    return rows


def _shape(rows: Sequence[Sequence[str]]) -> tuple[float, int]:
    """The share of the rows that have the most frequent number of columns, and that number."""
    columns, count = Counter(map(len, rows)).most_common(1)[0] if rows else (0, 0)
    return count / max(1, len(rows)), columns


def _tabular(rows: Sequence[Sequence[str]], delimiter: str) -> bool:
    """Whether rows of one length are a table's: what stands at the ends of lines, or before all of them, parts nothing."""
    columns = [column for column in zip(*rows, strict=True) if any(map(str.strip, column))]
    if len(columns) < 3 - (delimiter in "\t;"):
        return False
    valued = any(all(map(_VALUE.fullmatch, column[1:])) for column in columns)
    return valued or delimiter not in ",;" or not _is_prose(rows)


def _is_prose(rows: Sequence[Sequence[str]]) -> bool:
    """Whether at least half of what stands behind a mark has a space before it, or of the rows end as sentences do."""
    inner = [cell for row in rows for cell in row[1:] if cell.strip()]
    spaced = sum(cell.startswith(" ") for cell in inner)
    ended = sum(bool(_ENDED.search(row[-1])) for row in rows)
    return 2 * spaced >= len(inner) or 2 * ended >= len(rows)


def _is_quoted(text: str, delimiter: str) -> bool:
    """Whether quotes are used as they should be: a long field, as after a lone quote, only where all of them are.

    An odd one is an inch mark in a field, or a lone quote: where it holds lines together, these differ from the others.
    """
    if text.count('"') % 2:
        return _parses(text, delimiter, _SAMPLE, strict=True) and _agrees_quoted(text[:_SAMPLE], delimiter)
    return _parses(text, delimiter, _SAMPLE, strict=False) or _parses(text, delimiter, _MAX_FIELD, strict=True)


def _agrees_quoted(sample: str, delimiter: str) -> bool:
    """Whether at least as many rows have the same number of columns as without quoting."""
    quoted, plain = (_shape(_rows(sample, delimiter, dialect)) for dialect in (csv.excel, _Unquoted))
    return quoted[0] >= plain[0]


def _parses(text: str, delimiter: str, longest: int, *, strict: bool) -> bool:
    csv.field_size_limit(longest)
    try:
        for _ in csv.reader(_lines(text), delimiter=delimiter, strict=strict):
            pass
    except csv.Error:
        return False
    return True


def _lines(text: str) -> Iterator[str]:
    """The text's lines with their ends, without a copy of all of it; not the first where it names the delimiter."""
    start = 6 if text.startswith(_HINT) and text[5:6] == "\n" else 0
    while start < len(text):
        end = text.find("\n", start) + 1 or len(text)
        yield text[start:end]
        start = end

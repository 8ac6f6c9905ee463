"""Writes a text's parts as RTF, as Word does, and as an EPUB book."""

from collections.abc import Iterator, Sequence
from html import escape

from tests.bench.office_texts import Part
from tests.workers.extract.office import EPUB_CONTAINER, zipped


def rtf_file(title: str, parts: Sequence[Part], header: str) -> bytes:
    """An RTF document as Word writes it."""
    styles = "".join(rf"{{\s{n} heading {n};}}" for n in range(1, 5))
    head = r"{\rtf1\ansi\ansicpg1252\deff0{\fonttbl{\f0\fswiss\fcharset0 Arial;}}{\stylesheet{\s0 Normal;}" + styles
    lines = [head + "}", rf"{{\info{{\title {_rtf(title)}}}}}{{\header {_rtf(header)}\par}}"]
    for part in parts:
        lines += _rtf_part(part)
    return "\r\n".join([*lines, r"\pard\par}"]).encode("ascii")


def _rtf_part(part: Part) -> Iterator[str]:
    if part.kind == "heading":
        yield rf"\pard\s{part.more} {_rtf(part.text)}\par"
    elif part.kind == "list":
        for number, (depth, item) in enumerate(part.items, 1):
            mark = r"\'b7" if part.more == "list" else f"{number}."
            yield rf"{{\listtext {mark}\tab}}\pard\ls1\ilvl{depth} {_rtf(item)}\par"
    elif part.kind == "table":
        for y, row in enumerate(part.rows):
            merges = "".join(_rtf_cell(part, y, x) + rf"\cellx{1000 * x + 1000}" for x in range(len(row)))
            cells = " ".join(("" if cell in {"<", "^"} else _rtf(cell)) + r"\cell" for cell in row)
            yield rf"\trowd{merges}\pard\intbl {cells}\row"
        yield r"\pard\par"
    else:
        yield rf"\pard\s0 {{\b {_rtf(part.text)}}}{_RTF_HANGING[part.kind].format(_rtf(part.more))}\par"


def _rtf_cell(part: Part, y: int, x: int) -> str:
    row, below = part.rows[y], part.rows[y + 1] if y + 1 < len(part.rows) else ()
    down = r"\clvmrg" if row[x] == "^" else r"\clvmgf" if below and below[x] == "^" else ""
    return down + (r"\clmrg" if row[x] == "<" else r"\clmgf" if row[x + 1 : x + 2] == ("<",) else "")


_RTF_HANGING = {
    "plain": "{}",
    "runs": r" have {{\field{{\*\fldinst HYPERLINK x}}{{\fldrslt {}}}}} at last",
    "break": r"\line {}",
    "note": r"{{\super\chftn}}{{\footnote\pard {{\super\chftn}} {}}}",
    "box": r"{{\shp{{\*\shpinst{{\sp{{\sn a}}{{\sv 1}}}}{{\shptxt\pard {}\par}}}}}}",
    "hidden": r"{{\v {}}}",
    "comment": r"{{\*\atnid A}}{{\annotation\pard {}}}",
    "deleted": r"{{\deleted {}}}",
}


def _rtf(words: str) -> str:
    """The words in RTF's signs."""
    units = words.encode("utf-16-le")
    codes = [int.from_bytes(units[at : at + 2], "little") for at in range(0, len(units), 2)]
    return "".join(chr(code) if code < 128 else rf"\u{code - 65536 if code > 32767 else code}?" for code in codes)


# --- EPUB -------------------------------------------------------------------------------------------------------------


def epub_file(title: str, parts: Sequence[Part], header: str) -> bytes:
    """A book with a chapter to each of its highest headings; its list of contents has the header's words."""
    chapters: list[list[str]] = []
    for part in parts:
        if not chapters or (part.kind == "heading" and part.more == "1"):
            chapters.append([])
        chapters[-1].append(_epub_part(part))
    names = [f"c{number}.xhtml" for number in range(len(chapters))]
    items = "".join(f'<item id="{name}" href="{name}" media-type="application/xhtml+xml"/>' for name in names)
    items += '<item id="nav" href="nav.xhtml" properties="nav" media-type="application/xhtml+xml"/>'
    spine = '<itemref idref="nav"/>' + "".join(f'<itemref idref="{name}"/>' for name in names)
    meta = f'<metadata xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>{escape(title)}</dc:title></metadata>'
    page = (
        "<!DOCTYPE html><html xmlns='http://www.w3.org/1999/xhtml'><head><title>x</title></head><body>{}</body></html>"
    )
    return zipped(
        {
            "mimetype": "application/epub+zip",
            "META-INF/container.xml": EPUB_CONTAINER,
            "OPS/book.opf": f"<package>{meta}<manifest>{items}</manifest><spine>{spine}</spine></package>",
            "OPS/nav.xhtml": page.format(f"<nav><ol><li>{escape(header)}</li></ol></nav>"),
            **{f"OPS/{name}": page.format("".join(found)) for name, found in zip(names, chapters, strict=True)},
        }
    )


def _epub_part(part: Part) -> str:
    words, more = escape(part.text), escape(part.more)
    if part.kind == "heading":
        return f"<h{more}>{words}</h{more}>"
    if part.kind == "list":
        return _epub_list(part)
    if part.kind == "table":
        return _epub_table(part.rows)
    return _EPUB_HANGING.get(part.kind, "<p>{}</p>").format(f"<b>{words}</b>", more)


def _epub_list(part: Part) -> str:
    tag = "ul" if part.more == "list" else "ol"
    lines, before = [f"<{tag}>"], 0
    for number, (depth, item) in enumerate(part.items):
        closing = "" if not number else "</li>" if depth <= before else f"<{tag}>"
        lines.append(f"</li></{tag}>" * (before - depth) + closing + f"<li>{escape(item)}")
        before = depth
    return "".join([*lines, f"</li></{tag}>" * (before + 1)])


def _epub_table(rows: Sequence[Sequence[str]]) -> str:
    lines = []
    for y, row in enumerate(rows):
        tag = "td" if y else "th"
        cells = []
        for x, cell in enumerate(row):
            across = ' colspan="2"' if "<" in row[x + 1 : x + 2] else ""
            down = ' rowspan="2"' if y + 1 < len(rows) and rows[y + 1][x] == "^" else ""
            cells.append("" if cell in {"<", "^"} else f"<{tag}{across}{down}>{escape(cell)}</{tag}>")
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return f"<table>{''.join(lines)}</table>"


_EPUB_HANGING = {
    "runs": '<p>{} have <a href="c0.xhtml">{}</a> at last</p>',
    "break": "<p>{}<br/>{}</p>",
    "note": "<p>{}<a href='#n'>1</a></p><aside id='n'><p>{}</p></aside>",
    "box": "<p>{}</p><div class='box'>{}</div>",
    "hidden": "<p>{}</p><p style='display:none'>{}</p>",
    "comment": "<p>{}</p><!-- {} -->",
    "deleted": "<p>{}</p><p hidden='hidden'>{}</p>",
}

"""OpenDocument slides: what stands on them and their notes, each once, without comments and form controls."""

from tests.workers.extract.files import read
from tests.workers.extract.office import zipped

_NAMES = ("office", "draw", "text", "presentation", "form", "dc")
_SPACES = " ".join(f'xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"' for name in _NAMES)


def odp(*slides: str) -> bytes:
    """A presentation, from the markup of its slides."""
    pages = "".join(f"<draw:page>{slide}</draw:page>" for slide in slides)
    body = f"<office:body><office:presentation>{pages}</office:presentation></office:body>"
    kind = "application/vnd.oasis.opendocument.presentation"
    content = f"<office:document-content {_SPACES}>{body}</office:document-content>"
    return zipped({"mimetype": kind, "content.xml": content})


def frame(words: str, kind: str = "outline") -> str:
    """A frame with a line of text."""
    box = f"<draw:text-box><text:p>{words}</text:p></draw:text-box>"
    return f'<draw:frame presentation:class="{kind}">{box}</draw:frame>'


def test_notes_stand_once_and_comments_and_controls_nowhere() -> None:
    comment = "<office:annotation><dc:creator>Ann</dc:creator><text:p>check the price</text:p></office:annotation>"
    controls = "<office:forms><form:form><form:text><text:p>control</text:p></form:text></form:form></office:forms>"
    notes = f"<presentation:notes>{frame('Say it slowly.', 'notes')}</presentation:notes>"
    document = read(odp(controls + frame("Prices", "title") + frame("Five euros.") + comment + notes, frame("End")))
    assert [(block.kind, block.text, block.page) for block in document.blocks] == [
        ("heading", "Prices", 1),
        ("paragraph", "Five euros.", 1),
        ("paragraph", "Notes: Say it slowly.", 1),
        ("paragraph", "End", 2),
    ]

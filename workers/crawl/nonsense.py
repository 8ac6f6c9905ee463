"""Pages that say in words what their server's status does not: that there is no such page."""

import hashlib
import re
from collections.abc import Callable
from typing import Final

from chat_api.core.errors import TrainingError
from workers.documents import Document
from workers.fetch.names import identity
from workers.fetch.robots import Robots
from workers.fetch.traps import sketch_of
from workers.fetch.urls import Url, parse_url
from workers.reading import Reader

SOFT: Final = "The server answers as if this page existed, with what it answers for addresses that do not exist."
TITLED: Final = "The page says that it does not exist, though its server answers as if it did."

_FEW_WORDS: Final = 80
_TITLE: Final = re.compile(
    r"(?:http\s*)?(?:error|fehler|erreur)?[\s:#-]*(?:404\b|410\b)"
    r"|(?:(?:this|the|that)\s+)?(?:page|site|file|document|content|url)?\s*(?:(?:was|is|could|can)\s*(?:not|n[o']t)\s+(?:be\s+)?"
    r"|not\s+|cannot\s+be\s+)found\b"
    r"|(?:page|site|content)\s+(?:does\s+not|doesn[’']t)\s+exist\b"
    r"|(?:diese\s+)?seite\s+(?:wurde\s+)?(?:leider\s+)?nicht\s+gefunden|page\s+(?:introuvable|non\s+trouvée)"
    r"|página\s+(?:no|não)\s+encontrada|pagina\s+(?:non\s+trovata|niet\s+gevonden)"
    r"|nie\s+znaleziono\s+strony|sidan\s+(?:kunde\s+inte\s+)?hitta(?:de)?s|страница\s+не\s+найдена"
    r"|ページが見つかりません|页面(?:不存在|未找到)",
    re.IGNORECASE,
)


def nonsense_of(url: str, reader: Reader, robots: Robots, check: Callable[[], None]) -> str:
    """The sketch of what the site of `url` answers, as a page, for an address that it can't have; "" where it does not.

    Raises what `check` raises.
    """
    start = parse_url(url)
    slug = hashlib.sha256(start.origin.encode()).hexdigest()
    probe = f"{start.origin}/{slug[:16]}"
    if not robots.allows(probe):
        return ""
    try:
        fetched = reader.client.get(probe)
        if identity(parse_url(fetched.url)) != identity(parse_url(probe)):
            return ""
        (found,) = reader.documents([(fetched, None)], check)
    except TrainingError:
        return ""
    return "" if isinstance(found, TrainingError) else sketch_of_document(found, parse_url(probe))


def sketch_of_document(document: Document, url: Url) -> str:
    """As `sketch_of`, of all its text."""
    return sketch_of((block.text for block in document.blocks), url)


def says_not_found(document: Document) -> bool:
    """Whether a short page's title is that of an error."""
    return bool(_TITLE.match(document.title)) and sum(len(block.text.split()) for block in document.blocks) < _FEW_WORDS

"""What `seed` makes up: an org's bots and sources of every type, the same ones each time."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from uuid import NAMESPACE_DNS, UUID, uuid5

from workers.commands.rows import FileRow, SourceRow

SIZES = {"small": (1, 6), "medium": (3, 60), "large": (10, 600)}
"""Bots, and each one's files, texts and questions; a page, a website and a sitemap come with every bot."""
_THINGS = ("kiln", "oven", "glaze", "shelf", "thermometer", "controller", "burner", "vent", "door seal", "power supply")
_PLACES = ("workshop", "school", "studio", "warehouse", "showroom", "repair centre")
_DEEDS = (
    "The {thing} of model {number} is checked every {days} days by the {place}.",
    "Orders for the {thing} leave the {place} within {days} working days and cost {number} euros.",
    "Switch the {thing} off for {days} minutes before you open it; error {number} goes away by itself.",
    "The {place} keeps {number} spare parts of the {thing}, and sends them out for {days} years.",
)


@dataclass(frozen=True, slots=True)
class SeedBot:
    """A bot with its sources, and its files' bytes by object key."""

    bot_id: UUID
    name: str
    sources: tuple[SourceRow, ...]
    objects: dict[str, bytes]


def seed_org(size: str) -> UUID:
    """The org of everything of this size."""
    return uuid5(NAMESPACE_DNS, f"seed-{size}.invalid")


def seed_bots(size: str, site: str) -> Iterator[SeedBot]:
    """The bots of a size, one by one; `site` is where the page, the website and the sitemap are."""
    org_id, (bots, written) = seed_org(size), SIZES[size]
    for number in range(bots):
        bot_id = uuid5(org_id, f"bot:{number}")
        objects: dict[str, bytes] = {}
        sources = [*_web(bot_id, site.rstrip("/"))]
        sources += [_written(org_id, bot_id, place, objects) for place in range(written)]
        yield SeedBot(bot_id, f"Seed bot {number + 1} ({size})", tuple(sources), objects)


def _web(bot_id: UUID, site: str) -> Iterator[SourceRow]:
    for kind, url, options in (
        ("url", f"{site}/", {}),
        ("site", f"{site}/", {"max_pages": 20}),
        ("sitemap", f"{site}/sitemap.xml", {"max_pages": 20}),
    ):
        yield SourceRow(uuid5(bot_id, f"source:{kind}"), kind, url, options=json.dumps(options))


def _written(org_id: UUID, bot_id: UUID, place: int, objects: dict[str, bytes]) -> SourceRow:
    """A file, a text or questions, in turn."""
    source_id, random = uuid5(bot_id, f"source:{place}"), Random(f"{bot_id}:{place}")  # noqa: S311  # nothing is secret here
    title = f"{random.choice(_THINGS).capitalize()} {place + 1}"
    if place % 3 == 1:
        return SourceRow(source_id, "text", title=title, content=json.dumps({"text": _paragraphs(random, 6)}))
    if place % 3 == 2:
        pairs = [{"question": f"What of the {random.choice(_THINGS)}?", "answer": _sentence(random)} for _ in range(5)]
        return SourceRow(source_id, "qa", title=title, content=json.dumps({"pairs": pairs}))
    file_id = uuid5(bot_id, f"file:{place}")
    suffix, content_type, body = _file(place // 3, title, random)
    key = f"orgs/{org_id}/files/{file_id}{suffix}"
    objects[key] = body.encode()
    return SourceRow(source_id, "file", file=FileRow(file_id, key, f"{title}{suffix}", content_type, len(objects[key])))


def _file(turn: int, title: str, random: Random) -> tuple[str, str, str]:
    """Suffix, media type and text of a file: Markdown, HTML, CSV and plain text in turn."""
    match turn % 4:
        case 0:
            return ".md", "text/markdown", f"# {title}\n\n{_paragraphs(random, 12)}\n"
        case 1:
            words = _paragraphs(random, 12).replace("\n\n", "</p><p>")
            return ".html", "text/html", f"<html><head><title>{title}</title></head><body><p>{words}</p></body></html>"
        case 2:
            rows = [f"{random.choice(_THINGS)},{random.randint(10, 900)}" for _ in range(40)]
            return ".csv", "text/csv", "\n".join(["part,price", *rows]) + "\n"
        case _:
            return ".txt", "text/plain", f"{_paragraphs(random, 12)}\n"


def _paragraphs(random: Random, count: int) -> str:
    return "\n\n".join(" ".join(_sentence(random) for _ in range(4)) for _ in range(count))


def _sentence(random: Random) -> str:
    return random.choice(_DEEDS).format(
        thing=random.choice(_THINGS),
        place=random.choice(_PLACES),
        number=random.randint(2, 900),
        days=random.randint(2, 60),
    )

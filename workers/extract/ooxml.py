"""Owns what Word, Excel and PowerPoint files share: parts, the relationships between them, and their properties."""

import posixpath
import re
from typing import Any, NamedTuple

from workers.extract.archive import Archive
from workers.extract.dates import Dates, dates_of
from workers.extract.xml_tree import attribute, parse_xml

_TOOL_TITLE = re.compile(
    r"(?:powerpoint[- ]pr[äe]sentation|presentation|document|untitled|title|word document)\d*", re.IGNORECASE
)


class Relation(NamedTuple):
    """A relationship to another part of the file: the last word of its type, and the part's name."""

    kind: str
    target: str


class Package:
    """An Office file's parts. Raises MalformedDocument, EncryptedDocument and TooLarge, like Archive."""

    def __init__(self, body: bytes) -> None:
        self.archive = Archive(body)

    def xml(self, part: str) -> Any:
        """The part's root element, see `parse_xml`."""
        return parse_xml(self.archive.read(part))

    def main(self, default: str) -> str:
        """The name of the part that the file begins with."""
        return next((one.target for one in self.relations("").values() if one.kind == "officeDocument"), default)

    def relations(self, part: str) -> dict[str, Relation]:
        """The part's relationships by id; those that lead out of the file are left out."""
        folder, name = posixpath.split(part)
        rels = posixpath.join(folder, "_rels", f"{name}.rels")
        if rels not in self.archive:
            return {}
        found = {}
        for element in self.xml(rels).iter("Relationship"):
            if attribute(element, "TargetMode").casefold() != "external":
                target = posixpath.normpath(posixpath.join("/", folder, attribute(element, "Target"))).lstrip("/")
                kind = attribute(element, "Type").rpartition("/")[2]
                found[attribute(element, "Id")] = Relation(kind, target)
        return found

    def related(self, part: str, kind: str) -> str | None:
        """The first part that this one has a relationship of the kind to, if it is there."""
        targets = (one.target for one in self.relations(part).values() if one.kind == kind)
        return next((target for target in targets if target in self.archive), None)

    def title(self) -> str:
        """The title among the file's properties, or nothing where its program made it up."""
        title = " ".join(self._property("title").split())
        return "" if _TOOL_TITLE.fullmatch(title) else title

    def dates(self) -> Dates:
        """When the file was made and last changed, as its properties say."""
        return dates_of([self._property("created")], [self._property("modified")])

    def _property(self, name: str) -> str:
        part = self.related("", "core-properties")
        return (self.xml(part).findtext(f".//{name}") or "") if part else ""

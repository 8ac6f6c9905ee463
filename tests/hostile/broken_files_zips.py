"""Breaks zip files: which members there are, what their headers say of them, and the texts that they hold."""

import random
import struct
import zipfile
import zlib
from dataclasses import dataclass, replace
from io import BytesIO

from tests.hostile.broken_files_bytes import ANY, Change
from tests.hostile.broken_files_xml import XML

_MARKUP = (".xml", ".rels", ".opf", ".xhtml", ".html", ".htm", ".ncx")
_SIZES = (0, 1, 100, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF)
_NAMES = (
    b"../../../etc/passwd",
    b"/word/document.xml",
    b"WORD\\DOCUMENT.XML",
    b"C:\\content.xml",
    b"xl/" * 20_000 + b"x",
    b"word/document.xml\0.txt",
    b"\xff\xfe\xfd",
    b"",
    b"word/document.xml/",
    "xl/ｗorkbook.xml".encode(),
)


@dataclass(frozen=True, slots=True)
class Member:
    """A member as it is written: its headers say what they are told, not what is there."""

    name: bytes
    packed: bytes
    size: int
    crc: int
    method: int = zipfile.ZIP_DEFLATED
    flags: int = 0x800
    packed_size: int | None = None
    """As declared; else the true one."""
    at: int | None = None
    """Where the directory says it is; else where it is."""


def member(name: str, data: bytes) -> Member:
    """A sound one."""
    packer = zlib.compressobj(6, zlib.DEFLATED, -15)
    return Member(name.encode(), packer.compress(data) + packer.flush(), len(data), zlib.crc32(data))


def members_of(body: bytes) -> list[Member]:
    """What is in a sound zip file."""
    with zipfile.ZipFile(BytesIO(body)) as made:
        return [member(name, made.read(name)) for name in made.namelist()]


def packed(members: list[Member], *, count: int | None = None, comment: bytes = b"") -> bytes:
    """The zip file; `count` is what its end says of how many there are."""
    out, directory = bytearray(), bytearray()
    for one in members:
        size = len(one.packed) if one.packed_size is None else one.packed_size
        name = one.name[:65_000]
        said = struct.pack("<HHIIII", one.flags, one.method, 0, one.crc, size & 0xFFFFFFFF, one.size & 0xFFFFFFFF)
        at = len(out) if one.at is None else one.at
        directory += b"PK\x01\x02" + struct.pack("<HH", 20, 20) + said
        directory += struct.pack("<HHHHHII", len(name), 0, 0, 0, 0, 0, at) + name
        out += b"PK\x03\x04" + struct.pack("<H", 20) + said + struct.pack("<HH", len(name), 0) + name + one.packed
    told = min(len(members) if count is None else count, 0xFFFF)
    end = struct.pack("<HHHHIIH", 0, 0, told, told, len(directory), len(out), len(comment))
    return bytes(out + directory) + b"PK\x05\x06" + end + comment


def dropped(body: bytes, chance: random.Random) -> bytes:
    """Members are missing."""
    members = members_of(body)
    kept = chance.sample(members, max(1, len(members) - chance.choice((1, 2, 5))))
    return packed([one for one in members if one in kept])


def renamed(body: bytes, chance: random.Random) -> bytes:
    """A member has an absurd name, or another's."""
    members = members_of(body)
    at = chance.randrange(len(members))
    name = chance.choice((*_NAMES, chance.choice(members).name, members[at].name.upper()))
    members[at] = replace(members[at], name=name)
    return packed(members)


def emptied(body: bytes, chance: random.Random) -> bytes:
    """A member has nothing in it, or noise."""
    members = members_of(body)
    at = chance.randrange(len(members))
    data = chance.choice((b"", b" ", b"\0" * 5000, chance.randbytes(3000), b"<a/>", body))
    members[at] = member(members[at].name.decode("utf-8", "replace"), data)
    return packed(members)


def twice(body: bytes, chance: random.Random) -> bytes:
    """Members are there twice, or thousands of times."""
    members = members_of(body)
    one = chance.choice(members)
    times = chance.choice((1, 3, 5000))
    named = [replace(one, name=one.name + b"%d" % number) for number in range(times)]
    return packed(members + (named if chance.random() < 0.5 else [one] * min(times, 50)))


def lying(body: bytes, chance: random.Random) -> bytes:
    """A member's headers lie: sizes, checksum, method, its password, its place."""
    members = members_of(body)
    at = chance.randrange(len(members))
    one = members[at]
    members[at] = chance.choice(
        (
            replace(one, size=chance.choice(_SIZES)),
            replace(one, packed_size=chance.choice(_SIZES)),
            replace(one, crc=chance.getrandbits(32)),
            replace(one, method=chance.choice((0, 1, 9, 12, 14, 93, 99, 65_535))),
            replace(one, flags=chance.choice((1, 0x41, 8, 0x2000, 0xFFFF))),
            replace(one, at=chance.choice((0, 1, len(body), 0xFFFFFFFF))),
        )
    )
    return packed(members)


def overlapping(body: bytes, chance: random.Random) -> bytes:
    """All members of its directory are one and the same."""
    members = members_of(body)
    at = chance.choice((0, len(members[0].packed)))
    return packed([replace(one, at=at if number else None) for number, one in enumerate(members)])


def ended(body: bytes, chance: random.Random) -> bytes:
    """Its end lies about how much there is, or says it twice."""
    members = members_of(body)
    comment = chance.choice((b"", b"PK\x05\x06" + b"\0" * 18, b"PK\x06\x07" + b"\xff" * 16, b"x" * 60_000))
    return packed(members, count=chance.choice((0, 1, 65_535, None)), comment=comment)


def inner(body: bytes, chance: random.Random) -> bytes:
    """Texts in it are broken, and packed well again, so that the damage reaches their reader."""
    with zipfile.ZipFile(BytesIO(body)) as made:
        parts = {name: made.read(name) for name in made.namelist()}
    texts = [name for name, data in parts.items() if len(data) > 40 and name.lower().endswith(_MARKUP)]
    weights = [len(parts[name]) ** 0.5 for name in texts]
    for name in {*chance.choices(texts, weights, k=chance.choice((1, 1, 2, 4)))} if texts else ():
        parts[name] = chance.choice(XML)(parts[name], chance)
    return packed([member(name, data) for name, data in parts.items()])


ZIP: tuple[Change, ...] = (dropped, renamed, emptied, twice, lying, overlapping, ended, *ANY, *[inner] * 20)

"""Strangers' text, in which JSON can write NULs and halves of characters, as PostgreSQL, UTF-8 and visitors take it."""


def is_storable(text: str) -> bool:
    """Whether PostgreSQL can hold the text: no NUL, no lone surrogate."""
    return not any(char == "\0" or "\ud800" <= char <= "\udfff" for char in text)


def storable(text: str) -> str:
    """The text as PostgreSQL can hold it: NULs are left out, surrogates are question marks."""
    return encodable(text.replace("\0", ""))


def encodable(text: str) -> str:
    """The text as UTF-8 has bytes for it: surrogates are question marks."""
    return text.encode(errors="replace").decode()


def joined(text: str) -> str:
    """The text as it can be sent and kept: halves of a UTF-16 pair joined; lone ones, and NULs, are U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").replace("\0", "\ufffd")

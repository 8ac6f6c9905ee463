"""The API's own statements, as they are and with their conditions taken out."""

import importlib
import pkgutil
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import psycopg
from psycopg import sql
from sqlalchemy import TextClause

import chat_api
from tests.hostile.tenant_rows import NOW, Tenant

PARAMETER = re.compile(r"(?<![:\w]):([a-z]\w*)")
TENANT_IDS = ("org_id", "bot_id", "source_id", "job_id", "conversation_id", "message_id", "document_id", "chunk_id")
TYPES = {"tokens": "bigint"}
"""Of parameters whose type the database does not see."""
MUTATIONS: dict[str, Callable[[str], str]] = {
    "as it is": lambda words: words,
    "without its tenant conditions": lambda words: re.sub(
        rf"(\w+\.)?({'|'.join(TENANT_IDS)}) = :\w+|(\w+\.)?({'|'.join(TENANT_IDS)}) = ANY \(:\w+\)", "true", words
    ),
    # AND binds closer: what follows no longer matters. The WHERE of an ON CONFLICT names an index, and has to.
    "without any WHERE": lambda words: re.sub(r"(?<!id\) )\bWHERE\b", "WHERE true OR", words),
    "without any WHERE or ON": lambda words: re.sub(
        r"\bON\b(?! CONFLICT| true)", "ON true OR", re.sub(r"(?<!id\) )\bWHERE\b", "WHERE true OR", words)
    ),
}


@dataclass(frozen=True)
class Statement:
    """A statement of a module: its name, its words with `$n`, and its parameters' names and types, in their order."""

    name: str
    words: str
    parameters: tuple[tuple[str, str], ...]

    def call(self, victim: Tenant, mutate: Callable[[str], str]) -> sql.Composed:
        """It, mutated, with the victim's ids wherever it asks for ids."""
        values = dict(self.parameters)
        parts: list[sql.Composable] = []
        for place, words in enumerate(PARAMETER.split(mutate(self.words))):
            parts.append(sql.SQL(words) if place % 2 == 0 else _literal(words, values[words], victim))
        return sql.Composed(parts)


def _literal(name: str, kind: str, victim: Tenant) -> sql.Composable:
    return sql.SQL("CAST({} AS {})").format(sql.Literal(_value(name, kind, victim)), sql.SQL(kind))


def _value(name: str, kind: str, victim: Tenant) -> object:
    if kind.endswith("[]"):
        return "{" + str(_value(name.removesuffix("s"), kind[:-2], victim)) + "}"
    values: dict[str, object] = {
        "uuid": victim.id_of(name), "jsonb": "[]", "boolean": True, "halfvec": "[1,0,0,0]", "bytea": "",
        "timestamp with time zone": NOW, "date": NOW.date(),
    }  # fmt: skip
    return values.get(kind, "x" if kind == "text" else 1_000)


def module_statements() -> Iterator[tuple[str, str]]:
    """Every text() that a module of the API holds: (its name, its words)."""
    for module in pkgutil.walk_packages(chat_api.__path__, "chat_api."):
        held = vars(importlib.import_module(module.name))
        for name, value in held.items():
            if isinstance(value, TextClause):
                yield f"{module.name}.{name}", value.text.replace("\\:", ":")


def chat_statements(admin: psycopg.Connection) -> list[Statement]:
    """Those of them that the chat database understands, each once; the others are for the dashboard's."""
    found: dict[str, Statement] = {}
    for name, words in module_statements():
        parameters = _parameters(admin, words)
        if parameters is not None:
            found.setdefault(words, Statement(name, words, parameters))
    return list(found.values())


def _parameters(admin: psycopg.Connection, words: str) -> tuple[tuple[str, str], ...] | None:
    """The names and types of a statement's parameters, as the database infers them."""
    names = list(dict.fromkeys(PARAMETER.findall(words)))
    numbered = PARAMETER.sub(lambda match: f"${names.index(match[1]) + 1}", words)
    given = ", ".join("uuid" if name in TENANT_IDS else TYPES.get(name, "unknown") for name in names)
    try:
        with admin.transaction():
            admin.execute(f"PREPARE one{f' ({given})' if names else ''} AS {numbered}".encode())
            row = admin.execute(
                "SELECT CAST(parameter_types AS text[]) FROM pg_prepared_statements WHERE name = 'one'"
            ).fetchone()
            admin.execute("DEALLOCATE one")
    except psycopg.errors.ProgrammingError:
        return None
    assert row is not None
    return tuple(zip(names, row[0], strict=True))

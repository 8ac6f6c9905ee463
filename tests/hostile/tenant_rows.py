"""Orgs with one row in every table that has an org, all of their words and ids their own."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4, uuid5

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb
from sqlalchemy import Column, Table
from sqlalchemy.dialects import postgresql

from chat_api.core.models import ChatBase

TENANT_TABLES = [table for table in ChatBase.metadata.sorted_tables if "org_id" in table.columns]
CHECKED = {
    "kind": "read", "status": "waiting", "priority": "bulk", "state": "live", "stage": "store",
}  # fmt: skip
"""Words that constraints ask for."""
DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy leaves it unannotated
NOW = datetime.now(UTC)


@dataclass(frozen=True)
class Tenant:
    """An org: its id, and a word that stands in each of its texts."""

    org_id: UUID = field(default_factory=uuid4)

    @property
    def canary(self) -> str:
        """In every text, document and checksum of the org's rows."""
        return f"canary{self.org_id.hex}"

    def id_of(self, column: str) -> UUID:
        """What the org's rows have in a column of ids."""
        return self.org_id if column == "org_id" else uuid5(self.org_id, column)

    def value(self, column: Column[Any]) -> Any:
        """What the org's rows have in a column."""
        name, kind = column.name, column.type.compile(dialect=DIALECT)
        number = 1 if name == "space_id" else self.org_id.int % 10**6 + 1
        values: dict[str, Any] = {
            "UUID": self.id_of(name),
            "TEXT": CHECKED.get(name, self.canary),
            "TEXT[]": [self.canary],
            "BIGINT[]": [number],
            "JSONB": Jsonb({"canary": self.canary}),
            "BYTEA": self.canary.encode(),
            "HALFVEC": "[1,0,0,0]",
            "BIT VARYING": f"{number:b}",
            "TIMESTAMP WITH TIME ZONE": NOW,
            "DATE": NOW.date(),
            "BOOLEAN": False,
        }
        return values.get(kind, min(number, 30_000) if kind == "SMALLINT" else number)


def fill(admin: psycopg.Connection, tenants: Sequence[Tenant]) -> None:
    """One row of each tenant in every table that has an org."""
    admin.execute(
        "INSERT INTO embedding_spaces (space_id, model, dimensions) OVERRIDING SYSTEM VALUE VALUES (1, 'm', 4)"
    )
    for tenant in tenants:
        for table in TENANT_TABLES:
            admin.execute(insert_into(table), [tenant.value(column) for column in table.columns])


def insert_into(table: Table) -> sql.Composed:
    """An INSERT of all columns of a table."""
    names = [column.name for column in table.columns]
    return sql.SQL("INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE VALUES ({})").format(
        sql.Identifier(table.name),
        sql.SQL(", ").join(map(sql.Identifier, names)),
        sql.SQL(", ").join(sql.Placeholder() * len(names)),
    )

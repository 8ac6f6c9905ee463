"""Attempts to get at another org's rows with the API's login, table by table, and what comes back of them."""

import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import psycopg
from psycopg import sql
from sqlalchemy import Table

from tests.hostile.tenant_rows import Tenant, insert_into
from tests.hostile.tenant_statements import MUTATIONS, Statement

Query = sql.SQL | sql.Composed
Probe = tuple[str, Query, Sequence[object]]
"""Its name, and a statement with its values."""
WHOLE = (
    "SELECT * FROM {}",
    "SELECT count(*) FROM {}",
    "SELECT CAST(whole AS text) FROM {} AS whole ORDER BY 1 DESC",
    "SELECT * FROM {} TABLESAMPLE SYSTEM (100)",
    "SELECT * FROM {} FOR UPDATE",
    "SELECT * FROM ONLY {}",
    "COPY {} TO STDOUT",
    "EXPLAIN (ANALYZE, VERBOSE) SELECT * FROM {}",
    "UPDATE {} SET org_id = org_id RETURNING *",
    "DELETE FROM {} RETURNING *",
    "WITH gone AS (DELETE FROM {} RETURNING *) SELECT CAST(gone AS text) FROM gone",
)
LEAKY = (
    "SELECT * FROM {} AS t WHERE CAST(CAST(t AS text) AS integer) = 1",
    "SELECT * FROM {} AS t WHERE 1 / (length(CAST(t AS text)) - length(CAST(t AS text))) = 1",
    "SELECT * FROM {} AS t WHERE set_config('probe.seen', CAST(t AS text), false) IS NULL",
)
"""Conditions that would show rows which the policy has still to refuse, in an error or a setting."""
ELSEWHERE = (
    "SELECT most_common_vals, histogram_bounds FROM pg_stats WHERE schemaname = 'public'",
    "SELECT query FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
    "SELECT * FROM waiting_elsewhere()",
    "SELECT workers_are_busy()",
    "SELECT * FROM pg_statistic",
    "SELECT current_setting('probe.seen', true)",
)


@dataclass
class Seen:
    """What probes gave: how many there were, how many were refused, and the names of those that leaked."""

    probes: int = 0
    refused: int = 0
    leaks: Counter[str] = field(default_factory=Counter)


def table_probes(table: Table, mine: Tenant, victim: Tenant) -> Iterator[Probe]:
    """What can be tried on one table."""
    name = sql.Identifier(table.name)
    for words in (*WHOLE, *LEAKY):
        yield f"{table.name}: {words}", sql.SQL(words).format(name), []
    for column in table.columns:
        one = {"table": name, "column": sql.Identifier(column.name)}
        value = victim.value(column)
        yield (
            f"{table.name}: read by {column.name}",
            sql.SQL("SELECT * FROM {table} WHERE {column} IS NOT DISTINCT FROM %s OR {column} IS NOT NULL").format(
                **one
            ),
            [value],
        )
        yield (
            f"{table.name}: write by {column.name}",
            sql.SQL("UPDATE {table} SET {column} = {column} WHERE org_id = %s RETURNING *").format(**one),
            [victim.org_id],
        )
    steal = sql.SQL("UPDATE {} SET org_id = %s WHERE org_id = %s RETURNING *").format(name)
    yield f"{table.name}: take over", steal, [mine.org_id, victim.org_id]
    yield f"{table.name}: give away", steal, [victim.org_id, mine.org_id]
    theirs = [victim.value(column) for column in table.columns]
    yield f"{table.name}: insert", insert_into(table) + sql.SQL(" RETURNING *"), theirs
    again = sql.SQL(" ON CONFLICT ({}) DO UPDATE SET org_id = excluded.org_id RETURNING *").format(
        sql.SQL(", ").join(sql.Identifier(column.name) for column in table.primary_key)
    )
    yield f"{table.name}: insert over", insert_into(table) + again, theirs


def other_probes() -> Iterator[Probe]:
    """What can be tried beside the tables."""
    for words in ELSEWHERE:
        yield words, sql.SQL(words), []


def statement_probes(statements: Sequence[Statement], victim: Tenant) -> Iterator[Probe]:
    """The API's statements with the victim's ids, with and without their conditions."""
    for statement in statements:
        for mutation, mutate in MUTATIONS.items():
            yield f"{statement.name}, {mutation}", statement.call(victim, mutate), []


def attempt(api: psycopg.Connection, mine: Tenant, others: Sequence[Tenant], probe: Probe, seen: Seen) -> None:
    """Tries it in a transaction of `mine`, which is undone, and notes what came back of the others."""
    name, statement, values = probe
    seen.probes += 1
    with api.transaction(force_rollback=True):
        api.execute("SELECT set_config('app.org_id', %s, true)", [str(mine.org_id)])
        try:
            with api.transaction():
                answer = _run(api, statement, values)
        except psycopg.Error as error:
            seen.refused += 1
            answer = " ".join(str(part) for part in (error, error.diag.message_detail, error.diag.context))
    # A word that was handed over may come back in an error; the others' words never.
    given = " ".join(map(str, values))
    if any(other.canary in answer and other.canary not in given for other in others) or _rows_of_others(answer, others):
        seen.leaks[name] += 1


def _run(api: psycopg.Connection, statement: Query, values: Sequence[object]) -> str:
    with api.cursor() as cursor:
        if statement.as_string(api).startswith("COPY"):
            with cursor.copy(statement) as copy:
                return b"".join(bytes(part) for part in copy).decode()
        cursor.execute(statement, values or None)
        return f"rows: {cursor.fetchall()}" if cursor.description else ""


def _rows_of_others(answer: str, others: Sequence[Tenant]) -> bool:
    return answer.startswith("rows") and any(re.search(f"{other.org_id}|{other.canary}", answer) for other in others)


def shuffled(probes: Sequence[Probe], seed: int) -> Iterator[Probe]:
    """The probes in another order each time, without an end."""
    order = list(probes)
    draw = random.Random(seed)
    while True:
        draw.shuffle(order)
        yield from order

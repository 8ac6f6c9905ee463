"""Removes at once what the sweeper would remove bit by bit: data of deleted sources and of generations nobody reads."""

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Engine, text

from chat_api.core.database import of_org
from workers.store.failed import LEDGER
from workers.sweeper import GIVE_UP_BUILDS, collect_discarded

AT_ONCE = 20_000
# The ledger of a failed run stays until the sweeper lets it go.
RUBBISH = f"state = 'discarded' AND held_by IS DISTINCT FROM '{LEDGER}'"
DISCARDED = text(f"SELECT org_id, count(*) AS number FROM generations WHERE {RUBBISH} GROUP BY org_id ORDER BY org_id")  # noqa: S608  # the condition is this module's own, here and below
CHUNKS = text(f"""
    SELECT count(*) FROM generations JOIN chunks USING (org_id, bot_id, source_id, generation)
    WHERE org_id = :org_id AND {RUBBISH}
""")  # noqa: S608


@dataclass(frozen=True, slots=True)
class Rubbish:
    """What nobody can read any more."""

    generations: int
    chunks: int


def count_rubbish(chat: Engine) -> Rubbish:
    """What there is to remove, builds of runs that are over included."""
    with chat.begin() as connection:
        connection.execute(GIVE_UP_BUILDS)
        generations = {row.org_id: row.number for row in connection.execute(DISCARDED)}
    chunks = 0
    for org_id in generations:
        with of_org(chat, org_id).connect() as connection:
            chunks += connection.execute(CHUNKS, {"org_id": org_id}).scalar_one()
    return Rubbish(sum(generations.values()), chunks)


def clean(chat: Engine, removed: Callable[[], None]) -> tuple[int, int]:
    """Removes it all, 20,000 rows in a transaction, but for what another process has in hand: (generations, rows).

    `removed` is told of each generation that is gone.
    """
    generations = rows = 0
    while True:
        with chat.begin() as connection:
            some = collect_discarded(connection, AT_ONCE)
        if some is None:
            return generations, rows
        rows += some
        if some < AT_ONCE:  # the last of its generation
            generations += 1
            removed()

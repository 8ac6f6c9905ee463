"""Removes at once what the sweeper would remove bit by bit: data of deleted sources and of generations nobody reads."""

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Engine, text

from workers.sweeper import GIVE_UP_BUILDS, collect_discarded

AT_ONCE = 20_000
LEFT = text("""
    SELECT (SELECT count(*) FROM generations WHERE state = 'discarded') AS generations,
           (SELECT count(*) FROM generations JOIN chunks USING (org_id, bot_id, source_id, generation)
            WHERE state = 'discarded') AS chunks
""")


@dataclass(frozen=True, slots=True)
class Rubbish:
    """What nobody can read any more."""

    generations: int
    chunks: int


def count_rubbish(chat: Engine) -> Rubbish:
    """What there is to remove, builds of runs that are over included."""
    with chat.begin() as connection:
        connection.execute(GIVE_UP_BUILDS)
        return Rubbish(*connection.execute(LEFT).one())


def clean(chat: Engine, removed: Callable[[int], None]) -> None:
    """Removes it all, 20,000 rows in a transaction; `removed` is told how many generations are left after each."""
    while True:
        with chat.begin() as connection:
            if collect_discarded(connection, AT_ONCE) is None:
                return
        with chat.connect() as connection:
            removed(connection.execute(text("SELECT count(*) FROM generations WHERE state = 'discarded'")).scalar_one())

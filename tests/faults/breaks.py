"""Takes one mechanism out of a worker process, so that the bench can be seen to turn red."""

import re
from collections.abc import Callable, Iterable
from threading import Event
from typing import Any

import sqlalchemy

MECHANISMS = ("fence", "sweeper", "switch", "tombstone", "crashes")
_ALIVE = re.compile(r"(\w+\.)?deleted_at IS NULL")
_BURIED = re.compile(r"(\w+\.)?deleted_at IS NOT NULL")
NEVER = 10**9


def prepare(broken: str, lease_s: float) -> None:
    """Change what the worker's modules are about to import. Raises ValueError for an unknown mechanism."""
    if broken and broken not in MECHANISMS:
        raise ValueError(f"BREAK={broken}: one of {', '.join(MECHANISMS)}")
    if broken == "tombstone":
        _forget_tombstones()
    from workers.tasks import expiry, life

    life.LEASE_S = int(lease_s)
    if broken == "crashes":
        expiry.MAX_CRASHES = NEVER
    if broken == "fence":
        _always_hold(life)
    if broken == "sweeper":
        _never_sweep()
    if broken == "switch":
        _point_before_writing()


def _forget_tombstones() -> None:
    original: Callable[[str], Any] = sqlalchemy.text

    def text(statement: str) -> Any:
        # The dashboard's own statements stay: they are about its rows, not about ours.
        if "training_sources" not in statement:
            statement = _BURIED.sub("false", _ALIVE.sub("true", statement))
        return original(statement)

    sqlalchemy.text = text  # type: ignore[assignment]


def _always_hold(life: Any) -> None:
    def all_of(_connection: Any, held: Iterable[Any], *_: Any) -> set[int]:
        return {task.task_id for task in held}

    life.hold = life.renew = all_of


def _never_sweep() -> None:
    from workers.sweeper import Sweeper

    def wait(self: Sweeper, ended: Event) -> None:
        ended.wait()

    Sweeper.run = wait  # type: ignore[method-assign]


def _point_before_writing() -> None:
    from workers.store import generation

    original = generation.open_generations
    pointed = sqlalchemy.text(
        "UPDATE sources SET live_generation = :generation"
        " WHERE org_id = :org_id AND bot_id = :bot_id AND source_id = :source_id"
    )

    def open_generations(connection: Any, *args: Any, **options: Any) -> Any:
        builds = original(connection, *args, **options)
        for build in builds.values():
            key = {"org_id": build.task.org_id, "bot_id": build.task.bot_id, "source_id": build.task.source_id}
            connection.execute(pointed, {**key, "generation": build.generation})
        return builds

    generation.open_generations = open_generations

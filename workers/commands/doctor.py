"""Looks for what disagrees, in the chat database and between the two, and mends it where that is safe."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import ProgrammingError

from chat_api.core.bot_config import parse_config, parse_limits
from chat_api.core.database import DATABASE_DOWN, Engines, is_held, of_org
from chat_api.core.models.dashboard import missing_columns
from workers.commands.checks import CHECKS, DEAD_LEASES, HELD_REMOVALS, Check
from workers.commands.process import find_sources
from workers.dashboard import TOLD_AT_ONCE, project_status
from workers.reconcile.queueing import queue_runs
from workers.reconcile.reconciler import Reconciler
from workers.tasks.expiry import expire_leases

SHOWN = 5
ORGS = text("SELECT DISTINCT org_id FROM sources WHERE live_generation IS NOT NULL")
IN_TRAINING = text("""
    SELECT source_id FROM training_jobs WHERE source_id = ANY (:source_ids) AND status IN ('waiting', 'running')
""")
OPTIONS = text("""
    SELECT bots.id, config, limits FROM bots JOIN orgs ON orgs.id = bots.org_id
    WHERE bots.deleted_at IS NULL ORDER BY bots.id
""")
ROWS_AT_ONCE = 100


@dataclass(slots=True)
class Finding:
    """Something that is wrong, in a sentence, and the names of all that it is about; `done` is what was done about it.

    `mend` says what `--fix` does about it or, where it can do nothing (not `fixable`), what the operator is to do.
    """

    name: str
    sentence: str
    names: list[str]
    mend: str
    done: str | None = None
    fixable: bool = True
    summary: list[str] = field(default_factory=list)
    """What people read in place of the first names."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "name": self.name,
            "count": len(self.names),
            "sentence": self.sentence,
            "examples": self.examples,
            "names": self.names,
            "mend": self.mend,
            "done": self.done,
            "fixable": self.fixable,
        }

    @property
    def examples(self) -> list[str]:
        """A few words on what it is about."""
        return self.summary or self.names[:SHOWN]


@dataclass(slots=True)
class Diagnosis:
    """What was found. It is clean when nothing is left."""

    findings: list[Finding] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether everything that was found is mended."""
        return all(finding.done for finding in self.findings)

    def as_json(self) -> str:
        """`{clean, findings: [{name, count, sentence, examples, names, mend, done, fixable}]}`; `names` are all there are."""
        return json.dumps({"clean": self.clean, "findings": [finding.as_dict() for finding in self.findings]})

    def as_text(self) -> str:
        """A paragraph for each finding."""
        return "\n".join(map(_paragraph, self.findings)) or "Nothing is wrong."


def _paragraph(finding: Finding) -> str:
    count = len(finding.names)
    more = f" … and {count - SHOWN} more (--json names all)" if count > SHOWN and not finding.summary else ""
    end = f"{'--fix' if finding.fixable else 'Please'} {finding.mend}."
    if finding.done:
        end = f"Done: {finding.done}."
    return f"{finding.name} ({count}): {finding.sentence}\n  {', '.join(finding.examples)}{more}\n  {end}"


def examine(engines: Engines, *, fix: bool = False) -> Diagnosis:
    """All checks, one after the other; with `fix` what can be mended is, which is safe to repeat.

    Raises what a chat database that is away raises; a dashboard that is away is a finding.
    """
    diagnosis = Diagnosis()
    examiners: tuple[Callable[[Engines, bool], Finding | None], ...] = (
        *(_columns, _options, _leases, _agreement),
        _held_removals,  # what has just been marked is among them
    )
    looks = [partial(_look, engines, check, fix) for check in CHECKS]
    looks += [partial(examiner, engines, fix) for examiner in examiners]
    names = [*(check.name for check in CHECKS), *(examiner.__name__.strip("_") for examiner in examiners)]
    found = (_whole(name, look) for name, look in zip(names, looks, strict=True))
    diagnosis.findings = [finding for finding in found if finding]
    return diagnosis


def _whole(name: str, look: Callable[[], Finding | None]) -> Finding | None:
    """What a look has found, or that it did not come to its end: the others do."""
    try:
        return look()
    except DATABASE_DOWN as error:
        if not is_held(error):
            raise
        sentence = "This was not looked at to its end: others held its rows, or it took too long."
        return Finding(
            name, sentence, [type(getattr(error, "orig", error)).__name__], "run `doctor` again", fixable=False
        )


def _look(engines: Engines, check: Check, fix: bool) -> Finding | None:
    names = _wrong_anywhere(engines.chat, check, fix)
    if not names:
        return None
    finding = Finding(check.name, check.sentence, names, check.mend, fixable=bool(check.fixes) or check.retrain)
    if fix and check.retrain:
        finding.done = _read_again(engines, [UUID(name) for name in names])
    elif fix and check.fixes and not _wrong_anywhere(engines.chat, check, fix=False):
        finding.done = check.mend
    return finding


def _wrong_anywhere(chat: Engine, check: Check, fix: bool) -> list[str]:
    if not check.of_content:
        return _wrong(chat, check, fix)
    return [name for org_id in _orgs(chat) for name in _wrong(of_org(chat, org_id), check, fix, org_id=org_id)]


def _orgs(chat: Engine) -> list[UUID]:
    with chat.connect() as connection:
        return list(connection.execute(ORGS).scalars())


def _wrong(chat: Engine, check: Check, fix: bool, **values: UUID) -> list[str]:
    with chat.begin() as connection:
        names = _names(connection, check.find, **values)
        for statement in check.fixes if names and fix else ():
            connection.execute(statement, values)
    return names


def _names(connection: Connection, query: Any, **values: UUID) -> list[str]:
    return [str(name) for name in connection.execute(query, values).scalars()]


def _read_again(engines: Engines, source_ids: Sequence[UUID]) -> str | None:
    """Has the sources read whole. None when that can't be asked for now, or for one of them not at all."""
    with engines.chat.connect() as connection:
        waiting = set(connection.execute(IN_TRAINING, {"source_ids": list(source_ids)}).scalars())
    try:
        wanted = find_sources(engines.dashboard, source_ids=[each for each in source_ids if each not in waiting])
    except DATABASE_DOWN:
        return None
    queued = queue_runs(engines.chat, wanted, force=True)
    if len(queued) + len(waiting) < len(source_ids):
        return None  # its row is gone, or it is deleted
    return f"{len(queued)} queued to be read again, {len(waiting)} in training already"


def _columns(engines: Engines, _fix: bool) -> Finding | None:
    try:
        with engines.dashboard.connect() as connection:
            lacking = missing_columns(connection)
    except DATABASE_DOWN as error:
        sentence = "The dashboard's database does not answer: training waits."
        return Finding("dashboard_away", sentence, [type(error).__name__], "bring it back", fixable=False)
    sentence = "The dashboard's database lacks columns that are needed: training waits."
    mend = "give them back, or their old names, or the right to UPDATE them"
    return Finding("dashboard_columns", sentence, lacking, mend, fixable=False) if lacking else None


def _options(engines: Engines, _fix: bool) -> Finding | None:
    """Values of `bots.config` and `orgs.limits` that can't be taken."""
    try:
        with engines.dashboard.connect() as connection:
            bots = connection.execution_options(yield_per=ROWS_AT_ONCE).execute(OPTIONS)
            bad = [
                f"{row.id}: {', '.join(names)}"
                for row in bots
                if (
                    names := [*parse_config(row.config)[1], *(f"limits.{name}" for name in parse_limits(row.limits)[1])]
                )
            ]
    except (*DATABASE_DOWN, ProgrammingError):
        return None  # said already
    sentence = "Bots have settings whose values are not allowed: the usual ones are used instead."
    mend = "correct them in the dashboard"
    return Finding("bad_bot_settings", sentence, bad, mend, fixable=False) if bad else None


def _leases(engines: Engines, fix: bool) -> Finding | None:
    names = _dead_leases(engines.chat)
    if not names:
        return None
    finding = Finding(
        "dead_leases", "Workers have died with tasks in hand, or hang.", names, "takes their tasks from them"
    )
    if fix:
        while _expire(engines.chat):
            pass
        finding.done = None if _dead_leases(engines.chat) else finding.mend
    return finding


def _dead_leases(chat: Engine) -> list[str]:
    with chat.connect() as connection:
        return _names(connection, DEAD_LEASES)


def _expire(chat: Engine) -> int:
    with chat.begin() as connection:
        return len(expire_leases(connection))


def _agreement(engines: Engines, fix: bool) -> Finding | None:
    """The reconciler's own look at all sources."""
    groups = _disagreements(engines)
    if not groups:
        return None
    sentence = "The dashboard and the chat database disagree; the sweeper brings them together, page by page."
    names = [f"{each} {what}" for what, ids in groups.items() for each in ids]
    summary = [f"{len(ids)} {what} ({ids[0]})" for what, ids in groups.items()]
    finding = Finding("disagreements", sentence, names, "does it now", summary=summary)
    if fix:
        _bring_together(engines, finding)
    return finding


def _disagreements(engines: Engines) -> dict[str, list[UUID]] | None:
    """What is to be done → of which ids. None where the dashboard can't be read, which is another's finding."""
    found = Reconciler(engines).survey()
    if found is None:
        return None
    groups = {
        "to train": [row.place.source_id for row in found.queue],
        "to tell": found.tell,
        "gone": [place.source_id for place in found.missing + found.bury + found.delete_again],
        "back": [place.source_id for place in found.lift + found.back],
    }
    return {what: ids for what, ids in groups.items() if ids}


def _bring_together(engines: Engines, finding: Finding) -> None:
    """Does what the sweeper would do, and looks again: it is done when nothing is left, and the brake holds no more."""
    held_before = {source_id for _bot_id, source_id in _held(engines.chat)}
    reconciler = Reconciler(engines)
    while reconciler.reconcile():
        pass
    while project_status(engines.chat, engines.dashboard) == TOLD_AT_ONCE:
        pass
    left = _disagreements(engines)
    held = sum(source_id not in held_before for _bot_id, source_id in _held(engines.chat))
    if held:
        finding.fixable, finding.mend = False, f"look at held_removals: the brake holds {held} of these"
    elif left == {}:
        finding.done = finding.mend


def _held_removals(engines: Engines, _fix: bool) -> Finding | None:
    held = _held(engines.chat)
    if not held:
        return None
    by_bot = Counter(bot_id for bot_id, _source_id in held)
    more = [f"… and {len(by_bot) - SHOWN} bots more"] if len(by_bot) > SHOWN else []
    return Finding(
        "held_removals",
        "Sources are gone from the dashboard, and kept because too many went at once.",
        [str(source_id) for _bot_id, source_id in held],
        "bring the rows back, or let them go with --allow-removals and the id of a source, or of a bot for all of its",
        fixable=False,
        summary=[f"{count} of bot {bot_id}" for bot_id, count in by_bot.most_common(SHOWN)] + more,
    )


def _held(chat: Engine) -> list[tuple[UUID, UUID]]:
    """(bot, source) of each removal that is held."""
    with chat.connect() as connection:
        return [(row.bot_id, row.source_id) for row in connection.execute(HELD_REMOVALS)]

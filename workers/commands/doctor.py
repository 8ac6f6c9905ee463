"""Looks for what disagrees, in the chat database and between the two, and mends it where that is safe."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from chat_api.core.database import DATABASE_DOWN, Engines
from chat_api.core.models.dashboard import missing_columns
from workers.commands.checks import CHECKS, DEAD_LEASES, Check
from workers.commands.process import find_sources
from workers.dashboard import TOLD_AT_ONCE, project_status
from workers.reconcile.queueing import queue_runs
from workers.reconcile.reconciler import Reconciler
from workers.tasks.expiry import expire_leases

SHOWN = 5
IN_TRAINING = text("""
    SELECT source_id FROM training_jobs WHERE source_id = ANY (:source_ids) AND status IN ('waiting', 'running')
""")


@dataclass(slots=True)
class Finding:
    """Something that is wrong: how often, in a sentence, with some names; `done` is what was done about it."""

    name: str
    count: int
    sentence: str
    examples: list[str]
    mend: str
    done: str | None = None


@dataclass(slots=True)
class Diagnosis:
    """What was found. It is clean when nothing is left."""

    findings: list[Finding] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether everything that was found is mended."""
        return all(finding.done for finding in self.findings)

    def as_json(self) -> str:
        """`{clean, findings: [{name, count, sentence, examples, mend, done}]}`."""
        return json.dumps({"clean": self.clean, "findings": [asdict(finding) for finding in self.findings]})

    def as_text(self) -> str:
        """A paragraph for each finding."""
        return "\n".join(map(_paragraph, self.findings)) or "Nothing is wrong."


def _paragraph(finding: Finding) -> str:
    more = f" … and {finding.count - len(finding.examples)} more" if finding.count > len(finding.examples) else ""
    end = f"Done: {finding.done}." if finding.done else f"--fix {finding.mend}."
    return f"{finding.name} ({finding.count}): {finding.sentence}\n  {', '.join(finding.examples)}{more}\n  {end}"


def examine(engines: Engines, *, fix: bool = False) -> Diagnosis:
    """All checks, one after the other; with `fix` what can be mended is, which is safe to repeat.

    Raises what a chat database that is away raises; a dashboard that is away is a finding.
    """
    diagnosis = Diagnosis()
    examiners: tuple[Callable[[Engines, bool], Finding | None], ...] = (_columns, _leases, _agreement)
    for check in CHECKS:
        _note(diagnosis, _look(engines, check, fix))
    for examiner in examiners:
        _note(diagnosis, examiner(engines, fix))
    return diagnosis


def _note(diagnosis: Diagnosis, finding: Finding | None) -> None:
    if finding:
        diagnosis.findings.append(finding)


def _look(engines: Engines, check: Check, fix: bool) -> Finding | None:
    with engines.chat.begin() as connection:
        names = _names(connection, check.find)
        if names and fix:
            for statement in check.fixes:
                connection.execute(statement)
    if not names:
        return None
    finding = Finding(check.name, len(names), check.sentence, names[:SHOWN], check.mend)
    if fix and check.retrain:
        finding.done = _read_again(engines, [UUID(name) for name in names])
    elif fix and check.fixes:
        finding.done = check.mend
    return finding


def _names(connection: Connection, query: Any) -> list[str]:
    return [str(name) for name in connection.execute(query).scalars()]


def _read_again(engines: Engines, source_ids: Sequence[UUID]) -> str | None:
    """Has the sources read whole. None when that can't be asked for now."""
    with engines.chat.connect() as connection:
        waiting = set(connection.execute(IN_TRAINING, {"source_ids": list(source_ids)}).scalars())
    try:
        wanted = find_sources(engines.dashboard, source_ids=[each for each in source_ids if each not in waiting])
    except DATABASE_DOWN:
        return None
    queued = queue_runs(engines.chat, wanted, force=True)
    return f"{len(queued)} queued to be read again, {len(waiting)} in training already"


def _columns(engines: Engines, _fix: bool) -> Finding | None:
    try:
        with engines.dashboard.connect() as connection:
            lacking = missing_columns(connection)
    except DATABASE_DOWN as error:
        sentence = "The dashboard's database does not answer: training waits."
        return Finding("dashboard_away", 1, sentence, [type(error).__name__], "nothing: bring it back")
    sentence = "The dashboard's database lacks columns that are needed: training waits."
    mend = "nothing: give them back, or their old names"
    return Finding("dashboard_columns", len(lacking), sentence, lacking[:SHOWN], mend) if lacking else None


def _leases(engines: Engines, fix: bool) -> Finding | None:
    with engines.chat.begin() as connection:
        names = _names(connection, DEAD_LEASES)
        if names and fix:
            expire_leases(connection)
    mend = "takes their tasks from them"
    sentence = "Workers have died with tasks in hand, or hang."
    return Finding("dead_leases", len(names), sentence, names[:SHOWN], mend, mend if fix else None) if names else None


def _agreement(engines: Engines, fix: bool) -> Finding | None:
    """The reconciler's own look at all sources."""
    found = Reconciler(engines).survey()
    if found is None:
        return None  # the missing columns or the database have been said already
    groups = {
        "to train": [row.place.source_id for row in found.queue],
        "to tell": found.tell,
        "gone": [place.source_id for place in found.missing + found.bury + found.delete_again],
        "back": [place.source_id for place in found.lift + found.back],
    }
    count = sum(map(len, groups.values()))
    if not count:
        return None
    sentence = "The dashboard and the chat database disagree; the sweeper brings them together, page by page."
    examples = [f"{len(ids)} {what} ({ids[0]})" for what, ids in groups.items() if ids]
    finding = Finding("disagreements", count, sentence, examples, "does it now")
    if fix:
        reconciler = Reconciler(engines)
        while reconciler.reconcile():
            pass
        while project_status(engines.chat, engines.dashboard) == TOLD_AT_ONCE:
            pass
        finding.done = finding.mend
    return finding

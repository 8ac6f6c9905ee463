"""What a row of the dashboard and what we hold of it ask for: pure, one source at a time."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple
from uuid import UUID

from chat_api.core.errors import SourceDeleted
from chat_api.core.models.dashboard import version_of_row
from chat_api.core.standing import owner_status

QUIET_S = 60
"""A pending row may still be queued by the dashboard that wrote it."""
EDITED_S = 20
"""The same of an edited one, whose queue call follows its edit."""
FUTURE_S = 5
"""A date further ahead of the database's clock than this was written by a clock that is wrong: it counts as old."""
FARTHEST_VERSION = 2**62
"""A status version beyond it was written by nobody's sequence; ours must not be used up to outdo it."""


class Place(NamedTuple):
    """Where a source is held: the same id under another bot or org is another place."""

    org_id: UUID
    bot_id: UUID
    source_id: UUID


@dataclass(frozen=True, slots=True)
class SourceRow:
    """A row of the dashboard. `gone` is why it is none to train; `version` is empty where that was not looked at."""

    place: Place
    source_type: str
    small: bool
    gone: str
    """``, `source` (deleted, or its bot is another org's), or `bot` (its bot was deleted on purpose)."""
    age_s: float
    status: str
    status_version: int
    error_code: str | None
    job_id: UUID | None
    version: str = ""

    def rested(self, seconds: float) -> bool:
        """Whether nobody has written to it for so long."""
        return self.age_s >= seconds or self.age_s < -FUTURE_S


@dataclass(frozen=True, slots=True)
class RunSeen:
    """A run of a source, as far as it matters here."""

    job_id: UUID
    status: str
    source_version: str | None
    error_code: str | None
    status_version: int
    projected_version: int

    @property
    def version(self) -> str | None:
        """The version of the row it read."""
        return self.source_version and version_of_row(self.source_version)


@dataclass(frozen=True, slots=True)
class Known:
    """What we hold of a source in one place. `live_version` is None while nothing of it answers."""

    place: Place
    buried: bool
    gone: bool
    """The dashboard's row was missing. A tombstone set for that is lifted when the row returns; any other is a deletion."""
    pinned_version: str | None
    live_version: str | None
    newest: RunSeen | None
    running: RunSeen | None


@dataclass(slots=True)
class Verdicts:
    """What is to be done for the sources of one page."""

    queue: list[SourceRow] = field(default_factory=list)
    lift: list[Place] = field(default_factory=list)
    """Tombstones of rows that have come back."""
    back: list[Place] = field(default_factory=list)
    """Rows that were gone, and are there again before anything was removed."""
    missing: list[Place] = field(default_factory=list)
    bury: list[Place] = field(default_factory=list)
    """Copies left behind by a move, sources of a bot that was deleted on purpose, and those that never answered."""
    delete_again: list[Place] = field(default_factory=list)
    """Sources that were deleted through us, which we have forgotten."""
    tell: list[UUID] = field(default_factory=list)
    """Runs whose word the dashboard's row has lost."""
    stand_for: list[tuple[UUID, str]] = field(default_factory=list)
    """Runs that ended before they read the source, and the version that they were meant for."""
    newest_version: int = 0
    """The largest status version that a row has heard."""


def judge(verdicts: Verdicts, row: SourceRow | None, places: Sequence[Known]) -> None:
    """Adds what one source needs; `places` are all places where we hold its id."""
    here = None
    for held in places:
        if row is not None and held.place == row.place:
            here = held
        else:
            _elsewhere(verdicts, held, alive=row is not None and not row.gone)
    if row is None:
        return
    if row.status_version <= FARTHEST_VERSION:
        verdicts.newest_version = max(verdicts.newest_version, row.status_version)
    if here is None:
        _unheld(verdicts, row, places)
    elif row.gone:
        _gone(verdicts, here, on_purpose=row.gone == "bot")
    else:
        _here(verdicts, row, here)


def _unheld(verdicts: Verdicts, row: SourceRow, places: Sequence[Known]) -> None:
    """A row of which we hold nothing where it is."""
    if not row.gone and not _deleted(row, places) and _unknown_wants_training(row):
        verdicts.queue.append(row)


def _elsewhere(verdicts: Verdicts, held: Known, *, alive: bool) -> None:
    """What a source has where its row is not; `alive`: it is there in another place."""
    if not alive:
        _gone(verdicts, held, on_purpose=False)
    elif not held.buried:
        verdicts.bury.append(held.place)


def _deleted(row: SourceRow, places: Sequence[Known]) -> bool:
    """Whether the source was deleted in its org, through us."""
    return any(held.buried and not held.gone for held in places if held.place.org_id == row.place.org_id)


def _gone(verdicts: Verdicts, held: Known, *, on_purpose: bool) -> None:
    in_training = held.newest is not None and held.newest.status in {"waiting", "running"}
    if held.buried or (in_training and not held.live_version):
        return  # a run of such a source finds out by itself
    if on_purpose or not held.live_version:
        verdicts.bury.append(held.place)
    elif not held.gone:
        verdicts.missing.append(held.place)


def _unknown_wants_training(row: SourceRow) -> bool:
    """A row of which we hold nothing: nobody has queued it, or our database was restored to before somebody did."""
    return row.rested(QUIET_S) if row.status == "pending" else row.status in {"queued", "processing", "trained"}


def _here(verdicts: Verdicts, row: SourceRow, here: Known) -> None:
    if here.buried and not here.gone:
        _tell(verdicts, row, here)
        return
    if here.gone:
        (verdicts.lift if here.buried else verdicts.back).append(here.place)
    elif _deletion_forgotten(row, here):
        verdicts.delete_again.append(here.place)
        return
    if here.buried or _wants_training(verdicts, row, here):
        verdicts.queue.append(row)
    else:
        _tell(verdicts, row, here)


def _deletion_forgotten(row: SourceRow, here: Known) -> bool:
    """Whether the row has our own word that the source was deleted, newer than any we remember: we were restored."""
    told_after = here.newest is not None and here.newest.status_version < row.status_version <= FARTHEST_VERSION
    return told_after and row.status == "pending" and row.job_id is None


def _wants_training(verdicts: Verdicts, row: SourceRow, here: Known) -> bool:
    newest = here.newest
    if newest is None:
        return _edited(row, here) if here.live_version else _unknown_wants_training(row)
    if newest.status == "waiting":
        return False  # it will read the row as it is then
    if here.running:
        return here.running.version not in {None, row.version} and row.rested(EDITED_S)
    if _ended_unread(newest):
        verdicts.stand_for.append((newest.job_id, row.version))
        return False
    answers_nothing = newest.status == "succeeded" and not here.live_version
    return answers_nothing or _edited(row, here) or _asked_again(row, newest)


def _ended_unread(newest: RunSeen) -> bool:
    """Whether a run that is over never learned which version it was for."""
    return newest.source_version is None and newest.error_code != SourceDeleted.code


def _edited(row: SourceRow, here: Known) -> bool:
    """Whether this version was never tried; a restored copy of ours that is older than the row looks the same."""
    known = {here.pinned_version, here.live_version and version_of_row(here.live_version)}
    if here.newest and here.newest.error_code != SourceDeleted.code:
        known.add(here.newest.version)
    return row.version not in known and row.rested(EDITED_S)


def _asked_again(row: SourceRow, newest: RunSeen) -> bool:
    """Whether somebody has set the row back to `pending` after it was told that its run failed or was cancelled."""
    heard = row.status == "pending" and newest.projected_version <= row.status_version
    return heard and newest.status in {"failed", "quarantined", "cancelled"} and row.rested(QUIET_S)


def _tell(verdicts: Verdicts, row: SourceRow, here: Known) -> None:
    newest = here.newest
    if newest is None or newest.projected_version < newest.status_version or row.status_version > FARTHEST_VERSION:
        return
    if not _agrees(row, here, newest):
        verdicts.tell.append(newest.job_id)


def _agrees(row: SourceRow, here: Known, newest: RunSeen) -> bool:
    if here.buried:
        return row.status == "pending" and row.job_id is None
    if here.running and here.running.job_id == row.job_id and row.status == "processing":
        return True
    word = owner_status(newest.status, still_answers=here.live_version is not None)
    same_error = newest.status in {"waiting", "running"} or row.error_code == newest.error_code
    return row.status == word and row.job_id == newest.job_id and same_error
